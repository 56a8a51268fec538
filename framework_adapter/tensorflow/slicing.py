"""StridedSlice and Slice: NumPy-style indexing with TensorFlow's bit masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.context import Context, Value
from framework_adapter.source import SourceNode


@dataclass(frozen=True)
class _Entry:
    """One axis of the input: kept whole, cut, or reduced to one element."""

    spec: int | None  # position in begin/end/strides; None: a full axis
    shrink: bool = False


def strided_slice(
    c: Context,
    node: SourceNode,
    x: Value,
    begin: Any,
    end: Any,
    strides: Any,
    *,
    begin_mask: int,
    end_mask: int,
    ellipsis_mask: int,
    new_axis_mask: int,
    shrink_axis_mask: int,
) -> Value:
    """StridedSlice: x[begin:end:strides]; masks stand for ``:``, ``...``, ``newaxis``, ``i``."""
    steps = c.dims(strides)
    entries, new_axes = _entries(
        len(steps), c.rank(x), ellipsis_mask, new_axis_mask, shrink_axis_mask
    )
    cut = [(a, e) for a, e in enumerate(entries) if e.spec is not None]
    if c.b.value(begin) is None and _picks_only(cut, begin_mask, end_mask, steps):
        x = _pick(c, x, begin, cut)
        shape = list(c.shape(x))
        shrunk: list[int] = []
    else:
        bounds = _Bounds(c.dims(begin), c.dims(end), steps, begin_mask, end_mask)
        x = _cut(c, x, cut, bounds)
        shape = list(c.shape(x))
        shrunk = [a for a, e in cut if e.shrink]
    left: list[Dim] = [d for a, d in enumerate(shape) if a not in shrunk]
    for place in new_axes:
        left.insert(place, 1)
    return x if tuple(left) == c.shape(x) else c.op("reshape", x, shape=left)


def _entries(
    specs: int, rank: int, ellipsis: int, new_axis: int, shrink: int
) -> tuple[list[_Entry], list[int]]:
    """What happens to each input axis, and where the result gets new axes."""
    entries: list[_Entry] = []
    new_axes: list[int] = []
    kept = 0
    named = sum(not (ellipsis | new_axis) >> i & 1 for i in range(specs))
    for i in range(specs):
        if ellipsis >> i & 1:
            entries += [_Entry(None)] * (rank - named)
            kept += rank - named
        elif new_axis >> i & 1:
            new_axes.append(kept)
            kept += 1
        else:
            one = bool(shrink >> i & 1)
            entries.append(_Entry(i, one))
            kept += not one
    entries += [_Entry(None)] * (rank - len(entries))
    return entries, new_axes


def _picks_only(
    cut: list[tuple[int, _Entry]], begin_mask: int, end_mask: int, steps: tuple[Dim, ...]
) -> bool:
    whole = begin_mask & end_mask
    specs = [e.spec for _, e in cut if e.spec is not None and not e.shrink]
    return all(whole >> i & 1 and steps[i] == 1 for i in specs)


def _pick(c: Context, x: Value, begin: Value, cut: list[tuple[int, _Entry]]) -> Value:
    """Elements at data-dependent places, the last axis first so that axis numbers stay."""
    for axis, e in reversed(cut):
        if e.shrink:
            place = c.op("gather", begin, c.tensor(e.spec, "int64"), axis=0)
            x = c.op("gather", x, place, axis=axis)
    return x


@dataclass(frozen=True)
class _Bounds:
    begin: tuple[Dim, ...]
    end: tuple[Dim, ...]
    steps: tuple[Dim, ...]
    begin_mask: int
    end_mask: int

    def of(self, i: int, n: Dim, shrink: bool) -> tuple[Dim, Dim, int]:
        """Absolute (start, end, step) for an axis of size n."""
        step = 1 if shrink else int(self.steps[i])
        start = None if self.begin_mask >> i & 1 and not shrink else self.begin[i]
        end = None if self.end_mask >> i & 1 else self.end[i]
        if shrink:
            assert start is not None
            start = dm.add(n, start) if _negative(start) else start
            return start, dm.add(start, 1), 1
        if isinstance(n, int) and not isinstance(start, str) and not isinstance(end, str):
            lo, hi, _ = slice(start, end, step).indices(n)
            return lo, max(lo, hi) if step > 0 else min(lo, hi), step
        if step > 0:
            return _place(start, n, 0), _place(end, n, n), step
        return _place(start, n, dm.sub(n, 1)), -1 if end is None else _place(end, n, -1), step


def _negative(d: Dim) -> bool:
    return (isinstance(d, int) and d < 0) or (isinstance(d, str) and d.startswith("-"))


def _place(at: Dim | None, n: Dim, default: Dim) -> Dim:
    """A bound on an axis whose size or place is symbolic.

    A fixed bound is clamped, as TensorFlow does, save where a size of at least 1 makes that
    needless; a symbolic one is taken to lie inside.
    """
    if at is None:
        return default
    if isinstance(at, int) and at not in (-1, 0, 1):
        return dm.maximum(dm.add(n, at), 0) if at < 0 else dm.minimum(at, n)
    return dm.add(n, at) if _negative(at) else at


def _cut(c: Context, x: Value, cut: list[tuple[int, _Entry]], bounds: _Bounds) -> Value:
    axes, starts, ends, steps = [], [], [], []
    for axis, e in cut:
        assert e.spec is not None
        n = c.shape(x)[axis]
        start, end, step = bounds.of(e.spec, n, e.shrink)
        if (start, end, step) != (0, n, 1):
            axes.append(axis)
            starts.append(start)
            ends.append(end)
            steps.append(step)
    if not axes:
        return x
    return c.op("slice", x, axes=axes, starts=starts, ends=ends, steps=steps)


def slice_(c: Context, node: SourceNode, x: Value, begin: Any, size: Any) -> Value:
    """Slice: ``size`` elements from ``begin`` on each axis; size -1 takes the rest."""
    starts, sizes = c.dims(begin), c.dims(size)
    shape = c.shape(x)
    ends = [n if s == -1 else dm.add(b, s) for b, s, n in zip(starts, sizes, shape)]
    axes = [i for i, n in enumerate(shape) if starts[i] != 0 or ends[i] != n]
    if not axes:
        return x
    return c.op(
        "slice",
        x,
        axes=axes,
        starts=[starts[i] for i in axes],
        ends=[ends[i] for i in axes],
        steps=[1] * len(axes),
    )
