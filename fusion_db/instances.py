"""Instances of a pattern: concrete graphs that a strategy must rewrite, generated from its own lines.

A *selection* picks one option at every choice of a pattern (alternatives, optional operands, chain lengths);
a *variant* picks the sizes. ``proof`` in the strategy's file gives candidates for what cannot be invented:
``{"a": [[-1], [-2, -1]], "g": ["float[n]"], "n": [3, 1], "low": [-1e9]}`` - attribute values (strings inside
lists are sizes), kinds, sizes, numbers. Variant k takes the k-th candidate, cyclically.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cir import dtype as dt
from cir import expr as ex
from cir.builder import Builder
from cir.dim import Dim
from cir.graph import Graph
from cir.statement import View
from fusion_db import kinds
from fusion_db.kinds import Axis, Kind
from fusion_db.pattern import (
    AttrConst,
    AttrExpr,
    AttrName,
    AttrPat,
    AttrTuple,
    Lit,
    Many,
    Op,
    Or,
    Pat,
    Ref,
    Var,
)
from fusion_db.predicates import FUNCTIONS
from fusion_db.strategy import Strategy

#: What choices are made: id of a pattern node -> option index (or chain length, or 1 for absent).
Selection = Mapping[int, int]

_PRIMES = (2, 3, 5, 7, 4, 6, 8, 9, 10, 11, 12, 13)
_LEADS: tuple[tuple[Dim, ...], ...] = ((2,), (), (3, 1), ("batch",))
#: Number of variants: primes, ones, mixed sizes, and one with a symbolic leading axis.
VARIANTS = 4
#: Size that the symbolic axis has when the instance runs.
BATCH = 3
#: Selections looked at before a covering subset is chosen.
_LOOK = 600


class Unbuildable(Exception):
    """This selection and these sizes give no valid graph."""


@dataclass
class Instance:
    """A generated graph with the binding that the strategy is meant to find.

    ``tweak`` (literal or attribute site, see ``sites``) makes a graph that is wrong in one place.
    """

    graph: Graph
    values: dict[str, Any]
    attrs: dict[str, Any]
    feeds: dict[str, np.ndarray]
    interior: tuple[str, ...] = ()


# -- selections -------------------------------------------------------------------------------------
def selections(s: Strategy, limit: int) -> list[Selection]:
    """Selections that together hold every pair of options, at most ``limit``; all when they are few."""
    start: tuple[Pat, ...] = tuple(Ref(o) for o in s.pattern.outputs)
    found = list(itertools.islice(_expand(s, start, {}, frozenset()), _LOOK))
    if len(found) <= limit:
        return found
    pairs = [
        {(a, b) for a in sel.items() for b in sel.items() if a <= b} for sel in found
    ]
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
            optional = [a for i, a in enumerate(args) if _may_be_absent(pat, i)]
            for absent in itertools.product((0, 1), repeat=len(optional)):
                extra = {id(a): k for a, k in zip(optional, absent)}
                kept = tuple(a for a in args if not extra.get(id(a)))
                yield from _expand(s, (*kept, *rest), {**chosen, **extra}, seen)
        case Many(arg=arg):
            for n in (0, 1, 2):
                yield from _expand(s, (arg, *rest), {**chosen, id(pat): n}, seen)
        case _:
            yield from _expand(s, rest, chosen, seen)


def _may_be_absent(op: Op, i: int) -> bool:
    a = op.args[i]
    return isinstance(a, Var) and a.kind.optional and op.spec.param(i).optional


# -- one instance -----------------------------------------------------------------------------------
@dataclass
class Maker:
    """Builds one instance.

    Attributes:
        strategy: whose pattern is built.
        selection: the choices.
        variant: which sizes and candidates.
        dtype: the dtype that kind ``float`` stands for.
        tweak: (id of a Lit or Op, attribute name or "") to be made wrong, or None.
    """

    strategy: Strategy
    selection: Selection
    variant: int
    dtype: str = "float64"
    tweak: tuple[int, str] | None = None
    b: Builder = field(default_factory=lambda: Builder("instance"))
    values: dict[str, Any] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    feeds: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.variant, 7])
        self.symbolic = self.variant == VARIANTS - 1
        self._sizes()
        for name in self.strategy.attr_names:
            if name in self.strategy.proof and name not in self.attrs:
                self.attrs[name] = self._attr_value(self.candidate(name))

    def make(self, outputs: Sequence[str] = ()) -> Instance:
        """The instance; ``outputs`` names further values that leave the graph.

        Raises:
            Unbuildable: an op refuses the operands of this selection and these sizes.
        """
        roots = [self.emit(Ref(o)) for o in self.strategy.pattern.outputs]
        graph = self.b.finish([*roots, *(self.values[o] for o in outputs)])
        made = {o for n in graph.nodes for o in n.outputs} - set(roots)
        return Instance(graph, self.values, self.attrs, self.feeds, tuple(sorted(made)))

    # -- sizes ---------------------------------------------------------------------------------------
    def candidate(self, name: str) -> Any:
        """The candidate for a name in this variant, None when ``proof`` has none."""
        options = self.strategy.proof.get(name)
        return options[self.variant % len(options)] if options else None

    def _kind(self, name: str) -> Kind:
        hint = self.candidate(name)
        own = self.strategy.inputs[name]
        if not isinstance(hint, str):
            return own
        hinted = kinds.parse(hint)
        return Kind(hint, hinted.dtype if hinted.dtype != "any" else own.dtype,
                    own.const or hinted.const, own.scalar, own.optional,
                    hinted.positive or own.positive, hinted.axes)  # fmt: skip

    def _sizes(self) -> None:
        first = True
        names: list[str] = []
        for name in self.strategy.inputs:
            for a in self._kind(name).axes or ():
                if not a.name or a.name in self.attrs:
                    continue
                hint = self.candidate(a.name)
                if a.form == "rest":
                    lead = _LEADS[self.variant]
                    self.attrs[a.name] = lead if hint is None else self._attr_value(hint)
                elif hint is not None:
                    self.attrs[a.name] = hint
                else:
                    names.append(a.name)
                    k = len(names) - 1
                    sizes = (_PRIMES[k % 12], 1, _PRIMES[(3 * k + 1) % 12], _PRIMES[k % 12])
                    self.attrs[a.name] = sizes[self.variant]
                    if self.symbolic and first:
                        self.attrs[a.name] = "batch"
                first = False

    # -- values --------------------------------------------------------------------------------------
    def emit(self, pat: Pat, dtype: str = "") -> str | None:
        """Emit what a pattern describes; returns the value."""
        match pat:
            case Ref(name=name):
                if name not in self.values:
                    line = self.strategy.pattern.lines[name]
                    out = self._op(line.pat, names=line.targets if len(line.targets) > 1 else ())
                    self.values.update(zip(line.targets, out))
                return self.values[name]
            case Or(options=options):
                return self.emit(options[self.selection.get(id(pat), 0)], dtype)
            case Var(name=name):
                if name not in self.values:
                    self.values[name] = self._input(name, dtype)
                return self.values[name]
            case Lit(value=None):
                return None
            case Lit(value=v):
                if self.tweak == (id(pat), ""):
                    v = v * 1.05 if v else 0.05
                want = dtype or self.dtype
                if dt.is_int(want) and int(v) != v:
                    raise Unbuildable("an integer literal cannot be perturbed")
                return self.b.const(v, dtype="bool" if isinstance(v, bool) else want)
            case Op():
                return self._op(pat)[0]
            case Many(ops=ops, arg=arg):
                value = self.emit(arg, dtype)
                for k in range(self.selection.get(id(pat), 0)):
                    op = sorted(ops)[k % len(ops)]
                    value = self._apply(op, [value], self._view(op, value))[0]
                return value
        raise Unbuildable(f"no instance of {type(pat).__name__}")

    def _op(self, pat: Pat, names: Sequence[str] = ()) -> tuple[str, ...]:
        if isinstance(pat, Or):
            return self._op(pat.options[self.selection.get(id(pat), 0)], names)
        if not isinstance(pat, Op):
            value = self.emit(pat)
            assert value is not None
            return (value,)
        operands: dict[int, str | None] = {}
        for literal in (False, True):  # numbers take the dtype of what stands beside them
            for i, a in enumerate(pat.args):
                absent = _may_be_absent(pat, i) and self.selection.get(id(a), 0)
                if absent:
                    operands[i] = None
                elif (isinstance(a, Lit) and a.value is not None) is literal:
                    operands[i] = self.emit(a, self._beside(operands))
        inputs = [operands[i] for i in range(len(pat.args))]
        if pat.rest is not None and pat.rest != "_":
            if pat.rest not in self.values:
                kinds_ = self.candidate(pat.rest) or ()
                self.values[pat.rest] = tuple(
                    self._tensor(f"{pat.rest}{k}", kinds.parse(t)) for k, t in enumerate(kinds_)
                )
            inputs += self.values[pat.rest]
        attrs: dict[str, Any] = {}
        for name, p in pat.attrs:
            attrs[name] = self._attr(p, pat.spec.attr_map[name].default)
        if self.tweak is not None and self.tweak[0] == id(pat):
            attrs[self.tweak[1]] = _other(attrs.get(self.tweak[1], dict(pat.defaults).get(self.tweak[1])))
        return self._apply(pat.spec.name, inputs, attrs)

    def _apply(self, op: str, inputs: list[str | None], attrs: dict[str, Any]) -> tuple[str, ...]:
        from cir.diagnostics import CirError

        try:
            return self.b.emit(op, inputs, attrs)
        except CirError as exc:
            raise Unbuildable(str(exc)) from exc

    def _view(self, op: str, value: str | None) -> dict[str, Any]:
        """Attributes of a view in a chain: it changes nothing, so that what is around it fits."""
        shape = self.b.types[value].shape if value is not None else ()
        views = {"reshape": {"shape": shape}, "transpose": {"perm": tuple(range(len(shape)))}}
        return views.get(op, {})

    def _beside(self, operands: Mapping[int, str | None]) -> str:
        found = [self.b.types[v].dtype for v in operands.values() if v is not None]
        return next((d for d in found if d != "bool"), "")

    def _input(self, name: str, dtype: str) -> str:
        kind = self._kind(name)
        if kind.scalar:
            hint = self.candidate(name)
            number = hint if isinstance(hint, (int, float)) else float(self.rng.uniform(0.5, 1.5))
            return self.b.const(np.asarray(number), name=name, dtype=dtype or self._dtype(kind))
        return self._tensor(name, kind)

    def _dtype(self, kind: Kind) -> str:
        return {"float": self.dtype, "number": self.dtype, "any": self.dtype, "int": "int64"}.get(
            kind.dtype, kind.dtype
        )

    def _tensor(self, name: str, kind: Kind) -> str:
        dtype = self._dtype(kind)
        shape = self.shape(kind)
        if kind.const:
            return self.b.const(self._array(dtype, shape, kind.positive), name=name, dtype=dtype)
        self.feeds[name] = self._array(dtype, shape, kind.positive)
        return self.b.input(name, dtype, shape)

    def _array(self, dtype: str, shape: Sequence[Dim], positive: bool) -> np.ndarray:
        sizes = [_at_batch(d) for d in shape]
        if dtype == "bool":
            return self.rng.random(sizes) < 0.7
        if dt.is_int(dtype):
            return self.rng.integers(0, 2, sizes).astype(dtype)
        data = self.rng.standard_normal(sizes)
        return (np.abs(data) + 0.1 if positive else data).astype(dt.to_numpy(dtype))

    def shape(self, kind: Kind) -> tuple[Dim, ...]:
        """A shape of a kind in this variant."""
        if kind.axes is None:
            tails: tuple[tuple[Dim, ...], ...] = ((2, 3), (), (1,), ("batch", 3))
            return tails[self.variant]
        out: list[Dim] = []
        for a in kind.axes:
            out.extend(self._axis(a))
        return tuple(out)

    def _axis(self, a: Axis) -> tuple[Dim, ...]:
        if a.form == "size":
            return (a.size,)
        if a.form == "any":
            return (3,)
        if a.form == "rest" and not a.name:
            return _LEADS[self.variant]
        if a.expr is not None:
            value: Any = ex.evaluate(a.expr, self.attrs)
        else:
            value = self.attrs[a.name]
        if a.form == "rest":
            if a.broadcast and self.variant % 2:
                return (1,) * len(value)
            return tuple(value)
        return (1,) if a.broadcast and self.variant % 2 else (value,)

    # -- attributes ----------------------------------------------------------------------------------
    def _attr(self, pat: AttrPat, default: Any) -> Any:
        match pat:
            case AttrConst(value=v):
                return v
            case AttrName(name=name):
                if name in self.attrs:
                    return self.attrs[name]
                if default is None:
                    raise Unbuildable(f"proof needs candidates for {name!r}")
                self.attrs[name] = default
                return default
            case AttrTuple(items=items, rest=rest):
                out: list[Any] = []
                for i, p in enumerate(items):
                    v = self._attr(p, None)
                    out.extend(v) if i == rest else out.append(v)
                return tuple(out)
            case AttrExpr(expr=expr):
                return ex.evaluate(expr, self._env(), FUNCTIONS)
        raise Unbuildable("no instance of this attribute")

    def _env(self) -> dict[str, Any]:
        env: dict[str, Any] = dict(self.attrs)
        for name, v in self.values.items():
            env[name] = View(self.b, v) if isinstance(v, str) else v
        return env

    def _attr_value(self, hint: Any) -> Any:
        """A candidate: lists become tuples, strings inside them are sizes."""
        if not isinstance(hint, list):
            return hint
        return tuple(
            ex.evaluate(h, self._env(), FUNCTIONS) if isinstance(h, str) else self._attr_value(h)
            for h in hint
        )


def _at_batch(d: Dim) -> int:
    from cir import dim

    return dim.evaluate(d, {"batch": BATCH})


def _other(value: Any) -> Any:
    """Another value of the same sort."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case tuple() if value and all(isinstance(v, int) and not isinstance(v, bool) for v in value):
            if sorted(value) == list(range(len(value))) and len(value) > 1:
                return (*value[1:], value[0])  # a permutation stays one
            return tuple(v + 1 for v in value)
    raise Unbuildable("no other value of this attribute is known")


def sites(s: Strategy) -> list[tuple[int, str]]:
    """Places where an instance may be made wrong: literals, and attributes of matched ops."""
    out: list[tuple[int, str]] = []
    for pat in s.pattern.walk():
        if isinstance(pat, Lit) and isinstance(pat.value, (int, float)):
            out.append((id(pat), ""))
        elif isinstance(pat, Op):
            fixed = [n for n, p in pat.attrs if isinstance(p, AttrConst)]
            out.extend((id(pat), n) for n in (*fixed, *(n for n, _ in pat.defaults)))
    return out
