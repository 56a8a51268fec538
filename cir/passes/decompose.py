"""Composite ops become their decompositions where a target has no such op."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cir import spec
from cir.graph import Graph, Node
from cir.passes.sweep import Sweep, map_regions
from cir.statement import instantiate


def decompose(graph: Graph, legal: Callable[[Node, Graph], bool]) -> Graph:
    """Expand composites that are not legal, repeatedly, until only legal or basic ops are left.

    Args:
        graph: any graph.
        legal: whether a target takes this node of this graph as it stands.
    """

    def visit(s: Sweep, node: Node) -> Sequence[str] | None:
        if node.regions:
            changed = map_regions(node, lambda r: decompose(r, legal))
            if changed is node:
                return None
            s.b.nodes.append(changed)
            return list(node.outputs)
        op = spec.get(node.op)
        if not op.decomposition or legal(node, graph):
            return None
        values = dict.fromkeys((p.name for p in op.inputs), None)
        values.update(zip((p.name for p in op.inputs), node.inputs))
        s.b.release(node.outputs)
        env = instantiate(op.decomposition, s.b, values, node.attrs, name=node.name, meta=node.meta)
        return [str(env[o]) for o in op.outputs]

    while True:
        swept = Sweep(graph).run(visit)
        if swept is graph:
            return graph
        graph = swept
