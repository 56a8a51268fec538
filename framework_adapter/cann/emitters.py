"""Emission handlers: the IR ops whose GE form depends on ranks, constants or absent operands."""

from __future__ import annotations

from typing import Any

import numpy as np

from cir import dim as dm
from cir import dtype as dt
from cir.dim import Dim
from cir.graph import TensorType
from framework_adapter.cann.dims import reshaped
from framework_adapter.target import Scope

#: A bound beyond every axis: GE counts axes in 32 bits.
_END = 2**31 - 1


def _type(s: Scope, index: int) -> TensorType:
    name = s.node.inputs[index]
    assert name is not None
    return s.graph.types[name]


def paired(pads: tuple[int, ...]) -> tuple[int, ...]:
    """[lo..., hi...] as GE has pads: lo and hi of each axis side by side."""
    n = len(pads) // 2
    return tuple(p for i in range(n) for p in (pads[i], pads[n + i]))


def widened(s: Scope, v: str, axis: int) -> str:
    """``v`` with a new axis of size 1; a constant is stored so."""
    data = s.known(v)
    if data is None:
        return str(s.op("Unsqueeze", v, axes=(axis,)))
    key = ("widened", v, axis)
    if key not in s.memo:
        s.memo[key] = s.const(np.expand_dims(data, axis), f"{v}.{data.ndim + 1}d")
    return s.memo[key]


# -- elementwise, views and slices -----------------------------------------------------------------
def clip(s: Scope, x: str, *, min: float | None, max: float | None) -> str:  # noqa: A002
    """One bound is Maximum or Minimum; bounds beyond an integer dtype do not bound."""
    dtype = s.dtype(x)
    low, high = min, max
    if not dt.is_float(dtype):
        info = np.iinfo(dtype)
        low = None if low is None or low <= info.min else int(low)
        high = None if high is None or high >= info.max else int(high)
    if low is not None and high is not None:
        return str(s.op("ClipByValue", x, low, high))
    if low is not None:
        return str(s.op("Maximum", x, low))
    return x if high is None else str(s.op("Minimum", x, high))


def reshape(s: Scope, x: str, *, shape: tuple[Dim, ...]) -> str:
    """A view of the same elements."""
    return reshaped(s, x, _type(s, 0).shape, shape)


def slice(s: Scope, x: str, *, axes: Any, starts: Any, ends: Any, steps: Any) -> str:  # noqa: A001
    """Bounds that count from the end of a symbolic axis need no arithmetic."""
    t = _type(s, 0)

    def bound(d: Dim, n: Dim) -> Dim:
        gap = dm.sub(d, n) if isinstance(d, str) else 0
        return gap if isinstance(gap, int) and gap < 0 else d

    first: list[Dim] = []
    last: list[Dim] = []
    for a, start, end, step in zip(axes, starts, ends, steps):
        n = t.shape[a]
        open_end = end == n and isinstance(n, str)
        first.append(_END if start == n and isinstance(n, str) else bound(start, n))
        if step < 0 and end == -1:  # -1 would be the last element: further back than the first
            last.append(-n - 1 if isinstance(n, int) else -_END)
        else:
            last.append(_END if open_end else bound(end, n))
    return str(s.op("StridedSliceV2", x, tuple(first), tuple(last), tuple(axes), tuple(steps)))


# -- matrix products -------------------------------------------------------------------------------
def matmul(s: Scope, a: str, b: str) -> str:
    """MatMulV2 of two matrices, BatchMatMulV2 otherwise; a vector becomes a row or a column."""
    ranks = _type(s, 0).rank, _type(s, 1).rank
    if ranks == (2, 2):
        return str(s.op("MatMulV2", a, b))
    if ranks[0] == 1:
        a = widened(s, a, 0)
    if ranks[1] == 1:
        b = widened(s, b, 1)
    y = s.op("BatchMatMulV2", a, b)
    gone = (*((-2,) if ranks[0] == 1 else ()), *((-1,) if ranks[1] == 1 else ()))
    return str(s.op("Squeeze", y, axis=gone)) if gone else str(y)


def linear(s: Scope, x: str, w: str, b: str | None = None) -> str:
    """The weight is read transposed, the bias is the product's own."""
    rank = _type(s, 0).rank
    if rank == 2:
        return str(s.op("MatMulV2", x, w, b, transpose_x2=True))
    if rank == 1:
        return str(s.op("Squeeze", s.op("MatMulV2", widened(s, x, 0), w, b, transpose_x2=True),
                        axis=(0,)))  # fmt: skip
    return str(s.op("BatchMatMulV2", x, w, b, adj_x2=True))


def einsum(s: Scope, *xs: str, equation: str) -> str:
    """Einsum; its N is the number of operands."""
    return str(s.op("Einsum", *xs, equation=equation))


def causal_attention(
    s: Scope, q: str, k: str, v: str, mask: str | None = None, *, scale: float, causal: bool
) -> str:
    """Products and a softmax between them; keys after the query are cut off by a constant."""
    rows, columns = int(_type(s, 0).shape[-2]), int(_type(s, 1).shape[-2])
    scores = s.op("Mul", s.op("BatchMatMulV2", q, k, adj_x2=True), scale)
    keep = s.const(np.tril(np.ones((rows, columns), bool)))
    scores = s.op("SelectV2", keep, scores, -np.inf)
    if mask is None:
        return str(s.op("BatchMatMulV2", s.op("SoftmaxV2", scores, axes=(-1,)), v))
    if s.dtype(mask) != "bool":
        share = s.op("SoftmaxV2", s.op("Add", scores, mask), axes=(-1,))
    else:  # a query that keeps no key gives zeros
        share = s.op("SoftmaxV2", s.op("SelectV2", mask, scores, -np.inf), axes=(-1,))
        share = s.op("SelectV2", s.op("IsNan", share), 0.0, share)
    return str(s.op("BatchMatMulV2", share, v))


# -- convolution, pooling, resizing ----------------------------------------------------------------
def conv(
    s: Scope, x: str, w: str, b: str | None = None, *, strides: Any, pads: Any, dilations: Any,
    groups: int,
) -> str:  # fmt: skip
    """Conv2D or Conv3D, NCHW; one spatial axis gets a second of size 1."""
    if len(strides) == 1:
        y = s.op("Conv2D", widened(s, x, 2), widened(s, w, 2), b, strides=(1, 1, 1, *strides),
                 pads=(0, 0, *pads), dilations=(1, 1, 1, *dilations), groups=groups,
                 data_format="NCHW")  # fmt: skip
        return str(s.op("Squeeze", y, axis=(2,)))
    op, layout = ("Conv2D", "NCHW") if len(strides) == 2 else ("Conv3D", "NCDHW")
    return str(s.op(op, x, w, b, strides=(1, 1, *strides), pads=paired(pads),
                    dilations=(1, 1, *dilations), groups=groups, data_format=layout))  # fmt: skip


def conv_transpose(
    s: Scope, x: str, w: str, b: str | None = None, *, strides: Any, pads: Any, dilations: Any,
    groups: int, output_padding: Any,
) -> str:  # fmt: skip
    """Conv2DTranspose or Conv3DTranspose; the size of the result is an operand."""
    size = s.graph.types[s.node.name].shape
    flat = len(strides) == 1
    if flat:
        x, w, size = widened(s, x, 2), widened(s, w, 2), (*size[:2], 1, size[2])
        strides, dilations, output_padding = (1, *strides), (1, *dilations), (0, *output_padding)
        pads = (0, pads[0], 0, pads[1])
    op, layout = ("Conv2DTranspose", "NCHW") if len(strides) == 2 else ("Conv3DTranspose", "NCDHW")
    y = s.op(op, tuple(size), x, w, b, strides=(1, 1, *strides), pads=paired(pads),
             dilations=(1, 1, *dilations), groups=groups, data_format=layout,
             output_padding=(0, 0, *output_padding))  # fmt: skip
    return str(s.op("Squeeze", y, axis=(2,))) if flat else str(y)


def max_pool(
    s: Scope, x: str, *, kernel: Any, strides: Any, pads: Any, dilations: Any, ceil_mode: bool
) -> str:
    """MaxPoolV3 or MaxPool3D."""
    if len(kernel) == 3:
        return str(s.op("MaxPool3D", x, ksize=(1, 1, *kernel), strides=(1, 1, *strides),
                        padding="CALCULATED", pads=paired(pads), ceil_mode=int(ceil_mode),
                        data_format="NCDHW"))  # fmt: skip
    return _pool(s, "MaxPoolV3", x, kernel, strides, pads, ceil_mode=ceil_mode)


def avg_pool(
    s: Scope, x: str, *, kernel: Any, strides: Any, pads: Any, ceil_mode: bool,
    count_include_pad: bool,
) -> str:  # fmt: skip
    """AvgPoolV2 or AvgPool3D."""
    if len(kernel) == 3:
        return str(s.op("AvgPool3D", x, ksize=(1, 1, *kernel), strides=(1, 1, *strides),
                        pads=paired(pads), ceil_mode=ceil_mode,
                        count_include_pad=count_include_pad, data_format="NCDHW"))  # fmt: skip
    return _pool(s, "AvgPoolV2", x, kernel, strides, pads, ceil_mode=ceil_mode,
                 exclusive=not count_include_pad)  # fmt: skip


def _pool(s: Scope, op: str, x: str, kernel: Any, strides: Any, pads: Any, **attrs: Any) -> str:
    flat = len(kernel) == 1
    if flat:
        x = widened(s, x, 2)
        kernel, strides, pads = (1, *kernel), (1, *strides), (0, pads[0], 0, pads[1])
    y = s.op(op, x, ksize=(1, 1, *kernel), strides=(1, 1, *strides), padding_mode="CALCULATED",
             pads=paired(pads), data_format="NCHW", **attrs)  # fmt: skip
    return str(s.op("Squeeze", y, axis=(2,))) if flat else str(y)


#: (mode, coordinates, rounding) -> (operator, align_corners, half_pixel_centers) of an exact form.
_RESIZE = {
    ("nearest", "asymmetric", "floor"): ("ResizeNearestNeighborV2", False, False),
    ("nearest", "half_pixel", "round_prefer_ceil"): ("ResizeNearestNeighborV2", False, True),
    ("nearest", "align_corners", "round_prefer_ceil"): ("ResizeNearestNeighborV2", True, False),
    ("linear", "asymmetric", ""): ("ResizeBilinearV2", False, False),
    ("linear", "half_pixel", ""): ("ResizeBilinearV2", False, True),
    ("linear", "align_corners", ""): ("ResizeBilinearV2", True, False),
}


def resize(s: Scope, x: str, *, sizes: Any, mode: str, coordinates: str, rounding: str) -> str:
    """The op for nearest and bilinear images where one is exact, Resize for the rest."""
    t = _type(s, 0)
    key = (mode, coordinates, rounding if mode == "nearest" else "")
    if t.rank == 4 and key in _RESIZE and (mode == "nearest" or t.dtype == "float32"):
        op, corners, half = _RESIZE[key]
        if all(isinstance(d, int) for d in sizes):
            target = s.const(np.array(sizes, np.int32))
        else:
            target = s.cast(s.ints(sizes), "int32")
        return str(s.op(op, x, target, align_corners=corners, half_pixel_centers=half))
    attrs: dict[str, Any] = {"nearest_mode": rounding} if mode == "nearest" else {}
    return str(s.op("Resize", x, None, None, (*t.shape[:2], *sizes), mode=mode,
                    coordinate_transformation_mode=coordinates, **attrs))  # fmt: skip


# -- recurrence and quantisation -------------------------------------------------------------------
def lstm(
    s: Scope, x: str, w: str, r: str, b: str | None = None, h: str | None = None,
    c: str | None = None, *, reverse: bool,
) -> Any:  # fmt: skip
    """CommonLSTM in one direction, which is an axis of its operands and results."""
    hidden = int(_type(s, 2).shape[1])
    if b is not None:  # GE adds a second bias, that of the state
        zeros = np.zeros(4 * hidden, dt.to_numpy(s.dtype(b)))
        known = s.known(b)
        if known is None:
            b = str(s.op("ConcatV2", b, s.const(zeros), s.const(np.asarray(0, np.int64))))
        else:
            b = s.const(np.concatenate([known, zeros]), f"{b}.both")
    rest = [v if v is None else widened(s, v, 0) for v in (w, r, b, None, h, c)]
    y, last, cell = s.op("CommonLSTM", x, *rest, results=3, hidden_size=hidden,
                         direction="reverse" if reverse else "forward")  # fmt: skip
    return [
        s.op("Squeeze", y, axis=(1,)),
        s.op("Squeeze", last, axis=(0,)),
        s.op("Squeeze", cell, axis=(0,)),
    ]


def quantize(s: Scope, x: str, scale: str, zero_point: str, *, axis: int) -> str:
    """By division, rounding and a cast: GE's quantising ops multiply by the scale instead."""
    zero = _type(s, 2)

    def along(v: str) -> str:
        return v if zero.rank == 0 else str(s.op("Reshape", v, (-1, *[1] * (-1 - axis))))

    info = np.iinfo(zero.dtype)
    y = s.op("Round", s.op("RealDiv", x, along(scale)))
    y = s.op("Add", y, along(s.cast(zero_point, s.dtype(x))))
    return s.cast(s.op("ClipByValue", y, float(info.min), float(info.max)), zero.dtype)
