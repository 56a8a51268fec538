"""Verification: names, order, arity, attributes, types, regions. Runs after every pass.

A node object is immutable, so a node that was checked with the same operand and result types needs
no second type check: ``Checked`` remembers, and a graph that a pass left mostly alone verifies in
the time it takes to walk its names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cir import dim as dims
from cir import dtype as dt
from cir import spec
from cir.builder import infer
from cir.diagnostics import Collector
from cir.graph import Const, Graph, Model, Node, TensorType

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./]*\Z")
#: Findings after which verification stops: the rest mostly follows from the first ones.
_MAX_FINDINGS = 50
#: Constants above this size are data, not shape arithmetic (the builder's limit).
_KNOWN_LIMIT = 64

Types = tuple[TensorType | None, ...]


class Checked:
    """Nodes of the latest graph that verified, with the types they verified for."""

    def __init__(self) -> None:
        self.nodes: dict[Node, tuple[Types, Types]] = {}
        self.types: set[TensorType] = set()
        self._next: dict[Node, tuple[Types, Types]] = {}

    def has(self, node: Node, inputs: Types, outputs: Types) -> bool:
        """Whether the node verified before with these types."""
        return self.nodes.get(node) == (inputs, outputs)

    def add(self, node: Node, inputs: Types, outputs: Types) -> None:
        """Record a verified node of the graph at hand."""
        self._next[node] = (inputs, outputs)

    def commit(self, sound: bool) -> None:
        """End a verification; after a sound one the nodes of earlier graphs are forgotten."""
        if sound:
            self.nodes = self._next
        self._next = {}


def verify(model: Graph | Model, *, seen: Checked | None = None) -> None:
    """Check a graph or model completely.

    Args:
        model: what to check.
        seen: memory of earlier calls on related graphs; makes repeated verification cheap.

    Raises:
        CirError: E303 for names that are duplicate, dangling, used before they are computed, or not
            names; E304 for wrong arity, attributes, types or regions. All findings at once, up to
            50.
    """
    problems = Collector()
    work = _Verifier(problems, seen if seen is not None else Checked())
    try:
        work.graph(model.graph if isinstance(model, Model) else model)
        if isinstance(model, Model):
            _check_state(model, problems)
            _check_ranges(model, problems)
    except _TooMany:
        pass
    work.seen.commit(sound=not problems.errors)
    problems.raise_errors()


class _TooMany(Exception):
    pass


class _Verifier:
    def __init__(self, problems: Collector, seen: Checked) -> None:
        self.problems = problems
        self.seen = seen
        self.names: set[str] = set()

    def report(self, code: str, what: str, where: str, **fields: str) -> None:
        self.problems.add(code, what, where=where, **fields)
        if len(self.problems.items) >= _MAX_FINDINGS:
            raise _TooMany

    def define(self, name: str, g: Graph, scope: set[str]) -> None:
        """Bring a name into scope; it must be new in the whole model and have a type."""
        if name in self.names:
            self.report("E303", f"value {name!r} is defined twice", g.name)
        elif not _NAME.match(name):
            self.report(
                "E303", f"{name!r} is not a value name", g.name,
                fix="use letters, digits and _ . / and start with a letter or _",
            )  # fmt: skip
        self.names.add(name)
        scope.add(name)
        t = g.types.get(name)
        if t is None:
            self.report("E304", f"value {name!r} has no type", g.name)
        elif t not in self.seen.types and self.type(name, t):
            self.seen.types.add(t)

    def type(self, name: str, t: TensorType) -> bool:
        """Whether a type is sound: a known dtype, and dims that are canonical and not negative."""
        before = len(self.problems.items)
        if t.dtype not in dt.ALL:
            self.report("E304", f"{t.dtype!r} is not a dtype", name, fix=f"use {', '.join(dt.ALL)}")
            return False
        for d in t.shape:
            try:
                if isinstance(d, bool) or d != dims.canonical(d):
                    self.report("E304", f"dim {d!r} of {t} is not canonical", name)
                elif isinstance(d, int) and d < 0:
                    self.report("E304", f"dim {d} of {t} is negative", name)
            except dims.DimError as exc:
                self.report("E304", f"dim of {name!r}: {exc}", name)
        return len(self.problems.items) == before

    def graph(self, g: Graph) -> None:
        scope: set[str] = set()
        for name in g.inputs:
            self.define(name, g, scope)
        for name, c in g.consts.items():
            self.define(name, g, scope)
            self.const(name, c, g.types.get(name))
        for node in g.nodes:
            self.node(g, node, scope)
        for name in g.outputs:
            if name not in scope:
                self.report("E303", f"output {name!r} is not computed", g.name)

    def const(self, name: str, c: Const, t: TensorType | None) -> None:
        if t != c.type:
            self.report("E304", f"constant {name!r} is {c.type}, declared {t}", name)
        elif not t.is_static:
            self.report("E304", f"constant {name!r} is {t}: its dims must be numbers", name)
        elif c.array is not None and (
            c.array.shape != t.shape or c.array.dtype != dt.to_numpy(t.dtype)
        ):
            have = f"{c.array.dtype}{list(c.array.shape)}"
            self.report("E304", f"constant {name!r} holds {have}, declared {t}", name)

    def node(self, g: Graph, node: Node, scope: set[str]) -> None:
        before = len(self.problems.items)
        if not node.outputs:
            self.report("E303", f"a node {node.op} has no outputs", g.name)
            return
        for name in node.inputs:
            if name is not None and name not in scope:
                later = name in g.producers
                why = "it is computed later" if later else ""
                self.report("E303", f"{node.op} reads {name!r}, not in scope", node.name, why=why)
        for region in node.regions:
            self.graph(region)
        for name in node.outputs:
            self.define(name, g, scope)
        if len(self.problems.items) > before:
            return  # types of a node whose names are wrong say nothing
        inputs = tuple([None if i is None else g.types[i] for i in node.inputs])
        outputs = tuple([g.types[o] for o in node.outputs])
        if not self.seen.has(node, inputs, outputs):
            self.typing(g, node, inputs, outputs)
        if len(self.problems.items) == before:
            self.seen.add(node, inputs, outputs)

    def typing(self, g: Graph, node: Node, inputs: Types, outputs: tuple[TensorType, ...]) -> None:
        if node.inputs and node.inputs[-1] is None:
            self.report("E304", f"{node.op} ends with an absent input: drop it", node.name)
        s = spec.find(node.op)
        if s is not None and len(node.regions) != len(s.regions):
            need = ", ".join(s.regions) or "none"
            self.report(
                "E304", f"{node.op} has {len(node.regions)} regions, needs {need}", node.name
            )
            return
        try:
            ctx = _Context(g, node)
            attrs, types = infer(node.op, inputs, node.attrs, ctx)
            if not _same_attrs(attrs, node.attrs):
                shown = ", ".join(f"{k}={v!r}" for k, v in attrs.items())
                self.report(
                    "E304", f"{node.op} has attributes that are not canonical", node.name,
                    why=f"have {dict(node.attrs)}", fix=f"store {shown}",
                )  # fmt: skip
            if not _agree(types, outputs, ctx) and ctx.knew:
                # Declared before a constant was known: the type without it is right too.
                ctx = _Context(g, node, blind=True)
                types = infer(node.op, inputs, attrs, ctx)[1]
            if not _agree(types, outputs, ctx):
                self.report(
                    "E304", f"{node.op} gives {_show(types)}, declared {_show(outputs)}", node.name,
                    why=f"inputs: {_show(inputs)}",
                )  # fmt: skip
        except (ValueError, ArithmeticError, AssertionError, LookupError, TypeError) as exc:
            # InferError is a ValueError; the others come of attributes that inference did not
            # expect.
            self.report("E304", f"{node.op}: {exc}", node.name, why=f"inputs: {_show(inputs)}")


class _Context:
    """InferContext of a finished node: fresh symbols are placeholders, values small constants."""

    def __init__(self, g: Graph, node: Node, *, blind: bool = False) -> None:
        self._g, self._node, self._blind = g, node, blind
        self.regions: Sequence[Graph] = node.regions
        self.placeholders: list[str] = []
        self.knew = False

    def fresh(self) -> str:
        self.placeholders.append(f"_{len(self.placeholders)}_")
        return self.placeholders[-1]

    def value(self, index: int) -> np.ndarray | None:
        name = self._node.inputs[index] if index < len(self._node.inputs) else None
        c = None if name is None else self._g.consts.get(name)
        if c is None or c.size > _KNOWN_LIMIT:
            return None
        self.knew = True
        return None if self._blind else c.numpy()


def _agree(inferred: Sequence[TensorType], declared: Sequence[TensorType], ctx: _Context) -> bool:
    """Equal types, where a placeholder stands for one dim of any spelling."""
    if tuple(inferred) == tuple(declared):
        return True
    if not ctx.placeholders or len(inferred) != len(declared):
        return False
    bound: dict[str, dims.Dim] = {}
    for a, b in zip(inferred, declared):
        if a.dtype != b.dtype or a.rank != b.rank:
            return False
        for d, have in zip(a.shape, b.shape):
            if d in ctx.placeholders and d not in bound:
                bound[str(d)] = have
            elif dims.substitute(d, bound) != have:
                return False
    return True


def _same_attrs(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())


def _same(a: Any, b: Any) -> bool:
    # Stricter than ==, for which 1, 1.0 and True are one value, and laxer: nan is nan.
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is tuple:
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b or (a != a and b != b)


def _show(types: Iterable[TensorType | None]) -> str:
    return ", ".join(str(t) for t in types) or "nothing"


def _check_state(model: Model, problems: Collector) -> None:
    g = model.graph
    used: set[tuple[str, str]] = set()
    for source, target in model.state:
        for name, pool, kind in ((source, g.inputs, "input"), (target, g.outputs, "output")):
            if name not in pool:
                problems.add("E303", f"state names {name!r}, which is no {kind}", where=g.name)
            elif (kind, name) in used:
                problems.add("E303", f"state names {kind} {name!r} twice", where=g.name)
            used.add((kind, name))
        a, b = g.types.get(source), g.types.get(target)
        if a and b and (a.dtype != b.dtype or a.rank != b.rank):
            problems.add("E304", f"state enters as {a} and leaves as {b}", where=source)


def _check_ranges(model: Model, problems: Collector) -> None:
    for name, r in model.symbols.items():
        try:
            dims.symbol(name)
        except dims.DimError as exc:
            problems.add("E304", f"symbol range: {exc}", where=model.graph.name)
        top = float("inf") if r.max is None else r.max
        if not 0 <= r.min <= top or any(not r.min <= n <= top for n in r.sizes):
            problems.add(
                "E304", f"range of symbol {name!r} is empty or its sizes lie outside", where=str(r)
            )
