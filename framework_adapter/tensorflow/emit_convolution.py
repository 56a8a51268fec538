"""Convolutions of channels-last data, as Conv2D, Conv3D, DepthwiseConv2dNative and their gradients.

TensorFlow's CPU kernels leave gaps, wider ones without oneDNN. One spatial axis is written as two,
the first of size 1. Dilations that a kernel lacks are zeros between the elements of the weight.
Groups that a kernel lacks are separate convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.target import Scope
from framework_adapter.tensorflow.parts import (
    explicit,
    integer,
    is_same,
    like,
    operand,
    paddings,
    renewed,
    spatial,
    turned,
)

Ints = tuple[int, ...]


def conv(
    s: Scope, x: str, w: str, b: str | None = None, *,
    strides: Ints, pads: Ints, dilations: Ints, groups: int,
) -> str:  # fmt: skip
    """[N, *S, C] with w [O, C/groups, *k]."""
    k = len(strides)
    low, high = pads[:k], pads[k:]
    channels, filters = operand(s, 0).shape[-1], operand(s, 1).shape[0]
    kernel = [int(n) for n in operand(s, 1).shape[2:]]
    add = "BiasAdd"
    if k == 1:
        x, w, kernel = s.op("ExpandDims", x, integer(s, 1)), _plane(s, w), [1, *kernel]
        strides, dilations, low, high = strides * 2, (1, *dilations), (0, *low), (0, *high)
    if k == 3:
        w = _dilated(s, w, dilations)
        if any(pads):
            pairs = paddings(s, spatial(low, 0), spatial(high, 0))
            x = s.op("PadV2", x, pairs, like(s, x, 0))
        step = spatial(strides, 1)
        y = _by_group(
            s, x, turned(s, w, (2, 3, 4, 1, 0), "DHWIO"), groups, (channels, filters),
            lambda x, w: s.op("Conv3D", x, w, strides=step, padding="VALID"),
        )  # fmt: skip
    else:
        step = spatial(strides, 1)
        square = strides[0] == strides[1] and max(dilations) == 1
        if groups > 1 and groups == channels and square:
            x, padding = _same(s, x, low, high, kernel, strides)
            w = _by_channel(s, w, groups, kernel)
            y = s.op("DepthwiseConv2dNative", x, w, strides=step, padding=padding)
        else:
            attrs = {**explicit(low, high), "dilations": spatial(dilations, 1)}
            y = s.op("Conv2D", x, turned(s, w, (2, 3, 1, 0), "HWIO"), strides=step, **attrs)
            # Without oneDNN the optimiser joins Conv2D and BiasAdd to an op that takes no groups.
            add = "BiasAdd" if groups == 1 else "AddV2"
    if b is not None:
        y = s.op(add, y, b)
    return s.op("Squeeze", y, squeeze_dims=(1,)) if k == 1 else y


def conv_transpose(
    s: Scope, x: str, w: str, b: str | None = None, *,
    strides: Ints, pads: Ints, dilations: Ints, groups: int, output_padding: Ints,
) -> str:  # fmt: skip
    """[N, *S, C] with w [C, O/groups, *k]: the gradient of a convolution by its input."""
    k = len(strides)
    t = operand(s, 0)
    reach = [(int(n) - 1) * d + 1 for n, d in zip(operand(s, 1).shape[2:], dilations)]
    low = list(pads[:k])
    high = [p - extra for p, extra in zip(pads[k:], output_padding)]
    tail = [max(0, -p) for p in high]  # rows that the kernel does not reach
    high = [max(0, p) for p in high]
    full = [
        dm.add(dm.mul(dm.sub(n, 1), stride), m)
        for n, stride, m in zip(t.shape[1:-1], strides, reach)
    ]
    w = _dilated(s, w, dilations)
    if k == 1:
        x, w = s.op("ExpandDims", x, integer(s, 1)), _plane(s, w)
        strides, low, high, tail = strides * 2, [0, *low], [0, *high], [0, *tail]
        full, reach = [1, *full], [1, *reach]
    if k == 3:
        y = _gradient(s, x, w, full, reach, groups, strides, {"padding": "VALID"})
        if any((*low, *high)):
            ends = (0, *(-p for p in high), 0)
            mask = sum(1 << i for i, e in enumerate(ends) if not e)
            y = s.op("StridedSlice", y, spatial(low, 0), ends, (1,) * 5, end_mask=mask)
    else:
        sizes = [dm.sub(n, a + b) for n, a, b in zip(full, low, high)]
        y = _gradient(s, x, w, sizes, reach, groups, strides, explicit(low, high))
    if any(tail):
        pairs = paddings(s, (0,) * (len(tail) + 2), spatial(tail, 0))
        y = s.op("PadV2", y, pairs, like(s, y, 0))
    if b is not None:
        y = s.op("BiasAdd", y, b)
    return s.op("Squeeze", y, squeeze_dims=(1,)) if k == 1 else y


def _gradient(
    s: Scope, x: str, w: str, sizes: Sequence[Dim], kernel: Sequence[int], groups: int,
    strides: Ints, attrs: Any,
) -> str:  # fmt: skip
    """The gradient op; w is [C, O/groups, *kernel], sizes are the spatial ones of the result."""
    batch, each = operand(s, 0).shape[0], operand(s, 1).shape[1]
    attrs = {"strides": spatial(strides, 1), **attrs}

    def shape(channels: Dim) -> str:
        dims = (batch, *sizes, channels)
        if all(isinstance(d, int) for d in dims):
            return s.const(np.array(dims, np.int32))
        return s.cast(s.ints(dims), "int32")

    if len(strides) == 2 and groups > 1 and each == 1 and strides[0] == strides[1]:
        w = _by_channel(s, w, groups, kernel)
        return str(s.op("DepthwiseConv2dNativeBackpropInput", shape(groups), w, x, **attrs))
    plane = len(strides) == 2
    op = "Conv2DBackpropInput" if plane else "Conv3DBackpropInputV2"
    w = turned(s, w, (2, 3, 1, 0) if plane else (2, 3, 4, 1, 0), "HWOI" if plane else "DHWOI")
    channels = operand(s, 0).shape[-1]
    return _by_group(
        s, x, w, groups, (channels, channels), lambda x, w: s.op(op, shape(each), w, x, **attrs)
    )


def _by_group(
    s: Scope, x: str, w: str, groups: int, sizes: tuple[Dim, Dim], one: Callable[[str, str], Any]
) -> str:
    """One convolution for each group; both operands are cut along their last axis, of ``sizes``."""
    if groups == 1:
        return str(one(x, w))
    last = integer(s, -1, "int32")
    parts = []
    for v, size in zip((x, w), sizes):
        pieces = (dm.floordiv(size, groups),) * groups
        parts.append(s.op("SplitV", v, pieces, last, results=groups, num_split=groups))
    return str(s.op("ConcatV2", *(one(a, b) for a, b in zip(*parts)), integer(s, -1)))


def _same(
    s: Scope, x: str, low: Sequence[int], high: Sequence[int], kernel: Sequence[int], strides: Ints
) -> tuple[str, str]:
    """x and a padding without explicit numbers: x is padded where these are not those of SAME.

    TensorFlow's optimiser joins a depthwise convolution with the BiasAdd after it and loses
    explicit paddings, which ends the process (2.21, with oneDNN).
    """
    if not any((*low, *high)):
        return x, "VALID"
    sizes = (1, *operand(s, 0).shape[1:-1])[-2:]
    if is_same(sizes, kernel, strides, (*low, *high)):
        return x, "SAME"
    pairs = paddings(s, spatial(low, 0), spatial(high, 0))
    return s.op("PadV2", x, pairs, like(s, x, 0)), "VALID"


def _plane(s: Scope, w: str) -> str:
    """[A, B, k] as [A, B, 1, k]."""
    return renewed(
        s, w, ("plane",), lambda a: a[:, :, None], lambda v: s.op("ExpandDims", v, integer(s, 2))
    )


def _by_channel(s: Scope, w: str, groups: int, kernel: Sequence[int]) -> str:
    """A weight [groups*m, 1, *kernel] as [*kernel, groups, m]."""
    shape = (groups, int(operand(s, 1).shape[0]) // groups, *kernel)
    return renewed(
        s, w, ("HWCM", groups),
        lambda a: a.reshape(shape).transpose(2, 3, 0, 1),
        lambda v: s.op("Transpose", s.op("Reshape", v, shape), (2, 3, 0, 1)),
    )  # fmt: skip


def _dilated(s: Scope, w: str, dilations: Ints) -> str:
    """A weight [A, B, *k] with d - 1 zeros between its elements along each axis of k."""
    if max(dilations) == 1:
        return w
    kernel = [int(n) for n in operand(s, 1).shape[2:]]
    spread = [(n - 1) * d + 1 for n, d in zip(kernel, dilations)]

    def known(a: np.ndarray) -> np.ndarray:
        out = np.zeros((*a.shape[:2], *spread), a.dtype)
        places: Any = (..., *(slice(None, None, d) for d in dilations))
        out[places] = a
        return out

    def emitted(v: str) -> str:
        lead = operand(s, 1).shape[:2]
        apart = [d for n in kernel for d in (n, 1)]
        v = s.op("Reshape", v, (*lead, *apart))
        high = (0, 0, *(p for d in dilations for p in (0, d - 1)))
        v = s.op("PadV2", v, paddings(s, (0,) * len(high), high), like(s, v, 0))
        v = s.op("Reshape", v, (*lead, *(n * d for n, d in zip(kernel, dilations))))
        rank = len(spread) + 2
        return str(s.op("StridedSlice", v, (0,) * rank, (0, 0, *spread), (1,) * rank, end_mask=3))

    return renewed(s, w, ("dilated", *dilations), known, emitted)
