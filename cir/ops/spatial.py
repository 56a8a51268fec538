"""Pooling and resizing, channels first: x [N, C, *S]."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cir import dim as dims
from cir.convolution import pad_spatial
from cir.dim import Dim
from cir.graph import TensorType
from cir.infer import (
    Attrs,
    Types,
    ceil_div,
    need_choice,
    need_length,
    need_min_rank,
    need_positive,
    typed,
    window_count,
)
from cir.kernel import Array, Ints, accumulator, kernel
from cir.spec import InferContext, InferError, op


def pool_count(
    n: Dim, kernel: int, stride: int, dilation: int, lo: int, hi: int, ceil: bool
) -> Dim:
    """Windows on one axis; in ceil mode a partial one too if it starts left of the high pad."""
    out = window_count(n, kernel, stride, dilation, lo + hi)
    if not ceil or stride == 1:
        return out
    span = dilation * (kernel - 1) + 1
    most = dims.add(ceil_div(dims.add(n, lo + hi - span), stride), 1)
    started = ceil_div(dims.add(n, lo), stride)
    if isinstance(most, int) and isinstance(started, int):
        return min(most, started)
    return dims.minimum(most, started)


def _infer_pool(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    k = t.rank - 2
    if not 1 <= k <= 3:
        raise InferError(f"x must be [N, C, *S] with 1 to 3 spatial axes, is {t}")
    kernel = need_length(attrs, "kernel", k, "one for each spatial axis")
    strides = need_length(attrs, "strides", k, "one for each spatial axis")
    pads = need_length(attrs, "pads", 2 * k, "the low pads of the spatial axes, then the high ones")
    dilations = (1,) * k
    if "dilations" in attrs:
        dilations = need_length(attrs, "dilations", k, "one for each spatial axis")
        need_positive(attrs, "dilations")
    need_positive(attrs, "kernel", "strides")
    for i in range(k):
        span = dilations[i] * (kernel[i] - 1) + 1
        if not (0 <= pads[i] < span and 0 <= pads[i + k] < span):
            raise InferError(f"pads {pads} must be from 0 to below the window, which spans {span}")
    out = [
        pool_count(t.shape[i + 2], kernel[i], strides[i], dilations[i], pads[i], pads[i + k],
                   attrs["ceil_mode"])
        for i in range(k)
    ]  # fmt: skip
    return [TensorType(t.dtype, (*t.shape[:2], *out))]


def _pool(
    x: Array, combine: Callable[..., Any], fill: float, counts: Sequence[int],
    kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int],
) -> Array:  # fmt: skip
    """Fold windows with a ufunc, one spatial axis after the other: both pools are separable."""
    k = len(kernel)
    # Ceil mode may need more than the stated padding on the high side.
    high = [
        max(pads[i + k], (counts[i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1
            - x.shape[i + 2] - pads[i])
        for i in range(k)
    ]  # fmt: skip
    x = pad_spatial(x, pads[:k], high, fill)
    for i in range(k):
        pieces = [
            x[
                (slice(None),) * (i + 2)
                + (slice(a, a + (counts[i] - 1) * strides[i] + 1, strides[i]),)
            ]
            for a in range(0, kernel[i] * dilations[i], dilations[i])
        ]
        acc = pieces[0].copy()
        for piece in pieces[1:]:
            combine(acc, piece, out=acc)
        x = acc
    return x


def _counts(
    x: Array, kernel: Any, strides: Any, pads: Any, dilations: Any, ceil: bool
) -> list[int]:
    k = len(kernel)
    return [
        int(
            pool_count(
                x.shape[i + 2], kernel[i], strides[i], dilations[i], pads[i], pads[i + k], ceil
            )
        )
        for i in range(k)
    ]


@op("max_pool(x; kernel: ints, strides: ints, pads: ints, dilations: ints,"
    " ceil_mode: bool = False)",
    domain="number", infer=_infer_pool,
    samples=[{"inputs": ["float32[2,3,7,6]"], "kernel": [3, 3], "strides": [2, 2],
              "pads": [1, 1, 1, 1], "dilations": [1, 1]},
             {"inputs": ["float32[1,2,8,7]"], "kernel": [2, 3], "strides": [2, 2],
              "pads": [0, 0, 0, 0], "dilations": [2, 1], "ceil_mode": True},
             {"inputs": ["int64[1,2,6]"], "kernel": [2], "strides": [2], "pads": [0, 1],
              "dilations": [1]}])  # fmt: skip
@kernel
def max_pool(
    x: Array, *, kernel: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil_mode: bool
) -> Array:
    """Largest element of each window: [N, C, *out]; padding never wins.

    out = (S + low pad + high pad - dilation*(k - 1) - 1)//stride + 1, rounded up instead in ceil
    mode, where a window that would start in the high padding is left out.
    """
    low = -math.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    counts = _counts(x, kernel, strides, pads, dilations, ceil_mode)
    return _pool(x, np.maximum, low, counts, kernel, strides, pads, dilations)


@op("avg_pool(x; kernel: ints, strides: ints, pads: ints, ceil_mode: bool = False,"
    " count_include_pad: bool = False)",
    domain="float", infer=_infer_pool,
    samples=[{"inputs": ["float32[2,3,7,6]"], "kernel": [3, 3], "strides": [2, 2],
              "pads": [1, 1, 1, 1]},
             {"inputs": ["float32[1,2,8,7]"], "kernel": [3, 2], "strides": [2, 2],
              "pads": [1, 0, 1, 0], "ceil_mode": True, "count_include_pad": True},
             {"inputs": ["float32[1,2,4,4]"], "kernel": [4, 4], "strides": [4, 4],
              "pads": [0, 0, 0, 0]}])  # fmt: skip
@kernel
def avg_pool(
    x: Array, *, kernel: Ints, strides: Ints, pads: Ints, ceil_mode: bool, count_include_pad: bool
) -> Array:
    """Mean of each window: [N, C, *out]; sizes as max_pool.

    The divisor counts the window's elements inside the input, with count_include_pad those inside
    the stated padding too.
    """
    k = len(kernel)
    counts = _counts(x, kernel, strides, pads, (1,) * k, ceil_mode)
    y = _pool(x.astype(accumulator(x.dtype)), np.add, 0, counts, kernel, strides, pads, (1,) * k)
    for i in range(k):
        n, hi = x.shape[i + 2], pads[i + k]
        start = np.arange(counts[i]) * strides[i] - pads[i]
        end = np.minimum(start + kernel[i], n + hi)
        inside = end - start if count_include_pad else np.minimum(end, n) - np.maximum(start, 0)
        y /= inside.reshape(-1, *[1] * (k - 1 - i))
    return y


_MODES = ("nearest", "linear", "cubic")
_COORDINATES = ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel")
_ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


def _infer_resize(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    need_min_rank(t, 3, "x")
    sizes = need_length(attrs, "sizes", t.rank - 2, f"one for each spatial axis of {t}")
    mode = need_choice(attrs, "mode", _MODES)
    need_choice(attrs, "coordinates", _COORDINATES)
    need_choice(attrs, "rounding", _ROUNDINGS)
    if any(type(s) is int and s < 1 for s in sizes):
        raise InferError(f"sizes {sizes} must be positive")
    if mode != "nearest" and "int" in t.dtype:
        raise InferError(f"mode {mode} needs a floating x, is {t}: cast first or use nearest")
    return [TensorType(t.dtype, (*t.shape[:2], *sizes))]


def _position(coordinates: str, n: int, m: int) -> tuple[Array, int]:
    """Input coordinate of each of m output places on an axis of n, as (numerators, denominator)."""
    i = np.arange(m, dtype=np.int64)
    if coordinates == "asymmetric":
        return i * n, m
    if coordinates == "align_corners":
        return (i * (n - 1), m - 1) if m > 1 else (i, 1)
    if coordinates == "pytorch_half_pixel" and m == 1:
        return i, 1
    return (2 * i + 1) * n - m, 2 * m


def _nearest(num: Array, den: int, rounding: str) -> Array:
    if rounding == "floor":
        return num // den
    if rounding == "ceil":
        return -(-num // den)
    if rounding == "round_prefer_floor":
        return -((den - 2 * num) // (2 * den))
    return (2 * num + den) // (2 * den)


def _cubic(t: Array, a: float = -0.75) -> list[Array]:
    """Weights of four neighbours at fraction t (R. Keys, 1981; a as PyTorch and ONNX have it)."""

    def near(d: Array) -> Array:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Array) -> Array:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _resize_axis(x: Array, axis: int, m: int, mode: str, coordinates: str, rounding: str) -> Any:
    n = x.shape[axis]
    num, den = _position(coordinates, n, m)
    if mode == "nearest":
        return np.take(x, np.clip(_nearest(num, den, rounding), 0, n - 1), axis=axis)
    base = num // den
    fraction = (num - base * den) / den
    weights = [1 - fraction, fraction] if mode == "linear" else _cubic(fraction)
    first = 0 if mode == "linear" else -1
    out: Any = 0
    for i, w in enumerate(weights):
        w = w.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1 - axis))
        out = out + np.take(x, np.clip(base + (first + i), 0, n - 1), axis=axis) * w
    return out


@op("resize(x; sizes: dims, mode: str = 'nearest', coordinates: str = 'asymmetric',"
    " rounding: str = 'floor')",
    domain="number", infer=_infer_resize,
    samples=[{"inputs": ["float32[1,2,3,4]"], "sizes": [6, 8]},
             {"inputs": ["float32[1,2,5,4]"], "sizes": [3, 7], "coordinates": "half_pixel",
              "rounding": "round_prefer_ceil"},
             {"inputs": ["float32[2,2,3,4]"], "sizes": [5, 3], "mode": "linear",
              "coordinates": "half_pixel"},
             {"inputs": ["float32[1,2,3,4]"], "sizes": [7, 2], "mode": "linear",
              "coordinates": "align_corners"},
             {"inputs": ["float32[1,1,5,4]"], "sizes": [7, 6], "mode": "cubic",
              "coordinates": "half_pixel"},
             {"inputs": ["float32[1,2,4]"], "sizes": [1], "mode": "linear",
              "coordinates": "pytorch_half_pixel"}])  # fmt: skip
@kernel
def resize(x: Array, *, sizes: Ints, mode: str, coordinates: str, rounding: str) -> Array:
    """Spatial axes resampled to ``sizes``: [N, C, *sizes].

    With n elements in and m out, output place i reads the input at: asymmetric i*n/m; half_pixel
    (i + 1/2)*n/m - 1/2; align_corners i*(n - 1)/(m - 1); pytorch_half_pixel as half_pixel, but 0
    when m = 1. nearest rounds that by ``rounding``; linear and cubic (a = -0.75) interpolate
    between neighbours, the edge repeated. Coordinates are computed exactly, as fractions.
    """
    for i, m in enumerate(sizes):
        if m != x.shape[i + 2]:
            x = _resize_axis(x, i + 2, m, mode, coordinates, rounding)
    return x
