"""Activations, softmax and gated units: composites over the elementwise ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from cir import dim as dims
from cir.graph import TensorType
from cir.infer import Attrs, Types, broadcast_shapes, checked, same_as, same_dtype, typed
from cir.kernel import Array, kernel
from cir.spec import InferContext, InferError, op
from cir.special import erfc, sigmoid
from cir.special import softplus as _softplus

_SAMPLES: list[dict[str, Any]] = [{"inputs": ["float32[2,3]"]}, {"inputs": ["float32[]"]}]
_APPROXIMATE = ("none", "tanh")


def _gelu(x: Array, approximate: str) -> Array:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * (x * x * x))))
    return 0.5 * x * erfc(x * -0.7071067811865476)


@op("gelu(x; approximate: str = 'none')", domain="float", layout="elementwise",
    infer=checked(same_as(0), approximate=_APPROXIMATE),
    decomposition="y = x * 0.5 * (erf(x * 0.7071067811865476) + 1) if approximate == 'none' else"
                  " x * 0.5 * (tanh((x + x * x * x * 0.044715) * 0.7978845608028654) + 1)",
    samples=[*_SAMPLES, {"inputs": ["float32[2,3]"], "approximate": "tanh"}])  # fmt: skip
@kernel
def gelu(x: Array, *, approximate: str) -> Array:
    """``x`` times the normal distribution function of x, exact (none) or approximated by tanh.

    D. Hendrycks, K. Gimpel, Gaussian Error Linear Units, 2016.
    """
    return _gelu(x, approximate)


@op("swish(x; beta: float = 1.0)", domain="float", layout="elementwise", infer=same_as(0),
    decomposition="y = x * sigmoid(x) if beta == 1 else x * sigmoid(x * beta)",
    samples=[*_SAMPLES, {"inputs": ["float32[2,3]"], "beta": 1.5}])  # fmt: skip
@kernel
def swish(x: Array, *, beta: float) -> Array:
    """``x * sigmoid(beta * x)``; SiLU for beta = 1."""
    return x * sigmoid(x * beta)


@op("hard_sigmoid(x; alpha: float = 0.16666666666666666, beta: float = 0.5)", domain="float",
    layout="elementwise", infer=same_as(0),
    decomposition="y = clip(x * alpha + beta, min=0.0, max=1.0)",
    samples=[*_SAMPLES, {"inputs": ["float32[2,3]"], "alpha": 0.2}])  # fmt: skip
@kernel
def hard_sigmoid(x: Array, *, alpha: float, beta: float) -> Array:
    """Alpha * x + beta limited to [0, 1]."""
    return np.clip(x * alpha + beta, 0, 1)


@op("hard_swish(x)", domain="float", layout="elementwise", infer=same_as(0),
    decomposition="y = x * hard_sigmoid(x)", samples=_SAMPLES)  # fmt: skip
@kernel
def hard_swish(x: Array) -> Array:
    """``x * min(max(x + 3, 0), 6) / 6``, which is x * hard_sigmoid(x) (A. Howard et al., 2019)."""
    return x * (np.clip(x + 3, 0, 6) / 6)


@op("leaky_relu(x; alpha: float = 0.01)", domain="float", layout="elementwise", infer=same_as(0),
    decomposition="y = where(x > 0, x, x * alpha)",
    samples=[*_SAMPLES, {"inputs": ["float32[2,3]"], "alpha": 0.3}])  # fmt: skip
@kernel
def leaky_relu(x: Array, *, alpha: float) -> Array:
    """``x`` above 0, alpha * x below."""
    return np.where(x > 0, x, x * alpha)


@op("elu(x; alpha: float = 1.0)", domain="float", layout="elementwise", infer=same_as(0),
    decomposition="y = where(x > 0, x, expm1(x) * alpha)",
    samples=[*_SAMPLES, {"inputs": ["float32[2,3]"], "alpha": 0.5}])  # fmt: skip
@kernel
def elu(x: Array, *, alpha: float) -> Array:
    """``x`` above 0, alpha * (e**x - 1) below."""
    return np.where(x > 0, x, np.expm1(x) * alpha)


@op("selu(x)", domain="float", layout="elementwise", infer=same_as(0),
    decomposition="y = elu(x, alpha=1.6732632423543772) * 1.0507009873554805",
    samples=_SAMPLES)  # fmt: skip
@kernel
def selu(x: Array) -> Array:
    """Scaled elu with the constants of G. Klambauer et al., 2017."""
    return np.where(x > 0, x, np.expm1(x) * 1.6732632423543772) * 1.0507009873554805


def _infer_prelu(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, slope = typed(types, 0), typed(types, 1)
    same_dtype(x, slope)
    if broadcast_shapes(x.shape, slope.shape) != x.shape:
        raise InferError(f"slope {slope} must broadcast to x {x}")
    return [x]


@op("prelu(x, slope)", domain="float", layout="elementwise", infer=_infer_prelu,
    decomposition="y = where(x > 0, x, x * slope)",
    samples=[{"inputs": ["float32[2,3,4]", "float32[3,1]"]},
             {"inputs": ["float32[2,3]", "float32[]"]}])  # fmt: skip
@kernel
def prelu(x: Array, slope: Array) -> Array:
    """``x`` above 0, slope * x below; slope broadcasts to x (one per channel is [C, 1, ...])."""
    return np.where(x > 0, x, x * slope)


@op("softplus(x)", domain="float", layout="elementwise", infer=same_as(0),
    decomposition="y = log1p(exp(neg(abs(x)))) + relu(x)", samples=_SAMPLES)  # fmt: skip
@kernel
def softplus(x: Array) -> Array:
    """``log(1 + e**x)`` without overflow."""
    return _softplus(x)


@op("mish(x)", domain="float", layout="elementwise", infer=same_as(0),
    decomposition="y = x * tanh(softplus(x))", samples=_SAMPLES)  # fmt: skip
@kernel
def mish(x: Array) -> Array:
    """``x * tanh(softplus(x))`` (D. Misra, 2019)."""
    return x * np.tanh(_softplus(x))


@op("softsign(x)", domain="float", layout="elementwise", infer=same_as(0),
    decomposition="y = x / (abs(x) + 1)", samples=_SAMPLES)  # fmt: skip
@kernel
def softsign(x: Array) -> Array:
    """``x / (1 + |x|)``."""
    return x / (1 + np.abs(x))


@op("log_sigmoid(x)", domain="float", layout="elementwise", infer=same_as(0),
    decomposition="y = neg(softplus(neg(x)))", samples=_SAMPLES)  # fmt: skip
@kernel
def log_sigmoid(x: Array) -> Array:
    """``log(sigmoid(x))`` without overflow."""
    return -_softplus(-x)


_AXIS_SAMPLES: list[dict[str, Any]] = [
    {"inputs": ["float32[2,3,4]"]},
    {"inputs": ["float32[2,3,4]"], "axis": 1},
]


@op("softmax(x; axis: axis = -1)", domain="float", layout="axis", infer=same_as(0),
    decomposition=["e = exp(x - amax(x, axis=axis))", "y = e / sum(e, axis=axis)"],
    samples=_AXIS_SAMPLES)  # fmt: skip
@kernel
def softmax(x: Array, *, axis: int) -> Array:
    """``e**x`` divided by its sum along an axis."""
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    e /= np.sum(e, axis=axis, keepdims=True, dtype=np.float64).astype(e.dtype)
    return e


@op("log_softmax(x; axis: axis = -1)", domain="float", layout="axis", infer=same_as(0),
    decomposition=["c = x - amax(x, axis=axis)", "y = c - log(sum(exp(c), axis=axis))"],
    samples=_AXIS_SAMPLES)  # fmt: skip
@kernel
def log_softmax(x: Array, *, axis: int) -> Array:
    """``log(softmax(x))`` without loss for small probabilities."""
    c = x - np.max(x, axis=axis, keepdims=True)
    return c - np.log(np.sum(np.exp(c), axis=axis, keepdims=True, dtype=np.float64)).astype(c.dtype)


def _infer_gated(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    at = attrs["axis"] + t.rank
    n = t.shape[at]
    if dims.divides(2, n) is False:
        raise InferError(f"axis {attrs['axis']} of {t} has size {n}, must be even")
    half = dims.floordiv(n, 2)
    return [TensorType(t.dtype, (*t.shape[:at], half, *t.shape[at + 1 :]))]


def _halves(x: Array, axis: int, gate_first: bool) -> tuple[Array, Array]:
    """(value half, gate half)."""
    a, b = np.split(x, 2, axis=axis)
    return (b, a) if gate_first else (a, b)


_GATED_SAMPLES: list[dict[str, Any]] = [
    {"inputs": ["float32[2,3,8]"]},
    {"inputs": ["float32[2,6,3]"], "axis": 1, "gate_first": True},
    {"inputs": ["float32[2,6]"], "gate_first": False},
]


@op("geglu(x; axis: axis = -1, approximate: str = 'none', gate_first: bool = False)",
    domain="float", layout="axis", infer=checked(_infer_gated, approximate=_APPROXIMATE),
    decomposition=["a, b = split(x, axis=axis, sizes=[x.shape[axis] // 2, x.shape[axis] // 2])",
                   "y = gelu(a, approximate=approximate) * b if gate_first else"
                   " a * gelu(b, approximate=approximate)"],
    samples=[*_GATED_SAMPLES, {"inputs": ["float32[2,6]"], "approximate": "tanh"}])  # fmt: skip
@kernel
def geglu(x: Array, *, axis: int, approximate: str, gate_first: bool) -> Array:
    """Halves of x along an axis: value times gelu of gate (N. Shazeer, GLU Variants, 2020)."""
    value, gate = _halves(x, axis, gate_first)
    return value * _gelu(gate, approximate)


@op("swi_glu(x; axis: axis = -1, gate_first: bool = True)", domain="float", layout="axis",
    infer=_infer_gated,
    decomposition=["a, b = split(x, axis=axis, sizes=[x.shape[axis] // 2, x.shape[axis] // 2])",
                   "y = swish(a) * b if gate_first else a * swish(b)"],
    samples=_GATED_SAMPLES)  # fmt: skip
@kernel
def swi_glu(x: Array, *, axis: int, gate_first: bool) -> Array:
    """Halves of x along an axis: value times swish of gate (N. Shazeer, GLU Variants, 2020)."""
    value, gate = _halves(x, axis, gate_first)
    return value * (gate * sigmoid(gate))
