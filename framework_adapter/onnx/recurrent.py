"""LSTM, both ways. ONNX puts the directions of a layer into one node, under a leading axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from cir import dtype as dt
from cir.dim import Dim
from framework_adapter.context import Context, Value
from framework_adapter.onnx.dims import reshaped
from framework_adapter.source import SourceNode
from framework_adapter.target import Scope


def emit_lstm(
    s: Scope, x: str, w: str, r: str, b: str | None = None, h: str | None = None,
    c: str | None = None, *, reverse: bool,
) -> Any:  # fmt: skip
    """One LSTM of one direction; ONNX's second half of the bias is zeros."""
    steps, batch, _ = s.graph.types[str(s.node.inputs[0])].shape
    hidden = s.graph.types[str(s.node.inputs[2])].shape[1]
    given = [_wider(s, i, v) for i, v in enumerate((x, w, r, b, h, c))][1:]
    y, *ends = s.op(
        "LSTM", x, *given[:3], None, *given[3:], results=3,
        hidden_size=hidden, direction="reverse" if reverse else "forward",
    )  # fmt: skip
    y = reshaped(s, y, (steps, 1, batch, hidden), (steps, batch, hidden))
    return y, *(reshaped(s, v, (1, batch, hidden), (batch, hidden)) for v in ends)


def _wider(s: Scope, index: int, v: str | None) -> str | None:
    """A weight or state with the axis of directions before it; the bias with its other half."""
    if v is None or index == 0:
        return v
    data, key = s.known(v), ("direction", v, index == 3)
    if key in s.memo:
        return s.memo[key]
    if data is not None:
        if index == 3:
            data = np.concatenate([data, np.zeros_like(data)])
        s.memo[key] = s.const(data[None], f"{v}.d")
        return s.memo[key]
    shape: tuple[Dim, ...] = s.graph.types[str(s.node.inputs[index])].shape
    if index == 3:
        zeros = s.const(np.zeros(int(shape[0]), dt.to_numpy(s.dtype(v))))
        v, shape = s.op("Concat", v, zeros, axis=0), (2 * int(shape[0]),)
    return reshaped(s, v, shape, (1, *shape))


def lstm(
    c: Context, node: SourceNode, x: Value, w: Value, r: Value, b: Value | None,
    initial_h: Value | None, initial_c: Value | None, *, direction: str, layout: int, **_: Any,
) -> Any:  # fmt: skip
    """LSTM of one direction or two: y [T, D, N, H] and the last states [D, N, H].

    With layout 1 the batch comes first everywhere.
    """
    turn = (1, 0, 2) if layout else (0, 1, 2)
    x = c.op("transpose", x, perm=turn)
    h, cell = (v and c.op("transpose", v, perm=turn) for v in (initial_h, initial_c))
    runs, gates = int(c.shape(r)[0]), c.shape(r)[1]
    if b is not None:
        b = c.op("add", *c.op("split", b, axis=1, sizes=(gates, gates)))
    sides = zip(*(_each(c, v, runs) for v in (w, r, b, h, cell)))
    order = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    found = [c.op("lstm", x, *side, reverse=back) for side, back in zip(sides, order)]
    y, *ends = (_joined(c, list(v), axis) for v, axis in zip(zip(*found), (1, 0, 0)))
    if layout:
        y = c.op("transpose", y, perm=(2, 0, 1, 3))
        ends = [c.op("transpose", v, perm=turn) for v in ends]
    return y, *ends


def _each(c: Context, v: Value | None, runs: int) -> list[Value | None]:
    """[D, ...] as D values without that axis."""
    if v is None:
        return [None] * runs
    parts = c.op("split", v, axis=0, sizes=(1,) * runs) if runs > 1 else (v,)
    return [c.op("reshape", p, shape=c.shape(v)[1:]) for p in parts]


def _joined(c: Context, values: list[Value], axis: int) -> Value:
    """The results of the directions along a new axis."""
    shape = c.shape(values[0])
    wide = [c.op("reshape", v, shape=(*shape[:axis], 1, *shape[axis:])) for v in values]
    return c.op("concat", *wide, axis=axis) if len(wide) > 1 else wide[0]
