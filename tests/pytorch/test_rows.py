"""Every row's samples, run by PyTorch and through the row; and the rows against ATen's own schemas."""

from __future__ import annotations

import math
import operator
import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cir.diagnostics import CirError  # noqa: E402
from cir.graph import TensorType  # noqa: E402
from framework_adapter import samples  # noqa: E402
from framework_adapter.mapping import Row, load  # noqa: E402
from framework_adapter.pytorch.tensors import dtype_name, to_numpy, to_torch  # noqa: E402

TABLE = load("pytorch")
ATEN = [r for r in TABLE.unique_rows() if r.ops[0].startswith(("aten.", "prims."))]
HOST = [r for r in TABLE.unique_rows() if r.ops[0].startswith(("operator.", "torch.", "math."))]
#: Arguments a row may leave out: they say where memory lies, or change nothing but speed.
IGNORED = {"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking", "generator",
           "requires_grad", "sparse_grad", "output_size"}  # fmt: skip


def overload(op: str) -> Any:
    namespace, name, which = op.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), which)


def tensors(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return to_torch(x)
    if isinstance(x, tuple):
        return [tensors(i) for i in x]
    if isinstance(x, str) and isinstance(getattr(torch, x, None), torch.dtype):
        return getattr(torch, x)
    return x


def expected(row: Row, op: str, sample: Any) -> tuple[list[Any], list[Any]] | None:
    """(types, arrays) of the op's results; None when this op does not take the sample."""
    args, attrs = samples.operands(sample)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = overload(op)(*map(tensors, args), **{k: tensors(v) for k, v in attrs.items()})
    except (RuntimeError, TypeError, IndexError):
        return None
    found = list(result) if isinstance(result, (tuple, list)) else [result]
    found = [x if isinstance(x, torch.Tensor) else torch.tensor(x) for x in found]
    arrays = [to_numpy(x) for x in found]
    types: list[Any] = [TensorType(dtype_name(x.dtype), tuple(x.shape)) for x in found]
    unmade = [i for i, r in enumerate(row.results or ()) if r is None]
    return [None if i in unmade else t for i, t in enumerate(types)], [
        a for i, a in enumerate(arrays) if i not in unmade
    ]


@pytest.mark.parametrize("row", ATEN, ids=lambda r: r.ops[0])
def test_samples(row: Row) -> None:
    taken = dict.fromkeys(row.ops, 0)
    used = [0] * len(row.samples)
    for op in row.ops:
        for i, sample in enumerate(row.samples):
            want = expected(row, op, sample)
            if want is None:
                continue
            taken[op] += 1
            used[i] += 1
            if row.raw.get("note") == "always refused":
                with pytest.raises(CirError, match="E202"):
                    samples.run(TABLE, op, sample, want[0])
                continue
            got = samples.run(TABLE, op, sample, want[0])
            if "empty" in op:  # no defined content
                assert [(g.dtype, g.shape) for g in got] == [(w.dtype, w.shape) for w in want[1]]
            else:
                samples.check(row, sample, got, want[1])
    assert all(taken.values()), f"no sample fits {[op for op, n in taken.items() if not n]}"
    assert all(used), f"no op takes sample {[s for s, n in zip(row.samples, used) if not n]}"


@pytest.mark.parametrize("row", HOST, ids=lambda r: r.ops[0])
def test_host_arithmetic(row: Row) -> None:
    for op in row.ops:
        name = op.split(".")[1]
        fn = getattr(operator, name, None) or {"sym_float": float}.get(name, math.sqrt)
        for sample in row.samples:
            args, _ = samples.operands(sample)
            want = np.float32(fn(*[float(a) for a in args]))
            got = samples.run(TABLE, op, sample, [TensorType("float32", ())])
            samples.check(row, sample, got, [want])


def test_table_is_well_formed() -> None:
    TABLE.check()


@pytest.mark.parametrize("row", ATEN, ids=lambda r: r.ops[0])
def test_no_argument_of_the_op_is_forgotten(row: Row) -> None:
    """Positional parameters correspond by place, named ones by name; the rest must not matter."""
    positional = [a for a in row.args if a.kind == "positional"]
    named = {a.name for a in row.args if a.kind == "named"}
    if any(a.kind == "variadic" for a in row.args):
        return
    for op in row.ops:
        declared = overload(op)._schema.arguments
        by_place = [a.name for a in declared if not a.kwarg_only]
        by_name = {a.name for a in declared if a.kwarg_only}
        forgotten = set(by_place[len(positional) :]) | (
            by_name - named - {a.name for a in positional}
        )
        assert not forgotten - IGNORED, f"{op} has {sorted(forgotten - IGNORED)}"
