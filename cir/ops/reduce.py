"""Reductions, scans and selection along axes. The layout trait ``axis`` presumes keepdims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cir.graph import TensorType
from cir.infer import Attrs, Types, reduction, same_as, typed
from cir.kernel import Array, Ints, accumulator, is_symbolic, kernel, sym_maximum, sym_minimum
from cir.spec import InferContext, InferError, op

_FLOAT_SAMPLES: tuple[dict[str, Any], ...] = (
    {"inputs": ["float32[2,3,4]"], "axis": [-1]},
    {"inputs": ["float32[2,3,4]"], "axis": [0, 2], "keepdims": False},
)
_NUMBER_SAMPLES = (*_FLOAT_SAMPLES, {"inputs": ["int32[2,3]"], "axis": [0]})
_BOOL_SAMPLES: tuple[dict[str, Any], ...] = (
    {"inputs": ["bool[2,3]"], "axis": [-1]},
    {"inputs": ["bool[2,3,4]"], "axis": [0, 1], "keepdims": False},
)


def _reduce(
    name: str, fn: Callable[..., Any], doc: str, *, domain: str = "number",
    samples: tuple[dict[str, Any], ...] = _NUMBER_SAMPLES,
) -> None:  # fmt: skip
    def reference(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        return fn(x, axis, keepdims)

    reference.__name__, reference.__doc__ = name, doc
    op(
        f"{name}(x; axis: axes, keepdims: bool = True)",
        infer=reduction(),
        domain=domain,
        layout="axis",
        samples=samples,
    )(kernel(reference))


def _amax(x: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    reduce = sym_maximum.reduce if is_symbolic(x) else np.max
    return reduce(x, axis=axis, keepdims=keepdims)


def _amin(x: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    reduce = sym_minimum.reduce if is_symbolic(x) else np.min
    return reduce(x, axis=axis, keepdims=keepdims)


_reduce("sum", lambda x, a, k: np.sum(x, axis=a, keepdims=k, dtype=accumulator(x.dtype)),
        "Sum over axes, in the dtype of x.")  # fmt: skip
_reduce("prod", lambda x, a, k: np.prod(x, axis=a, keepdims=k, dtype=accumulator(x.dtype)),
        "Product over axes, in the dtype of x.")  # fmt: skip
_reduce("mean", lambda x, a, k: np.mean(x, axis=a, keepdims=k, dtype=accumulator(x.dtype)),
        "Mean over axes.", domain="float", samples=_FLOAT_SAMPLES)  # fmt: skip
_reduce("amax", _amax, "Largest element over axes; nan if any is.")
_reduce("amin", _amin, "Smallest element over axes; nan if any is.")
_reduce("any", lambda x, a, k: np.any(x, axis=a, keepdims=k), "Whether any element holds.",
        domain="bool", samples=_BOOL_SAMPLES)  # fmt: skip
_reduce("all", lambda x, a, k: np.all(x, axis=a, keepdims=k), "Whether all elements hold.",
        domain="bool", samples=_BOOL_SAMPLES)  # fmt: skip


@op("logsumexp(x; axis: axes, keepdims: bool = True)", domain="float", infer=reduction(),
    layout="axis",
    decomposition=["m = amax(x, axis=axis)",
                   "y = log(sum(exp(x - m), axis=axis, keepdims=keepdims))"
                   " + amax(x, axis=axis, keepdims=keepdims)"],
    samples=_FLOAT_SAMPLES)  # fmt: skip
@kernel
def logsumexp(x: Array, *, axis: Ints, keepdims: bool) -> Array:
    """``log(sum(exp(x)))`` over axes without overflow."""
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True, dtype=np.float64)) + top
    return total if keepdims else np.squeeze(total, axis)


_ARG_SAMPLES = (
    {"inputs": ["float32[2,3,4]"]},
    {"inputs": ["int64[3,4]"], "axis": 0, "keepdims": False},
)


@op("argmax(x; axis: axis = -1, keepdims: bool = True)", domain="number",
    infer=reduction("int64"), layout="axis", samples=_ARG_SAMPLES)  # fmt: skip
@kernel
def argmax(x: Array, *, axis: int, keepdims: bool) -> Array:
    """Index of the first largest element along an axis, int64."""
    return np.argmax(x, axis=axis, keepdims=keepdims).astype(np.int64)


@op("argmin(x; axis: axis = -1, keepdims: bool = True)", domain="number",
    infer=reduction("int64"), layout="axis", samples=_ARG_SAMPLES)  # fmt: skip
@kernel
def argmin(x: Array, *, axis: int, keepdims: bool) -> Array:
    """Index of the first smallest element along an axis, int64."""
    return np.argmin(x, axis=axis, keepdims=keepdims).astype(np.int64)


@op("cumsum(x; axis: axis, exclusive: bool = False, reverse: bool = False)", domain="number",
    infer=same_as(0), layout="axis",
    samples=[{"inputs": ["float32[2,3,4]"], "axis": 1},
             {"inputs": ["float32[2,5]"], "axis": -1, "exclusive": True},
             {"inputs": ["int64[2,5]"], "axis": -1, "reverse": True},
             {"inputs": ["int32[4]"], "axis": 0, "exclusive": True, "reverse": True}])  # fmt: skip
@kernel
def cumsum(x: Array, *, axis: int, exclusive: bool, reverse: bool) -> Array:
    """Running sum along an axis, from its end if reverse; exclusive leaves the element out."""
    x = np.flip(x, axis) if reverse else x
    out = np.cumsum(x, axis=axis, dtype=accumulator(x.dtype))
    if exclusive:
        shifted = np.zeros_like(out)
        to, of = [slice(None)] * x.ndim, [slice(None)] * x.ndim
        to[axis], of[axis] = slice(1, None), slice(None, -1)
        shifted[tuple(to)] = out[tuple(of)]
        out = shifted
    return np.flip(out, axis) if reverse else out


def _infer_topk(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    t = typed(types, 0)
    k, axis = attrs["k"], attrs["axis"]
    n = t.shape[axis]
    if type(k) is int and (k < 0 or (type(n) is int and k > n)):
        raise InferError(f"k is {k}, must be from 0 to {n}, the size of axis {axis} of {t}")
    at = axis + t.rank
    shape = (*t.shape[:at], k, *t.shape[at + 1 :])
    return [TensorType(t.dtype, shape), TensorType("int64", shape)]


@op("topk(x; k: dim, axis: axis = -1, largest: bool = True, sorted: bool = True)"
    " -> values, indices",
    domain="number", infer=_infer_topk, layout="axis",
    samples=[{"inputs": ["float32[2,5]"], "k": 2},
             {"inputs": ["float32[4,3]"], "k": 4, "axis": 0, "largest": False},
             {"inputs": ["int64[6]<3"], "k": 3}])  # fmt: skip
@kernel
def topk(x: Array, *, k: int, axis: int, largest: bool, sorted: bool) -> tuple[Array, ...]:
    """The k largest (or smallest) elements along an axis and their indices (int64), best first.

    Equal elements come in index order; nan counts as largest. ``sorted=False`` permits any order.
    """
    n = x.shape[axis]
    if (
        largest
    ):  # a stable descending order is a stable ascending one of the reversed axis, reversed
        order = n - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    order = np.take(order, range(k), axis=axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64)
