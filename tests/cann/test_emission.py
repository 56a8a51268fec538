"""Every op that GE takes, on every sample: written, fitted to the official prototypes, read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cir import dtype as dt
from cir import interpret, spec
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Model
from cir.passes import decompose
from framework_adapter import emission, samples
from framework_adapter.cann import emit as em
from framework_adapter.cann import signatures, soc
from framework_adapter.emission import calls
from tests.cann import official
from tests.cann.support import BACKENDS, read, write
from tests.onnx.support import program
from tests.onnx.test_emission import _other_dtype

FOLDER = Path(emission.__file__).parent
CASES = [(name, i) for name, s in spec.all_ops().items() for i in range(len(s.samples))]
#: Samples that GE has no exact operator for -> why they are refused.
REFUSED = {
    ("gather_nd", 1): "its attributes or shapes",  # batch axes
    ("matmul", 3): "no kernel for int64",
    ("max_pool", 1): "its attributes or shapes",  # dilated windows
    ("max_pool_channels_last", 1): "its attributes or shapes",
}
#: One of each family, and the two that lack most and least.
CHIPS = [
    n.replace("*", "1")
    for n in ("Ascend310", "Ascend310P3", "Ascend310B1", "Ascend910A", "Ascend950*")
]


def check(model: Model, feeds: list[np.ndarray], path: Path, tolerance: float = 1e-6) -> None:
    """The file fits the prototypes; read back, it gives the reference's results."""
    found = official.check(path)
    assert found["problems"] == [] and found["nodes_valid"] == found["nodes_checked"] > 0
    back = read(path)
    assert back.graph.outputs == model.graph.outputs
    want = interpret.run(model, feeds, compute="float64")
    for name, got in zip(model.graph.outputs, samples.interpret(back, feeds), strict=True):
        t = model.graph.types[name]
        assert back.graph.types[name] == t and got.dtype == dt.to_numpy(t.dtype)
        w = np.asarray(want[name])
        if got.dtype.kind in "iub":
            np.testing.assert_array_equal(got, w.astype(got.dtype))
        else:
            assert samples.scaled_error(got, w) <= tolerance, name


@pytest.mark.parametrize(("op", "index"), CASES)
def test_sample(op: str, index: int, tmp_path: Path) -> None:
    """Each op as AIR and as OM, for no chip in particular."""
    model, feeds = program(op, spec.get(op).samples[index])
    for target in BACKENDS:
        if (op, index) in REFUSED:
            with pytest.raises(CirError, match=REFUSED[op, index]) as info:
                write(model, tmp_path, target)
            assert info.value.code == "E501" and not list(tmp_path.iterdir())
        else:
            check(model, feeds, write(model, tmp_path, target), 2e-3 if op == "cast" else 1e-6)


@pytest.mark.parametrize("chip", CHIPS)
def test_chips(chip: str, tmp_path: Path) -> None:
    """On every family, what it lacks is decomposed or refused, and never written."""
    lacks = soc.find(chip)
    for op, s in spec.all_ops().items():
        for index, sample in enumerate(s.samples[:2]):
            if (op, index) in REFUSED:
                continue
            model, feeds = program(op, sample)
            path = write(model, tmp_path, soc=chip)
            check(model, feeds, path, 2e-3 if op == "cast" else 1e-5)
            used = {node.op for node in em.program(model, chip).nodes}
            assert not used & lacks.lacks_ops


def test_bfloat16_is_refused_where_there_is_none(tmp_path: Path) -> None:
    """A dtype that a chip has no arithmetic for is refused with its places (E501)."""
    b = Builder()
    x = b.input("x", "bfloat16", [2])
    model = Model(b.finish([b.emit("relu", [x], name="y")[0]]))
    with pytest.raises(CirError, match="Ascend310P3 has no bfloat16") as info:
        write(model, tmp_path, soc="Ascend310P3")
    assert info.value.code == "E501" and not list(tmp_path.iterdir())
    write(model, tmp_path, soc="Ascend910B1")


@pytest.mark.parametrize("name", ["Ascend310P9", "ascend910b1", "Ascend", "x" * 500])
def test_unknown_chip(name: str, tmp_path: Path) -> None:
    """An unknown chip is named with those that come near (E503)."""
    model, _ = program("relu", spec.get("relu").samples[0])
    for target in BACKENDS:
        with pytest.raises(CirError, match="unknown SoC") as info:
            write(model, tmp_path, target, soc=name)
        assert info.value.code == "E503" and "Ascend" in info.value.diagnostics[0].nearest
    assert not list(tmp_path.iterdir())


def test_known_chips() -> None:
    """Names of all generations are taken, open families by their beginning."""
    for name in ("Ascend310", "Ascend310P3", "Ascend910B4-1", "Ascend910_9391", "Ascend950PR_9599"):
        assert soc.find(name).name == name
    assert soc.find("Ascend310P3").lacks_dtypes == {"bfloat16"}
    assert "Swish" in soc.find("Ascend310P3").lacks_ops
    assert soc.find(None).family == soc.DEFAULT_FAMILY


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int32", "float16", "bfloat16", "float64"]
)
def test_dtypes(dtype: str, tmp_path: Path) -> None:
    """Each dtype of an op's domain is written, with casts where GE wants them, or refused."""
    written = 0
    for op in spec.all_ops():
        sample = _other_dtype(op, dtype)
        if sample is None or op.endswith("channels_last"):
            continue
        try:
            model, feeds = program(op, sample)
        except CirError:
            continue  # an attribute of the sample does not suit the dtype
        if op in ("floordiv", "mod"):
            feeds[1] = np.where(feeds[1] == 0, 1, feeds[1]).astype(feeds[1].dtype)
        try:
            path = write(model, tmp_path)
        except CirError as exc:
            assert exc.code == "E501" and dtype in ("float64", "int8", "uint8", "int32"), op
            continue
        check(model, feeds, path, {"float16": 5e-3, "bfloat16": 3e-2}.get(dtype, 1e-6))
        written += 1
    assert written >= (18 if dtype == "bool" else 30)


def test_table_is_well_formed() -> None:
    """Rows are checked in full, fit the schema, and name operators and attributes that exist."""
    import jsonschema

    rows = em.table().rows
    em.table().check()
    schema = json.loads((FOLDER / "emission.schema.json").read_text())
    for path in sorted((FOLDER / "cann" / "emission").glob("*.json")):
        jsonschema.validate(json.loads(path.read_text()), schema)
    for row in rows.values():
        found = [c for case in row.cases for s in case.emit for c in calls(s.value)]
        for call in (c for c in found if c.op[0].isupper()):
            known = signatures.load()[call.op]
            assert {k for k, _ in call.attrs} <= set(known.attrs), (row.op, call.op)
            assert known.required <= {k for k, _ in call.attrs}, (row.op, call.op)
            dynamic = any(p.kind == "dynamic" for p in known.inputs)
            assert dynamic or len(call.args) <= len(known.inputs), (row.op, call.op)
    without = {op for op in spec.all_ops() if op not in rows and not op.endswith("channels_last")}
    assert without == {"cond", "while_loop", "dequantize"}


def test_control_flow_is_refused(tmp_path: Path) -> None:
    """Loops and branches are not written: E501 names them."""
    b = Builder()
    x = b.input("x", "float32", [2])
    p = b.input("p", "bool", [])
    regions = []
    for i, op in enumerate(("relu", "neg")):
        r = Builder(f"r{i}", parent=b)
        v = r.input(f"v{i}", "float32", [2])
        regions.append(r.finish([r.emit(op, [v])[0]]))
    y = b.emit("cond", [p, x], {}, regions=regions, name="y")[0]
    with pytest.raises(CirError, match="does not take cond") as info:
        write(Model(b.finish([y])), tmp_path)
    assert info.value.code == "E501"


def test_one_node_each() -> None:
    """Concepts with an operator of their own are that one operator."""
    want = {
        "conv": ["Conv2D"], "linear": ["MatMulV2"], "softmax": ["SoftmaxV2"], "swish": ["Swish"],
        "layer_norm": ["LayerNorm"], "rms_norm": ["RmsNorm"], "group_norm": ["GroupNormV2"],
        "group_norm_silu": ["GroupNormSilu"], "geglu": ["GeGluV2"], "max_pool": ["MaxPoolV3"],
        "avg_pool": ["AvgPoolV2"], "batch_norm": ["BNInfer"], "resize": ["ResizeNearestNeighborV2"],
        "gather": ["GatherV2"], "clip": ["ClipByValue"], "matmul": ["MatMulV2"],
        "conv_transpose": ["Conv2DTranspose"], "split": ["SplitV"], "slice": ["StridedSliceV2"],
    }  # fmt: skip
    for op, expected in want.items():
        model, _ = program(op, spec.get(op).samples[0])
        assert [n.op for n in em.program(model, None).nodes] == expected, op


def test_pads_go_axis_by_axis(tmp_path: Path) -> None:
    """GE's pads are top, bottom, left, right; strides and dilations name all four axes."""
    model, _ = program("conv", spec.get("conv").samples[1])
    (node,) = em.program(model, None).nodes
    assert model.graph.nodes[0].attrs["pads"] == (0, 1, 2, 0)
    assert node.attrs["pads"] == (0, 2, 1, 0)
    assert node.attrs["strides"] == (1, 1, 2, 1) and node.attrs["data_format"] == "NCHW"


def test_every_value_is_typed() -> None:
    """What a row puts between its operands and results has a type as well."""
    for op in ("lstm", "quantize", "prelu", "argmax", "group_norm_silu"):
        model, _ = program(op, spec.get(op).samples[0])
        graph = em.program(model, None)
        assert {o for n in graph.nodes for o in n.outputs} <= set(graph.types), op


def test_all_unsupported_ops_at_once(tmp_path: Path) -> None:
    """E501 names each op with its places and its reason; nothing is written."""
    b = Builder()
    x = b.input("x", "int64", ["n", 4, 4])
    a = b.emit("matmul", [x, x], name="first")[0]
    c = b.emit("matmul", [a, x], name="second")[0]
    d = b.emit("cast", [c], {"dtype": "float8_e4m3fn"}, name="third")[0]
    with pytest.raises(CirError) as info:
        write(Model(b.finish([d])), tmp_path)
    found = info.value.diagnostics
    assert [f.code for f in found] == ["E501", "E501"]
    assert "matmul (×2)" in found[0].what and "first, second" in found[0].where
    assert "int64" in found[0].why and not list(tmp_path.iterdir())


def test_legality_is_what_the_table_says() -> None:
    """Decomposing for a chip that lacks an op gives ops that it has."""
    model, _ = program("swish", spec.get("swish").samples[0])
    rows = em.table("Ascend310P3")
    graph = decompose(model.graph, rows.legal)
    assert [n.op for n in graph.nodes] == ["sigmoid", "mul"]
    assert all(rows.legal(n, graph) for n in graph.nodes)
