"""LSTM as one BlockLSTMV2."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework_adapter.target import Scope
from framework_adapter.tensorflow.dims import scalar
from framework_adapter.tensorflow.parts import integer, like, operand, renewed

#: TensorFlow's gates (i, f, g, o) by their places in the IR (i, o, f, g).
_ORDER = (0, 2, 3, 1)


def lstm(
    s: Scope, x: str, w: str, r: str, b: str | None = None, h: str | None = None,
    c: str | None = None, *, reverse: bool,
) -> Any:  # fmt: skip
    """All steps of one layer in one direction."""
    steps, batch, _ = operand(s, 0).shape
    hidden = int(operand(s, 2).shape[1])
    zero = like(s, x, 0)
    if h is None or c is None:
        zeros = s.op("BroadcastTo", zero, (batch, hidden))
        h, c = h or zeros, c or zeros
    weights = _stacked(s, _gates(s, w, hidden), _gates(s, r, hidden))
    bias = s.op("BroadcastTo", zero, (4 * hidden,)) if b is None else _gates(s, b, hidden, 1)
    none = s.op("BroadcastTo", zero, (hidden,))  # no peepholes
    first = s.const(np.zeros(1, np.int64))
    x = s.op("ReverseV2", x, first) if reverse else x
    _, cells, *_, y = s.op(
        "BlockLSTMV2", scalar(s, steps), x, c, h, weights, none, none, none, bias, results=7
    )
    last: dict[str, Any] = {"begin_mask": 6, "end_mask": 7, "shrink_axis_mask": 1}
    h_n, c_n = (
        s.op("StridedSlice", v, (-1, 0, 0), (0, 0, 0), (1, 1, 1), **last) for v in (y, cells)
    )
    return s.op("ReverseV2", y, first) if reverse else y, h_n, c_n


def _gates(s: Scope, v: str, hidden: int, rank: int = 2) -> str:
    """A weight [4*hidden, n] as [n, 4*hidden], or a bias [4*hidden], with the gates in order."""

    def known(a: np.ndarray) -> np.ndarray:
        parts = a.reshape(4, hidden, -1)[list(_ORDER)]
        return parts.reshape(a.shape).T

    def emitted(v: str) -> Any:
        parts = s.op("SplitV", v, (hidden,) * 4, integer(s, 0, "int32"), results=4, num_split=4)
        y = s.op("ConcatV2", *(parts[i] for i in _ORDER), integer(s, 0))
        return s.op("Transpose", y, (1, 0)) if rank == 2 else y

    return renewed(s, v, ("gates",), known, emitted)


def _stacked(s: Scope, w: str, r: str) -> str:
    """The weights of the input above those of the state."""
    a, b = s.known(w), s.known(r)
    if a is None or b is None:
        return str(s.op("ConcatV2", w, r, integer(s, 0)))
    key = ("stacked", w, r)
    if key not in s.memo:
        s.memo[key] = s.const(np.concatenate([a, b]), f"{w}.stacked")
    return s.memo[key]
