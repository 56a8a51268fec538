"""Ops that need a loop or a decision that a row cannot express."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.context import Context
from framework_adapter.functions import axis as place
from framework_adapter.mindspore.images import (
    adaptive_avg_pool,
    adaptive_max_pool,
    conv3d_transpose,
    conv_transpose,
    lrn,
    mirror_pad,
    pad,
    pad_edge,
    pad_pairs,
    pad_reflect,
    upsample_linear,
    upsample_nearest,
)
from framework_adapter.mindspore.recurrent import cond, flash_attention, lstm, while_loop
from framework_adapter.source import SourceNode

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "cond",
    "conv3d_transpose",
    "conv_transpose",
    "flash_attention",
    "lrn",
    "lstm",
    "mirror_pad",
    "pad",
    "pad_edge",
    "pad_pairs",
    "pad_reflect",
    "upsample_linear",
    "upsample_nearest",
    "while_loop",
]


# -- splitting and joining -------------------------------------------------------------------------
def add_n(c: Context, node: SourceNode, x: Sequence[Any]) -> Any:
    """The sum of a tuple of tensors."""
    total = x[0]
    for other in x[1:]:
        total = c.op("add", total, other)
    return total


def _split(c: Context, x: str, axis: int, sizes: Sequence[Dim]) -> Any:
    return c.op("split", x, axis=axis, sizes=tuple(sizes)) if len(sizes) > 1 else (x,)


def split(c: Context, node: SourceNode, input_x: str, axis: int, output_num: int) -> Any:
    """``output_num`` equal parts."""
    size = dm.floordiv(c.shape(input_x)[axis], output_num)
    return _split(c, input_x, axis, [size] * output_num)


def split_by_size(c: Context, node: SourceNode, input: str, split_size: int, dim: int) -> Any:
    """Parts of one size, the last one smaller."""
    n = c.shape(input)[dim]
    if not isinstance(n, int):
        raise c.refuse(f"axis {dim} has the symbolic size {n}", "split an axis of fixed size")
    return _split(c, input, dim, [min(split_size, n - i) for i in range(0, n, split_size)])


def chunk(c: Context, node: SourceNode, input: str, chunks: int, dim: int) -> Any:
    """``chunks`` parts of ceil(n / chunks); the last ones may be smaller or missing."""
    n = c.shape(input)[dim]
    if isinstance(n, str) and dm.divides(chunks, n):
        return _split(c, input, dim, [dm.floordiv(n, chunks)] * chunks)
    return split_by_size(c, node, input, -(-n // chunks) if isinstance(n, int) else 1, dim)


def stack(c: Context, node: SourceNode, x: Sequence[Any], axis: int) -> Any:
    """Tensors joined along a new axis."""
    at = place(axis, c.rank(x[0]) + 1)
    shape = c.shape(x[0])
    wide = [c.op("reshape", v, shape=(*shape[:at], 1, *shape[at:])) for v in x]
    return c.op("concat", *wide, axis=at)


def unstack(c: Context, node: SourceNode, input: str, axis: int) -> Any:
    """The slices along an axis, without it."""
    at, shape = place(axis, c.rank(input)), c.shape(input)
    parts = _split(c, input, at, [1] * len(node.outputs))
    return tuple(c.op("reshape", p, shape=(*shape[:at], *shape[at + 1 :])) for p in parts)


# -- slicing ---------------------------------------------------------------------------------------
def _bound(c: Context, value: Dim, size: Dim, low: int, high: Dim) -> Dim:
    """A begin or end as Python counts it: negative from the end, clipped to low..high."""
    if isinstance(value, str):
        return value
    if value < 0:
        value = dm.add(value, size)
    if isinstance(value, int) and isinstance(high, int):
        return min(max(value, low), high)
    if isinstance(high, str) and isinstance(value, int) and value >= 1 << 31:
        return high  # "to the end" as a very large number
    return value


#: (axis, begin, end, step) of a slice, None for an open bound
_Cut = tuple[int, "Dim | None", "Dim | None", int]


def _cut(c: Context, x: str, cuts: Sequence[_Cut]) -> str:
    """The tensor sliced along axes."""
    axes, starts, ends, steps = [], [], [], []
    for axis, begin, end, step in sorted(cuts, key=lambda t: t[0]):
        n = c.shape(x)[axis]
        low, high = (0, n) if step > 0 else (-1, dm.sub(n, 1))
        first: Dim = 0 if step > 0 else high
        last: Dim = n if step > 0 else -1
        start = first if begin is None else _bound(c, begin, n, low, high)
        stop = last if end is None else _bound(c, end, n, low, high)
        if isinstance(start, int) and isinstance(stop, int) and (stop - start) * step < 0:
            stop = start
        if (start, stop, step) != (0, n, 1):
            axes.append(axis)
            starts.append(start)
            ends.append(stop)
            steps.append(step)
    if not axes:
        return x
    result: str = c.op(
        "slice", x, axes=tuple(axes), starts=tuple(starts), ends=tuple(ends), steps=tuple(steps)
    )
    return result


def strided_slice(
    c: Context,
    node: SourceNode,
    x: str,
    begin: Any,
    end: Any,
    strides: Any,
    begin_mask: int,
    end_mask: int,
    ellipsis_mask: int,
    new_axis_mask: int,
    shrink_axis_mask: int,
) -> str:
    """TensorFlow's strided slice: bit i of a mask speaks of position i of the bounds."""
    begins, ends, steps = c.dims(begin), c.dims(end), c.dims(strides)
    shape, result = c.shape(x), []
    cuts: list[_Cut] = []
    axis = 0
    for i, (b, e, s) in enumerate(zip(begins, ends, steps, strict=True)):
        bit = 1 << i
        if ellipsis_mask & bit:
            later = sum(not new_axis_mask >> j & 1 for j in range(i + 1, len(begins)))
            while axis < len(shape) - later:
                result.append(axis)
                axis += 1
        elif new_axis_mask & bit:
            result.append(-1)
        elif shrink_axis_mask & bit:
            cuts.append((axis, b, None if b == -1 else dm.add(b, 1), 1))
            axis += 1
        else:
            cuts.append(
                (axis, None if begin_mask & bit else b, None if end_mask & bit else e, int(s))
            )
            result.append(axis)
            axis += 1
    result.extend(range(axis, len(shape)))
    y = _cut(c, x, cuts)
    kept = tuple(1 if a < 0 else c.shape(y)[a] for a in result)
    return y if result == list(range(len(shape))) else c.op("reshape", y, shape=kept)


def slice(c: Context, node: SourceNode, input: str, begin: Any, size: Any) -> str:  # noqa: A001
    """Elements begin .. begin + size of each axis; a size of -1 means all that follow."""
    cuts: list[_Cut] = []
    for axis, (b, n) in enumerate(zip(c.dims(begin), c.dims(size), strict=True)):
        cuts.append((axis, b, None if n == -1 else dm.add(b, n), 1))
    return _cut(c, input, cuts)


def slice_axis(
    c: Context, node: SourceNode, input: str, dim: int, start: Any, end: Any, step: Any
) -> str:
    """One axis sliced as Python slices."""
    bounds = [c.scalar(v) for v in (start, end, step)]
    return _cut(c, input, [(place(dim, c.rank(input)), bounds[0], bounds[1], int(bounds[2]))])


def narrow(c: Context, node: SourceNode, input: str, dim: int, start: Any, length: Any) -> str:
    """``length`` elements of an axis from ``start`` on."""
    first, count = c.scalar(start), c.scalar(length)
    at = place(dim, c.rank(input))
    if isinstance(first, int) and first < 0:
        first = dm.add(first, c.shape(input)[at])
    return _cut(c, input, [(at, first, dm.add(first, count), 1)])


def select(c: Context, node: SourceNode, input: str, dim: int, index: Any) -> str:
    """One place of an axis, without that axis."""
    i, at = c.scalar(index), place(dim, c.rank(input))
    y = _cut(c, input, [(at, i, None if i == -1 else dm.add(i, 1), 1)])
    shape = c.shape(y)
    result: str = c.op("reshape", y, shape=(*shape[:at], *shape[at + 1 :]))
    return result


def reverse(c: Context, node: SourceNode, input: str, axis: Any) -> str:
    """Axes read backwards."""
    return _cut(c, input, [(place(int(a), c.rank(input)), None, None, -1) for a in c.dims(axis)])


def roll(c: Context, node: SourceNode, input: str, shifts: Any, dims: Any) -> str:
    """Axes shifted, what leaves at one end entering at the other."""
    for by, dim in zip(c.dims(shifts), c.dims(dims), strict=True):
        at = place(int(dim), c.rank(input))
        n = c.shape(input)[at]
        if not isinstance(n, int) or not isinstance(by, int):
            raise c.refuse(f"rolling an axis of size {n} by {by}", "roll an axis of fixed size")
        if by % n:
            head, tail = _split(c, input, at, [n - by % n, by % n])
            input = c.op("concat", tail, head, axis=at)
    return input


# -- shapes ----------------------------------------------------------------------------------------
def shape(c: Context, node: SourceNode, x: str) -> Any:
    """The sizes of the axes, one scalar each."""
    return elements(c, node, c.op("shape", x))


def elements(c: Context, node: SourceNode, x: str) -> Any:
    """The elements of a vector as scalars."""
    places = [c.tensor(i, "int64") for i in range(int(c.shape(x)[0]))]
    return tuple(c.op("gather", x, i, axis=0) for i in places)


def permute(c: Context, node: SourceNode, input: str, perm: Any) -> Any:
    """Axes in another order; negative ones count from the end."""
    rank = c.rank(input)
    return c.op("transpose", input, perm=tuple(place(int(a), rank) for a in c.dims(perm)))


def broadcast_to(c: Context, node: SourceNode, input: str, shape: Any) -> Any:
    """Broadcast to a shape, in which -1 keeps the size."""
    want, have = list(c.dims(shape)), c.shape(input)
    for i, d in enumerate(want):
        if d == -1:
            want[i] = have[i - len(want)]
    return c.op("expand", input, shape=tuple(want))


def tuple_to_tensor(c: Context, node: SourceNode, x: Sequence[Any], dtype: str) -> Any:
    """Scalars to a vector."""
    parts = [c.op("reshape", c.cast(c.tensor(v), dtype), shape=(1,)) for v in x]
    return c.op("concat", *parts, axis=0)


def arange(
    c: Context,
    node: SourceNode,
    start: Any,
    limit: Any,
    delta: Any,
    dtype: str | None = None,
    maxlen: int = 0,
) -> Any:
    """start, start + delta, ... before limit."""
    given = [c.dtype(v) for v in (start, limit, delta) if isinstance(v, str)]
    floats = any(isinstance(v, float) for v in (start, limit, delta))
    kind = dtype or (given[0] if given else "float32" if floats else "int64")
    ends = [
        c.cast(c.tensor(v, None if isinstance(v, str) else kind), kind)
        for v in (start, limit, delta)
    ]
    return c.op("arange", *ends)


def linspace(c: Context, node: SourceNode, start: str, stop: str, num: Any) -> Any:
    """``num`` values from start to stop, both included."""
    places = c.tensor(np.linspace(0, 1, c.scalar(num)), c.dtype(start))
    return c.op("add", start, c.op("mul", c.op("sub", stop, start), places))


def meshgrid(c: Context, node: SourceNode, x: Sequence[Any], indexing: int) -> Any:
    """Coordinates of a grid; with indexing "xy" (1) the first two axes change places."""
    order = list(range(len(x)))
    if indexing == 1 and len(x) > 1:
        order[:2] = [1, 0]
    sizes = tuple(c.shape(x[i])[0] for i in order)
    places = [tuple(-1 if j == i else 1 for j in order) for i in range(len(x))]
    shapes = [tuple(c.shape(v)[0] if d < 0 else 1 for d in p) for v, p in zip(x, places)]
    return tuple(
        c.op("expand", c.op("reshape", v, shape=s), shape=sizes) for v, s in zip(x, shapes)
    )


def eye(c: Context, node: SourceNode, n: int, m: int, dtype: str) -> Any:
    """The identity matrix [n, m]."""
    return c.tensor(np.eye(n, m), dtype)


def one_hot(
    c: Context, node: SourceNode, indices: str, depth: Any, on_value: Any, off_value: Any, axis: int
) -> Any:
    """on_value where the new axis' place equals the index, off_value elsewhere."""
    rank = c.rank(indices)
    at = place(axis, rank + 1)
    shape = c.shape(indices)
    count = c.scalar(depth)
    places = c.tensor(np.arange(count).reshape(-1, *[1] * (rank - at)), c.dtype(indices))
    wide = c.op("reshape", indices, shape=(*shape[:at], 1, *shape[at:]))
    dtype = c.dtype(on_value) if isinstance(on_value, str) else "float32"
    values = [c.tensor(v, None if isinstance(v, str) else dtype) for v in (on_value, off_value)]
    return c.op("where", c.op("equal", wide, places), *values)


# -- statistics ------------------------------------------------------------------------------------
def variance(
    c: Context, node: SourceNode, input: str, dim: Any, correction: int, keepdim: bool
) -> Any:
    """Mean squared distance from the mean, over n - correction."""
    axes = c.functions["axes"](dim, c.rank(input))
    mean = c.op("mean", input, axis=axes, keepdims=True)
    squares = c.op("square", c.op("sub", input, mean))
    if not correction:
        return c.op("mean", squares, axis=axes, keepdims=keepdim)
    n = dm.product(c.shape(input)[a] for a in axes)
    if not isinstance(n, int):
        raise c.refuse(f"a variance over {n} elements", "give these axes a fixed size")
    return c.op("div", c.op("sum", squares, axis=axes, keepdims=keepdim), float(n - correction))


def deviation(c: Context, node: SourceNode, **args: Any) -> Any:
    """Square root of the variance."""
    return c.op("sqrt", variance(c, node, **args))


def reduce_std(
    c: Context, node: SourceNode, input: str, axis: Any, unbiased: bool, keep_dims: bool
) -> Any:
    """Standard deviation and mean."""
    axes = c.functions["axes"](c.dims(axis), c.rank(input))
    std = deviation(c, node, input=input, dim=axes, correction=int(unbiased), keepdim=keep_dims)
    return std, c.op("mean", input, axis=axes, keepdims=keep_dims)
