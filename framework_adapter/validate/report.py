"""The validation report: a verdict first, then the evidence; as JSON and as one HTML file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cir.diagnostics import CirError, Diagnostic
from cir.passes import Record
from framework_adapter.validate.latency import Latency
from framework_adapter.validate.localize import Localization
from framework_adapter.validate.metrics import (
    FAIL,
    PASS,
    TOLERANCE,
    WARN,
    Metrics,
    json_number,
    ratio,
    worst,
)

SCHEMA = "1.0"

#: Leg at fault -> what that means, for people.
FAULTS: dict[str, str] = {
    "frontend": "the program read from the source model computes something else than the source",
    "fusion": "a canonicalisation or fusion changed what the program computes",
    "backend": "the artefact computes something else than the program it was made from",
    "reference": "source and artefact agree, but not with the reference between them",
}


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """One output in one run, over the three legs.

    Attributes:
        output: name; ``run``: which inputs, e.g. ``seed 0`` or ``seed 0, batch=5``.
        type: dtype and shape in words.
        source: source framework against the reference.
        artifact: artefact against the reference.
        total: artefact against the source framework.
        floor: noise floor; ``bound``: what the errors were judged against.
        verdict: PASS, WARN or FAIL; ``reason``: in words.
        fault: leg at fault, a key of ``FAULTS``; "" when all agree.
    """

    output: str
    run: str
    type: str
    source: Metrics
    artifact: Metrics
    total: Metrics
    floor: float
    bound: float
    verdict: str
    reason: str
    fault: str = ""

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        out = {k: getattr(self, k) for k in self.__slots__}
        for leg in ("source", "artifact", "total"):
            out[leg] = out[leg].as_dict()
        out["floor"], out["bound"] = json_number(self.floor), json_number(self.bound)
        return out


@dataclass(frozen=True, slots=True)
class MappedNode:
    """One program node: its name and where the source has it."""

    name: str
    module: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class MappingGroup:
    """Program nodes that came from the same source ops and became the same target ops.

    Attributes:
        source, op, emitted: source ops, program op, target ops, in words.
        strategies: ids of the strategies that made the nodes.
        nodes: the nodes, in program order.
    """

    source: str
    op: str
    emitted: str
    strategies: tuple[str, ...]
    nodes: tuple[MappedNode, ...]

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return {
            "source": self.source,
            "op": self.op,
            "emitted": self.emitted,
            "strategies": list(self.strategies),
            "count": len(self.nodes),
            "nodes": [{k: getattr(n, k) for k in n.__slots__} for n in self.nodes],
        }


@dataclass(frozen=True, slots=True)
class Artefact:
    """One file or folder that was written, and how it fared.

    Attributes:
        target: name of the format; ``path``: where it is; ``size``: bytes of all its files.
        verdict: PASS, WARN or FAIL; ``scaled_error``: against the source framework.
        checked_by: whose code ran it.
        seconds: to write and check it.
        note: what a reader must know, e.g. that a graph is not compiled.
    """

    target: str
    path: str
    size: int
    verdict: str
    scaled_error: float
    checked_by: str
    seconds: float
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        out = {k: getattr(self, k) for k in self.__slots__}
        return out | {"scaled_error": json_number(self.scaled_error)}


@dataclass(frozen=True)
class Report:
    """What a validation found.

    Attributes:
        outputs: each output of each run.
        mode: ``auto`` or ``full``.
        reference: what the middle leg was, in words.
        inputs: where the inputs came from, in words.
        gflop: estimated arithmetic of one run, in 1e9 operations.
        tolerance: scaled error that always passes.
        localization: errors by node, when they were measured.
        latency: measured run times, when they were measured.
        environment: versions, CPU, threads by label.
        notes: what else a reader should know.
        mapping, trace, counts, digest, framework, target, diagnostics: of the conversion, if any:
            op mapping, passes, node counts by stage, structure digest, names, findings.
        absorbed: source op -> how often, for ops that left no node of their own.
        artefacts: what was written.
    """

    outputs: tuple[OutputCheck, ...]
    mode: str = "auto"
    reference: str = ""
    inputs: tuple[str, ...] = ()
    gflop: float = 0.0
    tolerance: float = TOLERANCE
    localization: Localization | None = None
    latency: Latency | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    mapping: tuple[MappingGroup, ...] = ()
    absorbed: Mapping[str, int] = field(default_factory=dict)
    trace: tuple[Record, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""
    framework: str = ""
    target: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()
    artefacts: tuple[Artefact, ...] = ()

    @property
    def verdict(self) -> str:
        """Worst verdict over all outputs."""
        return worst(c.verdict for c in self.outputs)

    @property
    def worst(self) -> OutputCheck:
        """The output to look at first: worst verdict, then largest error of any leg."""
        rank = {PASS: 0, WARN: 1, FAIL: 2}
        return max(
            self.outputs,
            key=lambda c: (rank[c.verdict], max(m.scaled for m in (c.total, c.source, c.artifact))),
        )

    @property
    def fault(self) -> str:
        """Leg at fault, a key of ``FAULTS``; "" when the verdict is PASS."""
        return self.worst.fault if self.verdict != PASS else ""

    @property
    def scaled_error(self) -> float:
        """Largest scaled error of the artefact against the source framework."""
        return max(c.total.scaled for c in self.outputs)

    @property
    def max_abs_error(self) -> float:
        """Largest absolute error of the artefact against the source framework."""
        return max(c.total.max_abs for c in self.outputs)

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        c = self.worst
        where = f"output {c.output!r} ({c.run})"
        if self.verdict == PASS:
            margin = c.bound / c.total.scaled if c.total.scaled else float("inf")
            if margin == float("inf"):
                return f"The artefact equals the source; worst case {where}."
            return (
                "The artefact agrees with the source: largest scaled error "
                f"{self.scaled_error:.1e}, {ratio(margin)} times below the bound; worst: {where}."
            )
        first = self.localization.first if self.localization else None
        at = ""
        if first is not None:
            place = first.place or first.module
            at = f" First seen at {first.op} {first.name!r}{f' ({place})' if place else ''}."
        return f"O{where[1:]}: {c.reason}. At fault: {self.fault}, {FAULTS[self.fault]}.{at}"

    def findings(self) -> tuple[Diagnostic, ...]:
        """The verdict as diagnostics: none for PASS, W601 for WARN, E601 for FAIL."""
        if self.verdict == PASS:
            return ()
        c, first = self.worst, self.localization.first if self.localization else None
        fixes = {
            "frontend": "compare the op table rows involved with the framework's definitions",
            "fusion": "convert again with fusion='safe' to see whether a fusion is the cause",
            "backend": "look at the first diverging node in the report",
            "reference": "the reference of an op is wrong or less precise: please report it",
        }
        place = (first.place or first.module or first.name) if first else ""
        return (
            Diagnostic(
                "E601" if self.verdict == FAIL else "W601",
                f"output {c.output!r} ({c.run}): {c.reason}",
                where=place,
                why=f"{self.fault}: {FAULTS[self.fault]}",
                fix=fixes[self.fault] + "; validate='full' measures every node",
            ),
        )

    def raise_on_failure(self) -> None:
        """Raise CirError E601 when the verdict is FAIL."""
        if self.verdict == FAIL:
            raise CirError(self.findings())

    def as_dict(self) -> dict[str, Any]:
        """The whole report, JSON-ready."""
        return {
            "report": SCHEMA,
            "verdict": self.verdict,
            "headline": self.headline,
            "fault": self.fault,
            "scaled_error": json_number(self.scaled_error),
            "max_abs_error": json_number(self.max_abs_error),
            "tolerance": self.tolerance,
            "framework": self.framework,
            "target": self.target,
            "digest": self.digest,
            "artefacts": [a.as_dict() for a in self.artefacts],
            "mode": self.mode,
            "reference": self.reference,
            "gflop": self.gflop,
            "inputs": list(self.inputs),
            "outputs": [c.as_dict() for c in self.outputs],
            "localization": self.localization.as_dict() if self.localization else None,
            "latency": self.latency.as_dict() if self.latency else None,
            "environment": dict(self.environment),
            "counts": dict(self.counts),
            "mapping": [g.as_dict() for g in self.mapping],
            "absorbed": dict(self.absorbed),
            "trace": [_record(r) for r in self.trace],
            "diagnostics": [d.as_dict() for d in (*self.findings(), *self.diagnostics)],
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """``as_dict`` as indented JSON text."""
        return json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n"

    def write_html(self, path: str | Path) -> Path:
        """Write one HTML file that needs nothing from elsewhere; makes its folder."""
        from framework_adapter.validate.html import render

        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(render(self), encoding="utf-8")
        return target


def _record(r: Record) -> dict[str, Any]:
    return {
        "stage": r.stage,
        "pass": r.name,
        "before": r.before,
        "after": r.after,
        "fired": dict(r.fired),
        "ms": round(r.ms, 3),
    }


def group_mapping(
    rows: Sequence[tuple[str, str, str, tuple[str, ...], MappedNode]],
) -> tuple[MappingGroup, ...]:
    """Rows of (source ops, op, target ops, strategies, node) as groups, the largest first."""
    groups: dict[tuple[str, str, str, tuple[str, ...]], list[MappedNode]] = {}
    for source, op, emitted, by, node in rows:
        groups.setdefault((source, op, emitted, by), []).append(node)
    ordered = sorted(groups.items(), key=lambda kv: -len(kv[1]))  # stable: ties in program order
    return tuple(MappingGroup(*key, tuple(nodes)) for key, nodes in ordered)
