"""Lookup of frontends and backends, plugins included."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cir.diagnostics import CirError
from framework_adapter import registry


def plugin(monkeypatch, wanted: str, load) -> None:
    point = SimpleNamespace(name="paddle", value="paddle_room:IT", load=load)
    found = lambda group: [point] if group == wanted else []  # noqa: E731
    monkeypatch.setattr("importlib.metadata.entry_points", found)


def test_a_plugin_that_fails_to_load_is_named(monkeypatch) -> None:
    def fails():
        raise ImportError("No module named 'paddle'")

    plugin(monkeypatch, registry.FRONTEND_GROUP, fails)
    with pytest.raises(CirError) as e:
        registry.frontend("paddle")
    assert e.value.code == "E902" and e.value.exit_code == 5 and "paddle_room" in str(e.value)


def test_a_plugins_backend_is_found(monkeypatch) -> None:
    plugin(monkeypatch, registry.BACKEND_GROUP, lambda: "the backend")
    assert registry.backend("paddle") == "the backend"


def test_unknown_framework_and_model() -> None:
    for call in (lambda: registry.frontend("caffe"), lambda: registry.detect(3)):
        with pytest.raises(CirError) as e:
            call()
        assert e.value.code == "E104" and e.value.diagnostics[0].nearest


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(CirError) as e:
        registry.backend("tflite")
    assert e.value.code == "E503" and e.value.exit_code == 3
    assert all(t in e.value.diagnostics[0].nearest for t in registry.TARGETS)


@pytest.mark.parametrize("target", registry.TARGETS)
def test_backends_keep_the_protocol(target: str) -> None:
    found = registry.backend(target)
    assert found.name == target
    assert isinstance(found.folder, bool) and isinstance(found.runnable, bool)
    assert all(isinstance(doc, str) and doc for doc in found.options.values())


def test_notes_of_the_extraction_reach_the_result(tmp_path: Path) -> None:
    import torch

    from framework_adapter import convert

    class Net(torch.nn.Module):
        def forward(self, x):
            return torch.special.entr(x)  # no row of its own: PyTorch decomposes it

    x = np.linspace(0.1, 2, 6, dtype=np.float32).reshape(2, 3)
    out = tmp_path / "m.onnx"
    result = convert(Net().eval(), "onnx", out, inputs=(x,), validate=False)
    notes = [d for d in result.diagnostics if d.code == "N101"]
    assert notes and "entr" in notes[0].what
