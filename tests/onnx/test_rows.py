"""Every row's samples: ONNX Runtime against the row, extracted, lowered and interpreted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from framework_adapter import samples
from framework_adapter.mapping import load
from framework_adapter.onnx.samples import both

TABLE = load("onnx")
#: Rows with bodies: test_extract.py runs them.
ELSEWHERE = {"If", "Loop"}
CASES = [
    pytest.param(op, sample, id=f"{op}-{i}")
    for op, row in TABLE.rows.items()
    for i, sample in enumerate(row.samples)
    if op not in ELSEWHERE
]


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_sample(op: str, sample: Sequence[Any]) -> None:
    """The runtime's results and the IR's, from the same file."""
    row = TABLE.rows[op]
    samples.check(row, sample, *both(TABLE, row, op, sample))


def test_table_is_well_formed() -> None:
    """Rows are checked in full."""
    TABLE.check()


def test_every_emitted_op_can_be_read() -> None:
    """There is a row for each op that emission may use."""
    from cir import spec
    from framework_adapter.onnx.emit import table

    used = {op for row in table().rows.values() for case in row.cases for op in case.needs}
    handlers = {
        "Gemm",
        "MatMul",
        "Add",
        "Mul",
        "Transpose",
        "Unsqueeze",
        "Squeeze",
        "Shape",
        "Concat",
        "Expand",
    }
    known = {op.rpartition(".")[2] for op in TABLE.rows}
    assert (used | handlers) - known == set(), "emitted but not readable"
    assert len(spec.all_ops()) > 100
