"""Statements: Python-shaped lines such as ``y = layer_norm(x, g, b, epsilon=1e-5)``, parsed, never
run.

Decompositions, mapping rows and strategies are lists of them. Positional arguments are values:
names, number literals, nested calls, infix ``+ - * / // % ** @ < <= > >= == != ~``, and ``a if t
else b``. Keyword arguments and tests ``t`` are attribute expressions of ``cir.expr``. ``|``
separates alternatives (in patterns only).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cir import expr as ex
from cir.builder import Builder
from cir.graph import Meta


class StatementError(ValueError):
    """A line that is not a statement."""


@dataclass(frozen=True, slots=True)
class Name:
    """Reference to a value or an attribute."""

    id: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, bool, string or None."""

    value: Any


@dataclass(frozen=True, slots=True)
class Call:
    """An op application. ``starred`` marks positional arguments written ``*xs``."""

    op: str
    args: tuple[Expr, ...]
    attrs: tuple[tuple[str, ast.expr], ...] = ()
    starred: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Alt:
    """Alternatives of a pattern, in the order written."""

    options: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """``then if test else other``: an attribute expression decides; only that side is emitted."""

    test: ast.expr
    then: Expr
    other: Expr


Expr = Name | Literal | Call | Alt | Choice


@dataclass(frozen=True, slots=True)
class Statement:
    """``targets = value``; several targets name the results of one call."""

    targets: tuple[str, ...]
    value: Expr
    source: str


_BINARY: dict[type, str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Pow: "pow",
    ast.MatMult: "matmul",
    ast.BitAnd: "logical_and",
}
_COMPARE: dict[type, str] = {
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
}


@lru_cache(maxsize=4096)
def parse(line: str) -> Statement:
    """Parse ``target = expression`` (or a bare expression, whose target is ``y``).

    Raises StatementError naming the construct that is not allowed.
    """
    if len(line) > 10_000:
        raise StatementError("statement longer than 10,000 characters")
    try:
        body = ast.parse(line.strip()).body
    except (SyntaxError, RecursionError, MemoryError, ValueError) as exc:
        raise StatementError(f"{line!r} is not a statement: {exc}") from exc
    if len(body) != 1:
        raise StatementError(f"{line!r} must be one statement")
    match body[0]:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return Statement((name,), _expr(value, line), line)
        case ast.Assign(targets=[ast.Tuple(elts=elts)], value=value):
            names = tuple(e.id if isinstance(e, ast.Name) else "" for e in elts)
            if "" in names:
                raise StatementError(f"targets must be names in {line!r}")
            return Statement(names, _expr(value, line), line)
        case ast.Expr(value=value):
            return Statement(("y",), _expr(value, line), line)
    raise StatementError(f"{line!r} is not an assignment")


def _expr(node: ast.expr, line: str) -> Expr:
    match node:
        case ast.Name(id=name):
            return Name(name)
        case ast.Constant(value=v) if v is None or isinstance(v, (bool, int, float, str)):
            return Literal(v)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=v)) if isinstance(
            v, (int, float)
        ):
            return Literal(-v)
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return Call("neg", (_expr(x, line),))
        case ast.UnaryOp(op=ast.Invert(), operand=x):
            return Call("logical_not", (_expr(x, line),))
        case ast.BinOp(op=ast.BitOr()):
            options: list[ast.expr] = []
            while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
                options.insert(0, node.right)
                node = node.left
            return Alt(tuple(_expr(o, line) for o in [node, *options]))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return Call(_BINARY[type(op)], (_expr(left, line), _expr(right, line)))
        case ast.Compare(left=left, ops=[cmp], comparators=[right]) if type(cmp) in _COMPARE:
            return Call(_COMPARE[type(cmp)], (_expr(left, line), _expr(right, line)))
        case ast.IfExp(test=test, body=then, orelse=other):
            return Choice(test, _expr(then, line), _expr(other, line))
        case ast.Call(func=ast.Name(id=op_name), args=args, keywords=keywords):
            if any(k.arg is None for k in keywords):
                raise StatementError(f"** is not allowed in {line!r}")
            starred = frozenset(i for i, a in enumerate(args) if isinstance(a, ast.Starred))
            values = (a.value if isinstance(a, ast.Starred) else a for a in args)
            return Call(
                op_name,
                tuple(_expr(v, line) for v in values),
                tuple((str(k.arg), k.value) for k in keywords),
                starred,
            )
    raise StatementError(f"{type(node).__name__} is not allowed in {line!r}")


#: A macro: (builder, values..., **attributes) -> value name or names.
Macro = Callable[..., Any]


class View:
    """What attribute expressions see of a value: ``.rank .dtype .shape``."""

    __slots__ = ("name", "rank", "dtype", "shape")

    def __init__(self, builder: Builder, name: str) -> None:
        t = builder.types[name]
        self.name = name
        self.rank, self.dtype, self.shape = t.rank, t.dtype, t.shape


def instantiate(
    lines: Sequence[str | Statement],
    builder: Builder,
    values: Mapping[str, Any],
    attrs: Mapping[str, Any] | None = None,
    *,
    functions: ex.Functions | None = None,
    macros: Mapping[str, Macro] | None = None,
    name: str | None = None,
    meta: Meta | None = None,
) -> dict[str, Any]:
    """Emit the nodes that statements describe.

    Args:
        lines: statements; a later one may use an earlier one's targets.
        builder: where the nodes go.
        values: name -> value name, None (absent), a Python number, or a list of value names.
        attrs: further names for attribute expressions.
        functions: further functions of attribute expressions.
        macros: calls that are not ops: name -> function(builder, *values, **attrs).
        name: wanted name of the last statement's result.
        meta: provenance of the new nodes.

    Returns:
        name -> value name (or list of names) of all targets and given values. An absent operand of
        ``add sub mul div`` leaves the other operand as the result.

    Raises:
        StatementError, ExprError: the lines are wrong; CirError E304: an op does not take its
        operands.
    """
    env: dict[str, Any] = dict(values)
    run = _Run(builder, env, attrs or {}, functions, macros or {}, meta)
    parsed = [parse(s) if isinstance(s, str) else s for s in lines]
    for i, st in enumerate(parsed):
        wanted = name if i == len(parsed) - 1 else None
        result = run.value(st.value, wanted or (f"{name}.{st.targets[0]}" if name else None))
        if len(st.targets) == 1:
            one = isinstance(result, (list, tuple)) and len(result) == 1
            env[st.targets[0]] = result[0] if one else result
        else:
            if not isinstance(result, (list, tuple)) or len(result) < len(st.targets):
                raise StatementError(f"{st.source!r} does not give {len(st.targets)} results")
            env.update(zip(st.targets, result))
    return env


class _Run:
    def __init__(
        self,
        builder: Builder,
        env: dict[str, Any],
        attrs: Mapping[str, Any],
        functions: ex.Functions | None,
        macros: Mapping[str, Macro],
        meta: Meta | None,
    ) -> None:
        self.b, self.env, self.attrs = builder, env, attrs
        self.functions, self.macros, self.meta = functions, macros, meta

    def attribute(self, node: ast.expr) -> Any:
        return ex.evaluate(node, _AttrEnv(self), self.functions)

    def value(self, e: Expr, name: str | None = None) -> Any:
        match e:
            case Name(id=ident):
                if ident in self.env:
                    return self.env[ident]
                if ident in self.attrs:
                    return self.attrs[ident]
                known = ", ".join(sorted({*self.env, *self.attrs}))
                raise StatementError(f"unknown name {ident!r}; known: {known}")
            case Literal(value=v):
                return v
            case Alt():
                raise StatementError("alternatives are for patterns only")
            case Choice(test=test, then=then, other=other):
                return self.value(then if self.attribute(test) else other, name)
            case Call():
                return self.call(e, name)

    def call(self, e: Call, name: str | None) -> Any:
        args: list[Any] = []
        for i, a in enumerate(e.args):
            v = self.value(a)
            if i in e.starred or (isinstance(v, (list, tuple)) and e.op not in self.macros):
                args.extend(v)
            else:
                args.append(v)
        attrs = {k: self.attribute(v) for k, v in e.attrs}
        if e.op in self.macros:
            return self.macros[e.op](self.b, *args, **attrs)
        if e.op in ("add", "sub", "mul", "div") and None in args and len(args) == 2:
            if args[0] is None:
                if e.op in ("sub", "div"):
                    raise StatementError(f"{e.op} has no left operand")
                return args[1]
            return args[0]
        inputs = self.scalars(args)
        out = self.b.emit(e.op, inputs, attrs, name=name, meta=self.meta)
        return out[0] if len(out) == 1 else list(out)

    def scalars(self, args: list[Any]) -> list[str | None]:
        """Turn Python numbers into rank-0 constants of the dtype of the tensor beside them."""
        # The condition of a ``where`` says nothing about the numbers beside it.
        dtypes = [self.b.types[a].dtype for a in args if isinstance(a, str)]
        dtype = next((d for d in dtypes if d != "bool"), dtypes[0] if dtypes else None)
        out: list[str | None] = []
        for a in args:
            if a is None or isinstance(a, str):
                out.append(a)
            elif isinstance(a, bool):
                out.append(self.b.const(a, dtype="bool" if dtype is None else dtype))
            elif isinstance(a, (int, float)):
                want = dtype
                if want is None or want == "bool":
                    want = "int64" if isinstance(a, int) else "float32"
                elif isinstance(a, float) and "int" in want and not a.is_integer():
                    want = "float32"
                out.append(self.b.const(a, dtype=want))
            else:
                raise StatementError(f"{a!r} is not a tensor value")
        return out


class _AttrEnv(Mapping[str, Any]):
    """Names of attribute expressions: attributes, Python values, and views of tensors."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    def __getitem__(self, key: str) -> Any:
        if key in self._run.attrs:
            return self._run.attrs[key]
        return self._view(self._run.env[key])

    def _view(self, v: Any) -> Any:
        if isinstance(v, str) and v in self._run.b.types:
            return View(self._run.b, v)
        if isinstance(v, (list, tuple)):
            return tuple(self._view(x) for x in v)
        return v

    def __iter__(self) -> Any:
        yield from self._run.attrs
        yield from self._run.env

    def __len__(self) -> int:
        return len(self._run.attrs) + len(self._run.env)
