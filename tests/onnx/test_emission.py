"""Every op that ONNX takes, on every sample: the emitted file in ONNX Runtime against the reference."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from cir import dtype as dt
from cir import interpret, spec
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Const, Model
from cir.passes import decompose
from framework_adapter import emission
from framework_adapter.onnx import emit as em
from tests.onnx.support import check, domains, ops, program

FOLDER = Path(emission.__file__).parent
CASES = [(name, i) for name, s in spec.all_ops().items() for i in range(len(s.samples))]
#: Ops that are decomposed first.
WITHOUT_ROW = {"geglu", "swi_glu"} | {o for o in spec.all_ops() if o.endswith("_channels_last")}


@pytest.mark.parametrize(("op", "index"), CASES)
def test_sample(op: str, index: int, tmp_path: Path) -> None:
    """Each op as it is, on ort-cpu at its usual opset."""
    model, feeds = program(op, spec.get(op).samples[index])
    if op in WITHOUT_ROW:
        model = model.with_graph(decompose(model.graph, em.legal))
    check(model, feeds, tmp_path / "m.onnx")


@pytest.mark.parametrize("op", sorted(spec.all_ops()))
def test_portable_and_oldest_opset(op: str, tmp_path: Path) -> None:
    """Without contributed ops, and at the oldest opset, after decomposing what is not legal there."""
    for profile, opset in (("portable", None), ("ort-cpu", 18)):
        rows = em.table(profile, opset)
        for sample in spec.get(op).samples[:2]:
            model, feeds = program(op, sample)
            model = model.with_graph(decompose(model.graph, rows.legal))
            result = check(model, feeds, tmp_path / "m.onnx", profile=profile, opset=opset)
            assert opset is None or result.version == opset
            if profile == "portable":
                assert domains(tmp_path / "m.onnx") == [""]


def _other_dtype(op: str, dtype: str) -> dict | None:
    """The op's first sample with operands of another dtype; None when it does not take that."""
    s = spec.get(op)
    if not s.samples or op in ("cast", "arange", "quantize", "dequantize"):
        return None
    sample = dict(s.samples[0])
    lead = re.match(r"\+?([a-z0-9_]+)", sample["inputs"][1 if op == "where" else 0])[1]
    out = []
    for i, text in enumerate(sample["inputs"]):
        domain = s.domain.get(s.param(i).name, "any")
        fits = domain == "any" or dtype in dt.CLASSES.get(domain, (domain,))
        shape = re.search(r"\[.*\]", text)[0] if text else ""
        if text is None or not re.match(rf"\+?{lead}\[", text) or s.param(i).name == "indices":
            out.append(text)
        elif not fits:
            return None
        else:
            bound = "<4" if dtype in dt.INTS else ""
            positive = "+" if text[0] == "+" and dtype in dt.FLOATS else ""
            out.append(f"{positive}{dtype}{shape}{bound}")
    return {**sample, "inputs": out}


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int32", "uint32", "float16", "bfloat16", "float64"]
)
def test_dtypes(dtype: str, tmp_path: Path) -> None:
    """Each dtype of an op's domain either runs, with casts where no kernel takes it, or is refused."""
    ran = 0
    for op in spec.all_ops():
        sample = _other_dtype(op, dtype)
        if sample is None:
            continue
        try:
            model, feeds = program(op, sample)
        except CirError:
            continue  # an attribute of the sample does not suit the dtype
        if op in ("floordiv", "mod"):
            feeds[1] = np.where(feeds[1] == 0, 1, feeds[1]).astype(feeds[1].dtype)
        if not all(em.legal(n, model.graph) for n in model.graph.nodes):
            assert dtype in ("float64", "uint32") or op in WITHOUT_ROW, op
            continue
        check(model, feeds, tmp_path / "m.onnx", dtype)
        ran += 1
    assert ran >= (18 if dtype == "bool" else 30)


def test_table_is_well_formed() -> None:
    """Rows are checked in full, fit the schema, name existing ops, and cover the vocabulary."""
    import jsonschema

    em.table().check()
    schema = json.loads((FOLDER / "emission.schema.json").read_text())
    for path in sorted((FOLDER / "onnx" / "emission").glob("*.json")):
        jsonschema.validate(json.loads(path.read_text()), schema)
    assert set(spec.all_ops()) - set(em.table().rows) == WITHOUT_ROW


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        ({"op": "relu", "emit": "Relu(z)"}, "unknown name 'z'"),
        ({"op": "relu", "emit": "relu(x)"}, "neither an op of the target"),
        ({"op": "relu", "emit": "Relu(x, a=nope(1))"}, "unknown function 'nope'"),
        ({"op": "relu", "emit": "Relu(x"}, "not a statement"),
        ({"op": "relu", "handler": "no_such"}, "no handler 'no_such'"),
        ({"op": "relu"}, "emit or handler"),
        ({"op": "relu", "emit": "Relu(x)", "dtypes": {"q": "int8"}}, "not an input"),
        ({"op": "no_op", "emit": "Relu(x)"}, "no such IR op"),
    ],
)
def test_wrong_rows(raw: dict, what: str) -> None:
    """A wrong row is named with its fault (E203)."""
    row = emission.Row(raw["op"], raw, "here.json", "onnx")
    with pytest.raises(CirError, match=what) as info:
        row.check(em.table().target)
    assert info.value.code == "E203"


def test_all_unsupported_ops_at_once(tmp_path: Path) -> None:
    """E501 names each op with its places and its reason; nothing is written."""
    b = Builder()
    x = b.input("x", "float64", ["n", 4])
    a = b.emit("erf", [x], name="first")[0]
    c = b.emit("erf", [a], name="second")[0]
    d = b.emit("tan", [c], name="third")[0]
    with pytest.raises(CirError) as info:
        em.emit(Model(b.finish([d])), tmp_path / "m.onnx")
    found = info.value.diagnostics
    assert [f.code for f in found] == ["E501", "E501"]
    assert "erf (×2)" in found[0].what and "first, second" in found[0].where
    assert "float64" in found[1].why
    assert not list(tmp_path.iterdir())


def test_dim_without_source(tmp_path: Path) -> None:
    """A symbol that no value has as a size cannot be computed (E501)."""
    b = Builder()
    x = b.input("x", "float32", [1, 4])
    y = b.emit("expand", [x], {"shape": ["n", 4]})[0]
    with pytest.raises(CirError, match="symbolic dim n") as info:
        em.emit(Model(b.finish([y])), tmp_path / "m.onnx")
    assert info.value.code == "E501"


def test_no_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row whose op has no kernel is found out before the file is (E504)."""
    rows = dict(em.table().rows)
    rows["relu"] = emission.Row(
        "relu", {"op": "relu", "handler": lambda s, x: s.op("HardSwish", x)}
    )
    broken = emission.Emission(rows, em.table().target)
    monkeypatch.setattr(em, "table", lambda *a: broken)
    model, _ = program("relu", spec.get("relu").samples[0])
    with pytest.raises(CirError, match="no kernel for HardSwish") as info:
        em.emit(model, tmp_path / "m.onnx")
    assert info.value.code == "E504" and not list(tmp_path.iterdir())


def test_checker_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ONNX's checker refuses is E504 and leaves nothing behind."""
    rows = dict(em.table().rows)
    rows["softmax"] = emission.Row("softmax", {"op": "softmax", "emit": "Softmax(x, axes=axis)"})
    broken = emission.Emission(rows, em.table().target)
    monkeypatch.setattr(em, "table", lambda *a: broken)
    model, _ = program("softmax", spec.get("softmax").samples[0])
    with pytest.raises(CirError, match="checker") as info:
        em.emit(model, tmp_path / "m.onnx")
    assert info.value.code == "E504" and not list(tmp_path.iterdir())


def test_one_node_each(tmp_path: Path) -> None:
    """Concepts with a kernel of their own are one node."""
    want = {
        "gelu": ["Gelu"], "swish": ["QuickGelu"], "layer_norm": ["LayerNormalization"],
        "rms_norm": ["RMSNormalization"], "batch_norm": ["BatchNormalization"], "conv": ["Conv"],
        "softmax": ["Softmax"], "logsumexp": ["ReduceLogSumExp"], "topk": ["TopK"],
    }  # fmt: skip
    for op, expected in want.items():
        model, _ = program(op, spec.get(op).samples[0])
        em.emit(model, tmp_path / "m.onnx")
        assert ops(tmp_path / "m.onnx") == expected, op


def test_linear_forms(tmp_path: Path) -> None:
    """Rank 2 is Gemm; higher ranks read a weight turned once; a shared weight is not stored twice."""
    rng = np.random.default_rng(0)
    w = Const.of(rng.standard_normal((5, 4)).astype(np.float32))
    bias = Const.of(rng.standard_normal(5).astype(np.float32))
    for shape, tied, want in (
        ((3, 4), False, ["Gemm"]),
        ((2, 3, 4), False, ["MatMul", "Add"]),
        ((2, 3, 4), True, ["Gather", "Transpose", "MatMul", "Add"]),
    ):
        b = Builder()
        x = b.input("x", "float32", shape)
        wn, bn = b.const(w, "w"), b.const(bias, "b")
        outs = []
        feeds = [rng.standard_normal(shape).astype(np.float32)]
        if tied:
            i = b.input("i", "int64", [2])
            outs = [b.emit("gather", [wn, i], name="row")[0]]
            feeds.append(np.array([0, 4]))
        outs.append(b.emit("linear", [x, wn, bn], name="y")[0])
        check(Model(b.finish(outs)), feeds, tmp_path / "m.onnx")
        assert sorted(ops(tmp_path / "m.onnx")) == sorted(want)


def test_zeros_before_a_max_pool_stay_zeros(tmp_path: Path) -> None:
    """ONNX Runtime's optimisers must not take them for the pool's own padding."""
    b = Builder()
    x = b.input("x", "float32", (1, 2, 6, 6))
    h = b.emit("pad", [x], {"pads": [0, 0, 1, 1, 0, 0, 1, 1]})[0]
    attrs = {"kernel": [3, 3], "strides": [2, 2], "pads": [0] * 4, "dilations": [1, 1]}
    model = Model(b.finish([b.emit("max_pool", [h], attrs, name="y")[0]]))
    feeds = [-1 - np.random.default_rng(0).random((1, 2, 6, 6), np.float32)]
    for profile in ("ort-cpu", "portable", "ge-safe"):
        em.emit(model, tmp_path / "m.onnx", profile=profile)
        (got,) = em.run(tmp_path / "m.onnx", feeds)
        np.testing.assert_array_equal(got, interpret.run(model, feeds)["y"].astype(np.float32))
        assert got.max() == 0
