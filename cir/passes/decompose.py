"""Composite ops become their decompositions where a target has no such op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cir import spec
from cir.builder import Builder
from cir.graph import Graph, Meta, Node
from cir.passes.sweep import Sweep, map_regions
from cir.statement import instantiate


def decompose(
    graph: Graph, legal: Callable[[Node, Graph], bool], parent: Builder | None = None
) -> Graph:
    """Expand composites that are not legal, repeatedly, until only legal or basic ops are left.

    Args:
        graph: any graph.
        legal: whether a target takes this node of this graph as it stands.
        parent: builder of the graph around a region.
    """

    def visit(s: Sweep, node: Node) -> Sequence[str] | None:
        if node.regions:
            changed = map_regions(node, lambda r: decompose(r, legal, s.b))
            if changed is node:
                return None
            s.b.nodes.append(changed)
            return list(node.outputs)
        op = spec.get(node.op)
        if not op.is_composite or legal(node, graph.with_(types=s.b.types)):
            return None
        s.b.release(node.outputs)
        return expand(s.b, node.op, node.inputs, node.attrs, node.name, node.meta)

    while True:
        swept = Sweep(graph, parent).run(visit)
        if swept is graph:
            return graph
        graph = swept


def expand(
    b: Builder,
    name: str,
    inputs: Sequence[str | None],
    attrs: Mapping[str, Any],
    wanted: str | None = None,
    meta: Meta | None = None,
) -> list[str]:
    """Emit the decomposition of one application of a composite op.

    Args:
        b: builder that has the inputs.
        name: a composite op.
        inputs: values, None for absent ones.
        attrs: its canonical attributes.
        wanted: name to give to the result, and to derive the others from.
        meta: provenance (default: the builder's current one).

    Returns:
        The values that stand for the op's results.
    """
    op = spec.get(name)
    if op.expansion is not None:
        outer, b.meta = b.meta, meta or b.meta
        results = op.expansion(b, inputs, attrs, wanted or name)
        b.meta = outer
        return list(results)
    values = dict.fromkeys((p.name for p in op.inputs), None)
    values.update(zip((p.name for p in op.inputs), inputs))
    env = instantiate(op.decomposition, b, values, attrs, name=wanted, meta=meta)
    return [str(env[o]) for o in op.outputs]
