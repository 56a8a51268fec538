"""Symbolic dims as TensorFlow nodes: parts of the shapes of values at hand, and arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cir.dim import Dim
from framework_adapter import symbolic
from framework_adapter.target import Scope

_OPS = {"neg": "Neg", "add": "AddV2", "sub": "Sub", "mul": "Mul", "mod": "FloorMod",
        "div": "FloorDiv", "floordiv": "FloorDiv", "min": "Minimum", "max": "Maximum"}  # fmt: skip


class _Sizes:
    """Arithmetic of sizes in TensorFlow."""

    def sizes(self, s: Scope, value: str, start: int, count: int) -> str:
        whole, part = ("shape", value), ("shape", value, start, count)
        if whole not in s.memo:
            s.memo[whole] = s.op("Shape", value, out_type="int64")
        if (start, count) == (0, s.types[value].rank):
            return s.memo[whole]
        if part not in s.memo:
            bounds = (s.ints((n,)) for n in (start, start + count, 1))
            s.memo[part] = s.op("StridedSlice", s.memo[whole], *bounds)
        return s.memo[part]

    def joined(self, s: Scope, parts: Sequence[str]) -> str:
        return str(s.op("ConcatV2", *parts, s.const(0, dtype="int64")))

    def arithmetic(self, s: Scope, op: str, *operands: str) -> str:
        return str(s.op(_OPS[op], *operands))


def vector(s: Scope, dims: Sequence[Dim]) -> str:
    """int64[len(dims)]. Raises CirError E501 when a symbol is no size of any value so far."""
    return symbolic.vector(s, dims, _Sizes())


def scalar(s: Scope, d: Dim) -> str:
    """int64[] of one dim."""
    if isinstance(d, int):
        return s.const(np.asarray(d, np.int64))
    key = ("scalar", d)
    if key not in s.memo:
        s.memo[key] = s.op("Reshape", vector(s, (d,)), s.const(np.zeros(0, np.int64)))
    return s.memo[key]


def arange(s: Scope, d: Dim) -> str:
    """int64[d]: 0, 1, 2, ..."""
    return str(s.op("Range", scalar(s, 0), scalar(s, d), scalar(s, 1)))


def reshaped(s: Scope, x: str, have: Sequence[Dim], want: Sequence[Dim]) -> str:
    """A Reshape from one shape to another; the one dim that is not known is -1."""
    if tuple(have) == tuple(want):
        return x
    unknown = [i for i, d in enumerate(want) if isinstance(d, str)]
    target = list(want)
    if len(unknown) == 1 and 0 not in want:
        target[unknown[0]] = -1
    return str(s.op("Reshape", x, s.ints(target)))
