"""Resizing of channels-last data: TensorFlow's own kernels where they agree, else by gathering.

The kernels compute source places in float32, so nearest neighbours are compared with the exact ones
before. Gathering places are constants, or computed from symbolic sizes as exact fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cir import dim as dm
from cir.dim import Dim
from cir.ops.spatial import resize as reference
from framework_adapter.target import Scope
from framework_adapter.tensorflow.dims import arange, scalar
from framework_adapter.tensorflow.parts import integer, like, operand

#: Coordinates -> attributes of TensorFlow's kernels.
_FLAGS: dict[str, dict[str, Any]] = {
    "asymmetric": {},
    "half_pixel": {"half_pixel_centers": True},
    "pytorch_half_pixel": {"half_pixel_centers": True},
    "align_corners": {"align_corners": True},
}


def resize(
    s: Scope, x: str, *, sizes: tuple[Dim, ...], mode: str, coordinates: str, rounding: str
) -> str:
    """The spatial axes of [N, *S, C] resampled."""
    have = operand(s, 0).shape[1:-1]
    op = "ResizeNearestNeighbor" if mode == "nearest" else "ResizeBilinear"
    single = mode == "linear" and s.dtype(x) == "float64"  # ResizeBilinear gives float32
    if len(sizes) == 2 and s.dtype(x) in (s.target.takes(op, 0) or ()) and not single:
        flags = _kernel(have, sizes, mode, coordinates, rounding)
        if flags is not None:
            return str(s.op(op, x, s.cast(s.ints(sizes), "int32"), **flags))
    for i, (n, m) in enumerate(zip(have, sizes)):
        if n == m:
            continue
        if mode == "cubic":
            x = _mixed(s, x, i + 1, int(n), int(m), coordinates)
        elif mode == "nearest":
            x = _picked(s, x, i + 1, _nearest(s, n, m, coordinates, rounding))
        else:
            x = _blended(s, x, i + 1, n, *_between(s, x, n, m, coordinates))
    return x


def _kernel(
    have: Sequence[Dim], sizes: Sequence[Dim], mode: str, coordinates: str, rounding: str
) -> dict[str, Any] | None:
    """Attributes with which TensorFlow's kernel for two axes gives the same; None without such."""
    if mode == "linear":
        single = coordinates == "pytorch_half_pixel" and any(
            m == 1 or isinstance(m, str) for m in sizes
        )
        return None if single else _FLAGS[coordinates]
    if mode == "cubic" or not all(isinstance(d, int) for d in (*have, *sizes)):
        return None
    pairs = [(int(n), int(m)) for n, m in zip(have, sizes)]
    exact = [_exact(n, m, coordinates, rounding) for n, m in pairs]
    for flags in _FLAGS.values():
        if all(np.array_equal(_as_kernel(n, m, flags), e) for (n, m), e in zip(pairs, exact)):
            return flags
    return None


def _as_kernel(n: int, m: int, flags: dict[str, bool]) -> np.ndarray:
    """Source places as ResizeNearestNeighbor computes them, in float32."""
    i = np.arange(m, dtype=np.float32)
    if "align_corners" in flags:
        scale = np.float32(n - 1) / np.float32(m - 1) if m > 1 else np.float32(n) / np.float32(m)
        place = np.floor(i * scale + np.float32(0.5))
    elif flags:
        place = np.floor((i + np.float32(0.5)) * (np.float32(n) / np.float32(m)))
    else:
        place = np.floor(i * (np.float32(n) / np.float32(m)))
    return np.clip(place, 0, n - 1).astype(np.int64)


def _exact(n: int, m: int, coordinates: str, rounding: str) -> np.ndarray:
    """Nearest source places: what resizing 0, 1, ... gives."""
    line = np.arange(n, dtype=np.int64).reshape(1, 1, n)
    kw = {"mode": "nearest", "coordinates": coordinates, "rounding": rounding}
    return np.asarray(reference(line, sizes=(m,), **kw)).reshape(m)


def _picked(s: Scope, x: str, axis: int, places: str) -> str:
    return str(s.op("GatherV2", x, places, integer(s, axis)))


def _nearest(s: Scope, n: Dim, m: Dim, coordinates: str, rounding: str) -> str:
    """int64[m] of nearest source places."""
    if isinstance(n, int) and isinstance(m, int):
        return s.const(_exact(n, m, coordinates, rounding))
    num, den = _fraction(s, n, m, coordinates)
    two = scalar(s, 2)
    if rounding in ("ceil", "round_prefer_floor"):
        num = s.op("Neg", num)
    if rounding.startswith("round"):
        num = s.op("AddV2", s.op("Mul", num, two), den)
        den = s.op("Mul", den, two)
    place = s.op("FloorDiv", num, den)
    if rounding in ("ceil", "round_prefer_floor"):
        place = s.op("Neg", place)
    return _inside(s, place, n)


def _inside(s: Scope, place: str, n: Dim) -> str:
    last = scalar(s, dm.sub(n, 1))
    return str(s.op("Maximum", s.op("Minimum", place, last), scalar(s, 0)))


def _fraction(s: Scope, n: Dim, m: Dim, coordinates: str) -> tuple[str, str]:
    """(int64[m] numerators, denominator) of the source places."""
    i = arange(s, m)
    if coordinates == "asymmetric":
        return s.op("Mul", i, scalar(s, n)), scalar(s, m)
    if coordinates == "align_corners":
        num = s.op("Mul", i, scalar(s, dm.sub(n, 1)))
        return num, scalar(s, dm.maximum(dm.sub(m, 1), 1))
    twice = s.op("AddV2", s.op("Mul", i, scalar(s, 2)), scalar(s, 1))
    num = s.op("Sub", s.op("Mul", twice, scalar(s, n)), scalar(s, m))
    if coordinates == "pytorch_half_pixel":  # place 0 when m is 1
        num = s.op("Mul", num, scalar(s, dm.minimum(dm.sub(m, 1), 1)))
    return num, scalar(s, dm.mul(m, 2))


def _between(s: Scope, x: str, n: Dim, m: Dim, coordinates: str) -> tuple[str, str]:
    """(int64[m] places on the left, their distances in the dtype of x) for linear interpolation."""
    if isinstance(n, int) and isinstance(m, int):  # resizing 0, 1, ... gives the places
        line = np.arange(n, dtype=np.float64).reshape(1, 1, n)
        at = np.asarray(
            reference(line, sizes=(m,), mode="linear", coordinates=coordinates, rounding="floor")
        )
        at = at.reshape(m)
        left = np.floor(at)
        return s.const(left.astype(np.int64)), s.const(at - left, dtype=s.dtype(x))
    num, den = _fraction(s, n, m, coordinates)
    left = s.op("FloorDiv", num, den)
    rest = s.cast(s.op("Sub", num, s.op("Mul", left, den)), s.dtype(x))
    return left, s.op("RealDiv", rest, s.cast(den, s.dtype(x)))


def _blended(s: Scope, x: str, axis: int, n: Dim, left: str, distance: str) -> str:
    right = s.op("AddV2", left, scalar(s, 1))
    a, b = (_picked(s, x, axis, _inside(s, v, n)) for v in (left, right))
    rank = operand(s, 0).rank
    share = s.op("Reshape", distance, (-1, *[1] * (rank - 1 - axis)))
    rest = s.op("Sub", like(s, x, 1), share)
    return str(s.op("AddV2", s.op("Mul", a, rest), s.op("Mul", b, share)))


def _mixed(s: Scope, x: str, axis: int, n: int, m: int, coordinates: str) -> str:
    """Cubic interpolation, as a product with the matrix that resizing the unit vectors gives."""
    unit = np.eye(n)[None]
    kw = {"mode": "cubic", "coordinates": coordinates, "rounding": "floor"}
    matrix = np.asarray(reference(unit, sizes=(m,), **kw))[0]
    labels = "abcde"[: operand(s, 0).rank]
    term = labels[axis]
    equation = f"{labels},{term}z->{labels.replace(term, 'z')}"
    return str(s.op("Einsum", x, s.const(matrix, dtype=s.dtype(x)), equation=equation))
