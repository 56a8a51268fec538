"""Symbolic dims as GE nodes, and reshapes that need none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cir.dim import Dim
from framework_adapter import symbolic
from framework_adapter.target import Scope

_OPS = {"neg": "Neg", "add": "Add", "sub": "Sub", "mul": "Mul", "mod": "FloorMod",
        "div": "FloorDiv", "floordiv": "FloorDiv", "min": "Minimum", "max": "Maximum"}  # fmt: skip


class _Sizes:
    """Arithmetic of sizes in GE."""

    def sizes(self, s: Scope, value: str, start: int, count: int) -> str:
        key = ("sizes", value, start, count)
        if key not in s.memo:
            whole = s.memo.get(("shape", value))
            if whole is None:
                whole = s.memo["shape", value] = s.op("Shape", value, dtype="int64")
            picked = tuple(range(start, start + count))
            all_of_it = count == s.types[value].rank
            s.memo[key] = whole if all_of_it else s.op("GatherV2", whole, picked, _scalar(s, 0))
        return s.memo[key]

    def joined(self, s: Scope, parts: Sequence[str]) -> str:
        return str(s.op("ConcatV2", *parts, _scalar(s, 0)))

    def arithmetic(self, s: Scope, op: str, *operands: str) -> str:
        return str(s.op(_OPS[op], *operands))


def vector(s: Scope, dims: Sequence[Dim]) -> str:
    """int64[len(dims)]. Raises CirError E501 when a symbol is no size of any value so far."""
    return symbolic.vector(s, dims, _Sizes())


def one(s: Scope, d: Dim) -> str:
    """int64[1] of one dim. Raises CirError E501 as ``vector`` does."""
    return symbolic.one(s, d, _Sizes())


def reshaped(s: Scope, x: str, have: Sequence[Dim], want: Sequence[Dim]) -> str:
    """``x`` under another shape of as many elements.

    One unknown dim is -1; axes of size 1 come and go by Unsqueeze and Squeeze; only what remains is
    computed.
    """
    if tuple(have) == tuple(want):
        return x
    unknown = [i for i, d in enumerate(want) if isinstance(d, str)]
    if len(unknown) < 2 and 0 not in want:
        target = tuple(-1 if i in unknown else d for i, d in enumerate(want))
        return str(s.op("Reshape", x, s.ints(target)))
    added, dropped = symbolic.ones_added(have, want), symbolic.ones_added(want, have)
    if added is not None:
        return str(s.op("Unsqueeze", x, axes=added))
    if dropped is not None:
        return str(s.op("Squeeze", x, axis=dropped))
    return str(s.op("Reshape", x, vector(s, want)))


def _scalar(s: Scope, n: int) -> str:
    return s.const(np.asarray(n, np.int64))
