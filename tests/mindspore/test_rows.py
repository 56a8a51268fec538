"""Every row's samples, run by MindSpore itself and through the IR."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("mindspore")

from cir.graph import TensorType  # noqa: E402
from framework_adapter import mapping, samples  # noqa: E402
from framework_adapter.lowering import lower  # noqa: E402
from framework_adapter.mapping import Row  # noqa: E402
from framework_adapter.mindspore import samples as primitives  # noqa: E402
from tests.mindspore import expected  # noqa: E402

TABLE = mapping.load("mindspore")
#: Made by the extraction, not by MindSpore: tested with whole cells.
REGIONS = ("cond", "while_loop")
CASES = [
    pytest.param(row, sample, id=f"{row.ops[0]}-{i}")
    for row in TABLE.unique_rows()
    if row.ops[0] not in REGIONS
    for i, sample in enumerate(row.samples)
]


def test_table_is_well_formed() -> None:
    TABLE.check()


@pytest.mark.parametrize(("row", "sample"), CASES)
def test_sample(row: Row, sample: list[Any]) -> None:
    op = row.ops[0]
    args, attrs = samples.operands(sample)
    run = expected.run if op in expected.EXPECTED else primitives.run
    samples.check(row, sample, *primitives.through(TABLE, row, op, sample, run(op, args, attrs)))


def test_expectations_are_needed() -> None:
    """The table of expectations names rows that exist, first in their row."""
    first = {row.ops[0] for row in TABLE.unique_rows()}
    assert sorted(set(expected.EXPECTED) - first) == []


@pytest.mark.parametrize(
    ("index", "masks"),
    [
        (np.s_[::-1], dict(begin=(0,), end=(0,), strides=(-1,), begin_mask=1, end_mask=1)),
        (np.s_[1:3, None, 2:], dict(begin=(1, 0, 2), end=(3, 1, 6), strides=(1, 1, 1), new_axis_mask=2)),
        (np.s_[..., -2:], dict(begin=(0, -2), end=(0, 6), strides=(1, 1), ellipsis_mask=1)),
        (np.s_[-1, 4:1:-2], dict(begin=(-1, 4), end=(0, 1), strides=(1, -2), shrink_axis_mask=1)),
    ],
)  # fmt: skip
def test_strided_slice_is_python_slicing(index: Any, masks: dict[str, Any]) -> None:
    """Forms that the CPU kernel of MindSpore 2.10 gets wrong or refuses."""
    x = samples.tensor("float32[4,6]")
    assert x is not None
    want = x[index]
    graph, feeds = samples.graph(
        "mindspore", "StridedSlice", [x], masks, [TensorType("float32", want.shape)]
    )
    got = samples.interpret(lower(graph, TABLE), feeds)[0]
    assert np.array_equal(got, want)
