"""The layout pass: image ops become their channels-last twins, for targets that want those."""

from __future__ import annotations

from collections.abc import Sequence

from cir.builder import Builder
from cir.graph import Graph, Node
from cir.ops.channels_last import TWINS, first, last
from cir.passes.sweep import Sweep, map_regions


def channels_last(graph: Graph, parent: Builder | None = None) -> Graph:
    """Put transposes around each image op and take its twin; regions included.

    The transposes between two such ops are each other's opposites: ``sink_views`` removes them, and
    moves the others past what does not care. ``parent``: builder of the graph around a region.
    """

    def visit(s: Sweep, node: Node) -> Sequence[str] | None:
        if node.regions:
            changed = map_regions(node, lambda r: channels_last(r, s.b))
            if changed is node:
                return None
            s.b.nodes.append(changed)
            return list(node.outputs)
        x = node.inputs[0] if node.inputs else None
        if node.op not in TWINS or x is None or s.b.types[x].rank < 3:
            return None
        order = range(s.b.types[x].rank)
        turned = s.emit(node, "transpose", [x], {"perm": last(order)})
        y = s.emit(node, TWINS[node.op], [turned, *node.inputs[1:]], dict(node.attrs))
        return [s.emit(node, "transpose", [y], {"perm": first(order)}, final=True)]

    return Sweep(graph, parent).run(visit)
