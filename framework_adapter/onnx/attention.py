"""Attention as one node.

MultiHeadAttention (com.microsoft) reads [B, S, H*D] and so makes the transposes of heads around
attention needless; ONNX Runtime's kernel for it does not hold the scores, which pays from some
hundred keys on. Where heads are not split by a transpose, or a boolean mask decides at run time,
ONNX's own Attention takes [B, H, S, D] as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cir import dim as dm
from cir import dtype as dt
from cir.dim import Dim
from cir.graph import Node, TensorType
from framework_adapter.onnx.dims import reshaped
from framework_adapter.target import Scope

_HEADS = (0, 2, 1, 3)


def attention(
    s: Scope, q: str, k: str, v: str, mask: str | None = None, *, scale: float, causal: bool
) -> Any:
    """One attention node; transposes of heads before and after it are taken in."""
    tq, tk, tv = (s.graph.types[str(n)] for n in s.node.inputs[:3])
    batch, queries, keys = tq.shape[0], tq.shape[-2], tk.shape[-2]
    heads = tq.shape[1] if tq.rank == 4 else 1
    bias = _bias(s, mask, tq.rank, queries, keys, s.dtype(q))
    soft = bias is None or s.dtype(bias) != "bool"
    aligned = not causal or queries == keys
    mha = soft and aligned and s.dtype(q) in (s.target.takes("MultiHeadAttention", 0) or ())
    flag = 1 if causal else None

    def call(values: Sequence[str], n: Dim, bias: str | None = bias) -> str:
        operands = [s.cast(v, s.dtype(q)) for v in values]  # what heads are split from is not cast
        if mha:
            given = (*operands, None, None, bias)
            return str(
                s.op("MultiHeadAttention", *given, num_heads=n, unidirectional=flag, scale=scale)
            )
        return str(
            s.op(
                "Attention",
                *operands,
                bias,
                q_num_heads=n,
                kv_num_heads=n,
                is_causal=flag,
                scale=scale,
            )
        )

    if tq.rank == 3:
        return call((q, k, v), 1)
    merged = _merged(s) if isinstance(heads, int) else None
    if merged is not None:
        users, operands = merged
        y = call(operands, heads)
        flat = (batch, queries, dm.mul(heads, tv.shape[-1]))
        _release(s, users, y, flat)
        return []
    if s.target.takes("Attention", 0) is not None:
        return s.op("Attention", q, k, v, bias, is_causal=flag, scale=scale)
    rows = dm.mul(batch, heads)  # each head as a batch row of its own
    if bias is not None and s.types[bias].shape[:2] != (1, 1):
        full = (batch, heads, queries, keys)
        bias = reshaped(s, s.op("Expand", bias, full), full, (rows, 1, queries, keys))
    flat3 = [reshaped(s, x, t.shape, (rows, *t.shape[2:])) for x, t in ((q, tq), (k, tk), (v, tv))]
    y = call(flat3, 1, bias)
    return reshaped(s, y, (rows, queries, tv.shape[-1]), (batch, heads, queries, tv.shape[-1]))


def _bias(s: Scope, mask: str | None, rank: int, queries: Dim, keys: Dim, dtype: str) -> str | None:
    """The mask as [B or 1, H or 1, S, T]; of a constant that hides no row whole: to be added.

    None without a mask, and for a constant one that hides nothing.
    """
    if mask is None:
        return None
    key = ("mask", mask, rank, queries, keys)
    if key in s.memo:
        return s.memo[key]
    have = s.graph.types[str(s.node.inputs[3])].shape
    shape = (*[1] * (rank - len(have)), *have)
    four = shape if rank == 4 else (shape[0], 1, *shape[1:])
    full = (*four[:2], queries, keys)
    data = s.known(mask)
    static = tuple(d for d in full if isinstance(d, int))
    if data is not None and len(static) == 4:
        data = np.broadcast_to(data.reshape([int(d) for d in four]), static)
        if data.dtype == bool and data.all():
            return None
        if data.dtype == bool and data.any(axis=-1).all():
            data = np.where(data, 0.0, -np.inf).astype(dt.to_numpy(dtype))
        out = s.const(np.ascontiguousarray(data), f"{mask}.bias")
    else:
        out = reshaped(s, mask, have, four)
        if full != four:
            out = s.op("Expand", out, full)
    s.types.setdefault(out, TensorType(s.dtype(out), full))
    s.memo[key] = out
    return out


def _merged(s: Scope) -> tuple[list[Node], list[str]] | None:
    """(transposes that read the result, q k v as [B, S, H*D]) when heads are transposed on all
    sides.
    """
    users = s.graph.users.get(s.node.name, [])
    if not users or s.node.name in s.graph.outputs:
        return None
    if any(u.op != "transpose" or u.attrs["perm"] != _HEADS for u in users):
        return None
    operands = []
    for name in s.node.inputs[:3]:
        split = s.graph.producers.get(str(name))
        if split is None or split.op != "transpose" or split.attrs["perm"] != _HEADS:
            return None
        operands.append(str(split.inputs[0]))
    return users, [_flat(s, name) for name in operands]


def _flat(s: Scope, name: str) -> str:
    """A value [B, S, H, D] as [B, S, H*D]: what it was reshaped from, where it was."""
    b, n, h, d = s.graph.types[name].shape
    flat = (b, n, dm.mul(h, d))
    made = s.graph.producers.get(name)
    if (
        made is not None
        and made.op == "reshape"
        and s.graph.types[str(made.inputs[0])].shape == flat
    ):
        return s.value(str(made.inputs[0]))
    return reshaped(s, s.value(name), (b, n, h, d), flat)


def _release(s: Scope, users: list[Node], y: str, flat: tuple[Dim, ...]) -> None:
    """Let y [B, S, H*E] stand for what the transposes of the result and their reshapes give."""
    for t in users:
        readers = s.graph.users.get(t.name, [])
        joined = [r for r in readers if r.op == "reshape" and s.graph.types[r.name].shape == flat]
        for r in joined:
            s.bind(r.name, y)
        if len(joined) != len(readers) or t.name in s.graph.outputs:
            s.bind(t.name, reshaped(s, y, flat, s.graph.types[t.name].shape))
        else:
            s.skip(t)
