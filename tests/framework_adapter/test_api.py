"""``convert`` as its users call it: what it takes, what it gives, in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.diagnostics import CirError
from framework_adapter import InputSpec, Result, convert
from framework_adapter.onnx import BACKEND

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


class Pair(torch.nn.Module):
    """(a, b) -> {"total": ..., "parts": (..., ...)}."""

    def forward(self, a, b):
        return {"total": a.sum(-1) + b, "parts": (a * 2, b - 1)}


class Twice(torch.nn.Module):
    """Something to tidy up."""

    def forward(self, x):
        return x.transpose(0, 1).transpose(0, 1)


def small() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.LayerNorm(8), Twice()
    ).eval()


def ends(path: Path) -> tuple[list[str], list[str]]:
    g = onnx.load(path).graph
    return [i.name for i in g.input], [o.name for o in g.output]


def ops(path: Path) -> list[str]:
    return [n.op_type for n in onnx.load(path).graph.node]


def test_result_says_what_happened(tmp_path: Path) -> None:
    out = tmp_path / "new" / "m.onnx"
    stages: list[str] = []
    r = convert(small(), "onnx", out, inputs=(X,), report=tmp_path / "r.html", progress=stages.append)
    assert isinstance(r, Result) and r.artifact == out and out.is_file()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["m.onnx", "new", "r.html"]
    assert r.report is not None and r.report.verdict == "PASS" and r.report.scaled_error <= 1e-5
    assert "PASS" in (tmp_path / "r.html").read_text()
    assert len(r.digest) == 64 and r.digest == r.report.digest
    assert r.report.target == "onnx" and r.report.framework == "pytorch"
    (written,) = r.report.artefacts
    assert (written.target, written.path, written.verdict) == ("onnx", str(out), "PASS")
    assert written.size == out.stat().st_size and written.checked_by == "ONNX Runtime"
    assert written.scaled_error == r.report.scaled_error and written.seconds > 0
    assert str(out) in (tmp_path / "r.html").read_text()
    counts = [r.stats[f"nodes_{s}"] for s in ("source", "lowered", "canonical", "fused", "emitted")]
    assert all(n > 0 for n in counts) and counts[-1] == len(ops(out))
    assert set(r.stats["mapping"]) == {n.name for n in r.model.graph.nodes}
    assert r.stats["convert_seconds"] > 0 and r.diagnostics == ()
    assert r.trace and r.report.trace == r.trace
    assert [s.split(":")[0] for s in stages][:5] == [
        "extract", "lower", "canonicalise and fuse", "emit", "validate",
    ]  # fmt: skip


SYMBOLIC = InputSpec(None, "float32", ("batch", 4))


@pytest.mark.parametrize(
    ("inputs", "more", "shape"),
    [
        ((X,), {}, [2, 4]),
        ([torch.from_numpy(X)], {}, [2, 4]),
        (torch.from_numpy(X), {}, [2, 4]),
        ({"input": X}, {}, [2, 4]),
        (InputSpec("input", "float32", (2, 4)), {}, [2, 4]),
        ((SYMBOLIC,), {}, ["batch", 4]),
        ({"input": SYMBOLIC}, {}, ["batch", 4]),
        ((X,), {"dynamic_shapes": [{0: "batch"}]}, ["batch", 4]),
        ({"input": X}, {"dynamic_shapes": {"input": {0: "batch"}}}, ["batch", 4]),
    ],
)
def test_forms_of_inputs(inputs: Any, more: dict[str, Any], shape: list[Any], tmp_path: Path) -> None:
    r = convert(small(), "onnx", tmp_path / "m.onnx", inputs=inputs, **more)
    assert r.report is not None and r.report.verdict == "PASS"
    (info,) = onnx.load(r.artifact).graph.input
    assert info.name == "input"
    dims = [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]
    assert dims == shape
    if "batch" in shape:
        assert BACKEND.run(r.artifact, [np.ones((5, 4), np.float32)])[0].shape == (5, 8)


def test_tensors_of_every_framework_are_examples() -> None:
    from framework_adapter.options import normalise_inputs

    tf, ms = pytest.importorskip("tensorflow"), pytest.importorskip("mindspore")
    given = (
        torch.nn.Parameter(torch.from_numpy(X)),
        torch.from_numpy(X).to(torch.bfloat16),
        tf.constant(X),
        tf.Variable(X),
        ms.Tensor(X),
        X.astype(np.float64),
        [[1.0, 2.0]],
        3,
    )
    specs, _ = normalise_inputs(given)
    assert specs is not None
    assert [s.dtype for s in specs] == [
        "float32", "bfloat16", "float32", "float32", "float32", "float64", "float32", "int64",
    ]  # fmt: skip
    assert all(type(s.example) is np.ndarray for s in specs)


def test_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    a, b = X, np.arange(2, dtype=np.float32)[:, None] * np.ones((1, 1), np.float32)
    want = [a.sum(-1) + b, a * 2, b - 1]
    for inputs in ((a, b), {"a": a, "b": b}, {"b": b, "a": a}):
        r = convert(Pair().eval(), "onnx", tmp_path / "m.onnx", inputs=inputs)
        names, results = ends(r.artifact)
        assert names == (list(inputs) if isinstance(inputs, dict) else ["a", "b"])
        assert len(results) == 3
        feeds = list(inputs.values()) if isinstance(inputs, dict) else inputs
        got = BACKEND.run(r.artifact, feeds)
        for g, w in zip(got, want):
            np.testing.assert_allclose(g, w, rtol=1e-6)


class Nested(torch.nn.Module):
    def forward(self, batch):
        return batch["ids"].float() * batch["scale"]


def test_examples_in_mappings_are_flattened(tmp_path: Path) -> None:
    batch = {"ids": np.array([1, 2]), "scale": np.float32([0.5, 2])}
    r = convert(Nested().eval(), "onnx", tmp_path / "m.onnx", inputs={"batch": batch})
    assert r.report is not None and r.report.verdict == "PASS"
    assert BACKEND.run(r.artifact, list(batch.values()))[0].tolist() == [0.5, 4]


def test_outputs_are_chosen_by_name(tmp_path: Path) -> None:
    b = np.ones((2, 1), np.float32)

    def run(names: list[str] | None) -> Result:
        r = convert(Pair().eval(), "onnx", tmp_path / "m.onnx", inputs=(X, b), outputs=names)
        assert r.report is not None and r.report.verdict == "PASS"
        return r

    names = ends(run(None).artifact)[1]
    r = run([names[2], names[0]])
    assert ends(r.artifact)[1] == [names[2], names[0]]
    last, first = BACKEND.run(r.artifact, [X, b])
    np.testing.assert_allclose(last, b - 1)
    np.testing.assert_allclose(first, X.sum(-1) + b, rtol=1e-6)


def test_equal_symbols_are_one_size(tmp_path: Path) -> None:
    model = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    q, kv = np.ones((2, 3, 8), np.float32), np.ones((2, 5, 8), np.float32)
    r = convert(
        model,
        "onnx",
        tmp_path / "m.onnx",
        inputs={"query": q, "key": kv, "value": kv},
        dynamic_shapes={
            "query": {0: "batch", 1: "to"},
            "key": {0: "batch", 1: "of"},
            "value": {0: "batch", 1: "of"},
        },
    )
    assert r.report is not None and r.report.verdict == "PASS"
    assert set(r.model.graph.symbols()) == {"batch", "to", "of"}
    q, kv = np.ones((7, 2, 8), np.float32), np.ones((7, 9, 8), np.float32)
    assert [y.shape for y in BACKEND.run(r.artifact, [q, kv, kv])] == [(7, 2, 8), (7, 2, 9)]


def test_a_recurrent_network_with_a_symbolic_batch(tmp_path: Path) -> None:
    model = torch.nn.LSTM(4, 5, batch_first=True).eval()
    x = np.ones((2, 3, 4), np.float32)
    r = convert(
        model, "onnx", tmp_path / "m.onnx", inputs=(x,), dynamic_shapes=[{0: "batch"}]
    )
    assert r.report is not None and r.report.verdict == "PASS"
    shapes = [y.shape for y in BACKEND.run(r.artifact, [np.ones((6, 3, 4), np.float32)])]
    assert shapes == [(6, 3, 5), (1, 6, 5), (1, 6, 5)]


# -- graph files -----------------------------------------------------------------------------------
@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    """y = p - q, z = p * q."""
    from onnx import TensorProto, helper

    f32, shape = TensorProto.FLOAT, ["n", 4]
    nodes = [helper.make_node("Sub", ["p", "q"], ["y"]), helper.make_node("Mul", ["p", "q"], ["z"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, f32, shape) for n in "pq"],
        [helper.make_tensor_value_info(n, f32, shape) for n in "yz"],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "in.onnx")
    return tmp_path / "in.onnx"


@pytest.mark.parametrize("kind", [str, Path])
def test_tensor_names_of_a_graph_file(kind: Any, graph_file: Path, tmp_path: Path) -> None:
    r = convert(
        kind(graph_file), "onnx", tmp_path / "out.onnx", inputs=["q:0", "p"], outputs=["z", "y"]
    )
    assert ends(r.artifact) == (["q", "p"], ["z", "y"])
    assert r.report is not None and r.report.verdict == "PASS"
    q, p = np.full((1, 4), 2, np.float32), np.full((1, 4), 5, np.float32)
    z, y = BACKEND.run(r.artifact, [q, p])
    assert (z == 10).all() and (y == 3).all()


def test_values_inside_a_graph_file(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Sigmoid()).eval()
    first = convert(model, "onnx", tmp_path / "in.onnx", inputs=(X,)).artifact
    inner = onnx.load(first).graph.node[0].output[0]
    r = convert(first, "onnx", tmp_path / "out.onnx", outputs=[inner])
    assert ops(r.artifact) == ["Relu"] and ends(r.artifact)[1] == [inner]
    assert r.report is None and [d.code for d in r.diagnostics] == ["W901"]


# -- options ---------------------------------------------------------------------------------------
def test_fusion_is_a_preset_or_ids(tmp_path: Path) -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3), torch.nn.GroupNorm(2, 8), torch.nn.SiLU()
    ).eval()
    x = np.ones((1, 4, 6, 6), np.float32)
    fired = {}
    for name, fusion in (("safe", "safe"), ("default", "default"), ("ids", ["group_norm_silu"])):
        r = convert(model, "onnx", tmp_path / "m.onnx", inputs=(x,), fusion=fusion)
        fired[name] = "group_norm_silu" in r.stats["strategies"]
        assert r.report is not None and r.report.verdict == "PASS"
    assert fired == {"safe": False, "default": True, "ids": True}


STRATEGY = {
    "id": "sqrt_of_square",
    "schema": 1,
    "stage": "canonicalise",
    "summary": "the square root of a square is the absolute value",
    "inputs": {"x": "float[*]"},
    "match": ["s = square(x) | x * x", "y = sqrt(s)"],
    "replace": ["y = abs(x)"],
    "numerics": "reassociate",
}


class Norm(torch.nn.Module):
    def forward(self, x):
        return torch.sqrt(x * x)


@pytest.mark.parametrize("folder", [False, True])
def test_strategies_are_files_or_folders(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "mine" / "sqrt_of_square.json"
    path.parent.mkdir()
    path.write_text(json.dumps(STRATEGY))
    given = path.parent if folder else path
    r = convert(Norm().eval(), "onnx", tmp_path / "m.onnx", inputs=(X,), strategies=[given])
    assert r.stats["strategies"] == {"sqrt_of_square": 1}
    assert ops(r.artifact) == ["Abs"]


ROW = {
    "op": "aten.hardshrink.default",
    "args": "self, lambd=0.5",
    "emit": "where(greater(abs(self), lambd), self, 0.0)",
    "samples": [["float32[2,3]"], ["float32[4]", 0.1]],
}


def table(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"framework": "pytorch", "family": "mine", "rows": list(rows)}))
    return path


def test_rows_of_the_user(tmp_path: Path) -> None:
    model = torch.nn.Hardshrink().eval()
    mine = table(tmp_path / "mine.json", ROW)
    row = {k: v for k, v in ROW.items() if k not in ("op", "samples")}

    def function(c: Any, node: Any, x: Any, lambd: float = 0.5) -> Any:
        return c.op("where", c.op("greater", c.op("abs", x), lambd), x, 0.0)

    for more in (
        {"mappings": [mine]},
        {"mappings": [str(mine)]},
        {"custom_ops_mapping": {ROW["op"]: row}},
        {"custom_ops_mapping": {ROW["op"]: function}},
    ):
        r = convert(model, "onnx", tmp_path / "m.onnx", inputs=(X,), **more)
        assert r.report is not None and r.report.verdict == "PASS"


def test_validate(tmp_path: Path) -> None:
    def run(validate: Any) -> Result:
        return convert(
            small(), "onnx", tmp_path / "m.onnx", inputs=(SYMBOLIC,), validate=validate
        )

    assert run(False).report is None
    full = run("full").report
    assert full is not None and full.mode == "full" and full.localization is not None
    assert len({c.run for c in full.outputs}) > 3  # seeds and sizes


def test_opset_and_profile(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU()).eval()

    def run(**options: Any) -> Any:
        return onnx.load(convert(model, "onnx", tmp_path / "m.onnx", inputs=(X,), **options).artifact)

    assert {o.domain: o.version for o in run(opset=20).opset_import}[""] == 20
    assert all(not o.domain for o in run(profile="portable").opset_import)


def test_target_cir_is_validated_too(tmp_path: Path) -> None:
    import cir

    r = convert(
        small(), "cir", tmp_path / "m.cir.json", inputs=(X,), report=tmp_path / "r.html"
    )
    assert r.report is not None and r.report.verdict == "PASS" and r.report.target == "cir"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.cir.json", "m.safetensors", "r.html"]
    again = cir.load(tmp_path / "m.cir.json")
    assert cir.structure_digest(again).hex == r.digest


def test_a_warning_is_among_the_diagnostics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from framework_adapter.onnx import OnnxBackend

    monkeypatch.setattr(OnnxBackend, "runnable", False)
    r = convert(small(), "onnx", tmp_path / "m.onnx", inputs=(X,))
    assert r.report is None and [d.code for d in r.diagnostics] == ["W901"]
    assert "framework-adapter[onnx]" in r.diagnostics[0].fix
    for more in ({"validate": "full"}, {"report": tmp_path / "r.html"}):
        with pytest.raises(CirError) as e:
            convert(small(), "onnx", tmp_path / "x.onnx", inputs=(X,), **more)
        assert e.value.code == "E901"


# -- layouts ---------------------------------------------------------------------------------------
def test_channels_first_edges_of_a_keras_model(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 8, 3), name="image")
    h = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    model = keras.Model(x, [h, keras.layers.GlobalAveragePooling2D()(h)])
    image = np.random.default_rng(0).standard_normal((2, 6, 8, 3)).astype(np.float32)

    def run(layout: str) -> Result:
        return convert(
            model, "onnx", tmp_path / f"{layout}.onnx", inputs=(image,), input_layout=layout
        )

    source, first = run("source"), run("channels_first")
    assert source.report is not None and source.report.verdict == "PASS"
    assert first.report is not None and first.report.verdict == "PASS"
    assert source.digest == first.digest
    shapes = [
        [tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in (*g.input, *g.output)]
        for g in (onnx.load(r.artifact).graph for r in (source, first))
    ]
    assert shapes[0] == [(2, 6, 8, 3), (2, 6, 8, 4), (2, 4)]
    assert shapes[1] == [(2, 3, 6, 8), (2, 4, 6, 8), (2, 4)]
    assert ends(source.artifact) == ends(first.artifact)
    assert "Transpose" not in ops(first.artifact)
    assert sorted(o for o in ops(source.artifact) if o != "Transpose") == sorted(ops(first.artifact))
    want = BACKEND.run(source.artifact, [image])
    got = BACKEND.run(first.artifact, [image.transpose(0, 3, 1, 2)])
    np.testing.assert_allclose(got[0].transpose(0, 2, 3, 1), want[0], atol=1e-5)
    np.testing.assert_allclose(got[1], want[1], atol=1e-5)
