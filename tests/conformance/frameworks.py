"""The same network written in three frameworks must become one program: measured, network by network.

    python -m tests.conformance.frameworks [--network vgg ...] [--framework pytorch ...] [--batch 2 ...] [--diff]

Each way of writing a network is a cell. A cell passes when it converts to ONNX, its structure digest
equals that of the network's first cell, its weights equal the first cell's within 1e-6, and ONNX Runtime
and the source framework agree within a scaled error of 1e-5. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cir.digest import StructureDigest, constants_match, structure_digest
from cir.graph import Graph
from cir.passes import channels_first_interface
from tests.conformance import networks
from tests.conformance.listing import difference

TOLERANCE = 1e-5
WEIGHTS = 1e-6
STAGES = ("source", "lowered", "canonical", "fused", "emitted")


@dataclass
class Outcome:
    """What became of one cell; ``problem`` is empty when it converted."""

    cell: networks.Cell
    batch: int
    problem: str = ""
    graph: Graph | None = None
    digest: StructureDigest | None = None
    error: float = float("nan")
    nodes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    same: bool = False
    weights: bool = False

    @property
    def passed(self) -> bool:
        return not self.problem and self.same and self.weights and self.error <= TOLERANCE


def program(cell: networks.Cell, batch: int) -> tuple[Any, Any, Any]:
    """(framework model, frontend, canonical and fused program) of a cell."""
    from framework_adapter.api import build
    from framework_adapter.registry import frontend

    model, room = cell.build(), frontend(cell.framework)
    return model, room, build(model, room, inputs=cell.inputs(batch))


def comparable(graph: Graph) -> Graph:
    """The graph that the digest is taken of: inputs and outputs channels first."""
    return channels_first_interface(graph)


def convert(cell: networks.Cell, batch: int) -> Outcome:
    """Convert a cell, run what came out, compare with the source framework."""
    from framework_adapter.api import write
    from framework_adapter.registry import backend

    out = Outcome(cell, batch)
    start = time.perf_counter()
    try:
        model, room, made = program(cell, batch)
        out.graph = comparable(made.model.graph)
        out.digest = structure_digest(out.graph)
        assert out.digest.hex == made.digest
        target = backend("onnx")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            result = write(made, room, model, target, path, validate=False)
            feeds = list(cell.inputs(batch))
            out.error = scaled_error(target.run(path, feeds), room.run(model, feeds))
        out.nodes = {s: int(result.stats[f"nodes_{s}"]) for s in STAGES}
    except Exception as exc:
        out.problem = f"{type(exc).__name__}: {exc}"
    out.seconds = time.perf_counter() - start
    return out


def scaled_error(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """Largest max|a-b| / max(max|b|, 1e-6) over the outputs; infinite when shapes differ."""
    errors = [0.0]
    for a, b in zip(found, wanted, strict=True):
        if np.shape(a) != np.shape(b):
            return float("inf")
        x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
        errors.append(float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-6)))
    return max(errors)


def compare(outcomes: Sequence[Outcome]) -> None:
    """Fill in ``same`` and ``weights`` of one network's outcomes; the first that converted decides."""
    first = next((o for o in outcomes if o.digest is not None), None)
    for o in outcomes:
        if first is None or o.digest is None or first.digest is None:
            continue
        o.same = o.digest.hex == first.digest.hex
        o.weights = o.same and constants_match(first.digest, o.digest, WEIGHTS)


def row(o: Outcome) -> str:
    """One line of the table."""
    name = f"{o.cell.network:<11} {o.batch}  {o.cell.name:<22}"
    if o.problem:
        return f"{name} FAILED  {o.problem.splitlines()[0][:120]}"
    assert o.digest is not None
    counts = " > ".join(str(o.nodes[s]) for s in STAGES)
    words = [
        "pass  " if o.passed else "FAIL  ",
        o.digest.hex[:8],
        "same" if o.same else "OTHER",
        "" if not o.same else ("weights" if o.weights else "OTHER WEIGHTS"),
        f"{o.error:.1e}",
        f"nodes {counts}",
        f"{o.seconds:.1f} s",
    ]
    return f"{name} {'  '.join(w for w in words if w)}"


def run(
    names: Sequence[str], frameworks: Sequence[str], batches: Sequence[int], diff: bool
) -> dict[str, Any]:
    """Print the table and return the summary."""
    equal = 0
    everything: list[Outcome] = []
    for name in names:
        agreed = True
        sizes = (1,) if name == "resnet50" else batches
        for batch in sizes:
            cells = [c for c in networks.cells(name) if c.framework in frameworks]
            outcomes = [convert(c, batch) for c in cells]
            compare(outcomes)
            for o in outcomes:
                print(row(o), flush=True)
                if o.problem and diff:
                    print(o.problem)
            if diff:
                show_differences(outcomes)
            agreed &= all(o.same for o in outcomes)
            for o in outcomes:
                o.graph = None
            everything += outcomes
        equal += agreed
    errors = [o.error for o in everything if not o.problem]
    return {
        "networks": len(names),
        "digests_equal": equal,
        "cells_pass": sum(o.passed for o in everything),
        "cells_total": len(everything),
        "worst_scaled_error": float(f"{max(errors, default=float('nan')):.2e}"),
    }


def show_differences(outcomes: Sequence[Outcome]) -> None:
    """Where each program with a digest of its own leaves the first one."""
    first = next((o for o in outcomes if o.graph is not None), None)
    seen: set[str] = set()
    for o in outcomes:
        if o.same or o.graph is None or o.digest is None or o.digest.hex in seen:
            continue
        assert first is not None and first.graph is not None
        seen.add(o.digest.hex)
        print(difference(first.graph, o.graph, (first.cell.name, o.cell.name)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = (*networks.NAMES, *networks.DEMOS)
    parser.add_argument("--network", nargs="+", choices=every, default=every)
    parser.add_argument("--framework", nargs="+", choices=networks.FRAMEWORKS)
    parser.add_argument("--batch", nargs="+", type=int, default=(2, 1))
    parser.add_argument("--diff", action="store_true", help="show where programs differ")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GLOG_v", "3")
    frameworks = args.framework or networks.FRAMEWORKS
    summary = run(args.network, frameworks, args.batch, args.diff)
    print(json.dumps(summary))
    return 0 if summary["cells_pass"] == summary["cells_total"] else 1


if __name__ == "__main__":
    sys.exit(main())
