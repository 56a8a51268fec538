"""Handlers of views, cutting and joining, and gathering."""

from __future__ import annotations

from typing import Any

from cir import dim as dm
from cir.dim import Dim
from cir.graph import Node
from framework_adapter.context import Context, Value
from framework_adapter.functions import resolve, squeezed, unsqueezed
from framework_adapter.mindspore.lite.check import DTYPES
from framework_adapter.source import SourceNode


def reshape(c: Context, node: SourceNode, x: Value, shape: Any) -> Value:
    """0 copies a dim, one -1 takes the rest."""
    have = c.shape(x)
    want = [have[i] if d == 0 and i < len(have) else d for i, d in enumerate(c.dims(shape))]
    return c.op("reshape", x, shape=resolve(want, have))


def squeeze(c: Context, node: SourceNode, x: Value, axis: Any) -> Value:
    """Without the axes named; none named means all of size 1."""
    return c.op("reshape", x, shape=squeezed(c.shape(x), tuple(axis) or None))


def unsqueeze(c: Context, node: SourceNode, x: Value, axis: Any) -> Value:
    """With axes of size 1 at these places of the result."""
    return c.op("reshape", x, shape=unsqueezed(c.shape(x), tuple(axis)))


def expand_dims(c: Context, node: SourceNode, x: Value, axis: Any) -> Value:
    """With one axis of size 1."""
    return c.op("reshape", x, shape=unsqueezed(c.shape(x), (int(c.scalar(axis)),)))


def flatten(c: Context, node: SourceNode, x: Value, axis: int) -> Value:
    """Two axes: those before ``axis`` and the rest."""
    shape = c.shape(x)
    at = axis % (len(shape) + 1)
    return c.op("reshape", x, shape=(dm.product(shape[:at]), dm.product(shape[at:])))


def stack(c: Context, node: SourceNode, xs: tuple[Value, ...], axis: int) -> Value:
    """Values joined along a new axis."""
    shape = c.shape(xs[0])
    at = axis % (len(shape) + 1)
    wide = [c.op("reshape", x, shape=(*shape[:at], 1, *shape[at:])) for x in xs]
    return c.op("concat", *wide, axis=at) if len(wide) > 1 else wide[0]


def unstack(c: Context, node: SourceNode, x: Value, axis: int) -> Any:
    """An axis as separate values."""
    shape, n = c.shape(x), len(node.outputs)
    at = axis % len(shape)
    if shape[at] != n:
        raise c.refuse(f"{n} results of an axis of size {shape[at]}", "convert the file again")
    parts = (x,) if n == 1 else c.op("split", x, axis=at, sizes=(1,) * n)
    rest = (*shape[:at], *shape[at + 1 :])
    return tuple(c.op("reshape", p, shape=rest) for p in parts)


def split(
    c: Context, node: SourceNode, x: Value, output_num: int, size_splits: Any, axis: int
) -> Any:
    """By sizes, of which one may be -1, or into equal parts."""
    n = c.shape(x)[axis]
    count = len(node.outputs)
    sizes: list[Dim] = list(size_splits) or [dm.floordiv(n, count)] * count
    if len(sizes) != count:
        raise c.refuse(f"{len(sizes)} sizes for {count} results", "convert the file again")
    if -1 in sizes:
        rest = n
        for d in sizes:
            rest = dm.sub(rest, d) if d != -1 else rest
        sizes = [rest if d == -1 else d for d in sizes]
    return (x,) if count == 1 else c.op("split", x, axis=axis, sizes=tuple(sizes))


def strided_slice(
    c: Context, node: SourceNode, x: Value, begin: Any, end: Any, strides: Any, begin_mask: int,
    end_mask: int, ellipsis_mask: int, new_axis_mask: int, shrink_axis_mask: int,
) -> Value:  # fmt: skip
    """Bounds by axis from the front; masks leave them open or drop an axis."""
    if ellipsis_mask or new_axis_mask:
        raise c.refuse("slices with an ellipsis or new axes", "use plain slices and reshape")
    shape = c.shape(x)
    first, last = c.dims(begin), c.dims(end)
    pace = c.dims(strides) if strides is not None else (1,) * len(first)
    rows, drop = [], []
    for a, (lo, hi, step) in enumerate(zip(first, last, pace)):
        n = shape[a]
        if not isinstance(step, int) or step == 0:
            raise c.refuse(f"a step of {step}", "use a fixed step other than 0")
        if shrink_axis_mask >> a & 1:
            lo = _clamped(lo, n, 0, dm.sub(n, 1))
            rows.append((a, lo, dm.add(lo, 1), 1))
            drop.append(a)
            continue
        top = n if step > 0 else dm.sub(n, 1)
        floor = 0 if step > 0 else -1
        start = (0 if step > 0 else top) if begin_mask >> a & 1 else _clamped(lo, n, 0, top)
        stop = (n if step > 0 else -1) if end_mask >> a & 1 else _clamped(hi, n, floor, top)
        if start != 0 or stop != n or step != 1:
            rows.append((a, start, stop, step))
    return _cut(c, x, rows, drop)


def _cut(c: Context, x: Value, rows: list[Any], drop: list[int]) -> Value:
    if rows:
        axes, starts, ends, steps = zip(*rows)
        x = c.op("slice", x, axes=axes, starts=starts, ends=ends, steps=steps)
    return c.op("reshape", x, shape=squeezed(c.shape(x), tuple(drop))) if drop else x


def _clamped(d: Dim, n: Dim, low: Dim, high: Dim) -> Dim:
    """A bound counted from the front, inside the axis where that can be told."""
    if isinstance(d, int) and d >= 2**31 - 1:
        return high
    if isinstance(d, int) and d < 0:
        d = dm.add(n, d)
    if isinstance(d, int) and isinstance(low, int) and isinstance(high, int):
        return min(max(d, low), high)
    gap = dm.sub(high, d)
    return high if isinstance(gap, int) and gap < 0 else d


def slice_(c: Context, node: SourceNode, x: Value, begin: Any, size: Any, axes: Any) -> Value:
    """Begin and size by axis; a size of -1 reaches to the end."""
    first, count = c.dims(begin), c.dims(size)
    shape = c.shape(x)
    rows = []
    for a, lo, n in zip(tuple(axes) or range(len(first)), first, count):
        stop = shape[a] if n == -1 else dm.add(lo, n)
        if lo != 0 or stop != shape[a]:
            rows.append((a % len(shape), lo, stop, 1))
    return _cut(c, x, sorted(rows), [])


def reverse(c: Context, node: SourceNode, x: Value, axis: Any) -> Value:
    """Axes in the other direction."""
    shape = c.shape(x)
    axes = sorted({int(a) % len(shape) for a in axis})
    return _cut(c, x, [(a, dm.sub(shape[a], 1), -1, -1) for a in axes], [])


def reverses(c: Context, node: Node, axis: int) -> bool:
    """Whether a node reverses one whole axis."""
    last = dm.sub(c.shape(str(node.inputs[0]))[axis], 1) if node.op == "slice" else None
    want = {"axes": (axis,), "starts": (last,), "ends": (-1,), "steps": (-1,)}
    have = dict(node.attrs)
    have["axes"] = tuple(a % c.rank(node.name) for a in have.get("axes", ()))
    return node.op == "slice" and have == want


def broadcast_to(
    c: Context, node: SourceNode, x: Value, dims: Any = None, shape: Any = ()
) -> Value:
    """To a shape given by an operand or an attribute; -1 keeps a size."""
    have = c.shape(x)
    want = c.dims(dims) if dims is not None else tuple(shape)
    have = (1,) * (len(want) - len(have)) + have
    return c.op("expand", x, shape=tuple(h if w == -1 else w for h, w in zip(have, want)))


def tile(c: Context, node: SourceNode, x: Value, multiples: Any, dims: Any = ()) -> Value:
    """Repeats of the axes named, in their order."""
    given = c.dims(multiples)
    repeats: list[Dim] = [1] * c.rank(x)
    for a, n in zip(tuple(dims) or range(len(given)), given):
        repeats[a] = n
    return c.op("tile", x, repeats=tuple(repeats))


def pad(
    c: Context, node: SourceNode, x: Value, paddings: Any, padding_mode: str, constant_value: float
) -> Value:
    """Pairs of pads by axis."""
    pairs = c.dims(paddings)
    pads = (*pairs[::2], *pairs[1::2])
    modes = {"CONSTANT": "constant", "REFLECT": "reflect"}
    if padding_mode not in modes:
        raise c.refuse(f"padding mode {padding_mode}", "use CONSTANT or REFLECT")
    if all(p == 0 for p in pads):
        return x
    mode = modes[padding_mode]
    value = float(constant_value) if mode == "constant" else 0.0
    return c.op("pad", x, pads=pads, mode=mode, value=value)


def fill(c: Context, node: SourceNode, value: Value, shape: Any) -> Value:
    """One number in a shape."""
    return c.op("expand", c.op("reshape", value, shape=()), shape=c.dims(shape))


def constant_of_shape(
    c: Context, node: SourceNode, shape: Any, data_type: int, value: Any
) -> Value:
    """One number, given by an attribute."""
    dtype = DTYPES.get(data_type)
    if dtype is None or len(value) != 1:
        raise c.refuse(f"data type {data_type}", "use a number type")
    return c.op("expand", c.cast(c.tensor(float(value[0])), dtype), shape=c.dims(shape))


# -- gathering -------------------------------------------------------------------------------------
def range_(
    c: Context, node: SourceNode, first: Any, last: Any, step: Any, start: int, limit: int,
    delta: int,
) -> Value:  # fmt: skip
    """Numbers from operands, or from attributes."""
    if step is None:  # a single operand says only that there is one
        first, last, step = (c.tensor(v, "int64") for v in (start, limit, delta))
    return c.op("arange", *(c.tensor(v) for v in (first, last, step)))


def gather(c: Context, node: SourceNode, x: Value, indices: Value, axis: Any = 0) -> Value:
    """Slices along an axis."""
    return c.op("gather", x, indices, axis=int(c.scalar(axis)))


def gather_d(c: Context, node: SourceNode, x: Value, dim: Any, index: Value) -> Value:
    """One element an index, along an axis."""
    return c.op("gather_elements", x, index, axis=int(c.scalar(dim)))


def one_hot(
    c: Context, node: SourceNode, indices: Value, depth: Any, values: Value,
    off: Value | None = None, axis: int = -1,
) -> Value:  # fmt: skip
    """The second of two values where the index is, the first elsewhere; or on and off apart."""
    n, rank = int(c.scalar(depth)), c.rank(indices) + 1
    at = axis % rank
    place = c.op("reshape", indices, shape=unsqueezed(c.shape(indices), (at,)))
    steps = c.tensor(tuple(range(n)), c.dtype(indices))
    steps = c.op("reshape", steps, shape=(n, *[1] * (rank - 1 - at)))
    if off is None:
        off, on = c.op("split", values, axis=0, sizes=(1, 1))
    else:
        on = values
    hit = c.op("equal", place, steps)
    return c.op("where", hit, c.op("reshape", on, shape=()), c.op("reshape", off, shape=()))
