"""Shapes: stated, changed, broadcast; symbolic dims as nodes.

A symbolic size is read off a value at hand, and computed where none has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cir.dim import Dim
from cir.graph import TensorType
from framework_adapter import symbolic
from framework_adapter.target import Scope

_OPS = {"neg": "Neg", "add": "AddFusion", "sub": "SubFusion", "mul": "MulFusion", "mod": "FloorMod",
        "div": "FloorDiv", "min": "Minimum", "max": "Maximum"}  # fmt: skip


def made(s: Scope, value: Any, shape: Sequence[Dim]) -> str:
    """A value that was just emitted, its shape stated: the file declares one for every tensor."""
    s.types[value] = TensorType(s.dtype(value), tuple(shape))
    return str(value)


def reshaped(s: Scope, x: str, have: Sequence[Dim], want: Sequence[Dim]) -> str:
    """A value of one shape in another shape."""
    if tuple(have) == tuple(want):
        return x
    data = s.known(x)
    sizes = [d for d in want if isinstance(d, int)]
    if data is not None and len(sizes) == len(want):
        return s.const(data.reshape(sizes))
    if not want:  # a constant vector of no elements is not allowed
        return made(s, s.op("Squeeze", x, axis=tuple(range(len(have)))), ())
    target: list[Dim] = list(want)
    unknown = [i for i, d in enumerate(want) if isinstance(d, str)]
    if len(unknown) > 1:
        for i in unknown:
            if i < len(have) and have[i] == want[i]:
                target[i] = 0
        unknown = [i for i in unknown if target[i] != 0]
    if len(unknown) > 1:
        return made(s, s.op("Reshape", x, tuple(want)), want)
    for i in unknown:
        target[i] = -1
    return made(s, s.op("Reshape", x, tuple(target)), want)


def full(s: Scope, v: str, have: Sequence[Dim], want: Sequence[Dim]) -> str:
    """A value broadcast to a shape; one that has the shape, or one element, as it is."""
    if tuple(have) == tuple(want) or all(d == 1 for d in have):
        return v
    return broadcast(s, v, have, want)


def broadcast(s: Scope, v: str, have: Sequence[Dim], want: Sequence[Dim]) -> str:
    """BroadcastTo; a scalar becomes a vector of one element first."""
    if not have:
        data = s.known(v)
        one = s.op("Reshape", v, (1,)) if data is None else s.const(data.reshape(1))
        v = made(s, one, (1,))
    if all(isinstance(d, int) for d in want):
        return made(s, s.op("BroadcastTo", v, shape=tuple(want)), want)
    return made(s, s.op("BroadcastTo", v, tuple(want)), want)


class _Sizes:
    """Arithmetic of sizes in MindSpore Lite."""

    def sizes(self, s: Scope, value: str, start: int, count: int) -> str:
        key = ("shape", value)
        rank = s.types[value].rank
        if key not in s.memo:
            s.memo[key] = made(s, s.op("Shape", value), (rank,))
        if count == rank:
            return s.memo[key]
        cut = s.op("StridedSlice", s.memo[key], (start,), (start + count,), s.ints((1,)))
        return made(s, cut, (count,))

    def joined(self, s: Scope, parts: Sequence[str]) -> str:
        count = sum(int(s.types[p].shape[0]) for p in parts)
        return made(s, s.op("Concat", *parts, axis=0), (count,))

    def arithmetic(self, s: Scope, op: str, *operands: str) -> str:
        if op == "floordiv":  # the kernel truncates: take off the remainder, which floors
            x, y = operands
            x = self.arithmetic(s, "sub", x, self.arithmetic(s, "mod", x, y))
            return self.arithmetic(s, "div", x, y)
        return made(s, s.op(_OPS[op], *operands), (1,))


def vector(s: Scope, dims: Sequence[Dim]) -> str:
    """int64[len(dims)]. Raises CirError E501 when a symbol is no size of any value so far."""
    return symbolic.vector(s, dims, _Sizes())
