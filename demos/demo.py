"""Convert a PyTorch, TensorFlow or MindSpore network and see that it still works."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # works from any folder, installed or not
    sys.path.insert(0, str(ROOT))

# Before any framework is imported: fewer log lines, and Keras on TensorFlow.
for _key, _value in (
    ("TF_CPP_MIN_LOG_LEVEL", "3"),
    ("KERAS_BACKEND", "tensorflow"),
    ("GLOG_v", "3"),
):
    os.environ.setdefault(_key, _value)

from cir.diagnostics import CirError, Diagnostic, error  # noqa: E402

FRAMEWORKS = ("pytorch", "tensorflow", "mindspore")
MODELS = ("digits_unet", "resnet50")
#: Target -> what it is written to.
TARGETS = {
    "onnx": "model.onnx",
    "saved_model": "saved_model",
    "mslite": "model.ms",
    "air": "model.air",
    "om": "model.om",
}
#: Images at a time. The digits network draws two rows of the ten digits.
BATCH = {"digits_unet": 20, "resnet50": 1}

EXAMPLES = """\
examples:
  python demos/demo.py --framework pytorch
  python demos/demo.py --framework tensorflow --model resnet50
  python demos/demo.py --framework pytorch --target all
  python demos/demo.py --framework mindspore --out /tmp/demo --json | tail -1

written to --out (default demos/out/FRAMEWORK-MODEL/):
  model.onnx            the converted network for ONNX Runtime
  saved_model/          the same for TensorFlow Serving    (--target saved_model or all)
  model.ms              the same for MindSpore Lite        (--target mslite or all)
  model.air, model.om   the same for Ascend                (--target air, om or all)
  model.cir.json        the program between the two, with its weights in model.safetensors
  report.html           precision report: verdict, error along the network, op mapping, run times
  report.json           the same for programs
  grid_source.png       digits drawn by the source network      (digits_unet only)
  grid_converted.png    the same drawn by the converted network; with several targets by the
                        first, and grid_TARGET.png by each of the others

exit codes:
  0 converted and equal    1 precision check failed    2 wrong usage    3 unsupported op
  4 bad input              5 a package is missing      6 resource limit
"""


@dataclass
class Outcome:
    """What a run found; ``files`` maps what it is to where it is."""

    framework: str
    model: str
    stats: dict[str, Any]
    digest: str
    report: Any
    files: dict[str, str]
    artefacts: dict[str, Any]
    seconds: float = 0.0
    max_pixel_difference: float | None = None
    problems: list[Diagnostic] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        out: dict[str, Any] = {"framework": self.framework, "model": self.model}
        for key in ("nodes_source", "nodes_canonical", "nodes_fused", "nodes_emitted"):
            out[key] = self.stats[key]
        out["digest"] = self.digest
        out["verdict"] = self.report.verdict
        out["max_abs_error"] = self.report.max_abs_error
        out["scaled_error"] = self.report.scaled_error
        out["convert_seconds"] = round(self.stats["convert_seconds"], 3)
        out["seconds"] = round(self.seconds, 3)
        if self.max_pixel_difference is not None:
            out["max_pixel_difference"] = self.max_pixel_difference
        keys = ("path", "verdict", "scaled_error", "size", "checked_by", "seconds")
        out["artefacts"] = {
            name: {k: v for k, v in a.as_dict().items() if k in keys}
            for name, a in self.artefacts.items()
        }
        out["files"] = self.files
        if self.problems:
            out["errors"] = [d.as_dict() for d in self.problems]
        return out


def run(
    framework: str, model: str, targets: Sequence[str], out: Path, steps: int, say: Any
) -> Outcome:
    """Convert one network of one framework, check it, and draw with both.

    A target that fails does not keep the others from being written; what went wrong is in
    ``problems``.

    Raises:
        CirError: E601 when the first target's precision check fails, E901 when a package is
            missing, and whatever the conversion itself raises.
    """
    from cir.serde import save, weights_path
    from framework_adapter import api, registry

    start = time.perf_counter()
    module, extra, needs = registry.FRAMEWORKS[framework]
    say(f"import {framework}")
    for package, its_extra in ((needs, extra), ("onnxruntime", "onnx"), ("safetensors", "demo")):
        registry.require(package, its_extra)
    if framework == "mindspore":  # compiled rather than op by op: half the time
        mindspore = import_module("mindspore")
        mindspore.set_context(mode=mindspore.GRAPH_MODE)
    zoo = import_module(f"demos.models.{framework}")
    network = getattr(zoo, model)()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise error("E502", f"cannot write to {out}: {exc}", fix="choose another --out") from exc

    frontend = registry.frontend(framework)
    program = api.build(
        network, frontend, inputs=zoo.example_inputs(model, batch=BATCH[model]), progress=say
    )
    building = time.perf_counter() - start
    results: dict[str, api.Result] = {}
    problems: list[Diagnostic] = []
    for target in targets:
        first = target == targets[0]
        try:
            results[target] = api.write(
                program,
                frontend,
                network,
                registry.backend(target),
                out / TARGETS[target],
                validate="full" if first and model == "digits_unet" else "auto",
                progress=lambda text, target=target: say(f"{target}: {text}"),
            )
        except CirError as exc:
            if first:
                raise
            problems += [replace(d, where=f"target {target}: {d.where}") for d in exc.diagnostics]
    main = next(iter(results.values()))
    main.stats["convert_seconds"] += building
    artefacts = {t: r.report.artefacts[0] for t, r in results.items() if r.report is not None}
    report = replace(main.report, artefacts=tuple(artefacts.values()))
    files = {
        "artifact": main.artifact,
        "program": out / "model.cir.json",
        "weights": weights_path(out / "model.cir.json"),
        "report": out / "report.html",
        "report_json": out / "report.json",
    }
    save(main.model, files["program"])
    report.write_html(files["report"])
    files["report_json"].write_text(report.to_json(), encoding="utf-8")
    found = Outcome(framework, model, main.stats, main.digest, report, {}, artefacts)
    found.problems = problems
    if model == "digits_unet":
        found.max_pixel_difference = _draw(framework, network, results, out, steps, say, files)
    found.files = {name: str(path) for name, path in files.items()}
    found.seconds = time.perf_counter() - start
    return found


def _draw(
    framework: str,
    network: Any,
    results: Mapping[str, Any],
    out: Path,
    steps: int,
    say: Any,
    files: dict[str, Path],
) -> float:
    from demos import grids
    from framework_adapter import registry

    frontend = registry.frontend(framework)
    names = ["grid_converted", *(f"grid_{t}" for t in list(results)[1:])]
    sides: dict[str, grids.Run] = {"grid_source": lambda feeds: frontend.run(network, feeds)}
    for name, (target, result) in zip(names, results.items()):
        sides[name] = grids.converted(target, result.artifact, threads=_threads())
    images = {}
    for name, side in sides.items():
        say(f"draw {name}.png")
        files[name] = out / f"{name}.png"
        denoise = grids.denoiser(side, channels_last=framework == "tensorflow")
        images[name] = grids.draw(denoise, files[name], BATCH["digits_unet"], steps)
    source = images.pop("grid_source")
    gaps = {name: grids.pixel_difference(source, image) for name, image in images.items()}
    for name, gap in gaps.items():
        if gap > grids.PIXEL_LIMIT:
            raise error(
                "E601",
                f"the drawings of source and converted network differ by {gap:.2g} of the scale",
                where=str(files[name]),
                nearest=f"at most {grids.PIXEL_LIMIT:.2g}, one grey level, is expected",
                fix="compare the PNG files and read report.html",
            )
    return max(gaps.values())


def _threads() -> int:
    return min(os.cpu_count() or 1, 4)


def show(found: Outcome, console: Any) -> None:
    """The short table for people."""
    from rich.table import Table

    s, r = found.stats, found.report
    strategies = s.get("strategies", {})
    to = ", ".join(found.artefacts)
    table = Table(title=f"{found.framework} {found.model} to {to}", show_header=False)
    rows = [
        ("verdict", f"[bold {'green' if r.verdict == 'PASS' else 'yellow'}]{r.verdict}[/]"),
        (
            "nodes",
            f"{s['nodes_source']} in {found.framework}, {s['nodes_canonical']} canonical, "
            f"{s['nodes_fused']} fused, {s['nodes_emitted']} in {next(iter(found.artefacts))}",
        ),
        ("strategies fired", f"{len(strategies)}, {sum(strategies.values())} times"),
        ("largest error", f"scaled {r.scaled_error:.1e}, absolute {r.max_abs_error:.1e}"),
    ]
    if found.max_pixel_difference is not None:
        levels = found.max_pixel_difference * 255
        rows.append(("drawings differ by", f"at most {levels:.2g} of 255 grey levels"))
    if r.latency is not None:
        rows.append(
            (
                "one run, measured",
                f"{r.latency.source_ms:.3g} ms in {found.framework}, "
                f"{r.latency.artifact_ms:.3g} ms in ONNX Runtime"
                + (" (not reliable: busy or slow)" if r.latency.noisy else ""),
            )
        )
    rows.append(("seconds", f"{s['convert_seconds']:.1f} to convert, {found.seconds:.1f} in all"))
    rows.append(("structure", found.digest[:16]))
    for name, text in rows:
        table.add_row(name, text)
    console.print(table)
    written = Table("artefact", "verdict", "scaled error", "size", "run by", "seconds")
    for a in found.artefacts.values():
        colour = "green" if a.verdict == "PASS" else "yellow"
        error_text, size = f"{a.scaled_error:.1e}", f"{a.size / 1e6:.2f} MB"
        verdict = f"[{colour}]{a.verdict}[/]"
        written.add_row(a.target, verdict, error_text, size, a.checked_by, f"{a.seconds:.1f}")
    console.print(written)
    for a in found.artefacts.values():
        if a.note:
            console.print(f"{a.target}: {a.note}", soft_wrap=True, highlight=False)
    for name, path in found.files.items():  # outside the table: paths are for copying, whole
        console.print(f"{name:14} {os.path.relpath(path)}", soft_wrap=True, highlight=False)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--framework", required=True, choices=FRAMEWORKS, help="source framework")
    p.add_argument("--model", choices=MODELS, default="digits_unet", help="default: %(default)s")
    p.add_argument(
        "--target",
        choices=(*TARGETS, "all"),
        default="onnx",
        help="format to write (default: %(default)s)",
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="folder for the results")
    p.add_argument("--steps", type=int, default=20, help="sampling steps (default: %(default)s)")
    p.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    args = parser().parse_args(argv)
    out = args.out or ROOT / "demos" / "out" / f"{args.framework}-{args.model}"
    from rich.console import Console

    err = Console(stderr=True)
    status = err.status("start") if err.is_terminal else nullcontext()
    try:
        if args.steps < 1:
            raise error("E100", f"--steps is {args.steps}", fix="use a positive number")
        with status as spinner:
            say = spinner.update if spinner else lambda text: print(text, file=sys.stderr)
            targets = list(TARGETS) if args.target == "all" else [args.target]
            found = run(args.framework, args.model, targets, out, args.steps, say)
    except CirError as exc:
        print(exc, file=sys.stderr)
        if args.json:
            asked = {"framework": args.framework, "model": args.model}
            print(json.dumps({**asked, "errors": [d.as_dict() for d in exc.diagnostics]}))
        return exc.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if args.json:
        print(json.dumps(found.as_dict()))
    else:
        show(found, Console())
    if found.problems:
        failed = CirError(found.problems)
        print(failed, file=sys.stderr)
        return failed.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
