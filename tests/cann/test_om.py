"""OM containers: the layout, what netron reads in them, that they say they are not compiled."""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Const, Model
from framework_adapter import api, convert
from framework_adapter.cann import FRONTEND, container
from framework_adapter.cann.extract import load
from framework_adapter.cann.om import BACKEND, GRAPH_ONLY, placed
from tests import netron
from tests.cann import official
from tests.cann.support import array, canonical, digest, network, read, write
from tests.cann.test_atc import STAND_IN


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graph-only OM of the small network."""
    return write(canonical(network()), tmp_path_factory.mktemp("om"), "om", soc="Ascend910B3")


def parts(data: bytes) -> dict[int, bytes]:
    """Partitions by type, walked as GE does: in order, by their sizes."""
    (count,) = struct.unpack_from("<I", data, 256)
    at = 264 + 24 * count
    out = {}
    for i in range(count):
        kind, pad, offset, size = struct.unpack_from("<IIQQ", data, 264 + 24 * i)
        assert pad == 0 and offset == at - 264 - 24 * count and size > 0
        out[kind] = data[at : at + size]
        at += size
    assert at == len(data), "trailing bytes"
    return out


def test_header_and_partitions(path: Path) -> None:
    """The header of 256 bytes, the 64-bit table, at least two partitions, nothing after them."""
    data = path.read_bytes()
    head = struct.unpack_from("<4sII", data, 0)[:3]
    assert head == (b"IMOD", 256, 0x20000000)
    assert struct.unpack_from("<I", data, 76) == (0,) and data[80:84] == bytes(4)
    assert data[84:116].rstrip(b"\0") == b"net"
    assert struct.unpack_from("<II", data, 152) == (2, 1)
    assert struct.unpack_from("<Q", data, 184) == (len(data) - 256,)
    assert data[192:256] == bytes(64)
    assert list(parts(data)) == [8, 0, 1]


def test_weights_are_aligned(tmp_path: Path) -> None:
    """From 512 on, at multiples of 512, the end padded; whoever reads one knows its place."""
    b = Builder()
    x = b.input("x", "float32", [2, 4])
    data = [array(4, 4, seed=i) for i in range(2)]
    ws = [b.const(Const.of(d), f"w{i}") for i, d in enumerate(data)]
    outs = [b.emit("matmul", [x, w], name=f"y{i}")[0] for i, w in enumerate(ws)]
    path = write(Model(b.finish(outs)), tmp_path, "om")
    found = parts(path.read_bytes())
    model = official.model_def().FromString(found[0])
    descs = {op.name: op.attr["value"].t for op in model.graph[0].op if op.type == "Const"}
    offsets = {n: t.desc.data_offset for n, t in descs.items()}
    assert offsets == {"w0": 512, "w1": 1024}
    assert all(not t.data and t.desc.weight_size == 64 for t in descs.values())
    assert len(found[1]) == (1024 + 64 + 32 + 511) // 512 * 512
    assert found[1][:512] == bytes(512)
    assert [found[1][at : at + 64] for at in (512, 1024)] == [d.tobytes() for d in data]
    for op in model.graph[0].op:
        if op.type == "MatMulV2":
            assert op.input_desc[1].data_offset == offsets[op.input[1][:-2]]
            assert list(op.is_input_const) == [False, True]
    assert model.attr["weight_size"].i == len(found[1])
    assert list(model.attr["om_info_list"].list.i) == [len(found[1]), 0, 0, 0, 0]


def test_equal_weights_share_their_place() -> None:
    """Two constants of equal content are stored once."""
    same, other = array(4, 4), array(4, 4, seed=1)
    consts = {"a": Const.of(same), "b": Const.of(other), "c": Const.of(same.copy())}
    places, blocks, total = placed(consts)
    assert {n: p.offset for n, p in places.items()} == {"a": 512, "b": 1024, "c": 512}
    assert sorted(blocks) == [512, 1024] and total == 1536
    assert placed({}) == ({}, {}, 0)


def test_without_weights_there_are_two_partitions(tmp_path: Path) -> None:
    """A table of one partition reads as an empty model in netron."""
    b = Builder()
    x = b.input("x", "float32", [2])
    path = write(Model(b.finish([b.emit("relu", [x], name="y")[0]])), tmp_path, "om")
    assert list(parts(path.read_bytes())) == [8, 0]
    seen = netron.read(path)
    assert [n["type"] for n in seen["graphs"][0]["nodes"]] == ["Data", "Relu", "NetOutput"]


def test_interface_block(path: Path) -> None:
    """Names, dtypes and dims of inputs and outputs, as aclmdlGetDescFromFile reads them."""
    data, at, found = parts(path.read_bytes())[8], 0, {}
    while at < len(data):
        tag, length = struct.unpack_from("<II", data, at)
        end, at = at + 8 + length, at + 8
        (count,) = struct.unpack_from("<I", data, at)
        at += 4
        for _ in range(count):
            size, layout, dtype, *lens = struct.unpack_from("<QiiIIII", data, at)
            at += 32
            name, dims, dims2, ranges = (data[at + sum(lens[:i]) :][:n] for i, n in enumerate(lens))
            at += sum(lens)
            shape = struct.unpack(f"<{len(dims) // 8}q", dims)
            assert dims == dims2 and ranges == b""
            found.setdefault(tag, []).append((name.decode(), layout, dtype, size, shape))
        assert at == end
    assert found[0] == [("image", 2, 0, 864, (2, 3, 6, 6)), ("ids", 2, 9, 80, (2, 5))]
    assert [(n.split(":")[-1], s) for n, _, _, _, s in found[1]] == [
        (o, tuple(t.shape)) for o, t in zip(read(path).graph.outputs, outputs(path))
    ]


def outputs(path: Path) -> list[Any]:
    graph = read(path).graph
    return [graph.types[o] for o in graph.outputs]


def test_says_that_it_is_not_compiled(path: Path, tmp_path: Path) -> None:
    """In the file, in the emitter's result, in the conversion's result and in what is read."""
    model, _ = load(path)
    assert model.attr["cir_graph_only"].b
    assert model.attr["atc_cmdline"].s.decode() == GRAPH_ONLY
    assert model.attr["soc_version"].s == b"Ascend910B3"
    assert BACKEND.emit(canonical(network()), tmp_path / "m.om").notes == (GRAPH_ONLY,)
    result = convert(path, "om", tmp_path / "again.om", report=tmp_path / "r.html")
    assert any((d.code, d.what) == ("N501", GRAPH_ONLY) for d in result.diagnostics)
    assert GRAPH_ONLY in (tmp_path / "r.html").read_text()
    assert any("not compiled" in n for n in FRONTEND.extract(path, None).notes)


def test_netron_sees_the_same_graph(path: Path) -> None:
    """Operators, edges, shapes and the bytes of every weight, by a reader that is not ours."""
    seen = netron.read(path)
    assert seen.get("error") is None and seen["format"] == "DaVinci OM"
    (graph,) = seen["graphs"]
    model, weights = load(path)
    ops = [op for op in model.graph[0].op if op.type != "Const"]
    consts = {
        f"{op.name}:0": weights.constant(op) for op in model.graph[0].op if op.type == "Const"
    }
    assert [(n["type"], n["name"]) for n in graph["nodes"]] == [(op.type, op.name) for op in ops]
    names = {1: "float32", 7: "int32", 8: "int64"}
    for node, op in zip(graph["nodes"], ops):
        assert [v for a in node["inputs"] for v in a["values"]] == [i for i in op.input if i]
        made = [v for a in node["outputs"] for v in a["values"]]
        assert made == [f"{op.name}:{i}" for i in range(len(op.output_desc))]
        for value, desc in zip(made, op.output_desc):
            t = graph["types"][value]
            assert (t["dtype"], t["shape"]) == (names[desc.dtype], list(desc.shape.dim))
        assert set(node["attributes"]) == set(op.attr)
    assert {w["name"] for w in graph["weights"]} == set(consts)
    for w in graph["weights"]:
        data = consts[w["name"]].numpy()
        assert w["shape"] == list(data.shape) and w["dtype"] == data.dtype.name
        assert w["sha256"] == hashlib.sha256(data.tobytes()).hexdigest()


def test_netron_reads_symbolic_sizes(tmp_path: Path) -> None:
    """Unknown sizes are -1; the header says that the model is dynamic."""
    path = write(canonical(network("n")), tmp_path, "om")
    assert path.read_bytes()[193] == 1
    (graph,) = netron.read(path)["graphs"]
    assert graph["types"]["image:0"]["shape"] == [-1, 3, 6, 6]
    assert digest(path) == api.digest_of(canonical(network("n")))


def test_air_and_om_hold_the_same_program(path: Path, tmp_path: Path) -> None:
    """Both read back to the digest of what was written, with the same weights."""
    model = canonical(network())
    air = write(model, tmp_path)
    assert digest(path) == digest(air) == api.digest_of(model)
    a, b = ({k: c.numpy().tobytes() for k, c in read(p).graph.consts.items()} for p in (path, air))
    assert a == b
    assert official.check(path)["problems"] == []


def rewritten(path: Path, folder: Path, data: bytes, name: str = "other.om") -> Path:
    out = folder / name
    out.write_bytes(data)
    return out


def test_tiny_table(path: Path, tmp_path: Path) -> None:
    """The older form: a table of 32-bit numbers, chosen when model_length is 0."""
    data = path.read_bytes()
    found = parts(data)
    table = struct.pack("<I", len(found))
    at = 0
    for kind, part in found.items():
        table += struct.pack("<III", kind, at, len(part))
        at += len(part)
    body = table + b"".join(found.values())
    head = bytearray(data[:256])
    struct.pack_into("<I", head, 76, len(body))
    struct.pack_into("<Q", head, 184, 0)
    assert digest(rewritten(path, tmp_path, bytes(head) + body)) == digest(path)


def test_several_models(path: Path, tmp_path: Path) -> None:
    """A file of two models: the first one is read, and both must be there."""
    data = path.read_bytes()
    body = data[256:]
    head = bytearray(data[:256])
    struct.pack_into("<I", head, 156, 2)
    struct.pack_into("<Q", head, 184, 2 * len(body))
    two = rewritten(path, tmp_path, bytes(head) + body + body)
    assert [len(m) for m in container.read(two)] == [3, 3]
    assert digest(two) == digest(path)
    struct.pack_into("<I", head, 156, 3)
    with pytest.raises(CirError, match="fewer than the 3 models"):
        container.read(rewritten(path, tmp_path, bytes(head) + body + body))


def test_weights_in_the_message(path: Path, tmp_path: Path) -> None:
    """Weights may lie in the graph instead of the partition."""
    data = path.read_bytes()
    found = parts(data)
    model = official.model_def().FromString(found[0])
    for op in model.graph[0].op:
        if op.type == "Const":
            t = op.attr["value"].t
            t.data = found[1][t.desc.data_offset :][: t.desc.weight_size]
    message = model.SerializeToString()
    table = struct.pack(
        "<IIIIQQIIQQ", 2, 0, 8, 0, 0, len(found[8]), 0, 0, len(found[8]), len(message)
    )
    head = bytearray(data[:256])
    struct.pack_into("<Q", head, 184, len(table) + len(found[8]) + len(message))
    other = rewritten(path, tmp_path, bytes(head) + table + found[8] + message)
    assert digest(other) == digest(path)


def compressed(model: Any) -> None:
    """What atc does to attributes: names, and texts of some of them, by number."""
    names: list[str] = []
    values: list[str] = []
    for op in model.graph[0].op:
        for holder in (op, *op.input_desc, *op.output_desc):
            for key in list(holder.attr):
                if key == "value":
                    continue
                if key not in names:
                    names.append(key)
                attr, digits = holder.attr[key], names.index(key)
                short = (
                    b"\0" + bytes([digits % 127 + 1]) + bytes([digits // 127 + 1] * (digits > 126))
                )
                kept = holder.attr[short.decode()]
                kept.CopyFrom(attr)
                del holder.attr[key]
                if kept.WhichOneof("value") == "s":
                    text = kept.s.decode()
                    if text not in values:
                        values.append(text)
                    kept.i = values.index(text)
                elif kept.WhichOneof("value") == "list" and kept.list.val_type == 1:
                    texts = [s.decode() for s in kept.list.s]
                    values.extend(t for t in dict.fromkeys(texts) if t not in values)
                    kept.list.Clear()
                    kept.list.val_type = 2
                    kept.list.i.extend(map(values.index, texts))
    text_names = [n in ("data_format", "direction", "origin_format", "padding_mode", "approximate", "mode",
                        "coordinate_transformation_mode", "nearest_mode", "_input_name_key",
                        "_output_name_key", "_opt_input") for n in names]  # fmt: skip
    model.attr["om_compress_version"].i = 1
    for key, member, number, items in (
        ("attr_name_enum", "s", 1, [n.encode() for n in names]),
        ("attr_value_enum", "s", 1, [v.encode() for v in values]),
        ("attrs_use_string_value", "b", 4, text_names),
    ):
        model.attr[key].list.val_type = number
        getattr(model.attr[key].list, member).extend(items)


def test_compressed_attributes(tmp_path: Path) -> None:
    """OMs that atc writes hold attributes by number: they are read all the same."""
    plain = write(canonical(network()), tmp_path)
    model = official.model_def().FromString(plain.read_bytes())
    compressed(model)
    other = tmp_path / "c.air"
    other.write_bytes(model.SerializeToString())
    assert digest(other) == digest(plain)
    names = model.attr["attr_name_enum"].list.s
    del names[3:]
    other.write_bytes(model.SerializeToString())
    with pytest.raises(CirError, match="have no entry") as info:
        FRONTEND.extract(other, None)
    assert info.value.code == "E105"


@pytest.fixture
def atc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in compiler as a program on disk."""
    program = tmp_path / "atc"
    program.write_text(f"#!{sys.executable}\n{STAND_IN.read_text()}")
    program.chmod(0o755)
    monkeypatch.setenv("STAND_IN_RECORD", str(tmp_path / "record.json"))
    return program


def test_compiled_where_the_compiler_is(atc: Path, tmp_path: Path) -> None:
    """With atc and a chip the OM is the compiler's, and the AIR it was made from lies beside it."""
    import json

    model = canonical(network())
    out = tmp_path / "out" / "m.om"
    result = BACKEND.emit(model, out, soc="Ascend310P3", atc=str(atc))
    assert result.files == (out, out.with_suffix(".air")) and all(f.is_file() for f in result.files)
    assert "compiled by atc for Ascend310P3" in result.notes[0] and GRAPH_ONLY not in result.notes
    argv = json.loads((tmp_path / "record.json").read_text())["argv"]
    assert "--framework=1" in argv and "--soc_version=Ascend310P3" in argv
    feeds = [array(2, 3, 6, 6), np.zeros((2, 5), np.int64)]
    assert len(BACKEND.run(out, feeds)) == 2


def test_graph_only_without_compiler_or_chip(
    atc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No chip, or atc="none": the graph only; a compiler that does not exist is E903."""
    model = canonical(network())
    monkeypatch.setenv("ATC", str(atc))
    for options in ({}, {"atc": "none", "soc": "Ascend310P3"}):
        assert BACKEND.emit(model, tmp_path / "m.om", **options).notes == (GRAPH_ONLY,)
    with pytest.raises(CirError) as info:
        BACKEND.emit(model, tmp_path / "n.om", soc="Ascend310P3", atc=str(tmp_path / "no"))
    assert info.value.code == "E903" and not (tmp_path / "n.om").exists()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ({"gears": "banana"}, "E100", "not SYMBOL=SIZE"),
        ({"precision_mode": "int8"}, "E100", "nearest: fp32"),
        ({"timeout": "soon"}, "E100", "number of seconds"),
        ({"timeout": "nan"}, "E100", "number of seconds"),
        ({"atc": "atc"}, "E503", "name of a chip"),
    ],
)
def test_options_of_the_compiler_are_checked_without_it(
    options: dict[str, str], code: str, says: str, atc: Path, tmp_path: Path
) -> None:
    """A typing error, or a compiler that is named and not used, does not go unseen."""
    if "atc" in options:
        options = {"atc": str(atc)}
    with pytest.raises(CirError, match=says) as info:
        BACKEND.emit(canonical(network()), tmp_path / "m.om", **options)
    assert info.value.code == code and not (tmp_path / "m.om").exists()


def test_a_hanging_compiler_is_stopped(
    atc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time that was given, as a text like all options of the command line."""
    monkeypatch.setenv("STAND_IN_ATC", "hang")
    out = tmp_path / "out" / "m.om"
    with pytest.raises(CirError) as info:
        BACKEND.emit(canonical(network()), out, soc="Ascend310P3", atc=str(atc), timeout="1")
    assert info.value.code == "E961" and not out.parent.exists()


def test_a_failing_compiler_writes_nothing(
    atc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is reported; neither OM nor AIR stays."""
    monkeypatch.setenv("STAND_IN_ATC", "fail")
    monkeypatch.setenv("STAND_IN_SAYS", "E10501: no prototype")
    out = tmp_path / "out" / "m.om"
    with pytest.raises(CirError) as info:
        BACKEND.emit(canonical(network()), out, soc="Ascend310P3", atc=str(atc))
    assert info.value.code == "E505" and not out.parent.exists()
