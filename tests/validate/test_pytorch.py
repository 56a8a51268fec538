"""The report of real conversions of a small PyTorch network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.diagnostics import CirError
from framework_adapter import convert
from framework_adapter.validate import conversion as conv
from framework_adapter.validate import runner
from framework_adapter.validate.metrics import FAIL, PASS

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("jinja2")


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.GroupNorm(2, 8)
        self.fc = torch.nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        h = torch.nn.functional.gelu(self.norm(self.conv(x)))
        logits = self.fc(h.mean((2, 3)))
        return logits, logits.argmax(-1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv, "LATENCY_SECONDS", {"auto": 0.05, "full": 0.05})


def run(tmp_path: Path, **options: Any) -> Any:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return convert(
        Net().eval(),
        "onnx",
        tmp_path / "net.onnx",
        inputs=(x,),
        dynamic_shapes={0: {0: "batch"}},
        report=tmp_path / "report.html",
        **options,
    )


def test_full_report(tmp_path: Path) -> None:
    report = run(tmp_path, validate="full").report
    assert report.verdict == PASS
    assert report.scaled_error <= 1e-5
    runs = list(dict.fromkeys(c.run for c in report.outputs))
    assert runs == ["seed 0", "seed 1", "seed 2", "seed 0, batch=5", "seed 0, batch=1"]
    assert report.outputs[1].source.exact  # the index of the largest logit
    assert report.localization is not None
    assert report.localization.first is None
    assert len(report.localization.nodes) >= 5
    # The mean became one ONNX node with the reshape after it, so that reshape has no operand left.
    alone = [n for n in report.localization.nodes if n.op != "reshape"]
    assert all(n.isolated is not None for n in alone)
    mapped = {g.op: g for g in report.mapping}
    assert mapped["conv"].emitted == "Conv"
    assert "aten.conv2d.default" in mapped["conv"].source
    assert mapped["conv"].nodes[0].module == "conv"
    assert report.counts["source"] >= 6
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_a_network_too_large_for_numpy_is_judged_by_the_plain_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FLOAT64_GFLOP", 0.0)
    monkeypatch.setattr(runner, "NUMPY_GFLOP", 0.0)
    report = run(tmp_path).report
    assert "op by op" in report.reference
    assert report.verdict == PASS


def test_a_wrong_artefact_is_reported_but_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from framework_adapter.onnx import BACKEND

    right = type(BACKEND).run

    def wrong(self: Any, path: Path, feeds: Any, **options: Any) -> list[np.ndarray]:
        return [y * 2 for y in right(self, path, feeds, **options)]

    monkeypatch.setattr(type(BACKEND), "run", wrong)
    with pytest.raises(CirError) as caught:
        run(tmp_path)
    assert caught.value.code == "E601"
    assert "backend" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html"]
    assert FAIL in (tmp_path / "report.html").read_text(encoding="utf-8")
