"""Graphs and weights that are wrong, in files that are well-formed: each fault is named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cir.diagnostics import CirError
from tests.cann import official
from tests.cann.support import read, refused


def _op(model: Any, kind: str) -> Any:
    return next(op for op in model.graph[0].op if op.type == kind)


def _weight(model: Any) -> Any:
    ops = (op for op in model.graph[0].op if op.type == "Const")
    return next(op for op in ops if op.attr["value"].t.desc.shape.dim)


def _twice(m: Any) -> None:
    m.graph[0].op.add().CopyFrom(m.graph[0].op[5])


def _circle(m: Any) -> None:
    add, soft = _op(m, "Add"), _op(m, "SoftmaxV2")
    add.input[0], soft.input[0] = f"{soft.name}:0", f"{add.name}:0"


def _nobody(m: Any) -> None:
    _op(m, "Add").input[0] = "nobody:0"


def _short_weight(m: Any) -> None:
    t = _weight(m).attr["value"].t
    t.data = t.data[:-1]


def _huge_weight(m: Any) -> None:
    _weight(m).attr["value"].t.desc.shape.dim[0] = 2**40


def _negative_weight(m: Any) -> None:
    _weight(m).attr["value"].t.desc.shape.dim[0] = -3


def _text_weight(m: Any) -> None:
    _weight(m).attr["value"].t.desc.dtype = 13


def _no_value(m: Any) -> None:
    del _weight(m).attr["value"]


def _placed_nowhere(m: Any) -> None:
    _weight(m).attr["value"].t.data = b""


def _no_outputs(m: Any) -> None:
    del _op(m, "NetOutput").input[:]


def _wrong_output(m: Any) -> None:
    _op(m, "NetOutput").input[0] = "nobody:0"


def _subgraph(m: Any) -> None:
    _op(m, "Add").subgraph_name.append("then")


def _unknown_rank(m: Any) -> None:
    op = _op(m, "Data")
    for desc in (op.input_desc[0], op.output_desc[0]):
        del desc.shape.dim[:]
        desc.shape.dim.append(-2)


def _absolute(m: Any) -> None:
    _placed_nowhere(m)
    _weight(m).attr["location"].s = b"/etc/passwd"


@pytest.mark.parametrize(
    ("spoil", "what", "code"),
    [
        (_twice, "occur twice", "E105"),
        (_circle, "in a circle", "E105"),
        (_nobody, "which nothing computes", "E105"),
        (_short_weight, "bytes of data", "E105"),
        (_huge_weight, "bytes of data", "E105"),
        (_negative_weight, "has the shape", "E105"),
        (_text_weight, "data type 13", "E105"),
        (_no_value, "has no value", "E105"),
        (_placed_nowhere, "no data", "E105"),
        (_no_outputs, "no outputs", "E105"),
        (_wrong_output, "nobody:0", "E105"),
        (_subgraph, "subgraphs", "E105"),
        (_unknown_rank, "no shape", "E103"),
        (_absolute, "outside the model's folder", "E105"),
    ],
)
def test_graphs_that_are_wrong(
    spoil: Callable[[Any], None], what: str, code: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    """Each fault of a graph or a weight is named."""
    model = official.model_def().FromString(files["air"])
    spoil(model)
    path = tmp_path / "m.air"
    path.write_bytes(model.SerializeToString())
    refused(path, what, code)


@pytest.mark.parametrize(("offset", "size"), [(2**40, 0), (-8, 0), (512, 7), (2**63 - 1, 0)])
def test_weights_out_of_range(
    offset: int, size: int, files: dict[str, bytes], tmp_path: Path
) -> None:
    """Weights that lie outside their partition, or whose size is not that of their shape."""
    data = files["om"]
    count = struct.unpack_from("<I", data, 256)[0]
    rows = [struct.unpack_from("<IIQQ", data, 264 + 24 * i) for i in range(count)]
    body = {kind: data[264 + 24 * count + at :][:n] for kind, _, at, n in rows}
    model = official.model_def().FromString(body[0])
    desc = _weight(model).attr["value"].t.desc
    desc.data_offset = offset
    desc.weight_size = size or desc.weight_size
    body[0] = model.SerializeToString()
    table, at = struct.pack("<II", count, 0), 0
    for kind, part in body.items():
        table += struct.pack("<IIQQ", kind, 0, at, len(part))
        at += len(part)
    head = bytearray(data[:256])
    struct.pack_into("<Q", head, 184, len(table) + at)
    path = tmp_path / "m.om"
    path.write_bytes(bytes(head) + table + b"".join(body.values()))
    refused(path, "claims")


def test_links_are_not_followed(files: dict[str, bytes], tmp_path: Path) -> None:
    """A weight file that is a link to elsewhere is refused."""
    model = official.model_def().FromString(files["air"])
    _placed_nowhere(model)
    _weight(model).attr["location"].s = b"w/0"
    folder = tmp_path / "model"
    (folder / "w").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(bytes(4096))
    (folder / "w" / "0").symlink_to(tmp_path / "secret")
    path = folder / "m.air"
    path.write_bytes(model.SerializeToString())
    refused(path, "behind a link")


def test_all_unreadable_operators_at_once(files: dict[str, bytes], tmp_path: Path) -> None:
    """Operators without a row are listed together (E201), wrong arguments too (E202)."""
    model = official.model_def().FromString(files["air"])
    _op(model, "GroupNormSilu").type = "GroupNormSwish"
    _op(model, "SoftmaxV2").type = "MaskedSoftmaxWithRelPosBias"
    path = tmp_path / "m.air"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CirError) as info:
        read(path)
    text = str(info.value)
    assert info.value.code == "E201" and "GroupNormSwish" in text and "MaskedSoftmax" in text
