"""Gathers by counting indices are views.

``x[arange(n)[:, None], arange(m)]``, which is how libraries broadcast a mask, reads x as it is: no
index tensor is needed, neither for whole axes nor for ranges of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cir import dim
from cir.dim import Dim
from cir.graph import Node
from cir.passes.sweep import Sweep

Result = Sequence[str] | None
#: Constants above this many elements are not looked at.
_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Grid:
    """An integer tensor of ``rank`` axes that counts up from ``start`` along one and repeats along
    the others; along none (``axis`` None, ``count`` 1) it is one number.
    """

    rank: int
    start: Dim
    axis: int | None = None
    count: Dim = 1


def gathered(s: Sweep, node: Node) -> Result:
    """gather by a grid: a slice, a reshape and an expand."""
    x, index = str(node.inputs[0]), str(node.inputs[1])
    if not s.b.types[index].rank or x in s.b.consts and index in s.b.consts:
        return None
    found = grid(s, index)
    if found is None:
        return None
    axis = int(node.attrs["axis"]) + s.b.types[x].rank
    lead = s.b.types[x].shape[:axis]
    placed = None if found.axis is None else found.axis + axis
    return _view(s, node, x, {axis: (found, placed)}, (*lead, *s.b.types[index].shape))


def gathered_nd(s: Sweep, node: Node) -> Result:
    """gather_nd by one grid for each axis: a transpose, a slice, a reshape and an expand."""
    x, index = str(node.inputs[0]), str(node.inputs[1])
    columns = _columns(s, index)
    if columns is None or node.attrs["batch_dims"] or x in s.b.consts and index in s.b.consts:
        return None
    places = {i: (g, g.axis) for i, g in enumerate(columns)}
    return _view(s, node, x, places, s.b.types[index].shape[:-1])


def along_axis(s: Sweep, node: Node) -> Result:
    """gather_elements by a grid along its axis: a slice."""
    x, index, axis = str(node.inputs[0]), str(node.inputs[1]), int(node.attrs["axis"])
    found = grid(s, index)
    have, want = s.b.types[x].shape, s.b.types[index].shape
    if found is None or found.axis != axis + len(have):
        return None
    if any(a != b for i, (a, b) in enumerate(zip(have, want)) if i != found.axis):
        return None
    return _view(s, node, x, {found.axis: (found, found.axis)}, want)


def reached(s: Sweep, node: Node) -> Result:
    """What counts from k is nowhere below k."""
    counted, bound = grid(s, str(node.inputs[0])), s.b.value(node.inputs[1])
    if counted is None or bound is None or bound.size != 1 or not isinstance(bound.item(), int):
        return None
    if not isinstance(counted.start, int) or counted.start < bound.item():
        return None
    true = s.b.const(np.asarray(True))
    return [s.emit(node, "expand", [true], {"shape": s.b.types[node.name].shape}, final=True)]


def spread(s: Sweep, node: Node) -> Result:
    """gather by expanded indices is the expanded result of a gather by the indices."""
    x, index = str(node.inputs[0]), s.producer(node.inputs[1])
    if index is None or index.op != "expand":
        return None
    rank = s.b.types[index.name].rank - s.b.types[str(index.inputs[0])].rank
    source = str(index.inputs[0])
    if rank:  # the axes that expand adds stand in front of the indices' own, not of the result's
        shape = (1,) * rank + s.b.types[source].shape
        source = s.emit(node, "reshape", [source], {"shape": shape})
    small = s.emit(node, "gather", [x, source], dict(node.attrs))
    return [s.emit(node, "expand", [small], {"shape": s.b.types[node.name].shape}, final=True)]


def _view(
    s: Sweep, node: Node, x: str, places: dict[int, tuple[Grid, int | None]], shape: Sequence[Dim]
) -> Result:
    """x cut to the grids of its axes, these at their places of a result of leading ``shape``.

    ``places``: axis of x -> its grid and the axis of the result that it counts along.
    """
    t = s.b.types[x]
    at = [p for _, p in places.values() if p is not None]
    if len(set(at)) != len(at):
        return None
    cuts = [
        (i, g.start, dim.add(g.start, g.count))
        for i, (g, _) in places.items()
        if (g.start, g.count) != (0, t.shape[i])
    ]
    if cuts and not all(_inside(t.shape[i], lo, hi) for i, lo, hi in cuts):
        return None
    if cuts:
        axes, starts, ends = zip(*cuts)
        attrs = {"axes": axes, "starts": starts, "ends": ends, "steps": (1,) * len(cuts)}
        x = s.emit(node, "slice", [x], attrs)
    fixed = [i for i, (_, p) in places.items() if p is None]
    counted = sorted(
        (i for i, (_, p) in places.items() if p is not None), key=lambda i: places[i][1] or 0
    )
    before = [i for i in range(t.rank) if i not in places and i < min(places)]
    after = [i for i in range(t.rank) if i not in places and i > min(places)]
    perm = (*before, *fixed, *counted, *after)
    if perm != tuple(range(t.rank)):
        x = s.emit(node, "transpose", [x], {"perm": perm})
    sizes = {p: g.count for g, p in places.values() if p is not None}
    middle = [sizes.get(a, 1) for a in range(len(before), len(shape))]
    whole = (*shape[: len(before)], *middle, *(t.shape[i] for i in after))
    x = s.emit(node, "reshape", [x], {"shape": whole})
    return [s.emit(node, "expand", [x], {"shape": s.b.types[node.name].shape}, final=True)]


def _inside(size: Dim, start: Dim, end: Dim) -> bool:
    """Whether a range lies in an axis; a symbolic end is taken to (else the gather had failed)."""
    known = [d for d in (start, end, size) if isinstance(d, int)]
    return known == sorted(known) and (not known or known[0] >= 0)


def _columns(s: Sweep, index: str) -> list[Grid] | None:
    """The grids that an index tensor [..., depth] holds along its last axis."""
    t = s.b.types[index]
    c = s.b.consts.get(index)
    if c is not None:
        columns = np.moveaxis(c.numpy(), -1, 0) if c.size <= _LIMIT else ()
        found = [_counted(column) for column in columns]
    else:
        joined = s.producer(index)
        parts = [index]
        if joined is not None and joined.op == "concat" and joined.attrs["axis"] == -1:
            parts = [str(i) for i in joined.inputs]
        if any(s.b.types[p].shape[-1] != 1 for p in parts):
            return None
        found = [_without_last(grid(s, p)) for p in parts]
    whole = [g for g in found if g is not None]
    return whole if whole and len(whole) == t.shape[-1] else None


def _without_last(g: Grid | None) -> Grid | None:
    if g is None or g.axis == g.rank - 1:
        return None
    return replace(g, rank=g.rank - 1)


def grid(s: Sweep, name: str) -> Grid | None:
    """What a value counts, None when it does not or that is not known."""
    c = s.b.consts.get(name)
    if c is not None:
        return _counted(c.numpy()) if c.type.dtype.startswith("int") and c.size <= _LIMIT else None
    node = s.producer(name)
    if node is None or not s.b.types[name].dtype.startswith("int"):
        return None
    source = str(node.inputs[0])
    if node.op == "arange":
        start, _, delta = (s.b.value(i) for i in node.inputs)
        if start is None or delta is None or delta.item() != 1 or not isinstance(start.item(), int):
            return None
        return Grid(1, start.item(), 0, s.b.types[name].shape[0])
    if node.op not in ("reshape", "expand", "transpose", "slice", "cast"):
        return None
    g = grid(s, source)
    if g is None:
        return None
    before, after = s.b.types[source].shape, s.b.types[name].shape
    match node.op:
        case "expand":
            added = len(after) - len(before)
            return replace(g, rank=len(after), axis=None if g.axis is None else g.axis + added)
        case "transpose":
            place = None if g.axis is None else list(node.attrs["perm"]).index(g.axis)
            return replace(g, axis=place)
        case "slice":
            return _sliced(g, node, after)
        case "reshape":
            return _reshaped(g, before, after)
    return g


def _sliced(g: Grid, node: Node, after: Sequence[Dim]) -> Grid | None:
    for a, start, step in zip(node.attrs["axes"], node.attrs["starts"], node.attrs["steps"]):
        if int(a) + g.rank == g.axis:
            return replace(g, start=dim.add(g.start, start), count=after[a]) if step == 1 else None
    return g


def _reshaped(g: Grid, before: Sequence[Dim], after: Sequence[Dim]) -> Grid | None:
    """Only axes of size 1 may come and go."""
    wide = [d for d in before if d != 1]
    places = [i for i, d in enumerate(after) if d != 1]
    if wide != [after[i] for i in places]:
        return None
    if g.axis is None or before[g.axis] == 1:
        return Grid(len(after), g.start)
    nth = sum(d != 1 for d in before[: g.axis])
    return replace(g, rank=len(after), axis=places[nth])


def _counted(arr: np.ndarray) -> Grid | None:
    """A constant that counts."""
    if not arr.size or arr.dtype.kind not in "iu":
        return None
    start = int(arr.flat[0])
    if start < 0:
        return None
    if (arr == start).all():
        return Grid(arr.ndim, start)
    for axis, n in enumerate(arr.shape):
        shape = [n if i == axis else 1 for i in range(arr.ndim)]
        if n > 1 and np.array_equal(
            arr, np.broadcast_to(start + np.arange(n).reshape(shape), arr.shape)
        ):
            return Grid(arr.ndim, start, axis, n)
    return None
