"""Samples of rows, run by PyTorch itself."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from cir.diagnostics import error
from cir.graph import TensorType
from framework_adapter import samples
from framework_adapter.mapping import MappingTable, Row
from framework_adapter.pytorch.tensors import dtype_name, to_numpy, to_torch

Arrays = list[np.ndarray]
_HOST = ("operator", "torch", "math")


def both(
    table: MappingTable, row: Row, op: str, sample: Sequence[Any]
) -> tuple[Arrays, Arrays] | None:
    """(results through the row, PyTorch's results); None when the op does not take the sample."""
    found = expected(row, op, sample)
    if found is None:
        return None
    return samples.run(table, op, sample, found[0]), found[1]


def expected(
    row: Row, op: str, sample: Sequence[Any]
) -> tuple[list[TensorType | None], Arrays] | None:
    """(types, arrays) of the op's results; None when the op does not take the sample."""
    import torch

    args, attrs = samples.operands(sample)
    if op.partition(".")[0] in _HOST:
        return [TensorType("float32", ())], [_on_host(op, args)]
    run = overload(op)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = run(*map(_tensors, args), **{k: _tensors(v) for k, v in attrs.items()})
    except (RuntimeError, TypeError, IndexError):
        return None
    found = list(result) if isinstance(result, (tuple, list)) else [result]
    found = [x if isinstance(x, torch.Tensor) else torch.tensor(x) for x in found]
    types = [TensorType(dtype_name(x.dtype), tuple(x.shape)) for x in found]
    unmade = [i for i, r in enumerate(row.results or ()) if r is None]
    return (
        [None if i in unmade else t for i, t in enumerate(types)],
        [to_numpy(x) for i, x in enumerate(found) if i not in unmade],
    )


def overload(op: str) -> Any:
    """The operator with an id such as ``aten.relu.default``. Raises CirError E203."""
    import torch

    found: Any = torch.ops
    try:
        for part in op.split("."):
            found = getattr(found, part)
    except (AttributeError, RuntimeError) as exc:
        fix = "write namespace.name.overload, as in aten.relu.default"
        raise error("E203", f"PyTorch has no operator {op!r}", why=str(exc), fix=fix) from exc
    return found


def _on_host(op: str, args: Sequence[Any]) -> np.ndarray:
    """Arithmetic on sizes, of float numbers."""
    name = op.split(".")[1]
    fn: Any = getattr(operator, name, None) or {"sym_float": float}.get(name, math.sqrt)
    return np.asarray(np.float32(fn(*[float(a) for a in args])))


def _tensors(x: Any) -> Any:
    import torch

    if isinstance(x, np.ndarray):
        return to_torch(x)
    if isinstance(x, tuple):
        return [_tensors(i) for i in x]
    if isinstance(x, str) and isinstance(getattr(torch, x, None), torch.dtype):
        return getattr(torch, x)
    return x
