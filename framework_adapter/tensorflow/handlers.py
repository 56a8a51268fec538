"""Rows that need a loop or a decision. Docstrings start with TensorFlow's op name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.context import Context, Value
from framework_adapter.functions import axis as axis_of
from framework_adapter.functions import unsqueezed
from framework_adapter.source import SourceNode
from framework_adapter.tensorflow.control import (
    if_,
    list_from_tensor,
    list_get,
    list_length,
    list_reserve,
    list_set,
    list_stack,
    while_,
)
from framework_adapter.tensorflow.images import (
    avg_pool,
    batch_to_space,
    conv,
    conv_transpose,
    depthwise_conv,
    max_pool,
    space_to_batch,
)
from framework_adapter.tensorflow.recurrent import block_lstm
from framework_adapter.tensorflow.slicing import slice_, strided_slice

__all__ = [
    "avg_pool",
    "batch_to_space",
    "block_lstm",
    "conv",
    "conv_transpose",
    "depthwise_conv",
    "if_",
    "list_from_tensor",
    "list_get",
    "list_length",
    "list_reserve",
    "list_set",
    "list_stack",
    "max_pool",
    "slice_",
    "space_to_batch",
    "strided_slice",
    "while_",
]


def add_n(c: Context, node: SourceNode, inputs: Sequence[Value]) -> Value:
    """AddN: the sum of all inputs, from left to right."""
    total = inputs[0]
    for x in inputs[1:]:
        total = c.op("add", total, x)
    return total


def split(c: Context, node: SourceNode, axis: Any, x: Value, *, num_split: int) -> Any:
    """Split: equal parts of an axis."""
    at = axis_of(c.scalar(axis), c.rank(x))
    part = dm.floordiv(c.shape(x)[at], num_split)
    return _parts(c, x, at, (part,) * num_split)


def split_v(
    c: Context, node: SourceNode, x: Value, sizes: Any, axis: Any, *, num_split: int
) -> Any:
    """SplitV: parts of given sizes, of which one may be -1 (the rest)."""
    at = axis_of(c.scalar(axis), c.rank(x))
    given = c.dims(sizes)
    used: Dim = 0
    for d in given:
        used = dm.add(used, d) if d != -1 else used
    rest = dm.sub(c.shape(x)[at], used)
    return _parts(c, x, at, tuple(rest if d == -1 else d for d in given))


def _parts(c: Context, x: Value, at: int, sizes: tuple[Dim, ...]) -> Any:
    return x if len(sizes) == 1 else c.op("split", x, axis=at, sizes=sizes)


def pack(c: Context, node: SourceNode, values: Sequence[Value], *, axis: int = 0) -> Value:
    """Pack: tensors of one shape stacked along a new axis."""
    shape = unsqueezed(c.shape(values[0]), axis)
    rows = [c.op("reshape", v, shape=unsqueezed(c.shape(v), axis)) for v in values]
    return rows[0] if len(rows) == 1 else c.op("concat", *rows, axis=axis_of(axis, len(shape)))


def unpack(c: Context, node: SourceNode, x: Value, *, num: int, axis: int = 0) -> Any:
    """Unpack: the slices of an axis as tensors without it."""
    at = axis_of(axis, c.rank(x))
    shape = c.shape(x)
    rest = (*shape[:at], *shape[at + 1 :])
    if num == 1:
        return c.op("reshape", x, shape=rest)
    return tuple(c.op("reshape", p, shape=rest) for p in _parts(c, x, at, (1,) * num))


def broadcast_args(c: Context, node: SourceNode, a: Value, b: Value) -> Value:
    """BroadcastArgs: the shape that two shapes broadcast to."""
    n, m = (c.shape(v)[0] for v in (a, b))
    if not isinstance(n, int) or not isinstance(m, int):
        raise c.refuse("the rank of a shape depends on data")
    ones = c.tensor(np.ones(abs(n - m), dtype=c.dtype(a)))
    if n < m:
        a = c.op("concat", ones, a, axis=0)
    elif m < n:
        b = c.op("concat", ones, b, axis=0)
    return c.op("maximum", a, b)


def _pads(c: Context, paddings: Any) -> tuple[Dim, ...]:
    """[[lo, hi], ...] as lo..., hi..."""
    flat = c.dims(paddings)
    return (*flat[0::2], *flat[1::2])


def pad(c: Context, node: SourceNode, x: Value, paddings: Any, value: Any = 0.0) -> Value:
    """Pad and PadV2: a constant border."""
    return c.op("pad", x, pads=_pads(c, paddings), value=float(c.scalar(value)))


def mirror_pad(c: Context, node: SourceNode, x: Value, paddings: Any, *, mode: str) -> Value:
    """MirrorPad: REFLECT leaves out the edge, SYMMETRIC repeats it."""
    pads = _pads(c, paddings)
    if mode == "REFLECT":
        return c.op("pad", x, pads=pads, mode="reflect")
    rank = c.rank(x)
    for i in range(rank):
        n = c.shape(x)[i]
        lo, hi = pads[i], pads[i + rank]
        if not all(isinstance(d, int) for d in (lo, hi, n)):
            raise c.refuse("SYMMETRIC padding needs known sizes", "give this axis a fixed size")
        pieces = [x]
        if lo:
            pieces.insert(0, _cut(c, x, i, lo - 1, -1, -1))  # type: ignore[operator]
        if hi:
            pieces.append(_cut(c, x, i, n - 1, n - 1 - hi, -1))  # type: ignore[operator]
        x = c.op("concat", *pieces, axis=i) if len(pieces) > 1 else x
    return x


def _cut(c: Context, x: Value, axis: int, start: Dim, end: Dim, step: int = 1) -> Value:
    return c.op("slice", x, axes=[axis], starts=[start], ends=[end], steps=[step])


def gather(
    c: Context, node: SourceNode, x: Value, indices: Value, axis: Any, *, batch_dims: int = 0
) -> Value:
    """GatherV2: slices along an axis, for each batch its own where batch_dims says so."""
    at = axis_of(c.scalar(axis), c.rank(x))
    batch = batch_dims + c.rank(indices) if batch_dims < 0 else batch_dims
    if not batch:
        return c.op("gather", x, indices, axis=at)
    if at != batch:
        raise c.refuse(f"gather with axis {at} and batch_dims {batch}", "use axis == batch_dims")
    column = c.op("reshape", indices, shape=(*c.shape(indices), 1))
    return c.op("gather_nd", x, column, batch_dims=batch)


def shape_n(
    c: Context, node: SourceNode, xs: Sequence[Value], *, out_type: str
) -> tuple[Value, ...]:
    """ShapeN: the shapes of several tensors."""
    return tuple(c.cast(c.op("shape", x), out_type) for x in xs)


def rank(c: Context, node: SourceNode, x: Value) -> Value:
    """Rank: the number of axes, int32."""
    return c.tensor(c.rank(x), "int32")


def one_hot(
    c: Context,
    node: SourceNode,
    indices: Value,
    depth: Any,
    on: Value,
    off: Value,
    *,
    axis: int = -1,
) -> Value:
    """OneHot: ``on`` where the place on a new axis equals the index, ``off`` elsewhere."""
    n = c.scalar(depth)
    if not isinstance(n, int):
        raise c.refuse("one_hot with a depth that is no fixed number", "pass the depth as a number")
    out_rank = c.rank(indices) + 1
    at = axis_of(axis, out_rank)
    places = np.arange(n, dtype=c.dtype(indices)).reshape(
        [n if i == at else 1 for i in range(out_rank)]
    )
    column = c.op("reshape", indices, shape=unsqueezed(c.shape(indices), at))
    return c.op("where", c.op("equal", column, c.tensor(places)), on, off)


def reverse(c: Context, node: SourceNode, x: Value, axis: Any) -> Value:
    """ReverseV2: some axes backwards."""
    axes = sorted(axis_of(int(a), c.rank(x)) for a in c.dims(axis))
    if not axes:
        return x
    starts = [dm.sub(c.shape(x)[a], 1) for a in axes]
    return c.op("slice", x, axes=axes, starts=starts, ends=[-1] * len(axes), steps=[-1] * len(axes))


def roll(c: Context, node: SourceNode, x: Value, shift: Any, axis: Any) -> Value:
    """Roll: each axis moved on cyclically."""
    for by, a in zip(c.dims(shift), c.dims(axis)):
        at = axis_of(int(a), c.rank(x))
        n = c.shape(x)[at]
        back = dm.mod(dm.mul(-1, by), n)  # the element that comes first
        if back != 0:
            x = c.op("concat", _cut(c, x, at, back, n), _cut(c, x, at, 0, back), axis=at)
    return x


def matrix_diag(
    c: Context, node: SourceNode, x: Value, k: Any, rows: Any, columns: Any, padding: Any
) -> Value:
    """MatrixDiagV3: the last axis as the diagonal of a square matrix."""
    *lead, n = c.shape(x)
    plain = c.dims(k) in ((0,), (0, 0)) and c.scalar(padding) == 0
    if not plain or any(c.scalar(size) not in (-1, n) for size in (rows, columns)):
        raise c.refuse("a diagonal beside the main one", "use the main diagonal, zero elsewhere")
    x = c.op("expand", c.op("reshape", x, shape=(*lead, n, 1)), shape=(*lead, n, n))
    return c.op("trilu", c.op("trilu", x, upper=True), upper=False)


def local_response_norm(
    c: Context,
    node: SourceNode,
    x: Value,
    *,
    depth_radius: int,
    bias: float,
    alpha: float,
    beta: float,
) -> Value:
    """LRN: x / (bias + alpha * sum of squares over 2*depth_radius + 1 channels) ** beta."""
    shape, width = c.shape(x), 2 * depth_radius + 1
    rows = c.op("reshape", c.op("square", x), shape=(dm.product(shape[:-1]), 1, shape[-1]))
    mean = c.op(
        "avg_pool",
        rows,
        kernel=[width],
        strides=[1],
        pads=[depth_radius] * 2,
        count_include_pad=True,
    )
    total = c.op("reshape", mean, shape=shape)
    scale = c.run("y = (s * a + b) ** e", s=total, a=alpha * width, b=bias, e=beta)
    return c.op("div", x, scale)


@dataclass(frozen=True)
class SignBits:
    """The bits of a float32 tensor, of which only the sign is ever looked at."""

    x: Value


def bitcast(c: Context, node: SourceNode, x: Value, *, type: str) -> SignBits:
    """Bitcast: only in a sign test, which ``bitwise_and`` completes (Keras argmax has one)."""
    if (c.dtype(x), type) != ("float32", "int32"):
        raise c.refuse(f"bitcast from {c.dtype(x)} to {type}", "cast the tensor instead")
    return SignBits(x)


def bitwise_and(c: Context, node: SourceNode, x: Any, y: Value) -> Value:
    """BitwiseAnd: of integers, or of a float's bits with the sign bit."""
    if not isinstance(x, SignBits):
        return c.op("bitwise_and", x, y)
    sign = -(2**31)
    if c.scalar(y) != sign:
        raise c.refuse("bit arithmetic on floats", "test the sign with tf.less")
    # -0.0 is told from 0.0 by its reciprocal.
    test = "y = where(equal(x, 0.0), less(reciprocal(x), 0.0), less(x, 0.0))"
    return c.op("mul", c.cast(c.run(test, x=x.x), "int32"), sign)


def bucketize(c: Context, node: SourceNode, x: Value, *, boundaries: Sequence[float]) -> Value:
    """Bucketize: how many of the sorted boundaries do not exceed x, int32."""
    column = c.op("reshape", c.cast(x, "float32"), shape=(*c.shape(x), 1))
    below = c.op("greater_equal", column, c.tensor(np.array(boundaries, np.float32)))
    return c.op("sum", c.cast(below, "int32"), axis=[-1], keepdims=False)
