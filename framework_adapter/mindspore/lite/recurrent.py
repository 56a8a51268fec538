"""Emission handler of the LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cir.dim import Dim
from cir.graph import Node
from framework_adapter.mindspore.lite.dims import made
from framework_adapter.mindspore.lite.neighbours import operand, result
from framework_adapter.target import Scope


def lstm(
    s: Scope, x: str, w: str, r: str, b: str | None = None, h: str | None = None,
    c: str | None = None, *, reverse: bool,
) -> Any:  # fmt: skip
    """One LSTM for the two directions of a sequence. One backwards alone runs forwards over the
    reversed sequence.
    """
    other = _other_direction(s)
    if other is not None:
        mine, its = [w, r, b, h, c], [v and s.value(v) for v in _operands(other)]
        pair = (its, mine) if reverse else (mine, its)
        results = list(_recurrent(s, x, pair))
        first, second = ([v[i] for v in results] for i in ((1, 0) if reverse else (0, 1)))
        for name, value in zip(other.outputs, second):
            s.bind(name, value)
        return first
    shape = operand(s, 0).shape
    if reverse:
        x = made(s, s.op("ReverseV2", x, axis=(0,)), shape)
    (y,), (hn,), (cn,) = _recurrent(s, x, ([w, r, b, h, c],))
    if reverse:
        y = s.op("ReverseV2", made(s, y, result(s).shape), axis=(0,))
    return y, hn, cn


def _operands(node: Node) -> list[str | None]:
    """w, r, b, h, c of an lstm."""
    return [*node.inputs[1:], *[None] * (6 - len(node.inputs))]


def _other_direction(s: Scope) -> Node | None:
    """A later lstm over the same sequence, of the same size, in the other direction."""
    node = s.node
    later = False
    for user in s.graph.users[str(node.inputs[0])]:
        if later and user.op == "lstm" and user.inputs[0] == node.inputs[0]:
            ready = all(v is None or v in s.env or v in s.graph.consts for v in user.inputs)
            same = _operands(node)[2] is not None, s.graph.types[node.name]
            alike = same == (_operands(user)[2] is not None, s.graph.types[user.name])
            if ready and alike and user.attrs["reverse"] != node.attrs["reverse"]:
                return user
        later = later or user is node
    return None


def _recurrent(s: Scope, x: str, sides: Sequence[Sequence[str | None]]) -> Any:
    """(y, h, c), each a list by direction, of an LSTM over x."""
    steps, batch, features = operand(s, 0).shape
    hidden = int(operand(s, 2).shape[1])
    gates, runs = 4 * hidden, len(sides)
    ws, rs, bs, hs, cs = zip(*sides)
    operands = [
        _stacked(s, ws, (gates, features)),
        _stacked(s, rs, (gates, hidden)),
        _stacked(s, [_bias(s, b, gates) for b in bs], (2 * gates,)),
        _states(s, hs, batch, hidden),
        _states(s, cs, batch, hidden),
    ]
    y, hn, cn = s.op(
        "LSTM", x, *operands, results=3, bidirectional=runs == 2, has_bias=bs[0] is not None,
        input_size=features, hidden_size=hidden, num_layers=1, num_directions=runs,
    )  # fmt: skip
    return (
        _unstacked(s, y, (steps, runs, batch, hidden), 1),
        _unstacked(s, hn, (runs, batch, hidden), 0),
        _unstacked(s, cn, (runs, batch, hidden), 0),
    )


def _stacked(s: Scope, values: Sequence[str], shape: Sequence[Dim]) -> str:
    """Values of one shape along a new first axis; constants when the file is written."""
    data = [s.known(v) for v in values]
    if all(d is not None for d in data):
        key = ("stacked", *values)
        if key not in s.memo:
            s.memo[key] = s.const(np.stack(data), f"{values[0]}.d")  # type: ignore[arg-type]
        return s.memo[key]
    wide = [made(s, s.op("Unsqueeze", v, axis=(0,)), (1, *shape)) for v in values]
    if len(wide) == 1:
        return wide[0]
    return made(s, s.op("Concat", *wide, axis=0), (len(wide), *shape))


def _unstacked(s: Scope, v: str, shape: Sequence[Dim], axis: int) -> list[str]:
    """The parts along an axis, without it."""
    made(s, v, shape)
    rest = (*shape[:axis], *shape[axis + 1 :])
    n = int(shape[axis])
    parts = [v]
    if n > 1:
        one = (*shape[:axis], 1, *shape[axis + 1 :])
        sizes = (1,) * n
        outs = s.op("Split", v, results=n, output_num=n, size_splits=sizes, axis=axis)
        parts = [made(s, o, one) for o in outs]
    return [made(s, s.op("Squeeze", p, axis=(axis,)), rest) for p in parts]


def _bias(s: Scope, b: str | None, gates: int) -> str:
    """[2*4H]: the bias of the input, then that of the state, which is none."""
    if b is None:
        return s.const(np.zeros(2 * gates, np.float32))
    data = s.known(b)
    if data is None:
        zeros = s.const(np.zeros(gates, np.float32))
        return made(s, s.op("Concat", b, zeros, axis=0), (2 * gates,))
    key = ("bias", b)
    if key not in s.memo:
        s.memo[key] = s.const(np.concatenate([data, np.zeros_like(data)]), f"{b}.both")
    return s.memo[key]


def _states(s: Scope, values: Sequence[str | None], batch: Dim, hidden: int) -> str:
    """[D, N, H]; zeros for none."""
    if all(v is None for v in values):
        return _zeros(s, (len(values), batch, hidden))
    full = [_zeros(s, (batch, hidden)) if v is None else v for v in values]
    return _stacked(s, full, (batch, hidden))


def _zeros(s: Scope, shape: tuple[Dim, ...]) -> str:
    if all(isinstance(d, int) for d in shape):
        return s.const(np.zeros([int(d) for d in shape], np.float32))
    key = ("zeros", *shape)
    if key not in s.memo:
        zero = s.const(np.zeros([1] * len(shape), np.float32))
        s.memo[key] = made(s, s.op("BroadcastTo", zero, shape), shape)
    return s.memo[key]
