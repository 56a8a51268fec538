"""Python-side decisions that an export leaves in the graph, decided while it is read.

With dynamic shapes MindSpore cannot fold tests such as ``-2 in x.shape`` or ``flag is False``, and
writes them as ops over host values. Those whose operands are known are computed here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cir import dtype as dt
from framework_adapter.source import Ref


class _Unknown:
    """Nothing can be said when the graph is read."""


UNKNOWN = _Unknown()

_FOLDS: dict[str, Callable[..., Any]] = {
    "is_": operator.is_,
    "is_not": operator.is_not,
    "BoolNot": operator.not_,
    "bool_not": operator.not_,
    "tuple_equal": operator.eq,
    "ScalarAdd": operator.add,
    "ScalarSub": operator.sub,
    "ScalarMul": operator.mul,
    "ScalarDiv": operator.truediv,
    "ScalarFloorDiv": operator.floordiv,
    "ScalarMod": operator.mod,
    "ScalarUsub": operator.neg,
    "ScalarEq": operator.eq,
    "ScalarLt": operator.lt,
    "ScalarLe": operator.le,
    "ScalarGt": operator.gt,
    "ScalarGe": operator.ge,
}


_ARRAY_FOLDS = ("TruncateDiv", "Cast", "TensorToTuple", "TupleToTensor")


def fold(op: str, args: Sequence[Any], sizes: frozenset[Ref] | set[Ref]) -> Any:
    """The value of a host op, or UNKNOWN.

    Args:
        op: op name.
        args: Python values, Refs, tuples of these.
        sizes: Refs that stand for sizes of axes, hence for integers >= 0.
    """
    if op == "InSequence":
        return _contains(args[0], args[1], sizes)
    if op == "sequence_len" and isinstance(args[0], tuple):
        return len(args[0])
    if op == "SequenceAdd" and isinstance(args[0], tuple) and isinstance(args[1], tuple):
        return args[0] + args[1]
    if op == "SequenceSlice" and isinstance(args[0], tuple) and not any(map(_has_ref, args[1:])):
        return args[0][args[1] : args[2] : args[3]]
    if op == "tuple_equal" and args[0] == args[1]:
        return True
    if op not in _FOLDS or any(_has_ref(a) for a in args):
        return UNKNOWN
    try:
        return _FOLDS[op](*args)
    except (TypeError, ArithmeticError):
        return UNKNOWN


def fold_arrays(op: str, args: Sequence[Any]) -> Any:
    """The value of an op that turns constant tensors into sizes, or UNKNOWN.

    Args:
        op: op name.
        args: arrays for constant tensors, Python values, dtype names, Refs.

    Returns:
        An array, or a tuple of Python numbers.
    """
    if op not in _ARRAY_FOLDS or any(map(_has_ref, args)):
        return UNKNOWN
    x = np.asarray(args[0])
    if op == "TensorToTuple":
        return tuple(x.tolist())
    if op == "TruncateDiv":
        return np.trunc(np.divide(x, args[1])).astype(x.dtype)
    return x.astype(dt.to_numpy(args[1]))


def _contains(x: Any, items: Any, sizes: frozenset[Ref] | set[Ref]) -> Any:
    if _has_ref(x) or not isinstance(items, tuple):
        return UNKNOWN
    if any(not isinstance(i, Ref) and i == x for i in items):
        return True
    unsure = [i for i in items if isinstance(i, Ref)]
    if not unsure or (isinstance(x, int) and x < 0 and all(i in sizes for i in unsure)):
        return False
    return UNKNOWN


def _has_ref(x: Any) -> bool:
    return any(map(_has_ref, x)) if isinstance(x, tuple) else isinstance(x, Ref)
