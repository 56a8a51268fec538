"""CIR to a graph of GE operators: legality, the table, types of what the rows put in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from cir import dtype as dt
from cir.diagnostics import Collector
from cir.graph import Model, TensorType
from framework_adapter import emission
from framework_adapter.cann import dims, signatures, soc
from framework_adapter.cann.proto import TYPE_NUMBERS
from framework_adapter.emission import Emission
from framework_adapter.source import Ref, SourceGraph, SourceNode
from framework_adapter.target import Scope, TargetGraph

ROOM = "cann"
_BOOL = (
    "Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual", "LogicalAnd", "LogicalOr",
    "LogicalNot", "IsNan", "IsInf",
)  # fmt: skip
#: Ops whose second result has a dtype of its own.
_SECOND = {"TopKV2": "int32", "RmsNorm": "float32"}
#: Ops whose results have the dtype of another operand than the first.
_LIKE = {"SelectV2": 1, "Conv2DTranspose": 1, "Conv3DTranspose": 1}


class GeTarget:
    """What emission asks of GE, for a chip."""

    copy = "Identity"
    version = 0
    functions: Mapping[str, Any] = {
        "is_float": dt.is_float,
        "static": lambda shape: all(isinstance(d, int) for d in shape),
        "castable": lambda dtype: dtype in _arithmetic(),
    }

    def __init__(self, chip: soc.Soc) -> None:
        self.chip = chip

    def takes(self, op: str, slot: int) -> frozenset[str] | None:
        """Dtypes that an input takes; None for an operator that the chip lacks."""
        signature = signatures.find(op)
        if signature is None or op in self.chip.lacks_ops:
            return None
        found = signature.input(slot).dtypes if signature.inputs else frozenset(dt.ALL)
        return found - self.chip.lacks_dtypes

    def result_dtypes(
        self, op: str, dtypes: Sequence[str], attrs: Mapping[str, Any]
    ) -> Sequence[str]:
        """Dtypes of an op's results."""
        if op in _BOOL:
            return ("bool",)
        if op in _SECOND:
            return (dtypes[0], _SECOND[op])
        named = attrs.get("dst_type") or attrs.get("dtype")
        return (named or dtypes[_LIKE.get(op, 0)],)

    def cast(self, scope: Scope, value: str, dtype: str) -> str:
        """Emit a Cast."""
        return str(scope.op("Cast", value, dst_type=dtype))

    def dims(self, scope: Scope, shape: Sequence[Any]) -> str:
        """Emit dims as an int64 vector."""
        return dims.vector(scope, shape)


def _arithmetic() -> frozenset[str]:
    """Dtypes that Cast converts to: those it converts from."""
    signature = signatures.find("Cast")
    assert signature is not None
    return signature.inputs[0].dtypes & frozenset(TYPE_NUMBERS)


@cache
def table(name: str | None = None) -> Emission:
    """The emission table for a chip (default: see ``soc.find``). Raises CirError E503."""
    return Emission(emission.load(ROOM), GeTarget(soc.find(name)))


def program(model: Model, name: str | None, ctx: Any = None) -> TargetGraph:
    """A canonical program as a graph of GE operators, every value typed.

    Args:
        model: the program; inputs, outputs and state keep their names.
        name: the chip, None for any.
        ctx: receives the trace of the passes.

    Raises:
        CirError: E501 for all ops and dtypes that the chip does not take; E503 for an unknown chip.
    """
    from framework_adapter.pipeline import back

    rows = table(name)
    legal = back(rows.legal).run(model, ctx)
    found = Collector()
    rows.check_legal(legal.graph, found, name or "Ascend")
    _check_dtypes(legal, soc.find(name), found)
    found.raise_errors()
    return typed(Scope(rows, legal.graph).main())


def _check_dtypes(model: Model, chip: soc.Soc, found: Collector) -> None:
    """Values of a dtype that the chip has no arithmetic for cannot even be cast there."""
    for dtype in sorted(chip.lacks_dtypes):
        names = [n for n, t in model.graph.types.items() if t.dtype == dtype]
        if names:
            found.add(
                "E501",
                f"{chip.name} has no {dtype} (×{len(names)})",
                where=", ".join(names[:4]),
                fix="convert the model in float32 or float16",
            )


def typed(graph: TargetGraph) -> TargetGraph:
    """The graph with the types of all results, found by reading it back as a program."""
    from framework_adapter.lowering import lower
    from framework_adapter.mapping import load

    missing = tuple(o for n in graph.nodes for o in n.outputs if o not in graph.types)
    if not missing:
        return graph
    nodes = tuple(
        SourceNode(n.op, tuple(Ref(i) if i else None for i in n.inputs), n.attrs, n.outputs)
        for n in graph.nodes
    )
    inputs = {i: graph.types[i] for i in graph.inputs}
    source = SourceGraph(ROOM, inputs, missing, nodes, graph.consts)
    back = lower(source, load(ROOM)).graph
    found: dict[str, TensorType] = {
        name: back.types[o] for name, o in zip(missing, back.outputs, strict=True)
    }
    return replace(graph, types={**graph.types, **found})
