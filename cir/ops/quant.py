"""Affine quantisation, per tensor or per channel."""

from __future__ import annotations

import numpy as np

from cir.graph import TensorType
from cir.infer import Attrs, Types, same_dim, same_dtype, typed
from cir.kernel import Array, kernel
from cir.spec import InferContext, InferError, op

#: Storage dtype -> smallest and largest value (float8 saturates).
_RANGE: dict[str, tuple[float, float]] = {
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int32": (-(2**31), 2**31 - 1),
    "float8_e4m3fn": (-448.0, 448.0),
    "float8_e5m2": (-57344.0, 57344.0),
}


def _check(x: TensorType, scale: TensorType, zero_point: TensorType, axis: int) -> None:
    if scale.shape != zero_point.shape:
        raise InferError(f"scale is {scale}, zero_point {zero_point}: the shapes must be equal")
    if scale.rank > 1:
        raise InferError(f"scale must have rank 0 (per tensor) or 1 (per channel), is {scale}")
    if scale.rank == 1:
        same_dim(scale.shape[0], x.shape[axis], f"scale and axis {axis} of x {x}")


def _infer_quantize(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, scale, zero_point = typed(types, 0), typed(types, 1), typed(types, 2)
    same_dtype(x, scale)
    if zero_point.dtype not in _RANGE:
        raise InferError(
            f"zero_point is {zero_point}, its dtype must be one of: {', '.join(_RANGE)}"
        )
    _check(x, scale, zero_point, attrs["axis"])
    return [TensorType(zero_point.dtype, x.shape)]


def _along(t: Array, axis: int) -> Array:
    """A scale or zero point shaped to broadcast along a (negative) axis."""
    return t.reshape(*t.shape, *[1] * (-1 - axis)) if t.ndim else t


@op("quantize(x, scale, zero_point; axis: axis = -1)", infer=_infer_quantize, layout="axis",
    domain={"x": "float", "scale": "float", "zero_point": "any"},
    samples=[{"inputs": ["float32[2,3]", "+float32[]", "uint8[]<9"]},
             {"inputs": ["float32[2,3,4]", "+float32[3]", "int8[3]<9"], "axis": 1}])  # fmt: skip
@kernel
def quantize(x: Array, scale: Array, zero_point: Array, *, axis: int) -> Array:
    """``round(x / scale) + zero_point``, halves to even, saturated, in the dtype of zero_point.

    scale and zero_point have rank 0, or rank 1 along ``axis``. float8 does not round to integers.
    """
    name = zero_point.dtype.name
    lo, hi = _RANGE[name]
    y = x / _along(scale, axis)
    if "float" not in name:
        y = np.rint(y)
    y = y + _along(zero_point, axis).astype(np.float64)
    return np.clip(y, lo, hi).astype(zero_point.dtype)


def _infer_dequantize(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, scale, zero_point = typed(types, 0), typed(types, 1), typed(types, 2)
    same_dtype(x, zero_point)
    if x.dtype not in _RANGE:
        raise InferError(f"x is {x}, its dtype must be one of: {', '.join(_RANGE)}")
    _check(x, scale, zero_point, attrs["axis"])
    return [TensorType(scale.dtype, x.shape)]


@op("dequantize(x, scale, zero_point; axis: axis = -1)", infer=_infer_dequantize, layout="axis",
    domain={"x": "any", "scale": "float", "zero_point": "any"},
    decomposition=[
        "d = cast(x, dtype=scale.dtype)",
        "z = cast(zero_point, dtype=scale.dtype)",
        "y = (d - z) * scale if scale.rank == 0 else"
        " (d - reshape(z, shape=[*z.shape, *ntuple(1, -1 - axis)]))"
        " * reshape(scale, shape=[*z.shape, *ntuple(1, -1 - axis)])",
    ],
    samples=[{"inputs": ["uint8[2,3]<99", "+float32[]", "uint8[]<9"]},
             {"inputs": ["int8[2,3,4]<99", "+float32[3]", "int8[3]<9"], "axis": 1}])  # fmt: skip
@kernel
def dequantize(x: Array, scale: Array, zero_point: Array, *, axis: int) -> Array:
    """(x - zero_point) * scale in the dtype of scale, of rank 0, or of rank 1 along ``axis``."""
    shifted = x.astype(np.float64) - _along(zero_point, axis).astype(np.float64)
    return (shifted * _along(scale, axis)).astype(scale.dtype)
