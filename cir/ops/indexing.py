"""Gathering and scattering by index tensors. Negative indices count from the end."""

from __future__ import annotations

from typing import Any

import numpy as np

from cir import dim as dims
from cir.dim import Dim
from cir.graph import TensorType
from cir.infer import Attrs, Types, need_choice, need_min_rank, same_dim, same_dtype, typed
from cir.kernel import Array
from cir.spec import InferContext, InferError, op

_INDEXED = {"x": "any", "indices": "int", "updates": "any"}


def _integers(indices: Array) -> Array:
    """Indices as integers; TypeError when one is symbolic."""
    return indices.astype(np.int64) if indices.dtype == object else indices


def _infer_gather(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, i = typed(types, 0), typed(types, 1)
    need_min_rank(x, 1, "x")
    at = attrs["axis"] + x.rank
    return [TensorType(x.dtype, (*x.shape[:at], *i.shape, *x.shape[at + 1 :]))]


@op("gather(x, indices; axis: axis = 0)", domain=_INDEXED, infer=_infer_gather,
    samples=[{"inputs": ["float32[5,3]", "int64[2,4]<5"]},
             {"inputs": ["float32[2,5,3]", "int32[]<5"], "axis": 1},
             {"inputs": ["int64[4]", "int64[3]<4"], "axis": -1}])  # fmt: skip
def gather(x: Array, indices: Array, *, axis: int) -> Array:
    """Slices of x at indices along an axis: x.shape[:axis] + indices.shape + x.shape[axis+1:]."""
    return np.take(x, _integers(indices), axis=axis)


def _check_beside(x: TensorType, i: TensorType, axis: int, name: str) -> None:
    if x.rank != i.rank:
        raise InferError(f"x is {x}, {name} is {i}: the ranks must be equal")
    for j, (n, m) in enumerate(zip(x.shape, i.shape)):
        if j != axis and type(n) is int and type(m) is int and m > n:
            raise InferError(f"{name} has size {m} on axis {j}, must be {n} at most")


def _infer_gather_elements(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, i = typed(types, 0), typed(types, 1)
    _check_beside(x, i, attrs["axis"] + x.rank, "indices")
    return [TensorType(x.dtype, i.shape)]


@op("gather_elements(x, indices; axis: axis)", domain=_INDEXED, infer=_infer_gather_elements,
    layout="axis",
    samples=[{"inputs": ["float32[2,5]", "int64[2,3]<5"], "axis": -1},
             {"inputs": ["float32[4,3]", "int64[2,2]<4"], "axis": 0}])  # fmt: skip
def gather_elements(x: Array, indices: Array, *, axis: int) -> Array:
    """``y[i, j, ...] = x[i, indices[i, j, ...], ...]``: one element an index, along an axis."""
    return np.take_along_axis(x[_region(x.ndim, indices.shape, axis)], indices, axis)


def _region(rank: int, shape: tuple[int, ...], axis: int) -> tuple[slice, ...]:
    """The corner of a tensor that a smaller index tensor addresses on the axes other than axis."""
    return tuple(slice(None) if i == axis % rank else slice(n) for i, n in enumerate(shape))


def _index_depth(i: TensorType, x: TensorType, batch: int) -> int:
    need_min_rank(i, 1, "indices")
    depth = i.shape[-1]
    if not isinstance(depth, int):
        raise InferError(f"the last dim of indices {i} must be a known number")
    if batch + depth > x.rank:
        raise InferError(
            f"indices of depth {depth} (after {batch} batch axes) exceed the rank of {x}"
        )
    return depth


def _infer_gather_nd(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, i = typed(types, 0), typed(types, 1)
    b = attrs["batch_dims"]
    if not 0 <= b < max(i.rank, 1):
        raise InferError(f"batch_dims is {b}, must be from 0 to {i.rank - 1} for indices {i}")
    depth = _index_depth(i, x, b)
    for j in range(b):
        same_dim(x.shape[j], i.shape[j], f"batch axis {j} of x and indices")
    return [TensorType(x.dtype, (*i.shape[:-1], *x.shape[b + depth :]))]


@op("gather_nd(x, indices; batch_dims: int = 0)", domain=_INDEXED, infer=_infer_gather_nd,
    samples=[{"inputs": ["float32[4,4,3]", "int64[2,5,2]<4"]},
             {"inputs": ["float32[2,3,4]", "int64[2,5,1]<3"], "batch_dims": 1}])  # fmt: skip
def gather_nd(x: Array, indices: Array, *, batch_dims: int) -> Array:
    """Slices of x at the index vectors in the last axis of indices; leading axes may be shared."""
    grids = []
    for j in range(batch_dims):
        shape = [1] * (indices.ndim - 1)
        shape[j] = x.shape[j]
        grids.append(np.arange(x.shape[j]).reshape(shape))
    index: Any = (*grids, *np.moveaxis(indices, -1, 0))
    return x[index]


_REDUCTIONS = ("none", "add", "mul", "max", "min")
_AT: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter(x: Array, index: tuple[Array, ...], updates: Array, how: str) -> Array:
    out = x.copy()
    if how == "none":
        out[index] = updates
    else:
        _AT[how].at(out, index, updates)
    return out


def _infer_scatter_nd(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, i, u = typed(types, 0), typed(types, 1), typed(types, 2)
    same_dtype(x, u)
    need_choice(attrs, "reduction", _REDUCTIONS)
    depth = _index_depth(i, x, 0)
    want: tuple[Dim, ...] = (*i.shape[:-1], *x.shape[depth:])
    if len(want) != u.rank or any(dims.equal(a, b) is False for a, b in zip(want, u.shape)):
        show = ", ".join(map(str, want))
        raise InferError(f"updates is {u}, must be {x.dtype}[{show}] for x {x} and indices {i}")
    return [x]


@op("scatter_nd(x, indices, updates; reduction: str = 'none')", domain=_INDEXED,
    infer=_infer_scatter_nd,
    samples=[{"inputs": ["float32[4,3]", "int64[2,1]<4", "float32[2,3]"]},
             {"inputs": ["float32[4,3]", "int64[5,2]<3", "float32[5]"], "reduction": "add"},
             {"inputs": ["int64[4]", "int64[5,1]<4", "int64[5]"], "reduction": "max"}])  # fmt: skip
def scatter_nd(x: Array, indices: Array, updates: Array, *, reduction: str) -> Array:
    """``x`` with slices at the index vectors replaced by, or combined with, updates.

    With reduction none and an index that occurs twice, the later update stays.
    """
    return _scatter(x, tuple(np.moveaxis(indices, -1, 0)), updates, reduction)


def _infer_scatter_elements(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, i, u = typed(types, 0), typed(types, 1), typed(types, 2)
    same_dtype(x, u)
    need_choice(attrs, "reduction", _REDUCTIONS)
    _check_beside(x, i, attrs["axis"] + x.rank, "indices")
    if u.rank != i.rank or any(dims.equal(a, b) is False for a, b in zip(i.shape, u.shape)):
        raise InferError(f"updates is {u}, must have the shape of indices {i}")
    return [x]


@op("scatter_elements(x, indices, updates; axis: axis, reduction: str = 'none')",
    domain=_INDEXED, infer=_infer_scatter_elements, layout="axis",
    samples=[{"inputs": ["float32[2,5]", "int64[2,1]<5", "float32[2,1]"], "axis": -1},
             {"inputs": ["float32[4,3]", "int64[6,2]<4", "float32[6,2]"], "axis": 0,
              "reduction": "add"}])  # fmt: skip
def scatter_elements(
    x: Array, indices: Array, updates: Array, *, axis: int, reduction: str
) -> Array:
    """``x`` with x[i, indices[i, j, ...], ...] replaced by or combined with updates[i, j, ...]."""
    index = list(np.indices(indices.shape, sparse=True))
    index[axis] = indices
    return _scatter(x, tuple(index), updates, reduction)


def _infer_nonzero(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    return [TensorType("int64", (ctx.fresh(), typed(types, 0).rank))]


@op("nonzero(x)", infer=_infer_nonzero,
    samples=[{"inputs": ["bool[3,4]"]}, {"inputs": ["int64[5]<2"]}])  # fmt: skip
def nonzero(x: Array) -> Array:
    """Index vectors of the elements that are not zero, in row-major order: int64[n, rank]."""
    return np.argwhere(x).astype(np.int64)
