"""Every row's samples: the operator's definition against the row, lowered and interpreted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cir.diagnostics import CirError
from framework_adapter import samples
from framework_adapter.cann import signatures
from framework_adapter.cann.emit import table
from framework_adapter.cann.samples import both
from framework_adapter.emission import calls
from framework_adapter.mapping import load

TABLE = load("cann")
CASES = [
    pytest.param(op, sample, id=f"{op}-{i}")
    for op, row in TABLE.rows.items()
    for i, sample in enumerate(row.samples)
]


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_sample(op: str, sample: Sequence[Any]) -> None:
    """The definition's results and the IR's."""
    row = TABLE.rows[op]
    samples.check(row, sample, *both(TABLE, row, op, sample))


def test_table_is_well_formed() -> None:
    """Rows are checked in full, name operators that exist, and parameters these have."""
    TABLE.check()
    for row in TABLE.unique_rows():
        known = {name for op in row.ops for name in signatures.load()[op].attrs}
        assert {a.name for a in row.args if a.kind == "named"} <= known, row.ops


def test_every_emitted_op_can_be_read() -> None:
    """There is a row for each operator that emission may use."""
    used = {op for row in table().rows.values() for case in row.cases for op in case.needs}
    used |= {
        c.op
        for row in table().rows.values()
        for case in row.cases
        for s in case.emit
        for c in calls(s.value)
        if c.op[0].isupper()
    }
    assert used <= set(TABLE.rows), "emitted but not readable"


def test_an_operator_without_definition_is_named() -> None:
    """A new row needs a definition to be compared with (E204)."""
    row = TABLE.rows["Relu"]
    with pytest.raises(CirError, match="no definition") as info:
        both(TABLE, row, "NoSuch", ["float32[2]"])
    assert info.value.code == "E204"
