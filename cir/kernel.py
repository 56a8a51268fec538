"""What the numpy references share: half floats widen to float32, and symbolic dims compute too."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from cir import dim as dims

#: What references take and give.
Array = np.ndarray
#: Evaluated dims, and other integer sequences.
Ints = tuple[int, ...]

#: dtype -> the dtype its arithmetic runs in; dtypes that are not floats map to None.
_COMPUTE: dict[np.dtype, np.dtype | None] = {}


def _compute_dtype(dtype: np.dtype) -> np.dtype | None:
    if dtype not in _COMPUTE:
        half = dtype.name in ("float16", "bfloat16")
        wide = np.dtype(np.float32) if half else dtype
        # float8_e5m2 claims kind "f", but it only stores: no arithmetic runs in it.
        _COMPUTE[dtype] = wide if half or dtype.name in ("float32", "float64") else None
    return _COMPUTE[dtype]


def kernel(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Make a plain numpy function a reference.

    float16 and bfloat16 inputs are widened to float32 first. Floating results take the dtype of the
    first floating input: besides undoing the widening, this undoes NumPy 1's promotion of rank-0
    float32 with a Python number to float64. Floating-point warnings are silenced: inf and nan are
    data.
    """

    @wraps(fn)
    def run(*xs: Any, **attrs: Any) -> Any:
        want = None
        args = []
        for x in xs:
            wide = None if x is None else _compute_dtype(x.dtype)
            if wide is not None:
                want = want or x.dtype
                if wide is not x.dtype:
                    x = x.astype(wide)
            args.append(x)
        with np.errstate(all="ignore"):
            out = fn(*args, **attrs)
        if want is None:
            return out
        if isinstance(out, (tuple, list)):
            return tuple(_narrow(y, want) for y in out)
        return _narrow(out, want)

    return run


def _narrow(y: Any, want: np.dtype) -> Any:
    if y.dtype is want or y.dtype == want or y.dtype.kind != "f":
        return y
    return y.astype(want)


def accumulator(dtype: np.dtype) -> np.dtype:
    """The dtype that sums run in: float64 for floats, else the dtype itself."""
    return np.dtype(np.float64) if dtype.kind == "f" else dtype


def is_symbolic(*xs: np.ndarray | None) -> bool:
    """True when an operand is an object array, which may hold SymInt."""
    return any(x is not None and x.dtype == object for x in xs)


def _dim(v: Any) -> dims.Dim:
    return v.dim if isinstance(v, dims.SymInt) else int(v)


def _plain(d: dims.Dim) -> dims.SymInt | int:
    return dims.SymInt(d) if isinstance(d, str) else d


def _decide(a: Any, b: Any) -> int:
    """-1, 0 or 1 as a < b, a == b, a > b; TypeError when that depends on the symbols."""
    gap = dims.sub(_dim(a), _dim(b))
    if isinstance(gap, str):
        raise TypeError(f"whether {a} exceeds {b} depends on the symbols")
    return (gap > 0) - (gap < 0)


#: Ufuncs over object arrays, for what SymInt's own operators do not offer.
sym_maximum = np.frompyfunc(lambda a, b: _plain(dims.maximum(_dim(a), _dim(b))), 2, 1)
sym_minimum = np.frompyfunc(lambda a, b: _plain(dims.minimum(_dim(a), _dim(b))), 2, 1)
_sym_compare = np.frompyfunc(_decide, 2, 1)


def sym_compare(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sign of a - b, elementwise (int64). Raises TypeError where it depends on the symbols."""
    return np.asarray(_sym_compare(a, b)).astype(np.int64)
