"""Convolution as contiguous matrix products: windows are laid out block by block for BLAS.

The columns of a block of output rows fill one [C/g * prod(k), positions] matrix (im2col), so that
the weights multiply it as they lie in memory, without a strided slice that BLAS would refuse.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

#: Bytes of a column block: large enough for BLAS, small enough to stay near the caches.
_BLOCK_BYTES = 8 << 20
#: Output elements of a block of depthwise channels: few enough to stay in the second-level cache.
_CHANNEL_ELEMENTS = 1 << 15


def pad_spatial(
    x: np.ndarray, lo: Sequence[int], hi: Sequence[int], value: float = 0
) -> np.ndarray:
    """``x`` with its trailing axes padded by a value; x itself when nothing is padded."""
    if not any(lo) and not any(hi):
        return x
    k = len(lo)
    lead = x.ndim - k
    shape = (*x.shape[:lead], *(n + a + b for n, a, b in zip(x.shape[lead:], lo, hi)))
    out = np.full(shape, value, x.dtype) if value else np.zeros(shape, x.dtype)
    inner: Any = (..., *(slice(a, a + n) for a, n in zip(lo, x.shape[lead:])))
    out[inner] = x
    return out


def conv(
    x: np.ndarray,
    w: np.ndarray,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> np.ndarray:
    """Cross-correlation of x [N, C, *S] with w [O, C/groups, *k]; gives [N, O, *out].

    ``pads`` holds the low pads of the spatial axes, then the high ones.
    """
    k = w.ndim - 2
    kernel = w.shape[2:]
    n, c = x.shape[:2]
    o = w.shape[0]
    xp = pad_spatial(x, pads[:k], pads[k:])
    out_shape = tuple(
        (size - d * (kk - 1) - 1) // s + 1
        for size, kk, s, d in zip(xp.shape[2:], kernel, strides, dilations)
    )
    taps = math.prod(kernel)
    weights = np.ascontiguousarray(w).reshape(groups, o // groups, c // groups * taps)
    out = np.empty((n, groups, o // groups, math.prod(out_shape)), x.dtype)
    if taps == 1 and all(s == 1 for s in strides):
        columns = np.ascontiguousarray(xp).reshape(n, groups, c // groups, -1)
        np.matmul(weights, columns, out=out)
        return out.reshape(n, o, *out_shape)
    if c == groups and taps > 1:
        return _depthwise(xp, w, out.reshape(n, o, *out_shape), strides, dilations)

    step = xp.strides[2:]
    windows = as_strided(
        xp,
        (n, c, *kernel, *out_shape),
        (*xp.strides[:2], *(t * d for t, d in zip(step, dilations)),
         *(t * s for t, s in zip(step, strides))),
        writeable=False,
    )  # fmt: skip
    row = math.prod(out_shape[1:])
    rows = _rows(c * taps * row * x.itemsize, out_shape[0])
    buffer = np.empty(c * taps * rows * row, x.dtype)
    ahead = (slice(None),) * (1 + k)
    for i in range(n):
        for a in range(0, out_shape[0], rows):
            b = min(a + rows, out_shape[0])
            columns = buffer[: c * taps * (b - a) * row].reshape(c, *kernel, b - a, *out_shape[1:])
            block: Any = (*ahead, slice(a, b))
            np.copyto(columns, windows[i][block])
            columns = columns.reshape(groups, c // groups * taps, (b - a) * row)
            np.matmul(weights, columns, out=out[i, :, :, a * row : b * row])
    return out.reshape(n, o, *out_shape)


def _rows(row_bytes: int, total: int) -> int:
    """Rows of a block, at least one, at most all."""
    return max(1, min(total, _BLOCK_BYTES // max(row_bytes, 1)))


def _shifted(
    kernel: Sequence[int], count: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Iterator[tuple[Any, Any]]:
    """Indices of each kernel offset, behind two axes, and of what it meets in the trailing axes."""
    whole = slice(None)
    for at in np.ndindex(*kernel):
        met = [
            slice(i * d, i * d + s * (m - 1) + 1, s)
            for i, d, s, m in zip(at, dilations, strides, count)
        ]
        yield (whole, whole, *at), (..., *met)


def _depthwise(
    xp: np.ndarray, w: np.ndarray, out: np.ndarray, strides: Sequence[int], dilations: Sequence[int]
) -> np.ndarray:
    """One input channel a group: accumulate over kernel offsets, a matrix product has no use."""
    k = w.ndim - 2
    n, o, *count = out.shape
    groups = xp.shape[1]
    out = out.reshape(n, groups, o // groups, *count)
    weights = w.reshape(groups, o // groups, *w.shape[2:], *[1] * k)
    some = min(groups, max(1, _CHANNEL_ELEMENTS // math.prod(out.shape[2:])))
    term = np.empty((some, *out.shape[2:]), out.dtype)
    offsets = list(_shifted(w.shape[2:], count, strides, dilations))
    for i in range(n):
        for a in range(0, groups, some):
            acc, xs, ws = out[i, a : a + some], xp[i, a : a + some, None], weights[a : a + some]
            tmp = term[: len(acc)]
            for j, (tap, where) in enumerate(offsets):
                np.multiply(xs[where], ws[tap], out=tmp if j else acc)
                if j:
                    acc += tmp
    return out.reshape(n, o, *count)


def conv_transpose(
    x: np.ndarray,
    w: np.ndarray,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    output_padding: Sequence[int],
) -> np.ndarray:
    """Transposed convolution of x [N, C, *S] with w [C, O/groups, *k]; gives [N, O, *out].

    out = (S - 1)*stride + dilation*(k - 1) + 1 + output_padding - low pad - high pad on each axis.
    """
    k = w.ndim - 2
    kernel, count = w.shape[2:], x.shape[2:]
    n, c = x.shape[:2]
    per = w.shape[1]
    full = tuple(
        (m - 1) * s + d * (kk - 1) + 1 + extra
        for m, kk, s, d, extra in zip(count, kernel, strides, dilations, output_padding)
    )
    weights = np.ascontiguousarray(w.reshape(groups, c // groups, -1).swapaxes(1, 2))
    out = np.zeros((n, groups, per, *full), x.dtype)
    row = math.prod(count[1:])
    rows = _rows(weights.shape[1] * groups * row * x.itemsize, count[0])
    for i in range(n):
        xi = np.ascontiguousarray(x[i]).reshape(groups, c // groups, -1)
        for a in range(0, count[0], rows):
            b = min(a + rows, count[0])
            columns = np.matmul(weights, xi[:, :, a * row : b * row])
            columns = columns.reshape(groups, per, *kernel, b - a, *count[1:])
            # Output rows that this block of input rows meets start at row a * stride.
            target = out[i][:, :, a * strides[0] :]
            for tap, where in _shifted(kernel, (b - a, *count[1:]), strides, dilations):
                target[where] += columns[tap]
    crop: Any = (..., *(slice(lo, m - hi) for lo, hi, m in zip(pads[:k], pads[k:], full)))
    return np.ascontiguousarray(out.reshape(n, groups * per, *full)[crop])
