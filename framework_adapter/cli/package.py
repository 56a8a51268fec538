"""``cir package``: a model in the folders of a mobile app, with a manifest and loading code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cir.diagnostics import error

EXAMPLES = """cir package model.onnx --target mslite --app android phone/
  cir package model.ms --target mslite --app harmonyos phone/
  cir package model.pt2 --target mslite --app android phone/ --weights fp16"""


def package(
    model: Annotated[
        Path, typer.Argument(help="model file or folder to convert, or a .ms file as it is")
    ],
    out: Annotated[Path, typer.Argument(help="folder to write")],
    app: Annotated[str, typer.Option(help="android | harmonyos")],
    target: Annotated[str, typer.Option(help="mslite")] = "mslite",
    weights: Annotated[str, typer.Option(help="fp32 (default) | fp16")] = "",
    runtime: Annotated[str, typer.Option(help="oldest MindSpore Lite to load it")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print the manifest")] = False,
) -> None:
    """Package a model for a phone: model, manifest, self-test sample, loading code."""
    from framework_adapter.mindspore.lite.package import package as run

    if target != "mslite":
        raise error("E100", f"target {target!r} cannot be packaged", nearest="mslite")
    manifest = run(
        model, out, app=app, weights=weights or None, runtime=runtime or None,
        progress=lambda text: print(f"... {text}", file=sys.stderr),
    )  # fmt: skip
    if as_json:
        print(json.dumps(manifest))
        return
    found = manifest["model"]
    print(f"{out / found['file']}  {found['bytes']:,} bytes, sha256 {found['sha256'][:16]}")
    for kind in ("inputs", "outputs"):
        for p in manifest[kind]:
            shape = ", ".join("any" if d < 0 else str(d) for d in p["shape"])
            print(f"{kind[:-1]:7} {p['name']}: {p['dtype']}[{shape}] {p['layout']}".rstrip())
    for path in manifest["code"]:
        print(f"code    {out / path}")
