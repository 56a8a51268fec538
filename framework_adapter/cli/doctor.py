"""``cir doctor``: what is installed and whether it works."""

from __future__ import annotations

import platform
from importlib import metadata, util
from typing import Annotated

import typer

#: (distribution names, module, extra, what it is for).
PACKAGES = (
    (("numpy",), "numpy", "", "everything"),
    (("torch",), "torch", "torch", "models from PyTorch"),
    (("tensorflow-cpu", "tensorflow"), "tensorflow", "tensorflow", "models from TensorFlow, Keras"),
    (("mindspore",), "mindspore", "mindspore", "models from MindSpore cells (.mindir needs nothing)"),
    (("onnx",), "onnx", "onnx", "writing and reading ONNX"),
    (("onnxruntime",), "onnxruntime", "onnx", "running and validating ONNX"),
    (("jinja2",), "jinja2", "report", "HTML reports"),
)


def doctor(
    run: Annotated[bool, typer.Option("--run", help="also convert a tiny model from each")] = False,
) -> None:
    """Say which frameworks are here, which are missing and how to install them.

    Examples:

        cir doctor

        cir doctor --run
    """
    print(f"Python {platform.python_version()} on {platform.machine()} {platform.system()}")
    for names, module, extra, what in PACKAGES:
        found = util.find_spec(module) is not None
        version = next((v for n in names if (v := _version(n))), "?") if found else "missing"
        hint = "" if found or not extra else f'   pip install "framework-adapter[{extra}]"'
        print(f"  {'ok ' if found else '-- '} {module:12} {version:12} {what}{hint}")
    if run:
        from framework_adapter.cli.selftest import selftest

        for name, verdict in selftest():
            print(f"  {name:12} {verdict}")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
