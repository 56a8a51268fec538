"""``cir serve``: a model as the next version in a TensorFlow Serving folder, and what to type."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """cir serve model.onnx /srv/models scores
  cir serve net.py:make /srv/models resnet50 --input "x:float32[batch,3,224,224]"
  cir serve model.keras models scores --version 7 --json"""


def serve(
    model: Annotated[
        str, typer.Argument(help="model file or folder, or FILE.py:FACTORY (a function giving it)")
    ],
    dir: Annotated[Path, typer.Argument(help="folder of all models of the server")],
    name: Annotated[str, typer.Argument(help="the model's name in requests")],
    version: Annotated[int, typer.Option(help="number; 0 means the next free one")] = 0,
    framework: Annotated[str, typer.Option(help="default: by the model")] = "",
    input: Annotated[
        list[str],
        typer.Option(help="NAME:DTYPE[DIMS], in order; a name among the dims is symbolic"),
    ] = [],  # noqa: B006
    validate: Annotated[str, typer.Option(help="auto | full | no")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Export a model for TensorFlow Serving and print the server's command and requests."""
    from framework_adapter.cli.convert import load, parse_input
    from framework_adapter.tensorflow.serving import export_for_serving, requests_for

    folder = export_for_serving(
        load(model),
        dir,
        name,
        version or None,
        inputs=[parse_input(text) for text in input] or None,
        framework=framework or None,
        validate=False if validate == "no" else validate,
        progress=lambda text: print(f"... {text}", file=sys.stderr),
    )
    found = requests_for(folder)
    if as_json:
        print(json.dumps({"folder": str(folder), **asdict(found)}))
        return
    print(f"{folder}\n\n{found.server}\n\n{found.status}\n\n{found.rest}")
    print(f"\n{folder.parent / 'README.md'} has all of this, and the request by gRPC")
