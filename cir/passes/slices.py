"""Slices that together cut one axis into consecutive pieces are one split."""

from __future__ import annotations

from cir.builder import Builder
from cir.dim import Dim
from cir.graph import Graph, Node
from cir.passes.sweep import Sweep, map_regions


def slices_to_split(graph: Graph, parent: Builder | None = None) -> Graph:
    """chunk, split and strided slicing all spell ``split``; regions included.

    ``parent`` is the builder of the graph around a region.
    """
    groups: dict[tuple[str, int], list[Node]] = {}
    for node in graph.nodes:
        if node.op == "slice" and node.attrs["steps"] == (1,):
            assert node.inputs[0] is not None
            axis = node.attrs["axes"][0]
            groups.setdefault((node.inputs[0], int(axis)), []).append(node)
    replaced: dict[str, tuple[str, int, list[Node]]] = {}
    for (x, axis), nodes in groups.items():
        ordered = _cover(nodes, graph.types[x].shape[axis])
        if ordered:
            for node in nodes:
                replaced[node.name] = (x, axis, ordered)
    if not replaced and not any(n.regions for n in graph.nodes):
        return graph
    done: dict[tuple[str, int], dict[str, str]] = {}

    def visit(s: Sweep, node: Node) -> list[str] | None:
        if node.regions:
            changed = map_regions(node, lambda r: slices_to_split(r, s.b))
            if changed is node:
                return None
            s.b.nodes.append(changed)
            return list(node.outputs)
        if node.name not in replaced:
            return None
        x, axis, ordered = replaced[node.name]
        if (x, axis) not in done:
            names = [n.name for n in ordered]
            s.b.release(names)
            sizes = tuple(s.b.types[n].shape[axis] for n in names)
            meta = ordered[0].meta
            for other in ordered[1:]:
                meta = meta.merge(other.meta)
            attrs = {"axis": axis, "sizes": sizes}
            outs = s.b.emit("split", [node.inputs[0]], attrs, names=names, meta=meta)
            done[(x, axis)] = dict(zip(names, outs))
        return [done[(x, axis)][node.name]]

    return Sweep(graph, parent).run(visit)


def _cover(nodes: list[Node], size: Dim) -> list[Node] | None:
    """The slices in order when they tile [0, size) without gap or overlap and are at least two."""
    by_start = {n.attrs["starts"][0]: n for n in nodes}
    if len(by_start) != len(nodes) or len(nodes) < 2:
        return None
    out: list[Node] = []
    at: object = 0
    while at != size:
        node = by_start.pop(at, None)
        if node is None:
            return None
        out.append(node)
        at = node.attrs["ends"][0]
    return out if not by_start else None
