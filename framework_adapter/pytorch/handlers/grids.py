"""Diagonals, grids and sliding windows."""
# ruff: noqa: D103  (the row that names a handler describes it)

from __future__ import annotations

from typing import Any

import numpy as np

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.context import Context, Value
from framework_adapter.functions import axis
from framework_adapter.source import SourceNode


def diagonal(c: Context, node: SourceNode, self: Value, offset: int, dim1: int, dim2: int) -> Any:
    shape = c.shape(self)
    a, b = axis(dim1, len(shape)), axis(dim2, len(shape))
    rest = [i for i in range(len(shape)) if i not in (a, b)]
    x = c.op("transpose", self, perm=(*rest, a, b))
    rows, columns = shape[a], shape[b]
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise c.refuse(
            "the diagonal of symbolic axes is not supported", "give the axes fixed sizes"
        )
    row, column = max(-offset, 0), max(offset, 0)
    n = max(min(rows - row, columns - column), 0)
    x = c.op("reshape", x, shape=(*(shape[i] for i in rest), rows * columns))
    places = [(row + i) * columns + column + i for i in range(n)]
    return c.op("gather", x, c.tensor(tuple(places), "int64"), axis=-1)


def diag(c: Context, node: SourceNode, self: Value, offset: int) -> Any:
    if c.rank(self) == 1:
        return diag_embed(c, node, self, offset, 0, 1)
    return diagonal(c, node, self, offset, 0, 1)


def diag_embed(c: Context, node: SourceNode, self: Value, offset: int, dim1: int, dim2: int) -> Any:
    """The last axis on a diagonal of two new axes."""
    *lead, n = c.shape(self)
    if not isinstance(n, int):
        raise c.refuse("a symbolic diagonal is not supported", "give the axis a fixed size")
    size, zeros = n + abs(offset), (0,) * len(lead)
    row = c.op("pad", self, pads=(*zeros, max(offset, 0), *zeros, max(-offset, 0)))
    row = c.op("reshape", row, shape=(*lead, 1, size))
    mask = Value(c.b.const(np.eye(size, size, offset, dtype=bool)))
    y = c.op("where", mask, row, c.tensor(0, c.dtype(self)))
    r = len(lead) + 2
    a, b = axis(dim1, r), axis(dim2, r)
    rest = iter(range(r - 2))
    perm = [r - 2 if i == a else r - 1 if i == b else next(rest) for i in range(r)]
    return c.op("transpose", y, perm=perm)


def meshgrid(c: Context, node: SourceNode, tensors: Any, indexing: str) -> Any:
    sizes = [dm.product(c.shape(t)) for t in tensors]
    order = list(range(len(sizes)))
    if indexing == "xy" and len(order) > 1:
        order[0], order[1] = 1, 0
    out = []
    for i, t in enumerate(tensors):
        shape: list[Dim] = [1] * len(sizes)
        shape[order[i]] = sizes[i]
        x = c.op("reshape", t, shape=shape)
        out.append(c.op("expand", x, shape=[sizes[order.index(a)] for a in range(len(sizes))]))
    return tuple(out)


def cartesian_prod(c: Context, node: SourceNode, tensors: Any) -> Any:
    if len(tensors) == 1:
        return tensors[0]
    grids = meshgrid(c, node, tensors, "ij")
    n = dm.product(c.shape(grids[0]))
    return c.op("concat", *[c.op("reshape", g, shape=(n, 1)) for g in grids], axis=1)


def unfold(c: Context, node: SourceNode, self: Value, dimension: int, size: int, step: int) -> Any:
    a = axis(dimension, c.rank(self))
    n = c.shape(self)[a]
    if not isinstance(n, int):
        raise c.refuse("unfold of a symbolic axis is not supported", "give the axis a fixed size")
    starts = range(0, n - size + 1, step)
    places = c.tensor(tuple(tuple(s + i for i in range(size)) for s in starts), "int64")
    x = c.op("gather", self, places, axis=a)
    r = c.rank(x)
    return c.op("transpose", x, perm=(*range(a + 1), *range(a + 2, r), a + 1))
