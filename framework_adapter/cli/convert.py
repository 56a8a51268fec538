"""``cir convert``: a model file or ``FILE.py:FACTORY`` to a target format."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from inspect import isclass, isroutine
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from cir.diagnostics import CirError, error
from cir.graph import Model

EXAMPLES = """cir convert model.pt2 model.onnx
  cir convert saved_model/ model.onnx --report report.html
  cir convert model.onnx phone.ms --option weights=fp16
  cir convert model.onnx npu.om --soc-version Ascend310P3 --print-atc
  cir convert demos/models/pytorch.py:resnet50 resnet.onnx \\
      --input "x:float32[batch,3,224,224]\""""


def convert(
    model: Annotated[
        str, typer.Argument(help="model file or folder, or FILE.py:FACTORY (a function giving it)")
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="what to write: .onnx .ms .air .om .cir.json, or a SavedModel's folder"
        ),
    ],
    target: Annotated[
        str,
        typer.Option(
            help="onnx | saved_model | mslite | air | om | cir; default: by the suffix of OUT"
        ),
    ] = "",
    framework: Annotated[
        str,
        typer.Option(
            help="pytorch | tensorflow | mindspore | onnx | mslite | cann; default: by the model"
        ),
    ] = "",
    input: Annotated[
        list[str],
        typer.Option(help="NAME:DTYPE[DIMS], in order; a name among the dims is symbolic"),
    ] = [],  # noqa: B006
    output: Annotated[list[str], typer.Option(help="name of a result to keep")] = [],  # noqa: B006
    fusion: Annotated[
        str, typer.Option(help="preset, or ids and tags of strategies: a,b,c")
    ] = "default",
    validate: Annotated[str, typer.Option(help="auto | full | no")] = "auto",
    report: Annotated[Path | None, typer.Option(help="write the validation report here")] = None,
    input_layout: Annotated[str, typer.Option(help="source | channels_first")] = "source",
    opset: Annotated[int, typer.Option(help="ONNX opset; 0 means the default")] = 0,
    profile: Annotated[str, typer.Option(help="of ONNX: ort-cpu | portable | ge-safe")] = "",
    soc_version: Annotated[str, typer.Option(help="of air and om: device, e.g. Ascend310P3")] = "",
    option: Annotated[
        list[str],
        typer.Option(help="NAME=VALUE: an option of the target, e.g. weights=fp16 of .ms"),
    ] = [],  # noqa: B006
    mapping: Annotated[list[Path], typer.Option(help="further op table file")] = [],  # noqa: B006
    strategy: Annotated[list[Path], typer.Option(help="further strategy file")] = [],  # noqa: B006
    print_atc: Annotated[
        bool,
        typer.Option(help="print the atc command that compiles the output"),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Convert a model and check the result."""
    from framework_adapter.api import convert as run
    from framework_adapter.registry import backend, format_of
    from fusion_db import presets

    chosen = target or format_of(out)  # before the model is loaded, which may take long
    known = backend(chosen).options
    named = {"opset": opset or None, "profile": profile or None, "soc": soc_version or None}
    if print_atc and "soc" not in known:
        named.pop("soc")
    options: dict[str, Any] = {**parse_options(option, known), **named}
    compilable = chosen in ("om", "air") or (chosen == "onnx" and profile == "ge-safe")
    if print_atc and not (compilable and soc_version):
        raise error(
            "E100",
            "--print-atc goes with a device and with an .om, .air or ge-safe .onnx output",
            fix="add --soc-version, e.g. Ascend310P3; for ONNX also --profile ge-safe",
        )
    inputs = [parse_input(text) for text in input] or None
    result = run(
        load(model),
        chosen,
        out,
        inputs=inputs,
        outputs=output or None,
        framework=framework or None,
        fusion=fusion if fusion in presets() or "," not in fusion else fusion.split(","),
        validate=False if validate == "no" else validate,
        report=report,
        input_layout=input_layout,
        mappings=mapping,
        strategies=strategy,
        progress=lambda text: print(f"... {text}", file=sys.stderr),
        **options,
    )
    command = _atc_command(result.model, out, soc_version, options) if print_atc else ""
    stats = {k: v for k, v in result.stats.items() if k != "mapping"}
    verdict = result.report.verdict if result.report else "not validated"
    for d in result.diagnostics:
        print(d, file=sys.stderr)
    if as_json:
        found = [d.as_dict() for d in result.diagnostics]
        head = {"artifact": str(out), "verdict": verdict, "digest": result.digest}
        head |= {"atc": command} if command else {}
        print(json.dumps({**head, **stats, "diagnostics": found}))
        return
    print(f"{out}  {verdict}")
    print(
        f"nodes {stats['nodes_source']} source, {stats['nodes_canonical']} canonical, "
        f"{stats['nodes_fused']} fused, {stats['nodes_emitted']} emitted; "
        f"{stats['convert_seconds']:.1f} s; digest {result.digest[:16]}"
    )
    if command:
        print(command)


def _atc_command(model: Model, out: Path, soc: str, options: Mapping[str, Any]) -> str:
    """The command that compiles ``out``, or, of an OM, the AIR file that is written beside it."""
    from framework_adapter.cann.atc import print_atc
    from framework_adapter.cann.atc_command import parse_gears
    from framework_adapter.registry import backend

    om, source = out.with_suffix(".om"), out
    if out == om:
        source = out.with_suffix(".air")
        backend("air").emit(model, source, soc=soc)
    precision = options.get("precision_mode") or "fp32"
    gears = parse_gears(options.get("gears") or "")
    return print_atc(model, om, soc, source=source, precision=precision, gears=gears)


def parse_options(texts: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as a dict. Raises CirError E100 for another form or an unknown name."""
    out = dict(t.split("=", 1) for t in texts if "=" in t)
    wrong = [t for t in texts if t.partition("=")[0] not in known or "=" not in t]
    if wrong:
        raise error(
            "E100",
            f"--option {wrong[0]!r} is not NAME=VALUE of an option that the target has",
            nearest=", ".join(known) or "none",
            fix="e.g. --option weights=fp16 for a .ms file",
        )
    return out


def parse_input(text: str) -> Any:
    """``NAME:DTYPE[DIMS]`` or ``DTYPE[DIMS]`` as an InputSpec. Raises CirError E100."""
    from framework_adapter.source import InputSpec

    match = re.fullmatch(r"(?:(\w[\w.]*):)?(\w+)\[([^\]]*)\]", text.strip())
    if not match:
        raise error(
            "E100",
            f"--input {text!r} is not NAME:DTYPE[DIMS]",
            fix='e.g. --input "x:float32[batch,3,224,224]"',
        )
    name, dtype, dims = match.groups()
    shape = tuple(
        int(d) if d.strip().isdigit() else d.strip() for d in dims.split(",") if d.strip()
    )
    return InputSpec(name, dtype, shape)


def load(model: str) -> Any:
    """The path itself, or what FACTORY of FILE.py gives (the user's own code is run)."""
    path, _, factory = model.rpartition(":")
    if model.endswith(".py"):
        raise error("E100", f"{model} is Python code", fix=f"name what gives the model: {model}:f")
    if not path.endswith(".py"):
        return model
    if not Path(path).is_file():
        raise error("E101", f"no such file: {path}", fix="check the path before the colon")
    try:
        module = _imported(Path(path).resolve())
        if not hasattr(module, factory):
            names = ", ".join(n for n in vars(module) if not n.startswith("_"))
            raise error("E101", f"{path} has no {factory!r}", nearest=names)
        found = getattr(module, factory)
        return found() if isclass(found) or isroutine(found) else found
    except CirError:
        raise
    except ImportError as exc:
        raise _missing(exc, path) or _failed(exc, path) from exc
    except Exception as exc:  # the user's code may raise anything
        raise _failed(exc, path) from exc


def _imported(path: Path) -> ModuleType:
    """The module of a file, in its package when it is in one."""
    folder, names = path.parent, [path.stem]
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    sys.path.append(str(folder))  # last: a file named like a framework must not shadow it
    name = ".".join(names) if len(names) > 1 else f"_convert_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _missing(exc: ImportError, path: str) -> CirError | None:
    """E901 when it is a framework that cannot be imported."""
    from framework_adapter.registry import FRAMEWORKS

    for _, extra, module in FRAMEWORKS.values():
        if (exc.name or "").partition(".")[0] == module:
            fix = f'pip install "framework-adapter[{extra}]"'
            return error("E901", f"{module} is not installed", where=path, why=str(exc), fix=fix)
    return None


def _failed(exc: Exception, path: str) -> CirError:
    last = traceback.extract_tb(exc.__traceback__)[-1]
    return error(
        "E105",
        f"{path} failed",
        where=f"{last.filename}:{last.lineno}",
        why=f"{type(exc).__name__}: {exc}",
        fix="run the file in Python on its own first",
    )
