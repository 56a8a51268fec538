"""A target's graph in the making, as emission rows and handlers use it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cir import dtype as dt
from cir import expr
from cir import statement as st
from cir.graph import Const, Graph, Node, TensorType
from framework_adapter.emission import Chosen, Emission

#: Constants up to this many elements are shared when equal.
_SHARED = 64


@dataclass(frozen=True, slots=True)
class TargetNode:
    """One node of a target: its op, value names ("" for an absent input), attributes, and origin.

    An attribute is a Python value, a ``Const`` (tensor) or a ``TargetGraph`` (body). ``origin``
    names the IR node it was made for.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    origin: str

    @property
    def bodies(self) -> list[TargetGraph]:
        """Graphs among the attributes."""
        return [v for v in self.attrs.values() if isinstance(v, TargetGraph)]


@dataclass(frozen=True)
class TargetGraph:
    """A finished graph or body. Bodies read values of the graphs around them."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[TargetNode, ...]
    types: Mapping[str, TensorType] = field(default_factory=dict)
    consts: Mapping[str, Const] = field(default_factory=dict)

    def walk(self) -> Iterable[TargetNode]:
        """All nodes, those of bodies included."""
        for node in self.nodes:
            yield node
            for body in node.bodies:
                yield from body.walk()


class Scope:
    """Emits one IR graph. What handlers may use has no leading underscore.

    Attributes:
        graph: the IR graph being emitted.
        node: the IR node being emitted.
        types: target value -> type, where known.
    """

    def __init__(self, emission: Emission, graph: Graph, parent: Scope | None = None) -> None:
        self.emission, self.target = emission, emission.target
        self.graph, self.parent = graph, parent
        self.root: Scope = parent.root if parent else self
        self.env: dict[str, str] = {}
        self.nodes: list[TargetNode] = []
        self.types: dict[str, TensorType] = parent.types if parent else {}
        self.dtypes: dict[str, str] = parent.dtypes if parent else {}
        self.consts: dict[str, Const] = self.root.consts if parent else {}
        #: shared side results (shape arithmetic, turned weights) by key, those of the scopes around
        #: included; never a node's own result, which is renamed
        self.memo: dict[Any, str] = dict(parent.memo) if parent else {}
        self.names: dict[str, int] = parent.names if parent else {}
        self._by_value: dict[tuple[str, bytes], str] = self.root._by_value if parent else {}
        self._by_const: dict[Const, str] = self.root._by_const if parent else {}
        if parent is None:
            self.names.update(dict.fromkeys(graph.types, 0))
            for _, node in graph.walk():
                for region in node.regions:
                    self.names.update(dict.fromkeys(region.types, 0))
        self.node: Node = Node("", (), ("graph",))
        self._bound: list[tuple[str, str]] = []
        self._skipped: set[str] = set()
        self.chosen: list[Chosen] = self.root.chosen if parent else []

    # -- names, values, constants ------------------------------------------------------------------
    def unique(self, wanted: str) -> str:
        """Reserve a free name: the one wanted, or with the first free suffix _1, _2, ..."""
        name = wanted
        while name in self.names:
            self.names[wanted] += 1
            name = f"{wanted}_{self.names[wanted]}"
        self.names[name] = 0
        return name

    def value(self, name: str) -> str:
        """Target value of an IR value."""
        if name not in self.env:
            const = self.graph.consts[name]
            if const not in self._by_const:  # one object, one tensor: tied weights stay tied
                self._by_const[const] = self.const(const, name, taken=True)
            self.env[name] = self._by_const[const]
        return self.env[name]

    def bind(self, name: str, value: str) -> None:
        """Let a later IR value stand for a value made now; its node is then not emitted."""
        self._bound.append((name, value))

    def skip(self, node: Node) -> None:
        """Leave out a later IR node, whose results nothing reads any more."""
        self._skipped.add(node.name)

    def const(
        self, value: Any, name: str = "", dtype: str | None = None, *, taken: bool = False
    ) -> str:
        """A constant from an array, number or Const; small equal ones without a name are shared."""
        c = value if isinstance(value, Const) else Const.of(value, dtype)
        key = None
        if not name and c.size <= _SHARED:
            key = (str(c.type), c.numpy().tobytes())
            if key in self._by_value:
                return self._by_value[key]
            label = "_".join(
                re.sub(r"[^0-9a-z.]+", "m", str(x)) for x in c.numpy().reshape(-1)[:6].tolist()
            )
            name = f"{c.type.dtype}_{label}" if c.size else f"{c.type.dtype}_empty"
        if not taken or name in self.consts:
            name = self.unique(name or f"{self.node.name}.const")
        self.consts[name] = c
        self.types[name] = c.type
        self.dtypes[name] = c.type.dtype
        if key is not None:
            self._by_value[key] = name
        return name

    def known(self, value: str) -> np.ndarray | None:
        """Data of a constant, None for another value."""
        c = self.consts.get(value)
        return None if c is None else c.numpy()

    def ints(self, dims: Sequence[Any]) -> str:
        """An int64 vector; symbolic dims are computed from the sizes of values at hand."""
        if all(isinstance(d, (int, np.integer)) for d in dims):
            return self.const(np.array(dims, np.int64))
        return self.target.dims(self, tuple(dims))

    def dtype(self, value: str) -> str:
        """Dtype of a target value."""
        return self.dtypes[value]

    # -- emitting ----------------------------------------------------------------------------------
    def op(
        self,
        op: str,
        *inputs: Any,
        results: int = 1,
        dtypes: Sequence[str] | None = None,
        **attrs: Any,
    ) -> Any:
        """Emit one node.

        Args:
            op: op of the target.
            inputs: values, None (absent), numbers (constants of the dtype of the first tensor that
            is not
                boolean), tuples of dims (int64 vectors), arrays.
            results: number of results.
            dtypes: dtypes of the results, where the target cannot tell.
            attrs: attributes; None leaves one out.

        Returns:
            The value, or a tuple of values when ``results`` is not 1.
        """
        beside = (self.dtypes[v] for v in inputs if isinstance(v, str))
        like = next((d for d in beside if d != "bool"), "float32")
        names = [self._operand(v, like) for v in inputs]
        while names and not names[-1]:
            names.pop()
        attrs = {k: v for k, v in attrs.items() if v is not None}
        have = [self.dtypes[n] if n else "" for n in names]
        outs = tuple(self.unique(f"{self.node.name}.{op.lower()}") for _ in range(results))
        found = dtypes or self.target.result_dtypes(op, have, attrs)
        for i, name in enumerate(outs):
            self.dtypes[name] = found[min(i, len(found) - 1)]
        self.nodes.append(TargetNode(op, tuple(names), outs, attrs, self.node.name))
        return outs[0] if results == 1 else outs

    def _operand(self, v: Any, like: str) -> str:
        if v is None or isinstance(v, str):
            return v or ""
        if isinstance(v, (tuple, list)):
            return self.ints(v)
        if isinstance(v, (bool, int, float)):
            if isinstance(v, float) and not dt.is_float(like) and not v.is_integer():
                like = "float32"
            return self.const(np.asarray(v).astype(dt.to_numpy(like)))
        return self.const(v)

    def cast(self, value: str, dtype: str) -> str:
        """The value in a dtype; itself when it has it."""
        return value if self.dtypes[value] == dtype else self.target.cast(self, value, dtype)

    # -- graphs ------------------------------------------------------------------------------------
    def main(self) -> TargetGraph:
        """Emit the whole graph, whose inputs keep their names."""
        for name in self.graph.inputs:
            self.env[name] = name
            self.declare(name, self.graph.types[name])
        outs = self.outputs(self.body())
        return self.finish(self.graph.inputs, outs)

    def body(self) -> list[str]:
        """Emit all nodes of the graph; returns the values of its outputs."""
        for node in self.graph.nodes:
            if node.name not in self._skipped and not all(o in self.env for o in node.outputs):
                self.emit(node)
        return [self.value(o) for o in self.graph.outputs]

    def outputs(self, values: Sequence[str]) -> list[str]:
        """The values under the graph's own output names, each computed in this scope and listed
        once.
        """
        own = {o for n in self.nodes for o in n.outputs}
        out: list[str] = []
        for name, value in zip(self.graph.outputs, values):
            if value != name or value not in own or value in out:
                self.node = Node("identity", (), (name,))
                copy = self.op(self.target.copy, value)
                free = name not in own and name not in self.consts and name not in out
                if free and name not in self.graph.inputs:
                    self._rename(len(self.nodes) - 1, {copy: name})
                    copy = name
                self.types[copy] = self.graph.types[name]
                value = copy
            out.append(value)
        return out

    def inner(self, region: Graph, operands: Sequence[str]) -> Scope:
        """A scope for a region whose inputs are values at hand (captured, not passed)."""
        inner = Scope(self.emission, region, self)
        inner.node = self.node
        inner.env.update(zip(region.inputs, operands))
        return inner

    def inline(self, region: Graph, operands: Sequence[str]) -> list[str]:
        """Emit a region's nodes into this scope; returns the values of its outputs."""
        inner = self.inner(region, operands)
        inner.nodes = self.nodes
        return inner.body()

    def declare(self, name: str, t: TensorType) -> None:
        """State the type of a value that no node makes: a body's input."""
        self.types[name], self.dtypes[name] = t, t.dtype

    def own(self, value: str) -> str:
        """The value, computed in this scope: a copy of one from outside."""
        if any(value in n.outputs for n in self.nodes):
            return value
        return self.op(self.target.copy, value)

    def emit(self, node: Node) -> None:
        """Emit one IR node by its row."""
        chosen = self.emission.choose(node, self.graph)
        assert isinstance(chosen, Chosen), f"{node.op}: {chosen}"
        self.chosen.append(chosen)
        self.node = node
        start = len(self.nodes)
        inputs: list[Any] = [None if i is None else self.value(i) for i in node.inputs]
        for i, dtype in chosen.casts.items():
            inputs[i] = self.cast(inputs[i], dtype)
        results = self._apply(chosen, node, inputs)
        renames: dict[str, str] = {}
        made = {o for n in self.nodes[start:] for o in n.outputs}
        bound, self._bound = [*zip(node.outputs, results), *self._bound], []
        for name, value in bound:
            want = self.graph.types[name].dtype
            if self.dtypes[value] != want:
                value = self.cast(value, want)
                made.add(value)
            if value in made and value not in renames and name not in self.dtypes:
                renames[value] = name
                value = name
            self.env[name] = value
            self.types[value] = self.graph.types[name]
            self.dtypes[value] = want
        self._rename(start, renames)

    def _apply(self, chosen: Chosen, node: Node, inputs: list[Any]) -> Sequence[str]:
        from cir import spec

        s = spec.get(node.op)
        case = chosen.case
        if case.handler is not None:
            result = case.handler(self, *inputs, **node.attrs)
            return [result] if isinstance(result, str) else result
        values: dict[str, Any] = {p.name: None for p in s.inputs}
        views: dict[str, Any] = dict(values)
        for i, v in enumerate(inputs):
            p, name = s.param(i), node.inputs[i]
            if p.variadic:
                values[p.name] = [*(values[p.name] or ()), v]
            else:
                values[p.name] = v
                views[p.name] = None if name is None else self.graph.types[name]
        run = _Statements(self, values, {**views, **node.attrs})
        for line in case.emit[:-1]:
            result = run.value(line.value, len(line.targets))
            values.update(zip(line.targets, [result] if len(line.targets) == 1 else result))
        result = run.value(case.emit[-1].value, len(node.outputs))
        return [result] if isinstance(result, str) else result

    def _rename(self, start: int, names: Mapping[str, str]) -> None:
        if not names:
            return
        for i in range(start, len(self.nodes)):
            n = self.nodes[i]
            self.nodes[i] = replace(
                n,
                inputs=tuple(names.get(v, v) for v in n.inputs),
                outputs=tuple(names.get(v, v) for v in n.outputs),
            )
        for old, new in names.items():
            self.dtypes[new] = self.dtypes.pop(old)

    def finish(self, inputs: Sequence[str], outputs: Sequence[str]) -> TargetGraph:
        """The graph with these outputs, without nodes that nothing reads."""
        live = set(outputs)
        kept: list[TargetNode] = []
        for node in reversed(self.nodes):
            if any(o in live for o in node.outputs):
                kept.append(node)
                live.update(node.inputs)
                for body in node.bodies:
                    live.update(v for n in body.walk() for v in n.inputs)
        kept.reverse()
        types = {o: self.types[o] for n in kept for o in n.outputs if o in self.types}
        types.update((i, self.types[i]) for i in inputs if i in self.types)
        consts = {}
        if self.parent is None:
            consts = {k: c for k, c in self.consts.items() if k in live}
        return TargetGraph(
            self.graph.name, tuple(inputs), tuple(outputs), tuple(kept), types, consts
        )


class _Statements:
    """Evaluates a row's statements in a scope."""

    def __init__(self, scope: Scope, values: dict[str, Any], views: Mapping[str, Any]) -> None:
        self.s, self.values, self.views = scope, values, views

    def expression(self, node: Any) -> Any:
        return expr.evaluate(node, self.views, self.s.target.functions)

    def value(self, e: st.Expr, results: int = 1) -> Any:
        match e:
            case st.Name(id=name):
                return self.values[name] if name in self.values else self._attr(self.views[name])
            case st.Literal(value=v):
                return v
            case st.Choice(test=test, then=then, other=other):
                return self.value(then if self.expression(test) else other, results)
            case st.Call(op=op, args=args, attrs=attrs):
                named = {k: self.expression(v) for k, v in attrs}
                if op == "ints":
                    return self.s.ints(named["value"])
                if op == "number":
                    return self._number(**named)
                given: list[Any] = []
                for a in args:
                    v = self.value(a)
                    given.extend(v) if isinstance(v, list) else given.append(v)
                return self.s.op(op, *given, results=results, **named)
        raise st.StatementError(f"{type(e).__name__} is not allowed here")

    def _attr(self, v: Any) -> Any:
        if isinstance(v, int) and not isinstance(v, bool):
            return self.s.const(np.asarray(v, np.int64))
        return v

    def _number(self, value: Any, dtype: str | None = None) -> Any:
        return value if dtype is None else self.s.const(np.asarray(value, dt.to_numpy(dtype)))
