"""Emission handlers of matrix products and normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cir import dim as dm
from cir.infer import broadcast_shapes
from framework_adapter.mindspore.lite.dims import full, made, reshaped
from framework_adapter.mindspore.lite.neighbours import (
    absorbed,
    operand,
    result,
    settle,
    untransposed,
)
from framework_adapter.target import Scope

#: Largest rank that LayerNormFusion takes.
_NORM_RANK = 4
_MEAN: Mapping[str, Any] = {"keep_dims": True, "mode": "ReduceMean", "coeff": 1.0}


# -- matrix products -------------------------------------------------------------------------------
def matmul(s: Scope, a: str, b: str) -> str:
    """MatMulFusion, transposes of the last two axes taken in; a vector becomes a row or column."""
    ta, tb = operand(s, 0), operand(s, 1)
    a, turn_a = untransposed(s, 0, a) if ta.rank > 1 and tb.rank > 1 else (a, False)
    b, turn_b = untransposed(s, 1, b) if ta.rank > 1 and tb.rank > 1 else (b, False)
    if ta.rank == 1:
        a = made(s, s.op("Unsqueeze", a, axis=(0,)), (1, *ta.shape))
    if tb.rank == 1:
        b = made(s, s.op("Unsqueeze", b, axis=(1,)), (*tb.shape, 1))
    y = s.op("MatMulFusion", a, b, transpose_a=turn_a, transpose_b=turn_b)
    drop = [-2] * (ta.rank == 1) + [-1] * (tb.rank == 1)
    if not drop:
        return str(y)
    shape = list(result(s).shape)
    if tb.rank == 1:
        shape.append(1)
    if ta.rank == 1:
        shape.insert(len(shape) - 1, 1)
    rank = len(shape)
    return str(s.op("Squeeze", made(s, y, shape), axis=tuple(rank + d for d in drop)))


def linear(s: Scope, x: str, w: str, b: str | None = None) -> Any:
    """MatMulFusion with the weight [out, in] as it is."""
    activation, user = absorbed(s)
    t = operand(s, 0)
    row = t.rank == 1
    if row:
        x = made(s, s.op("Unsqueeze", x, axis=(0,)), (1, *t.shape))
    y = s.op("MatMulFusion", x, w, b, transpose_b=True, activation_type=activation)
    if row:
        y = s.op("Squeeze", made(s, y, (1, *result(s).shape)), axis=(0,))
    return settle(s, y, user)


def attention(s: Scope, q: str, k: str, v: str, mask: str, *, scale: float, causal: bool) -> str:
    """Causal attention with a boolean mask: both are one mask, so that it is read as one."""
    lead = operand(s, 0).shape[:-1]
    shape = (*lead, int(operand(s, 1).shape[-2]))
    triangle = np.tril(np.ones([int(d) for d in shape[-2:]], bool))
    have = operand(s, 3).shape
    kept = broadcast_shapes(have, triangle.shape)
    keep = made(s, s.op("LogicalAnd", mask, s.const(triangle)), kept)
    scores = made(s, s.op("MatMulFusion", q, k, transpose_b=True), shape)
    scores = made(s, s.op("MulFusion", scores, scale), shape)
    masked = made(s, s.op("Where", full(s, keep, kept, shape), scores, -np.inf), shape)
    p = made(s, s.op("Softmax", masked, axis=(len(shape) - 1,)), shape)
    p = made(s, s.op("Where", s.op("NotEqual", p, p), 0.0, p), shape)
    return str(s.op("MatMulFusion", p, v))


# -- normalisation ---------------------------------------------------------------------------------
def layer_norm(
    s: Scope, x: str, scale: str | None = None, bias: str | None = None, *, axis: int,
    epsilon: float,
) -> str:  # fmt: skip
    """LayerNormFusion; the kernel wants a scale and a bias, so ones and zeros stand in for none."""
    t = operand(s, 0)
    affine = scale is not None
    if scale is None or bias is None:
        rest = [int(d) for d in t.shape[axis:]]
        scale, bias = s.const(np.ones(rest, np.float32)), s.const(np.zeros(rest, np.float32))
    at, flat = axis + t.rank, None
    if t.rank > _NORM_RANK:
        at, flat = 1, (dm.product(t.shape[:at]), dm.product(t.shape[at:]))
        x = reshaped(s, x, t.shape, flat)
        scale, bias = (reshaped(s, v, t.shape[axis:], flat[1:]) for v in (scale, bias))
    y = s.op(
        "LayerNormFusion", x, scale, bias, begin_norm_axis=at, begin_params_axis=at,
        epsilon=epsilon, elementwise_affine=affine,
    )  # fmt: skip
    return str(y if flat is None else reshaped(s, made(s, y, flat), flat, t.shape))


def group_norm(
    s: Scope, x: str, scale: str | None = None, bias: str | None = None, *, num_groups: int,
    epsilon: float,
) -> Any:  # fmt: skip
    """Mean and variance of [N, *S, groups, rest] over the spatial axes and the rest."""
    shape = operand(s, 0).shape
    groups = (*shape[:-1], num_groups, dm.floordiv(shape[-1], num_groups))
    axes = (*range(1, len(shape) - 1), len(shape))
    each = tuple(1 if i in axes else d for i, d in enumerate(groups))
    g = reshaped(s, x, shape, groups)
    c = s.op("SubFusion", g, made(s, s.op("ReduceFusion", g, axes, **_MEAN), each))
    square = made(s, s.op("Square", made(s, c, groups)), groups)
    spread = s.op("AddFusion", made(s, s.op("ReduceFusion", square, axes, **_MEAN), each), epsilon)
    y = s.op("MulFusion", c, s.op("Rsqrt", spread))
    y = reshaped(s, made(s, y, groups), groups, shape)
    y = y if scale is None else made(s, s.op("MulFusion", y, scale), shape)
    return y if bias is None else s.op("AddFusion", y, bias)
