"""The expression language of attributes, guards and dims: a closed subset of Python, never
``eval``.

Numbers, strings, booleans, None, names, tuples, subscripts, arithmetic, comparisons, and/or/not,
conditional expressions, ``.rank .dtype .shape`` of a value, and calls of the functions listed in
``FUNCTIONS`` plus those that the caller adds. A string operand of arithmetic is a symbolic dim.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from cir import dim


class ExprError(ValueError):
    """An expression that is not allowed or cannot be evaluated."""


Functions = Mapping[str, Callable[..., Any]]

_MAX_LENGTH = 4000
_MAX_SEQUENCE = 10_000
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_ARITH: dict[type, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any] | None]] = {
    ast.Add: (operator.add, dim.add),
    ast.Sub: (operator.sub, dim.sub),
    ast.Mult: (operator.mul, dim.mul),
    ast.Div: (operator.truediv, None),
    ast.FloorDiv: (operator.floordiv, dim.floordiv),
    ast.Mod: (operator.mod, dim.mod),
}
_FIELDS = ("rank", "dtype", "shape")


def _min(*args: Any) -> Any:
    seq = tuple(args[0]) if len(args) == 1 else args
    return dim.minimum(*seq) if any(isinstance(a, str) for a in seq) else min(seq)


def _max(*args: Any) -> Any:
    seq = tuple(args[0]) if len(args) == 1 else args
    return dim.maximum(*seq) if any(isinstance(a, str) for a in seq) else max(seq)


def ntuple(x: Any, n: int) -> tuple[Any, ...]:
    """x repeated n times; a sequence of length 1 is repeated, another is returned as a tuple."""
    if isinstance(x, (tuple, list)):
        return tuple(x) * n if len(x) == 1 and n <= 16 else tuple(x)
    return (x,) * n if n <= 16 else ()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len,
    "min": _min,
    "max": _max,
    "abs": abs,
    "int": int,
    "float": float,
    "bool": bool,
    "sum": lambda s: sum(s),
    "sqrt": math.sqrt,
    "prod": lambda s: dim.product(s) if any(isinstance(d, str) for d in s) else math.prod(s),
    "range": lambda *a: tuple(range(*a)[:_MAX_SEQUENCE]),
    "ntuple": ntuple,
    "reversed": lambda s: tuple(reversed(s)),
}


@lru_cache(maxsize=8192)
def parse(source: str) -> ast.expr:
    """Parse one expression. Raises ExprError on a syntax error or an over-long source."""
    if len(source) > _MAX_LENGTH:
        raise ExprError(f"expression longer than {_MAX_LENGTH} characters")
    try:
        return ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError) as exc:
        raise ExprError(f"{source!r} is not an expression: {exc}") from exc


def evaluate(
    source: str | ast.expr, env: Mapping[str, Any], functions: Functions | None = None
) -> Any:
    """Evaluate an expression in an environment of plain values.

    Args:
        source: text, or a node that ``parse`` returned.
        env: name -> value; a value with ``rank``, ``dtype`` and ``shape`` lends these three fields.
        functions: further functions that may be called, beside ``FUNCTIONS``.

    Returns:
        A number, string, bool, None or tuple.

    Raises:
        ExprError: the construct is not in the language, a name is unknown, or evaluation failed.
    """
    node = parse(source) if isinstance(source, str) else source
    try:
        return _eval(node, env, functions or {})
    except ExprError:
        raise
    except (ArithmeticError, TypeError, ValueError, LookupError, RecursionError) as exc:
        raise ExprError(f"{ast.unparse(node)!r}: {exc}") from exc


def _eval(node: ast.expr, env: Mapping[str, Any], fns: Functions) -> Any:
    def ev(n: ast.expr) -> Any:
        return _eval(n, env, fns)

    match node:
        case ast.Constant(value=v) if v is None or isinstance(v, (bool, int, float, str)):
            return v
        case ast.Name(id=name):
            if name in env:
                return env[name]
            known = ", ".join(sorted(map(str, env)))
            raise ExprError(f"unknown name {name!r}; known: {known}")
        case ast.Tuple(elts=elts) | ast.List(elts=elts):
            out: list[Any] = []
            for e in elts:
                out.extend(ev(e.value)) if isinstance(e, ast.Starred) else out.append(ev(e))
            return tuple(out)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITH:
            a, b = ev(left), ev(right)
            if (isinstance(a, tuple) or isinstance(b, tuple)) and isinstance(op, ast.Mult):
                count, seq = (b, a) if isinstance(a, tuple) else (a, b)
                if not isinstance(count, int) or count > 16 or len(seq) > _MAX_SEQUENCE:
                    raise ExprError("a tuple may be repeated at most 16 times")
            plain, symbolic = _ARITH[type(op)]
            if isinstance(a, str) or isinstance(b, str):
                if symbolic is None:
                    raise ExprError("a symbolic dim takes + - * // % only")
                return symbolic(a, b)
            return plain(a, b)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            a, b = ev(left), ev(right)
            if not isinstance(a, (int, float)) or not isinstance(b, (int, float)) or abs(b) > 64:
                raise ExprError("** takes numbers with an exponent of at most 64")
            return float(a) ** b
        case ast.UnaryOp(op=ast.USub(), operand=x):
            value = ev(x)
            return dim.mul(-1, value) if isinstance(value, str) else -value
        case ast.UnaryOp(op=ast.Not(), operand=x):
            return not ev(x)
        case ast.BoolOp(op=ast.And(), values=values):
            return all(ev(v) for v in values)
        case ast.BoolOp(op=ast.Or(), values=values):
            return any(ev(v) for v in values)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return ev(body) if ev(test) else ev(orelse)
        case ast.Compare(left=left, ops=ops, comparators=rights):
            a = ev(left)
            for cmp, right in zip(ops, rights):
                b = ev(right)
                if not _COMPARE[type(cmp)](a, b):
                    return False
                a = b
            return True
        case ast.Subscript(value=value, slice=ast.Slice(lower=lo, upper=hi, step=None)):
            return ev(value)[(ev(lo) if lo else None) : (ev(hi) if hi else None)]
        case ast.Subscript(value=value, slice=index):
            return ev(value)[ev(index)]
        case ast.Attribute(value=value, attr=name) if name in _FIELDS:
            return getattr(ev(value), name)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            fn = fns.get(name) or FUNCTIONS.get(name)
            if fn is None:
                known = ", ".join(sorted({*FUNCTIONS, *fns}))
                raise ExprError(f"unknown function {name!r}; known: {known}")
            return fn(*[ev(a) for a in args])
    raise ExprError(f"{type(node).__name__} is not allowed in {ast.unparse(node)!r}")
