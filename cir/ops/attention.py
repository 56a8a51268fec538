"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cir.graph import TensorType
from cir.infer import (
    Attrs,
    Types,
    broadcast_shapes,
    need_min_rank,
    optional,
    same_dim,
    same_dtype,
    typed,
)
from cir.kernel import Array, kernel
from cir.ops.linear import for_blas
from cir.spec import InferContext, InferError, op

#: Scores held at once.
_BLOCK_ELEMENTS = 1 << 22


def _infer_attention(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    q, k, v, mask = typed(types, 0), typed(types, 1), typed(types, 2), optional(types, 3)
    for t, name in ((q, "q"), (k, "k"), (v, "v")):
        need_min_rank(t, 2, name)
        same_dtype(q, t)
    if q.shape[-1] != k.shape[-1]:
        same_dim(q.shape[-1], k.shape[-1], f"last axes of q {q} and k {k}")
    if k.shape[-2] != v.shape[-2]:
        same_dim(k.shape[-2], v.shape[-2], f"sequence axes of k {k} and v {v}")
    lead = q.shape[:-2]
    for t in (k, v):
        if t.shape[:-2] != lead:
            lead = broadcast_shapes(lead, t.shape[:-2])
    if mask is not None:
        if mask.dtype not in ("bool", q.dtype):
            raise InferError(f"mask is {mask}, must be bool (True keeps) or {q.dtype} (added)")
        scores = (*lead, q.shape[-2], k.shape[-2])
        if broadcast_shapes(scores, mask.shape) != scores:
            shown = ", ".join(map(str, scores))
            raise InferError(f"mask {mask} must broadcast to the scores [{shown}]")
    return [TensorType(q.dtype, (*lead, q.shape[-2], v.shape[-1]))]


def _block(
    q: Array, k: Array, v: Array, mask: Any, scale: float, causal: bool, first: int
) -> Array:
    """Attention of query rows first, first + 1, ... over all keys."""
    s = np.matmul(for_blas(q), np.swapaxes(for_blas(k), -1, -2))
    s *= scale
    if mask is not None:
        if mask.dtype == bool:
            s = np.where(mask, s, -np.inf).astype(s.dtype, copy=False)
        else:
            s = s + mask
    if causal:
        rows = np.arange(first, first + s.shape[-2])[:, None]
        s[..., rows < np.arange(s.shape[-1])] = -np.inf
    top = np.max(s, axis=-1, keepdims=True)
    s -= np.where(np.isinf(top), 0, top)
    np.exp(s, out=s)
    total = np.sum(s, axis=-1, keepdims=True, dtype=np.float64)
    s /= np.where(total == 0, 1, total).astype(s.dtype)
    return np.matmul(s, for_blas(v))


def _attend(
    q: Array, k: Array, v: Array, mask: Any, scale: float, causal: bool,
    out: Array,
) -> None:  # fmt: skip
    """Fill out, cutting leading axes first and query rows last until the scores fit."""
    queries, keys = q.shape[-2], k.shape[-2]
    if math.prod(q.shape[:-1]) * keys <= _BLOCK_ELEMENTS:
        out[...] = _block(q, k, v, mask, scale, causal, 0)
    elif q.ndim > 2:
        for i in range(q.shape[0]):
            part = None if mask is None else mask[i]
            _attend(q[i], k[i], v[i], part, scale, causal, out[i])
    else:
        rows = max(1, _BLOCK_ELEMENTS // keys)
        for a in range(0, queries, rows):
            part = None if mask is None else mask[a : a + rows]
            out[a : a + rows] = _block(q[a : a + rows], k, v, part, scale, causal, a)


_NOT_BOOL = "mask is None or mask.dtype != 'bool'"


@op("scaled_dot_product_attention(q, k, v, mask?; scale: float, causal: bool = False)",
    domain={"q": "float", "k": "float", "v": "float", "mask": "any"}, infer=_infer_attention,
    decomposition=[
        "s = matmul(q, transpose(k, perm=[*range(k.rank - 2), k.rank - 1, k.rank - 2])) * scale",
        "n = gather(shape(s), -2) if causal else None",
        "i = reshape(arange(0, n, 1), shape=[s.shape[-2], 1]) if causal else None",
        "j = arange(0, gather(shape(s), -1), 1) if causal else None",
        "c = where(i >= j, s, -1e999) if causal else s",
        f"m = c + mask if {_NOT_BOOL} else where(mask, c, -1e999)",
        "p = softmax(m, axis=-1)",
        f"y = matmul(p if {_NOT_BOOL} else where(isnan(p), 0, p), v)",
    ],
    samples=[{"inputs": ["float32[2,3,4,8]", "float32[2,3,5,8]", "float32[2,3,5,6]"],
              "scale": 0.35},
             {"inputs": ["float32[1,2,5,4]", "float32[1,2,5,4]", "float32[1,2,5,4]"], "scale": 0.5,
              "causal": True},
             {"inputs": ["float32[2,2,3,4]", "float32[2,2,5,4]", "float32[2,2,5,4]",
                         "float32[2,1,3,5]"], "scale": 0.5},
             {"inputs": ["float32[2,3,4]", "float32[2,5,4]", "float32[2,5,4]", "bool[3,5]"],
              "scale": 0.5},
             {"inputs": ["float32[2,3,4]", "float32[2,3,4]", "float32[2,3,4]", "bool[3,3]"],
              "scale": 0.5, "causal": True}])  # fmt: skip
@kernel
def scaled_dot_product_attention(
    q: Array, k: Array, v: Array, mask: Array | None = None, *, scale: float, causal: bool
) -> Array:
    """``softmax(scale * q @ k^T + mask) @ v``: q [..., S, D], k [..., T, D], v [..., T, E].

    The result is [..., S, E]; leading axes broadcast. A floating mask is added, a boolean one keeps
    where True; it broadcasts to [..., S, T]. causal keeps key j for query i where j <= i. A query
    that keeps no key gives zeros. (A. Vaswani et al., Attention Is All You Need, 2017.) The scores
    are never held all at once.
    """
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (np.broadcast_to(t, (*lead, *t.shape[-2:])) for t in (q, k, v))
    if mask is not None:
        mask = np.broadcast_to(mask, (*lead, q.shape[-2], k.shape[-2]))
    out = np.empty((*lead, q.shape[-2], v.shape[-1]), q.dtype)
    _attend(q, k, v, mask, scale, causal, out)
    return out
