"""CIR to ONNX: legalise, emit by the table, check, write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata as installed
from pathlib import Path
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import Collector, error
from cir.graph import Graph, Model, Node
from framework_adapter import emission
from framework_adapter.emission import Emission, EmitResult
from framework_adapter.onnx import dims, kernels, proto
from framework_adapter.target import Scope, TargetGraph

#: Weights above this many bytes go to a file of their own: a protobuf message ends at 2 GB.
EXTERNAL_LIMIT = 1_500_000_000

_BOOL = frozenset(
    [
        "Equal",
        "Less",
        "LessOrEqual",
        "Greater",
        "GreaterOrEqual",
        "And",
        "Or",
        "Xor",
        "Not",
        "IsNaN",
        "IsInf",
    ]
)
_INT64 = frozenset(["Shape", "Size", "ArgMax", "ArgMin", "NonZero"])
#: Ops whose results have the dtype of another operand than the first.
_LIKE = {"Where": 1, "QuantizeLinear": 2, "DequantizeLinear": 1}


class OnnxTarget:
    """What emission asks of ONNX at an opset, for a profile."""

    copy = "Identity"
    functions: Mapping[str, Any] = {
        "tensor_type": proto.DATA_TYPES.__getitem__,
        "is_float": dt.is_float,
        "static": lambda shape: all(isinstance(d, int) for d in shape),
    }

    def __init__(self, profile: kernels.Profile, version: int) -> None:
        self.profile, self.version = profile, version

    def takes(self, op: str, slot: int) -> frozenset[str] | None:
        """Dtypes that an input takes; None without a kernel."""
        return self.profile.dtypes(op, slot, self.version)

    def result_dtypes(
        self, op: str, dtypes: Sequence[str], attrs: Mapping[str, Any]
    ) -> Sequence[str]:
        """Dtypes of an op's results."""
        if op in _BOOL:
            return ("bool",)
        if op in _INT64:
            return ("int64",)
        if op == "Cast":
            return (proto.DTYPES[attrs["to"]],)
        if op == "TopK":
            return (dtypes[0], "int64")
        return (dtypes[_LIKE.get(op, 0)],)

    def cast(self, scope: Scope, value: str, dtype: str) -> str:
        """Emit a Cast."""
        return str(scope.op("Cast", value, to=proto.DATA_TYPES[dtype]))

    def dims(self, scope: Scope, shape: Sequence[Any]) -> str:
        """Emit dims as an int64 vector."""
        return dims.vector(scope, shape)


@cache
def table(profile: str = "ort-cpu", opset: int | None = None) -> Emission:
    """The emission table at an opset (default: the latest of the profile).

    Raises CirError E503 for an unknown profile or an opset outside its range.
    """
    p = kernels.load(profile)
    if opset is not None and not p.lowest <= opset <= p.highest:
        raise error(
            "E503",
            f"opset {opset} is not supported by profile {profile!r}",
            nearest=f"{p.lowest} to {p.highest}",
            fix=f"pass an opset from {p.lowest} to {p.highest}, or none",
        )
    return Emission(emission.load("onnx"), OnnxTarget(p, opset or p.highest))


def legal(node: Node, graph: Graph, *, opset: int | None = None, profile: str = "ort-cpu") -> bool:
    """Whether ONNX, as the profile has it, takes this node as it stands (for ``decompose``)."""
    return table(profile, opset).legal(node, graph)


def emit(
    model: Model,
    path: Path | str,
    *,
    opset: int | None = None,
    profile: str | None = None,
    metadata: Mapping[str, str] | None = None,
    external_limit: int = EXTERNAL_LIMIT,
) -> EmitResult:
    """Write a model as an ONNX file.

    Args:
        model: a program of legal ops (see ``legal``); its inputs, outputs and state keep their
        names.
        path: the file.
        opset: default: the profile's usual one, or the first later one at which every node has a
        kernel.
        profile: ``ort-cpu`` (default) or ``portable``.
        metadata: key -> text, stored in the file.
        external_limit: bytes of weights above which they go to a file ``path`` + ".data".

    Raises:
        CirError: E501 for all ops that cannot be emitted; E502 when the file cannot be written;
        E503 for
            an unknown profile or opset; E504 when the result fails the checker or lacks a kernel.
    """
    from framework_adapter.output import staged

    rows = table(profile or "ort-cpu", opset)
    found = Collector()
    rows.check_legal(model.graph, found, "onnx", "choose a later opset or another profile")
    found.raise_errors()
    scope = Scope(rows, model.graph)
    graph = scope.main()
    target = rows.target
    assert isinstance(target, OnnxTarget)
    since = max((c.case.since for c in scope.chosen), default=0)
    lowest = opset or max(target.profile.base, since)
    version = proto.required_opset(
        graph, scope.dtypes, target.profile, range(lowest, target.version + 1)
    )
    out = proto.model(graph, version, target.profile, _metadata(model, metadata), _producer())
    path = Path(path)
    with staged(path) as tmp:
        files = proto.write(out, graph.consts, tmp, external_limit)
        proto.check(tmp)
    nodes = list(graph.walk())
    return EmitResult(
        path, tuple(path.with_name(f.name) for f in files), len(nodes), _mapping(graph), version
    )


def _metadata(model: Model, given: Mapping[str, str] | None) -> dict[str, str]:
    out = {k: str(v) for k, v in (given or {}).items()}
    if model.state:
        out["state"] = json.dumps([list(pair) for pair in model.state])
    return out


def _producer() -> tuple[str, str]:
    try:
        return "framework-adapter", installed.version("framework-adapter")
    except installed.PackageNotFoundError:
        return "framework-adapter", ""


def _mapping(graph: TargetGraph) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for node in graph.walk():
        found.setdefault(node.origin, []).append(node.outputs[0])
    return {k: tuple(v) for k, v in found.items()}


def run(
    path: Path | str,
    feeds: Sequence[Any] | Mapping[str, Any],
    *,
    threads: int | None = None,
    optimise: bool = True,
) -> list[np.ndarray]:
    """Results of an ONNX file in ONNX Runtime on the CPU.

    Args:
        path: the file.
        feeds: arrays in the order of the inputs, or by name; dtypes must be the inputs' own.
        threads: threads within an op; None means the runtime's default.
        optimise: False runs the graph as it stands in the file.

    Raises:
        CirError: E103 for feeds of another number or dtype; E504 when the runtime refuses the file;
        E901
            when ONNX Runtime is not installed.
    """
    from framework_adapter.registry import require

    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # the runtime's own exception types
        raise error(
            "E504", f"ONNX Runtime does not load {Path(path).name}", why=str(exc)[:400]
        ) from exc
    given = _feeds(session, feeds)
    return [np.asarray(y) for y in session.run(None, given)]


def _feeds(session: Any, feeds: Sequence[Any] | Mapping[str, Any]) -> dict[str, np.ndarray]:
    inputs = session.get_inputs()
    names = [i.name for i in inputs]
    named = dict(feeds) if isinstance(feeds, Mapping) else dict(zip(names, feeds))
    if len(feeds) != len(names) or set(named) != set(names):
        raise error(
            "E103",
            f"{len(feeds)} values are given",
            why=f"the inputs are {', '.join(names) or 'none'}",
        )
    out = {}
    for i in inputs:
        array = np.asarray(named[i.name])
        want = kernels.spelled(i.type)
        if array.dtype.name != want:
            raise error("E103", f"input {i.name!r} has dtype {array.dtype.name} instead of {want}")
        out[i.name] = array
    return out
