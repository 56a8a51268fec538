"""Building what a match is replaced by: the replacement's lines, run against a binding.

Rules for absent names (operands that the matched alternative does not mention): ``coalesce(a, b,
...)`` is its first operand all of whose names are present; an absent operand of ``+ - * /`` leaves
the other operand; an absent optional operand stays absent; any other op with an absent operand is
absent itself. ``again(line, x)`` puts the chain that ``many`` matched in a line on x.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from cir import spec
from cir import statement as st
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.expr import ExprError
from cir.graph import Meta, Node
from fusion_db.matcher import Binding
from fusion_db.numbers import dims_equal
from fusion_db.pattern import CHAIN, chain
from fusion_db.predicates import FUNCTIONS
from fusion_db.strategy import Strategy
from fusion_db.work import Work

_ABSENT = st.Literal(None)
_DROPPING = frozenset(("add", "sub", "mul", "div"))


def build(strategy: Strategy, work: Work, binding: Binding) -> dict[str, str] | str:
    """Emit the replacement's nodes into ``work.builder.nodes``.

    Returns:
        root value -> the new value that takes its place; or, when the replacement does not fit, the
        reason (and the builder is as before).
    """
    b = work.builder
    meta = Meta()
    for node in binding.nodes:
        meta = meta.merge(node.meta)
    meta = meta.merge(Meta(), by=strategy.id)
    start = len(b.nodes)
    try:
        env = st.instantiate(
            _present(work.resolved, strategy.replace, binding.values),
            b,
            binding.values,
            binding.env(work),
            functions=FUNCTIONS,
            macros=_macros(b),
            name=binding.roots[0],
            meta=meta,
        )
        made = {r: env[o] for o, r in zip(strategy.pattern.outputs, binding.roots)}
        for root, value in made.items():
            if not isinstance(value, str):
                raise st.StatementError(f"the replacement of {root} is absent")
            was, now = b.types[root], b.types[value]
            if was.dtype != now.dtype or not dims_equal(was.shape, now.shape):
                raise st.StatementError(f"the replacement of {root} is {now}, not {was}")
    except (CirError, ExprError, st.StatementError) as exc:
        discard(b, start)
        return str(exc)
    return made


def discard(b: Builder, start: int) -> None:
    """Forget the nodes that were emitted since ``start``."""
    for node in b.nodes[start:]:
        b.release(node.outputs)
        for out in node.outputs:
            del b.types[out]
    del b.nodes[start:]


# -- absent names ----------------------------------------------------------------------------------
def _present(
    cache: dict[Any, list[st.Statement]], lines: Sequence[st.Statement], values: Mapping[str, Any]
) -> list[st.Statement]:
    """The lines with everything that depends on absent names resolved."""
    absent = {k for k, v in values.items() if v is None}
    key = (id(lines), frozenset(absent))
    if key in cache and not any(k.endswith(CHAIN) for k in values):
        return cache[key]
    out = cache[key] = []
    for line in lines:
        value = _resolve(line.value, values, absent)
        if value == _ABSENT:
            absent |= set(line.targets)
        else:
            absent -= set(line.targets)
        out.append(st.Statement(line.targets, value, line.source))
    return out


def _resolve(e: st.Expr, values: Mapping[str, Any], absent: set[str]) -> st.Expr:
    def resolve(e: st.Expr) -> st.Expr:
        return _resolve(e, values, absent)

    match e:
        case st.Name(id=name):
            return _ABSENT if name in absent else e
        case st.Choice(test=test, then=then, other=other):
            return st.Choice(test, resolve(then), resolve(other))
        case st.Call(op="coalesce", args=args):
            return resolve(next((a for a in args if not _names(a) & absent), _ABSENT))
        case st.Call(op="again", args=(st.Name(id=line), base)):
            for node in values.get(chain(line)) or ():
                attrs = tuple(
                    (k, ast.parse(repr(v), mode="eval").body) for k, v in node.attrs.items()
                )
                base = st.Call(node.op, (base,), attrs)
            return resolve(base)
        case st.Call(op=op, args=args):
            resolved = tuple(resolve(a) for a in args)
            missing = [i for i, a in enumerate(resolved) if a == _ABSENT]
            if not missing:
                return st.Call(op, resolved, e.attrs, e.starred)
            if op in _DROPPING and len(resolved) == 2:
                if len(missing) == 2 or (missing == [0] and op in ("sub", "div")):
                    return _ABSENT
                return resolved[1 - missing[0]]
            s = spec.get(op)
            if all(s.param(i).optional for i in missing):
                return st.Call(op, resolved, e.attrs, e.starred)
            return _ABSENT
    return e


def _names(e: st.Expr) -> set[str]:
    match e:
        case st.Name(id=name):
            return {name}
        case st.Call(args=args):
            return set().union(*(_names(a) for a in args))
    return set()


# -- views that change nothing ---------------------------------------------------------------------
def _macros(b: Builder) -> dict[str, st.Macro]:
    """reshape, expand and transpose that leave out what changes nothing."""

    def to_shape(op: str) -> st.Macro:
        def emit(b: Builder, x: str | None, *, shape: Sequence[Any]) -> str | None:
            if x is None or dims_equal(b.types[x].shape, tuple(shape)):
                return x
            return b.emit(op, [x], {"shape": tuple(shape)})[0]

        return emit

    def transpose(b: Builder, x: str | None, *, perm: Sequence[int]) -> str | None:
        if x is None or tuple(perm) == tuple(range(len(perm))):
            return x
        return b.emit("transpose", [x], {"perm": tuple(perm)})[0]

    return {"reshape": to_shape("reshape"), "expand": to_shape("expand"), "transpose": transpose}


def renamed(nodes: Sequence[Node], names: Mapping[str, str]) -> list[Node]:
    """The nodes with values renamed, in results and operands."""
    if not names:
        return list(nodes)
    return [
        n.with_(
            inputs=tuple(None if i is None else names.get(i, i) for i in n.inputs),
            outputs=tuple(names.get(o, o) for o in n.outputs),
        )
        for n in nodes
    ]
