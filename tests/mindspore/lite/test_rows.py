"""Every reading row's samples: files of one node, in the eyes of MindSpore's shape functions and of NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cir.diagnostics import CirError
from cir.graph import TensorType
from framework_adapter import mapping, samples
from framework_adapter.lowering import lower
from framework_adapter.mapping import Row
from framework_adapter.mindspore.lite import flat
from framework_adapter.mindspore.lite.extract import extract
from framework_adapter.mindspore.lite.samples import one_node
from tests.mindspore.lite import expected, nnacl

TABLE = mapping.load("mindspore/lite")
CASES = [
    pytest.param(row, op, sample, id=f"{op}-{i}")
    for row in TABLE.unique_rows()
    for op in row.ops
    for i, sample in enumerate(row.samples)
]


def test_tables() -> None:
    """Well formed; every op of theirs is in the schema, has samples and an expectation."""
    TABLE.check()
    ops = {op for row in TABLE.unique_rows() for op in row.ops}
    assert ops <= set(flat.schema().ops)
    assert ops == set(expected.EXPECTED)
    assert all(row.samples for row in TABLE.unique_rows())


@pytest.mark.parametrize(("row", "op", "sample"), CASES)
def test_sample(row: Row, op: str, sample: list[Any], tmp_path: Path) -> None:
    """What MindSpore infers has the shapes expected; what is read computes the values expected."""
    want = expected.run(op, *samples.operands(sample))
    types = [TensorType("int32" if w.dtype.kind == "i" else w.dtype.name, w.shape) for w in want]
    path = tmp_path / "m.ms"
    data, feeds = one_node(op, sample, types)
    path.write_bytes(data)
    found = nnacl.check(path)
    assert found["agree"] == found["checkable"], found["problems"]
    got = samples.interpret(lower(extract(path), TABLE), feeds)
    assert [g.dtype.kind for g in got] == [w.dtype.kind for w in want]
    samples.check(row, sample, [g.astype(w.dtype) for g, w in zip(got, want)], want)


def test_rows_of_a_user_cannot_be_proven(tmp_path: Path) -> None:
    """No runtime is at hand: said, not skipped."""
    file = tmp_path / "mine.json"
    file.write_text(
        '{"framework": "mindspore/lite", "family": "mine", "rows": [{"op": "Abs", "args": "x", "emit": "abs(x)",'
        ' "samples": [["float32[2]"]]}]}'
    )
    with pytest.raises(CirError) as info:
        table = mapping.load("mindspore/lite", [file])
        samples.prove(table, [r for r in table.unique_rows() if r.origin == str(file)])
    assert info.value.code == "E204" and "cannot be run here" in str(info.value)


def test_defaults_are_those_of_the_schema() -> None:
    """A field that is left out of a file has the schema's default: a row may not claim another."""
    for row in TABLE.unique_rows():
        for op in row.ops:
            fields = {f.name: f for f in flat.schema().fields(op)}
            for arg in row.args:
                field = fields.get(arg.name.rstrip("_"))
                if field is not None and field.default is not None and not arg.required:
                    assert arg.default == field.default, f"{op}: {arg.name}"
