"""The three-way comparison: source framework, reference, artefact, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cir import interpret
from cir.diagnostics import error
from cir.graph import Graph, Model, Range
from framework_adapter.source import InputSpec
from framework_adapter.validate import environment, flops
from framework_adapter.validate.inputs import (
    Arrays,
    feeds_at,
    first_sizes,
    nudged,
    other_sizes,
    provenance,
)
from framework_adapter.validate.metrics import PASS, TOLERANCE, WARN, Metrics, judge, measure, worst
from framework_adapter.validate.report import OutputCheck, Report

Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]

#: Up to this many 1e9 operations the reference runs in float64, then in float32 ...
FLOAT64_GFLOP = 20.0
#: ... and from here on numpy takes minutes: another engine runs the plain graph, if there is one.
NUMPY_GFLOP = 200.0
#: Networks above this are tried with one seed in ``auto`` mode.
LARGE_GFLOP = 2.0
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Edges:
    """How the program's inputs and outputs are laid out against the source's.

    ``inputs[i]`` and ``outputs[i]`` are permutations from the source's layout to the program's, or
    None where both are the same.
    """

    inputs: tuple[tuple[int, ...] | None, ...] = ()
    outputs: tuple[tuple[int, ...] | None, ...] = ()

    def feeds(self, arrays: Sequence[np.ndarray]) -> Arrays:
        """The source's inputs as the program takes them."""
        if not self.inputs:
            return list(arrays)
        pairs = zip(arrays, self.inputs, strict=True)
        return [a if p is None else np.ascontiguousarray(a.transpose(p)) for a, p in pairs]

    def results(self, arrays: Sequence[np.ndarray]) -> Arrays:
        """The program's outputs as the source lays them out."""
        if not self.outputs:
            return list(arrays)
        pairs = zip(arrays, self.outputs, strict=True)
        return [a if p is None else a.transpose(np.argsort(p)) for a, p in pairs]


@dataclass
class _Case:
    """One set of inputs on its way through the legs; a leg that raised has its message instead."""

    label: str
    feeds: Arrays
    source: Arrays = field(default_factory=list)
    nudged: Arrays = field(default_factory=list)
    reference: Arrays | str = ""
    single: Arrays | str = ""
    stored: Arrays | str = ""
    artifact: Sequence[np.ndarray | str] | str = ""


def compare(
    source_run: Run,
    program: Model,
    artifact_run: Run,
    specs: Sequence[InputSpec],
    mode: str = "auto",
    *,
    lowered: Model | None = None,
    edges: Edges = Edges(),
    plain_run: Run | None = None,
    stored: Model | None = None,
    tolerance: float = TOLERANCE,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Run the three legs one after the other on the same inputs and judge each output.

    Args:
        source_run: the source framework: inputs in order -> outputs in order.
        program: the program the artefact was made from.
        artifact_run: the artefact, likewise, in the program's layout.
        specs: the inputs; examples are used for the first run.
        mode: ``auto`` (one seed for large networks, else three) or ``full`` (three seeds and, with
            symbolic dims, two further sizes).
        lowered: the program before canonicalisation, to tell a frontend's fault from a fusion's.
        edges: layouts of the program against the source's.
        plain_run: runs ``lowered`` op by op on another engine, in the source's layout; the middle
            leg of networks that are too large for numpy.
        stored: the program with its weights rounded, where the artefact was asked to store them in
            less precision: what that alone changes is measured, and counts as noise.
        tolerance: scaled error that always passes.
        progress: called with a short text before each leg.

    Returns:
        Report with verdicts and metrics.
    """
    say = progress or (lambda text: None)
    env = first_sizes(specs)
    gflop = flops.estimate(program.graph, env) / 1e9
    compute = "float64" if gflop <= FLOAT64_GFLOP else "float32"
    notes: list[str] = []

    say("validate: source framework")
    cases = list(_source_leg(source_run, specs, program.symbols, env, mode, gflop, notes))
    if compute == "float32":
        for c in cases:
            c.nudged = list(source_run(nudged(c.feeds)))

    say("validate: reference")
    middle = f"CIR reference interpreter, {compute}"
    for c in cases:
        if gflop > NUMPY_GFLOP and plain_run is not None:
            middle = "the graph as read, op by op in ONNX Runtime without its optimisers"
            c.reference = _attempt(plain_run, c.feeds)
            continue
        c.reference = _interpret(program, edges, c.feeds, compute)
        if compute == "float64":
            c.single = _interpret(program, edges, c.feeds, None)  # in the program's own dtypes
        if stored is not None:
            c.stored = _interpret(stored, edges, c.feeds, compute)

    say("validate: artefact")
    for c in cases:
        found = _attempt(artifact_run, edges.feeds(c.feeds))
        c.artifact = found if isinstance(found, str) else _typed(edges.results(found), program)

    names = program.graph.outputs
    checks = [
        check for c in cases for check in _judge_case(c, names, lowered, compute, tolerance, notes)
    ]
    return Report(
        tuple(checks),
        mode=mode,
        reference=middle,
        inputs=provenance(specs, cases[0].feeds),
        gflop=gflop,
        tolerance=tolerance,
        environment=environment.describe(),
        notes=tuple(dict.fromkeys(notes)),
    )


# -- legs ------------------------------------------------------------------------------------------
def _source_leg(
    run: Run,
    specs: Sequence[InputSpec],
    ranges: Mapping[str, Range],
    env: dict[str, int],
    mode: str,
    gflop: float,
    notes: list[str],
) -> Iterator[_Case]:
    seeds = SEEDS[:1] if mode == "auto" and gflop > LARGE_GFLOP else SEEDS
    for seed in seeds:
        feeds = feeds_at(specs, seed, env)
        found = _attempt(run, feeds)
        if isinstance(found, str):
            if not seed:
                raise error(
                    "E103",
                    "the source model does not run on the validation inputs",
                    why=found,
                    fix="give inputs the model was made for, or convert with validate=False",
                )
            notes.append(f"seed {seed} not checked: the source model itself does not run: {found}")
            continue
        yield _Case(f"seed {seed}", feeds, found)
    for candidates in other_sizes(env, ranges, mode):
        refusals = []
        for sizes in candidates:
            feeds = feeds_at(specs, 0, sizes)
            label = ", ".join(f"{k}={v}" for k, v in sizes.items())
            found = _attempt(run, feeds)
            if isinstance(found, list):
                yield _Case(f"seed 0, {label}", feeds, found)
                break
            refusals.append(f"at {label} the source model itself does not run: {found}")
        else:
            notes.append(f"sizes not checked: {refusals[0]}")


def _attempt(run: Run, feeds: Sequence[np.ndarray]) -> Arrays | str:
    """Results, or why there are none: engines raise exceptions of many types."""
    try:
        return [np.asarray(x) for x in run(feeds)]
    except Exception as exc:
        return f"{type(exc).__name__}: {(str(exc).strip() or 'no message').splitlines()[0]}"


def _typed(arrays: Arrays, program: Model) -> list[np.ndarray | str]:
    """The artefact's results; one of another dtype than the program's is a message instead."""
    types = [program.graph.types[o].dtype for o in program.graph.outputs]
    return [
        x if x.dtype.name == t else f"the artefact gives {x.dtype.name} instead of {t}"
        for x, t in zip(arrays, types)
    ]


def _interpret(model: Model, edges: Edges, feeds: Arrays, compute: str | None) -> Arrays | str:
    def run(arrays: Sequence[np.ndarray]) -> Arrays:
        return outputs_of(model.graph, interpret.run(model, arrays, compute=compute))

    found = _attempt(run, edges.feeds(feeds))
    return found if isinstance(found, str) else edges.results(found)


def outputs_of(graph: Graph, values: Mapping[str, np.ndarray]) -> Arrays:
    """A graph's outputs in order, of values by name."""
    return [values[name] for name in graph.outputs]


# -- verdicts --------------------------------------------------------------------------------------
def _judge_case(
    c: _Case,
    names: Sequence[str],
    lowered: Model | None,
    compute: str,
    tolerance: float,
    notes: list[str],
) -> Iterator[OutputCheck]:
    before: Any = None  # the program before canonicalisation, run at most once and on need
    for i, name in enumerate(names):
        reference = c.reference
        floor = 0.0
        if not isinstance(reference, str) and isinstance(c.single, list):
            noise = measure(c.single[i], reference[i])
            if noise.problem:
                notes.append(f"output {name!r} leaves float32's range; judged in float32")
                reference = c.single
            else:
                floor = noise.scaled
        elif c.nudged:
            floor = _scaled(measure(c.nudged[i], c.source[i]))
        if isinstance(c.stored, list) and not isinstance(reference, str):
            loss = _scaled(measure(c.stored[i], reference[i]))
            floor = max(floor, loss)
            notes.append(
                f"storing the weights in less precision alone changes {name!r} by {loss:.1e}"
            )
        source = _distance(_item(c.source, i), _item(reference, i))
        artifact = _distance(_item(c.artifact, i), _item(reference, i))
        total = _distance(_item(c.artifact, i), _item(c.source, i))
        by_source = judge(source, floor, tolerance)
        if by_source.verdict == PASS:  # what the framework's own rounding does is noise as well
            floor = max(floor, _scaled(source))
        by_artifact, by_total = (judge(m, floor, tolerance) for m in (artifact, total))
        verdict, reason, fault = by_total.verdict, by_total.reason, ""
        if by_source.verdict != PASS and by_total.verdict == PASS and by_artifact.verdict != PASS:
            verdict, fault = WARN, "reference"
            reason = f"reference against source: {by_source.reason}"
        elif by_source.verdict != PASS:
            if before is None and lowered is not None:
                before = _interpret(lowered, Edges(), c.feeds, compute)
            kept = before is not None and judge(
                _distance(_item(c.source, i), _item(before, i)), floor, tolerance
            )
            fault = "fusion" if kept and kept.verdict == PASS else "frontend"
            verdict = worst((by_source.verdict, by_total.verdict))
            reason = f"source against reference: {by_source.reason}"
        elif by_artifact.verdict != PASS or by_total.verdict != PASS:
            fault = "backend"
            verdict = worst((by_artifact.verdict, by_total.verdict))
            reason = f"artefact against reference: {by_artifact.reason}"
            if by_artifact.verdict == PASS:
                reason = f"artefact against source: {by_total.reason}"
        yield OutputCheck(
            output=name,
            run=c.label,
            type=_type_of(c.source, i),
            source=source,
            artifact=artifact,
            total=total,
            floor=floor,
            bound=by_total.bound,
            verdict=verdict,
            reason=reason,
            fault=fault,
        )


def _scaled(m: Metrics) -> float:
    return 0.0 if m.problem else m.scaled


def _item(arrays: Sequence[np.ndarray | str] | str, i: int) -> np.ndarray | str:
    if isinstance(arrays, str):
        return arrays
    return arrays[i] if i < len(arrays) else f"there are only {len(arrays)} outputs"


def _distance(actual: np.ndarray | str, reference: np.ndarray | str) -> Metrics:
    for side in (actual, reference):
        if isinstance(side, str):
            inf = float("inf")
            return Metrics(inf, inf, inf, 0.0, -inf, problem=side)
    return measure(actual, reference)


def _type_of(arrays: Arrays, i: int) -> str:
    if i >= len(arrays):
        return ""
    x = np.asarray(arrays[i])
    return f"{x.dtype.name}{list(x.shape)}"
