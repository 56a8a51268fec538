"""The same model gives the same bytes, in whatever process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ("pytorch", "tensorflow", "mindspore")
CODE = """
import importlib, sys
from framework_adapter.api import build, write
from framework_adapter.registry import backend, frontend
from pathlib import Path

TARGETS = {"onnx": ".onnx", "cir": ".cir.json", "mslite": ".ms", "air": ".air", "om": ".om",
           "saved_model": ""}
for name in sys.argv[1:]:
    zoo, room = importlib.import_module(f"demos.models.{name}"), frontend(name)
    model = zoo.digits_unet()
    program = build(model, room, inputs=zoo.example_inputs("digits_unet", batch=2))
    for target, suffix in TARGETS.items():
        write(program, room, model, backend(target), Path(name + suffix), validate=False)
"""


def digests(folder: Path, seed: str, frameworks: list[str]) -> dict[str, str]:
    folder.mkdir()
    env = os.environ | {
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "GLOG_v": "3",
    }
    run = [sys.executable, "-c", CODE, *frameworks]
    done = subprocess.run(run, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    modules = {"pytorch": "torch", "tensorflow": "tensorflow", "mindspore": "mindspore"}
    for module in (*modules.values(), "onnx"):
        pytest.importorskip(module)
    first = digests(tmp_path / "a", "1", list(FRAMEWORKS))
    # Another order as well: what ran before must not matter.
    second = digests(tmp_path / "b", "2", list(FRAMEWORKS[::-1]))
    assert (
        len({Path(name).suffix for name in first} & {".onnx", ".json", ".ms", ".air", ".om"}) == 5
    )
    assert all(f"{f}/saved_model.pb" in first for f in FRAMEWORKS)
    assert first == second
    weights = [
        json.loads((tmp_path / "a" / f"{f}.cir.json").read_text())["consts"] for f in FRAMEWORKS
    ]
    assert all(len(w) > 50 for w in weights)
