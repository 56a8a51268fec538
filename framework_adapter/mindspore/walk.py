"""From a .mindir file's functions to one source graph: calls inlined, tokens and tuples gone.

A function is run symbolically: each of its values is an operand (a Ref, a Python value, a tuple of
these) or one of the things below that never reach the result. ``if`` and ``while`` come as
functions chosen by ``Switch``; they become ``cond`` and ``while_loop`` nodes with regions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cir.diagnostics import Collector, error
from cir.graph import Const, TensorType
from framework_adapter.mindspore import host
from framework_adapter.mindspore.mindir import MONAD, Abstract, MindIR, Node
from framework_adapter.mindspore.ranks import rank_of
from framework_adapter.source import Operand, Ref, SourceGraph, SourceNode

#: Bounds of inlining: nested calls, and nodes of the result.
_MAX_CALLS, _MAX_NODES = 100, 1_000_000
#: Elements of a constant that may stand for sizes.
_SMALL = 16
#: Attributes that say nothing about the result.
_IGNORED = frozenset(
    ("input_names", "output_names", "side_effect_mem", "side_effect_propagate", "checkpoint")
)
#: Ops that carry an order token without changing anything.
_HARMLESS = frozenset(("Embedding", "InstanceNorm", "BatchNorm", "BatchNormExt"))
#: Op -> position of its dtype operand, which the file gives as MindSpore's TypeId.
_DTYPE_AT: Mapping[str, int] = {
    "Arange": 3, "Argmax": 2, "Argmin": 2, "Cast": 1, "CumsumExt": 2, "Eye": 2, "FillScalar": 2,
    "FillTensor": 2, "FullLike": 2, "LinSpaceExt": 3, "LinalgVectorNorm": 4, "LogSoftmaxExt": 2,
    "MeanExt": 3, "Norm": 4, "Ones": 1, "OnesLikeExt": 1, "ProdExt": 3, "ScalarCast": 1,
    "ScalarToTensor": 1, "SumExt": 3, "ToDtype": 1, "TupleToTensor": 1, "Zeros": 1,
    "ZerosLikeExt": 1,
}  # fmt: skip
_TYPE_ID = {
    30: "bool", 32: "int8", 33: "int16", 34: "int32", 35: "int64", 37: "uint8", 38: "uint16",
    39: "uint32", 40: "uint64", 42: "float16", 43: "float32", 44: "float64", 45: "bfloat16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Closure:
    """A function with its first arguments."""

    graph: str
    captured: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A function that depends on a condition."""

    cond: Operand
    yes: Closure
    no: Closure


@dataclass(frozen=True, slots=True)
class Again:
    """The tail call that starts the next turn of a loop."""

    loop: str
    args: tuple[Any, ...]


class Raises(Exception):
    """The function being run ends in Python's ``raise``."""


@dataclass
class Scope:
    """A graph or region that is being filled."""

    nodes: list[SourceNode] = field(default_factory=list)
    consts: dict[str, Const] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    by_const: dict[Const, Ref] = field(default_factory=dict)


class Walker:
    """Runs the functions of one file symbolically."""

    def __init__(self, ir: MindIR, found: Collector) -> None:
        self.ir, self.found = ir, found
        self.notes: list[str] = []
        #: headers of the loops whose body is being run
        self.loops: list[str] = []
        #: Refs that stand for sizes of axes
        self.sizes: set[Ref] = set()
        self.ranks: dict[Ref, int | None] = {}
        self._names: dict[str, int] = {}
        self._stack: list[str] = []
        self._count = 0

    # -- names and constants -----------------------------------------------------------------------
    def unique(self, wanted: str) -> str:
        """A free value name; equal walks give equal names."""
        base = re.sub(r"[^A-Za-z0-9_.]+", "_", wanted).strip("_.") or "v"
        name = base
        while name in self._names:
            self._names[base] += 1
            name = f"{base}_{self._names[base]}"
        self._names[name] = 0
        return name

    def const(self, scope: Scope, value: Any, name: str = "const") -> Operand:
        """An operand for a constant; the same tensor is one constant of the scope."""
        if isinstance(value, tuple):
            return tuple(self.const(scope, v) for v in value)
        if not isinstance(value, Const):
            return value
        if value not in scope.by_const:
            ref = Ref(self.unique(name))
            scope.by_const[value] = ref
            self.ranks[ref] = value.type.rank
            scope.consts[ref.name] = value
        return scope.by_const[value]

    def lookup(self, scope: Scope, env: Mapping[str, Any], name: str) -> Any:
        """The operand a value name stands for. Raises CirError E105 for a dangling name."""
        if name in env:
            return env[name]
        if name in self.ir.constants:
            return self.const(scope, self.ir.constants[name])
        if name in self.ir.parameters:
            key, const = self.ir.parameters[name]
            return self.const(scope, const, key)
        if name in self.ir.graphs:
            return Closure(name)
        raise error("E105", f"value {name!r} is used but never made", fix="export the model again")

    def rank(self, v: Any) -> int | None:
        """Rank of an operand; of the first for a tuple; None when unknown or no tensor."""
        if isinstance(v, tuple):
            return self.rank(v[0]) if v else None
        return self.ranks.get(v) if isinstance(v, Ref) else None

    # -- functions ---------------------------------------------------------------------------------
    def call(self, scope: Scope, closure: Closure, args: Sequence[Any] = ()) -> Any:
        """The result of a function in a scope: its nodes are added to it."""
        name = closure.graph
        given = (*closure.captured, *args)
        if self.ir.graphs[name].flags.get("is_while_header"):
            if name in self.loops:
                return Again(name, given)
            from framework_adapter.mindspore import control

            return control.loop(self, scope, name, given)
        return self.body(scope, name, given)

    def body(self, scope: Scope, name: str, args: Sequence[Any], stop: bool = False) -> Any:
        """Run one function's nodes. With ``stop``, its Choice is returned, not called."""
        graph = self.ir.graphs[name]
        if len(self._stack) >= _MAX_CALLS or self._stack.count(name) > 1:
            raise error("E201", "the model calls itself", fix="write the recursion as a loop")
        if len(args) != len(graph.inputs):
            what = f"a function takes {len(graph.inputs)} operands and is given {len(args)}"
            raise error("E105", what, fix="export the model again")
        env = dict(zip((n for n, _ in graph.inputs), args))
        self._stack.append(name)
        try:
            for node in graph.nodes:
                if stop and node.calls and isinstance(env.get(node.op), Choice):
                    env[node.output] = env[node.op]
                else:
                    env[node.output] = self.node(scope, env, node)
        finally:
            self._stack.pop()
        return self.lookup(scope, env, graph.output)

    def node(self, scope: Scope, env: Mapping[str, Any], node: Node) -> Any:
        """What one node gives."""
        ins = [self.lookup(scope, env, i) for i in node.inputs]
        if node.calls:
            target = self.lookup(scope, env, node.op)
            if isinstance(target, Choice):
                from framework_adapter.mindspore import control

                return control.branch(self, scope, target, ins, module_of(node.scope))
            if not isinstance(target, Closure):
                raise error("E105", f"{node.op!r} is called but is no function")
            return self.call(scope, target, ins)
        match node.op:
            case "Load" | "Depend" | "Return":
                return ins[0]
            case "UpdateState":
                return MONAD
            case "MakeTuple" | "make_tuple" | "make_list" | "MakeList":
                return tuple(ins)
            case "TupleGetItem" | "tuple_getitem" | "list_getitem" | "RealTupleGetItem" if (
                isinstance(ins[0], tuple) and type(ins[1]) is int
            ):
                return ins[0][ins[1]]
            case "Partial":
                return Closure(ins[0].graph, (*ins[0].captured, *ins[1:]))
            case "Switch":
                return Choice(ins[0], _closure(ins[1]), _closure(ins[2]))
            case "raise":
                raise Raises
        at = _DTYPE_AT.get(node.op, -1)
        if 0 <= at < len(ins):
            ins[at] = _TYPE_ID.get(ins[at], ins[at])
        known = host.fold(node.op, ins, self.sizes)
        if known is host.UNKNOWN:
            known = host.fold_arrays(node.op, [_small_array(scope, v) for v in ins])
            if isinstance(known, np.ndarray):
                known = self.const(scope, Const.of(known))
        return self.emit(scope, node, ins) if known is host.UNKNOWN else known

    def emit(self, scope: Scope, node: Node, ins: list[Any]) -> Any:
        """Add a source node; returns its result or tuple of results."""
        module = module_of(node.scope)
        self._count += 1
        if self._count > _MAX_NODES:
            raise error("E105", f"the model has more than {_MAX_NODES} nodes after inlining")
        if node.attrs.get("side_effect_io"):
            self.notes.append(f"{node.op} is left out: it only prints or logs")
            return None
        if node.attrs.get("side_effect_mem") and not (
            node.op in _HARMLESS or node.op.endswith("View")
        ):
            self.found.add(
                "E201",
                f"{node.op} changes a parameter while the model runs",
                where=module,
                fix="pass the state as an input and return its new value",
            )
        attrs = {k: self.const(scope, v) for k, v in node.attrs.items() if k not in _IGNORED}
        name = f"{module}.{node.op}" if module else node.op
        several = isinstance(node.result, tuple)
        kinds = node.result if several else (node.result,)
        first = self.rank(ins[0]) if ins else None
        if node.op == "Shape" and not several and first is not None:
            several, kinds = True, (Abstract("int64", (), host=True),) * first
        if several:
            outputs = tuple(self.unique(f"{name}.{i}") for i in range(len(kinds)))
        else:
            outputs = (self.unique(name),)
        inputs = tuple(v for v in ins if v is not MONAD)
        scope.nodes.append(
            SourceNode(node.op, inputs, attrs, outputs, tuple(map(_type, kinds)), module)
        )
        refs = tuple(map(Ref, outputs))
        for ref, kind in zip(refs, kinds):
            self.ranks[ref] = kind.rank if isinstance(kind, Abstract) else None
        if refs and self.ranks[refs[0]] is None:
            self.ranks[refs[0]] = rank_of(node.op, ins, [self.rank(v) for v in ins], node.attrs)
        if node.op == "Shape":
            self.sizes.update(refs)
        return refs if several else refs[0]


def _small_array(scope: Scope, v: Any) -> Any:
    """The data of a small constant; another operand as it is."""
    c = scope.consts.get(v.name) if isinstance(v, Ref) else None
    return c.numpy() if c is not None and c.size <= _SMALL else v


def _type(kind: Any) -> TensorType | None:
    return kind.type if isinstance(kind, Abstract) else None


def _closure(x: Any) -> Closure:
    if not isinstance(x, Closure):
        raise error("E201", "a branch is chosen among values that are no functions")
    return x


def module_of(scope: str) -> str:
    """``Default/net-Net/conv-Conv2d/Conv2D-op0`` -> ``net.conv``."""
    return ".".join(part.split("-")[0] for part in scope.split("/")[1:-1])


def flatten(x: Any) -> list[Any]:
    """Leaves of nested tuples, depth first; tokens are left out."""
    if isinstance(x, tuple):
        return [leaf for item in x for leaf in flatten(item)]
    return [] if x is MONAD else [x]


def source_graph(
    ir: MindIR, inputs: Mapping[str, TensorType], feeds: Sequence[Any], found: Collector
) -> tuple[SourceGraph, Any]:
    """The graph of a file's entry function.

    Args:
        ir: the file.
        inputs: name and type of each flattened input.
        feeds: for each parameter of the entry function a Ref or a nested tuple of Refs.
        found: receives E201 findings.

    Returns:
        The graph (its outputs flattened depth first), and the result as the function structures it.
    """
    walker = Walker(ir, found)
    for name, kind in inputs.items():
        walker.unique(name)
        walker.ranks[Ref(name)] = kind.rank
    scope = Scope(inputs=dict(inputs))
    result = walker.body(scope, ir.main, feeds)
    outputs = [walker.const(scope, v) for v in flatten(result)]
    refs = [as_ref(walker, scope, v) for v in outputs]
    graph = SourceGraph(
        "mindspore",
        dict(inputs),
        tuple(r.name for r in refs),
        tuple(scope.nodes),
        scope.consts,
        notes=tuple(dict.fromkeys(walker.notes)),
        versions={"mindspore": ir.version},
    )
    return graph, result


def as_ref(walker: Walker, scope: Scope, v: Any) -> Ref:
    """A Ref for an operand; a Python number becomes a constant. Raises CirError E201."""
    if isinstance(v, Ref):
        return v
    if isinstance(v, (bool, int, float)):
        ref = walker.const(scope, Const.of(v, _number(v)), "const")
        assert isinstance(ref, Ref)
        return ref
    raise error(
        "E201",
        f"a result is {type(v).__name__}, not a tensor",
        fix="return tensors and tuples of tensors",
    )


def _number(v: bool | int | float) -> str:
    return "bool" if isinstance(v, bool) else "int64" if isinstance(v, int) else "float32"
