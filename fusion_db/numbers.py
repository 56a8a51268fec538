"""Numbers as strategies compare them: literals against constants, attributes against attributes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cir import dim
from cir import dtype as dt
from cir.dim import Dim

#: Relative rounding error of a constant stored in a dtype.
_ROUNDING = {"float16": 2.0**-10, "bfloat16": 2.0**-8}


def close(value: Any, literal: Any, dtype: str, rtol: float) -> bool:
    """Whether a stored constant is the literal, give or take its dtype's rounding and rtol."""
    if isinstance(literal, bool) or isinstance(value, bool):
        return bool(value) is bool(literal)
    if value == literal:
        return True
    tolerance = max(rtol, _ROUNDING.get(dtype, 0.0)) if dt.is_float(dtype) else 0.0
    return math.isfinite(value) and abs(value - literal) <= tolerance * abs(literal)


def same_attr(a: Any, b: Any) -> bool:
    """Equality of attribute values: floats as float32, dims by algebra, sequences by element."""
    if a is None or b is None:
        return a is b
    if isinstance(a, (tuple, list)):
        return (
            isinstance(b, (tuple, list))
            and len(a) == len(b)
            and all(same_attr(x, y) for x, y in zip(a, b))
        )
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, float) or isinstance(b, float):
        if isinstance(a, (str, tuple)) or isinstance(b, (str, tuple)):
            return False
        return a == b or bool(np.float32(a) == np.float32(b))
    if a == b:
        return True
    if isinstance(a, str) and isinstance(b, str) or isinstance(b, (tuple, list)):
        return False
    try:
        return dim.equal(a, b) is True
    except dim.DimError:
        return False


def shortest(value: float, dtype: str) -> float:
    """The shortest decimal that rounds to this number of a dtype: 1e-05, not 9.99999975e-06."""
    if dtype == "float64" or not dt.is_float(dtype) or not math.isfinite(value):
        return value
    kind = np.float16 if dtype == "float16" else np.float32
    return float(np.format_float_scientific(kind(value), unique=True))


def snap(value: float, default: float) -> float:
    """The default when the value is within 4 float32 steps of it, else the value."""
    step = float(np.spacing(np.float32(abs(default)))) if default else 0.0
    return default if abs(value - default) <= 4 * step else value


def dims_equal(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    """Whether two shapes are known to be equal."""
    return len(a) == len(b) and all(x == y or dim.equal(x, y) is True for x, y in zip(a, b))
