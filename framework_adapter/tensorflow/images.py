"""Convolutions and pools. Images are [N, *S, C] (NHWC) unless data_format says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.context import Context, Value
from framework_adapter.functions import same_pads
from framework_adapter.source import SourceNode


def _spatial(values: Sequence[int] | None, data_format: str, rank: int) -> tuple[int, ...]:
    """Entries of the spatial axes of a per-axis attribute; ones when it is not given."""
    if not values:
        return (1,) * (rank - 2)
    return tuple(values[1:-1] if data_format.endswith("C") else values[2:])


def _first(c: Context, x: Value, data_format: str) -> Value:
    return c.run("y = nchw(x)", x=x) if data_format.endswith("C") else x


def _back(c: Context, y: Value, data_format: str) -> Value:
    return c.run("z = nhwc(y)", y=y) if data_format.endswith("C") else y


def _pads(
    sizes: Sequence[Dim],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: str,
    explicit: Sequence[int],
    data_format: str,
) -> tuple[int, ...]:
    """[lo..., hi...] of the spatial axes."""
    if padding == "SAME":
        return same_pads(sizes, kernel, strides, dilations)
    if padding == "EXPLICIT":
        pairs = list(zip(explicit[0::2], explicit[1::2]))
        inner = pairs[1:-1] if data_format.endswith("C") else pairs[2:]
        return (*(lo for lo, _ in inner), *(hi for _, hi in inner))
    return (0,) * (2 * len(kernel))


def conv(
    c: Context,
    node: SourceNode,
    x: Value,
    w: Value,
    *,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int] = (),
    data_format: str,
    dilations: Sequence[int] | None = None,
) -> Value:
    """Conv2D and Conv3D: w is [*k, C/groups, O]."""
    return _conv(
        c, x, c.run("y = oihw(w)", w=w), strides, padding, explicit_paddings, data_format, dilations
    )


def _conv(
    c: Context,
    x: Value,
    w: Value,
    strides: Sequence[int],
    padding: str,
    explicit: Sequence[int],
    data_format: str,
    dilations: Sequence[int] | None,
) -> Value:
    x = _first(c, x, data_format)
    rank = c.rank(x)
    step, spread = _spatial(strides, data_format, rank), _spatial(dilations, data_format, rank)
    kernel = [int(d) for d in c.shape(w)[2:]]
    pads = _pads(c.shape(x)[2:], kernel, step, spread, padding, explicit, data_format)
    groups = dm.floordiv(c.shape(x)[1], c.shape(w)[1])
    y = c.op("conv", x, w, strides=step, pads=pads, dilations=spread, groups=groups)
    return _back(c, y, data_format)


def depthwise_conv(
    c: Context,
    node: SourceNode,
    x: Value,
    w: Value,
    *,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int] = (),
    data_format: str,
    dilations: Sequence[int] | None = None,
) -> Value:
    """DepthwiseConv2dNative: w is [*k, C, m]; channel i gives the results i*m to i*m + m - 1."""
    *kernel, channels, many = c.shape(w)
    w = c.op("transpose", w, perm=(len(kernel), len(kernel) + 1, *range(len(kernel))))
    w = c.op("reshape", w, shape=(dm.mul(channels, many), 1, *kernel))
    return _conv(c, x, w, strides, padding, explicit_paddings, data_format, dilations)


def conv_transpose(
    c: Context,
    node: SourceNode,
    sizes: Any,
    w: Value,
    x: Value,
    *,
    strides: Sequence[int],
    padding: str,
    explicit_paddings: Sequence[int] = (),
    data_format: str,
    dilations: Sequence[int] | None = None,
) -> Value:
    """Conv2DBackpropInput and its kin: w is [*k, O, C]; ``sizes`` is the shape of the result.

    The padding is that of the convolution that would lead from the result back to x.
    """
    x = _first(c, x, data_format)
    w = c.run("y = oihw(w)", w=w)
    rank = c.rank(x)
    step, spread = _spatial(strides, data_format, rank), _spatial(dilations, data_format, rank)
    kernel = [int(d) for d in c.shape(w)[2:]]
    shape = c.dims(sizes)
    wanted = shape[1:-1] if data_format.endswith("C") else shape[2:]
    pads = _pads(wanted, kernel, step, spread, padding, explicit_paddings, data_format)
    extra = []
    for i, n in enumerate(wanted):
        reach = (kernel[i] - 1) * spread[i] + 1 - pads[i] - pads[i + len(kernel)]
        least = dm.add(dm.mul(dm.sub(c.shape(x)[i + 2], 1), step[i]), reach)
        extra.append(dm.sub(n, least))
    if not all(isinstance(e, int) for e in extra):
        raise c.refuse(
            f"output size {wanted} for input size {c.shape(x)[2:]} is not a fixed distance apart",
            "give the image a fixed size",
        )
    y = c.op(
        "conv_transpose", x, w, strides=step, pads=pads, dilations=spread, output_padding=extra
    )
    return _back(c, y, data_format)


def max_pool(
    c: Context,
    node: SourceNode,
    x: Value,
    ksize: Any,
    strides: Any,
    *,
    padding: str,
    explicit_paddings: Sequence[int] = (),
    data_format: str,
) -> Value:
    """MaxPool, MaxPoolV2, MaxPool3D."""
    return _pool(c, "max_pool", x, ksize, strides, padding, explicit_paddings, data_format)


def avg_pool(
    c: Context,
    node: SourceNode,
    x: Value,
    *,
    ksize: Any,
    strides: Any,
    padding: str,
    data_format: str,
) -> Value:
    """AvgPool, AvgPool3D: padding does not count."""
    return _pool(c, "avg_pool", x, ksize, strides, padding, (), data_format)


def _pool(
    c: Context,
    op: str,
    x: Value,
    ksize: Any,
    strides: Any,
    padding: str,
    explicit: Sequence[int],
    data_format: str,
) -> Value:
    sizes, steps = ([int(d) for d in c.dims(v)] for v in (ksize, strides))
    x = _first(c, x, data_format)
    kernel, step = (_spatial(v, data_format, c.rank(x)) for v in (sizes, steps))
    if len(sizes) != c.rank(x) or _outer(sizes, data_format) != (1, 1):
        raise c.refuse("pooling over batch or channels", "pool over the spatial axes")
    ones = (1,) * len(kernel)
    pads = _pads(c.shape(x)[2:], kernel, step, ones, padding, explicit, data_format)
    more = {"dilations": ones} if op == "max_pool" else {}
    return _back(c, c.op(op, x, kernel=kernel, strides=step, pads=pads, **more), data_format)


def _outer(values: Sequence[int], data_format: str) -> tuple[int, int]:
    return (values[0], values[-1] if data_format.endswith("C") else values[1])


def space_to_batch(c: Context, node: SourceNode, x: Value, block: Any, paddings: Any) -> Value:
    """SpaceToBatchND: blocks of the spatial axes become batches, after padding with zeros."""
    blocks, flat = c.dims(block), c.dims(paddings)
    rest = (0,) * (c.rank(x) - 1 - len(blocks))
    if any(p != 0 for p in flat):
        x = c.op("pad", x, pads=(0, *flat[0::2], *rest, 0, *flat[1::2], *rest))
    batch, *sizes = c.shape(x)
    k = len(blocks)
    split: list[Dim] = [batch]
    for n, b in zip(sizes, blocks):
        split += [dm.floordiv(n, b), b]
    x = c.op("reshape", x, shape=(*split, *sizes[k:]))
    inner = [2 + 2 * i for i in range(k)]
    outer = [1 + 2 * i for i in range(k)]
    x = c.op("transpose", x, perm=(*inner, 0, *outer, *range(2 * k + 1, c.rank(x))))
    small = [dm.floordiv(n, b) for n, b in zip(sizes, blocks)]
    return c.op("reshape", x, shape=(dm.product((batch, *blocks)), *small, *sizes[k:]))


def batch_to_space(c: Context, node: SourceNode, x: Value, block: Any, crops: Any) -> Value:
    """BatchToSpaceND: the reverse of SpaceToBatchND, then a crop."""
    blocks, flat = c.dims(block), c.dims(crops)
    k = len(blocks)
    batch, *sizes = c.shape(x)
    batch = dm.floordiv(batch, dm.product(blocks))
    x = c.op("reshape", x, shape=(*blocks, batch, *sizes))
    perm = [k]
    for i in range(k):
        perm += [k + 1 + i, i]
    x = c.op("transpose", x, perm=(*perm, *range(2 * k + 1, c.rank(x))))
    large = [dm.mul(n, b) for n, b in zip(sizes, blocks)]
    x = c.op("reshape", x, shape=(batch, *large, *sizes[k:]))
    axes = [i for i in range(k) if flat[2 * i] != 0 or flat[2 * i + 1] != 0]
    if not axes:
        return x
    return c.op(
        "slice",
        x,
        axes=[i + 1 for i in axes],
        starts=[flat[2 * i] for i in axes],
        ends=[dm.sub(large[i], flat[2 * i + 1]) for i in axes],
        steps=[1] * len(axes),
    )
