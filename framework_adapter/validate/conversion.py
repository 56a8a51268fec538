"""Validation of a whole conversion: the comparison, and what the report tells of the road there."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cir.diagnostics import Diagnostic
from cir.graph import Graph, Model, Source
from framework_adapter.validate import engine, environment, inputs, latency, runner
from framework_adapter.validate.localize import Localization, localize
from framework_adapter.validate.report import MappedNode, MappingGroup, Report, group_mapping

if TYPE_CHECKING:
    from framework_adapter.api import Program
    from framework_adapter.emission import EmitResult

#: Seconds that measuring run times may take, by mode.
LATENCY_SECONDS = {"auto": 2.5, "full": 5.0}


def validate_conversion(
    program: Program,
    *,
    source_run: runner.Run,
    artifact_run: runner.Run,
    mode: str = "auto",
    emitted: EmitResult,
    target: str = "onnx",
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Compare an artefact with its source model and describe the conversion.

    Args:
        program: the model on its way, from extraction to fusion.
        source_run: runs the source model: inputs in order -> outputs in order.
        artifact_run: runs what was written, likewise.
        mode: ``auto``, or ``full`` (three seeds, more sizes, errors of every node).
        emitted: what the backend wrote.
        target: name of the target format.
        progress: called with a short text at the start of each part.

    Returns:
        Report.
    """
    say = progress or (lambda text: None)
    edges = edges_between(program.lowered.graph, program.model.graph, program.input_layout)
    is_onnx = emitted.path.suffix == ".onnx"
    report = runner.compare(
        source_run,
        program.model,
        artifact_run,
        program.specs,
        mode,
        lowered=program.lowered,
        edges=edges,
        plain_run=_plain(program.lowered) if is_onnx else None,
        stored=emitted.stored,
        progress=say,
    )
    env = inputs.first_sizes(program.specs)
    feeds = inputs.feeds_at(program.specs, 0, env)
    found: Localization | None = None
    measured: latency.Latency | None = None
    threads: int | None = None
    if is_onnx:
        if mode == "full" or report.fault == "backend":
            say("validate: every node")
            found = localize_artifact(program.model.graph, emitted.path, edges.feeds(feeds))
        say("validate: run times")
        session = engine.Session(emitted.path)
        threads = session.threads
        ready = edges.feeds(feeds)
        session.run(ready)
        measured = latency.compare_latency(
            lambda: source_run(feeds),
            lambda: session.run(ready),
            budget=LATENCY_SECONDS[mode],
            threads=environment.thread_counts(threads),
            input=", ".join(f"{x.dtype.name}{list(x.shape)}" for x in feeds),
        )
    made: Mapping[str, Sequence[str]] = emitted.mapping
    if is_onnx:
        program_nodes = {n.name for n in program.model.graph.nodes}
        made = engine.emitted_ops(emitted.path, emitted.mapping, program_nodes)
    counts = {
        name: program.stats[f"nodes_{name}"] for name in ("source", "lowered", "canonical", "fused")
    }
    counts["emitted"] = emitted.node_count
    return replace(
        report,
        localization=found,
        latency=measured,
        environment=environment.describe(dict(program.source.versions), threads=threads),
        mapping=mapping_of(program.model.graph, made),
        absorbed=absorbed(program),
        trace=tuple(program.ctx.trace),
        counts=counts,
        digest=program.digest,
        framework=program.source.framework,
        target=target,
        diagnostics=tuple(Diagnostic("N101", n) for n in program.source.notes),
    )


def localize_artifact(graph: Graph, path: Path, feeds: Sequence[np.ndarray]) -> Localization:
    """Errors of every node of a graph whose values an ONNX file made from it still has.

    The graph's outputs correspond by position, all other values by name.
    """
    _, outputs = engine.interface(path)
    renamed = dict(zip(graph.outputs, outputs))
    values = [o for n in graph.nodes for o in n.outputs]
    taps = engine.Taps(path, feeds, [renamed.get(v, v) for v in values])

    def actual(names: Sequence[str]) -> Mapping[str, np.ndarray]:
        asked = {renamed.get(n, n): n for n in names}
        return {asked[k]: v for k, v in taps(list(asked)).items()}

    return localize(graph, feeds, actual)


# -- layouts ---------------------------------------------------------------------------------------
def edges_between(source: Graph, program: Graph, input_layout: str) -> runner.Edges:
    """Which inputs and outputs the program has channels-first where the source has channels-last.

    Found by comparing shapes. Where all dims but the first are equal that says nothing, and an edge
    counts as changed when another edge of the graph is.
    """
    if input_layout == "source":
        return runner.Edges()
    pairs = [
        (source.types[a].shape, program.types[b].shape)
        for a, b in (*zip(source.inputs, program.inputs), *zip(source.outputs, program.outputs))
    ]
    perms: list[tuple[int, ...] | None] = []
    for a, b in pairs:
        first = (0, len(a) - 1, *range(1, len(a) - 1)) if len(a) >= 3 else ()
        changed = bool(first) and tuple(a[p] for p in first) == tuple(b)
        perms.append(first if changed and tuple(a) != tuple(b) else None)
    if any(perms):
        for i, (a, _) in enumerate(pairs):
            if perms[i] is None and len(a) >= 3 and len(set(a[1:])) == 1:
                perms[i] = (0, len(a) - 1, *range(1, len(a) - 1))
    n = len(source.inputs)
    return runner.Edges(tuple(perms[:n]), tuple(perms[n:]))


def _plain(lowered: Model) -> runner.Run:
    """Run a program one op per node in ONNX Runtime, nothing fused by us or by it."""

    def run(feeds: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        from framework_adapter import registry

        with tempfile.TemporaryDirectory(prefix="reference-") as folder:
            written = registry.backend("onnx").emit(lowered, Path(folder) / "plain.onnx")
            return engine.Session(written.path, optimise=False).run(feeds)

    return run


# -- op mapping ------------------------------------------------------------------------------------
def mapping_of(graph: Graph, made: Mapping[str, Sequence[str]]) -> tuple[MappingGroup, ...]:
    """Source op -> program op -> emitted op, in groups.

    Args:
        graph: the program.
        made: node -> target ops it became.
    """
    rows = []
    for node in graph.nodes:
        src = node.meta.src
        at = src[-1] if src else Source("")
        rows.append(
            (
                _counted(_op(s) for s in src) or "(none)",
                node.op,
                _counted(made.get(node.name, ())) or "(joined with a neighbour)",
                node.meta.by,
                MappedNode(node.name, at.module, next((s.place for s in src if s.place), "")),
            )
        )
    return group_mapping(rows)


def absorbed(program: Program) -> dict[str, int]:
    """Source ops that no program node stands for (folded, merged, no-ops), with counts."""
    nodes = [n for _, n in program.model.graph.walk()]
    kept = {(_op(s), s.module, s.place) for n in nodes for s in n.meta.src}
    gone = Counter(n.op for n in program.source.nodes if (n.op, n.module, n.place) not in kept)
    return dict(sorted(gone.items(), key=lambda kv: (-kv[1], kv[0])))


def _op(s: Source) -> str:
    """``aten.relu.default`` of ``torch:aten.relu.default``."""
    return s.op.partition(":")[2] or s.op


def _counted(ops: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(f"{op} x{n}" if n > 1 else op for op, n in Counter(ops).items())
