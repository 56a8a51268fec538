"""Dtype names, spelled as NumPy and ml_dtypes spell them, and their arithmetic properties."""

from __future__ import annotations

from functools import cache

import numpy as np

DType = str

FLOATS: tuple[DType, ...] = ("float16", "bfloat16", "float32", "float64")
SIGNED: tuple[DType, ...] = ("int8", "int16", "int32", "int64")
UNSIGNED: tuple[DType, ...] = ("uint8", "uint16", "uint32", "uint64")
INTS: tuple[DType, ...] = SIGNED + UNSIGNED
#: Dtypes that tensors are stored in but that no arithmetic op takes: dequantize or cast first.
STORAGE: tuple[DType, ...] = ("float8_e4m3fn", "float8_e5m2", "int4", "uint4")
COMPLEX: tuple[DType, ...] = ("complex64", "complex128")
ALL: tuple[DType, ...] = ("bool", *INTS, *FLOATS, *STORAGE, *COMPLEX)

#: Dtypes NumPy itself does not know; they come from the ml_dtypes package, imported on use.
_EXTENDED = frozenset(("bfloat16", *STORAGE))

_BITS = {"bool": 8, "bfloat16": 16, "int4": 4, "uint4": 4, "float8_e4m3fn": 8, "float8_e5m2": 8}

#: Classes that signatures, strategies and tables may name instead of one dtype.
CLASSES: dict[str, frozenset[DType]] = {
    "float": frozenset(FLOATS),
    "int": frozenset(INTS),
    "number": frozenset(FLOATS + INTS),
    "bool": frozenset(("bool",)),
    "any": frozenset(ALL),
}


@cache
def to_numpy(dtype: DType) -> np.dtype:
    """NumPy dtype of a dtype name. Raises ValueError for an unknown name."""
    if dtype not in ALL:
        raise ValueError(f"unknown dtype {dtype!r}; known: {', '.join(ALL)}")
    if dtype in _EXTENDED:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, dtype))
    return np.dtype(dtype)


def from_numpy(dtype: np.dtype | type) -> DType:
    """Dtype name of a NumPy dtype. Raises ValueError when the IR has no such dtype."""
    name = np.dtype(dtype).name
    if name not in ALL:
        raise ValueError(f"NumPy dtype {name!r} has no counterpart; known: {', '.join(ALL)}")
    return name


def bits(dtype: DType) -> int:
    """Bits one element takes in storage (4 for int4 and uint4)."""
    return _BITS.get(dtype) or to_numpy(dtype).itemsize * 8


def is_float(dtype: DType) -> bool:
    """True for the floating dtypes that arithmetic takes."""
    return dtype in FLOATS


def is_int(dtype: DType) -> bool:
    """True for the integer dtypes that arithmetic takes (not bool, not int4/uint4)."""
    return dtype in INTS


def promote(a: DType, b: DType) -> DType:
    """Smallest common dtype, kind first (bool < int < float < complex), then width.

    Between kinds the wider kind keeps its own width (int64 with float32 is float32), the rule of
    PyTorch and JAX rather than NumPy's. float16 with bfloat16 is float32.
    """
    if a == b:
        return a
    kinds = [("bool",), INTS, FLOATS, COMPLEX]
    ka = next((i for i, k in enumerate(kinds) if a in k), -1)
    kb = next((i for i, k in enumerate(kinds) if b in k), -1)
    if ka < 0 or kb < 0:
        raise ValueError(f"{a} and {b} have no common arithmetic dtype")
    if ka != kb:
        return a if ka > kb else b
    if {a, b} == {"float16", "bfloat16"}:
        return "float32"
    if kinds[ka] is INTS:
        return np.promote_types(a, b).name if np.promote_types(a, b).kind in "iu" else "int64"
    return a if bits(a) >= bits(b) else b
