"""Ranks of values whose rank MindSpore lost.

Its shape inference gives up on the rank of a few ops with dynamic dims (a squeeze behind a padded
pooling, for one), and from there on everything is unknown: ``x.ndim`` becomes an op, each ``if`` on
it a branch. Ranks follow from the ops alone, so those decisions can still be made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Ops whose first result has the rank of their first operand.
_SAME = frozenset((
    "Abs", "AdaptiveAvgPool2D", "AvgPool", "AvgPool2D", "BatchNorm", "BatchNormExt", "BiasAdd",
    "Cast", "Conv2D", "Conv2DExt", "Conv2DTranspose", "Conv3D", "ConvTranspose2D", "CumSum",
    "Dense", "Elu", "EluExt", "Erf", "Exp", "GeLU", "GeluExt", "GroupNorm", "HSigmoid", "HSwish",
    "InstanceNorm", "LayerNorm", "LayerNormExt", "Log", "LogSoftmax", "MaxPool",
    "MaxPool3DWithArgmax", "MaxPoolWithMask", "Mish", "Neg", "PReLU", "PadV3", "ReLU", "ReLU6",
    "ResizeBilinearV2", "ResizeNearestNeighborV2", "ReverseV2", "RmsNorm", "Rsqrt", "SiLU",
    "Sigmoid", "Softmax", "Softplus", "Split", "Sqrt", "Square", "StridedSlice", "Tanh",
    "TensorMove", "Tile", "Transpose", "TransposeView", "UpsampleNearest2D",
))  # fmt: skip
#: Ops that broadcast their operands.
_BROADCAST = frozenset((
    "Add", "BatchMatMul", "Div", "Divs", "Equal", "FloorDiv", "Greater", "GreaterEqual", "Less",
    "LessEqual", "LogicalAnd", "LogicalOr", "MaskedFill", "MatMul", "MatMulExt", "Maximum",
    "Minimum", "Mul", "Muls", "NotEqual", "Pow", "RealDiv", "Select", "Sub",
))  # fmt: skip
_REDUCE = frozenset((
    "MeanExt", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "SumExt",
))  # fmt: skip


def rank_of(
    op: str, args: Sequence[Any], ranks: Sequence[int | None], attrs: Mapping[str, Any]
) -> int | None:
    """Rank of a node's first result, None when it is not known.

    Args:
        op: op name.
        args: operands in order.
        ranks: their ranks, None for unknown ones and for what is no tensor.
        attrs: attributes.
    """
    first = ranks[0] if ranks else None
    if op in _SAME:
        return first
    if op in _BROADCAST:
        known = [r for r in ranks if r is not None]
        return max(known) if known else None
    if op in ("Reshape", "BroadcastTo") and isinstance(args[1], tuple):
        return len(args[1])
    if first is None:
        return None
    if op in _REDUCE:
        axes = args[1] if isinstance(args[1], tuple) else (args[1],) if args[1] is not None else ()
        return first if args[2] else first - len(axes) if axes else 0
    if op == "ExpandDims":
        return first + 1
    if op == "Squeeze" and args[1] not in ((), None):
        return first - (len(args[1]) if isinstance(args[1], tuple) else 1)
    if op == "Concat":
        return first
    return 2 if op == "Flatten" else None
