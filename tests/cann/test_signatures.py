"""The official prototypes: our copy of them, and that what does not fit them is caught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cir.builder import Builder
from cir.graph import Const, Model
from framework_adapter.cann import proto, signatures
from tests.cann import official
from tests.cann.support import array, canonical, network, write


def test_our_copy_is_current() -> None:
    """signatures.json says what the wheel's operator definitions say, which agree with themselves."""
    import json

    path = Path(signatures.__file__).with_name("signatures.json")
    for op, raw in json.loads(path.read_text()).items():
        assert raw == official.compact(op), op
        if op in official.parameters() and op != "SelectV2":  # "else" is no name in Python
            known = official.prototypes()[op]
            inputs, attrs = official.parameters()[op]
            assert tuple(o.name for o in known.inputs) == inputs, op
            assert set(known.attrs) == set(attrs), op


def test_messages_are_the_official_ones() -> None:
    """Names, numbers and types of all fields and enums; only attribute groups stay opaque."""

    def compare(ours: Any, theirs: Any, seen: set[str]) -> None:
        if ours.full_name in seen or ours.name == "AttrGroups":
            return
        seen.add(ours.full_name)
        assert ours.full_name == theirs.full_name
        shapes = [
            {(f.name, f.number, f.type, f.is_repeated, bool(f.containing_oneof)) for f in d.fields}
            for d in (ours, theirs)
        ]
        assert shapes[0] == shapes[1], ours.full_name
        for f in ours.fields:
            other = theirs.fields_by_name[f.name]
            if f.message_type:
                compare(f.message_type, other.message_type, seen)
            elif f.enum_type:
                values = [{v.name: v.number for v in e.enum_type.values} for e in (f, other)]
                assert values[0] == values[1]

    seen: set[str] = set()
    compare(proto.message("ModelDef").DESCRIPTOR, official.model_def().DESCRIPTOR, seen)
    assert len(seen) > 12
    numbers = official.model_def()().graph.add().op.add().input_desc.add()
    enum = numbers.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number
    names = {"float32": "FLOAT", "float64": "DOUBLE", "bfloat16": "BF16"}
    for dtype, code in proto.DATA_TYPES.items():
        assert enum[code].name == f"DT_{names.get(dtype, dtype.upper())}"


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """A valid file as an official message."""
    path = write(canonical(network()), tmp_path)
    found = official.check(path)
    assert found["problems"] == [] and found["nodes_valid"] == found["nodes_checked"] > 40
    return official.model_def().FromString(path.read_bytes())


def _op(model: Any, kind: str) -> Any:
    return next(op for op in model.graph[0].op if op.type == kind)


def _wrong_type(model: Any) -> None:
    _op(model, "Conv2D").attr["groups"].f = 1.0


def _no_val_type(model: Any) -> None:
    _op(model, "Conv2D").attr["strides"].list.val_type = 0


def _missing_input(model: Any) -> None:
    op = _op(model, "Conv2D")
    del op.input[1:], op.input_desc[1:]


def _empty_required_input(model: Any) -> None:
    _op(model, "Add").input[0] = ""


def _unknown_op(model: Any) -> None:
    _op(model, "GroupNormSilu").type = "GroupNormGelu"


def _unknown_attr(model: Any) -> None:
    _op(model, "MatMulV2").attr["transpose_b"].b = True


def _missing_attr(model: Any) -> None:
    del _op(model, "GroupNormSilu").attr["num_groups"]


def _dangling(model: Any) -> None:
    _op(model, "Add").input[0] = "nobody:0"


def _no_such_result(model: Any) -> None:
    op = _op(model, "Add")
    op.input[0] = op.input[0].replace(":0", ":7")


def _wrong_dtype(model: Any) -> None:
    _op(model, "Conv2D").input_desc[0].dtype = 13  # DT_STRING


def _wrong_name(model: Any) -> None:
    _op(model, "LayerNorm").input_desc[1].name = "scale"


def _too_many_outputs(model: Any) -> None:
    _op(model, "SoftmaxV2").output_desc.add(name="z", dtype=1)


def _two_names(model: Any) -> None:
    model.graph[0].op[-2].name = model.graph[0].op[-3].name


def _index(model: Any) -> None:
    _op(model, "Data").attr["index"].i = 5


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (_wrong_type, "attribute 'groups' is f, Int is wanted"),
        (_no_val_type, "attribute 'strides'"),
        (_missing_input, "input 'filter' is missing"),
        (_empty_required_input, "is missing"),
        (_unknown_op, "no such operator"),
        (_unknown_attr, "no attribute 'transpose_b'"),
        (_missing_attr, "attribute 'num_groups' is missing"),
        (_dangling, "which nothing computes"),
        (_no_such_result, "which nothing computes"),
        (_wrong_dtype, "input 'x' is DT_STRING"),
        (_wrong_name, "'scale' where 'gamma' is wanted"),
        (_too_many_outputs, "1 outputs too many"),
        (_two_names, "not unique"),
        (_index, "indices of Data"),
    ],
)
def test_what_does_not_fit_is_caught(spoil: Callable[[Any], None], what: str, model: Any) -> None:
    """Negative controls: each fault is found, and nothing else is blamed but the nodes it touches."""
    spoil(model)
    found = official.check_bytes(model.SerializeToString(deterministic=True))
    assert any(what in p for p in found["problems"]), found["problems"]
    assert len(found["problems"]) <= 3
    assert found["nodes_valid"] >= found["nodes_checked"] - 2


def test_unknown_fields_are_caught(model: Any) -> None:
    """Bytes that the official descriptor does not know are found, deep inside as well."""
    data = model.SerializeToString(deterministic=True)
    assert any(
        "unknown fields in ModelDef" in p
        for p in official.check_bytes(data + b"\xfa\x01\x00")["problems"]
    )
    desc = _op(model, "Add").input_desc[0]
    desc.MergeFromString(b"\xfa\x01\x00")
    found = official.check_bytes(model.SerializeToString(deterministic=True))["problems"]
    assert any("unknown fields in TensorDescriptor" in p for p in found)


def test_absent_operand_has_a_placeholder(tmp_path: Path) -> None:
    """A scale left out before a bias takes a slot: no edge, and a descriptor of no dtype."""
    b = Builder()
    x = b.input("x", "float32", [2, 4, 3, 3])
    bias = b.const(Const.of(array(4)), "bias")
    y = b.emit("group_norm_silu", [x, None, bias], {"num_groups": 2}, name="y")[0]
    path = write(Model(b.finish([y])), tmp_path)
    assert official.check(path)["problems"] == []
    op = _op(official.model_def().FromString(path.read_bytes()), "GroupNormSilu")
    assert list(op.input) == ["x:0", "", "bias:0"]
    assert (op.input_desc[1].name, op.input_desc[1].dtype) == ("gamma", 0)
    assert op.input_desc[1].attr["_is_unfed_optional"].i == 1
