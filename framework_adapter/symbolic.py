"""Symbolic dims at run time: read off a value that has them, or computed by a target's own ops."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Protocol

from cir import dim as dm
from cir.diagnostics import CirError, error
from cir.dim import Dim
from framework_adapter.target import Scope

_BINARY = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Mod: "mod"}


class Ops(Protocol):
    """How a target computes with sizes; all values are int64 vectors."""

    def sizes(self, s: Scope, value: str, start: int, count: int) -> str:
        """Sizes ``start`` to ``start + count`` of a value."""

    def joined(self, s: Scope, parts: Sequence[str]) -> str:
        """Two vectors or more, one behind the other."""

    def arithmetic(self, s: Scope, op: str, *operands: str) -> str:
        """``neg``, ``add``, ``sub``, ``mul``, ``mod``, ``min``, ``max``, and ``div`` of int64[1].

        ``div`` is exact or of numbers that are not negative; ``floordiv`` rounds down.
        """


def vector(s: Scope, dims: Sequence[Dim], ops: Ops) -> str:
    """int64[len(dims)]. A run of dims that some value has in its shape is read off at once.

    Raises CirError E501 when a symbol is no size of any value computed so far.
    """
    key = ("dims", *dims)
    if key not in s.memo:
        parts: list[str] = []
        i = 0
        while i < len(dims):
            n = 0
            while i + n < len(dims) and isinstance(dims[i + n], int):
                n += 1
            if n:
                parts.append(s.ints(dims[i : i + n]))
            elif run := longest_run(s, dims[i:]):
                parts.append(ops.sizes(s, *run))
                n = run[2]
            else:
                parts.append(one(s, dims[i], ops))
                n = 1
            i += n
        s.memo[key] = parts[0] if len(parts) == 1 else ops.joined(s, parts)
    return s.memo[key]


def one(s: Scope, d: Dim, ops: Ops) -> str:
    """int64[1] of one dim. Raises CirError E501 as ``vector`` does."""
    if isinstance(d, int):
        return s.ints((d,))
    key = ("dim", d)
    if key not in s.memo:
        found = _source(s, d)
        s.memo[key] = (
            ops.sizes(s, *found, 1)
            if found is not None
            else _computed(s, ast.parse(d, mode="eval").body, d, ops)
        )
    return s.memo[key]


def longest_run(s: Scope, dims: Sequence[Dim]) -> tuple[str, int, int] | None:
    """(value, first axis, count) of the longest run of two dims or more that starts dims."""
    best: tuple[str, int, int] | None = None
    for value in _values(s):
        shape = s.types[value].shape
        for start in range(len(shape)):
            n = 0
            while n < len(dims) and start + n < len(shape) and shape[start + n] == dims[n]:
                n += 1
            if n > (best[2] if best else 1):
                best = (value, start, n)
    return best


def ones_added(small: Sequence[Dim], large: Sequence[Dim]) -> tuple[int, ...] | None:
    """Axes of large that are 1 and without which it is small; None when there are no such."""
    axes, i = [], 0
    for axis, d in enumerate(large):
        if i < len(small) and small[i] == d:
            i += 1
        elif d == 1:
            axes.append(axis)
        else:
            return None
    return tuple(axes) if i == len(small) else None


def _values(s: Scope) -> Iterator[str]:
    """Values whose shapes may be read here: graph inputs, operands of the node, then all others."""
    scope: Scope | None = s
    while scope is not None:
        names = [*scope.graph.inputs, *(i for i in scope.node.inputs if i is not None)]
        names += [o for o in scope.env if o not in names and o not in scope.graph.consts]
        for name in names:
            value = scope.env.get(name)
            if value is not None and value in s.types and value not in s.consts:
                yield value
        scope = scope.parent


def _source(s: Scope, d: str) -> tuple[str, int] | None:
    for value in _values(s):
        shape = s.types[value].shape
        if d in shape:
            return value, shape.index(d)
    return None


def _computed(s: Scope, node: ast.expr, whole: str, ops: Ops) -> str:
    def sub(n: ast.expr) -> str:
        return one(s, dm.canonical(ast.unparse(n)), ops)

    match node:
        case ast.Name(id=symbol):
            return _solved(s, symbol, ops)
        case ast.UnaryOp(operand=a):
            return ops.arithmetic(s, "neg", sub(a))
        case ast.BinOp(left=a, op=ast.FloorDiv(), right=b):
            name = "floordiv" if "-" in ast.unparse(a) else "div"
            return ops.arithmetic(s, name, sub(a), sub(b))
        case ast.BinOp(left=a, op=op, right=b) if type(op) in _BINARY:
            return ops.arithmetic(s, _BINARY[type(op)], sub(a), sub(b))
        case ast.Call(func=ast.Name(id=fn), args=[first, *rest]):
            out = sub(first)
            for a in rest:
                out = ops.arithmetic(s, fn, out, sub(a))
            return out
    raise _no_source(s, whole)


def _solved(s: Scope, symbol: str, ops: Ops) -> str:
    """A symbol from a value with a size such as 2*symbol + 1."""
    for value in _values(s):
        for axis, d in enumerate(s.types[value].shape):
            if dm.symbols_of(d) != {symbol}:
                continue
            try:
                zero, step = dm.evaluate(d, {symbol: 0}), dm.evaluate(d, {symbol: 1})
                step -= zero
                if not step or dm.evaluate(d, {symbol: 1000}) != zero + 1000 * step:
                    continue
            except dm.DimError:
                continue
            size = ops.sizes(s, value, axis, 1)
            rest = ops.arithmetic(s, "sub", size, s.ints((zero,))) if zero else size
            return rest if step == 1 else ops.arithmetic(s, "div", rest, s.ints((step,)))
    raise _no_source(s, symbol)


def _no_source(s: Scope, d: str) -> CirError:
    return error(
        "E501",
        f"{s.node.op}: the symbolic dim {d} is no size of any value computed before it",
        where=s.node.name,
        fix="name the dim in the shape of an input, or give it a fixed size",
    )
