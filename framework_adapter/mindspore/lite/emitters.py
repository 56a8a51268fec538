"""Emission handlers: ops whose form in a ``.ms`` file depends on shapes, dtypes or neighbours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cir import dim as dm
from cir import dtype as dt
from cir.dim import Dim
from framework_adapter.mindspore.lite.dims import broadcast, full, made, reshaped
from framework_adapter.mindspore.lite.layers import (  # noqa: F401
    attention,
    group_norm,
    layer_norm,
    linear,
    matmul,
)
from framework_adapter.mindspore.lite.neighbours import absorbed, operand, result, settle
from framework_adapter.mindspore.lite.recurrent import lstm  # noqa: F401
from framework_adapter.mindspore.lite.resampling import resampled, resize  # noqa: F401
from framework_adapter.mindspore.lite.windows import (  # noqa: F401
    avg_pool,
    conv,
    conv_transpose,
    max_pool,
)
from framework_adapter.target import Scope

_ARITHMETIC = {"add": "AddFusion", "sub": "SubFusion", "mul": "MulFusion", "div": "DivFusion"}


# -- elementwise -----------------------------------------------------------------------------------
def arithmetic(s: Scope, a: str, b: str) -> Any:
    """One node with the activation that follows."""
    activation, user = absorbed(s)
    op = _ARITHMETIC[s.node.op]
    return settle(s, s.op(op, a, b, activation_type=activation), user)


def cast(s: Scope, x: str, *, dtype: str) -> str:
    """A cast by way of the dtypes that the kernel converts between."""
    return s.target.cast(s, x, dtype)


def clip(s: Scope, x: str, *, min: float | None, max: float | None) -> str:  # noqa: A002
    """Both bounds: an activation or Clip; one bound, or integers: Maximum and Minimum."""
    if dt.is_float(s.dtype(x)) and min is not None and max is not None:
        if (min, max) == (0, 6):
            return str(s.op("Activation", x, activation_type="RELU6"))
        return str(s.op("Clip", x, min=min, max=max))
    limits: list[float | int | None] = [min, max]
    if not dt.is_float(s.dtype(x)):
        info = np.iinfo(np.int32)
        limits = [None if b is None or not info.min < b < info.max else int(b) for b in limits]
    for op, bound in zip(("Maximum", "Minimum"), limits):
        if bound is not None:
            x = made(s, s.op(op, x, bound), result(s).shape)
    return x


def where(s: Scope, cond: str, x: str, y: str) -> str:
    """Where takes operands of one shape or of one element; booleans are logic."""
    if s.dtype(x) == "bool":
        kept = made(s, s.op("LogicalAnd", cond, x), _broadcast(s, 0, 1))
        other = made(s, s.op("LogicalNot", cond), operand(s, 0).shape)
        rest = made(s, s.op("LogicalAnd", other, y), _broadcast(s, 0, 2))
        return str(s.op("LogicalOr", kept, rest))
    want = result(s).shape
    return str(
        s.op("Where", *(full(s, v, operand(s, i).shape, want) for i, v in enumerate([cond, x, y])))
    )


def _broadcast(s: Scope, *inputs: int) -> tuple[Dim, ...]:
    from cir.infer import broadcast_shapes

    a, b = (operand(s, i).shape for i in inputs)
    return broadcast_shapes(a, b)


def expand(s: Scope, x: str, *, shape: tuple[Dim, ...]) -> str:
    """Broadcast to a shape of the same or a higher rank."""
    have = operand(s, 0).shape
    return x if have == shape else broadcast(s, x, have, shape)


def prelu(s: Scope, x: str, slope: str) -> str:
    """PReLUFusion, whose slope is a vector along the last axis."""
    n = operand(s, 1).shape[-1]
    if operand(s, 1).rank > 1:
        data = s.known(slope)
        slope = (
            s.const(data.reshape(-1), f"{slope}.c")
            if data is not None
            else made(s, s.op("Reshape", slope, (n,)), (n,))
        )
    return str(s.op("PReLUFusion", x, slope, channel_shared=False))


def atan(s: Scope, x: str) -> str:
    """Arc tangent: three times t = 2 atan(t / (1 + sqrt(1 + t*t))), then its series up to t**11."""
    t = s.op("Clip", x, min=-1e9, max=1e9)
    for _ in range(3):
        root = s.op("Sqrt", s.op("AddFusion", s.op("Square", t), 1.0))
        t = s.op("DivFusion", t, s.op("AddFusion", root, 1.0))
    square = s.op("Square", t)
    series = s.op("MulFusion", square, -8 / 11)
    for n, sign in ((9, 1), (7, -1), (5, 1), (3, -1)):
        series = s.op("MulFusion", s.op("AddFusion", series, sign * 8 / n), square)
    return str(s.op("MulFusion", s.op("AddFusion", series, 8.0), t))


def asin(s: Scope, x: str) -> str:
    """``2 atan(x / (1 + sqrt(1 - x*x)))``."""
    root = s.op("Sqrt", s.op("SubFusion", 1.0, s.op("Square", x)))
    return str(s.op("MulFusion", atan(s, s.op("DivFusion", x, s.op("AddFusion", root, 1.0))), 2.0))


def acos(s: Scope, x: str) -> str:
    """``pi/2 - asin(x)``."""
    return str(s.op("SubFusion", math.pi / 2, asin(s, x)))


def atan2(s: Scope, a: str, b: str) -> str:
    """atan(a/b), pi away on the left; a zero b gives the limit of that."""
    shape = result(s).shape
    a, b = (full(s, v, operand(s, i).shape, shape) for i, v in enumerate((a, b)))
    none = s.op("LogicalAnd", s.op("Equal", a, 0.0), s.op("Equal", b, 0.0))
    angle = atan(s, s.op("DivFusion", a, s.op("AddFusion", b, s.op("Cast", none, to="float32"))))
    left = s.op("Cast", s.op("Less", b, 0.0), to="float32")
    side = s.op(
        "SubFusion", 1.0, s.op("MulFusion", s.op("Cast", s.op("Less", a, 0.0), to="float32"), 2.0)
    )
    turn = s.op("MulFusion", s.op("MulFusion", side, left), math.pi)
    return str(s.op("AddFusion", angle, turn))


# -- reductions ------------------------------------------------------------------------------------
def truth(s: Scope, x: str, *, axis: tuple[int, ...], keepdims: bool) -> str:
    """Any and all as largest and smallest of 0 and 1."""
    mode = {"any": "ReduceMax", "all": "ReduceMin"}[s.node.op]
    number = made(s, s.op("Cast", x, to="int32"), operand(s, 0).shape)
    axes = tuple(a % operand(s, 0).rank for a in axis)
    best = s.op("ReduceFusion", number, axes, keep_dims=keepdims, mode=mode, coeff=1.0)
    return str(s.op("NotEqual", made(s, best, result(s).shape), 0))


def extreme(s: Scope, x: str, *, axis: int, keepdims: bool) -> str:
    """ArgMaxFusion or ArgMinFusion."""
    axis %= operand(s, 0).rank
    op = {"argmax": "ArgMaxFusion", "argmin": "ArgMinFusion"}[s.node.op]
    return str(s.op(op, x, axis=axis, top_k=1, keep_dims=keepdims, out_max_value=False))


# -- views, cutting and joining --------------------------------------------------------------------
def reshape(s: Scope, x: str, *, shape: tuple[Dim, ...]) -> str:
    """One Reshape: copied dims are 0, one more unknown is -1; more unknowns are computed."""
    return reshaped(s, x, operand(s, 0).shape, shape)


def concat(s: Scope, *xs: str, axis: int) -> str:
    """Concat along an axis counted from the front."""
    return str(s.op("Concat", *xs, axis=axis % operand(s, 0).rank))


def arange(s: Scope, start: str, limit: str, delta: str) -> str:
    """A constant where first number, step and length are known, else Range."""
    first, step = s.known(start), s.known(delta)
    (n,) = result(s).shape
    if first is not None and step is not None and isinstance(n, int):
        return s.const((first + np.arange(n) * step).astype(first.dtype))
    return str(s.op("Range", start, limit, delta))


def split(s: Scope, x: str, *, axis: int, sizes: tuple[int, ...]) -> Any:
    """Split by sizes."""
    n = len(sizes)
    at = axis + operand(s, 0).rank
    outs = s.op("Split", x, results=n, output_num=n, size_splits=sizes, axis=at)
    outs = [outs] if n == 1 else outs
    return [made(s, o, s.graph.types[name].shape) for o, name in zip(outs, s.node.outputs)]


def topk(s: Scope, x: str, *, k: int, axis: int, largest: bool, sorted: bool) -> Any:  # noqa: A002
    """TopKFusion: values and indices."""
    axis %= operand(s, 0).rank
    outs = s.op(
        "TopKFusion", x, (k,), results=2, sorted=sorted, axis=axis, largest=int(largest)
    )  # fmt: skip
    return [made(s, o, result(s).shape) for o in outs]


def slice(s: Scope, x: str, *, axes: Any, starts: Any, ends: Any, steps: Any) -> str:  # noqa: A001
    """ReverseV2 for whole axes backwards, StridedSlice for the rest."""
    t = operand(s, 0)
    shape = list(t.shape)
    rest, whole = [], []
    for a, start, end, step in zip(axes, starts, ends, steps):
        a %= t.rank
        if step == -1 and end == -1 and start == dm.sub(shape[a], 1):
            whole.append(a)
        else:
            rest.append((a, start, end, step))
    if whole:
        x = made(s, s.op("ReverseV2", x, axis=tuple(whole)), shape)
    if not rest:
        return x
    first: list[Dim] = [0] * t.rank
    last: list[Dim] = list(shape)
    pace, open_end = [1] * t.rank, (1 << t.rank) - 1
    for a, start, end, step in rest:
        n = shape[a]
        first[a], last[a], pace[a] = _from_end(start, n), _from_end(end, n), step
        if end != n and not (step < 0 and end == -1):
            open_end &= ~(1 << a)
    last = [0 if open_end >> i & 1 and isinstance(d, str) else d for i, d in enumerate(last)]
    return str(s.op("StridedSlice", x, tuple(first), tuple(last), tuple(pace), end_mask=open_end))


def _from_end(d: Dim, n: Dim) -> Dim:
    """A bound that is a fixed way from the end of a symbolic axis as a negative number."""
    gap = dm.sub(d, n) if isinstance(d, str) else 0
    return gap if isinstance(gap, int) and gap < 0 else d


def tile(s: Scope, x: str, *, repeats: tuple[Dim, ...]) -> str:
    """TileFusion over all axes."""
    return str(s.op("TileFusion", x, repeats, dims=tuple(range(len(repeats)))))


def pad(s: Scope, x: str, *, pads: tuple[Dim, ...], mode: str, value: float) -> str:
    """PadFusion; pads are pairs by axis."""
    n = len(pads) // 2
    pairs = tuple(p for i in range(n) for p in (pads[i], pads[i + n]))
    if all(isinstance(p, int) for p in pairs):
        table = s.const(np.array(pairs, np.int64).reshape(n, 2))
    else:
        table = made(s, s.op("Reshape", s.ints(pairs), (n, 2)), (n, 2))
    return str(s.op("PadFusion", x, table, padding_mode=mode.upper(), constant_value=value))


def padded(s: Scope, x: str, *, pads: tuple[int, ...], mode: str, value: float) -> str:
    """Padding by gathering along each axis, or by joining constants: any dtype and mode."""
    shape = [int(d) for d in operand(s, 0).shape]
    rank = len(shape)
    for axis in range(rank):
        low, high = pads[axis], pads[axis + rank]
        if not low and not high:
            continue
        if mode == "constant":
            parts: list[str] = [x]
            for at, n in ((0, low), (2, high)):
                if n:
                    block = [*shape[:axis], n, *shape[axis + 1 :]]
                    fill = s.const(np.full(block, value).astype(dt.to_numpy(s.dtype(x))))
                    parts.insert(at, fill)
            x = s.op("Concat", *parts, axis=axis)
        else:
            places = np.pad(np.arange(shape[axis]), (low, high), mode=mode)  # type: ignore[call-overload]
            x = s.op("Gather", x, s.const(places.astype(np.int64)), s.const(np.int64(axis)))
        shape[axis] += low + high
        x = made(s, x, shape)
    return x


def trilu(s: Scope, x: str, *, upper: bool, k: int) -> str:
    """A constant mask decides what stays."""
    shape = operand(s, 0).shape
    ones = np.ones([int(d) for d in shape[-2:]], bool)
    mask = s.const(np.triu(ones, k) if upper else np.tril(ones, k))
    if s.dtype(x) == "bool":
        return str(s.op("LogicalAnd", x, mask))
    return str(s.op("Where", full(s, mask, ones.shape, shape), x, 0))


# -- gathering and scattering ----------------------------------------------------------------------
def gather_nd(s: Scope, x: str, indices: str, *, batch_dims: int) -> str:
    """GatherNd; shared leading axes become constant leading indices."""
    if batch_dims:
        t = operand(s, 1)
        lead = [int(d) for d in t.shape[:-1]]
        grid = np.stack(list(np.indices(lead))[:batch_dims], -1).astype(np.int64)
        if s.dtype(indices) == "int32":
            grid = grid.astype(np.int32)
        depth = int(t.shape[-1]) + batch_dims
        joined = s.op("Concat", s.const(grid), indices, axis=len(lead))
        indices = made(s, joined, (*lead, depth))
    return str(s.op("GatherNd", x, indices))


def scatter_elements(
    s: Scope, x: str, indices: str, updates: str, *, axis: int, reduction: str
) -> str:
    """Full index vectors, then ScatterNdUpdate or TensorScatterAdd."""
    t = operand(s, 1)
    shape = [int(d) for d in t.shape]
    rank, kind = t.rank, dt.to_numpy(s.dtype(indices))
    grids = np.indices(shape)
    parts: list[str] = [s.const(g[..., None].astype(kind)) for g in grids]
    parts[axis % rank] = made(s, s.op("Unsqueeze", indices, axis=(rank,)), (*shape, 1))
    places = made(s, s.op("Concat", *parts, axis=rank), (*shape, rank))
    op = "ScatterNdUpdate" if reduction == "none" else "TensorScatterAdd"
    return str(s.op(op, x, places, updates))
