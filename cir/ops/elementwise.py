"""Elementwise math, comparison, logic, selection and casts.

Two operands of one dtype broadcast by NumPy's rule; nothing is promoted implicitly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.graph import TensorType
from cir.infer import Attrs, Types, broadcast, broadcast_shapes, same_as, same_dtype, typed
from cir.kernel import Array, is_symbolic, kernel, sym_compare, sym_maximum, sym_minimum
from cir.spec import InferContext, InferError, op
from cir.special import erf, erfc, sigmoid

_PAIRS = (("float32[2,3]", "float32[2,3]"), ("float32[2,1,3]", "float32[4,1]"))


def _unary(
    name: str, fn: Callable[..., Any], doc: str, *, domain: str = "float", dtype: str | None = None,
    samples: tuple[str, ...] = ("float32[2,3]", "float32[]"),
) -> None:  # fmt: skip
    def reference(x: Array) -> Array:
        return fn(x)

    reference.__name__, reference.__doc__ = name, doc
    op(
        f"{name}(x)",
        infer=same_as(0, dtype),
        domain=domain,
        layout="elementwise",
        samples=[{"inputs": [s]} for s in samples],
    )(kernel(reference))


def _binary(
    name: str, fn: Callable[..., Any], doc: str, *, domain: str = "number",
    dtype: str | None = None, commutative: bool = False,
    samples: tuple[tuple[str, str], ...] = _PAIRS,
) -> None:  # fmt: skip
    def reference(a: Array, b: Array) -> Array:
        return fn(a, b)

    reference.__name__, reference.__doc__ = name, doc
    op(
        f"{name}(a, b)",
        infer=broadcast(dtype),
        domain=domain,
        layout="elementwise",
        commutative=commutative,
        samples=[{"inputs": list(s)} for s in samples],
    )(kernel(reference))


_POSITIVE = ("+float32[2,3]", "+float32[]")
_NUMBER = ("float32[2,3]", "int64[4]")

_unary("neg", np.negative, "-x.", domain="number", samples=_NUMBER)
_unary("abs", np.absolute, "|x|.", domain="number", samples=_NUMBER)
_unary("sign", np.sign, "-1, 0 or 1; nan for nan.", domain="number", samples=_NUMBER)
_unary("square", lambda x: x * x, "x squared.", domain="number", samples=_NUMBER)
_unary("relu", lambda x: np.maximum(x, 0), "max(x, 0).", domain="number", samples=_NUMBER)
_unary("exp", np.exp, "e**x.")
_unary("expm1", np.expm1, "e**x - 1, exact near 0.")
_unary("log", np.log, "Natural logarithm.", samples=_POSITIVE)
_unary("log1p", np.log1p, "log(1 + x), exact near 0.", samples=_POSITIVE)
_unary("sqrt", np.sqrt, "Square root.", samples=_POSITIVE)
_unary("rsqrt", lambda x: 1 / np.sqrt(x), "1 / sqrt(x).", samples=_POSITIVE)
_unary("reciprocal", lambda x: 1 / x, "1 / x.", samples=_POSITIVE)
_unary("sin", np.sin, "Sine of radians.")
_unary("cos", np.cos, "Cosine of radians.")
_unary("tan", np.tan, "Tangent of radians.")
_unary("asin", np.arcsin, "Arc sine, radians.")
_unary("acos", np.arccos, "Arc cosine, radians.")
_unary("atan", np.arctan, "Arc tangent, radians.")
_unary("sinh", np.sinh, "Hyperbolic sine.")
_unary("cosh", np.cosh, "Hyperbolic cosine.")
_unary("tanh", np.tanh, "Hyperbolic tangent.")
_unary("asinh", np.arcsinh, "Inverse hyperbolic sine.")
_unary("acosh", np.arccosh, "Inverse hyperbolic cosine.", samples=_POSITIVE)
_unary("atanh", np.arctanh, "Inverse hyperbolic tangent.")
_unary("sigmoid", sigmoid, "1 / (1 + e**-x).")
_unary("erf", erf, "Error function.")
_unary("erfc", erfc, "1 - erf(x), exact in the tail.")
_unary("floor", np.floor, "Largest integer not above x.")
_unary("ceil", np.ceil, "Smallest integer not below x.")
_unary("round", np.rint, "Nearest integer, halves to the even one.")
_unary("isnan", np.isnan, "True for nan.", dtype="bool")
_unary("isinf", np.isinf, "True for +inf and -inf.", dtype="bool")
_unary("logical_not", np.logical_not, "not x.", domain="bool", samples=("bool[2,3]", "bool[]"))
_unary("bitwise_not", np.invert, "~x.", domain="int", samples=("int64[2,3]", "uint8[4]<99"))


def _maximum(a: Array, b: Array) -> Any:
    return sym_maximum(a, b) if is_symbolic(a, b) else np.maximum(a, b)


def _minimum(a: Array, b: Array) -> Any:
    return sym_minimum(a, b) if is_symbolic(a, b) else np.minimum(a, b)


_INTS = ("int64[2,3]", "int64[3]")
_BOTH = (*_PAIRS, _INTS)
_DIVIDE = (("float32[2,3]", "+float32[3]"), ("int64[2,3]", "+int64[3]<5"))

_binary("add", np.add, "a + b.", commutative=True, samples=_BOTH)
_binary("sub", np.subtract, "a - b.", samples=_BOTH)
_binary("mul", np.multiply, "a * b.", commutative=True, samples=_BOTH)
_binary("div", np.divide, "a / b of floats (integers: floordiv, or cast first).", domain="float",
        samples=(("float32[2,3]", "+float32[3]"), ("float32[2,1,3]", "+float32[4,1]")))  # fmt: skip
_binary("floordiv", np.floor_divide, "a // b, rounding down as Python does.", samples=_DIVIDE)
_binary("mod", np.mod, "a % b with the sign of b, as Python does.", samples=_DIVIDE)
_binary("pow", np.power, "a ** b.",
        samples=(("+float32[2,3]", "float32[3]"), ("int64[2,3]", "+int64[3]<4")))  # fmt: skip
_binary(
    "maximum", _maximum, "Larger of a and b; nan if either is.", commutative=True, samples=_BOTH
)
_binary(
    "minimum", _minimum, "Smaller of a and b; nan if either is.", commutative=True, samples=_BOTH
)
_binary("atan2", np.arctan2, "Angle of the point (b, a), radians.", domain="float")
_binary("squared_difference", lambda a, b: (a - b) * (a - b), "(a - b) squared.",
        commutative=True, samples=_BOTH)  # fmt: skip


def _comparison(name: str, fn: Callable[..., Any], symbol: str, domain: str, swap: bool) -> None:
    def compare(a: Array, b: Array) -> Any:
        return fn(sym_compare(a, b), 0) if is_symbolic(a, b) else fn(a, b)

    samples = (_PAIRS[1], ("int64[2,3]<3", "int64[3]<3"))
    _binary(name, compare, f"a {symbol} b.", domain=domain, dtype="bool", commutative=swap,
            samples=samples)  # fmt: skip


_comparison("equal", np.equal, "==", "any", True)
_comparison("not_equal", np.not_equal, "!=", "any", True)
_comparison("less", np.less, "<", "number", False)
_comparison("less_equal", np.less_equal, "<=", "number", False)
_comparison("greater", np.greater, ">", "number", False)
_comparison("greater_equal", np.greater_equal, ">=", "number", False)

_BOOLS = (("bool[2,3]", "bool[2,3]"), ("bool[2,1]", "bool[3]"))
_BITS = (_INTS, ("uint8[2,1]<99", "uint8[3]<99"))

_binary("logical_and", np.logical_and, "a and b.", domain="bool", commutative=True, samples=_BOOLS)
_binary("logical_or", np.logical_or, "a or b.", domain="bool", commutative=True, samples=_BOOLS)
_binary("logical_xor", np.logical_xor, "Exactly one of a and b.", domain="bool", commutative=True,
        samples=_BOOLS)  # fmt: skip
_binary("bitwise_and", np.bitwise_and, "a & b.", domain="int", commutative=True, samples=_BITS)
_binary("bitwise_or", np.bitwise_or, "a | b.", domain="int", commutative=True, samples=_BITS)
_binary("bitwise_xor", np.bitwise_xor, "a ^ b.", domain="int", commutative=True, samples=_BITS)


def _infer_where(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    cond, x, y = typed(types, 0), typed(types, 1), typed(types, 2)
    same_dtype(x, y)
    return [TensorType(x.dtype, broadcast_shapes(broadcast_shapes(x.shape, y.shape), cond.shape))]


@op("where(cond, x, y)", domain={"cond": "bool", "x": "any", "y": "any"}, infer=_infer_where,
    layout="elementwise",
    samples=[{"inputs": ["bool[2,3]", "float32[2,3]", "float32[2,3]"]},
             {"inputs": ["bool[4,1]", "float32[]", "float32[2,1,3]"]},
             {"inputs": ["bool[3]", "int64[2,3]", "int64[2,1]"]}])  # fmt: skip
@kernel
def where(cond: Array, x: Array, y: Array) -> Array:
    """``x`` where cond holds, else y; the three broadcast."""
    if cond.dtype == object:
        raise TypeError("the condition depends on symbolic dims")
    return np.where(cond, x, y)


def _infer_cast(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    return [t if t.dtype == attrs["dtype"] else TensorType(attrs["dtype"], t.shape)]


@op("cast(x; dtype: dtype)", infer=_infer_cast, layout="elementwise",
    samples=[{"inputs": ["float32[2,3]"], "dtype": "float16"},
             {"inputs": ["float32[2,3]"], "dtype": "int64"},
             {"inputs": ["int64[2,3]"], "dtype": "bool"},
             {"inputs": ["float32[3]"], "dtype": "bfloat16"},
             {"inputs": ["bool[2]"], "dtype": "float32"}])  # fmt: skip
def cast(x: Array, *, dtype: str) -> Array:
    """``x`` in another dtype: floats to integers round towards zero, numbers to bool are x != 0.

    A float beyond the integer's range, or nan, gives an unspecified value.
    """
    if x.dtype == object:
        if not dt.is_int(dtype):
            raise TypeError(f"symbolic dims cannot be {dtype}")
        return x
    with np.errstate(all="ignore"):
        return x.astype(dt.to_numpy(dtype))


def _infer_clip(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    lo, hi = attrs["min"], attrs["max"]
    if lo is not None and hi is not None and lo > hi:
        raise InferError(f"min {lo} is above max {hi}: swap them")
    if dt.is_int(t.dtype):
        for v in (lo, hi):
            if v is not None and abs(v) != float("inf") and v != int(v):
                raise InferError(f"bound {v} of an integer tensor must be an integer")
    return [t]


def _bound(v: float | None, dtype: np.dtype) -> Any:
    """A bound as a scalar of the dtype; None when it bounds nothing."""
    if v is None or dtype.kind == "f":
        return v
    if abs(v) == float("inf"):
        return None
    if dtype.kind == "O":
        return int(v)
    info = np.iinfo(dtype)
    return min(max(int(v), int(info.min)), int(info.max))


@op("clip(x; min: float? = None, max: float? = None)", domain="number", infer=_infer_clip,
    layout="elementwise",
    samples=[{"inputs": ["float32[2,3]"], "min": -0.5, "max": 0.5},
             {"inputs": ["float32[4]"], "min": 0.0},
             {"inputs": ["int64[2,3]"], "max": 2.0}])  # fmt: skip
@kernel
def clip(x: Array, *, min: float | None, max: float | None) -> Array:
    """``x`` limited to [min, max]; a bound of None does not limit; nan stays nan."""
    lo, hi = _bound(min, x.dtype), _bound(max, x.dtype)
    if lo is not None:
        x = _maximum(x, np.asarray(lo, dtype=x.dtype))
    if hi is not None:
        x = _minimum(x, np.asarray(hi, dtype=x.dtype))
    return x
