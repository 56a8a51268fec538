"""Reading ONNX: what was emitted comes back; hostile and broken files are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir import interpret, spec
from cir.diagnostics import CirError
from cir.graph import Model
from cir.passes import decompose
from framework_adapter import samples
from framework_adapter.lowering import lower
from framework_adapter.mapping import load
from framework_adapter.onnx import FRONTEND
from framework_adapter.onnx import emit as em
from framework_adapter.onnx.extract import extract
from framework_adapter.source import InputSpec
from tests.onnx import test_attention as att
from tests.onnx import test_control as ctl
from tests.onnx.support import program
from tests.onnx.test_file import _mlp

TABLE = load("onnx")


def read(path: Path, **options: Any) -> Model:
    """A file as an uncanonicalised program."""
    return lower(extract(path, **options), TABLE)


def compare(model: Model, feeds: list[np.ndarray], path: Path, **options: Any) -> Model:
    """Emit, read back, interpret both; returns what was read."""
    em.emit(model, path, **options)
    back = read(path)
    want, got = interpret.run(model, feeds), interpret.run(back, feeds)
    for a, b in zip(model.graph.outputs, back.graph.outputs):
        assert model.graph.types[a].dtype == back.graph.types[b].dtype
        err = samples.scaled_error(np.asarray(got[b], np.float64), np.asarray(want[a], np.float64))
        assert err <= 1e-5, f"{a}: {err:.2e}"
    return back


@pytest.mark.parametrize("op", sorted(spec.all_ops()))
def test_emit_then_read(op: str, tmp_path: Path) -> None:
    """Each op's samples survive the way out and back."""
    for sample in spec.get(op).samples:
        model, feeds = program(op, sample)
        model = model.with_graph(decompose(model.graph, em.legal))
        compare(model, feeds, tmp_path / "m.onnx")


#: Ops that come back as themselves, in one node.
SAME = [
    "gelu", "swish", "softmax", "layer_norm", "rms_norm", "batch_norm", "conv", "conv_transpose", "max_pool",
    "avg_pool", "resize", "matmul", "concat", "split", "slice", "gather", "transpose", "reshape", "pad",
    "scaled_dot_product_attention", "quantize", "dequantize", "topk", "cumsum", "logsumexp", "where", "clip",
]  # fmt: skip


@pytest.mark.parametrize("op", SAME)
def test_read_as_the_same_op(op: str, tmp_path: Path) -> None:
    """One node out, one node in, equal attributes."""
    model, feeds = program(op, spec.get(op).samples[0])
    back = compare(model, feeds, tmp_path / "m.onnx")
    assert [n.op for n in back.graph.nodes] == [op]
    assert dict(back.graph.nodes[0].attrs) == dict(model.graph.nodes[0].attrs)


def test_attention_with_heads(tmp_path: Path) -> None:
    """MultiHeadAttention reads as the transposes it took in."""
    model, feeds = att._block(att.MASKS["B1ST"], constant=False)
    back = compare(model, feeds, tmp_path / "m.onnx")
    assert sorted(n.op for n in back.graph.nodes) == sorted(n.op for n in model.graph.nodes)


def test_cond_and_loops(tmp_path: Path) -> None:
    """If and Loop get isolated regions again; nested ones too."""
    for sign in (1, -1):
        back = compare(ctl._cond(), [np.full((2, 3), sign * 0.5, np.float32)], tmp_path / "m.onnx")
        assert "cond" in [n.op for n in back.graph.nodes]
    for first in (0, 9):
        feeds = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(3, np.float32)]
        back = compare(ctl._loop(first), feeds, tmp_path / "m.onnx")
        assert "while_loop" in [n.op for n in back.graph.nodes]


@pytest.mark.parametrize("limited", [True, False])
def test_loop_with_counter(limited: bool, tmp_path: Path) -> None:
    """A Loop that reads its turn number and, or, has a trip count; the body reads outer values."""
    from onnx import TensorProto, parser

    text = f"""
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[2] x, int64 n) => (float[2] y) <bool yes = {{1}}, float half = {{0.5}}> {{
      y = Loop <body = b (int64 i, bool go, float[2] s) => (bool more, float[2] t) <int64 five = {{5}}> {{
          f = Cast <to = {TensorProto.FLOAT}> (i)
          u = Mul (s, half)
          v = Add (u, f)
          t = Add (v, x)
          more = Less (i, five)
      }}> ({"n" if limited else ""}, yes, x)
    }}"""
    model = parser.parse_model(text)
    feeds = [np.ones(2, np.float32), np.int64(3)]
    want = FRONTEND.run(model, feeds)[0]
    program_ = lower(extract(model), TABLE)
    got = interpret.run(program_, feeds)
    np.testing.assert_allclose(got[program_.graph.outputs[0]], want, rtol=1e-6)
    em.emit(program_, tmp_path / "m.onnx")
    np.testing.assert_allclose(em.run(tmp_path / "m.onnx", feeds, threads=1)[0], want, rtol=1e-6)


def test_scan_outputs_are_refused() -> None:
    """A Loop that stacks values is an unsupported operator (E201), not a wrong result."""
    from onnx import parser

    model = parser.parse_model("""
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[2] x, int64 n) => (float[2] y, float[k, 2] z) <bool yes = {1}> {
      y, z = Loop <body = b (int64 i, bool go, float[2] s) => (bool more, float[2] t, float[2] r) {
          more = Identity (go)
          t = Add (s, s)
          r = Identity (t)
      }> (n, yes, x)
    }""")
    with pytest.raises(CirError, match="scan outputs") as info:
        lower(extract(model), TABLE)
    assert info.value.code == "E201"


def test_state_and_symbols(tmp_path: Path) -> None:
    """State pairs, symbolic dims and names come back."""
    model, _ = _mlp()
    em.emit(model, tmp_path / "m.onnx")
    source = extract(tmp_path / "m.onnx")
    assert source.inputs["x"].shape == ("batch", 16) and source.outputs == ("y",)
    assert source.versions["onnx_opset"] == "20"
    back = lower(source, TABLE)
    assert [n.op for n in back.graph.nodes] == ["linear", "gelu"] and back.graph.outputs == ("y",)


def test_shapes_given_by_the_user(tmp_path: Path) -> None:
    """InputSpecs fix symbolic dims; wrong names and dtypes are E103."""
    model, _ = _mlp()
    path = tmp_path / "m.onnx"
    em.emit(model, path)
    fixed = read(path, inputs=[InputSpec("x", "float32", (4, 16))])
    assert fixed.graph.types["y"].shape == (4, 32)
    for spec_ in (InputSpec("z", "float32", (4, 16)), InputSpec("x", "int64", (4, 16))):
        with pytest.raises(CirError) as info:
            extract(path, [spec_])
        assert info.value.code == "E103"
    inner = read(path, outputs=["fc"])
    assert [n.op for n in inner.graph.nodes] == ["linear"]
    with pytest.raises(CirError) as info:
        extract(path, outputs=["nope"])
    assert info.value.code == "E103"


def test_dims_without_names() -> None:
    """Unnamed and oddly named dims become symbols; no shape at all needs inputs=."""
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, "batch size", 3])
    y = helper.make_empty_tensor_value_info("y")
    node = helper.make_node("Relu", ["x"], ["y"])
    model = helper.make_model(
        helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 20)]
    )
    assert extract(model).inputs["x"].shape == ("x_0", "batch_size", 3)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(CirError) as info:
        extract(model)
    assert info.value.code == "E103"
    given = [InputSpec("x", "float32", (2, 3))]
    assert lower(extract(model, given), TABLE).graph.types["y"].shape == (2, 3)


def test_local_functions_are_inlined() -> None:
    """A model-local function is expanded before reading."""
    from onnx import parser

    model = parser.parse_model("""
    <ir_version: 10, opset_import: ["" : 20, "my" : 1]>
    g (float[3] x) => (float[3] y) { y = my.twice (x) }
    <opset_import: ["" : 20], domain: "my">
    twice (a) => (b) { b = Add (a, a) }""")
    assert [n.op for n in extract(model).nodes] == ["Add"]


# -- broken and hostile files ----------------------------------------------------------------------
def test_missing_and_corrupted(tmp_path: Path) -> None:
    """No file is E101; anything that is no model is E105."""
    with pytest.raises(CirError) as info:
        extract(tmp_path / "none.onnx")
    assert info.value.code == "E101"
    model, _ = _mlp()
    path = tmp_path / "m.onnx"
    em.emit(model, path)
    data = path.read_bytes()
    for broken in (b"", b"\x00" * 64, b"hello world", data[: len(data) // 2], os.urandom(200)):
        path.write_bytes(broken)
        with pytest.raises(CirError) as info:
            extract(path)
        assert info.value.code == "E105"


def _broken(change: Any) -> Any:
    import onnx

    def run(tmp_path: Path) -> None:
        model, _ = _mlp()
        em.emit(model, tmp_path / "m.onnx")
        proto = onnx.load(tmp_path / "m.onnx")
        change(proto)
        with pytest.raises(CirError) as info:
            extract(proto)
        assert info.value.code == "E105", info.value

    return run


def _set(path: str, value: Any) -> Any:
    def change(proto: Any) -> None:
        target = proto
        *head, last = path.split(".")
        for part in head:
            target = target[int(part)] if part.isdigit() else getattr(target, part)
        setattr(target, last, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("opset_import.0.version", 7),
        _set("graph.initializer.0.raw_data", b"123"),
        _set("graph.initializer.0.data_type", 8),
        lambda p: p.graph.initializer[0].dims.append(-4),
        lambda p: p.graph.initializer[0].dims.append(1 << 40),
        lambda p: p.graph.node.insert(0, p.graph.node[1]),
        lambda p: p.graph.node.append(p.graph.node[0]),
        lambda p: p.graph.node[0].attribute.add(name="q", type=13),
        _set("graph.output.0.name", "nothing"),
        _set("graph.input.0.type.tensor_type.elem_type", 8),
    ],
)
def test_malformed_messages(change: Any, tmp_path: Path) -> None:
    """Every broken claim of a message is E105, never another exception."""
    _broken(change)(tmp_path)


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "/etc/passwd", "a/../../secret.bin", "..\\secret.bin", "C:/secret.bin", ""],
)
def test_external_data_stays_inside(location: str, tmp_path: Path) -> None:
    """Places outside the model's folder are refused before anything is opened."""
    import onnx

    (tmp_path / "secret.bin").write_bytes(b"\0" * 4096)
    folder = tmp_path / "model"
    folder.mkdir()
    model, _ = _mlp()
    em.emit(model, folder / "m.onnx", external_limit=1000)
    proto = onnx.load(folder / "m.onnx", load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = location
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(CirError) as info:
        extract(folder / "m.onnx")
    assert info.value.code == "E105"


def test_external_data_links_and_lengths(tmp_path: Path) -> None:
    """A link in place of the data file, and a data file that is too short, are refused."""
    model, feeds = _mlp()
    path = tmp_path / "model" / "m.onnx"
    em.emit(model, path, external_limit=1000)
    want = interpret.run(model, feeds)["y"]
    np.testing.assert_allclose(interpret.run(read(path), feeds)["y"], want)
    data = path.with_name("m.onnx.data")
    outside = tmp_path / "outside.data"
    outside.write_bytes(data.read_bytes())
    data.write_bytes(b"short")
    with pytest.raises(CirError, match="which has 5"):
        extract(path)
    data.unlink()
    data.symlink_to(outside)
    with pytest.raises(CirError, match="link"):
        extract(path)
    data.unlink()
    with pytest.raises(CirError) as info:
        extract(path)
    assert info.value.code == "E105"


def test_accepts() -> None:
    """Paths and ModelProto objects, without importing anything."""
    import onnx

    assert FRONTEND.accepts("a.onnx") and FRONTEND.accepts(Path("b.onnx"))
    assert FRONTEND.accepts(onnx.ModelProto())
    assert not FRONTEND.accepts("a.pt2") and not FRONTEND.accepts(object())
