"""Gathering and scattering. TensorFlow's CPU kernels take no negative index."""

from __future__ import annotations

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.target import Scope
from framework_adapter.tensorflow.dims import arange, reshaped, scalar
from framework_adapter.tensorflow.parts import integer, like, operand

_SCATTER = {
    "none": "TensorScatterUpdate",
    "add": "TensorScatterAdd",
    "max": "TensorScatterMax",
    "min": "TensorScatterMin",
}


def gather(s: Scope, x: str, indices: str, *, axis: int) -> str:
    """Slices along an axis."""
    t = operand(s, 0)
    indices = _counted(s, indices, (t.shape[axis],), False)
    return s.op("GatherV2", x, indices, integer(s, axis + t.rank))


def gather_elements(s: Scope, x: str, indices: str, *, axis: int) -> str:
    """GatherV2 along the last axis, all others being its batch."""
    t, it = operand(s, 0), operand(s, 1)
    indices = _counted(s, indices, (t.shape[axis],), False)
    order = list(range(t.rank))
    order[axis], order[-1] = order[-1], order[axis]
    if axis != -1:
        x, indices = (s.op("Transpose", v, tuple(order)) for v in (x, indices))
    have, want = ([u.shape[i] for i in order] for u in (t, it))
    if have[:-1] != want[:-1]:
        open_end = 1 << (t.rank - 1)
        ends = (*want[:-1], 0)
        x = s.op("StridedSlice", x, (0,) * t.rank, ends, (1,) * t.rank, end_mask=open_end)
    y = s.op("GatherV2", x, indices, integer(s, t.rank - 1), batch_dims=t.rank - 1)
    return s.op("Transpose", y, tuple(order)) if axis != -1 else y


def gather_nd(s: Scope, x: str, indices: str, *, batch_dims: int) -> str:
    """GatherNd; leading axes that are shared become part of the index vectors."""
    t, it = operand(s, 0), operand(s, 1)
    depth = int(it.shape[-1])
    indices = _counted(s, indices, t.shape[batch_dims : batch_dims + depth], True)
    if batch_dims:
        lead = _grid(s, it.shape[:-1], range(batch_dims), s.dtype(indices))
        indices = s.op("ConcatV2", *lead, indices, integer(s, -1))
    return s.op("GatherNd", x, indices)


def scatter_nd(s: Scope, x: str, indices: str, updates: str, *, reduction: str) -> str:
    """One of the TensorScatter ops; products by segments."""
    t, it = operand(s, 0), operand(s, 1)
    depth = int(it.shape[-1])
    indices = _counted(s, indices, t.shape[:depth], True)
    return _scattered(s, x, indices, updates, it.shape[:-1], depth, reduction)


def scatter_elements(
    s: Scope, x: str, indices: str, updates: str, *, axis: int, reduction: str
) -> str:
    """As scatter_nd, with an index vector for each element."""
    t, it = operand(s, 0), operand(s, 1)
    indices = _counted(s, indices, (t.shape[axis],), False)
    own = s.op("ExpandDims", indices, integer(s, -1))
    at = axis + t.rank
    others = iter(_grid(s, it.shape, [i for i in range(t.rank) if i != at], s.dtype(indices)))
    parts = [own if i == at else next(others) for i in range(t.rank)]
    vectors = own if t.rank == 1 else s.op("ConcatV2", *parts, integer(s, -1))
    return _scattered(s, x, vectors, updates, it.shape, t.rank, reduction)


def _counted(s: Scope, indices: str, sizes: tuple[Dim, ...], vectors: bool) -> str:
    """Indices below 0 counted from the end; ``vectors``: the last axis runs over several sizes."""
    data = s.known(indices)
    if data is not None and (data >= 0).all():
        return indices
    if vectors:
        limit = s.cast(s.ints(sizes), s.dtype(indices))
    else:
        limit = s.cast(scalar(s, sizes[0]), s.dtype(indices))
    negative = s.op("Less", indices, like(s, indices, 0))
    return str(s.op("SelectV2", negative, s.op("AddV2", indices, limit), indices))


def _grid(s: Scope, shape: tuple[Dim, ...], axes: range | list[int], dtype: str) -> list[str]:
    """For each of axes the place along it, over the whole shape: [*shape, 1]."""
    out = []
    for axis in axes:
        line = arange(s, shape[axis])
        line = s.op("Reshape", s.cast(line, dtype), (-1, *[1] * (len(shape) - axis)))
        out.append(s.op("BroadcastTo", line, (*shape, 1)))
    return out


def _scattered(
    s: Scope, x: str, indices: str, updates: str, lead: tuple[Dim, ...], depth: int, reduction: str
) -> str:
    """x with updates at index vectors [*lead, depth]."""
    if reduction in _SCATTER:
        return str(s.op(_SCATTER[reduction], x, indices, updates))
    t = operand(s, 0)
    rows, rest = dm.product(t.shape[:depth]), t.shape[depth:]
    steps = [dm.product(t.shape[i + 1 : depth]) for i in range(depth)]
    flat = s.op("Sum", s.op("Mul", indices, s.cast(s.ints(steps), s.dtype(indices))), (-1,))
    flat = s.op("Reshape", flat, (-1,))
    count = s.cast(scalar(s, rows), s.dtype(indices))
    many = (dm.product(lead), *rest)
    updates = reshaped(s, updates, (*lead, *rest), many)
    factor = s.op("UnsortedSegmentProd", updates, flat, count)
    return str(s.op("Mul", x, reshaped(s, factor, (rows, *rest), t.shape)))
