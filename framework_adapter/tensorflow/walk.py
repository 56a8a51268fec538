"""Walk a tf.Graph from its outputs: functions go inline, variables become constants."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import Collector, error
from cir.graph import Const, TensorType
from framework_adapter.source import InputSpec, Operand, Ref, SourceGraph, SourceNode
from framework_adapter.tensorflow.library import FunctionBody, Library, arity
from framework_adapter.tensorflow.load import Traced, Variable

#: Ops that hand on their first input.
_SAME = frozenset(
    {
        "Identity",
        "IdentityN",
        "StopGradient",
        "PreventGradient",
        "CheckNumerics",
        "CheckNumericsV2",
        "Snapshot",
        "PlaceholderWithDefault",
        "EnsureShape",
        "DebugGradientIdentity",
        "ReadVariableOp",
        "DebugIdentityV3",
    }
)
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_ASSIGN = frozenset(
    {
        "AssignVariableOp",
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "ResourceScatterUpdate",
        "ResourceScatterAdd",
        "ResourceScatterNdUpdate",
        "ResourceScatterNdAdd",
        "Assign",
        "AssignAdd",
        "AssignSub",
    }
)
_HANDLES = ("VarHandleOp", "VariableV2", "Variable", "Placeholder")
_BRANCHES = ("If", "StatelessIf")
_LOOPS = ("While", "StatelessWhile")
#: Attributes that hold functions, by op.
_BODIES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_CALLS, ("f",)),
    **dict.fromkeys(_BRANCHES, ("then_branch", "else_branch")),
    **dict.fromkeys(_LOOPS, ("cond", "body")),
}
_LOOPS_V1 = ("NextIteration", "RefNextIteration")
_PACKAGE = str(Path(__file__).resolve().parent.parent)


def walk(traced: Traced, specs: Sequence[InputSpec], outputs: Sequence[Any]) -> SourceGraph:
    """The part of a graph that leads to ``outputs`` (tensors). Raises CirError E102 or E105."""
    shared = _Shared(traced)
    region = Region(shared)
    env: dict[str, Any] = {}
    inputs = {}
    for spec, tensor in zip(specs, traced.inputs):
        env[tensor.name] = Ref(str(spec.name))
        inputs[str(spec.name)] = TensorType(spec.dtype, spec.shape)
        shared.taken.add(str(spec.name))
    control = getattr(traced.graph, "control_outputs", ())
    _note_writes(region, [*(t.op for t in outputs), *control], {})
    shared.check_state()
    region.run(traced.graph, outputs, env, "")
    names = tuple(region.value(env[t.name]).name for t in outputs)
    nodes, consts = region.live(names)
    return SourceGraph("tensorflow", inputs, names, nodes, consts, layout="channels_last")


class _Shared:
    """What all regions of one walk have in common."""

    def __init__(self, traced: Traced) -> None:
        self.variables = traced.variables
        self.modules = traced.modules
        self.library = Library(traced.graph)
        self.taken: set[str] = set()
        self.arrays: dict[int, Const] = {}  # id of a Variable -> its one Const
        self.assigned: dict[int, Variable] = {}

    def unique(self, wanted: str) -> str:
        """A name not given out before."""
        name, n = wanted, 0
        while name in self.taken:
            n += 1
            name = f"{wanted}_{n}"
        self.taken.add(name)
        return name

    def const(self, v: Variable) -> Const:
        """The one Const of a variable."""
        if id(v) not in self.arrays:
            self.arrays[id(v)] = Const.of(v.read())
        return self.arrays[id(v)]

    def check_state(self) -> None:
        """Refuse a model that writes its variables."""
        found = Collector()
        for v in self.assigned.values():
            found.add(
                "E102",
                f"the model changes its variable {v.name!r} while it runs",
                why="this is a training step, or a state that a converted model cannot keep",
                fix="convert with training=False, or make the state an input and an output",
            )
        found.raise_errors()


@dataclass
class Region:
    """Nodes and constants of one graph: the main one, or a branch or loop body."""

    shared: _Shared
    nodes: list[SourceNode] = field(default_factory=list)
    consts: dict[str, Const] = field(default_factory=dict)
    _named: dict[int, Ref] = field(default_factory=dict)  # id of a Variable -> its constant here

    def run(self, graph: Any, ends: Sequence[Any], env: dict[str, Any], scope: str) -> None:
        """Emit what leads to the tensors ``ends``; ``env`` maps tensor names to operands."""
        for op in _reachable(graph, ends, env):
            try:
                self._step(op, env, scope)
            except KeyError as exc:
                raise error("E105", f"{op.name} reads {exc}, which nothing produces") from exc

    def _step(self, op: Any, env: dict[str, Any], scope: str) -> None:
        kind = op.type
        if op.outputs and all(t.name in env for t in op.outputs):
            return
        if kind == "Const":
            name = self.shared.unique(op.name)
            if op.outputs[0].dtype.name in dt.ALL:
                self.consts[name] = Const.of(_array(op))
            env[op.outputs[0].name] = Ref(name)
        elif kind in _HANDLES:
            env[op.outputs[0].name] = self._variable(op)
        elif kind in _SAME:
            for t, source in zip(op.outputs, op.inputs):
                env[t.name] = env[source.name]
        elif kind in _CALLS:
            body = self.function(op, "f")
            inner = dict(zip((t.name for t in body.inputs), (env[t.name] for t in op.inputs)))
            self.run(body.graph, body.outputs, inner, self._scope(op, scope))
            for t, result in zip(op.outputs, body.outputs):
                env[t.name] = inner[result.name]
        elif kind in _BRANCHES or kind in _LOOPS:
            from framework_adapter.tensorflow import regions

            step = regions.branch if kind in _BRANCHES else regions.loop
            step(self, op, env, scope)
        elif kind in _LOOPS_V1:
            raise error(
                "E105",
                f"{op.name}: TensorFlow 1 loops cannot be converted",
                fix="save the model with TensorFlow 2 (functional While loops)",
            )
        else:
            self._emit(op, env, scope)

    def _variable(self, op: Any) -> Variable | Ref:
        v = self.shared.variables.get(op.name)
        if v is None:
            what = "an input that was not given" if op.type == "Placeholder" else "without a value"
            raise error("E105", f"{op.type} {op.name!r} is {what}")
        if op.outputs[0].dtype.base_dtype.name == "resource":
            return v
        return self.value(v)

    def value(self, operand: Any) -> Any:
        """An operand of a node: variables become constants, sequences are taken item by item."""
        if isinstance(operand, tuple):
            return tuple(self.value(x) for x in operand)
        if not isinstance(operand, Variable):
            return operand
        if id(operand) not in self._named:
            name = self.shared.unique(operand.name)
            self.consts[name] = self.shared.const(operand)
            self._named[id(operand)] = Ref(name)
        return self._named[id(operand)]

    def _emit(self, op: Any, env: dict[str, Any], scope: str) -> None:
        outputs = self.names(op, scope)
        operands = [self.value(env[t.name]) for t in op.inputs]
        self.add(op, op.type, _grouped(op, operands), _attributes(op), outputs, scope)
        env.update(zip((t.name for t in op.outputs), map(Ref, outputs)))

    def names(self, op: Any, scope: str) -> tuple[str, ...]:
        """Value names of an op's results: ``node``, ``node:1``, ..."""
        base = self.shared.unique(
            f"{scope}/{op.name}" if scope and op.name in self.shared.taken else op.name
        )
        return tuple(base if i == 0 else f"{base}:{i}" for i in range(len(op.outputs)))

    def add(
        self,
        op: Any,
        kind: str,
        inputs: tuple[Operand, ...],
        attrs: Mapping[str, Any],
        outputs: tuple[str, ...],
        scope: str,
        regions: tuple[SourceGraph, ...] = (),
    ) -> None:
        """Append a node with where it comes from."""
        module = self.shared.modules.get(op.name)
        if module is None:
            module = ".".join(p for p in op.name.split("/")[:-1])
        types = tuple(_type(t) for t in op.outputs[: len(outputs)])
        self.nodes.append(
            SourceNode(kind, inputs, attrs, outputs, types, module, _place(op), regions)
        )

    def function(self, op: Any, attr: str) -> FunctionBody:
        """The body of a function that an op calls, for the shapes of the op's operands."""
        operands = op.inputs[1:] if op.type in _BRANCHES else op.inputs
        shapes = [None if t.dtype.name == "resource" else t.shape for t in operands]
        return self.shared.library.body(op.get_attr(attr).name, shapes)

    @staticmethod
    def _scope(op: Any, scope: str) -> str:
        return f"{scope}/{op.name}" if scope else str(op.name)

    def live(self, ends: Sequence[str]) -> tuple[tuple[SourceNode, ...], dict[str, Const]]:
        """Nodes and constants that lead to these values."""
        needed = set(ends)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(r.name for r in _refs((node.inputs, tuple(node.attrs.values()))))
        return tuple(reversed(kept)), {k: c for k, c in self.consts.items() if k in needed}


def _refs(operand: Operand) -> Iterator[Ref]:
    if isinstance(operand, Ref):
        yield operand
    elif isinstance(operand, tuple):
        for x in operand:
            yield from _refs(x)


def _reachable(graph: Any, ends: Sequence[Any], env: Mapping[str, Any]) -> list[Any]:
    """Ops that the ends read, operands first."""
    seen: set[str] = set()
    stack = [t.op for t in ends]
    while stack:
        op = stack.pop()
        if op.name not in seen:
            seen.add(op.name)
            stack.extend(t.op for t in op.inputs if t.name not in env)
    return [op for op in graph.get_operations() if op.name in seen]


def _note_writes(region: Region, starts: Sequence[Any], owners: Mapping[str, Variable]) -> None:
    """Note variables written on the way to ``starts``, control edges and functions included.

    ``owners`` maps the handles that a function got as arguments to their variables.
    """

    def owner(t: Any) -> Variable | None:
        while t.op.type == "Identity":
            t = t.op.inputs[0]
        return owners.get(t.name) or region.shared.variables.get(t.op.name)

    seen: set[str] = set()
    stack = [*starts]
    while stack:
        op = stack.pop()
        if op.name in seen:
            continue
        seen.add(op.name)
        stack.extend((*(t.op for t in op.inputs), *op.control_inputs))
        if op.type in _ASSIGN and (v := owner(op.inputs[0])) is not None:
            region.shared.assigned[id(v)] = v
        for attr in _BODIES.get(op.type, ()):
            body = region.function(op, attr)
            operands = op.inputs[1:] if op.type in _BRANCHES else op.inputs
            inner = {
                a.name: v for a, t in zip(body.inputs, operands) if (v := owner(t)) is not None
            }
            _note_writes(region, [*(t.op for t in body.outputs), *body.control_outputs], inner)


def _array(op: Any) -> np.ndarray:
    import tensorflow as tf

    return np.asarray(tf.make_ndarray(op.get_attr("value")))


def _grouped(op: Any, operands: Sequence[Operand]) -> tuple[Operand, ...]:
    """Operands by parameter: a parameter that is a list of tensors becomes a tuple."""
    node, left = op.node_def, iter(operands)
    out: list[Operand] = []
    for arg in op.op_def.input_arg:
        if arg.number_attr or arg.type_list_attr:
            out.append(tuple(next(left) for _ in range(arity(arg, node))))
        else:
            out.append(next(left))
    return tuple(out)


def _attributes(op: Any) -> dict[str, Any]:
    attrs = {}
    for spec in op.op_def.attr:
        if spec.type not in ("func", "list(func)", "tensor") and not spec.name.startswith("_"):
            value = _plain(op.get_attr(spec.name))
            if value is not _UNKNOWN:
                attrs[spec.name] = value
    return attrs


_UNKNOWN = object()


def _plain(value: Any) -> Any:
    """An attribute as a Python value: dtype names, tuples for shapes and lists, -1 for open."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        return float(str(np.float32(value)))  # stored as float32: the shortest number that means it
    if isinstance(value, (list, tuple)):
        return tuple(_plain(v) for v in value)
    if hasattr(value, "as_numpy_dtype"):
        return value.base_dtype.name
    if hasattr(value, "unknown_rank"):
        return _UNKNOWN if value.unknown_rank else tuple(int(d.size) for d in value.dim)
    return value


def _type(t: Any) -> TensorType | None:
    dtype = t.dtype.base_dtype.name
    if dtype not in dt.ALL or not t.shape.is_fully_defined():
        return None
    return TensorType(dtype, tuple(int(d) for d in t.shape))


def _place(op: Any) -> str:
    """``file:line`` of the innermost frame of the user's own code that created an op, or ""."""
    frames = getattr(op, "traceback", None) or ()
    for frame in reversed(list(frames)):
        path = frame.filename
        if path.startswith(_PACKAGE):
            break
        if not _is_library(path) and os.sep in path:
            return f"{os.path.basename(path)}:{frame.lineno}"
    return ""


def _is_library(path: str) -> bool:
    return "site-packages" in path or path.startswith("<") or "dist-packages" in path
