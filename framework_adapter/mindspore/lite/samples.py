"""Samples of rows as files of one node. No runtime is at hand: the rows' tests have the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import error
from framework_adapter import samples
from framework_adapter.mapping import MappingTable, Row
from framework_adapter.mindspore.lite import flat
from framework_adapter.mindspore.lite.write import CONSTANT, TYPE_IDS, VARIABLE

Arrays = list[np.ndarray]


def both(table: MappingTable, row: Row, op: str, sample: Sequence[Any]) -> tuple[Arrays, Arrays]:
    """Raises CirError E204: MindSpore Lite, which would run the sample, has no Python package."""
    raise error(
        "E204", f"row {op}: samples of MindSpore Lite rows cannot be run here", where=row.origin,
        fix="map the op where the model comes from, or add the row with a test to the package",
    )  # fmt: skip


def one_node(op: str, sample: Sequence[Any], results: Sequence[Any]) -> tuple[bytes, Arrays]:
    """A file of one node, and its feeds: arrays are inputs, numbers and lists are constants.

    Args:
        op: the op.
        sample: its operands.
        results: types of its results, of fixed sizes.
    """
    args, attrs = samples.operands(sample)
    feeds: Arrays = []
    tensors: list[dict[str, Any]] = []
    inputs: list[int] = []
    if op == "Cast":
        attrs = dict(attrs)
        args = (*args, TYPE_IDS[attrs.pop("dtype")])
    for x in args:
        if isinstance(x, np.ndarray):
            feeds.append(x)
            inputs.append(len(tensors))
            tensors.append(_tensor(f"x{len(tensors)}", x, VARIABLE))
        else:
            kind = np.asarray(x).dtype.kind
            array = np.asarray(x, np.float32 if kind == "f" else np.int32)
            tensors.append(_tensor(f"x{len(tensors)}", array, CONSTANT))
    given = range(len(tensors))
    for i, t in enumerate(results):
        made = np.empty(t.shape, dt.to_numpy(t.dtype))
        tensors.append(_tensor(f"y{i}", made, VARIABLE))
    made_at = range(len(given), len(tensors))
    fields = {k.rstrip("_"): v for k, v in attrs.items()}
    node = {
        "name": op, "primitive": {"value": (op, fields)}, "inputIndex": given,
        "outputIndex": made_at, "quantType": "QUANT_NONE",
    }  # fmt: skip
    tables = {
        "name": "sample", "version": "MindSpore Lite 2.7.0", "inputIndex": inputs,
        "outputIndex": made_at, "nodes": [node], "allTensors": tensors,
    }  # fmt: skip
    return flat.pack(tables, 4096 + sum(len(t.get("data", ())) for t in tensors)), feeds


def _tensor(name: str, x: np.ndarray, kind: int) -> dict[str, Any]:
    out = {
        "name": name, "nodeType": kind, "dataType": TYPE_IDS[x.dtype.name], "dims": x.shape,
        "format": "NHWC",
    }  # fmt: skip
    return {**out, "data": np.frombuffer(x.tobytes(), np.uint8)} if kind == CONSTANT else out
