"""Graph inputs and outputs laid out channels-first, where the graph transposes them anyway."""

from __future__ import annotations

from cir import spec
from cir.graph import Graph, Node, TensorType
from cir.passes.basic import dce
from cir.views import Shape, View

_VIEWS = {"transpose": "perm", "reshape": "shape"}


def _to_first(rank: int) -> tuple[int, ...]:
    return (0, rank - 1, *range(1, rank - 1))


def _to_last(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank), 1)


def _moves(node: Node, shape: Shape, perm: tuple[int, ...]) -> bool:
    """Whether a node is the transpose by ``perm``; with axes of size 1 that may be a reshape."""
    if node.op not in _VIEWS:
        return False
    wanted = View.identity(shape).transpose(perm).spelling()
    return wanted == [(node.op, node.attrs[_VIEWS[node.op]])]


def channels_first_interface(graph: Graph) -> Graph:
    """Drop the transposes at the graph's edges.

    An input of rank 3 or more that is only ever read through one transpose to channels-first
    becomes a channels-first input; an output that a transpose to channels-last computes becomes
    its operand.
    """
    types = dict(graph.types)
    alias: dict[str, str] = {}
    for name in graph.inputs:
        t = types[name]
        users = graph.users.get(name, [])
        if t.rank < 3 or not users or name in graph.outputs:
            continue
        perm = _to_first(t.rank)
        if all(_moves(u, t.shape, perm) for u in users):
            types[name] = TensorType(t.dtype, tuple(t.shape[p] for p in perm))
            alias.update((u.name, name) for u in users)
    outputs = []
    for name in graph.outputs:
        node = graph.producers.get(name)
        rank = types[name].rank
        if node is not None and rank >= 3:
            source = types[str(node.inputs[0])].shape if node.op in _VIEWS else ()
            if len(source) == rank and _moves(node, source, _to_last(rank)):
                name = str(node.inputs[0])
        outputs.append(alias.get(name, name))
    if not alias and tuple(outputs) == graph.outputs:
        return graph
    nodes = tuple(
        n.with_(inputs=tuple(None if i is None else alias.get(i, i) for i in n.inputs))
        if any(i in alias for i in n.inputs)
        else n
        for n in graph.nodes
        if n.name not in alias
    )
    return dce(graph.with_(nodes=nodes, outputs=tuple(outputs), types=types))


def is_entry(graph: Graph, node: Node) -> bool:
    """Whether a node transposes a graph input to channels-first: there the network begins."""
    x = node.inputs[0] if node.inputs else None
    if x not in graph.inputs or graph.types[x].rank < 3:
        return False
    return _moves(node, graph.types[x].shape, _to_first(graph.types[x].rank))


def delayed_inputs(graph: Graph) -> list[str]:
    """Channels-last inputs that meet their transpose to channels-first only behind other ops."""
    return [i for i in graph.inputs if graph.types[i].rank >= 3 and _delayed(graph, i)]


def _delayed(graph: Graph, name: str) -> bool:
    """Whether a value meets a transpose to channels-first behind an op that lets it pass."""
    t = graph.types[name]
    perm = _to_first(t.rank)
    pending, seen = [name], {name}
    while pending:
        value = pending.pop()
        for user in graph.users.get(value, ()):
            if value != name and _moves(user, graph.types[value].shape, perm):
                return True
            s = spec.get(user.op)
            passes = s.layout == "axis" and user.attrs.get("keepdims", True)
            if not (passes or s.is_elementwise or s.layout.startswith("per_axis:")):
                continue
            for out in user.outputs:
                if graph.types[out].rank == t.rank and out not in seen:
                    seen.add(out)
                    pending.append(out)
    return False
