"""Selections: one option at every choice of a pattern (alternatives, operands, chains)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

from fusion_db.pattern import Many, Op, Or, Pat, Ref, Var
from fusion_db.strategy import Strategy

#: id of a pattern node -> option taken, length of the chain, or 1 for an absent operand.
Selection = Mapping[int, int]

#: Selections looked at before a covering subset is chosen.
_LOOK = 600


def selections(s: Strategy, limit: int) -> list[Selection]:
    """All selections when they are few, else at most ``limit`` that cover all pairs of options."""
    start: tuple[Pat, ...] = tuple(Ref(o) for o in s.pattern.outputs)
    found = list(itertools.islice(_expand(s, start, {}, frozenset()), _LOOK))
    if len(found) <= limit:
        return found
    pairs = [{(a, b) for a in sel.items() for b in sel.items() if a <= b} for sel in found]
    order = list(range(len(found)))
    random.Random(0).shuffle(order)
    chosen: list[int] = []
    covered: set[Any] = set()
    while order and len(chosen) < limit:
        best = max(order, key=lambda i: len(pairs[i] - covered))
        if not pairs[best] - covered:
            break
        covered |= pairs[best]
        chosen.append(best)
        order.remove(best)
    return [found[i] for i in sorted(chosen)]


def _expand(
    s: Strategy, pending: tuple[Pat, ...], chosen: dict[int, int], seen: frozenset[str]
) -> Iterator[Selection]:
    if not pending:
        yield dict(chosen)
        return
    pat, rest = pending[0], pending[1:]
    match pat:
        case Ref(name=name):
            if name in seen:
                yield from _expand(s, rest, chosen, seen)
            else:
                line = s.pattern.lines[name]
                yield from _expand(s, (line.pat, *rest), chosen, seen | set(line.targets))
        case Or(options=options):
            for i, option in enumerate(options):
                yield from _expand(s, (option, *rest), {**chosen, id(pat): i}, seen)
        case Op(args=args):
            optional = [a for i, a in enumerate(args) if may_be_absent(pat, i)]
            for absent in itertools.product((0, 1), repeat=len(optional)):
                extra = {id(a): k for a, k in zip(optional, absent)}
                kept = tuple(a for a in args if not extra.get(id(a)))
                yield from _expand(s, (*kept, *rest), {**chosen, **extra}, seen)
        case Many(arg=arg):
            for n in (0, 1, 2):
                yield from _expand(s, (arg, *rest), {**chosen, id(pat): n}, seen)
        case _:
            yield from _expand(s, rest, chosen, seen)


def may_be_absent(op: Op, i: int) -> bool:
    """Whether operand i of a pattern is an input that may be left out."""
    a = op.args[i]
    return isinstance(a, Var) and a.kind.optional and op.spec.param(i).optional
