"""``cir doctor``: what is installed and whether it works."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from importlib import metadata, util
from typing import Annotated

import typer

#: (distribution names, module, extra, what it is for).
PACKAGES = (
    (("numpy",), "numpy", "", "everything"),
    (("torch",), "torch", "torch", "models from PyTorch"),
    (("tensorflow-cpu", "tensorflow"), "tensorflow", "tensorflow", "models from TensorFlow, Keras"),
    (
        ("mindspore",),
        "mindspore",
        "mindspore",
        "models from MindSpore cells (.mindir needs nothing)",
    ),
    (("onnx",), "onnx", "onnx", "writing and reading ONNX"),
    (("onnxruntime",), "onnxruntime", "onnx", "running and validating ONNX"),
    (("flatbuffers",), "flatbuffers", "mslite", "writing and reading MindSpore Lite"),
    (("protobuf",), "google.protobuf", "cann", "writing and reading AIR and OM"),
    (("jinja2",), "jinja2", "report", "HTML reports"),
)

EXAMPLES = """cir doctor
  cir doctor --run
  cir doctor --json"""


def doctor(
    run: Annotated[bool, typer.Option("--run", help="also convert a tiny model of each")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Say which packages are here and which are missing."""
    versions = {module: _version(module, names) for names, module, _, _ in PACKAGES}
    verdicts: dict[str, str] = {}
    if run:
        from framework_adapter.cli.selftest import selftest

        verdicts = dict(selftest(lambda name: print(f"... {name}", file=sys.stderr)))
    from framework_adapter.cann import acl

    compiler, why = _compiler()
    device = acl.missing()
    if as_json:
        head = {"python": platform.python_version(), **versions, "run": verdicts}
        print(json.dumps({**head, "atc": compiler, "pyacl": device or "ok"}))
        return
    print(f"Python {platform.python_version()} on {platform.machine()} {platform.system()}")
    for _, module, extra, what in PACKAGES:
        version = versions[module]
        hint = "" if version or not extra else f'   pip install "framework-adapter[{extra}]"'
        mark = "ok" if version else "--"
        print(f"  {mark} {module:15} {version or 'missing':12} {what}{hint}")
    for name, found, what in (
        ("atc", compiler, f"compiling OM files for a device{why}"),
        ("pyACL", "" if device else "here", "running them on the device"),
    ):
        mark = "ok" if found else "--"
        print(f"  {mark} {name:15} {found or 'missing':12} {what}; part of CANN")
    for name, verdict in verdicts.items():
        print(f"  {name:12} {verdict}")


def _compiler() -> tuple[str, str]:
    """Where atc is, or "" and what is wrong with $ATC, which is a finding and no failure."""
    from cir.diagnostics import CirError
    from framework_adapter.cann import atc

    try:
        return str(atc.find() or ""), ""
    except CirError as exc:
        return "", f" ({exc.diagnostics[0].what}; check $ATC)"


def _version(module: str, names: Sequence[str]) -> str:
    """The installed version, ``?`` when it has no metadata, "" when it is missing."""
    if util.find_spec(module) is None:
        return ""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "?"
