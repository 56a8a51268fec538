"""Every row's samples: TensorFlow itself against the row, lowered and interpreted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from framework_adapter import samples
from framework_adapter.mapping import load
from framework_adapter.tensorflow.samples import both

pytest.importorskip("tensorflow")

TABLE = load("tensorflow")
#: Rows whose operands or results no sample can spell; test_control.py and test_models.py run them.
ELSEWHERE = {"If", "While", "Bitcast", *(op for op in TABLE.rows if op.startswith("TensorList"))}
CASES = [
    pytest.param(op, sample, id=f"{op}-{i}")
    for op, row in TABLE.rows.items()
    for i, sample in enumerate(row.samples)
    if op not in ELSEWHERE
]


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_row(op: str, sample: Sequence[Any]) -> None:
    row = TABLE.rows[op]
    samples.check(row, sample, *both(TABLE, row, op, sample))


def test_table_is_sound() -> None:
    TABLE.check()
