"""``cir convert``: a model file or ``module.py:factory`` to a target format."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cir.diagnostics import error


def convert(
    model: Annotated[
        str, typer.Argument(help="model file or folder, or FILE.py:FACTORY (a function giving it)")
    ],
    out: Annotated[Path, typer.Argument(help="file to write, e.g. model.onnx or model.cir.json")],
    target: Annotated[str, typer.Option(help="onnx | cir; default: by the suffix of OUT")] = "",
    framework: Annotated[
        str, typer.Option(help="pytorch | tensorflow | mindspore | onnx; default: found out")
    ] = "",
    input: Annotated[
        list[str],
        typer.Option(help="NAME:DTYPE[DIMS], in order; a name among the dims is symbolic"),
    ] = [],  # noqa: B006
    fusion: Annotated[str, typer.Option(help="preset of the fusion database")] = "default",
    validate: Annotated[str, typer.Option(help="auto | full | no")] = "auto",
    report: Annotated[Path | None, typer.Option(help="write the validation report here")] = None,
    input_layout: Annotated[str, typer.Option(help="source | channels_first")] = "source",
    opset: Annotated[int, typer.Option(help="ONNX opset; 0 means the default")] = 0,
    mapping: Annotated[list[Path], typer.Option(help="further op table file")] = [],  # noqa: B006
    strategy: Annotated[list[Path], typer.Option(help="further strategy file")] = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Convert a model and check it against its framework.

    Examples:

        cir convert model.pt2 model.onnx

        cir convert saved_model/ model.onnx --report report.html

        cir convert demos/models/pytorch.py:resnet50 resnet.onnx --input "x:float32[batch,3,224,224]"
    """
    from framework_adapter.api import convert as run

    chosen = target or ("cir" if out.name.endswith(".cir.json") else out.suffix.lstrip("."))
    result = run(
        _load(model),
        chosen,
        out,
        inputs=[parse_input(text) for text in input] or None,
        framework=framework or None,
        fusion=fusion,
        validate=False if validate == "no" else validate,
        report=report,
        input_layout=input_layout,
        opset=opset or None,
        mappings=mapping,
        strategies=strategy,
        progress=None if as_json else lambda text: print(f"... {text}", file=sys.stderr),
    )
    stats = {k: v for k, v in result.stats.items() if k != "mapping"}
    verdict = result.report.verdict if result.report else "not validated"
    if as_json:
        print(json.dumps({"artifact": str(out), "verdict": verdict, "digest": result.digest, **stats}))
        return
    for d in result.diagnostics:
        print(d, file=sys.stderr)
    print(f"{out}  {verdict}")
    print(
        f"nodes {stats['nodes_source']} source, {stats['nodes_canonical']} canonical, "
        f"{stats['nodes_fused']} fused, {stats['nodes_emitted']} emitted; "
        f"{stats['convert_seconds']:.1f} s; digest {result.digest[:16]}"
    )


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
    shape = tuple(int(d) if d.strip().isdigit() else d.strip() for d in dims.split(",") if d.strip())
    return InputSpec(name, dtype, shape)


def _load(model: str) -> Any:
    """The path itself, or the object that FILE.py:FACTORY returns (the user's own code is run)."""
    path, colon, factory = model.rpartition(":")
    if not colon or not path.endswith(".py"):
        return model
    if not Path(path).is_file():
        raise error("E101", f"no such file: {path}", fix="check the path before the colon")
    folder = str(Path(path).resolve().parent)
    sys.path[:0] = [folder, str(Path.cwd())]
    name = ".".join(Path(path).with_suffix("").parts) if not Path(path).is_absolute() else "model"
    spec = importlib.util.spec_from_file_location(name.strip("."), path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A file named like the framework it imports must not shadow it.
    sys.path.remove(folder)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, factory):
        names = ", ".join(n for n in vars(module) if not n.startswith("_"))
        raise error("E101", f"{path} has no {factory!r}", nearest=names)
    return getattr(module, factory)()
