"""Recurrent layers."""

from __future__ import annotations

from typing import Any

from framework_adapter.context import Context, Value
from framework_adapter.source import SourceNode


def block_lstm(
    c: Context, node: SourceNode, seq_len_max: Any, x: Value, cs_prev: Value, h_prev: Value,
    w: Value, wci: Value, wcf: Value, wco: Value, b: Value, cell_clip: float, use_peephole: bool,
) -> Any:  # fmt: skip
    """BlockLSTMV2: the states h of all steps; w holds the weights of x above those of h."""
    features, gates = c.shape(x)[2], c.shape(b)[0]
    length = c.dims(seq_len_max)
    if use_peephole or cell_clip > 0:
        raise c.refuse("peepholes or a clipped cell", "use an LSTM without them")
    if length != c.shape(x)[:1]:
        raise c.refuse("fewer steps than the input has", "cut the input instead")
    parts = c.op("split", w, axis=0, sizes=(features, int(c.shape(w)[0]) - int(features)))
    weights = []
    for v in (*(c.op("transpose", p, perm=(1, 0)) for p in parts), b):
        i, f, g, o = c.op("split", v, axis=0, sizes=(int(gates) // 4,) * 4)
        weights.append(c.op("concat", i, o, f, g, axis=0))
    h = c.op("lstm", x, *weights, h_prev, cs_prev, reverse=False)[0]
    return (*[None] * 6, h)
