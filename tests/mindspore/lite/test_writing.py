"""Half-precision weights, and files that are equal to the byte."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cir.builder import Builder
from cir.graph import Const, Model
from framework_adapter import convert, readback
from framework_adapter.mindspore.lite import BACKEND, flat
from framework_adapter.mindspore.lite.write import TYPE_IDS
from tests import netron
from tests.mindspore.lite import nnacl
from tests.models import PAIRS

ROOT = Path(__file__).parents[3]
HALF = TYPE_IDS["float16"]


def _layers() -> Model:
    """A weight in range, one beyond it, a small one, a table, a sum with a constant before the value."""
    rng = np.random.default_rng(0)
    b = Builder()
    ids = b.input("ids", "int32", ["n"])
    table = rng.standard_normal((16, 32)).astype(np.float32)
    x = b.emit("gather", [b.const(Const.of(table), "table"), ids])[0]
    for name, size in (("wide", 1.0), ("huge", 1e5), ("nan", np.nan)):
        weight = rng.standard_normal((32, 32)).astype(np.float32)
        weight[0, 0] = size
        x = b.emit("linear", [x, b.const(Const.of(weight), name), None])[0]
    small = rng.standard_normal(32).astype(np.float32)
    y = b.emit("add", [x, b.const(Const.of(small), "small")], name="y")[0]
    return Model(b.finish([y]))


def test_which_constants_are_halved(tmp_path: Path) -> None:
    """Large ones in range that are not what a node computes on; all else stays."""
    path = tmp_path / "m.ms"
    BACKEND.emit(_layers(), path, weights="fp16")
    kinds = {t["name"]: t["dataType"] for t in flat.unpack(path.read_bytes())["allTensors"]}
    assert {n for n, kind in kinds.items() if kind == HALF} == {"wide"}
    found = nnacl.check(path)
    assert found["agree"] == found["checkable"] == len(flat.unpack(path.read_bytes())["nodes"])


@pytest.mark.parametrize("network", ["digits_unet", "resnet50"])
def test_half_the_size(network: str, tmp_path: Path) -> None:
    """Read by netron as float16, widened on reading, accepted by MindSpore; validation says what it costs."""
    pair = PAIRS[network, "pytorch"]()
    paths = {w: tmp_path / f"{w}.ms" for w in ("fp32", "fp16")}
    results = {
        w: convert(pair.model, "mslite", p, framework="pytorch", inputs=pair.inputs, weights=w)
        for w, p in paths.items()
    }
    whole, half = (p.stat().st_size for p in paths.values())
    assert half < 0.56 * whole
    assert results["fp16"].digest == results["fp32"].digest
    assert readback.program(paths["fp16"]).digest == results["fp32"].digest
    model = readback.program(paths["fp16"]).model
    assert "float16" not in {c.type.dtype for c in model.graph.consts.values()}
    found = nnacl.check(paths["fp16"])
    assert found["agree"] == found["checkable"], found["problems"]
    (graph,) = netron.read(paths["fp16"])["graphs"]
    stored = flat.unpack(paths["fp16"].read_bytes())["allTensors"]
    ours = {t["name"] for t in stored if t["dataType"] == HALF}
    assert (
        ours == {w["name"] for w in graph["weights"] if w["dtype"] == "float16"} and len(ours) > 10
    )
    report = results["fp16"].report
    assert report is not None and report.verdict == "PASS"
    assert 1e-5 < report.scaled_error < 1e-2
    assert any("less precision" in n for n in report.notes)


CODE = """
import sys
from pathlib import Path
from framework_adapter.api import build
from framework_adapter.mindspore.lite import BACKEND
from framework_adapter.registry import frontend
from tests.models import PAIRS

for network, framework in [n.split("-") for n in sys.argv[1:]]:
    pair = PAIRS[network, framework]()
    program = build(pair.model, frontend(framework), inputs=pair.inputs, dynamic_shapes=pair.dynamic_shapes)
    for weights in ("fp32", "fp16"):
        BACKEND.emit(program.model, Path(f"{network}-{framework}-{weights}.ms"), weights=weights)
"""


def _digests(folder: Path, seed: str, names: list[str]) -> dict[str, str]:
    folder.mkdir()
    env = os.environ | {
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "GLOG_v": "3",
    }
    done = subprocess.run([sys.executable, "-c", CODE, *names], cwd=folder, env=env, capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Whatever ran before, and whatever the order of hashes."""
    names = ["digits_unet-pytorch", "digits_unet-tensorflow", "digits_unet-mindspore", "bert-pytorch", "lstm_classifier-pytorch"]  # fmt: skip
    first = _digests(tmp_path / "a", "1", names)
    second = _digests(tmp_path / "b", "2", names[::-1])
    assert len(first) == 2 * len(names) and first == second
