"""Pooling of channels-last data, as MaxPool and AvgPool over data that are padded first.

A window that no kernel takes (dilated, or of a dtype that the 3D kernels lack) is folded from
strided slices, one axis after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cir import dim as dm
from cir import dtype as dt
from cir.dim import Dim
from cir.ops.spatial import pool_count
from framework_adapter.target import Scope
from framework_adapter.tensorflow.dims import arange, scalar
from framework_adapter.tensorflow.parts import (
    explicit,
    integer,
    is_same,
    like,
    operand,
    paddings,
    spatial,
)

Ints = tuple[int, ...]


def max_pool(
    s: Scope, x: str, *, kernel: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil_mode: bool
) -> str:
    """The largest element of each window of [N, *S, C]."""
    counts, high = _windows(s, kernel, strides, pads, dilations, ceil_mode)
    dtype = s.dtype(x)
    lowest = -np.inf if dt.is_float(dtype) else float(np.iinfo(dtype).min)
    return _pool(s, "MaxPool", x, lowest, counts, kernel, strides, pads, high, dilations)


def avg_pool(
    s: Scope, x: str, *, kernel: Ints, strides: Ints, pads: Ints, ceil_mode: bool,
    count_include_pad: bool,
) -> str:  # fmt: skip
    """The mean of each window of [N, *S, C]."""
    k = len(kernel)
    ones = (1,) * k
    sizes = operand(s, 0).shape[1:-1]
    if not ceil_mode and not count_include_pad and _takes(s, "AvgPool", k, s.dtype(x)):
        if is_same(sizes, kernel, strides, pads):
            return _kernel(s, "AvgPool", x, kernel, strides, {"padding": "SAME"})
    counts, high = _windows(s, kernel, strides, pads, ones, ceil_mode)
    y = _pool(s, "AvgPool", x, 0.0, counts, kernel, strides, pads, high, ones)
    for i in range(k):
        n = sizes[i]
        first, last = (pads[i], dm.add(n, pads[i + k])) if count_include_pad else (0, n)
        if (pads[i], high[i]) == (first, dm.sub(last, n)):
            continue  # every element of every window counts
        share = _share(s, y, counts[i], kernel[i], strides[i], pads[i], -first, last)
        y = s.op("Mul", y, s.op("Reshape", share, (-1, *[1] * (k - i))))
    return y


def _windows(
    s: Scope, kernel: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil: bool
) -> tuple[list[Dim], list[Dim]]:
    """(windows, high pads they reach into) of each spatial axis."""
    k = len(kernel)
    counts: list[Dim] = []
    high: list[Dim] = []
    for i, n in enumerate(operand(s, 0).shape[1:-1]):
        low, given = pads[i], pads[i + k]
        count = pool_count(n, kernel[i], strides[i], dilations[i], low, given, ceil)
        reach = dm.add(dm.mul(dm.sub(count, 1), strides[i]), dilations[i] * (kernel[i] - 1) + 1)
        need = dm.sub(reach, dm.add(n, low))
        counts.append(count)
        high.append(dm.maximum(given, need) if ceil else given)
    return counts, high


def _pool(
    s: Scope, op: str, x: str, fill: float, counts: list[Dim], kernel: Ints, strides: Ints,
    pads: Ints, high: list[Dim], dilations: Ints,
) -> str:  # fmt: skip
    k = len(kernel)
    low = pads[:k]
    padded = any(d != 0 for d in (*low, *high))
    known = max(dilations) == 1 and _takes(s, op, k, s.dtype(x))
    attrs: dict[str, Any] = {"padding": "VALID"}
    if padded and known and k == 2 and op == "MaxPool" and all(isinstance(d, int) for d in high):
        attrs = explicit(low, [int(d) for d in high])
    elif padded:
        pairs = paddings(s, spatial(low, 0), spatial(high, 0))
        x = s.op("PadV2", x, pairs, like(s, x, fill))
    if not known:
        return _folded(s, op, x, counts, kernel, strides, dilations)
    return _kernel(s, op, x, kernel, strides, attrs)


def _takes(s: Scope, op: str, k: int, dtype: str) -> bool:
    return dtype in (s.target.takes(f"{op}3D" if k == 3 else op, 0) or ())


def _kernel(
    s: Scope, op: str, x: str, kernel: Ints, strides: Ints, attrs: Mapping[str, Any]
) -> str:
    """One op of TensorFlow; a single spatial axis is the second of two."""
    k = len(kernel)
    if k == 1:
        x = s.op("ExpandDims", x, integer(s, 1))
        kernel, strides = (1, *kernel), (1, *strides)
    window: dict[str, Any] = {"ksize": spatial(kernel, 1), "strides": spatial(strides, 1)}
    y = s.op(f"{op}3D" if k == 3 else op, x, **window, **attrs)
    return str(s.op("Squeeze", y, squeeze_dims=(1,)) if k == 1 else y)


def _folded(
    s: Scope, op: str, x: str, counts: list[Dim], kernel: Ints, strides: Ints, dilations: Ints
) -> str:
    rank = len(kernel) + 2
    for i, size in enumerate(kernel):
        reach = dm.add(dm.mul(dm.sub(counts[i], 1), strides[i]), 1)
        others = ((1 << rank) - 1) & ~(2 << i)
        pieces = []
        for at in range(0, size * dilations[i], dilations[i]):
            bounds = [[0] * rank, [0] * rank, [1] * rank]  # type: list[list[Dim]]
            bounds[0][i + 1], bounds[1][i + 1] = at, dm.add(reach, at)
            bounds[2][i + 1] = strides[i]
            cut = (tuple(b) for b in bounds)
            pieces.append(s.op("StridedSlice", x, *cut, begin_mask=others, end_mask=others))
        x = pieces[0]
        for piece in pieces[1:]:
            x = s.op("Maximum" if op == "MaxPool" else "AddV2", x, piece)
        if op == "AvgPool":
            x = s.op("RealDiv", x, like(s, x, size))
    return x


def _share(
    s: Scope, y: str, count: Dim, kernel: int, stride: int, low: int, first: int, last: Dim
) -> str:
    """kernel / (elements of each window from place ``first`` to ``last``), a vector."""
    if isinstance(count, int) and isinstance(last, int):
        start = np.arange(count) * stride - low
        inside = np.minimum(start + kernel, last) - np.maximum(start, first)
        return s.const(kernel / inside, dtype=s.dtype(y))
    place = s.op("Sub", s.op("Mul", arange(s, count), scalar(s, stride)), scalar(s, low))
    end = s.op("Minimum", s.op("AddV2", place, scalar(s, kernel)), scalar(s, last))
    within = s.cast(s.op("Sub", end, s.op("Maximum", place, scalar(s, first))), s.dtype(y))
    return str(s.op("RealDiv", like(s, y, kernel), within))
