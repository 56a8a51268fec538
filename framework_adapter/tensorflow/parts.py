"""What several emission handlers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import CirError
from cir.dim import Dim
from cir.graph import TensorType
from framework_adapter.functions import same_pads
from framework_adapter.target import Scope


def operand(s: Scope, index: int) -> TensorType:
    """Type of an operand of the IR node."""
    name = s.node.inputs[index]
    assert name is not None
    return s.graph.types[name]


def like(s: Scope, x: str, value: float) -> str:
    """A number of the dtype of x."""
    return s.const(np.asarray(value).astype(dt.to_numpy(s.dtype(x))))


def integer(s: Scope, value: int, dtype: str = "int64") -> str:
    """A number for an operand that is an axis or a count."""
    return s.const(np.asarray(value), dtype=dtype)


def renewed(
    s: Scope,
    w: str,
    key: tuple[Any, ...],
    known: Callable[[np.ndarray], np.ndarray],
    emitted: Callable[[str], Any],
) -> str:
    """A weight in another form: a constant is computed here, once; another value at run time.

    Args:
        s: the scope.
        w: the weight.
        key: the form; its first entry is appended to the name of the weight.
        known: the form of an array.
        emitted: emits the nodes that give the form of a value.
    """
    full = ("renewed", w, *key)
    if full not in s.memo:
        data = s.known(w)
        if data is None:
            s.memo[full] = emitted(w)
        else:
            s.memo[full] = s.const(np.ascontiguousarray(known(data)), f"{w}.{key[0]}")
    return s.memo[full]


def turned(s: Scope, w: str, perm: Sequence[int], label: str) -> str:
    """A weight with its axes permuted."""
    order = tuple(perm)
    return renewed(
        s, w, (label,), lambda a: a.transpose(order), lambda v: s.op("Transpose", v, order)
    )


def reformed(s: Scope, w: str, shape: tuple[int, ...]) -> str:
    """A weight in another shape."""
    label = "x".join(map(str, shape))
    return renewed(s, w, (label,), lambda a: a.reshape(shape), lambda v: s.op("Reshape", v, shape))


def paddings(s: Scope, low: Sequence[Dim], high: Sequence[Dim]) -> str:
    """int64[rank, 2] of low pads and high pads, each in order of the axes."""
    flat = [d for pair in zip(low, high) for d in pair]
    if all(isinstance(d, int) for d in flat):
        return s.const(np.array(flat, np.int64).reshape(-1, 2))
    return str(s.op("Reshape", s.ints(flat), (-1, 2)))


def spatial(sizes: Sequence[Dim], fill: Dim) -> tuple[Dim, ...]:
    """An entry for each axis of [N, *S, C] from those of the spatial axes."""
    return (fill, *sizes, fill)


def is_same(sizes: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int], pads: Any) -> bool:
    """Whether TensorFlow's padding SAME means these pads, low ones first."""
    try:
        return same_pads(sizes, kernel, strides, (1,) * len(kernel)) == tuple(pads)
    except CirError:  # a symbolic size decides
        return False


def explicit(low: Sequence[int], high: Sequence[int]) -> dict[str, Any]:
    """The attributes for pads of two spatial axes of [N, H, W, C]."""
    if not any((*low, *high)):
        return {"padding": "VALID"}
    pairs = tuple(p for pair in zip(low, high) for p in pair)
    return {"padding": "EXPLICIT", "explicit_paddings": (0, 0, *pairs, 0, 0)}
