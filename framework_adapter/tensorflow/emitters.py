"""Emission handlers: IR ops whose TensorFlow form depends on shapes, constants or neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from cir import dim as dm
from cir import dtype as dt
from cir.dim import Dim
from cir.ops.linear import parse_equation
from framework_adapter.target import Scope
from framework_adapter.tensorflow.dims import arange, reshaped, scalar
from framework_adapter.tensorflow.emit_convolution import (  # noqa: F401
    conv,
    conv_transpose,
)
from framework_adapter.tensorflow.emit_indexing import (  # noqa: F401
    gather,
    gather_elements,
    gather_nd,
    scatter_elements,
    scatter_nd,
)
from framework_adapter.tensorflow.emit_pooling import avg_pool, max_pool  # noqa: F401
from framework_adapter.tensorflow.emit_recurrent import lstm  # noqa: F401
from framework_adapter.tensorflow.emit_resize import resize  # noqa: F401
from framework_adapter.tensorflow.parts import integer, like, operand, paddings, reformed, turned

#: A start that leaves nothing, of whatever size an axis is.
_PAST_THE_END = 2**63 - 1


# -- elementwise -----------------------------------------------------------------------------------
def clip(s: Scope, x: str, *, min: float | None, max: float | None) -> str:  # noqa: A002
    """Bounds beyond an integer dtype do not bound."""
    dtype = s.dtype(x)
    for op, bound, end in (("Maximum", min, "min"), ("Minimum", max, "max")):
        if bound is None:
            continue
        if not dt.is_float(dtype):
            limit = getattr(np.iinfo(dtype), end)
            if bound <= limit if end == "min" else bound >= limit:
                continue
        x = str(s.op(op, x, like(s, x, bound)))
    return x


def quantize(s: Scope, x: str, scale: str, zero_point: str, *, axis: int) -> str:
    """Computed in float64, which holds every int32."""
    storage = s.dtype(zero_point)
    x, scale, zero = (s.cast(v, "float64") for v in (x, scale, zero_point))
    if operand(s, 1).rank:
        shape = (-1, *[1] * (-1 - axis))
        scale, zero = (s.op("Reshape", v, shape) for v in (scale, zero))
    y = s.op("AddV2", s.op("Rint", s.op("RealDiv", x, scale)), zero)
    info = np.iinfo(storage)
    y = s.op("Minimum", s.op("Maximum", y, float(info.min)), float(info.max))
    return s.cast(y, storage)


# -- views, cutting and joining --------------------------------------------------------------------
def reshape(s: Scope, x: str, *, shape: tuple[Dim, ...]) -> str:
    """A view of the same elements."""
    return reshaped(s, x, operand(s, 0).shape, shape)


def concat(s: Scope, *xs: str, axis: int) -> str:
    """ConcatV2 takes two operands or more."""
    return xs[0] if len(xs) == 1 else s.op("ConcatV2", *xs, integer(s, axis))


def slice(s: Scope, x: str, *, axes: Any, starts: Any, ends: Any, steps: Any) -> str:  # noqa: A001
    """StridedSlice; bounds that count from the end of a symbolic axis need no arithmetic."""
    t = operand(s, 0)

    def bound(d: Dim, n: Dim) -> Dim:
        gap = dm.sub(d, n) if isinstance(d, str) else 0
        return gap if isinstance(gap, int) and gap < 0 else d

    first: list[Dim] = [0] * t.rank
    last: list[Dim] = [0] * t.rank
    strides: list[Dim] = [1] * t.rank
    open_start = open_end = (1 << t.rank) - 1
    for a, start, end, step in zip(axes, starts, ends, steps):
        i, n = a + t.rank, t.shape[a]
        strides[i] = step
        if start != (0 if step > 0 else dm.sub(n, 1)):
            first[i] = _PAST_THE_END if start == n else bound(start, n)
            open_start &= ~(1 << i)
        if end != (n if step > 0 else -1):
            last[i] = bound(end, n)
            open_end &= ~(1 << i)
    return s.op(
        "StridedSlice", x, tuple(first), tuple(last), tuple(strides),
        begin_mask=open_start, end_mask=open_end,
    )  # fmt: skip


def pad(s: Scope, x: str, *, pads: tuple[Dim, ...], mode: str, value: float) -> str:
    """PadV2, MirrorPad; the edge is repeated by gathering."""
    t = operand(s, 0)
    if mode == "constant":
        return s.op("PadV2", x, paddings(s, pads[: t.rank], pads[t.rank :]), like(s, x, value))
    if mode == "reflect":
        return s.op("MirrorPad", x, paddings(s, pads[: t.rank], pads[t.rank :]), mode="REFLECT")
    zero, one = integer(s, 0), integer(s, 1)
    for i, n in enumerate(t.shape):
        low, high = pads[i], pads[i + t.rank]
        if (low, high) == (0, 0):
            continue
        ends = (scalar(s, dm.mul(-1, low)), scalar(s, dm.add(n, high)))
        places = s.op("Maximum", s.op("Range", *ends, one), zero)
        places = s.op("Minimum", places, scalar(s, dm.sub(n, 1)))
        x = s.op("GatherV2", x, places, integer(s, i))
    return x


def trilu(s: Scope, x: str, *, upper: bool, k: int) -> str:
    """Where column - row is at least k (upper) or at most k."""
    t = operand(s, 0)
    rows, columns = (arange(s, d) for d in t.shape[-2:])
    rows = s.op("ExpandDims", s.op("AddV2", rows, scalar(s, k)), integer(s, 1))
    keep = s.op("GreaterEqual" if upper else "LessEqual", columns, rows)
    return s.op("SelectV2", keep, x, like(s, x, 0))


def topk(s: Scope, x: str, *, k: Dim, axis: int, largest: bool, sorted: bool) -> Any:
    """TopKV2 of the last axis; the smallest are the largest of what is negated."""
    t = operand(s, 0)
    order = list(range(t.rank))
    order[axis], order[-1] = order[-1], order[axis]
    flip = "Neg" if dt.is_float(t.dtype) else "Invert"  # -x overflows, and wraps without a sign
    if axis != -1:
        x = s.op("Transpose", x, order)
    if not largest:
        x = s.op(flip, x)
    count = (
        s.op("Cast", scalar(s, k), DstT="int32") if isinstance(k, str) else integer(s, k, "int32")
    )
    values, indices = s.op("TopKV2", x, count, results=2, sorted=sorted, index_type="int64")
    if not largest:
        values = s.op(flip, values)
    if axis != -1:
        values, indices = (s.op("Transpose", v, order) for v in (values, indices))
    return values, indices


# -- linear algebra --------------------------------------------------------------------------------
def linear(s: Scope, x: str, w: str, b: str | None = None) -> str:
    """MatMul of the rows of x with the weight, turned once, here; then BiasAdd."""
    t, out = operand(s, 0), operand(s, 1).shape[0]
    flat = (dm.product(t.shape[:-1]), t.shape[-1])
    y = s.op("MatMul", reshaped(s, x, t.shape, flat), turned(s, w, (1, 0), "T"))
    y = y if b is None else s.op("BiasAdd", y, b)
    return reshaped(s, y, (flat[0], out), (*t.shape[:-1], out))


def group_norm(
    s: Scope, x: str, scale: str | None = None, bias: str | None = None, *,
    num_groups: int, epsilon: float,
) -> str:  # fmt: skip
    """[N, *S, C]: what is as large as x is read and written as rarely as can be."""
    t = operand(s, 0)
    parts = (num_groups, int(t.shape[-1]) // num_groups)
    grouped = (*t.shape[:-1], *parts)
    x = reshaped(s, x, t.shape, grouped)
    axes = (*range(1, t.rank - 1), t.rank)
    mean = s.op("Mean", x, axes, keep_dims=True)
    variance = s.op("Mean", s.op("SquaredDifference", x, mean), axes, keep_dims=True)
    factor = s.op("Rsqrt", s.op("AddV2", variance, like(s, x, epsilon)))
    scale, bias = (None if v is None else reformed(s, v, parts) for v in (scale, bias))
    if scale is not None:
        factor = s.op("Mul", factor, scale)
    y, shift = s.op("Mul", x, factor), s.op("Mul", mean, factor)
    y = s.op("Sub", y, shift) if bias is None else s.op("AddV2", y, s.op("Sub", bias, shift))
    return reshaped(s, y, grouped, t.shape)


def einsum(s: Scope, *xs: str, equation: str) -> str:
    """Einsum takes two operands: more are contracted from the left."""
    terms, result = parse_equation(equation, [operand(s, i).rank for i in range(len(xs))])
    y, have = xs[0], terms[0]
    for i in range(1, len(xs)):
        later = "".join(terms[i + 1 :]) + result
        keep = (
            result
            if i == len(xs) - 1
            else "".join(dict.fromkeys(c for c in have + terms[i] if c in later))
        )
        y, have = s.op("Einsum", y, xs[i], equation=f"{have},{terms[i]}->{keep}"), keep
    return y if len(xs) > 1 else s.op("Einsum", y, equation=f"{have}->{result}")


def attention(
    s: Scope, q: str, k: str, v: str, mask: str | None = None, *, scale: float, causal: bool
) -> str:
    """Two matrix products with a softmax between them."""
    queries, keys = operand(s, 0).shape[-2], operand(s, 1).shape[-2]
    scores = s.op("BatchMatMulV2", s.op("Mul", q, like(s, q, scale)), k, adj_y=True)
    low = like(s, q, -np.inf)
    if causal:
        rows, columns = (arange(s, d) for d in (queries, keys))
        rows = s.op("ExpandDims", rows, integer(s, 1))
        scores = s.op("SelectV2", s.op("LessEqual", columns, rows), scores, low)
    hides = mask is not None and s.dtype(mask) == "bool"
    if hides:
        scores = s.op("SelectV2", mask, scores, low)
    elif mask is not None:
        scores = s.op("AddV2", scores, mask)
    weights = s.op("Softmax", scores)
    if hides and (causal or not _keeps_all_rows(s, str(mask))):  # one that hides all keys is nan
        weights = s.op("SelectV2", s.op("IsNan", weights), like(s, q, 0), weights)
    return s.op("BatchMatMulV2", weights, v)


def _keeps_all_rows(s: Scope, mask: str) -> bool:
    data = s.known(mask)
    return data is not None and bool(data.any(axis=-1).all())


# -- control flow ----------------------------------------------------------------------------------
def cond(s: Scope, pred: str, *xs: str) -> Any:
    """StatelessIf: the operands of the isolated regions become captures."""
    branches = []
    for region in s.node.regions:
        inner = s.inner(region, xs)
        branches.append(inner.finish((), inner.outputs(inner.body())))
    dtypes = [s.graph.types[o].dtype for o in s.node.outputs]
    return s.op("StatelessIf", pred, results=len(dtypes), dtypes=dtypes,
                then_branch=branches[0], else_branch=branches[1])  # fmt: skip


def while_loop(s: Scope, *xs: str, carried: int) -> Any:
    """StatelessWhile over what is carried; invariants become captures."""
    graphs = []
    for region in s.node.regions:
        inner = s.inner(region, xs)
        formals = list(region.inputs[:carried])
        for name in formals:
            inner.env[name] = name
            inner.declare(name, region.types[name])
        graphs.append(inner.finish(formals, inner.outputs(inner.body())))
    dtypes = [s.graph.types[o].dtype for o in s.node.outputs]
    return s.op("StatelessWhile", *xs[:carried], results=carried, dtypes=dtypes,
                cond=graphs[0], body=graphs[1])  # fmt: skip
