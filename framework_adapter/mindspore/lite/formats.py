"""The format of each tensor as the runtime infers it, and what keeps image ops in theirs.

A result has the format of its op's first operand, with the exceptions in ``_decides``; three
transposes turn it: [N, C, H, W] to channels last and back, and the exchange of the last two axes
of three. Image ops refuse NCHW, so where a graph regroups axes in between, an idle exchange is put
before the op.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from framework_adapter.target import TargetNode

NHWC, NCHW = "NHWC", "NCHW"
#: Ops whose kernels work on channels-last images only.
IMAGE_OPS = frozenset(
    [
        "Conv2DFusion",
        "Conv2dTransposeFusion",
        "AvgPoolFusion",
        "MaxPoolFusion",
        "Resize",
        "InstanceNorm",
    ]
)
#: Ops whose result has the format of the first operand that is no constant.
_ARITHMETIC = frozenset(
    [
        "AddFusion",
        "SubFusion",
        "MulFusion",
        "DivFusion",
        "RealDiv",
        "Maximum",
        "Minimum",
        "SquaredDifference",
        "FloorDiv",
        "FloorMod",
        "Equal",
        "NotEqual",
        "Less",
        "LessEqual",
        "Greater",
        "GreaterEqual",
        "LogicalAnd",
        "LogicalOr",
    ]
)
EXCHANGE = (0, 2, 1)
_TO_NHWC, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
#: Format and permutation of a transpose -> format of its result.
_TURNS: Mapping[tuple[str, tuple[int, ...]], str] = {
    (NCHW, _TO_NHWC): NHWC,
    (NHWC, _TO_NCHW): NCHW,
    (NCHW, EXCHANGE): NHWC,
    (NHWC, EXCHANGE): NCHW,
}
Perm = Callable[[TargetNode], tuple[int, ...]]


def inferred(
    nodes: Iterable[TargetNode], inputs: Mapping[str, str], perm: Perm
) -> tuple[dict[str, str], list[TargetNode]]:
    """Formats by value, given those of the graph inputs, and the image ops that refuse theirs."""
    formats = dict(inputs)
    refused = []
    for n in nodes:
        have = formats.get(_decides(n, formats), NHWC) if n.inputs else NHWC
        if n.op in IMAGE_OPS and have == NCHW:
            refused.append(n)
            have = NHWC
        if n.op == "Transpose":
            have = _TURNS.get((have, perm(n)), have)
        formats.update(dict.fromkeys(n.outputs, have))
    return formats, refused


def _decides(node: TargetNode, known: Mapping[str, str]) -> str:
    """The operand whose format the result has; ``known`` has all values but constants."""
    first, *rest = node.inputs
    if node.op in ("Where", "Select") and rest:
        return rest[0]
    if node.op == "MatMulFusion":
        return rest[0] if rest[0] in known else first
    if node.op in _ARITHMETIC and first not in known:
        return rest[0]
    return first


def of_inputs(nodes: Sequence[TargetNode], inputs: Sequence[str], perm: Perm) -> dict[str, str]:
    """Formats of graph inputs: NCHW for one that a transpose brings to channels last, if that suits
    the image ops best.
    """
    turned = {
        n.inputs[0]
        for n in nodes
        if n.op == "Transpose" and n.inputs[0] in inputs and perm(n) in (_TO_NHWC, EXCHANGE)
    }
    named = {i: NCHW if i in turned else NHWC for i in inputs}
    plain = dict.fromkeys(inputs, NHWC)
    return min((named, plain), key=lambda f: len(inferred(nodes, f, perm)[1]))
