"""Every row's samples, run by PyTorch and through the row; and the rows against ATen's own schemas."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from cir.diagnostics import CirError  # noqa: E402
from framework_adapter import samples  # noqa: E402
from framework_adapter.mapping import Row, load  # noqa: E402
from framework_adapter.pytorch.samples import expected, overload  # noqa: E402

TABLE = load("pytorch")
ATEN = [r for r in TABLE.unique_rows() if r.ops[0].startswith(("aten.", "prims."))]
#: Arguments a row may leave out: they say where memory lies, or change nothing but speed.
IGNORED = {"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking", "generator",
           "requires_grad", "sparse_grad", "output_size"}  # fmt: skip


@pytest.mark.parametrize(
    "row", [r for r in TABLE.unique_rows() if "." in r.ops[0]], ids=lambda r: r.ops[0]
)
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
