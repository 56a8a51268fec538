"""Views, cutting and joining, padding, and shape arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cir import dim as dims
from cir.dim import Dim
from cir.graph import TensorType
from cir.infer import (
    Attrs,
    Types,
    ceil_div,
    need_choice,
    need_length,
    need_min_rank,
    same_as,
    same_dim,
    same_dtype,
    typed,
)
from cir.kernel import Array, Ints, kernel
from cir.spec import InferContext, InferError, op


@op("identity(x)", infer=same_as(0),
    samples=[{"inputs": ["float32[2,3]"]}, {"inputs": ["int64[]"]}])  # fmt: skip
def identity(x: Array) -> Array:
    """``x`` itself; stands where a graph output needs a name of its own."""
    return x


def _infer_reshape(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    shape: tuple[Dim, ...] = attrs["shape"]
    if t.is_static and all(type(d) is int for d in shape):
        if any(d < 0 for d in shape):  # type: ignore[operator]
            raise InferError(f"shape {shape} holds a negative dim: write the size itself, not -1")
        if math.prod(t.shape) != math.prod(shape):  # type: ignore[arg-type]
            a, b = math.prod(t.shape), math.prod(shape)  # type: ignore[arg-type]
            raise InferError(f"{t} has {a} elements, shape {shape} has {b}: they must be equal")
    else:
        _check_symbolic_reshape(t, shape)
    return [TensorType(t.dtype, shape)]


def _check_symbolic_reshape(t: TensorType, shape: tuple[Dim, ...]) -> None:
    if any(type(d) is int and d < 0 for d in shape):
        raise InferError(f"shape {shape} holds a negative dim: write the size itself, not -1")
    a, b = dims.product(t.shape), dims.product(shape)
    same = dims.equal(a, b)
    if same is None:
        # Without // % min max and over one set of symbols, different polynomials are different
        # sizes; otherwise a guard of the source model may make them equal.
        plain = "(" not in f"{a}{b}" and dims.symbols_of(a) == dims.symbols_of(b)
        same = not plain
    if not same:
        raise InferError(f"{t} has {a} elements, shape {shape} has {b}: they must be equal")


@op("reshape(x; shape: dims)", infer=_infer_reshape, layout="view",
    samples=[{"inputs": ["float32[2,3,4]"], "shape": [2, 12]},
             {"inputs": ["float32[1,1]"], "shape": []},
             {"inputs": ["int64[4]"], "shape": [2, 1, 2]}])  # fmt: skip
def reshape(x: Array, *, shape: Ints) -> Array:
    """The same elements in row-major order under another shape. Every dim is written out: no -1."""
    return np.reshape(x, shape)


def _infer_transpose(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    perm = attrs["perm"]
    shape = t.shape
    if sorted(perm) != list(range(len(shape))):
        raise InferError(f"perm {perm} must be a permutation of 0..{len(shape) - 1}, x is {t}")
    return [TensorType(t.dtype, tuple([shape[p] for p in perm]))]


@op("transpose(x; perm: ints)", infer=_infer_transpose, layout="view",
    samples=[{"inputs": ["float32[2,3,4]"], "perm": [2, 0, 1]},
             {"inputs": ["int64[2,3]"], "perm": [1, 0]}])  # fmt: skip
def transpose(x: Array, *, perm: Ints) -> Array:
    """Axis i of the result is axis perm[i] of x."""
    return np.transpose(x, perm)


def _infer_concat(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    if not types:
        raise InferError("concat needs one input or more")
    first = typed(types, 0)
    axis = attrs["axis"] + first.rank
    total: Dim = first.shape[axis]
    for i in range(1, len(types)):
        t = typed(types, i)
        same_dtype(first, t)
        if t.rank != first.rank:
            raise InferError(f"inputs 0 and {i} are {first} and {t}: the ranks must be equal")
        for j, (a, b) in enumerate(zip(first.shape, t.shape)):
            if a != b and j != axis:
                same_dim(a, b, f"axis {j} of inputs 0 and {i}")
        total = dims.add(total, t.shape[axis])
    return [TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))]


@op("concat(*xs; axis: axis)", infer=_infer_concat, layout="axis",
    samples=[{"inputs": ["float32[2,3]", "float32[2,1]", "float32[2,3]"], "axis": -1},
             {"inputs": ["int64[2]", "int64[3]"], "axis": 0}])  # fmt: skip
def concat(*xs: Array, axis: int) -> Array:
    """Inputs of one dtype joined along an axis."""
    return np.concatenate(xs, axis=axis)


def _infer_split(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    axis, sizes = attrs["axis"] + t.rank, attrs["sizes"]
    if not sizes or any(type(s) is int and s < 0 for s in sizes):
        raise InferError(f"sizes {sizes} must be one non-negative size or more")
    total: Dim = 0
    for s in sizes:
        total = dims.add(total, s)
    if total != t.shape[axis] and dims.equal(total, t.shape[axis]) is False:
        raise InferError(f"sizes {sizes} sum to {total}, axis {attrs['axis']} of {t} does not")
    before, after = t.shape[:axis], t.shape[axis + 1 :]
    return [TensorType(t.dtype, (*before, s, *after)) for s in sizes]


@op("split(x; axis: axis, sizes: dims) -> *ys", infer=_infer_split, layout="axis",
    samples=[{"inputs": ["float32[2,6]"], "axis": -1, "sizes": [1, 3, 2]},
             {"inputs": ["int64[4]"], "axis": 0, "sizes": [2, 2]}])  # fmt: skip
def split(x: Array, *, axis: int, sizes: Ints) -> tuple[Array, ...]:
    """Consecutive pieces of the given sizes along an axis."""
    if sum(sizes) != x.shape[axis]:
        raise ValueError(f"sizes {sizes} do not sum to {x.shape[axis]}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=axis))


def _slice_dim(n: Dim, start: Dim, end: Dim, step: int) -> Dim:
    if type(start) is int and type(end) is int and type(n) is int:
        good = 0 <= start <= end <= n if step > 0 else -1 <= end <= start < n
        if not good:
            rule = "0 <= start <= end <= size" if step > 0 else "-1 <= end <= start < size"
            raise InferError(f"start {start}, end {end}, step {step} on size {n}: needs {rule}")
        return len(range(start, end, step))
    span = dims.sub(end, start) if step > 0 else dims.sub(start, end)
    return ceil_div(span, abs(step))


def _infer_slice(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    axes = attrs["axes"]
    for name in ("starts", "ends", "steps"):
        need_length(attrs, name, len(axes), "one for each of axes")
    shape = list(t.shape)
    for a, start, end, step in zip(axes, attrs["starts"], attrs["ends"], attrs["steps"]):
        if step == 0:
            raise InferError("a step of 0: must be positive or negative")
        shape[a] = _slice_dim(shape[a], start, end, step)
    return [TensorType(t.dtype, tuple(shape))]


@op("slice(x; axes: axes, starts: dims, ends: dims, steps: ints)", infer=_infer_slice,
    layout="axis",
    samples=[{"inputs": ["float32[4,5]"], "axes": [-1], "starts": [1], "ends": [4], "steps": [2]},
             {"inputs": ["float32[4,5]"], "axes": [0, 1], "starts": [3, 0], "ends": [-1, 2],
              "steps": [-1, 1]},
             {"inputs": ["int64[6]"], "axes": [0], "starts": [5], "ends": [1],
              "steps": [-2]}])  # fmt: skip
def slice_(x: Array, *, axes: Ints, starts: Ints, ends: Ints, steps: Ints) -> Array:
    """Elements start, start + step, ... before end along each of axes, as ``range`` counts.

    starts, ends and steps follow the order of the sorted axes. Bounds are absolute: with a positive
    step 0 <= start <= end <= size; with a negative one an end of -1 includes element 0.
    """
    index = [slice(None)] * x.ndim
    for a, start, end, step in zip(axes, starts, ends, steps):
        # To NumPy -1 is the last element; here it is the place before the first.
        index[a] = slice(start, None if end < 0 else end, step) if start >= 0 else slice(0, 0)
    return x[tuple(index)]


def _infer_expand(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    shape = attrs["shape"]
    lead = len(shape) - t.rank
    if lead < 0:
        raise InferError(f"shape {shape} has fewer axes than {t}")
    if any(type(d) is int and d < 0 for d in shape):
        raise InferError(f"shape {shape} holds a negative dim: write the size itself, not -1")
    for a, b in zip(t.shape, shape[lead:]):
        if a != b and a != 1 and not dims.equal(a, b):
            raise InferError(f"{t} does not broadcast to {shape}: {a} is neither {b} nor 1")
    return [TensorType(t.dtype, shape)]


@op("expand(x; shape: dims)", infer=_infer_expand,
    samples=[{"inputs": ["float32[3,1]"], "shape": [2, 3, 4]},
             {"inputs": ["int64[]"], "shape": [3]}])  # fmt: skip
def expand(x: Array, *, shape: Ints) -> Array:
    """``x`` broadcast to a shape of the same or a higher rank (a read-only view)."""
    return np.broadcast_to(x, shape)


def _infer_tile(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    repeats = need_length(attrs, "repeats", t.rank, f"one for each axis of {t}")
    if any(type(r) is int and r < 0 for r in repeats):
        raise InferError(f"repeats {repeats} must not be negative")
    return [TensorType(t.dtype, tuple(dims.mul(d, r) for d, r in zip(t.shape, repeats)))]


@op("tile(x; repeats: dims)", infer=_infer_tile, layout="per_axis:repeats",
    samples=[{"inputs": ["float32[2,3]"], "repeats": [2, 1]},
             {"inputs": ["int64[2]"], "repeats": [3]}])  # fmt: skip
def tile(x: Array, *, repeats: Ints) -> Array:
    """``x`` repeated repeats[i] times along axis i."""
    return np.tile(x, repeats)


_PAD_MODES = ("constant", "reflect", "edge")


def _infer_pad(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    pads = need_length(attrs, "pads", 2 * t.rank, "the low pads of all axes, then the high ones")
    mode = need_choice(attrs, "mode", _PAD_MODES)
    shape = list(t.shape)
    for i, n in enumerate(t.shape):
        lo, hi = pads[i], pads[i + t.rank]
        for p in (lo, hi):
            if type(p) is int and p < 0:
                raise InferError(f"pads {pads} holds {p}: to crop, use slice")
            if mode == "reflect" and type(p) is int and type(n) is int and p >= max(n, 1):
                raise InferError(f"reflect pads axis {i} by {p}, must stay below its size {n}")
        shape[i] = dims.add(dims.add(n, lo), hi)
    return [TensorType(t.dtype, tuple(shape))]


@op("pad(x; pads: dims, mode: str = 'constant', value: float = 0.0)", infer=_infer_pad,
    layout="per_axis:pads",
    samples=[{"inputs": ["float32[2,3]"], "pads": [0, 1, 2, 0], "value": 1.5},
             {"inputs": ["float32[3,4]"], "pads": [2, 1, 0, 3], "mode": "reflect"},
             {"inputs": ["int64[2,3]"], "pads": [1, 0, 0, 2], "mode": "edge"}])  # fmt: skip
def pad(x: Array, *, pads: Ints, mode: str, value: float) -> Array:
    """``x`` with pads[i] elements before and pads[rank + i] after it on axis i.

    constant fills with ``value``, reflect mirrors without repeating the edge, edge repeats it.
    """
    width = list(zip(pads[: x.ndim], pads[x.ndim :]))
    fill: dict[str, Any] = {}
    if mode == "constant":
        fill["constant_values"] = np.asarray(value).astype(x.dtype)
    return np.pad(x, width, mode=mode, **fill)  # type: ignore[call-overload]


def _infer_trilu(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    need_min_rank(t, 2, "x")
    return [t]


@op("trilu(x; upper: bool, k: int = 0)", infer=_infer_trilu,
    samples=[{"inputs": ["float32[3,4]"], "upper": True},
             {"inputs": ["bool[2,3,3]"], "upper": False, "k": -1}])  # fmt: skip
def trilu(x: Array, *, upper: bool, k: int) -> Array:
    """The upper or lower triangle of the last two axes, zero elsewhere; k moves the diagonal up."""
    return np.triu(x, k) if upper else np.tril(x, k)


def _infer_shape(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    return [TensorType("int64", (typed(types, 0).rank,))]


@op("shape(x)", infer=_infer_shape,
    samples=[{"inputs": ["float32[2,3]"]}, {"inputs": ["bool[4]"]}])  # fmt: skip
def shape(x: Array) -> Array:
    """Sizes of the axes, int64[rank]."""
    return np.array(x.shape, dtype=np.int64)


def _arange_size(start: Any, limit: Any, delta: Any) -> Dim | None:
    """Number of elements; None when it cannot be told from symbolic dims."""
    if any(isinstance(v, dims.SymInt) for v in (start, limit, delta)):
        if isinstance(delta, dims.SymInt):
            return None
        start, limit = (v.dim if isinstance(v, dims.SymInt) else int(v) for v in (start, limit))
        span = dims.sub(limit, start) if delta > 0 else dims.sub(start, limit)
        n = ceil_div(span, abs(int(delta)))
        return n if isinstance(n, str) else max(0, n)
    if delta == 0:
        raise InferError("delta is 0: must be positive or negative")
    if all(isinstance(v, int) for v in (start, limit, delta)):
        return len(range(start, limit, delta))
    return max(0, math.ceil((float(limit) - float(start)) / float(delta)))


def _infer_arange(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    first = typed(types, 0)
    for i in range(3):
        t = typed(types, i)
        same_dtype(first, t)
        if t.shape:
            raise InferError(f"start, limit and delta must have rank 0, input {i} is {t}")
    values = [ctx.value(i) for i in range(3)]
    n = None
    if all(v is not None for v in values):
        n = _arange_size(*(v.item() for v in values))  # type: ignore[union-attr]
    return [TensorType(first.dtype, (ctx.fresh() if n is None else n,))]


@op("arange(start, limit, delta)", domain="number", infer=_infer_arange,
    samples=[{"inputs": ["int64[]<3", "int64[]<9", "+int64[]<4"]},
             {"inputs": ["int32[]<3", "int32[]<9", "+int32[]<4"]}])  # fmt: skip
@kernel
def arange(start: Array, limit: Array, delta: Array) -> Array:
    """``start, start + delta, ...`` before limit: rank-0 inputs of one dtype to a vector."""
    n = _arange_size(start.item(), limit.item(), delta.item())
    if not isinstance(n, int):
        raise TypeError("the number of elements is symbolic")
    if start.dtype == object:
        return np.array([start.item() + i * delta.item() for i in range(n)], dtype=object)
    if start.dtype.kind == "f":
        return float(start) + np.arange(n, dtype=np.float64) * float(delta)
    return (int(start) + np.arange(n, dtype=np.int64) * int(delta)).astype(start.dtype)
