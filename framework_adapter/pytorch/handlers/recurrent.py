"""Recurrent layers."""
# ruff: noqa: D103  (the row that names a handler describes it)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework_adapter.context import Context, Value
from framework_adapter.source import SourceNode

_TURN = (1, 0, 2)


def lstm(
    c: Context, node: SourceNode, input: Value, hx: Sequence[Value], params: Sequence[Value],
    has_biases: bool, num_layers: int, bidirectional: bool, batch_first: bool, **_: Any,
) -> Any:  # fmt: skip
    """A stack of layers; a layer of two directions gives their results side by side."""
    x = c.op("transpose", input, perm=_TURN) if batch_first else input
    directions, each = 2 if bidirectional else 1, 4 if has_biases else 2
    runs = num_layers * directions
    first = [_one_by_one(c, state, runs) for state in hx]
    ends: tuple[list[Value], list[Value]] = ([], [])
    for layer in range(num_layers):
        sides = []
        for d in range(directions):
            i = layer * directions + d
            weights = _gates(c, params[i * each : (i + 1) * each])
            y, *last = c.op("lstm", x, *weights, first[0][i], first[1][i], reverse=d == 1)
            sides.append(y)
            for end, state in zip(ends, last):
                end.append(c.op("reshape", state, shape=(1, *c.shape(state))))
        x = c.op("concat", *sides, axis=-1) if bidirectional else sides[0]
    h, cell = (c.op("concat", *end, axis=0) for end in ends)
    return c.op("transpose", x, perm=_TURN) if batch_first else x, h, cell


def _one_by_one(c: Context, state: Value, runs: int) -> list[Value]:
    """[runs, N, H] as so many of [N, H]."""
    parts = c.op("split", state, axis=0, sizes=(1,) * runs) if runs > 1 else (state,)
    return [c.op("reshape", p, shape=c.shape(state)[1:]) for p in parts]


def _gates(c: Context, params: Sequence[Value]) -> list[Value | None]:
    """w, r and the sum of both biases, their gates i, f, g, o in the order i, o, f, g."""
    w, r, *biases = params
    bias = c.op("add", *biases) if biases else None
    ordered: list[Value | None] = []
    for v in (w, r, bias):
        if v is not None:
            i, f, g, o = c.op("split", v, axis=0, sizes=(c.shape(r)[1],) * 4)
            v = c.op("concat", i, o, f, g, axis=0)
        ordered.append(v)
    return ordered
