"""The closed vocabulary of ``where`` and of attribute expressions in ``replace``.

Each entry is a small function with a doc line and a test. What cannot be decided (a symbolic dim of
unknown size, a constant that is not folded yet) raises ``ExprError``: an unknown never matches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cir import dim
from cir import dtype as dt
from cir.dim import Dim
from cir.expr import ExprError
from fusion_db import numbers

if TYPE_CHECKING:
    from fusion_db.work import Work

#: Name -> function: what expressions may call beside ``cir.expr.FUNCTIONS``.
FUNCTIONS: dict[str, Callable[..., Any]] = {}

#: How far nonnegative() looks up the graph.
_DEPTH = 64


class Value:
    """A value as expressions see it: ``.rank .dtype .shape``, and for predicates its graph."""

    __slots__ = ("name", "work", "rank", "dtype", "shape")

    def __init__(self, name: str, work: Work) -> None:
        t = work.types[name]
        self.name, self.work = name, work
        self.rank, self.dtype, self.shape = t.rank, t.dtype, t.shape


def _function(fn: Callable[..., Any]) -> Callable[..., Any]:
    FUNCTIONS[fn.__name__] = fn
    return fn


def _known(answer: bool | None) -> bool:
    if answer is None:
        raise ExprError("depends on the sizes of symbolic dims")
    return answer


def _equal(a: Dim, b: Dim) -> bool:
    return _known(dim.equal(a, b))


# -- numbers ---------------------------------------------------------------------------------------
@_function
def value(v: Any) -> float | int:
    """Number of a scalar constant, as the shortest decimal of its dtype (1e-05)."""
    if isinstance(v, (int, float)):
        return v
    c = v.work.consts.get(v.name) if isinstance(v, Value) else None
    if c is None or not c.is_scalar:
        raise ExprError("value() takes a scalar constant")
    number = c.numpy().reshape(()).item()
    return numbers.shortest(float(number), v.dtype) if dt.is_float(v.dtype) else number


@_function
def default(v: Any, number: float) -> float | int:
    """Number of a scalar constant or attribute, or another number when it is absent."""
    return number if v is None else value(v)


@_function
def snap(number: float, formula: float) -> float:
    """``formula`` when the number is within 4 float32 steps of it, else the number."""
    return numbers.snap(float(number), float(formula))


# -- presence --------------------------------------------------------------------------------------
@_function
def absent(v: Any) -> bool:
    """Whether the matched alternative does not bind this name."""
    return v is None


@_function
def present(v: Any) -> bool:
    """Whether the matched alternative binds this name."""
    return v is not None


# -- what is known of a value ----------------------------------------------------------------------
@_function
def is_const(v: Value) -> bool:
    """Whether a value is computed from constants alone."""
    return v.work.is_const(v.name)


@_function
def single_use(v: Value) -> bool:
    """Whether a value is read exactly once, graph outputs included."""
    return v.work.reads(v.name) == 1


@_function
def made_by(v: Value, op: str) -> bool:
    """Whether a value is a result of an op of this name."""
    node = v.work.producers.get(v.name)
    return node is not None and node.op == op


@_function
def static(x: Any) -> bool:
    """Whether a value's shape, or a tuple of dims, holds no symbol."""
    return all(type(d) is int for d in (x.shape if isinstance(x, Value) else x))


_POSITIVE = frozenset(
    (
        "relu", "sigmoid", "softmax", "abs", "square", "exp", "sqrt", "rsqrt", "hard_sigmoid",
        "softplus", "squared_difference",
    )
)  # fmt: skip
#: Results are elements of the operands, or sums and means of them.
_PRESERVING = frozenset(
    (
        "max_pool", "avg_pool", "concat", "reshape", "transpose", "slice", "split", "gather",
        "expand", "tile", "mean", "sum", "amax", "add", "mul", "identity", "cast", "minimum",
    )
)  # fmt: skip


@_function
def nonnegative(v: Value) -> bool:
    """Whether no element can be below 0: a result of relu, sigmoid, abs ... or of such values."""
    return _nonnegative(v.name, v.work, _DEPTH)


def _nonnegative(name: str, work: Work, depth: int) -> bool:
    c = work.consts.get(name)
    if c is not None:
        return bool(np.all(c.numpy() >= 0))
    node = work.producers.get(name)
    if node is None or not depth:
        return False
    if node.op in _POSITIVE:
        return True
    if node.op == "clip":
        low = node.attrs["min"]
        return isinstance(low, float) and low >= 0
    if node.op == "pad":
        return node.attrs["value"] >= 0 and _nonnegative(node.inputs[0], work, depth - 1)  # type: ignore
    if node.op == "maximum":
        return any(i is not None and _nonnegative(i, work, depth - 1) for i in node.inputs)
    if node.op not in _PRESERVING:
        return False
    operands = node.inputs[:1] if node.op == "gather" else node.inputs
    return all(i is not None and _nonnegative(i, work, depth - 1) for i in operands)


@_function
def causal(mask: Value) -> bool:
    """Whether a constant mask keeps exactly keys j <= i: True, or 0 against -1e4 or less."""
    c = mask.work.consts.get(mask.name)
    if c is None or c.type.rank < 2:
        return False
    m = c.numpy()
    keep = np.tril(np.ones(m.shape, bool))
    if m.dtype == bool:
        return bool(np.array_equal(m, keep))
    m = m.astype(np.float64)
    return bool(np.all(m[keep] == 0) and np.all(m[~keep] <= -1e4))


@_function
def lossless(source: str, target: str) -> bool:
    """Whether every value of the dtype ``source`` has an exact counterpart in ``target``."""
    if source == target or source == "bool":
        return True
    if source in ("float16", "bfloat16") and target in ("float32", "float64"):
        return True
    if target not in dt.FLOATS + dt.INTS or source not in dt.INTS + ("float32", "float64"):
        return False
    return target != "bfloat16" and bool(np.can_cast(source, target, "safe"))


# -- shapes ----------------------------------------------------------------------------------------
@_function
def same_shape(a: Value, b: Value) -> bool:
    """Whether two values are known to have equal shapes."""
    return a.rank == b.rank and all(_equal(x, y) for x, y in zip(a.shape, b.shape))


@_function
def broadcasts(a: Value, shape: Sequence[Dim]) -> bool:
    """Whether a value broadcasts to a shape without enlarging it."""
    tail = shape[len(shape) - a.rank :] if a.rank else ()
    return a.rank <= len(shape) and all(d == 1 or _equal(d, n) for d, n in zip(a.shape, tail))


@_function
def along(k: Value, y: Value, axes: Sequence[int]) -> bool:
    """Whether k broadcasts to y along these (negative) axes only, with their full sizes."""
    if k.rank > y.rank or any(k.rank < -a for a in axes):
        return False
    for axis in range(-k.rank, 0):
        if axis in axes:
            if not _equal(k.shape[axis], y.shape[axis]):
                return False
        elif k.shape[axis] != 1:
            return False
    return True


@_function
def channel_const(k: Value, y: Value) -> bool:
    """Whether k is constant and holds one number, or one for each channel (axis 1) of y."""
    if not k.work.is_const(k.name) or k.rank > y.rank:
        return False
    if all(d == 1 for d in k.shape):
        return True
    return along(k, y, (1 - y.rank,))


@_function
def trailing(k: int) -> tuple[int, ...]:
    """The last k axes: (-k, ..., -1)."""
    return tuple(range(-k, 0))


@_function
def divides(divisor: Dim, d: Dim) -> bool:
    """Whether d is a multiple of divisor."""
    return _known(dim.divides(divisor, d))


@_function
def multiples(shape: Sequence[Dim], of: Sequence[Dim]) -> bool:
    """Whether each size of a shape is a multiple of its counterpart."""
    return len(shape) == len(of) and all(_known(dim.divides(b, a)) for a, b in zip(shape, of))


@_function
def pick(shape: Sequence[Dim], axes: Sequence[int]) -> tuple[Dim, ...]:
    """Sizes of some axes."""
    return tuple(shape[a] for a in axes)


@_function
def plus(a: Sequence[Dim], b: Sequence[Dim]) -> tuple[Dim, ...]:
    """Elementwise sum of two tuples of dims."""
    if len(a) != len(b):
        raise ExprError(f"{a} and {b} differ in length")
    return tuple(dim.add(x, y) for x, y in zip(a, b))


@_function
def spatial(pads: Sequence[Dim]) -> tuple[Dim, ...]:
    """Pads of the spatial axes, when nothing but them is padded: (N, C, *S) low then high."""
    rank = len(pads) // 2
    if any(pads[i] != 0 for i in (0, 1, rank, rank + 1)):
        raise ExprError("batch or channels are padded")
    return (*pads[2:rank], *pads[rank + 2 :])


@_function
def repeated(x: Sequence[Dim], inner: Sequence[Dim], tiled: Sequence[Dim]) -> tuple[Dim, ...]:
    """Spatial sizes when reshape > tile (or expand) repeats each element of an image in place.

    ``inner`` must be ``x`` with axes of size 1 behind some of its own, which only ``tiled``
    enlarges; batch and channels (the first two axes) must not grow.
    """
    want: list[Dim] = []
    k = 0
    for d in x:
        if k >= len(inner) or not _equal(inner[k], d) or not _equal(tiled[k], d):
            raise ExprError(f"{inner} is not {x} with axes of size 1 in between")
        size, k = d, k + 1
        while k < len(inner) and inner[k] == 1 and (d == 1 or tiled[k] != 1):
            size, k = dim.mul(size, tiled[k]), k + 1
        want.append(size)
    if k != len(inner) or len(x) < 3 or not all(_equal(a, b) for a, b in zip(want[:2], x)):
        raise ExprError("something else than the spatial axes is repeated")
    return tuple(want[2:])


# -- permutations ----------------------------------------------------------------------------------
@_function
def to_end(rank: int, axes: Sequence[int]) -> tuple[int, ...]:
    """The permutation that moves (negative) axes behind the others."""
    moved = [a + rank for a in axes]
    return (*(i for i in range(rank) if i not in moved), *moved)


@_function
def inverse(perm: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes another."""
    return tuple(sorted(range(len(perm)), key=lambda i: perm[i]))


@_function
def swap_last(rank: int) -> tuple[int, ...]:
    """The permutation that swaps the last two axes."""
    return (*range(rank - 2), rank - 1, rank - 2)


# -- bounds ----------------------------------------------------------------------------------------
@_function
def highest(a: float | None, b: float | None) -> float | None:
    """The larger of two lower bounds, None being no bound."""
    return b if a is None else a if b is None else max(a, b)


@_function
def lowest(a: float | None, b: float | None) -> float | None:
    """The smaller of two upper bounds, None being no bound."""
    return b if a is None else a if b is None else min(a, b)


@_function
def ordered(low: float | None, high: float | None) -> bool:
    """Whether a lower bound does not exceed an upper one, None being no bound."""
    return low is None or high is None or low <= high
