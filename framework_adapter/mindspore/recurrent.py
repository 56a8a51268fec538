"""Handlers of larger ops: LSTM, fused attention, control flow."""

from __future__ import annotations

import math
from typing import Any

from cir import dim as dm
from framework_adapter.context import Context
from framework_adapter.source import SourceNode

_BSH, _BNSD, _SBH, _BSND = range(4)


def lstm(
    c: Context,
    node: SourceNode,
    x: str,
    h: str,
    state: str,
    weight: str,
    input_size: int,
    hidden_size: int,
    has_bias: bool = True,
    **_: Any,
) -> Any:
    """One layer, one direction: x [T, B, I], h and state [1, B, H] -> y [T, B, H], h, state.

    ``weight`` is flat: input weights [4H, I], hidden weights [4H, H], bias [4H]; gates i, f, g, o.
    """
    n = hidden_size
    shapes = [(4 * n, input_size), (4 * n, n), (4 * n,)][: 3 if has_bias else 2]
    sizes = tuple(math.prod(s) for s in shapes)
    flat = c.op("reshape", weight, shape=(sum(sizes),))
    weights = []
    for part, shape in zip(c.op("split", flat, axis=0, sizes=sizes), shapes):
        i, f, g, o = c.op("split", c.op("reshape", part, shape=shape), axis=0, sizes=(n,) * 4)
        weights.append(c.op("concat", i, o, f, g, axis=0))
    first = [c.op("reshape", v, shape=c.shape(v)[1:]) for v in (h, state)]
    y, *last = c.op("lstm", x, *weights, *[None] * (3 - len(weights)), *first)
    return y, *(c.op("reshape", v, shape=(1, *c.shape(v))) for v in last), None, None


def flash_attention(
    c: Context,
    node: SourceNode,
    query: str,
    key: str,
    value: str,
    attn_mask: str | None,
    head_num: int,
    scale_value: float,
    input_layout: int,
    sparse_mode: int,
    **_: Any,
) -> Any:
    """Attention over heads; a true mask element hides a place."""
    q, k, v = (_heads(c, x, head_num, input_layout) for x in (query, key, value))
    if c.shape(k)[1] != c.shape(q)[1]:
        raise c.refuse("fewer key heads than query heads", "repeat the key and value heads")
    inputs, causal = [q, k, v], sparse_mode in (2, 3)
    if sparse_mode == 3 and c.shape(q)[2] != c.shape(k)[2]:
        raise c.refuse("a right-down causal mask of unequal lengths", "give the whole mask")
    if attn_mask is not None and not causal:
        inputs.append(c.op("logical_not", c.cast(attn_mask, "bool")))
    y = c.op("scaled_dot_product_attention", *inputs, scale=scale_value, causal=causal)
    return None, None, None, _unheads(c, y, input_layout)


def _heads(c: Context, x: str, heads: int, layout: int) -> str:
    """A layout's tensor as [batch, head, place, width]."""
    shape = c.shape(x)
    if layout in (_BSH, _SBH):
        if not isinstance(shape[2], int):
            raise c.refuse(f"heads of symbolic width {shape[2]}", "give the last axis a fixed size")
        x = c.op("reshape", x, shape=(*shape[:2], heads, shape[2] // heads))
    perm = {_BSH: (0, 2, 1, 3), _BSND: (0, 2, 1, 3), _SBH: (1, 2, 0, 3)}.get(layout)
    return c.op("transpose", x, perm=perm) if perm else x


def _unheads(c: Context, y: str, layout: int) -> str:
    perm = {_BSH: (0, 2, 1, 3), _BSND: (0, 2, 1, 3), _SBH: (2, 0, 1, 3)}.get(layout)
    y = c.op("transpose", y, perm=perm) if perm else y
    if layout in (_BSH, _SBH):
        a, b, heads, width = c.shape(y)
        y = c.op("reshape", y, shape=(a, b, dm.mul(heads, width)))
    return y


def cond(c: Context, node: SourceNode, pred: str, operands: tuple[Any, ...]) -> Any:
    """One of two regions, both over the same operands."""
    values = [c.tensor(v) for v in operands]
    types = [c.b.types[v] for v in values]
    regions = [c.region(g, n, types) for g, n in zip(node.regions, ("then", "else"))]
    return c.b.emit("cond", [pred, *values], names=node.outputs, regions=regions)


def while_loop(c: Context, node: SourceNode, operands: tuple[Any, ...]) -> Any:
    """The body while the condition holds; operands beyond the results do not change."""
    values = [c.tensor(v) for v in operands]
    types = [c.b.types[v] for v in values]
    regions = [c.region(g, n, types) for g, n in zip(node.regions, ("cond", "body"))]
    carried = {"carried": len(node.outputs)}
    return c.b.emit("while_loop", values, carried, names=node.outputs, regions=regions)
