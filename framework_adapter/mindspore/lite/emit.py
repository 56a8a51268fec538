"""CIR to MindSpore Lite: legalise, emit by the table, write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cir import dtype as dt
from cir.diagnostics import Collector, error
from cir.graph import Graph, Model, Node, TensorType
from framework_adapter import emission
from framework_adapter.emission import Chosen, Emission, EmitResult
from framework_adapter.mindspore.lite import dims, write
from framework_adapter.mindspore.lite.casts import castable, route
from framework_adapter.mindspore.lite.resampling import resizable
from framework_adapter.target import Scope, TargetGraph

#: The runtime whose schema and kernels the tables describe, written into files.
RUNTIME = "2.7.0"
#: Dtypes of inputs and outputs: what the runtime copies and converts.
INTERFACE = frozenset(["bool", "uint8", "int32", "int64", "float16", "float32"])
_BOOL = frozenset(
    [
        "Equal",
        "NotEqual",
        "Less",
        "LessEqual",
        "Greater",
        "GreaterEqual",
        "LogicalAnd",
        "LogicalOr",
        "LogicalNot",
    ]
)
_INDICES = frozenset(["Shape", "ArgMaxFusion", "ArgMinFusion"])


class LiteTarget:
    """What emission asks of MindSpore Lite. int64 stands for indices, which files hold as int32."""

    version = 0
    copy = "Cast"
    functions: Mapping[str, Any] = {
        "is_float": dt.is_float,
        "static": lambda dims: all(isinstance(d, int) for d in dims),
        "castable": castable,
        "resizable": resizable,
        "front": lambda axes, rank: tuple(a % rank for a in axes),
    }

    def takes(self, op: str, slot: int) -> frozenset[str] | None:
        """Dtypes that an input takes; None without a kernel."""
        slots = kernels().get(op)
        return None if slots is None else slots[min(slot, len(slots) - 1)]

    def result_dtypes(
        self, op: str, dtypes: Sequence[str], attrs: Mapping[str, Any]
    ) -> Sequence[str]:
        """Dtypes of an op's results."""
        if op in _BOOL:
            return ("bool",)
        if op in _INDICES or (op == "Where" and len(dtypes) == 1):
            return ("int64",)
        if op == "TopKFusion":
            return (dtypes[0], "int64")
        if op == "Cast":
            return (attrs.get("to", dtypes[0]),)
        return (dtypes[op == "Where"],)

    def cast(self, scope: Scope, value: str, dtype: str) -> str:
        """Emit a cast, by way of dtypes that the kernel converts between."""
        for step in route(scope.dtype(value), dtype):
            shape = scope.types[value].shape if value in scope.types else None
            if shape is None and len(scope.node.outputs) == 1:  # the result of the node at hand
                shape = scope.graph.types[scope.node.name].shape
                scope.types[value] = TensorType(scope.dtype(value), shape)
            value = str(scope.op("Cast", value, to=step))
            if shape is not None:
                scope.types[value] = TensorType(scope.dtype(value), shape)
        return value

    def dims(self, scope: Scope, shape: Sequence[Any]) -> str:
        """Emit dims as a vector."""
        return dims.vector(scope, shape)


@cache
def kernels() -> Mapping[str, tuple[frozenset[str], ...]]:
    """Op -> dtypes by input slot; the last slot stands for all further ones."""
    raw = json.loads(Path(__file__).with_name("kernels.json").read_text(encoding="utf-8"))
    out = {}
    for op, slots in raw["ops"].items():
        texts = [slots] if isinstance(slots, str) else slots
        sets = (frozenset(t.split()) for t in texts)
        out[op] = tuple(s | {"int64"} if "int32" in s else s for s in sets)
    return out


class LiteEmission(Emission):
    """A table that also asks whether operands can be widened, and results cast back."""

    def choose(self, node: Node, graph: Graph) -> Chosen | str:
        """The case for a node, or the reason why there is none."""
        chosen = super().choose(node, graph)
        if isinstance(chosen, Chosen) and chosen.casts:
            for i, want in chosen.casts.items():
                have = graph.types[str(node.inputs[i])].dtype
                if not castable(have, want):
                    return f"no kernel for {have}, and no cast of it"
            for o in node.outputs:
                dtype = graph.types[o].dtype
                if not castable("float32" if dt.is_float(dtype) else "int32", dtype):
                    return f"no kernel that makes {dtype}"
        return chosen


@cache
def table() -> LiteEmission:
    """The emission table."""
    return LiteEmission(emission.load("mindspore/lite"), LiteTarget())


def emit(
    model: Model, path: Path | str, *, weights: str = "fp32", runtime: str = RUNTIME
) -> EmitResult:
    """Write a model as a ``.ms`` file.

    Args:
        model: a program of ops that ``table`` has; inputs, outputs and constants keep their names.
        path: the file.
        weights: ``fp32``, or ``fp16`` to store constants of 64 elements and more in half the space;
            the runtime computes with either.
        runtime: oldest runtime that is to load the file, written as its version.

    Raises:
        CirError: E501 for all ops and constants that cannot be emitted; E502 when the file cannot
            be written; E503 for an unknown option; E504 for more than 2 GiB.
    """
    from framework_adapter.output import staged

    check_options(weights, runtime)
    found = Collector()
    table().check_legal(model.graph, found, "mslite")
    for name in (*model.graph.inputs, *model.graph.outputs):
        dtype = model.graph.types[name].dtype
        if dtype not in INTERFACE:
            found.add(
                "E501", f"target mslite does not take {name}", why=f"the runtime has no {dtype}",
                nearest=", ".join(sorted(INTERFACE)), fix="cast it in the model",
            )  # fmt: skip
    if not model.graph.inputs:
        found.add(
            "E501", "target mslite does not take a model without inputs",
            fix="make one of its constants an input",
        )  # fmt: skip
    found.raise_errors()
    scope = Scope(table(), model.graph)
    graph = scope.main()
    data = write.model_bytes(graph, scope.dtypes, weights=weights, runtime=runtime)
    path = Path(path)
    with staged(path) as tmp:
        tmp.write_bytes(data)
    notes = tuple(
        f"state: feed output {out!r} as input {name!r} of the next call"
        for name, out in model.state
    )
    return EmitResult(path, (path,), len(graph.nodes), _mapping(graph), 0, notes)


def check_options(weights: str, runtime: str) -> None:
    """Raise CirError E503 for an unknown option's value."""
    if weights not in ("fp32", "fp16"):
        raise error(
            "E503", f"weights={weights!r} is not supported", nearest="fp32, fp16",
            fix="pass weights='fp32' or 'fp16'",
        )  # fmt: skip
    parts = str(runtime).split(".")
    if len(parts) != 3 or not all(p.isdigit() and len(p) == 1 for p in parts):
        raise error(
            "E503", f"runtime={runtime!r} is not a version of MindSpore Lite", nearest=RUNTIME,
            fix="pass a version such as 2.7.0",
        )  # fmt: skip


def _mapping(graph: TargetGraph) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        found.setdefault(node.origin, []).append(node.outputs[0])
    return {k: tuple(v) for k, v in found.items()}
