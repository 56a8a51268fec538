"""Samples of rows, run by ONNX Runtime as models of one node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from framework_adapter import samples
from framework_adapter.lowering import lower
from framework_adapter.mapping import MappingTable, Row

Arrays = list[np.ndarray]
OPSET = 24


def both(table: MappingTable, row: Row, op: str, sample: Sequence[Any]) -> tuple[Arrays, Arrays]:
    """(results through the row, ONNX Runtime's results)."""
    from framework_adapter.onnx.extract import extract, run_source

    model, feeds = one_node(row, op, sample)
    want = run_source(model, feeds)
    return samples.interpret(lower(extract(model), table), feeds), want


def one_node(row: Row, op: str, sample: Sequence[Any]) -> tuple[Any, Arrays]:
    """A model of one node, and its feeds: arrays are inputs, lists and numbers initialisers."""
    from onnx import ModelProto, helper, numpy_helper

    from framework_adapter.onnx.proto import DATA_TYPES

    operands, attrs = samples.operands(sample)
    domain, _, name = op.rpartition(".")
    model = ModelProto(ir_version=11)
    feeds: Arrays = []
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
    count = len(row.results or (row.cases[-1].emit[-1].targets if row.cases else [0]))
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
