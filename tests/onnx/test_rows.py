"""Every row's samples: ONNX Runtime against the row, extracted, lowered and interpreted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from framework_adapter import samples
from framework_adapter.lowering import lower
from framework_adapter.mapping import load
from framework_adapter.onnx.extract import extract, run_source
from framework_adapter.onnx.proto import DATA_TYPES

TABLE = load("onnx")
#: Rows with bodies: test_extract.py runs them.
ELSEWHERE = {"If", "Loop"}
OPSET = 24
CASES = [
    pytest.param(op, sample, id=f"{op}-{i}")
    for op, row in TABLE.rows.items()
    for i, sample in enumerate(row.samples)
    if op not in ELSEWHERE
]


def one_node(op: str, sample: Sequence[Any]) -> tuple[Any, list[np.ndarray]]:
    """A model of one node: arrays are inputs, lists and numbers initialisers."""
    from onnx import ModelProto, helper, numpy_helper

    operands, attrs = samples.operands(sample)
    domain, _, name = op.rpartition(".")
    model = ModelProto(ir_version=11)
    feeds: list[np.ndarray] = []
    names = []
    for i, x in enumerate(operands):
        if x is None:
            names.append("")
            continue
        names.append(f"x{i}")
        if isinstance(x, np.ndarray):
            code = helper.np_dtype_to_tensor_dtype(x.dtype)
            model.graph.input.append(helper.make_tensor_value_info(names[-1], code, x.shape))
            feeds.append(x)
        else:
            kind = np.asarray(x).dtype.kind
            array = np.asarray(x, {"f": np.float32, "i": np.int64}.get(kind))
            model.graph.initializer.append(numpy_helper.from_array(array, names[-1]))
    while not names[-1]:
        names.pop()
    given = {k: DATA_TYPES[v] if k == "to" else v for k, v in attrs.items()}
    row = TABLE.rows[op]
    count = len(row.results or row.cases[-1].emit[-1].targets if row.cases else [0])
    if op == "Split":
        count = given.get("num_outputs") or len(operands[1])
    outs = [f"y{i}" if not row.results or row.results[i] else "" for i in range(count)]
    while not outs[-1]:
        outs.pop()
    model.graph.node.append(helper.make_node(name, names, outs, domain=domain, **given))
    model.graph.output.extend(helper.make_empty_tensor_value_info(o) for o in outs if o)
    model.graph.name = "g"
    for d, v in (("", OPSET), ("com.microsoft", 1)):
        model.opset_import.append(helper.make_opsetid(d, v))
    return model, feeds


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_sample(op: str, sample: Sequence[Any]) -> None:
    """The runtime's results and the IR's, from the same file."""
    model, feeds = one_node(op, sample)
    want = run_source(model, feeds)
    got = samples.interpret(lower(extract(model), TABLE), feeds)
    samples.check(TABLE.rows[op], sample, got, want)


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
