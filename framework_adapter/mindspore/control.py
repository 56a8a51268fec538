"""``if`` and ``while`` of a .mindir file as nodes with isolated regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cir.diagnostics import error
from framework_adapter.mindspore.mindir import MONAD
from framework_adapter.mindspore.walk import (
    Again,
    Choice,
    Closure,
    Raises,
    Scope,
    Walker,
    as_ref,
    flatten,
)
from framework_adapter.source import Ref, SourceGraph, SourceNode

#: stands for a result in which the two branches differ
_DIFFERS = object()
_FIX = "write it with ops.where, or give Python values that are known when the model is exported"


def branch(w: Walker, scope: Scope, choice: Choice, args: Sequence[Any], module: str) -> Any:
    """A call of a function chosen by a condition: a ``cond`` node, or the one branch taken."""
    if isinstance(choice.cond, (bool, int)):
        return w.call(scope, choice.yes if choice.cond else choice.no, args)
    operands = _operands(scope, (choice.yes.captured, choice.no.captured, tuple(args)))
    scopes: list[Scope] = []
    results: list[Any] = []
    for closure, other in ((choice.yes, choice.no), (choice.no, choice.yes)):
        sub, inner = _enter(w, operands)
        carry = _Carry(w, scope, sub, dict(zip(operands, inner)))
        try:
            result = w.call(sub, carry(closure), carry(tuple(args)))
        except Raises:
            w.notes.append(f"a check that raises an error is left out{module and f' of {module}'}")
            return w.call(scope, other, args)
        results.append(result)
        scopes.append(sub)
    first, second = results
    if _loop_of(first) != _loop_of(second) or _outline(first) != _outline(second):
        raise error("E201", "break or return inside a loop's if", where=module, fix=_FIX)
    leaves = [flatten(_values(r)) for r in results]
    same = [a if not isinstance(a, Ref) and a == b else _DIFFERS for a, b in zip(*leaves)]
    regions = tuple(
        _region(w, sub, [v for v, s in zip(values, same) if s is _DIFFERS])
        for sub, values in zip(scopes, leaves)
    )
    count = len(regions[0].outputs)
    if not count:
        return first
    outs = tuple(w.unique(f"{module}.cond.{i}" if module else f"cond.{i}") for i in range(count))
    node = SourceNode(
        "cond", (choice.cond, *operands), {}, outs, (None,) * count, module, "", regions
    )
    scope.nodes.append(node)
    inside = [v for v, s in zip(leaves[0], same) if s is _DIFFERS]
    w.ranks.update((Ref(name), w.rank(v)) for name, v in zip(outs, inside))
    fresh = iter(map(Ref, outs))
    filled = [next(fresh) if s is _DIFFERS else s for s in same]
    refilled = _refill(_values(first), iter(filled))
    return Again(first.loop, refilled) if isinstance(first, Again) else refilled


def loop(w: Walker, scope: Scope, header: str, args: Sequence[Any]) -> Any:
    """A ``while``: the header function tests the condition, its first branch calls it again.

    Regions: the header up to its condition; the header and the body. What follows the loop is the
    header's other branch, run on the final values. Values that no turn changes come last.
    """
    start = tuple(args)
    operands = [as_ref(w, scope, v) for v in flatten(start)]
    test, inner = _enter(w, operands)
    choice = w.body(test, header, _refill(start, iter(inner)), stop=True)
    turn, inner = _enter(w, operands)
    entry = w.body(turn, header, _refill(start, iter(inner)), stop=True)
    if not isinstance(choice, Choice) or not isinstance(entry, Choice):
        raise error("E201", "a while loop without a condition", fix=_FIX)
    w.loops.append(header)
    again = w.call(turn, entry.yes)
    w.loops.pop()
    if _loop_of(again) != header or _outline(_values(again)) != _outline(start):
        raise error("E201", "break or return inside a loop", fix=_FIX)
    new = flatten(again.args)
    carried = [i for i, v in enumerate(new) if v != inner[i]]
    order = [*carried, *(i for i in range(len(new)) if i not in carried)]
    outs = [w.unique(f"while.{i}") for i in range(len(carried))]
    regions = (
        _region(w, test, [choice.cond], order),
        _region(w, turn, [new[i] for i in carried], order),
    )
    scope.nodes.append(
        SourceNode(
            "while_loop",
            tuple(operands[i] for i in order),
            {},
            tuple(outs),
            (None,) * len(outs),
            regions=regions,
        )
    )
    final = list(operands)
    for i, name in zip(carried, outs):
        final[i] = Ref(name)
        w.ranks[final[i]] = w.rank(operands[i])
    after = w.body(scope, header, _refill(start, iter(final)), stop=True)
    return w.call(scope, after.no)


class _Carry:
    """Takes values of a scope into a region: tensors become its inputs, constants its own."""

    def __init__(self, w: Walker, scope: Scope, sub: Scope, inner: dict[Ref, Ref]) -> None:
        self.w, self.scope, self.sub, self.inner = w, scope, sub, inner

    def __call__(self, v: Any) -> Any:
        if isinstance(v, tuple):
            return tuple(map(self, v))
        if isinstance(v, Closure):
            return Closure(v.graph, self(v.captured))
        if isinstance(v, Ref):
            if v in self.inner:
                return self.inner[v]
            return self.w.const(self.sub, self.scope.consts[v.name], v.name)
        return v


def _operands(scope: Scope, values: Any) -> list[Ref]:
    """Tensors of the scope that a region needs, each once; constants go into the region itself."""
    refs: list[Ref] = []
    for v in flatten(values):
        if isinstance(v, Closure):
            refs += _operands(scope, v.captured)
        elif isinstance(v, Ref) and v.name not in scope.consts:
            refs.append(v)
    return list(dict.fromkeys(refs))


def _enter(w: Walker, operands: Sequence[Ref]) -> tuple[Scope, list[Ref]]:
    """A scope for a region, and its inputs; the lowering knows the operands' types."""
    inner = [Ref(w.unique(f"{ref.name}.in")) for ref in operands]
    for new, old in zip(inner, operands):
        w.ranks[new] = w.ranks.get(old)
        if old in w.sizes:
            w.sizes.add(new)
    return Scope(inputs=dict.fromkeys(r.name for r in inner)), inner


def _region(
    w: Walker, sub: Scope, results: Sequence[Any], order: Sequence[int] | None = None
) -> SourceGraph:
    outs = tuple(as_ref(w, sub, v).name for v in results)
    names = list(sub.inputs)
    places = range(len(names)) if order is None else order
    inputs = {names[i]: sub.inputs[names[i]] for i in places}
    return SourceGraph("mindspore", inputs, outs, tuple(sub.nodes), sub.consts)


def _values(result: Any) -> Any:
    return result.args if isinstance(result, Again) else result


def _loop_of(result: Any) -> str:
    return result.loop if isinstance(result, Again) else ""


def _outline(x: Any) -> Any:
    """The structure of nested tuples without their leaves."""
    x = _values(x)
    return tuple(map(_outline, x)) if isinstance(x, tuple) else x is MONAD


def _refill(shape: Any, leaves: Any) -> Any:
    """Nested tuples like ``shape`` with other leaves."""
    if isinstance(shape, tuple):
        return tuple(_refill(s, leaves) for s in shape)
    return MONAD if shape is MONAD else next(leaves)
