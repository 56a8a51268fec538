"""Samples of rows against the operators' definitions: nothing on a plain machine runs GE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import error
from cir.graph import Const, TensorType
from framework_adapter import samples
from framework_adapter.cann.reference import REFERENCE
from framework_adapter.lowering import lower
from framework_adapter.mapping import MappingTable, Row
from framework_adapter.source import Ref, SourceGraph, SourceNode

Arrays = list[np.ndarray]


def both(table: MappingTable, row: Row, op: str, sample: Sequence[Any]) -> tuple[Arrays, Arrays]:
    """(results through the row, results by definition). Raises CirError E204 without definition."""
    args, attrs = samples.operands(sample)
    if op.endswith("D") and op.removesuffix("D") in REFERENCE and op not in REFERENCE:
        return _static(table, op, args, attrs)
    if op not in REFERENCE:
        raise error("E204", f"row {op}: there is no definition of the operator to compare with",
                    fix="add one to framework_adapter/cann/reference.py")  # fmt: skip
    want = _results(op, args, attrs)
    return _through(table, op, args, attrs, want), want


def _static(
    table: MappingTable, op: str, args: Sequence[Any], attrs: dict[str, Any]
) -> tuple[Arrays, Arrays]:
    """An operator whose name ends in D has as attributes what the one without has as operands."""
    row = table.rows[op]
    names = [a.name for a in row.args if a.kind == "positional"]
    plain = {n: a for n, a in zip(names, args) if not isinstance(a, np.ndarray)}
    tensors = [a for a in args if isinstance(a, np.ndarray)]
    want = _results(op.removesuffix("D"), args, attrs)
    return _through(table, op, tensors, {**plain, **attrs}, want), want


def _results(op: str, args: Sequence[Any], attrs: dict[str, Any]) -> Arrays:
    with np.errstate(all="ignore"):
        found = REFERENCE[op](*args, **attrs)
    like = next((a.dtype for a in args if isinstance(a, np.ndarray)), np.dtype("float32"))
    results = found if isinstance(found, tuple) else (found,)
    return [np.asarray(r, like if np.asarray(r).dtype == np.float64 else None) for r in results]


def _through(
    table: MappingTable, op: str, args: Sequence[Any], attrs: dict[str, Any], want: Arrays
) -> Arrays:
    """Results through the row: arrays are inputs, numbers and lists constants."""
    inputs, consts, operands, feeds = {}, {}, [], []
    for i, a in enumerate(args):
        name = f"x{i}"
        operands.append(None if a is None else Ref(name))
        if isinstance(a, np.ndarray):
            inputs[name] = TensorType(dt.from_numpy(a.dtype), a.shape)
            feeds.append(a)
        elif a is not None:
            array = np.asarray(a)
            consts[name] = Const.of(array.astype(np.float32) if array.dtype.kind == "f" else array)
    outputs = tuple(f"y{i}" for i in range(len(want)))
    node = SourceNode(op, tuple(operands), attrs, outputs)
    source = SourceGraph(table.room, inputs, outputs, (node,), consts)
    return samples.interpret(lower(source, table), feeds)
