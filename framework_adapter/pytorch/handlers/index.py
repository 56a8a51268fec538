"""Gathering, scattering and masks."""
# ruff: noqa: D103  (the row that names a handler describes it)

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cir import dim as dm
from cir.dim import Dim
from cir.infer import broadcast_shapes
from framework_adapter.context import Context, Value
from framework_adapter.functions import axis
from framework_adapter.pytorch.handlers.shape import _bounds, cut
from framework_adapter.source import SourceNode


def index_tensor(c: Context, node: SourceNode, self: Value, indices: Any) -> Any:
    """NumPy's advanced indexing: index tensors broadcast together and replace their axes.

    Adjacent indexed axes keep their place, separated ones move to the front. A boolean mask stands
    for the index vectors of its true elements.
    """
    if len(indices) == 1 and indices[0] is not None and _covers(c, self, indices[0]):
        return masked_select(c, node, self, indices[0])
    given = _expanded(c, indices)
    axes = [a for a, i in enumerate(given) if i is not None]
    if len(axes) == 1:
        return c.op("gather", self, given[axes[0]], axis=axes[0])
    adjacent = axes == list(range(axes[0], axes[-1] + 1))
    n = c.rank(self)
    rest = [a for a in range(n) if a not in axes]
    x = self if axes[0] == 0 and adjacent else c.op("transpose", self, perm=(*axes, *rest))
    y = c.op("gather_nd", x, _stacked(c, [given[a] for a in axes]))
    before = axes[0]
    if not adjacent or before == 0:
        return y
    k = c.rank(y) - len(rest)  # rank of the broadcast index
    return c.op(
        "transpose", y, perm=(*range(k, k + before), *range(k), *range(k + before, c.rank(y)))
    )


def _covers(c: Context, x: Value, mask: Value) -> bool:
    return c.dtype(mask) == "bool" and c.rank(mask) == c.rank(x) and c.rank(x) > 0


def _expanded(c: Context, indices: Sequence[Any]) -> list[Value | None]:
    """One int64 index or None for each axis; masks become the vectors of their true places."""
    out: list[Value | None] = []
    for i in indices:
        if i is None:
            out.append(None)
        elif c.dtype(i) in ("bool", "uint8"):
            places = c.op("nonzero", i)
            n, rank = c.shape(places)[0], c.rank(i)
            for a in range(rank):
                column = c.op("slice", places, axes=[1], starts=[a], ends=[a + 1], steps=[1])
                out.append(c.op("reshape", column, shape=(n,)))
        else:
            out.append(c.cast(i, "int64"))
    return out


def _stacked(c: Context, indices: Sequence[Any]) -> Value:
    """Index tensors broadcast together and stacked along a new last axis."""
    shape: tuple[Dim, ...] = ()
    for i in indices:
        shape = broadcast_shapes(shape, c.shape(i))
    parts = []
    for i in indices:
        x = i if c.shape(i) == shape else c.op("expand", i, shape=shape)
        parts.append(c.op("reshape", x, shape=(*shape, 1)))
    return c.op("concat", *parts, axis=len(shape)) if len(parts) > 1 else parts[0]


def index_put(
    c: Context, node: SourceNode, self: Value, indices: Any, values: Value, accumulate: bool
) -> Any:
    values = c.cast(values, c.dtype(self))
    if len(indices) == 1 and not accumulate and indices[0] is not None:
        mask = indices[0]
        if c.dtype(mask) == "bool" and dm.product(c.shape(values)) == 1:
            tail = c.rank(self) - c.rank(mask)
            mask = c.op("reshape", mask, shape=(*c.shape(mask), *(1,) * tail)) if tail else mask
            value = c.op("reshape", values, shape=()) if c.rank(values) else values
            return c.op("where", mask, value, self)
    given = _expanded(c, indices)
    axes = [a for a, i in enumerate(given) if i is not None]
    if axes != list(range(len(axes))):
        return _put_behind(c, self, given, values, accumulate)
    stacked = _stacked(c, [given[a] for a in axes])
    shape = (*c.shape(stacked)[:-1], *c.shape(self)[len(axes) :])
    updates = values if c.shape(values) == shape else c.op("expand", values, shape=shape)
    return c.op("scatter_nd", self, stacked, updates, reduction="add" if accumulate else "none")


def _put_behind(c: Context, x: Value, given: list[Any], values: Value, accumulate: bool) -> Value:
    """Indexed axes that are not the first ones: bring them to the front, write, bring them back."""
    axes = [a for a, i in enumerate(given) if i is not None]
    n = c.rank(x)
    rest = [a for a in range(n) if a not in axes]
    stacked = _stacked(c, [given[a] for a in axes])
    k = c.rank(stacked) - 1
    before = axes[0] if axes == list(range(axes[0], axes[-1] + 1)) else 0
    index_shape = c.shape(stacked)[:-1]
    kept = [c.shape(x)[a] for a in rest]
    wanted = (*kept[:before], *index_shape, *kept[before:])
    updates = values if c.shape(values) == wanted else c.op("expand", values, shape=wanted)
    perm = (*range(before, before + k), *range(before), *range(before + k, len(wanted)))
    updates = c.op("transpose", updates, perm=perm)
    perm = (*axes, *rest)
    y = c.op("transpose", x, perm=perm)
    y = c.op("scatter_nd", y, stacked, updates, reduction="add" if accumulate else "none")
    return c.op("transpose", y, perm=[perm.index(a) for a in range(n)])


def masked_select(c: Context, node: SourceNode, self: Value, mask: Value) -> Any:
    shape = broadcast_shapes(c.shape(self), c.shape(mask))
    x = self if c.shape(self) == shape else c.op("expand", self, shape=shape)
    m = mask if c.shape(mask) == shape else c.op("expand", mask, shape=shape)
    return c.op("gather_nd", x, c.op("nonzero", m))


def take_along_dim(c: Context, node: SourceNode, self: Value, indices: Value, dim: Any) -> Any:
    if dim is None:
        self = c.op("reshape", self, shape=(dm.product(c.shape(self)),))
        indices = c.op("reshape", indices, shape=(dm.product(c.shape(indices)),))
        return c.op("gather_elements", self, indices, axis=0)
    a = axis(dim, c.rank(self))
    x, i = c.shape(self), c.shape(indices)
    common = broadcast_shapes((*x[:a], 1, *x[a + 1 :]), (*i[:a], 1, *i[a + 1 :]))
    self = _grown(c, self, (*common[:a], x[a], *common[a + 1 :]))
    indices = _grown(c, indices, (*common[:a], i[a], *common[a + 1 :]))
    return c.op("gather_elements", self, indices, axis=a)


def _grown(c: Context, x: Value, shape: tuple[Dim, ...]) -> Value:
    return x if c.shape(x) == shape else c.op("expand", x, shape=shape)


def select_scatter(
    c: Context, node: SourceNode, self: Value, src: Value, dim: int, index: Any
) -> Any:
    shape = c.shape(self)
    a = axis(dim, len(shape))
    at = c.scalar(index)
    at = dm.add(shape[a], at) if isinstance(at, int) and at < 0 else at
    new = c.op("reshape", c.cast(src, c.dtype(self)), shape=(*shape[:a], 1, *shape[a + 1 :]))
    return _spliced(c, self, new, a, at, dm.add(at, 1))


def slice_scatter(
    c: Context, node: SourceNode, self: Value, src: Value, dim: int, start: Any, end: Any, step: int
) -> Any:
    a = axis(dim, c.rank(self))
    src = c.cast(src, c.dtype(self))
    a, lo, hi = _bounds(c, self, dim, start, end, step, c.shape(src)[a])
    if step == 1:
        return _spliced(c, self, src, a, lo, hi)
    if not isinstance(lo, int) or not isinstance(hi, int):
        raise c.refuse(
            "writing every n-th element of a symbolic axis", "give the axis a fixed size"
        )
    places = c.tensor(tuple(range(lo, hi, step)), "int64")
    shape = [1] * c.rank(self)
    shape[a] = len(range(lo, hi, step))
    index = c.op("expand", c.op("reshape", places, shape=shape), shape=c.shape(src))
    return c.op("scatter_elements", self, index, src, axis=a)


def _spliced(c: Context, x: Value, new: Value, a: int, lo: Dim, hi: Dim) -> Value:
    """The value x with [lo, hi) along an axis replaced."""
    n = c.shape(x)[a]
    parts = [] if lo == 0 else [cut(c, x, a, 0, lo)]
    parts.append(new)
    if not dm.equal(hi, n):
        parts.append(cut(c, x, a, hi, n))
    return c.op("concat", *parts, axis=a) if len(parts) > 1 else parts[0]


def scatter_reduce(
    c: Context, node: SourceNode, self: Value, dim: int, index: Value, src: Value, reduce: str,
    include_self: bool,
) -> Any:  # fmt: skip
    """Without ``include_self`` the elements that are written to start from the neutral element."""
    kind = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}[reduce]
    neutral = {"add": 0.0, "mul": 1.0, "max": -math.inf, "min": math.inf}[kind]

    def scattered(x: Value, updates: Value, how: str) -> Value:
        return c.op("scatter_elements", x, index, updates, axis=dim, reduction=how)

    if include_self and reduce != "mean":
        return scattered(self, src, kind)
    zero = c.run("x * 0", x=self)
    count = scattered(zero, c.run("x * 0 + 1", x=src), "add")
    start = self if include_self else c.run(
        "where(n > 0, cast(e, dtype=x.dtype), x)", n=count, x=self, e=neutral
    )  # fmt: skip
    y = scattered(start, src, kind)
    if reduce != "mean":
        return y
    return c.run("y / maximum(n + k, 1)", y=y, n=count, k=float(include_self))


def masked_scatter(c: Context, node: SourceNode, self: Value, mask: Value, source: Value) -> Any:
    """The k-th true element of the mask takes the k-th element of source."""
    shape = c.shape(self)
    mask = _grown(c, mask, shape)
    flat = (dm.product(shape),)
    order = c.run("cumsum(cast(reshape(m, shape=n), dtype='int64'), axis=0) - 1", m=mask, n=flat)
    values = c.op("reshape", source, shape=(dm.product(c.shape(source)),))
    picked = c.op("gather", values, c.op("clip", order, min=0), axis=0)
    return c.op("where", mask, c.op("reshape", picked, shape=shape), self)


def index_copy(
    c: Context, node: SourceNode, self: Value, dim: int, index: Value, source: Value
) -> Any:
    a = axis(dim, c.rank(self))
    if c.rank(index) == 0:
        index = c.op("reshape", index, shape=(1,))
    return index_put(c, node, self, (None,) * a + (index,), source, False)


def put(
    c: Context, node: SourceNode, self: Value, index: Value, source: Value, accumulate: bool
) -> Any:
    flat = c.op("reshape", self, shape=(dm.product(c.shape(self)),))
    n = (dm.product(c.shape(index)),)
    index, source = c.op("reshape", index, shape=n), c.op("reshape", source, shape=n)
    kind = "add" if accumulate else "none"
    y = c.op("scatter_elements", flat, index, source, axis=0, reduction=kind)
    return c.op("reshape", y, shape=c.shape(self))


def bucketize(
    c: Context, node: SourceNode, self: Value, boundaries: Value, out_int32: bool, right: bool
) -> Any:
    return _counted(c, boundaries, self, right)


def searchsorted(
    c: Context, node: SourceNode, sorted_sequence: Value, self: Value, right: bool, side: Any,
    **unused: Any,
) -> Any:  # fmt: skip
    return _counted(c, sorted_sequence, self, right or side == "right")


def _counted(c: Context, edges: Value, x: Value, right: bool) -> Value:
    """How many edges lie before each element: those below it, with ``right`` also those equal."""
    assert c.out is not None
    column = c.op("reshape", x, shape=(*c.shape(x), 1))
    if c.rank(edges) > 1:
        *lead, n = c.shape(edges)
        edges = c.op("reshape", edges, shape=(*lead, 1, n))
    before = c.run("less_equal(e, x)" if right else "less(e, x)", e=edges, x=column)
    return c.run("sum(cast(b, dtype=d), axis=[-1], keepdims=False)", b=before, d=c.out.dtype)
