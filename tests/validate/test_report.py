from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cir.diagnostics import pages
from cir.graph import Model
from cir.passes import Context, Record
from framework_adapter.emission import EmitResult
from framework_adapter.source import InputSpec, Ref, SourceGraph, SourceNode
from framework_adapter.validate import Report, compare, engine, validate_conversion
from framework_adapter.validate import conversion as conv
from framework_adapter.validate.latency import compare_latency
from framework_adapter.validate.metrics import FAIL, PASS

from .nets import W2, mlp, numpy_mlp, write_onnx

X = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
MAPPING = {"h": ("fc1",), "a": ("act",), "y": ("fc2",)}


def converted(model: Model, path: Path) -> tuple[Any, Any]:
    """A program and what a backend would say about the file at ``path``."""
    t = model.graph.types
    ops = ("aten.linear.default", "aten.relu.default", "aten.t.default", "aten.matmul.default")
    places = (("net.fc1", 10), ("net.act", 11), ("net.fc2", 12), ("net.fc2", 12))
    nodes = [
        SourceNode(op, (Ref("x"),), {}, (f"v{i}",), (), module, f"net.py:{line}")
        for i, (op, (module, line)) in enumerate(zip(ops, places))
    ]
    nodes.append(SourceNode("aten.dropout.default", (Ref("v3"),), {}, ("v4",)))
    source = SourceGraph(
        "pytorch",
        {"x": t["x"]},
        ("v4",),
        tuple(nodes),
        {},
        notes=("dropout is off in eval mode",),
        versions={"torch": "2.x"},
    )
    ctx = Context()
    ctx.trace.append(Record("canonicalise", "strategies", 5, 3, (("linear_from_matmul", 1),), 1.5))
    program = SimpleNamespace(
        source=source,
        lowered=model,
        model=model,
        specs=[InputSpec("x", "float32", t["x"].shape, X)],
        ctx=ctx,
        digest="ab" * 32,
        stats={"nodes_source": 5, "nodes_lowered": 5, "nodes_canonical": 3, "nodes_fused": 3},
        input_layout="source",
    )
    return program, EmitResult(path, (path,), 3, MAPPING)


def validated(tmp_path: Path, mode: str = "full", **wrong: Any) -> Report:
    pytest.importorskip("onnxruntime")
    path = write_onnx(tmp_path / "net.onnx", **wrong)
    program, emitted = converted(mlp("batch"), path)
    return validate_conversion(
        program,
        source_run=numpy_mlp,
        artifact_run=lambda feeds: engine.Session(path, threads=1).run(feeds),
        mode=mode,
        emitted=emitted,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv, "LATENCY_SECONDS", {"auto": 0.05, "full": 0.05})


def test_a_conversion_is_described_in_full(tmp_path: Path) -> None:
    report = validated(tmp_path)
    assert report.verdict == PASS
    assert report.localization is not None
    assert [n.name for n in report.localization.nodes] == ["h", "a", "y"]
    assert report.latency is not None
    assert report.latency.source_ms > 0
    assert [(g.source, g.op, g.emitted, g.strategies) for g in report.mapping] == [
        ("aten.linear.default", "linear", "Gemm", ()),
        ("aten.relu.default", "relu", "Relu", ()),
        ("aten.matmul.default, aten.t.default", "linear", "Gemm", ("linear_from_matmul",)),
    ]
    assert report.mapping[1].nodes[0].place == "net.py:11"
    assert report.absorbed == {"aten.dropout.default": 1}
    assert list(report.counts.items()) == [
        ("source", 5),
        ("lowered", 5),
        ("canonical", 3),
        ("fused", 3),
        ("emitted", 3),
    ]
    assert report.environment["torch"] == "2.x"
    assert "ONNX Runtime" in report.environment["Threads"]
    assert "given example" in report.inputs[0]


def test_json_form_is_strict_and_complete(tmp_path: Path) -> None:
    report = validated(tmp_path)
    data = json.loads(report.to_json())
    assert data["verdict"] == "PASS"
    assert data["latency"]["kind"] == "measured"
    assert data["outputs"][0]["total"]["scaled"] < 1e-5
    assert data["localization"]["aligned"] == 3
    assert data["trace"][0]["fired"] == {"linear_from_matmul": 1}
    assert data["mapping"][0]["count"] == 1


def test_html_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    path = validated(tmp_path).write_html(tmp_path / "deep" / "report.html")
    html = path.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=|https?:|url\(|<script|@import""", html)
    for text in ("PASS", "net.py:11", "linear_from_matmul", "Gemm", "measured", "noise floor"):
        assert text in html
    assert html.count("<circle") >= 3 * 5


def test_html_escapes_what_it_shows(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    report = compare(numpy_mlp, mlp(), numpy_mlp, [InputSpec("<b>&", "float32", (3, 8))])
    html = report.write_html(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;" in html
    assert "<b>&" not in html


def test_a_failure_names_the_first_bad_node(tmp_path: Path) -> None:
    report = validated(tmp_path, "auto", act="Sigmoid")  # auto localises failures of the artefact
    assert (report.verdict, report.fault) == (FAIL, "backend")
    assert "First seen at relu 'a' (net.py:11)" in report.headline
    (finding,) = report.findings()
    assert (finding.code, finding.where) == ("E601", "net.py:11")
    assert {"E601", "W601"} <= pages().keys()
    assert "First above its noise floor" in report.write_html(tmp_path / "r.html").read_text()
    assert json.loads(report.to_json())["diagnostics"][0]["code"] == "E601"


def test_auto_mode_measures_no_nodes_when_all_is_well(tmp_path: Path) -> None:
    report = validated(tmp_path, "auto", w2=W2)
    assert report.localization is None
    assert report.latency is not None


def test_layouts_at_the_edges_are_found() -> None:
    from cir.builder import Builder

    def graph(*shapes: tuple[int | str, ...]) -> Any:
        b = Builder()
        names = [b.input(f"x{i}", "float32", s) for i, s in enumerate(shapes)]
        return b.finish([b.emit("relu", [n])[0] for n in names])

    last, first = graph(("n", 8, 9, 3), (2, 4)), graph(("n", 3, 8, 9), (2, 4))
    found = conv.edges_between(last, first, "channels_first")
    assert found.inputs == ((0, 3, 1, 2), None)
    x = np.zeros((5, 8, 9, 3), np.float32)
    assert found.feeds([x, np.zeros((2, 4))])[0].shape == (5, 3, 8, 9)
    assert found.results([x.transpose(0, 3, 1, 2), np.zeros((2, 4))])[0].shape == x.shape
    assert conv.edges_between(last, last, "source").inputs == ()
    same = conv.edges_between(last, last, "channels_first")
    assert same.inputs == (None, None)


def test_latency_is_interleaved() -> None:
    calls: list[str] = []
    found = compare_latency(
        lambda: calls.append("s"), lambda: calls.append("a"), budget=0.0, threads="1", input="x"
    )
    assert "".join(calls) == "asa"
    assert found.rounds == 1
    assert found.as_dict()["kind"] == "measured"


def test_parts_of_a_decomposed_op_count_to_the_node_they_lead_to(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = write_onnx(tmp_path / "net.onnx")
    made = engine.emitted_ops(path, {"h": ("fc1",), "part": ("act",), "y": ("fc2",)}, {"h", "y"})
    assert made == {"h": ["Gemm"], "y": ["Relu", "Gemm"]}
