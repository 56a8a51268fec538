"""Every network through every exit: written, checked by other people's code, read back, run.

    python -m tests.conformance.exits [--model bert ...] [--framework pytorch ...] [--target onnx ...] [--shapes batch]

A pair of network and framework is converted to a program once; each target of it is a cell. A cell passes when

- the artefact is written, and what is not ours accepts it: ONNX's checker; TensorFlow's C runtime; MindSpore's
  libnnacl, which infers every shape again, and netron; the official descriptor and prototypes of torch-npu's wheel;
- read back, it has the structure digest of the program, and the same constants (not a SavedModel, which is run);
- run, it agrees with the source framework: a scaled error of at most 1e-5 (ONNX) or 1e-4 over three seeds.

Then controls that must fail are run through the same checks (``controls``). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests import models

for _key, _value in (
    ("TF_CPP_MIN_LOG_LEVEL", "3"),
    ("KERAS_BACKEND", "tensorflow"),
    ("GLOG_v", "3"),
    ("HF_HUB_OFFLINE", "1"),
):
    os.environ.setdefault(_key, _value)

TARGETS = {"onnx": ".onnx", "saved_model": "", "mslite": ".ms", "air": ".air", "om": ".om"}
TOLERANCE = {"onnx": 1e-5}  # of a scaled error; elsewhere:
OTHERWISE = 1e-4
WEIGHTS = 1e-6  # by which constants may differ after reading back
SEEDS = (0, 1, 2)
SHAPES = ("static", "batch")
#: Batch sizes of the three runs when the batch is symbolic.
BATCHES = (2, 1, 3)


class Failed(Exception):
    """A check found something wrong; the text says what."""


@dataclass
class Cell:
    """What became of one artefact; ``problem`` is empty when it passes."""

    model: str
    framework: str
    target: str
    problem: str = ""
    error: float = float("nan")
    digest_equal: bool | None = None
    checked_by: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.model} {self.framework} {self.target}"


@dataclass
class Source:
    """A converted pair: the program, and the framework's own results for each seed."""

    pair: models.Pair
    frontend: Any
    program: Any
    feeds: list[list[np.ndarray]]
    results: list[list[np.ndarray]]


def source(model: str, framework: str, shapes: str) -> Source:
    """Convert a pair as far as its program and run the model itself."""
    from framework_adapter.api import build
    from framework_adapter.registry import frontend

    pair, room = models.PAIRS[model, framework](), frontend(framework)
    dynamic = pair.dynamic_shapes if shapes == "batch" else None
    program = build(pair.model, room, inputs=pair.inputs, dynamic_shapes=dynamic)
    batch = len(pair.inputs[0])
    sizes = BATCHES if dynamic else [batch] * len(SEEDS)
    feeds = [
        list(models.example_inputs(model, n, seed, framework)) for n, seed in zip(sizes, SEEDS)
    ]
    run = program.runner(room, pair.model)
    return Source(pair, room, program, feeds, [run(x) for x in feeds])


# -- the checks ------------------------------------------------------------------------------------
def onnx_accepts(path: Path) -> dict[str, int]:
    """ONNX's checker, shape inference included."""
    import onnx

    onnx.checker.check_model(str(path), full_check=True)
    return {}


def nnacl_agrees(path: Path) -> dict[str, int]:
    """MindSpore's own inference gives every declared shape, dtype and format."""
    from tests.mindspore.lite import nnacl

    found = nnacl.check(path)
    counts = {"nnacl_agree": found["agree"], "nnacl_checkable": found["checkable"]}
    if found["problems"] or not found["checkable"] or found["agree"] != found["checkable"]:
        raise Failed(
            f"nnacl agrees with {found['agree']} of {found['checkable']}: {found['problems'][:2]}"
        )
    return counts


def netron_reads(path: Path) -> dict[str, int]:
    """netron opens the file and finds nodes."""
    from tests import netron

    found = netron.read(path)
    if "error" in found or not any(g["nodes"] for g in found["graphs"]):
        raise Failed(f"netron: {found.get('error', 'no nodes')}")
    return {}


def ge_accepts(path: Path) -> dict[str, int]:
    """The official descriptor parses the graph, and every node fits its official prototype."""
    from tests.cann import official

    found = official.check(path)
    counts = {"ge_nodes_valid": found["nodes_valid"], "ge_nodes_checked": found["nodes_checked"]}
    if found["problems"] or not found["nodes_checked"] or len(set(counts.values())) > 1:
        raise Failed(f"GE: {'; '.join(found['problems'][:3]) or counts}")
    return counts


Check = Callable[[Path], dict[str, int]]
#: Target -> who checks the file, and how. A SavedModel is run by TensorFlow's C runtime instead.
CHECKS: Mapping[str, Mapping[str, Check]] = {
    "onnx": {"onnx.checker": onnx_accepts},
    "saved_model": {},
    "mslite": {"nnacl": nnacl_agrees, "netron": netron_reads},
    "air": {"torch-npu's descriptor": ge_accepts},
    "om": {"torch-npu's descriptor": ge_accepts, "netron": netron_reads},
}
#: Whose code gives the results.
RUNNERS = {"onnx": "ONNX Runtime", "saved_model": "TensorFlow's C runtime"}


def run(target: str, path: Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Results of an artefact; those of a SavedModel from a process without Python."""
    from framework_adapter.registry import backend

    if target != "saved_model":
        return backend(target).run(path, feeds)
    from tests.tensorflow import c_runtime

    names = json.loads((path / "assets.extra" / "cir.json").read_text(encoding="utf-8"))
    found, _ = c_runtime.run(path, dict(zip(names["inputs"], feeds)), names["outputs"])
    return found


def numbers_agree(s: Source, target: str, path: Path) -> float:
    """The worst scaled error over the seeds. Raises Failed above the tolerance."""
    from framework_adapter.samples import scaled_error

    worst = 0.0
    for feeds, wanted in zip(s.feeds, s.results):
        found = run(target, path, feeds)
        if [np.shape(y) for y in found] != [np.shape(y) for y in wanted]:
            raise Failed(
                f"shapes {[np.shape(y) for y in found]}, not {[np.shape(y) for y in wanted]}"
            )
        worst = max([worst, *(scaled_error(a, b) for a, b in zip(found, wanted))])
    limit = TOLERANCE.get(target, OTHERWISE)
    if not worst <= limit:  # nan fails
        raise Failed(f"scaled error {worst:.1e}, at most {limit:.0e} is allowed")
    return worst


def reads_back(s: Source, path: Path) -> None:
    """The file has the program's digest and constants. Raises Failed."""
    from cir.digest import constants_match, structure_digest
    from cir.passes import channels_first_interface
    from framework_adapter import readback

    again = readback.program(path)
    if again.digest != s.program.digest:
        raise Failed(f"read back, the digest is {again.digest[:12]}, not {s.program.digest[:12]}")
    before, after = (
        structure_digest(channels_first_interface(p.model.graph)) for p in (s.program, again)
    )
    if not constants_match(before, after, WEIGHTS):
        raise Failed("read back, constants differ")


def measure(s: Source | str, cell: Cell, folder: Path) -> None:
    """Write, check, read back and run one cell; a ``str`` says why there is no program."""
    from framework_adapter.api import write
    from framework_adapter.registry import backend

    start = time.perf_counter()
    path = folder / f"model{TARGETS[cell.target]}"
    try:
        if isinstance(s, str):
            raise Failed(s)
        target = backend(cell.target)
        result = write(s.program, s.frontend, s.pair.model, target, path, validate=False)
        runner = RUNNERS.get(cell.target, "")
        cell.checked_by = ", ".join([*CHECKS[cell.target], *([runner] if runner else [])])
        for check in CHECKS[cell.target].values():
            cell.counts.update(check(result.artifact))
        if cell.target != "saved_model":
            cell.digest_equal = False
            reads_back(s, result.artifact)
            cell.digest_equal = True
        cell.error = numbers_agree(s, cell.target, result.artifact)
    except Failed as exc:
        cell.problem = str(exc)
    except Exception as exc:  # whatever happens to one cell, the others are measured
        cell.problem = f"{type(exc).__name__}: {exc}"
        if not hasattr(exc, "diagnostics"):
            cell.problem += "\n" + "".join(traceback.format_tb(exc.__traceback__)[-3:])
    cell.seconds = time.perf_counter() - start


# -- the run ---------------------------------------------------------------------------------------
@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, lines elsewhere; call it with what begins now."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: print(text, file=sys.stderr, flush=True)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total)
        done = [-1]

        def say(text: str) -> None:
            done[0] += 1
            bar.update(task, completed=done[0], description=text)

        yield say


def measure_all(
    pairs: Sequence[tuple[str, str]], targets: Sequence[str], shapes: str
) -> list[Cell]:
    """All cells; one program for each pair."""
    cells: list[Cell] = []
    with progress(len(pairs) * len(targets)) as say:
        for model, framework in pairs:
            s: Source | str
            try:
                s = source(model, framework, shapes)
            except Exception as exc:
                s = f"no program: {type(exc).__name__}: {exc}"
            for target in targets:
                cell = Cell(model, framework, target)
                say(cell.name)
                with tempfile.TemporaryDirectory(prefix="exits.") as folder:
                    measure(s, cell, Path(folder))
                cells.append(cell)
    return cells


def controls_of(targets: Sequence[str]) -> dict[str, str]:
    """Name of each control of these targets -> "" when it was caught, else what happened."""
    from tests.conformance import controls

    found = {}
    for target in targets:
        for name, control in controls.CONTROLS[target].items():
            with tempfile.TemporaryDirectory(prefix="control.") as folder:
                try:
                    caught = control(Path(folder))
                    found[f"{target}: {name}"] = "" if caught else "was not noticed"
                except Exception as exc:
                    found[f"{target}: {name}"] = f"{type(exc).__name__}: {exc}"
    return found


def show(cells: Sequence[Cell], controls: Mapping[str, str]) -> None:
    """The table for people, then every problem in full."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table("network", "framework", "target", "", "scaled error", "digest", "checked by", "s")
    for c in cells:
        equal = {True: "equal", False: "[red]differs[/]", None: ""}[c.digest_equal]
        counts = [f"{v} {k}" for k, v in c.counts.items() if k.endswith(("agree", "valid"))]
        table.add_row(
            c.model,
            c.framework,
            c.target,
            "[red]FAIL[/]" if c.problem else "[green]pass[/]",
            "" if np.isnan(c.error) else f"{c.error:.1e}",
            equal,
            "; ".join([c.checked_by, *counts]),
            f"{c.seconds:.1f}",
        )
    console.print(table)
    for name, problem in controls.items():
        console.print(
            f"control {name}: {'[red]' + problem if problem else 'caught'}", highlight=False
        )
    for c in cells:
        if c.problem:
            console.print(f"\nFAIL {c.name}\n{c.problem}", markup=False, highlight=False)


def summary(cells: Sequence[Cell], controls: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object of the last line."""
    out: dict[str, Any] = {
        "cells_pass": sum(not c.problem for c in cells),
        "cells_total": len(cells),
    }
    for key in ("nnacl_agree", "nnacl_checkable", "ge_nodes_valid", "ge_nodes_checked"):
        out[key] = sum(c.counts.get(key, 0) for c in cells)
    out["negative_controls_caught"] = sum(not p for p in controls.values())
    out["negative_controls_total"] = len(controls)
    out["digest_equal"] = sum(c.digest_equal is True for c in cells)
    out["digest_total"] = sum(c.target != "saved_model" for c in cells)
    for target in dict.fromkeys(c.target for c in cells):
        errors = [c.error for c in cells if c.target == target and not np.isnan(c.error)]
        out[f"worst_scaled_error_{target}"] = float(f"{max(errors, default=float('nan')):.2e}")
    out["failed"] = [c.name for c in cells if c.problem]
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 0 when every cell passes and every control is caught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=models.NETWORKS, default=models.NETWORKS)
    parser.add_argument(
        "--framework", nargs="+", choices=models.FRAMEWORKS, default=models.FRAMEWORKS
    )
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=tuple(TARGETS))
    parser.add_argument(
        "--shapes",
        choices=SHAPES,
        default=SHAPES[0],
        help="fixed sizes (default), or a symbolic batch",
    )
    args = parser.parse_args(argv)
    pairs = [p for p in models.PAIRS if p[0] in args.model and p[1] in args.framework]
    if not pairs:
        parser.error("no such pair: only digits_unet and resnet50 come from every framework")
    cells = measure_all(pairs, args.target, args.shapes)
    controls = controls_of(args.target)
    show(cells, controls)
    print(json.dumps(summary(cells, controls)), flush=True)
    return 0 if not any((*(c.problem for c in cells), *controls.values())) else 1


if __name__ == "__main__":
    sys.exit(main())
