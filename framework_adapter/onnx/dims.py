"""Symbolic dims as ONNX nodes, and reshapes that need none."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from cir import dim as dm
from cir.diagnostics import error
from cir.dim import Dim
from framework_adapter.target import Scope


def vector(s: Scope, dims: Sequence[Dim]) -> str:
    """int64[len(dims)]. A run of dims that some value has as its shape is read off at once.

    Raises CirError E501 when a symbol is no size of any value computed so far.
    """
    key = ("dims", *dims)
    if key not in s.memo:
        parts: list[str] = []
        plain: list[int] = []
        i = 0
        while i < len(dims):
            d = dims[i]
            if isinstance(d, int):
                plain.append(d)
                i += 1
                continue
            if plain:
                parts.append(s.ints(plain))
                plain = []
            run = _run(s, dims[i:])
            if run is None:
                parts.append(one(s, d))
                i += 1
            else:
                value, start, count = run
                parts.append(_shape(s, value, start, count))
                i += count
        if plain:
            parts.append(s.ints(plain))
        s.memo[key] = parts[0] if len(parts) == 1 else s.op("Concat", *parts, axis=0)
    return s.memo[key]


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
            axes = _ones_added(small, large)
            if axes is not None:
                return str(s.op(op, x, axes))
        run = _run(s, want)
        if run is not None and run[1:] == (0, len(want)) and s.types[run[0]].rank == len(want):
            return str(s.op("Reshape", x, vector(s, want)))
    if unknown:
        target[max(unknown, key=lambda i: (len(str(target[i])), i))] = -1
    return str(s.op("Reshape", x, s.ints(target)))


def _ones_added(small: Sequence[Dim], large: Sequence[Dim]) -> tuple[int, ...] | None:
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


def one(s: Scope, d: Dim) -> str:
    """int64[1] of one dim."""
    if isinstance(d, int):
        return s.ints((d,))
    key = ("dim", d)
    if key not in s.memo:
        s.memo[key] = _source(s, d) or _computed(s, ast.parse(d, mode="eval").body, d)
    return s.memo[key]


def _shape(s: Scope, value: str, start: int, count: int) -> str:
    key = ("shape", value, start, count)
    if key not in s.memo:
        whole = start == 0 and count == s.types[value].rank
        s.memo[key] = s.op(
            "Shape", value, start=None if whole else start, end=None if whole else start + count
        )
    return s.memo[key]


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


def _run(s: Scope, dims: Sequence[Dim]) -> tuple[str, int, int] | None:
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


def _source(s: Scope, d: str) -> str | None:
    for value in _values(s):
        shape = s.types[value].shape
        if d in shape:
            return _shape(s, value, shape.index(d), 1)
    return None


def _computed(s: Scope, node: ast.expr, whole: str) -> str:
    def sub(n: ast.expr) -> str:
        return one(s, dm.canonical(ast.unparse(n)))

    match node:
        case ast.Name(id=symbol):
            return _solved(s, symbol)
        case ast.UnaryOp(operand=a):
            return s.op("Neg", sub(a))
        case ast.BinOp(left=a, op=ast.Add(), right=b):
            return s.op("Add", sub(a), sub(b))
        case ast.BinOp(left=a, op=ast.Sub(), right=b):
            return s.op("Sub", sub(a), sub(b))
        case ast.BinOp(left=a, op=ast.Mult(), right=b):
            return s.op("Mul", sub(a), sub(b))
        case ast.BinOp(left=a, op=ast.Mod(), right=b):
            return s.op("Mod", sub(a), sub(b))
        case ast.BinOp(left=a, op=ast.FloorDiv(), right=b):
            x, y = sub(a), sub(b)
            if "-" in ast.unparse(a):  # Div truncates: take off the remainder, which floors
                x = s.op("Sub", x, s.op("Mod", x, y))
            return s.op("Div", x, y)
        case ast.Call(func=ast.Name(id=fn), args=args):
            return s.op(fn.capitalize(), *map(sub, args))
    raise _no_source(s, whole)


def _solved(s: Scope, symbol: str) -> str:
    """A symbol from a value with a size such as 2*symbol + 1."""
    for value in _values(s):
        for axis, d in enumerate(s.types[value].shape):
            if dm.symbols_of(d) != {symbol}:
                continue
            try:
                zero, step = dm.evaluate(d, {symbol: 0}), dm.evaluate(d, {symbol: 1})
                step -= zero
                if step and dm.evaluate(d, {symbol: 1000}) == zero + 1000 * step:
                    size = _shape(s, value, axis, 1)
                    rest = s.op("Sub", size, (zero,)) if zero else size
                    return s.op("Div", rest, (step,)) if step != 1 else rest
            except dm.DimError:
                continue
    raise _no_source(s, symbol)


def _no_source(s: Scope, d: str) -> Exception:
    return error(
        "E501",
        f"{s.node.op}: the symbolic dim {d} is no size of any value computed before it",
        where=s.node.name,
        fix="name the dim in the shape of an input, or give it a fixed size",
    )
