"""Lowering: a source graph and an op table give an IR model.

Every node reachable from the outputs is looked at even after a problem, so one CirError names all
unsupported ops (E201), refused arguments (E202), wrong rows (E203) and values that must be known
(E207).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cir import dim as dm
from cir import expr
from cir.builder import Builder
from cir.diagnostics import CirError, Collector, error
from cir.dim import Dim, SymInt
from cir.graph import Const, Graph, Meta, Model, Source, TensorType
from framework_adapter import functions
from framework_adapter.context import Context, Refusal, Value, reason
from framework_adapter.mapping import MappingTable, Row
from framework_adapter.problems import Problems
from framework_adapter.source import Operand, Ref, SourceGraph, SourceNode


def lower(
    source: SourceGraph,
    table: MappingTable,
    *,
    collector: Collector | None = None,
) -> Model:
    """The IR model of a source graph (not yet canonicalised).

    Args:
        source: what a frontend extracted.
        table: rows of the source framework, user rows included.
        collector: receives the diagnostics.

    Raises:
        CirError: E201, E202, E203, E207; all problems of the graph at once.
    """
    found = Problems()
    main = _Lowering(source, table, _Builder("main"), found)
    graph = main.graph(source.output_names)
    collector = collector or Collector()
    found.report(collector, source.framework, table)
    collector.raise_errors()
    return Model(
        graph,
        symbols=dict(source.symbols),
        state=tuple((main.names[i], main.names[o]) for i, o in source.state),
        meta={
            "framework": source.framework,
            "layout": source.layout,
            "notes": list(source.notes),
            "versions": dict(source.versions),
        },
    )


class _Poisoned(Exception):
    """An operand comes from a node that has a problem of its own."""


class _Builder(Builder):
    """A builder that knows which symbols its graph's values can have."""

    def __init__(self, name: str, parent: _Builder | None = None) -> None:
        super().__init__(name, parent=parent)
        self.known: set[str] = set(parent.known) if parent else set()

    def fresh(self) -> str:
        name = super().fresh()
        self.known.add(name)
        return name


class _Lowering:
    """Lowers one graph or region."""

    def __init__(
        self,
        source: SourceGraph,
        table: MappingTable,
        builder: _Builder,
        problems: Problems,
        types: Sequence[TensorType] | None = None,
    ) -> None:
        self.source, self.table, self.b, self.problems = source, table, builder, problems
        self.c = Context(builder, self._region)
        self.env: dict[str, Any] = {}
        self.poisoned: set[str] = set()
        #: source name -> graph output name, for inputs and outputs
        self.names: dict[str, str] = {}
        self._consts: dict[Const, Value] = {}
        #: dims as the framework spells them -> as inference spells them
        self._alias: dict[Dim, Dim] = {}
        for i, (name, t) in enumerate(source.inputs.items()):
            t = types[i] if types else t
            self.env[name] = Value(builder.input(name, t.dtype, t.shape))
            builder.known.update(s for d in t.shape for s in dm.symbols_of(d))
            self.names[name] = self.env[name]

    def graph(self, output_names: Sequence[str] = ()) -> Graph:
        """Lower all reachable nodes and close the graph."""
        reserved = [self.b.unique(n) for n in output_names]
        for node in _reachable(self.source):
            self.node(node)
        if self.problems.groups:
            return self.b.finish(())
        outs: list[Value] = []
        for name in self.source.outputs:
            if name in self.poisoned:
                why = f"the result {name} is not produced by its operator's row"
                self.problems.add("E202", self._maker(name), why, "leave this output out")
                continue
            value = self.c.tensor(self.resolve(Ref(name)))
            if value in outs or value in self.b.consts or value in self.b.inputs:
                self.b.meta = Meta()
                value = Value(self.b.emit("identity", [value], name=name)[0])
            outs.append(value)
            self.names[name] = value
        if self.problems.groups:
            return self.b.finish(())
        graph = _without_unused_consts(self.b.finish(outs))
        names = {str(old): new for old, new in zip(outs, reserved) if old != new}
        for name, final in self.names.items():
            self.names[name] = names.get(final, final)
        return renamed(graph, names) if names else graph

    # -- nodes -------------------------------------------------------------------------------------
    def node(self, node: SourceNode) -> None:
        """Lower one node; on a problem its results become stand-ins of the reported types."""
        row = self.table.find(node.op)
        self.c.node = node
        self.c.outs = tuple(self._reported(node, i) for i in range(len(node.outputs)))
        self.b.meta = Meta(
            (Source(f"{node_framework(self.source)}:{node.op}", node.module, node.place),)
        )
        try:
            if row is not None:
                self._bind_results(row, node, self._apply(row, node))
                return
            self.problems.add("E201", node)
        except _Poisoned:
            pass
        except Refusal as exc:
            self.problems.add("E202", node, exc.reason, exc.remedy)
        except CirError as exc:
            d = exc.diagnostics[0]
            code = d.code if d.code in ("E203", "E207") else "E202"
            self.problems.add(code, node, reason(exc), d.fix)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
            fix = f"correct the row in {row.origin}" if row is not None else ""
            self.problems.add("E203", node, f"{type(exc).__name__}: {exc}", fix)
        for i, name in enumerate(node.outputs):
            t = self._reported(node, i)
            if t is None:
                self.poisoned.add(name)
            else:
                self.env[name] = Value(self.b.input(f"{name}.unknown", t.dtype, t.shape))

    def _apply(self, row: Row, node: SourceNode) -> Any:
        if row.handler is not None and "args" not in row.raw:
            named = {k: self.resolve(v) for k, v in node.attrs.items()}
            return row.handler(self.c, node, *map(self.resolve, node.inputs), **named)
        bound = self._bind(row, node)
        plain = {name: self.c.plain(v) for name, v in bound.items()}
        plain["out"] = self.c.out
        for text, condition, remedy in row.refusals:
            if expr.evaluate(condition, plain, self.c.functions):
                shown = f"{text}={bound[text]!r}" if text in bound else text
                raise Refusal(f"{shown} is not supported", remedy)
        for adverb in row.adverbs:
            bound = self._promoted(row, bound, to_float=adverb == "promote_float")
        if row.handler is not None:
            return row.handler(self.c, node, **bound)
        for case in row.cases:
            if case.when is None or expr.evaluate(case.when, plain, self.c.functions):
                return self.c.statements(case.emit, bound, row.results)
        raise Refusal("no case of the row applies to these arguments")

    def _bind(self, row: Row, node: SourceNode) -> dict[str, Any]:
        bound: dict[str, Any] = {}
        rest = list(node.inputs)
        for a in row.args:
            if a.name in node.attrs:
                bound[a.name] = self.resolve(node.attrs[a.name])
            elif a.kind == "variadic":
                bound[a.name] = tuple(self.resolve(x) for x in rest)
                rest = []
            elif a.kind == "positional" and rest:
                bound[a.name] = self.resolve(rest.pop(0))
            elif not a.required:
                bound[a.name] = a.default
            else:
                raise row.wrong(f"{node.op} has no operand or attribute {a.name!r}")
        if rest:
            raise row.wrong(f"{node.op} has {len(node.inputs)} operands, the row takes fewer")
        return bound

    def _promoted(self, row: Row, bound: dict[str, Any], to_float: bool) -> dict[str, Any]:
        given = [bound[a.name] for a in row.args if a.kind != "named"]
        flat = [x for v in given for x in (v if isinstance(v, tuple) else (v,))]
        operands = [x for x in flat if isinstance(x, (Value, bool, int, float, SymInt))]
        if not any(isinstance(x, Value) for x in operands):
            return bound
        want = functions.common_dtype(self.b, operands)
        if to_float and not want.startswith(("float", "bfloat")):
            want = "float32"

        def convert(v: Any) -> Any:
            if isinstance(v, tuple):
                return tuple(convert(x) for x in v)
            return self.c.cast(v, want) if isinstance(v, Value) else v

        return {name: convert(v) for name, v in bound.items()}

    def _bind_results(self, row: Row, node: SourceNode, result: Any) -> None:
        many = isinstance(result, (tuple, list)) and (len(node.outputs) != 1 or len(result) == 1)
        results = tuple(result) if many or row.results is not None else (result,)
        if len(results) < len(node.outputs) and any(node.outputs[len(results) :]):
            raise row.wrong(f"gives {len(results)} results, {node.op} has {len(node.outputs)}")
        for i, (name, value) in enumerate(zip(node.outputs, results)):
            if isinstance(value, str) and value in self.b.types:
                value = Value(value)
                self._learn(node, i, value)
                self._check_symbols(value)
            if value is None:
                self.poisoned.add(name)  # "not produced": an error only for who uses it
            self.env[name] = tuple(value) if isinstance(value, list) else value

    def _maker(self, name: str) -> SourceNode:
        return next(n for n in self.source.nodes if name in n.outputs)

    # -- operands ----------------------------------------------------------------------------------
    def resolve(self, x: Operand) -> Any:
        """A bound argument (see Context) for an operand."""
        if isinstance(x, Ref):
            if x.name in self.poisoned:
                if not self.problems.groups:
                    raise Refusal(
                        f"result {x.name} of its operand is not produced by the operand's row"
                    )
                raise _Poisoned
            if x.name in self.env:
                return self.env[x.name]
            const = self.source.consts[x.name]
            if const not in self._consts:
                self._consts[const] = Value(self.b.const(const, name=x.name))
            return self._consts[const]
        if isinstance(x, SymInt):
            return SymInt(self._translated(x.dim))
        return tuple(self.resolve(i) for i in x) if isinstance(x, (tuple, list)) else x

    # -- types the framework reports ---------------------------------------------------------------
    def _reported(self, node: SourceNode, i: int) -> TensorType | None:
        t = node.types[i] if i < len(node.types) else None
        return None if t is None else TensorType(t.dtype, tuple(map(self._translated, t.shape)))

    def _translated(self, d: Dim) -> Dim:
        if not isinstance(d, str):
            return d
        if d in self._alias:
            return self._alias[d]
        return dm.substitute(
            d, {str(k): v for k, v in self._alias.items() if str(k).isidentifier()}
        )

    def _learn(self, node: SourceNode, i: int, value: Value) -> None:
        """Remember how inference spells a symbolic dim that the framework spells otherwise."""
        t = self._reported(node, i)
        inferred = self.b.types[value].shape
        if t is None or len(t.shape) != len(inferred):
            return
        for theirs, ours in zip(t.shape, inferred):
            if isinstance(theirs, str) and theirs != ours and theirs not in dm.symbols_of(ours):
                self._alias[theirs] = ours

    def _check_symbols(self, value: Value) -> None:
        """Refuse a size that neither an input nor an op of the graph defines."""
        for d in self.b.types[value].shape:
            if isinstance(d, str) and not dm.symbols_of(d) <= self.b.known:
                raise error(
                    "E207",
                    f"the size {d} of {value} depends on the input data",
                    fix="compute sizes from shapes of inputs or from constants",
                )

    def _region(self, graph: SourceGraph, name: str, types: Sequence[TensorType]) -> Graph:
        meta = self.b.meta
        out = _Lowering(graph, self.table, _Builder(name, self.b), self.problems, types).graph()
        self.b.meta = meta
        return out


def node_framework(source: SourceGraph) -> str:
    """Prefix of op ids in provenance."""
    return "torch" if source.framework == "pytorch" else source.framework


def _refs(x: Operand) -> list[str]:
    if isinstance(x, Ref):
        return [x.name]
    return [n for i in x for n in _refs(i)] if isinstance(x, (tuple, list)) else []


def _reachable(source: SourceGraph) -> list[SourceNode]:
    live = set(source.outputs) | {o for _, o in source.state}
    kept: list[SourceNode] = []
    for node in reversed(source.nodes):
        if any(o in live for o in node.outputs):
            kept.append(node)
            for x in (*node.inputs, *node.attrs.values()):
                live.update(_refs(x))
    return kept[::-1]


def _without_unused_consts(graph: Graph) -> Graph:
    used = {i for n in graph.nodes for i in n.inputs} | set(graph.outputs)
    consts = {k: c for k, c in graph.consts.items() if k in used}
    types = {k: t for k, t in graph.types.items() if k in consts or k not in graph.consts}
    return graph.with_(consts=consts, types=types)


def renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with values under new names; constants and inputs keep theirs."""

    def new(v: str | None) -> str | None:
        return v if v is None else names.get(v, v)

    return graph.with_(
        outputs=tuple(names.get(v, v) for v in graph.outputs),
        nodes=tuple(
            n.with_(
                inputs=tuple(map(new, n.inputs)), outputs=tuple(names.get(v, v) for v in n.outputs)
            )
            if any(v in names for v in (*n.inputs, *n.outputs))
            else n
            for n in graph.nodes
        ),
        types={names.get(k, k): t for k, t in graph.types.items()},
    )


def named_outputs(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph with its outputs called ``names`` again, after passes that replaced them.

    An output that is an input, a constant or another output as well keeps the name it has.
    """
    computed = {o for n in graph.nodes for o in n.outputs}
    wanted = {
        old: new
        for old, new in zip(graph.outputs, names)
        if old in computed and graph.outputs.count(old) == 1 and new not in graph.inputs
    }
    clashing = {n for n in wanted.values() if n in graph.types} - wanted.keys()
    if clashing & graph.consts.keys() or all(a == b for a, b in wanted.items()):
        return graph
    names_in_use = Builder.resume(graph)
    moved = {n: names_in_use.unique(n) for n in sorted(clashing)}
    return renamed(graph, {**moved, **wanted})
