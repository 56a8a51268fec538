from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from demos import demo, grids
from framework_adapter import registry

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "framework",
    "model",
    "nodes_source",
    "nodes_canonical",
    "nodes_fused",
    "nodes_emitted",
    "digest",
    "max_abs_error",
    "scaled_error",
    "convert_seconds",
    "files",
}


def script(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    return subprocess.run(
        [sys.executable, str(ROOT / "demos" / "demo.py"), *args],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_shows_examples_from_any_folder(tmp_path: Path) -> None:
    for cwd in (tmp_path, ROOT / "demos"):
        found = script("--help", cwd=cwd)
        assert found.returncode == 0
        assert "examples:" in found.stdout
        assert "exit codes:" in found.stdout


def test_wrong_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        demo.main(["--framework", "caffe"])
    assert caught.value.code == 2
    assert demo.main(["--framework", "pytorch", "--steps", "0", "--out", str(tmp_path)]) == 2
    assert "E100" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("framework", "module", "extra"),
    [
        ("pytorch", "torch", "torch"),
        ("tensorflow", "tensorflow", "tensorflow"),
        ("mindspore", "mindspore", "mindspore"),
    ],
)
def test_a_missing_framework_names_what_to_install(
    framework: str,
    module: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what an absent package looks like to import
    code = demo.main(["--framework", framework, "--out", str(tmp_path / "out"), "--json"])
    told = capsys.readouterr()
    assert code == 5
    assert "E901" in told.err
    assert f"framework-adapter[{extra}]" in told.err
    assert "Traceback" not in told.err
    assert json.loads(told.out)["errors"][0]["code"] == "E901"
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "file").touch()
    assert demo.main(["--framework", "pytorch", "--out", str(tmp_path / "file" / "out")]) == 3
    assert "E502" in capsys.readouterr().err


@pytest.mark.parametrize("framework", demo.FRAMEWORKS)
def test_digits_from_end_to_end(framework: str, tmp_path: Path) -> None:
    for package in ("onnxruntime", "jinja2", registry.FRAMEWORKS[framework][2]):
        pytest.importorskip(package)
    args = ("--framework", framework, "--out", "out", "--json", "--steps", "3")
    found = script(*args, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    data = json.loads(found.stdout.splitlines()[-1])
    assert KEYS <= data.keys()
    assert data["verdict"] == "PASS"
    assert data["scaled_error"] <= 1e-5
    assert data["max_pixel_difference"] <= grids.PIXEL_LIMIT
    assert data["nodes_fused"] < data["nodes_source"]
    assert {"artifact", "program", "weights", "report"} <= data["files"].keys()
    for path in data["files"].values():
        assert (tmp_path / path).stat().st_size > 0
    from cir.serde import load

    assert len(load(tmp_path / data["files"]["program"]).graph.nodes) == data["nodes_fused"]


@pytest.mark.parametrize(("channels_last", "shape"), [(False, (6, 1, 8, 8)), (True, (6, 8, 8, 1))])
def test_networks_are_called_in_their_own_layout(
    channels_last: bool, shape: tuple[int, ...]
) -> None:
    def run(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        x, t, y = feeds
        assert x.flags.c_contiguous
        assert (x.shape, t.tolist(), y.tolist()) == (shape, [0, 1, 2, 3, 4, 5], [9] * 6)
        return [x * 2]

    x = np.random.default_rng(0).standard_normal((6, 1, 8, 8)).astype(np.float32)
    out = grids.denoiser(run, channels_last)(x, np.arange(6), np.full(6, 9))
    np.testing.assert_array_equal(out, x * 2)


def test_pixels_are_compared_on_the_grey_scale() -> None:
    a = np.zeros((1, 1, 2, 2), np.float32)
    assert grids.pixel_difference(a, a + 2 / 255) == pytest.approx(1 / 255)
    assert grids.pixel_difference(a + 1, a + 3) == 0  # both white
