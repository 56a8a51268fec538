"""FlatBuffers: what is packed is unpacked; our schema is the one that netron publishes."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from cir.diagnostics import CirError
from framework_adapter.mindspore.lite import flat

#: netron's readers of scalars -> ours.
_READERS = {
    "int32_": {"int"},
    "uint32_": {"uint"},
    "int64_": {"long", "int64"},
    "int8_": {"byte"},
    "uint8_": {"ubyte"},
    "bool_": {"bool"},
    "float32_": {"float"},
    "float64_": {"double"},
    "string_": {"string"},
    "int64s_": {"[long]"},
}


def _model() -> dict:
    node = {
        "name": "conv",
        "primitive": {"value": ("Conv2DFusion", {"stride": [2, 1], "activation_type": "RELU6"})},
        "inputIndex": [0, 1],
        "outputIndex": [2],
    }
    tensor = {
        "name": "é",
        "dims": [-1, 3],
        "data": np.arange(5, dtype=np.uint8),
        "format": "KHWC",
    }
    return {"name": "m", "version": "MindSpore Lite 2.7.0", "nodes": [node], "allTensors": [tensor]}


def test_round_trip() -> None:
    """Values come back, with defaults where none was given; packing those again changes nothing."""
    data = flat.pack(_model())
    assert data[4:8] == b"MSL2"
    found = flat.unpack(data)
    (node,), (tensor,) = found["nodes"], found["allTensors"]
    op, fields = node["primitive"]["value"]
    assert op == "Conv2DFusion" and fields["stride"].tolist() == [2, 1]
    assert fields["activation_type"] == "RELU6" and fields["group"] == 0
    assert tensor["name"] == "é" and tensor["dims"].tolist() == [-1, 3]
    assert tensor["data"].tolist() == [0, 1, 2, 3, 4] and tensor["format"] == "KHWC"
    assert found["subGraph"] is None and found["obfuscate"] is False
    assert flat.pack(found) == data


def test_unknown_names_are_refused() -> None:
    """The writer takes no field, enum member or op that the schema lacks."""
    for wrong in (
        {"nonsense": 1},
        {"allTensors": [{"format": "HCWN"}]},
        {"nodes": [{"primitive": {"value": ("Nonsense", {})}}]},
    ):
        with pytest.raises(KeyError):
            flat.pack({**_model(), **wrong})


def _netron() -> str:
    folder = Path(str(metadata.distribution("netron").locate_file("netron")))
    return (folder / "mslite-schema.js").read_text()


def _fields(text: str, name: str) -> dict[str, tuple[str, int, str]]:
    """field -> (reader, offset in the vtable, default) of a table in netron's schema."""
    body = re.search(rf"schema\.{name} = class {name} {{(.*?)return \$;", text, re.S)
    assert body is not None, name
    rows = re.findall(r"\$\.(\w+) = reader\.(\w+)\(position, (\d+)(?:, ([^)]*))?\);", body[1])
    rows += [
        (f, "union", at, "")
        for f, at in re.findall(r"\$\.(\w+) = reader\.union\(position, (\d+)", body[1])
    ]
    return {field: (reader, int(at), default) for field, reader, at, default in rows}


def test_schema_is_netrons() -> None:
    """Each field of each table and op stands where netron reads it, with its type and default."""
    text, s = _netron(), flat.schema()
    checked = 0
    for name, fields in {**s.tables, **{n: f for n, (_, f) in s.ops.items()}}.items():
        theirs = _fields(text, name)
        for f in fields:
            if f.name == "nodeType" and name == "CNode" and f.name not in theirs:
                continue  # deprecated
            reader, at, default = theirs[f.name]
            assert at == 4 + 2 * f.slot, f"{name}.{f.name}"
            if f.type in s.enums:
                enum = s.enums[f.type]
                assert _READERS[reader] == {enum.scalar}
                assert int(default) == enum.members[f.default], f"{name}.{f.name}"
            elif reader in _READERS:
                assert f.type in _READERS[reader], f"{name}.{f.name}"
                if f.default is not None and reader != "bool_":
                    assert float(default.rstrip("n")) == pytest.approx(f.default), (
                        f"{name}.{f.name}"
                    )
                elif f.default is not None:
                    assert default == str(f.default).lower(), f"{name}.{f.name}"
            checked += 1
    assert checked > 150


def test_ops_and_enums_are_netrons() -> None:
    """Numbers of ops in the union, and members of enums."""
    text, s = _netron(), flat.schema()
    union = text[text.index("schema.PrimitiveType = class") :]
    theirs = {
        n: int(i) for i, n in re.findall(r"case (\d+): return mindspore\.schema\.(\w+)\.", union)
    }
    assert {n: i for n, (i, _) in s.ops.items()}.items() <= theirs.items()
    for name, enum in s.enums.items():
        body = re.search(rf"schema\.{name} = {{(.*?)}};", text, re.S)
        assert body is not None
        members = {n: int(v) for n, v in re.findall(r"\b([A-Za-z]\w*): (-?\d+)", body[1])}
        assert enum.members.items() <= members.items(), name


def test_not_a_model() -> None:
    """Other files are told apart by their identifier."""
    for data in (b"", b"MSL2", b"\0" * 64, b"PK\3\4" + b"\0" * 60):
        with pytest.raises(CirError, match="not a MindSpore Lite model") as info:
            flat.unpack(data)
        assert info.value.code == "E105"
