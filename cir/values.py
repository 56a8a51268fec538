"""How numbers are written: floats as their shortest float32 decimal, inf and nan as words.

The shortest decimal is what people write, and what makes 1e-5 one number whether a framework hands
it out as a double or as the float32 nearest to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.graph import Const, TensorType

WORDS = ("nan", "inf", "-inf")
#: Constants up to this many elements are written into the CIR file itself.
INLINE_LIMIT = 16


def float32_text(value: float) -> str:
    """Shortest decimal of the float32 nearest to a number: ``1e-05``, ``0.35355338``, ``inf``."""
    with np.errstate(over="ignore"):
        return str(np.float32(value))


def plain_float(value: float) -> float | str:
    """A float as JSON takes it: a word for inf and nan, else the number that prints shortest.

    A value that float32 represents becomes the double nearest to its shortest float32 decimal
    (which rounds back to the same float32); any other value stays as it is.
    """
    if not math.isfinite(value):
        return str(float(value))
    with np.errstate(over="ignore"):
        narrow = np.float32(value)
    if float(narrow) != value:
        return float(value)
    short = float(str(narrow))
    return short if np.float32(short) == narrow else float(value)


def plain_attr(value: Any) -> Any:
    """An attribute as JSON takes it."""
    if isinstance(value, float):
        return plain_float(value)
    if isinstance(value, tuple):
        return [plain_attr(v) for v in value]
    return value


def is_inline(t: TensorType) -> bool:
    """Whether a constant of this type is written as numbers, not kept in the weights file."""
    return Const(t).size <= INLINE_LIMIT


def plain_elements(const: Const) -> list[Any]:
    """Elements of a constant as JSON takes them, row by row; complex ones as two numbers each.

    All is kept but the sign and payload of a nan.
    """
    arr = const.numpy().reshape(-1)
    dtype = const.type.dtype
    if dtype == "bool":
        return [bool(v) for v in arr]
    if dtype in dt.COMPLEX:
        arr = arr.view(np.float32 if dtype == "complex64" else np.float64)
    elif "int" in dtype:
        return [int(v) for v in arr]
    if arr.dtype == np.float64:  # exact: all its digits count
        return [float(v) if math.isfinite(v) else str(float(v)) for v in arr]
    return [plain_float(float(v)) for v in arr]


def const_of_elements(elements: Iterable[Any], t: TensorType) -> Const:
    """The constant of a static type from its elements, the inverse of ``plain_elements``.

    Raises ValueError when they are not elements of the type: wrong number, kind or range.
    """
    items = list(elements)
    want = Const(t).size * (2 if t.dtype in dt.COMPLEX else 1)
    if len(items) != want:
        raise ValueError(f"{len(items)} elements, {t} has {want}")
    kind = "bool" if t.dtype == "bool" else "int" if "int" in t.dtype else "float"
    for v in items:
        fits = {
            "bool": isinstance(v, bool),
            "int": isinstance(v, int) and not isinstance(v, bool),
            "float": v in WORDS if isinstance(v, str) else isinstance(v, (int, float)),
        }[kind]
        if not fits or (kind == "float" and isinstance(v, bool)):
            raise ValueError(f"{v!r} is not an element of {t}")
    return Const(t, _array(items, t, kind))


def _array(items: list[Any], t: TensorType, kind: str) -> np.ndarray:
    shape = tuple(int(d) for d in t.shape)
    want = dt.to_numpy(t.dtype)
    if kind == "bool":
        return np.array(items, dtype=bool).reshape(shape)
    if kind == "int":
        lo, hi = _int_range(t.dtype)
        for v in items:
            if not lo <= v <= hi:
                raise ValueError(f"{v} is outside {t.dtype}: {lo} to {hi}")
        wide = np.uint64 if t.dtype == "uint64" else np.int64
        return np.array(items, dtype=wide).astype(want).reshape(shape)
    with np.errstate(over="ignore", invalid="ignore"):
        floats = np.array([float(v) for v in items], dtype=np.float64)
        if t.dtype in dt.COMPLEX:
            part = np.float32 if t.dtype == "complex64" else np.float64
            return floats.astype(part).view(want).reshape(shape)
        return floats.astype(want).reshape(shape)


def _int_range(dtype: str) -> tuple[int, int]:
    width = dt.bits(dtype)
    return (
        (0, 2**width - 1) if dtype.startswith("u") else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    )
