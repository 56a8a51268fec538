"""Normalisation. Every one is a composite; sums run in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from cir import dim as dims
from cir.graph import TensorType
from cir.infer import (
    Attrs,
    Types,
    need_min_rank,
    need_positive,
    need_rank,
    optional,
    same_dim,
    same_dtype,
    typed,
)
from cir.kernel import Array, kernel
from cir.spec import InferContext, InferError, op
from cir.special import sigmoid


def _normalise(x: Array, axes: tuple[int, ...], epsilon: float, centre: bool = True) -> Array:
    """(x - mean) / sqrt(variance + epsilon) over axes; uncentred x / sqrt(mean(x*x) + epsilon)."""
    if centre:
        x = x - np.mean(x, axis=axes, keepdims=True, dtype=np.float64).astype(x.dtype)
    power = np.mean(x * x, axis=axes, keepdims=True, dtype=np.float64)
    return x * (1 / np.sqrt(power + epsilon)).astype(x.dtype)


def _affine(y: Array, scale: Any, bias: Any, trailing: int = 0) -> Array:
    """Y * scale + bias, each optional and given that many trailing axes of size 1."""
    for operand, combine in ((scale, np.multiply), (bias, np.add)):
        if operand is not None:
            y = combine(y, operand.reshape(*operand.shape, *[1] * trailing))
    return y


def _check_epsilon(attrs: Attrs) -> None:
    if attrs["epsilon"] < 0:
        raise InferError(f"epsilon is {attrs['epsilon']}, must not be negative")


def _infer_batch_norm(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x = typed(types, 0)
    need_min_rank(x, 2, "x")
    _check_epsilon(attrs)
    for i, name in enumerate(("scale", "bias", "mean", "var"), 1):
        t = typed(types, i)
        same_dtype(x, t)
        need_rank(t, 1, name)
        if t.shape[0] != x.shape[1]:
            same_dim(t.shape[0], x.shape[1], f"{name} and the channels (axis 1) of x {x}")
    return [x]


@op("batch_norm(x, scale, bias, mean, var; epsilon: float = 1e-5)", domain="float",
    infer=_infer_batch_norm,
    decomposition=["s = scale * rsqrt(var + epsilon)",
                   "t = bias - mean * s",
                   "y = x * reshape(s, shape=[*s.shape, *ntuple(1, x.rank - 2)])"
                   " + reshape(t, shape=[*s.shape, *ntuple(1, x.rank - 2)])"],
    samples=[{"inputs": ["float32[2,3,4,5]", *["float32[3]"] * 3, "+float32[3]"]},
             {"inputs": ["float32[4,3]", *["float32[3]"] * 3, "+float32[3]"],
              "epsilon": 1e-3}])  # fmt: skip
@kernel
def batch_norm(
    x: Array, scale: Array, bias: Array, mean: Array, var: Array, *, epsilon: float
) -> Array:
    """(x - mean) / sqrt(var + epsilon) * scale + bias with one of each per channel (axis 1)."""
    tail = x.ndim - 2
    factor = scale / np.sqrt(var + np.asarray(epsilon, dtype=var.dtype))
    shift = bias - mean * factor
    return _affine(x, factor, shift, tail)


def _check_trailing(types: Types, x: TensorType, axis: int, names: tuple[str, ...]) -> None:
    want = x.shape[axis:]
    for i, name in enumerate(names, 1):
        t = optional(types, i)
        if t is None:
            continue
        same_dtype(x, t)
        if t.shape != want:
            need_rank(t, len(want), name)
            for a, b in zip(t.shape, want):
                same_dim(a, b, f"{name} {t} and the normalised axes of x {x}")


def _infer_layer_norm(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x = typed(types, 0)
    need_min_rank(x, 1, "x")
    _check_epsilon(attrs)
    _check_trailing(types, x, attrs["axis"], ("scale", "bias"))
    return [x]


@op("layer_norm(x, scale?, bias?; axis: axis = -1, epsilon: float = 1e-5)", domain="float",
    infer=_infer_layer_norm,
    decomposition=["c = x - mean(x, axis=range(axis, 0))",
                   "y = c * rsqrt(mean(c * c, axis=range(axis, 0)) + epsilon) * scale + bias"],
    samples=[{"inputs": ["float32[2,3,8]", "float32[8]", "float32[8]"]},
             {"inputs": ["float32[2,3,4]", "float32[3,4]", "float32[3,4]"], "axis": 1},
             {"inputs": ["float32[2,8]", "float32[8]"], "epsilon": 1e-6},
             {"inputs": ["float32[2,8]"]}])  # fmt: skip
@kernel
def layer_norm(
    x: Array, scale: Array | None = None, bias: Array | None = None, *, axis: int, epsilon: float
) -> Array:
    """(x - mean) / sqrt(variance + epsilon) over axes axis..-1, times scale, plus bias.

    The variance is the biased one; scale and bias have the shape of the normalised axes
    (J. L. Ba et al., Layer Normalization, 2016).
    """
    return _affine(_normalise(x, tuple(range(axis, 0)), epsilon), scale, bias)


def _infer_rms_norm(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x = typed(types, 0)
    need_min_rank(x, 1, "x")
    _check_epsilon(attrs)
    _check_trailing(types, x, attrs["axis"], ("scale",))
    return [x]


@op("rms_norm(x, scale?; axis: axis = -1, epsilon: float = 1e-6)", domain="float",
    infer=_infer_rms_norm,
    decomposition="y = x * rsqrt(mean(x * x, axis=range(axis, 0)) + epsilon) * scale",
    samples=[{"inputs": ["float32[2,3,8]", "float32[8]"]},
             {"inputs": ["float32[2,3,4]"], "axis": 1, "epsilon": 1e-5}])  # fmt: skip
@kernel
def rms_norm(x: Array, scale: Array | None = None, *, axis: int, epsilon: float) -> Array:
    """``x / sqrt(mean(x*x) + epsilon)`` over axes axis..-1, times scale.

    B. Zhang, R. Sennrich, Root Mean Square Layer Normalization, 2019.
    """
    return _affine(_normalise(x, tuple(range(axis, 0)), epsilon, centre=False), scale, None)


def _infer_group_norm(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x = typed(types, 0)
    need_min_rank(x, 2, "x")
    _check_epsilon(attrs)
    need_positive(attrs, "num_groups")
    groups = attrs["num_groups"]
    if dims.divides(groups, x.shape[1]) is False:
        raise InferError(f"the {x.shape[1]} channels of {x} do not divide into {groups} groups")
    for i, name in enumerate(("scale", "bias"), 1):
        t = optional(types, i)
        if t is not None:
            same_dtype(x, t)
            need_rank(t, 1, name)
            same_dim(t.shape[0], x.shape[1], f"{name} and the channels (axis 1) of x {x}")
    return [x]


def _group_norm(x: Array, scale: Any, bias: Any, num_groups: int, epsilon: float) -> Array:
    n, c, *spatial = x.shape
    h = x.reshape(n, num_groups, c // num_groups, *spatial)
    h = _normalise(h, tuple(range(2, h.ndim)), epsilon)
    return _affine(h.reshape(x.shape), scale, bias, len(spatial))


_GROUP_SAMPLES: list[dict[str, Any]] = [
    {"inputs": ["float32[2,6,3,4]", "float32[6]", "float32[6]"], "num_groups": 3},
    {"inputs": ["float32[2,4,5]"], "num_groups": 4, "epsilon": 1e-6},
    {"inputs": ["float32[2,4,3,3]", None, "float32[4]"], "num_groups": 1},
]


@op("group_norm(x, scale?, bias?; num_groups: int, epsilon: float = 1e-5)", domain="float",
    infer=_infer_group_norm,
    decomposition=["g = reshape(x, shape=[x.shape[0], num_groups, x.shape[1] // num_groups,"
                   " *x.shape[2:]])",
                   "h = reshape(layer_norm(g, axis=1 - x.rank, epsilon=epsilon), shape=x.shape)",
                   "s = None if scale is None else"
                   " reshape(scale, shape=[*scale.shape, *ntuple(1, x.rank - 2)])",
                   "t = None if bias is None else"
                   " reshape(bias, shape=[*bias.shape, *ntuple(1, x.rank - 2)])",
                   "y = h * s + t"],
    samples=_GROUP_SAMPLES)  # fmt: skip
@kernel
def group_norm(
    x: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    num_groups: int,
    epsilon: float,
) -> Array:
    """Layer normalisation of each group of channels with its spatial axes; scale and bias are [C].

    With as many groups as channels this is instance normalisation (Y. Wu, K. He, 2018).
    """
    return _group_norm(x, scale, bias, num_groups, epsilon)


@op("group_norm_silu(x, scale?, bias?; num_groups: int, epsilon: float = 1e-5)", domain="float",
    infer=_infer_group_norm,
    decomposition="y = swish(group_norm(x, scale, bias, num_groups=num_groups, epsilon=epsilon))",
    samples=_GROUP_SAMPLES)  # fmt: skip
@kernel
def group_norm_silu(
    x: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    num_groups: int,
    epsilon: float,
) -> Array:
    """``swish(group_norm(x))``: normalisation and activation in one."""
    y = _group_norm(x, scale, bias, num_groups, epsilon)
    return y * sigmoid(y)
