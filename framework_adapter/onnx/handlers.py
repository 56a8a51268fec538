"""Handlers of ONNX ops: views, slices, padding, quantisation, control flow."""

from __future__ import annotations

from typing import Any

import numpy as np

from cir import dim as dm
from cir import dtype as dt
from cir.dim import Dim
from framework_adapter.context import Context, Value
from framework_adapter.functions import resolve, squeezed, unsqueezed
from framework_adapter.onnx.layers import (  # noqa: F401
    attention,
    conv,
    conv_transpose,
    gemm,
    group_norm,
    instance_norm,
    latest_maker,
    multi_head_attention,
    pool,
    resize,
)
from framework_adapter.onnx.recurrent import lstm  # noqa: F401
from framework_adapter.source import SourceNode

_NEVER = -(2**62)


# -- arithmetic ------------------------------------------------------------------------------------
def fold(c: Context, node: SourceNode, xs: tuple[Value, ...]) -> Value:
    """Max, Min, Sum and Mean of any number of operands."""
    op = {"Max": "maximum", "Min": "minimum"}.get(node.op, "add")
    out = xs[0]
    for x in xs[1:]:
        out = c.op(op, out, x)
    return c.op("div", out, float(len(xs))) if node.op == "Mean" and len(xs) > 1 else out


def div(c: Context, node: SourceNode, a: Value, b: Value) -> Value:
    """Division; integers truncate, which for sizes is the same as rounding down."""
    if dt.is_float(c.dtype(a)):
        return c.op("div", a, b)
    if c.dtype(a) in dt.UNSIGNED or _sizes(c, a) and _sizes(c, b):
        return c.op("floordiv", a, b)
    q = c.op("floordiv", c.op("abs", a), c.op("abs", b))
    return c.op("mul", q, c.op("mul", c.op("sign", a), c.op("sign", b)))


def _sizes(c: Context, x: Value) -> bool:
    """Whether a value is known and holds no negative number; a symbolic dim is taken for a size."""
    dims = c.b.dims(x)
    return dims is not None and all("-" not in str(d) for d in dims)


def mod(c: Context, node: SourceNode, a: Value, b: Value, fmod: int = 0) -> Value:
    """Mod with the divisor's sign, or with fmod the dividend's."""
    if not fmod:
        return c.op("mod", a, b)
    rest = c.op("mod", c.op("abs", a), c.op("abs", b))
    return c.op("mul", c.op("sign", a), rest)


def not_(c: Context, node: SourceNode, x: Value) -> Value:
    """Not; of Equal it is the other comparison, which ONNX has no op for."""
    made = latest_maker(c, x)
    if made is not None and made.op == "equal":
        return c.op("not_equal", *map(Value, made.inputs))
    return c.op("logical_not", x)


# -- views -----------------------------------------------------------------------------------------
def reshape(c: Context, node: SourceNode, x: Value, shape: Any, allowzero: int = 0) -> Value:
    """Reshape: 0 copies a dim unless allowzero, one -1 takes the rest."""
    have, want = c.shape(x), list(c.dims(shape))
    if not allowzero:
        want = [have[i] if d == 0 and i < len(have) else d for i, d in enumerate(want)]
    shape = resolve(want, have)
    return _grouped(c, x, shape) or c.op("reshape", x, shape=shape)


def _grouped(c: Context, x: Value, shape: tuple[Dim, ...]) -> Value | None:
    """[N, C, *S] normalised as [N, G, rest] and brought back: ONNX's spelling of group_norm."""
    norm = latest_maker(c, x)
    if norm is None or norm.op != "layer_norm" or norm.attrs["axis"] != -1 or len(norm.inputs) > 1:
        return None
    view = latest_maker(c, norm.inputs[0])
    groups = c.shape(x)[1] if c.rank(x) == 3 else None
    if view is None or view.op != "reshape" or not isinstance(groups, int) or len(shape) < 3:
        return None
    source = str(view.inputs[0])
    same = c.shape(source) == shape and c.shape(x)[0] == shape[0]
    if not same or dm.divides(groups, shape[1]) is not True:
        return None
    return c.op("group_norm", source, num_groups=groups, epsilon=norm.attrs["epsilon"])


def squeeze(c: Context, node: SourceNode, x: Value, axes: Any = None) -> Value:
    """Squeeze: the axes given, else all of size 1."""
    drop = None if axes is None else c.dims(axes)
    return c.op("reshape", x, shape=squeezed(c.shape(x), drop))


def unsqueeze(c: Context, node: SourceNode, x: Value, axes: Any) -> Value:
    """Unsqueeze: axes count in the result."""
    return c.op("reshape", x, shape=unsqueezed(c.shape(x), c.dims(axes)))


def expand(c: Context, node: SourceNode, x: Value, shape: Any) -> Value:
    """Expand: shapes broadcast both ways, so a 1 in ``shape`` keeps the operand's size."""
    have, want = c.shape(x), c.dims(shape)
    rank = max(len(have), len(want))
    have, want = (1,) * (rank - len(have)) + have, (1,) * (rank - len(want)) + want
    return c.op("expand", x, shape=tuple(h if w == 1 else w for h, w in zip(have, want)))


def shape(c: Context, node: SourceNode, x: Value, start: int = 0, end: int | None = None) -> Value:
    """Shape, or a piece of it."""
    rank = c.rank(x)
    lo, hi, _ = slice(start, end).indices(rank)
    out = c.op("shape", x)
    if (lo, hi) == (0, rank):
        return out
    return c.op("slice", out, axes=(0,), starts=(lo,), ends=(max(lo, hi),), steps=(1,))


def constant_of_shape(
    c: Context, node: SourceNode, shape: Any, value: Value | None = None
) -> Value:
    """ConstantOfShape: the one number, broadcast."""
    one = c.tensor(0.0) if value is None else c.op("reshape", value, shape=())
    return c.op("expand", one, shape=c.dims(shape))


def split(
    c: Context,
    node: SourceNode,
    x: Value,
    split: Any = None,
    axis: int = 0,
    num_outputs: int | None = None,
) -> Any:
    """Split by sizes, or into equal parts of which the last may be smaller."""
    n = c.shape(x)[axis]
    if split is not None:
        sizes: list[Dim] = list(c.dims(split))
    else:
        count = num_outputs or len(node.outputs)
        part = dm.floordiv(dm.add(n, count - 1), count)
        sizes = [part] * (count - 1)
        sizes.append(dm.sub(n, dm.mul(part, count - 1)))
    return (x,) if len(sizes) == 1 else c.op("split", x, axis=axis, sizes=tuple(sizes))


def slice_(
    c: Context,
    node: SourceNode,
    x: Value,
    starts: Any,
    ends: Any,
    axes: Any = None,
    steps: Any = None,
) -> Value:
    """Slice: bounds may be negative or beyond the end."""
    first, last = c.dims(starts), c.dims(ends)
    rank = c.rank(x)
    where = range(len(first)) if axes is None else (int(a) for a in c.dims(axes))
    pace = (1,) * len(first) if steps is None else c.dims(steps)
    rows = []
    for a, lo, hi, step in zip(where, first, last, pace):
        if not isinstance(step, int) or step == 0:
            raise c.refuse(f"a step of {step}", "use a fixed step other than 0")
        a %= rank
        n = c.shape(x)[a]
        rows.append((a, *_bounds(c, lo, hi, n, step), step))
    rows.sort()
    cut = [r for r in rows if (r[1], r[2], r[3]) != (0, c.shape(x)[r[0]], 1)]
    if not cut:
        return x
    at, low, high, by = zip(*cut)
    return c.op("slice", x, axes=at, starts=low, ends=high, steps=by)


def _bounds(c: Context, lo: Dim, hi: Dim, n: Dim, step: int) -> tuple[Dim, Dim]:
    """Bounds as the IR has them: absolute, inside the axis; -1 as the end of a reversed slice."""
    if step > 0:
        return _clamped(lo, n, 0, n), _clamped(hi, n, 0, n)
    last = dm.sub(n, 1)
    if (
        isinstance(hi, int)
        and isinstance(n, int)
        and hi < -n
        or isinstance(hi, int)
        and hi < _NEVER
    ):
        end: Dim = -1
    else:
        end = _clamped(hi, n, -1, last)
    return _clamped(lo, n, 0, last), end


def _clamped(d: Dim, n: Dim, low: Dim, high: Dim) -> Dim:
    """A bound counted from the front; beyond a symbolic end only where that is certain."""
    if isinstance(d, int) and d >= 2**31 - 1:
        return high
    if isinstance(d, int) and d <= -(2**31):
        return low
    if isinstance(d, int) and d < 0:
        d = dm.add(n, d)
    if isinstance(d, int) and isinstance(n, int):
        return min(max(d, int(low)), int(high))
    gap = dm.sub(high, d)
    return high if isinstance(gap, int) and gap < 0 else d


def pad(
    c: Context, node: SourceNode, x: Value, pads: Any, value: Any = None, axes: Any = None,
    mode: str = "constant",
) -> Value:  # fmt: skip
    """Pad; negative pads crop."""
    if mode not in ("constant", "reflect", "edge"):
        raise c.refuse(f"pad mode {mode!r}", "use constant, reflect or edge")
    rank, given = c.rank(x), c.dims(pads)
    places = range(rank) if axes is None else [int(a) % rank for a in c.dims(axes)]
    k = len(given) // 2
    full: list[Dim] = [0] * (2 * rank)
    for i, a in enumerate(places):
        full[a], full[a + rank] = given[i], given[k + i]
    crop = [
        (a, lo, hi)
        for a, (lo, hi) in enumerate(zip(full[:rank], full[rank:]))
        if _cuts(lo) or _cuts(hi)
    ]
    if crop:
        rows = [(a, _cut(lo), dm.sub(c.shape(x)[a], _cut(hi))) for a, lo, hi in crop]
        axes_, starts, ends = zip(*rows)
        x = c.op("slice", x, axes=axes_, starts=starts, ends=ends, steps=(1,) * len(rows))
        full = [0 if _cuts(p) else p for p in full]
    if all(p == 0 for p in full):
        return x
    fill = 0.0 if value is None or value == "" else float(c.scalar(value))
    return c.op("pad", x, pads=tuple(full), mode=mode, value=fill if mode == "constant" else 0.0)


def _cuts(p: Dim) -> bool:
    return isinstance(p, int) and p < 0


def _cut(p: Dim) -> int:
    return -p if isinstance(p, int) and p < 0 else 0


def depth_to_space(
    c: Context, node: SourceNode, x: Value, blocksize: int, mode: str = "DCR"
) -> Value:
    """DepthToSpace: [N, C, H, W] to [N, C/b², H*b, W*b]."""
    n, ch, h, w = c.shape(x)
    b, rest = blocksize, dm.floordiv(ch, blocksize * blocksize)
    if mode == "DCR":
        y = c.op("reshape", x, shape=(n, b, b, rest, h, w))
        y = c.op("transpose", y, perm=(0, 3, 4, 1, 5, 2))
    else:
        y = c.op("reshape", x, shape=(n, rest, b, b, h, w))
        y = c.op("transpose", y, perm=(0, 1, 4, 2, 5, 3))
    return c.op("reshape", y, shape=(n, rest, dm.mul(h, b), dm.mul(w, b)))


def space_to_depth(c: Context, node: SourceNode, x: Value, blocksize: int) -> Value:
    """SpaceToDepth: [N, C, H, W] to [N, C*b², H/b, W/b]."""
    n, ch, h, w = c.shape(x)
    b = blocksize
    h2, w2 = dm.floordiv(h, b), dm.floordiv(w, b)
    y = c.op("reshape", x, shape=(n, ch, h2, b, w2, b))
    y = c.op("transpose", y, perm=(0, 3, 5, 1, 2, 4))
    return c.op("reshape", y, shape=(n, dm.mul(ch, b * b), h2, w2))


def one_hot(
    c: Context, node: SourceNode, indices: Value, depth: Any, values: Value, axis: int = -1
) -> Value:
    """OneHot: the second of two values where the index is, the first elsewhere; negative indices
    wrap.
    """
    n = int(c.scalar(depth))
    rank = c.rank(indices) + 1
    at = axis % rank
    place = c.cast(indices, "int64")
    place = c.op("mod", place, c.tensor(n))
    place = c.op("reshape", place, shape=unsqueezed(c.shape(indices), (at,)))
    steps = c.tensor(tuple(range(n)), "int64")
    steps = c.op("reshape", steps, shape=(n, *[1] * (rank - 1 - at)))
    off, on = c.op("split", values, axis=0, sizes=(1, 1))
    hit = c.op("equal", place, steps)
    return c.op("where", hit, c.op("reshape", on, shape=()), c.op("reshape", off, shape=()))


# -- quantisation ----------------------------------------------------------------------------------
def quantize(
    c: Context, node: SourceNode, x: Value, scale: Value, zero_point: Value | None, *, axis: int,
    output_dtype: str, block_size: int, **_: Any,
) -> Value:  # fmt: skip
    """QuantizeLinear by tensor or channel."""
    scale, zero = _parameters(c, scale, zero_point, output_dtype or "uint8", block_size)
    return c.op("quantize", x, c.cast(scale, c.dtype(x)), zero, axis=_axis(c, x, scale, axis))


def dequantize(
    c: Context, node: SourceNode, x: Value, scale: Value, zero_point: Value | None, *, axis: int,
    block_size: int, **_: Any,
) -> Value:  # fmt: skip
    """DequantizeLinear by tensor or channel."""
    scale, zero = _parameters(c, scale, zero_point, c.dtype(x), block_size)
    return c.op("dequantize", x, scale, zero, axis=_axis(c, x, scale, axis))


def _parameters(
    c: Context, scale: Value, zero: Value | None, dtype: str, block_size: int
) -> tuple[Value, Value]:
    if block_size or c.rank(scale) > 1:
        raise c.refuse("quantisation by blocks", "quantise by tensor or by channel")
    if c.shape(scale) == (1,):
        scale = c.op("reshape", scale, shape=())
    if zero is None:
        size = [int(d) for d in c.shape(scale)]
        zero = Value(c.b.const(np.zeros(size).astype(dt.to_numpy(dtype))))
    return scale, c.op("reshape", zero, shape=c.shape(scale)) if c.shape(zero) != c.shape(
        scale
    ) else zero


def _axis(c: Context, x: Value, scale: Value, axis: int) -> int:
    return axis if c.rank(scale) else -1


# -- control flow ----------------------------------------------------------------------------------
def if_(c: Context, node: SourceNode, pred: Value, xs: tuple[Value, ...]) -> Any:
    """If: both branches take what either reads."""
    types = [c.b.types[x] for x in xs]
    regions = [c.region(g, n, types) for g, n in zip(node.regions, ("then", "else"))]
    return _control(c, "cond", [_scalar(c, pred), *xs], regions, {})


def loop(c: Context, node: SourceNode, xs: tuple[Value, ...], carried: int, limited: bool) -> Any:
    """Loop: what is carried besides the results (the turn, whether to go on) comes first."""
    own = carried - len(node.outputs)
    scalars = (*range(own), *((carried,) if limited else ()))
    values = [_scalar(c, x) if i in scalars else x for i, x in enumerate(xs)]
    types = [c.b.types[x] for x in values]
    regions = [c.region(g, n, types) for g, n in zip(node.regions, ("cond", "body"))]
    out = _control(c, "while_loop", values, regions, {"carried": carried})
    results = (out if isinstance(out, tuple) else (out,))[own:]
    return results if len(results) != 1 else results[0]


def _scalar(c: Context, x: Value) -> Value:
    return c.op("reshape", x, shape=()) if c.rank(x) else x


def _control(
    c: Context, op: str, values: list[Value], regions: list[Any], attrs: dict[str, Any]
) -> Any:
    out = tuple(map(Value, c.b.emit(op, values, attrs, regions=regions, name=c.node.outputs[0])))
    return out[0] if len(out) == 1 else out
