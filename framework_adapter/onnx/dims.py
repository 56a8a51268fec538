"""Symbolic dims as ONNX nodes, and reshapes that need none."""

from __future__ import annotations

from collections.abc import Sequence

from cir.dim import Dim
from framework_adapter import symbolic
from framework_adapter.target import Scope

_OPS = {"neg": "Neg", "add": "Add", "sub": "Sub", "mul": "Mul", "mod": "Mod", "div": "Div",
        "min": "Min", "max": "Max"}  # fmt: skip


class _Sizes:
    """Arithmetic of sizes in ONNX."""

    def sizes(self, s: Scope, value: str, start: int, count: int) -> str:
        key = ("shape", value, start, count)
        if key not in s.memo:
            part = (start, start + count)
            first, end = (None, None) if part == (0, s.types[value].rank) else part
            s.memo[key] = s.op("Shape", value, start=first, end=end)
        return s.memo[key]

    def joined(self, s: Scope, parts: Sequence[str]) -> str:
        return str(s.op("Concat", *parts, axis=0))

    def arithmetic(self, s: Scope, op: str, *operands: str) -> str:
        if op == "floordiv":  # Div truncates: take off the remainder, which floors
            x, y = operands
            return str(s.op("Div", s.op("Sub", x, s.op("Mod", x, y)), y))
        return str(s.op(_OPS[op], *operands))


def vector(s: Scope, dims: Sequence[Dim]) -> str:
    """int64[len(dims)]. Raises CirError E501 when a symbol is no size of any value so far."""
    return symbolic.vector(s, dims, _Sizes())


def reshaped(s: Scope, x: str, have: Sequence[Dim], want: Sequence[Dim]) -> str:
    """One Reshape from one shape to another: copied dims are 0, one more unknown is -1.

    With several unknowns: axes of size 1 come and go by Unsqueeze and Squeeze, the shape of a value
    at hand is taken over, and only what remains is computed.
    """
    if tuple(have) == tuple(want):
        return x
    if 0 in want:
        return str(s.op("Reshape", x, s.ints(want), allowzero=1))
    target: list[Dim] = list(want)
    for i, d in enumerate(want):
        if isinstance(d, str) and i < len(have) and have[i] == d:
            target[i] = 0
    unknown = [i for i, d in enumerate(target) if isinstance(d, str)]
    if len(unknown) > 1:
        for op, small, large in (("Unsqueeze", have, want), ("Squeeze", want, have)):
            axes = symbolic.ones_added(small, large)
            if axes is not None:
                return str(s.op(op, x, axes))
        run = symbolic.longest_run(s, want)
        if run is not None and run[1:] == (0, len(want)) and s.types[run[0]].rank == len(want):
            return str(s.op("Reshape", x, vector(s, want)))
    if unknown:
        target[max(unknown, key=lambda i: (len(str(target[i])), i))] = -1
    return str(s.op("Reshape", x, s.ints(target)))
