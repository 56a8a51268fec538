"""What rows may call: functions of attribute expressions, and macros of statements.

Functions (``v`` is an argument: a tensor, a Python value or a symbolic dim):

``axis(a, rank)``            a as 0 <= axis < rank.
``axes(a, rank)``            int, tuple or known integer tensor as a sorted tuple of axes; None or
                             () means all.
``dims(v)``                  tuple of dims: of a host tuple or number, or the known value of an
                             integer tensor; E207 when it depends on data.
``scalar(v)``                a host number, or the known value of a one-element tensor; E207.
``known(v)``                 whether ``dims``/``scalar`` would succeed.
``is_tensor(v)``             whether v is a tensor (not a host value).
``is_float(dtype)`` ``is_int(dtype)``
``squeezed(shape, axes)``    shape without these axes (None: without all axes of size 1).
``unsqueezed(shape, axes)``  shape with axes of size 1 inserted at these places of the result.
``flattened(shape, start, end)``  axes start..end (inclusive) merged.
``resolve(target, shape)``   target with its -1 solved for a tensor of that shape, symbolically.
``swap(rank, a, b)``         permutation that exchanges two axes.
``same_pads(sizes, kernel, strides, dilations)``
                             [lo..., hi...] of "SAME" padding, the odd one at the end.
``same_pads_lower(...)``     the same with the odd one at the start.

Macros (positional arguments are values):

``nchw(x)`` ``nhwc(x)``      channels-last to channels-first and back, rank 3 to 5.
``oihw(w)``                  HWIO weights to OIHW, any number of spatial axes.
``cast(x, dtype=...)``       x in a dtype: x itself when it has it, a constant for a number.
``promote(a, b)``            both values in their common dtype: ``a, b = promote(a, b)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cir import dim as dm
from cir import dtype as dt
from cir.builder import Builder
from cir.diagnostics import error
from cir.dim import Dim, SymInt
from cir.statement import View


def axis(a: int, rank: int) -> int:
    """``a`` counted from the front. Raises ValueError when out of range (rank 0 counts as 1)."""
    n = max(rank, 1)
    if isinstance(a, bool) or not -n <= a < n:
        raise ValueError(f"axis {a} is out of range for rank {rank}")
    return a + n if a < 0 else a


def squeezed(shape: Sequence[Dim], drop: Any = None) -> tuple[Dim, ...]:
    """Shape without axes; None drops every axis of static size 1."""
    if drop is None:
        return tuple(d for d in shape if d != 1)
    gone = {axis(a, len(shape)) for a in _tuple(drop)}
    return tuple(d for i, d in enumerate(shape) if i not in gone)


def unsqueezed(shape: Sequence[Dim], places: Any) -> tuple[Dim, ...]:
    """Shape with size-1 axes at these places of the result."""
    new = _tuple(places)
    out = list(shape)
    for a in sorted(axis(a, len(shape) + len(new)) for a in new):
        out.insert(a, 1)
    return tuple(out)


def flattened(shape: Sequence[Dim], start: int, end: int) -> tuple[Dim, ...]:
    """Axes start..end (inclusive) merged; a rank-0 shape becomes [1]."""
    if not shape:
        return (1,)
    i, j = axis(start, len(shape)), axis(end, len(shape))
    return (*shape[:i], dm.product(shape[i : j + 1]), *shape[j + 1 :])


def resolve(target: Sequence[Dim], shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """Target with its -1 replaced by what is left of a tensor of ``shape``."""
    holes = [i for i, d in enumerate(target) if d == -1]
    if len(holes) > 1:
        raise ValueError(f"{tuple(target)} has more than one -1")
    if not holes:
        return tuple(target)
    rest = dm.product(d for d in target if d != -1)
    filled = list(target)
    filled[holes[0]] = 0 if rest == 0 else dm.floordiv(dm.product(shape), rest)
    return tuple(filled)


def swap(rank: int, a: int, b: int) -> tuple[int, ...]:
    """Permutation of ``rank`` axes that exchanges a and b."""
    perm = list(range(rank))
    if rank:
        i, j = axis(a, rank), axis(b, rank)
        perm[i], perm[j] = perm[j], perm[i]
    return tuple(perm)


def same_pads(
    sizes: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """[lo..., hi...] so that the output is ceil(size/stride), the odd one at the end.

    Raises CirError E207 when a symbolic size decides the padding.
    """
    lo, hi = [], []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (k - 1) * d + 1
        if isinstance(size, str) and s != 1:
            if dm.divides(s, size) is not True:
                raise error(
                    "E207",
                    f"SAME padding with stride {s} depends on the symbolic size {size}",
                    fix="give this axis a fixed size, or a symbol that is a multiple of the stride",
                )
            total = max(reach - s, 0)
        elif s == 1:
            total = reach - 1
        else:
            n = int(size)
            total = max((-(-n // s) - 1) * s + reach - n, 0)
        lo.append(total // 2)
        hi.append(total - total // 2)
    return (*lo, *hi)


def same_pads_lower(*args: Any) -> tuple[int, ...]:
    """``same_pads`` with the odd one at the start."""
    pads = same_pads(*args)
    n = len(pads) // 2
    return (*pads[n:], *pads[:n])


def dims(b: Builder, v: Any) -> tuple[Dim, ...]:
    """Dims of a host value, a View, or a tuple of these. Raises CirError E207."""
    if isinstance(v, View):
        found = b.dims(v.name)
        if found is None:
            raise _data_dependent(v)
        return found
    if isinstance(v, (tuple, list)):
        return tuple(d for x in v for d in dims(b, x))
    if isinstance(v, SymInt):
        return (v.dim,)
    return (v if isinstance(v, str) else int(v),)


def scalar(b: Builder, v: Any) -> Any:
    """The number a host value or a one-element View stands for. Raises CirError E207."""
    if not isinstance(v, View):
        if isinstance(v, tuple) and len(v) == 1:
            return scalar(b, v[0])
        return v.dim if isinstance(v, SymInt) else v
    found = b.value(v.name)
    if found is None:
        raise _data_dependent(v)
    if found.size != 1:
        raise ValueError(f"{v.name} has {found.size} elements, not one")
    one = np.asarray(found).reshape(-1)[0]
    return (
        one.dim if isinstance(one, SymInt) else one.item() if isinstance(one, np.generic) else one
    )


def _data_dependent(v: View) -> Exception:
    return error(
        "E207",
        f"the value of {v.name} must be known when converting, but it depends on the input data",
        fix="compute it from shapes or constants, or give the input a fixed shape",
    )


def _known(b: Builder, v: Any) -> bool:
    if isinstance(v, (tuple, list)):
        return all(_known(b, x) for x in v)
    return not isinstance(v, View) or b.value(v.name) is not None


def _axes(b: Builder, a: Any, rank: int) -> tuple[int, ...]:
    given = () if a is None else dims(b, a)
    if not given:
        return tuple(range(rank))
    return tuple(sorted({axis(int(x), rank) for x in given})) if rank else ()


def _tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


_PURE: dict[str, Callable[..., Any]] = {
    "axis": axis,
    "is_tensor": lambda v: isinstance(v, View),
    "is_float": dt.is_float,
    "is_int": dt.is_int,
    "squeezed": squeezed,
    "unsqueezed": unsqueezed,
    "flattened": flattened,
    "resolve": resolve,
    "swap": swap,
    "same_pads": same_pads,
    "same_pads_lower": same_pads_lower,
}
_BOUND: dict[str, Callable[..., Any]] = {
    "axes": _axes,
    "dims": dims,
    "scalar": scalar,
    "known": _known,
}
#: Names of all functions, for checking rows.
NAMES = frozenset((*_PURE, *_BOUND))


def table(b: Builder) -> Mapping[str, Callable[..., Any]]:
    """The functions, those that ask for known values bound to a builder."""

    def bind(fn: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: fn(b, *args)

    return {**_PURE, **{name: bind(fn) for name, fn in _BOUND.items()}}


def nchw(b: Builder, x: str) -> str:
    """Channels-last to channels-first."""
    r = _image_rank(b, x)
    return b.emit("transpose", [x], {"perm": (0, r - 1, *range(1, r - 1))})[0]


def nhwc(b: Builder, x: str) -> str:
    """Channels-first to channels-last."""
    r = _image_rank(b, x)
    return b.emit("transpose", [x], {"perm": (0, *range(2, r), 1)})[0]


def oihw(b: Builder, w: str) -> str:
    """HWIO convolution weights to OIHW."""
    r = _image_rank(b, w)
    return b.emit("transpose", [w], {"perm": (r - 1, r - 2, *range(r - 2))})[0]


def _image_rank(b: Builder, x: str) -> int:
    r = b.types[x].rank
    if not 3 <= r <= 5:
        raise error("E202", f"{x} has rank {r}; images have rank 3 to 5")
    return r


def cast(b: Builder, x: Any, dtype: dt.DType) -> str:
    """The value x in a dtype: x itself when it already has it, a constant when it is a number."""
    if not isinstance(x, str):
        return b.const(x, dtype=dtype)
    return x if b.types[x].dtype == dtype else b.emit("cast", [x], {"dtype": dtype})[0]


def promote(b: Builder, *values: Any) -> list[Any]:
    """Tensors in the common dtype of tensors and numbers; numbers stay numbers."""
    want = common_dtype(b, values)
    return [cast(b, v, want) if isinstance(v, str) else v for v in values]


def common_dtype(b: Builder, values: Sequence[Any]) -> dt.DType:
    """Common dtype by PyTorch's rule: full tensors decide the width; rank-0 tensors and then
    numbers only raise the kind (bool < int < float). Strings are value names.
    """
    full = [b.types[v] for v in values if isinstance(v, str) and b.types[v].rank > 0]
    zero = [b.types[v] for v in values if isinstance(v, str) and b.types[v].rank == 0]
    numbers = [_number_dtype(v) for v in values if isinstance(v, (bool, int, float, SymInt))]
    out: dt.DType | None = None
    for level in ([t.dtype for t in full], [t.dtype for t in zero], numbers):
        if not level:
            continue
        common = level[0]
        for other in level[1:]:
            common = dt.promote(common, other)
        if out is None or _kind(common) > _kind(out):
            out = common
    if out is None:
        raise ValueError("no operand to take a dtype from")
    return out


def _number_dtype(v: Any) -> dt.DType:
    return "bool" if isinstance(v, bool) else "float32" if isinstance(v, float) else "int64"


def _kind(dtype: dt.DType) -> int:
    return 0 if dtype == "bool" else 1 if dt.is_int(dtype) else 2 if dt.is_float(dtype) else 3


#: Macros of statements: name -> function(builder, *values).
MACROS: dict[str, Callable[..., Any]] = {
    "nchw": nchw,
    "nhwc": nhwc,
    "oihw": oihw,
    "cast": cast,
    "promote": promote,
}
