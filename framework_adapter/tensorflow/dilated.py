"""Dilated convolutions, which TensorFlow spells SpaceToBatchND > convolution > BatchToSpaceND."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from framework_adapter.source import Operand, Ref, SourceGraph, SourceNode

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


def with_dilations(graph: SourceGraph) -> SourceGraph:
    """The graph with such a trio as one convolution that has dilations and explicit paddings."""
    return _Trios(graph).merged()


class _Trios:
    def __init__(self, graph: SourceGraph) -> None:
        self.graph = graph
        self.made = {o: n for n in graph.nodes for o in n.outputs}
        refs = [r.name for n in graph.nodes for r in n.inputs if isinstance(r, Ref)]
        self.uses = Counter([*refs, *graph.outputs])

    def merged(self) -> SourceGraph:
        new: dict[str, SourceNode | None] = {}
        for node in self.graph.nodes:
            if node.op == "BatchToSpaceND":
                new.update(self.trio(node) or {})
        if not new:
            return self.graph
        nodes = [new.get(n.outputs[0], n) for n in self.graph.nodes]
        return replace(self.graph, nodes=tuple(n for n in nodes if n is not None))

    def trio(self, last: SourceNode) -> Mapping[str, SourceNode | None] | None:
        """What becomes of the nodes of a trio, by first output; None when it is not one."""
        squeeze = self.before(last.inputs[0], "Squeeze")
        result = last.inputs[0] if squeeze is None else squeeze.inputs[0]
        conv = self.before(result, *_CONVOLUTIONS)
        if conv is None:
            return None
        expand = self.before(conv.inputs[0], "ExpandDims")
        source = conv.inputs[0] if expand is None else expand.inputs[0]
        first = self.before(source, "SpaceToBatchND")
        if first is None or (squeeze is None) is not (expand is None):
            return None
        attrs = self.attributes(conv, first, last, 2 if expand is None else 1)
        if attrs is None:
            return None
        merged = replace(conv, attrs=attrs, types=(None,))
        new: dict[str, SourceNode | None] = {first.outputs[0]: None, last.outputs[0]: None}
        if expand is None or squeeze is None:
            merged = replace(merged, inputs=(first.inputs[0], *conv.inputs[1:]))
            merged = replace(merged, outputs=last.outputs, types=last.types)
        else:
            inputs = (first.inputs[0], *expand.inputs[1:])
            new[expand.outputs[0]] = replace(expand, inputs=inputs, types=(None,))
            new[squeeze.outputs[0]] = replace(squeeze, outputs=last.outputs, types=last.types)
        return {**new, conv.outputs[0]: merged}

    def attributes(
        self, conv: SourceNode, first: SourceNode, last: SourceNode, spatial: int
    ) -> dict[str, Any] | None:
        """Attributes of the one convolution: blocks are dilations, paddings are less the crops."""
        blocks, same = self.ints(first.inputs[1]), self.ints(last.inputs[1])
        paddings, crops = self.ints(first.inputs[2]), self.ints(last.inputs[2])
        if blocks is None or blocks != same or paddings is None or crops is None:
            return None
        pads = [p - c for p, c in zip(paddings, crops)]
        attrs = dict(conv.attrs)
        plain = attrs["padding"] == "VALID" and attrs.get("data_format", "NHWC") == "NHWC"
        ones = [*attrs["strides"], *(attrs.get("dilations") or ())]
        if len(blocks) != spatial or not plain or any(v != 1 for v in ones) or min(pads) < 0:
            return None
        idle = 2 - spatial  # the axis that ExpandDims puts in front
        attrs["padding"] = "EXPLICIT"
        attrs["explicit_paddings"] = (0, 0, *(0, 0) * idle, *pads, 0, 0)
        attrs["dilations"] = (1, *(1,) * idle, *blocks, 1)
        return attrs

    def before(self, operand: Operand, *ops: str) -> SourceNode | None:
        """The node of one of these ops that computes an operand nobody else reads."""
        if not isinstance(operand, Ref) or self.uses[operand.name] != 1:
            return None
        node = self.made.get(operand.name)
        return node if node is not None and node.op in ops else None

    def ints(self, operand: Operand) -> list[int] | None:
        const = self.graph.consts.get(operand.name) if isinstance(operand, Ref) else None
        return None if const is None else [int(v) for v in const.numpy().reshape(-1)]
