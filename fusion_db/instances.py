"""Instances of a pattern: graphs that a strategy must rewrite, generated from its own lines.

A selection (``selections.py``) picks the alternatives, a *variant* picks the sizes. ``proof`` in
the strategy's file gives candidates for what cannot be invented, such as ``{"a": [[-1], [-2, -1]],
"g": ["float[n]"], "n": [3, 1], "low": [-1e9]}``: attribute values (strings inside lists are
sizes), kinds, sizes, numbers; for a constant, a list is its data. Variant k takes the k-th
candidate, cyclically.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cir import dtype as dt
from cir import expr as ex
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.dim import Dim
from cir.graph import Graph
from cir.statement import StatementError, View, instantiate
from fusion_db import kinds
from fusion_db.attributes import AttrConst, AttrExpr, AttrName, AttrPat, AttrTuple
from fusion_db.kinds import Axis, Kind
from fusion_db.pattern import Lit, Many, Op, Or, Pat, Ref, Var
from fusion_db.predicates import FUNCTIONS
from fusion_db.selections import Selection, may_be_absent
from fusion_db.strategy import Strategy

_PRIMES = (2, 3, 5, 7, 4, 6, 8, 9, 10, 11, 12, 13)
_LEADS: tuple[tuple[Dim, ...], ...] = ((2,), (), (3, 1), ("batch",))
#: Number of variants: primes, ones, mixed sizes, and one with a symbolic leading axis.
VARIANTS = 4
#: Size that the symbolic axis has when the instance runs.
BATCH = 3


class Unbuildable(Exception):
    """A selection that gives no valid graph with these sizes."""


@dataclass
class Instance:
    """A generated graph with the binding that the strategy is meant to find.

    ``interior`` names the values that the replacement makes disappear.
    """

    graph: Graph
    values: dict[str, Any]
    attrs: dict[str, Any]
    feeds: dict[str, np.ndarray]
    interior: tuple[str, ...] = ()


# -- one instance ----------------------------------------------------------------------------------
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

    def make(self) -> Instance:
        """The instance.

        Raises:
            Unbuildable: an op refuses the operands of this selection and these sizes.
        """
        roots = [str(self.emit(Ref(o))) for o in self.strategy.pattern.outputs]
        graph = self.b.finish(roots)
        made = {o for n in graph.nodes for o in n.outputs} - set(roots)
        return Instance(graph, self.values, self.attrs, self.feeds, tuple(sorted(made)))

    def counter(self, lines: Sequence[str]) -> Graph:
        """A graph of other lines over inputs like those of an instance.

        Raises:
            Unbuildable: the lines are wrong or do not fit these inputs.
        """
        used = set(re.findall(r"[A-Za-z_]\w*", " ".join(lines)))
        for name in self.strategy.inputs:
            if name in used:
                self.values[name] = self._input(name, "")
        try:
            env = instantiate(lines, self.b, self.values, self.attrs, functions=FUNCTIONS)
        except (StatementError, CirError) as exc:
            raise Unbuildable(str(exc)) from exc
        outputs = [env[o] for o in self.strategy.pattern.outputs if o in env]
        return self.b.finish(outputs or [self.b.nodes[-1].name])

    # -- sizes -------------------------------------------------------------------------------------
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
                    first = first and a.form != "rest"
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

    # -- values ------------------------------------------------------------------------------------
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
                absent = may_be_absent(pat, i) and self.selection.get(id(a), 0)
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
            name = self.tweak[1]
            attrs[name] = _other(attrs.get(name, dict(pat.defaults).get(name)))
        return self._apply(pat.spec.name, inputs, attrs)

    def _apply(self, op: str, inputs: list[str | None], attrs: dict[str, Any]) -> tuple[str, ...]:
        try:
            return self.b.emit(op, inputs, attrs)
        except CirError as exc:
            raise Unbuildable(str(exc)) from exc

    def _view(self, op: str, value: str | None) -> dict[str, Any]:
        """Attributes of a view in a chain: it changes nothing, so that what is around it fits."""
        shape = self.b.types[value].shape if value is not None else ()
        if op == "reshape":
            return {"shape": shape}
        return {"perm": tuple(range(len(shape)))} if op == "transpose" else {}

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
        data = self.candidate(name)
        if isinstance(data, list):  # the numbers themselves
            return self.b.const(np.array(data), name=name)
        shape = self.shape(kind)
        if kind.const:
            return self.b.const(self._array(dtype, shape, kind.positive), name=name, dtype=dtype)
        value = self.b.input(name, dtype, shape)
        self.feeds[value] = self._array(dtype, shape, kind.positive)
        return value

    def _array(self, dtype: str, shape: Sequence[Dim], positive: bool) -> np.ndarray:
        sizes = [_at_batch(d) for d in shape]
        if dtype == "bool":
            return self._mask(sizes)
        if dt.is_int(dtype):
            return self.rng.integers(0, 2, sizes).astype(dtype)
        data = self.rng.standard_normal(sizes)
        return (np.abs(data) + 0.1 if positive else data).astype(dt.to_numpy(dtype))

    def _mask(self, sizes: Sequence[int]) -> np.ndarray:
        """Truth values, each row with at least one of either, as masks must have."""
        mask = self.rng.random(sizes) < 0.5
        if mask.ndim and mask.shape[-1] > 1:
            mask[..., 0], mask[..., -1] = True, False
        return mask

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

    # -- attributes --------------------------------------------------------------------------------
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
        case tuple() if value and all(type(v) is int for v in value):
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
