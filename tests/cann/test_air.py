"""AIR files: what GE asks of them, byte by byte the same, large weights beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir import interpret
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Const, Model, Range
from framework_adapter import api, convert, registry
from framework_adapter.cann import FRONTEND, proto
from framework_adapter.cann.air import BACKEND
from tests.cann import official
from tests.cann.support import array, canonical, digest, network, read, write

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A file of every kind of op, parsed by the official descriptor."""
    path = write(canonical(network("n")), tmp_path_factory.mktemp("air"))
    return official.model_def().FromString(path.read_bytes())


def ops(model: Any, kind: str) -> list[Any]:
    return [op for op in model.graph[0].op if op.type == kind]


def test_lists_state_their_kind(model: Any) -> None:
    """GE drops a list without val_type: every list has one, empty ones and name lists included."""

    def walk(message: Any) -> None:
        for field, value in message.ListFields():
            if field.message_type is None:
                continue
            entries = field.message_type.GetOptions().map_entry
            for child in (
                value.values() if entries else (value if hasattr(value, "__len__") else [value])
            ):
                if child.DESCRIPTOR.name == "ListValue":
                    assert child.val_type
                walk(child)

    walk(model)


def test_the_two_numberings_of_dtypes(model: Any) -> None:
    """Descriptors hold one enum, attributes the other."""
    by_name = {op.name: op for op in model.graph[0].op}
    assert by_name["ids"].output_desc[0].dtype == 8  # DT_INT64 of the messages
    b = Builder()
    x = b.input("x", "int64", [2])
    y = b.emit("cast", [x], {"dtype": "float32"}, name="y")[0]
    from framework_adapter.cann import emit, modeldef

    small = Model(b.finish([y]))
    built = modeldef.build(emit.program(small, None), small)
    (cast,) = ops(built, "Cast")
    assert cast.attr["dst_type"].i == 0 and cast.output_desc[0].dtype == 1


def test_inputs_are_numbered_and_described(model: Any) -> None:
    """Data has its index, equal descriptors on both sides, and the range of a symbolic size."""
    data = ops(model, "Data")
    assert [(op.name, op.attr["index"].i) for op in data] == [("image", 0), ("ids", 1)]
    for op in data:
        assert not op.input and list(op.input_desc[0].shape.dim) == list(
            op.output_desc[0].shape.dim
        )
    desc = data[0].output_desc[0]
    assert list(desc.shape.dim) == [-1, 3, 6, 6]
    rows = [list(r.list_i) for r in desc.attr["shape_range"].list_list_int.list_list_i]
    assert rows == [[1, 64], [3, 3], [6, 6], [6, 6]]
    assert list(model.graph[0].input) == ["image:0", "ids:0"]


def test_images_are_nchw_and_nothing_else(model: Any) -> None:
    """Layout-sensitive operators say NCHW for what has four axes, in all spellings."""
    for op in model.graph[0].op:
        for desc in (*op.input_desc, *op.output_desc):
            if not desc.dtype:
                continue
            image = op.type in ("Conv2D", "MaxPoolV3", "ResizeNearestNeighborV2")
            want = "NCHW" if image and len(desc.shape.dim) == 4 else "ND"
            assert desc.layout == desc.attr["origin_format"].s.decode() == want, op.name
            number = {"NCHW": 0, "ND": 2}[want]
            assert desc.attr["format_for_int"].i == desc.attr["origin_format_for_int"].i == number


def test_edges_outputs_and_names(model: Any) -> None:
    """Ids count up, constants come before their readers, the outputs are named twice alike."""
    graph = model.graph[0]
    assert [op.id for op in graph.op] == list(range(len(graph.op)))
    seen: set[str] = set()
    for op in graph.op:
        assert all(i.rpartition(":")[0] in seen for i in op.input if i)
        consts = [i.rpartition(":")[0] for i in op.input]
        is_const = {o.name for o in graph.op if o.type == "Const"}
        assert list(op.is_input_const) == [c in is_const for c in consts]
        seen.add(op.name)
    (out,) = ops(model, "NetOutput")
    assert list(out.input) == list(graph.output)
    assert [f"{n}:{i}" for n, i in zip(out.src_name, out.src_index)] == list(graph.output)
    names = [s.decode() for s in model.attr["attr_model_out_nodes_name"].list.s]
    assert [n.rpartition(":")[0] for n in names] == list(graph.output)
    (concat,) = {op.type for op in graph.op} & {"GroupNormSilu"}
    assert concat


def test_dynamic_operands_are_expanded(tmp_path: Path) -> None:
    """x0, x1, ... and their number, for operands and results."""
    b = Builder()
    x = b.input("x", "float32", [2, 6])
    parts = b.emit("split", [x], {"axis": 1, "sizes": [1, 2, 3]})
    y = b.emit("concat", parts[::-1], {"axis": 1}, name="y")[0]
    path = write(Model(b.finish([y])), tmp_path)
    model = official.model_def().FromString(path.read_bytes())
    (split,), (concat,) = ops(model, "SplitV"), ops(model, "ConcatV2")
    assert [d.name for d in split.output_desc] == ["y0", "y1", "y2"]
    assert [d.name for d in concat.input_desc] == ["x0", "x1", "x2", "concat_dim"]
    assert split.attr["num_split"].i == concat.attr["N"].i == 3
    assert [i.rpartition(":")[2] for i in concat.input] == ["2", "1", "0", "0"]


def test_names_and_symbols_come_back(tmp_path: Path) -> None:
    """Inputs, outputs, the name and range of a symbol, and the digest."""
    model = canonical(network("n"))
    path = write(model, tmp_path, digest="abc", versions={"torch": "2"})
    back = read(path)
    assert back.graph.inputs == model.graph.inputs and back.graph.outputs == model.graph.outputs
    assert [back.graph.types[i] for i in back.graph.inputs] == [
        model.graph.types[i] for i in model.graph.inputs
    ]
    assert back.symbols == {"n": Range(1, 64)}
    assert digest(path) == api.digest_of(model)
    attrs = official.model_def().FromString(path.read_bytes()).attr
    assert (attrs["cir_digest"].s, attrs["cir_version.torch"].s) == (b"abc", b"2")


def test_state_comes_back(tmp_path: Path) -> None:
    """Pairs of state are kept."""
    b = Builder()
    x, s = b.input("x", "float32", [2]), b.input("s", "float32", [2])
    t = b.emit("add", [x, s], name="t")[0]
    model = Model(b.finish([t]), state=(("s", "t"),))
    assert read(write(model, tmp_path)).state == (("s", "t"),)


def test_outputs_that_are_inputs_or_twice(tmp_path: Path) -> None:
    """Such an output is a copy of its own, under its own name."""
    b = Builder()
    x = b.input("x", "float32", [2])
    y = b.emit("relu", [x], name="y")[0]
    c = b.const(Const.of(array(2)), "c")
    model = Model(b.finish([y, x, y, c]))
    path = write(model, tmp_path)
    assert official.check(path)["problems"] == []
    got = BACKEND.run(path, [array(2, seed=1)])
    want = interpret.run(model, [array(2, seed=1)])
    for g, name in zip(got, model.graph.outputs, strict=True):
        np.testing.assert_array_equal(g, want[name].astype(np.float32))


CODE = """
import sys
from pathlib import Path
from tests.cann.support import canonical, network, write
for target in ("air", "om"):
    sys.stdout.write(write(canonical(network("n")), Path(sys.argv[1]), target, soc=sys.argv[2]).read_bytes().hex() + "\\n")
"""


@pytest.mark.parametrize("chip", ["", "Ascend310P3"])
def test_same_bytes_in_any_process(chip: str, tmp_path: Path) -> None:
    """Two processes with different hash seeds write the same AIR and the same OM."""
    runs = []
    for seed in ("0", "77"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", CODE, str(tmp_path), chip]
        runs.append(
            subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=True).stdout
        )
    assert runs[0] == runs[1] and len(runs[0]) > 50_000


def test_large_weights_go_to_files(tmp_path: Path) -> None:
    """Above the limit they lie in a folder beside the file, are read from there, and only there."""
    model = canonical(network())
    path = tmp_path / "m.air"
    result = BACKEND.emit(model, path, external_limit=2000)
    whole = write(model, tmp_path / "inline").stat().st_size
    assert path.stat().st_size < whole and len(result.files) == 3
    assert all(f.is_file() and tmp_path in f.parents for f in result.files)
    found = official.model_def().FromString(path.read_bytes())
    outside = [op for op in ops(found, "Const") if "location" in op.attr]
    assert len(outside) == len(result.files) - 1
    for op in outside:
        file = tmp_path / op.attr["location"].s.decode()
        assert file.stat().st_size == op.attr["length"].i and not op.attr["value"].t.data
    assert digest(path) == api.digest_of(model)
    outside[0].attr["location"].s = b"../m.air"
    path.write_bytes(found.SerializeToString())
    with pytest.raises(CirError, match="outside the model's folder") as info:
        FRONTEND.extract(path, None)
    assert info.value.code == "E105"


def test_convert_both_ways(tmp_path: Path) -> None:
    """``convert("m.air", "onnx", ...)`` and back, inputs and outputs by name."""
    import onnx

    model = canonical(network())
    path = write(model, tmp_path)
    result = convert(path, "onnx", tmp_path / "m.onnx")
    assert result.report is not None and result.report.verdict == "PASS"
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert [i.name for i in graph.input] == ["image", "ids"]
    assert tuple(o.name for o in graph.output) == model.graph.outputs
    again = convert(tmp_path / "m.onnx", "air", tmp_path / "again.air")
    assert again.digest == result.digest == api.digest_of(model)


def test_inputs_and_outputs_may_be_chosen(tmp_path: Path) -> None:
    """Other shapes for the inputs; results of inner nodes."""
    from framework_adapter.source import InputSpec

    path = write(canonical(network("n")), tmp_path)
    source = FRONTEND.extract(path, [InputSpec("image", "float32", (4, 3, 6, 6))])
    assert source.inputs["image"].shape == (4, 3, 6, 6)
    (conv,) = [n for n in source.nodes if n.op == "Conv2D"]
    picked = FRONTEND.extract(path, None, outputs=[conv.module])
    assert picked.outputs == conv.outputs and picked.output_names == (conv.module,)
    for bad in ({"inputs": [InputSpec("nobody", "float32", (1,))]}, {"inputs": [InputSpec("image", "int8", (1,))]},
                {"outputs": ["nobody"]}):  # fmt: skip
        with pytest.raises(CirError) as info:
            FRONTEND.extract(path, bad.get("inputs"), outputs=bad.get("outputs"))
        assert info.value.code == "E103"


def test_registered() -> None:
    """The formats are found by name and by suffix."""
    assert registry.backend("air") is BACKEND and registry.detect is not None
    assert registry.frontend("cann") is FRONTEND
    assert FRONTEND.accepts("m.air") and FRONTEND.accepts(Path("m.om"))
    assert not FRONTEND.accepts("m.onnx") and not FRONTEND.accepts(3)


def test_values_of_attributes() -> None:
    """Every kind goes in and comes out; floats are the shortest that stand for them."""
    given = {
        "Int": 3, "Float": 1e-5, "Bool": True, "String": "é", "Type": 9, "ListInt": (1, 2),
        "ListFloat": (0.1, 2.0), "ListBool": (True, False), "ListString": ("a", ""),
        "ListListInt": ((1, 2), (), (3,)), "ListType": (0, 9),
    }  # fmt: skip
    for kind, value in given.items():
        attr = proto.message("AttrDef")()
        proto.set_attr(attr, kind, value)
        assert proto.value_of(attr) == value, kind
        empty = proto.message("AttrDef")()
        if kind.startswith("List") and kind != "ListListInt":
            proto.set_attr(empty, kind, ())
            assert empty.list.val_type and proto.value_of(empty) == ()
    attr = proto.message("AttrDef")(s=b"\xff\xfe")
    assert (
        proto.value_of(attr) == b"\xff\xfe" and proto.value_of(proto.message("AttrDef")()) is None
    )
