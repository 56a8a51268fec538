"""Emission handlers of resizing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.mindspore.lite.dims import made
from framework_adapter.mindspore.lite.neighbours import operand
from framework_adapter.mindspore.lite.windows import Ints, flattened, image
from framework_adapter.target import Scope

_MODES = {"nearest": "NEAREST", "linear": "LINEAR", "cubic": "CUBIC"}
_COORDINATES = {
    "asymmetric": "ASYMMETRIC", "half_pixel": "HALF_PIXEL", "pytorch_half_pixel": "HALF_PIXEL",
    "align_corners": "ALIGN_CORNERS",
}  # fmt: skip
#: How the kernel rounds to the nearest element, by coordinates.
_ROUNDS = {"asymmetric": "floor", "align_corners": "round_prefer_ceil"}


def resizable(
    shape: Sequence[Dim], sizes: Sequence[Dim], mode: str, coordinates: str, rounding: str
) -> bool:
    """Whether the Resize kernel computes this: its coordinates are float32, so the nearest element
    is certain for whole factors only.
    """
    if any(m == 1 for m in sizes):  # where coordinates differ at a size of 1
        return all(n == m for n, m in zip(shape[1:-1], sizes))
    if mode != "nearest":
        return True
    whole = all(dm.divides(n, m) is True for n, m in zip(shape[1:-1], sizes) if n != 0)
    return whole and _ROUNDS.get(coordinates) == rounding and coordinates == "asymmetric"


def resize(
    s: Scope, x: str, *, sizes: tuple[Dim, ...], mode: str, coordinates: str, rounding: str
) -> str:
    """Resize to a height and width."""
    x, flat = image(s, x)
    want = (1, *sizes) if flat else sizes
    known = all(isinstance(d, int) for d in want)
    y = s.op(
        "Resize", x, want, format="NHWC", method=_MODES[mode], new_height=want[0] if known else 0,
        new_width=want[1] if known else 0, coordinate_transform_mode=_COORDINATES[coordinates],
        cubic_coeff=-0.75 if mode == "cubic" else 0.0,
        nearest_mode="FLOOR" if mode == "nearest" else "NORMAL",
    )  # fmt: skip
    return flattened(s, y, flat)


def resampled(s: Scope, x: str, *, sizes: Ints, mode: str, coordinates: str, rounding: str) -> str:
    """What Resize does not have: constant indices along each axis, or weights of all elements."""
    from cir.ops.spatial import resize as reference

    shape = list(operand(s, 0).shape)
    for axis, m in enumerate(sizes, 1):
        n = int(shape[axis])
        if n == m:
            continue
        shape[axis] = m
        kind = {"mode": mode, "coordinates": coordinates, "rounding": rounding}
        weights = reference(np.eye(n)[None], sizes=(m,), **kind)[0].T  # [m, n]
        if mode == "nearest":
            places = s.const(weights.argmax(axis=1))
            x = made(s, s.op("Gather", x, places, s.const(np.int64(axis))), shape)
            continue
        along = (0, *(i for i in range(1, len(shape)) if i != axis), axis)
        turned = [shape[i] for i in along[:-1]]
        x = made(s, s.op("Transpose", x, along), (*turned, n))
        matrix = s.const(weights.astype(np.float32))
        x = made(s, s.op("MatMulFusion", x, matrix, transpose_b=True), (*turned, m))
        x = made(s, s.op("Transpose", x, tuple(map(int, np.argsort(along)))), shape)
    return x
