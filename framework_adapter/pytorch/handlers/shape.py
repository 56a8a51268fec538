"""Views, cutting, joining, padding."""
# ruff: noqa: D103  (the row that names a handler describes it)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cir import dim as dm
from cir.dim import Dim, SymInt
from framework_adapter.context import Context, Value
from framework_adapter.functions import axis
from framework_adapter.source import SourceNode

#: What the exporter writes for "to the end".
_END = 1 << 62


def permute(c: Context, node: SourceNode, self: Value, dims: Any) -> Any:
    return c.op("transpose", self, perm=[axis(d, c.rank(self)) for d in dims])


def movedim(c: Context, node: SourceNode, self: Value, source: Any, destination: Any) -> Any:
    n = c.rank(self)
    src = [axis(a, n) for a in _many(source)]
    dst = [axis(a, n) for a in _many(destination)]
    rest = iter(a for a in range(n) if a not in src)
    return c.op(
        "transpose", self, perm=[src[dst.index(i)] if i in dst else next(rest) for i in range(n)]
    )


def select(c: Context, node: SourceNode, self: Value, dim: int, index: Any) -> Any:
    if isinstance(index, Value):
        return c.op("gather", self, index, axis=dim)
    a = axis(dim, c.rank(self))
    i = _place(c.scalar(index), c.shape(self)[a])
    one = cut(c, self, a, i, dm.add(i, 1))
    shape = c.shape(self)
    return c.op("reshape", one, shape=(*shape[:a], *shape[a + 1 :]))


def slice_tensor(
    c: Context, node: SourceNode, self: Value, dim: int, start: Any, end: Any, step: int
) -> Any:
    a, lo, hi = _bounds(c, self, dim, start, end, step)
    return cut(c, self, a, lo, hi, step)


def _bounds(
    c: Context, x: Value, dim: int, start: Any, end: Any, step: int, out: Dim | None = None
) -> tuple[int, Dim, Dim]:
    """(axis, start, end) with 0 <= start <= end <= size; the reported result decides unclear
    ones.
    """
    a = axis(dim, c.rank(x))
    n = c.shape(x)[a]
    lo = _place(0 if start is None else c.scalar(start), n)
    hi = _place(_END if end is None else c.scalar(end), n)
    if isinstance(lo, int) and isinstance(n, int):
        lo = min(max(lo, 0), n)
    if isinstance(hi, int) and hi >= _END:
        return a, lo, n
    if isinstance(hi, int) and isinstance(n, int):
        hi = min(max(hi, 0), n)
        return a, lo, max(hi, lo) if isinstance(lo, int) else hi
    if out is None and step == 1 and c.out is not None and c.out.rank == c.rank(x):
        out = c.out.shape[a]
    return a, lo, dm.add(lo, out) if out is not None and step == 1 else dm.minimum(hi, n)


def cut(c: Context, x: Value, a: int, lo: Dim, hi: Dim, step: int = 1) -> Value:
    """x[lo:hi:step] along an axis; x itself when that is all of it."""
    if lo == 0 and step == 1 and dm.equal(hi, c.shape(x)[a]):
        return x
    return c.op("slice", x, axes=[a], starts=[lo], ends=[hi], steps=[step])


def _place(i: Any, n: Dim) -> Dim:
    """An index counted from the front."""
    if isinstance(i, str):  # -k + n and the like come from code that counts from the end
        return dm.add(i, n) if i.startswith("-") and "+" not in i else i
    return dm.add(n, i) if i < 0 else i


def split(c: Context, node: SourceNode, self: Value, count: Any, dim: int) -> Any:
    sizes = [t.shape[dim] for t in c.outs if t is not None]
    return c.op("split", self, axis=dim, sizes=sizes) if len(sizes) > 1 else (self,)


def unbind(c: Context, node: SourceNode, self: Value, dim: int) -> Any:
    shape = c.shape(self)
    a = axis(dim, len(shape))
    n = len(c.outs)
    parts = c.op("split", self, axis=a, sizes=[1] * n) if n > 1 else (self,)
    return tuple(c.op("reshape", p, shape=(*shape[:a], *shape[a + 1 :])) for p in parts)


def cat(c: Context, node: SourceNode, tensors: Any, dim: int) -> Any:
    """Empty rank-1 tensors are left out, as PyTorch does for old code."""
    assert c.out is not None
    kept = [t for t in tensors if c.shape(t) != (0,) or c.out.rank == 1]
    kept = [c.cast(t, c.out.dtype) for t in kept]
    return c.op("concat", *kept, axis=dim) if len(kept) > 1 else kept[0]


def stack(c: Context, node: SourceNode, tensors: Any, dim: int) -> Any:
    assert c.out is not None
    a = axis(dim, c.out.rank)
    shape = (*c.out.shape[:a], 1, *c.out.shape[a + 1 :])
    parts = [c.op("reshape", c.cast(t, c.out.dtype), shape=shape) for t in tensors]
    return c.op("concat", *parts, axis=a) if len(parts) > 1 else parts[0]


def repeat(c: Context, node: SourceNode, self: Value, repeats: Any) -> Any:
    times = c.dims(repeats)
    shape = c.shape(self)
    n = max(len(times), len(shape))
    x = c.op("reshape", self, shape=(1,) * (n - len(shape)) + shape) if n > len(shape) else self
    times = (1,) * (n - len(times)) + times
    return x if all(t == 1 for t in times) else c.op("tile", x, repeats=times)


def repeat_interleave(c: Context, node: SourceNode, self: Value, repeats: Any, dim: Any) -> Any:
    if dim is None:
        self = c.op("reshape", self, shape=(dm.product(c.shape(self)),))
    shape = c.shape(self)
    a = axis(dim or 0, len(shape))
    n = c.scalar(repeats)
    x = c.op("reshape", self, shape=(*shape[: a + 1], 1, *shape[a + 1 :]))
    x = c.op("expand", x, shape=(*shape[: a + 1], n, *shape[a + 1 :]))
    return c.op("reshape", x, shape=(*shape[:a], dm.mul(shape[a], n), *shape[a + 1 :]))


def roll(c: Context, node: SourceNode, self: Value, shifts: Any, dims: Any) -> Any:
    if not _many(dims):
        flat = c.op("reshape", self, shape=(dm.product(c.shape(self)),))
        return c.op("reshape", roll(c, node, flat, shifts, (0,)), shape=c.shape(self))
    x = self
    for shift, dim in zip(_many(shifts), _many(dims)):
        a = axis(dim, c.rank(x))
        n = c.shape(x)[a]
        at = dm.mod(dm.mul(-1, c.scalar(shift)), n) if isinstance(n, int) else _place(-shift, n)
        if at != 0:
            x = c.op("concat", cut(c, x, a, at, n), cut(c, x, a, 0, at), axis=a)
    return x


def flip(c: Context, node: SourceNode, self: Value, dims: Any) -> Any:
    shape = c.shape(self)
    axes = sorted(axis(d, len(shape)) for d in dims)
    return c.op(
        "slice",
        self,
        axes=axes,
        starts=[dm.sub(shape[a], 1) for a in axes],
        ends=[-1] * len(axes),
        steps=[-1] * len(axes),
    )


def pixel_shuffle(c: Context, node: SourceNode, self: Value, factor: int) -> Any:
    *lead, ch, h, w = c.shape(self)
    k = len(lead)
    r = factor
    x = c.op("reshape", self, shape=(*lead, dm.floordiv(ch, r * r), r, r, h, w))
    x = c.op("transpose", x, perm=(*range(k), k, k + 3, k + 1, k + 4, k + 2))
    return c.op("reshape", x, shape=(*lead, dm.floordiv(ch, r * r), dm.mul(h, r), dm.mul(w, r)))


def pixel_unshuffle(c: Context, node: SourceNode, self: Value, factor: int) -> Any:
    *lead, ch, h, w = c.shape(self)
    k = len(lead)
    r = factor
    h, w = dm.floordiv(h, r), dm.floordiv(w, r)
    x = c.op("reshape", self, shape=(*lead, ch, h, r, w, r))
    x = c.op("transpose", x, perm=(*range(k), k, k + 2, k + 4, k + 1, k + 3))
    return c.op("reshape", x, shape=(*lead, dm.mul(ch, r * r), h, w))


def channel_shuffle(c: Context, node: SourceNode, self: Value, groups: int) -> Any:
    n, ch, *space = c.shape(self)
    x = c.op("reshape", self, shape=(n, groups, dm.floordiv(ch, groups), *space))
    x = c.op("transpose", x, perm=(0, 2, 1, *range(3, 3 + len(space))))
    return c.op("reshape", x, shape=c.shape(self))


def pad(c: Context, node: SourceNode, self: Value, pad: Any, mode: str, value: Any) -> Any:
    return _padded(c, self, pad, mode, value)


def constant_pad(c: Context, node: SourceNode, self: Value, pad: Any, value: Any) -> Any:
    return _padded(c, self, pad, "constant", value)


def reflection_pad(c: Context, node: SourceNode, self: Value, pad: Any) -> Any:
    return _padded(c, self, pad, "reflect", None)


def replication_pad(c: Context, node: SourceNode, self: Value, pad: Any) -> Any:
    return _padded(c, self, pad, "replicate", None)


def _padded(c: Context, self: Value, pad: Any, mode: str, value: Any) -> Any:
    """``pad`` runs from the last axis: (low, high) of it, then of the one before."""
    n = c.rank(self)
    given = [p.dim if isinstance(p, SymInt) else p for p in pad]
    lows: list[Dim] = [0] * n
    highs: list[Dim] = [0] * n
    for i in range(len(given) // 2):
        lows[n - 1 - i], highs[n - 1 - i] = given[2 * i], given[2 * i + 1]
    x = _cropped(c, self, lows, highs)
    lows, highs = ([_positive(p) for p in ps] for ps in (lows, highs))
    if all(p == 0 for p in (*lows, *highs)):
        return x
    if mode == "circular":
        return _wrapped(c, x, lows, highs)
    names = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    fill = 0.0 if value is None else float(c.scalar(value))
    if c.dtype(x) != "bool":
        return c.op("pad", x, pads=(*lows, *highs), mode=names[mode], value=fill)
    wide = c.op("pad", c.cast(x, "uint8"), pads=(*lows, *highs), mode=names[mode], value=fill)
    return c.cast(wide, "bool")


def _positive(p: Dim) -> Dim:
    return max(p, 0) if isinstance(p, int) else p


def _cropped(c: Context, x: Value, lows: Sequence[Dim], highs: Sequence[Dim]) -> Value:
    for a, (lo, hi) in enumerate(zip(lows, highs)):
        start = -lo if isinstance(lo, int) and lo < 0 else 0
        end = dm.add(c.shape(x)[a], hi) if isinstance(hi, int) and hi < 0 else c.shape(x)[a]
        x = cut(c, x, a, start, end)
    return x


def _wrapped(c: Context, x: Value, lows: Sequence[Dim], highs: Sequence[Dim]) -> Value:
    for a, (lo, hi) in enumerate(zip(lows, highs)):
        n = c.shape(x)[a]
        parts = [cut(c, x, a, dm.sub(n, lo), n)] if lo != 0 else []
        parts += [x, *([cut(c, x, a, 0, hi)] if hi != 0 else [])]
        x = c.op("concat", *parts, axis=a) if len(parts) > 1 else x
    return x


def shaped_as_reported(c: Context, node: SourceNode, tensors: Any) -> Any:
    """Each tensor in the shape the exporter reports for it: new axes of size 1, or broadcast."""
    out = []
    for x, t in zip(tensors, c.outs):
        assert t is not None
        if dm.equal(dm.product(t.shape), dm.product(c.shape(x))):
            out.append(c.op("reshape", x, shape=t.shape) if t.shape != c.shape(x) else x)
        else:
            out.append(c.op("expand", x, shape=t.shape))
    return tuple(out)


def split_by_name(c: Context, node: SourceNode, self: Value, parts: Any) -> Any:
    kind = node.op.split(".")[1][0]
    dim = {"h": 0 if c.rank(self) == 1 else 1, "v": 0, "d": 2}[kind]
    return split(c, node, self, parts, dim)


def diff(
    c: Context, node: SourceNode, self: Value, n: int, dim: int, prepend: Any, append: Any
) -> Any:
    parts = [x for x in (prepend, self, append) if x is not None]
    x = c.op("concat", *parts, axis=dim) if len(parts) > 1 else self
    a = axis(dim, c.rank(x))
    for _ in range(n):
        size = c.shape(x)[a]
        x = c.op("sub", cut(c, x, a, 1, size), cut(c, x, a, 0, dm.sub(size, 1)))
    return x


def _many(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)
