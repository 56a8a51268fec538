"""Every op on every sample: MindSpore's code accepts the file, and read back it gives the reference's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir import spec
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Const, Model
from framework_adapter import emission
from framework_adapter.mindspore.lite import BACKEND, flat
from framework_adapter.mindspore.lite import emit as em
from tests.conformance import random_graphs
from tests.mindspore.lite.support import canonical, check, ops
from tests.onnx.support import program
from tests.onnx.test_emission import _other_dtype

FOLDER = Path(emission.__file__).parent
CASES = [(name, i) for name, s in spec.all_ops().items() for i in range(len(s.samples))]
#: Samples that the runtime has no kernel for, and why they are refused.
REFUSED = {
    ("bitwise_and", 0): "no row", ("bitwise_and", 1): "no row", ("bitwise_or", 0): "no row",
    ("bitwise_or", 1): "no row", ("bitwise_xor", 0): "no row", ("bitwise_xor", 1): "no row",
    ("bitwise_not", 1): "attributes or shapes", ("cast", 3): "attributes or shapes",
    ("conv", 5): "no row", ("conv_channels_last", 5): "no row", ("dequantize", 1): "attributes or shapes",
    ("matmul", 3): "no kernel for int64", ("max_pool", 1): "no row", ("max_pool", 2): "no row",
    ("max_pool_channels_last", 1): "no row", ("max_pool_channels_last", 2): "no row",
    ("pow", 1): "no kernel for int64", ("quantize", 0): "no row", ("quantize", 1): "no row",
    ("scatter_nd", 2): "attributes or shapes", ("einsum", 2): "no row",
}  # fmt: skip


@pytest.mark.parametrize(("op", "index"), CASES)
def test_sample(op: str, index: int, tmp_path: Path) -> None:
    """Emitted, checked by nnacl, read back, compared with the float64 reference; or refused with a reason."""
    model, feeds = program(op, spec.get(op).samples[index])
    if op == "einsum":  # which is products and sums by then
        model = canonical(model)
    if (op, index) in REFUSED:
        with pytest.raises(CirError, match=REFUSED[op, index]) as info:
            BACKEND.emit(model, tmp_path / "m.ms")
        assert info.value.code == "E501" and not list(tmp_path.iterdir())
        return
    check(model, feeds, tmp_path / "m.ms")


def _constants(op: str, index: int) -> tuple[Model, list[np.ndarray]]:
    """A sample with all operands but the first constant, as they are in a network."""
    model, feeds = program(op, spec.get(op).samples[index])
    g = model.graph
    consts = {n: Const.of(f) for n, f in zip(g.inputs[1:], feeds[1:])}
    graph = g.with_(inputs=g.inputs[:1], consts={**g.consts, **consts})
    return model.with_graph(graph), feeds[:1]


LAYERS = ("conv", "conv_transpose", "linear", "layer_norm", "group_norm", "group_norm_silu", "rms_norm",
          "batch_norm", "lstm", "gather", "prelu", "where", "add", "matmul")  # fmt: skip


@pytest.mark.parametrize(
    ("op", "index"),
    [(op, i) for op in LAYERS for i in range(len(spec.get(op).samples)) if (op, i) not in REFUSED],
)
def test_constant_weights(op: str, index: int, tmp_path: Path) -> None:
    """Weights are turned when the file is written: no transpose of a constant is left in it."""
    model, feeds = _constants(op, index)
    check(model, feeds, tmp_path / "m.ms")
    tables = flat.unpack((tmp_path / "m.ms").read_bytes())
    for n in tables["nodes"]:
        if n["primitive"]["value"][0] == "Transpose":
            assert tables["allTensors"][int(n["inputIndex"][0])]["nodeType"] != 0


def test_table_is_well_formed() -> None:
    """Rows are checked in full, fit the schema, and use ops that the kernel table and the schema have."""
    import jsonschema

    em.table().check()
    schema = json.loads((FOLDER / "emission.schema.json").read_text())
    for path in sorted((FOLDER / "mindspore" / "lite" / "emission").glob("*.json")):
        jsonschema.validate(json.loads(path.read_text()), schema)
    assert set(em.kernels()) <= set(flat.schema().ops)


def test_every_emitted_op_can_be_read() -> None:
    """There is a reading row for each op that has a kernel."""
    from framework_adapter.mapping import load

    load("mindspore/lite").check()
    assert set(em.kernels()) <= set(load("mindspore/lite").rows)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int16", "int32", "uint32", "float16", "bfloat16", "float64"]
)
def test_dtypes(dtype: str, tmp_path: Path) -> None:
    """Each dtype of an op's domain runs, with casts where no kernel takes it, or is refused: never anything else."""
    ran = 0
    for op in spec.all_ops():
        sample = _other_dtype(op, dtype)
        if sample is None or op == "einsum":
            continue
        try:
            model, feeds = program(op, sample)
        except CirError:
            continue  # an attribute of the sample does not suit the dtype
        if op in ("floordiv", "mod"):
            feeds[1] = np.where(feeds[1] == 0, 1, feeds[1]).astype(feeds[1].dtype)
        try:
            check(model, feeds, tmp_path / "m.ms")
            ran += 1
        except CirError as exc:
            assert exc.code == "E501", f"{op}: {exc}"
    assert ran >= {"bool": 18, "int32": 40, "float16": 60}.get(dtype, 0)


# -- fusion of activations -------------------------------------------------------------------------
def _net(
    activation: str, *, keep: bool = False, op: str = "conv"
) -> tuple[Model, list[np.ndarray]]:
    rng = np.random.default_rng(0)
    b = Builder()
    feed = rng.standard_normal((2, 3, 6, 5)).astype(np.float32)
    x = b.input("x", "float32", feed.shape)
    w = b.const(Const.of(rng.standard_normal((4, 3, 3, 3)).astype(np.float32)), "w")
    attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    y = (
        b.emit("conv", [x, w], attrs, name="y")[0]
        if op == "conv"
        else b.emit(op, [x, x], name="y")[0]
    )
    limits = {"relu6": (0.0, 6.0), "clip": (0.0, 1.0)}
    if activation in limits:
        low, high = limits[activation]
        z = b.emit("clip", [y], {"min": low, "max": high}, name="z")[0]
    else:
        z = b.emit(activation, [y], name="z")[0]
    return Model(b.finish([z, b.emit("neg", [y], name="n")[0]] if keep else [z])), [feed]


@pytest.mark.parametrize("op", ["conv", "add", "mul"])
@pytest.mark.parametrize(("activation", "fused"), [("relu", "RELU"), ("relu6", "RELU6")])
def test_activation_is_fused(activation: str, fused: str, op: str, tmp_path: Path) -> None:
    """An activation that alone reads a result is part of its node, and comes back as a node."""
    model, feeds = _net(activation, op=op)
    check(model, feeds, tmp_path / "m.ms")
    found = [
        n["primitive"]["value"] for n in flat.unpack((tmp_path / "m.ms").read_bytes())["nodes"]
    ]
    assert [a["activation_type"] for name, a in found if name.endswith("Fusion")] == [fused]
    assert not [name for name, _ in found if name in ("Activation", "Clip", "Maximum")]


@pytest.mark.parametrize(
    ("activation", "keep", "node"),
    [("relu", True, "Activation"), ("sigmoid", False, "Activation"), ("clip", False, "Clip")],
)
def test_activation_is_not_fused(activation: str, keep: bool, node: str, tmp_path: Path) -> None:
    """With another reader of the result, or without a kernel that has it, it stays a node."""
    model, feeds = _net(activation, keep=keep)
    check(model, feeds, tmp_path / "m.ms")
    found = flat.unpack((tmp_path / "m.ms").read_bytes())["nodes"]
    attrs = [n["primitive"]["value"][1] for n in found]
    assert all(
        a.get("activation_type", "NO_ACTIVATION") in ("NO_ACTIVATION", "SIGMOID", "RELU")
        for a in attrs
    )
    assert [n["primitive"]["value"][0] for n in found].count(node) == 1


def test_one_node_each(tmp_path: Path) -> None:
    """Concepts with a kernel of their own are one node."""
    want = {
        "gelu": ["Activation"], "softmax": ["Softmax"], "linear": ["MatMulFusion"], "mean": ["ReduceFusion"],
        "layer_norm": ["LayerNormFusion"], "clip": ["Clip"], "where": ["Where"], "cumsum": ["CumSum"],
    }  # fmt: skip
    for op, expected in want.items():
        model, _ = program(op, spec.get(op).samples[0])
        BACKEND.emit(model, tmp_path / "m.ms")
        assert ops(tmp_path / "m.ms") == expected, op


def test_attention_takes_in_transposes(tmp_path: Path) -> None:
    """The transpose of keys is a flag of the product."""
    model, feeds = program(
        "scaled_dot_product_attention", spec.get("scaled_dot_product_attention").samples[0]
    )
    check(model, feeds, tmp_path / "m.ms")
    assert ops(tmp_path / "m.ms") == ["MatMulFusion", "MulFusion", "Softmax", "MatMulFusion"]


# -- odd graphs ------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(60))
def test_random_graph(seed: int, tmp_path: Path) -> None:
    """Views on views, axes of size 1, images regrouped: formats and ranks are what MindSpore infers."""
    graph = random_graphs.Maker(seed).graph()
    rng = np.random.default_rng(seed)
    feeds = [rng.standard_normal(graph.types[n].shape).astype(np.float32) for n in graph.inputs]
    check(canonical(Model(graph)), feeds, tmp_path / "m.ms")


@pytest.mark.parametrize(("shape", "axis"), [((2, "n", 2, 3, 4), -1), (("n", 3, 2, 2, 1, 2), -3)])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_of_many_axes(shape: Any, axis: int, affine: bool, tmp_path: Path) -> None:
    """The kernel takes four: more are merged."""
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.input("x", "float32", shape)
    parts = [b.const(Const.of(rng.standard_normal(shape[axis:]).astype(np.float32))) for _ in "ab"]
    y = b.emit("layer_norm", [x, *(parts if affine else ())], {"axis": axis, "epsilon": 1e-5})[0]
    feed = rng.standard_normal([d if isinstance(d, int) else 3 for d in shape]).astype(np.float32)
    check(Model(b.finish([y])), [feed], tmp_path / "m.ms")
    assert ops(tmp_path / "m.ms").count("Reshape") == 2


# -- errors ----------------------------------------------------------------------------------------
def test_all_unsupported_ops_at_once(tmp_path: Path) -> None:
    """E501 names each op with its places; nothing is written."""
    b = Builder()
    x = b.input("x", "float64", ["n", 4])
    c = b.emit("erf", [b.emit("erf", [x], name="first")[0]], name="second")[0]
    y = b.emit("tan", [c], name="third")[0]
    with pytest.raises(CirError) as info:
        BACKEND.emit(Model(b.finish([y])), tmp_path / "m.ms")
    found = info.value.diagnostics
    assert {f.code for f in found} == {"E501"} and len(found) == 4  # two ops, the input, the output
    assert "erf (×2)" in found[0].what and "first, second" in found[0].where
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64"])
def test_interface_dtypes(dtype: str, tmp_path: Path) -> None:
    """An input of a dtype that a file cannot hold is refused."""
    b = Builder()
    y = b.emit("identity", [b.input("x", dtype, [2])])[0]
    with pytest.raises(CirError) as info:
        BACKEND.emit(Model(b.finish([y])), tmp_path / "m.ms")
    assert info.value.code == "E501" and f"the runtime has no {dtype}" in str(info.value)


def test_large_integers(tmp_path: Path) -> None:
    """Constants beyond int32, which the runtime computes with, are refused."""
    b = Builder()
    x = b.input("x", "int64", [2])
    big = b.const(np.array([3_000_000_000, 1]), "big")
    y = b.emit("add", [x, big])[0]
    with pytest.raises(CirError, match="beyond int32") as info:
        BACKEND.emit(Model(b.finish([y])), tmp_path / "m.ms")
    assert info.value.code == "E501" and not list(tmp_path.iterdir())


def test_dim_without_source(tmp_path: Path) -> None:
    """A symbol that no value has as a size cannot be computed."""
    b = Builder()
    x = b.input("x", "float32", [1, 4])
    y = b.emit("expand", [x], {"shape": ["n", 4]})[0]
    with pytest.raises(CirError, match="symbolic dim n") as info:
        BACKEND.emit(Model(b.finish([y])), tmp_path / "m.ms")
    assert info.value.code == "E501"


@pytest.mark.parametrize(
    "options", [{"weights": "int8"}, {"runtime": "latest"}, {"runtime": "10.0"}]
)
def test_wrong_options(options: dict[str, Any], tmp_path: Path) -> None:
    """Values that an option does not take (E503)."""
    model, _ = program("relu", spec.get("relu").samples[0])
    with pytest.raises(CirError) as info:
        BACKEND.emit(model, tmp_path / "m.ms", **options)
    assert info.value.code == "E503" and not list(tmp_path.iterdir())
