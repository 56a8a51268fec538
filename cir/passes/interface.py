"""Graph inputs and outputs laid out channels-first, where the graph only transposes them anyway."""

from __future__ import annotations

from cir.graph import Graph, TensorType
from cir.passes.basic import dce


def _to_first(rank: int) -> tuple[int, ...]:
    return (0, rank - 1, *range(1, rank - 1))


def _to_last(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank), 1)


def channels_first_interface(graph: Graph) -> Graph:
    """Drop the transposes at the graph's edges.

    An input of rank 3 or more that is only ever read through one transpose to channels-first becomes
    a channels-first input; an output that a transpose to channels-last computes becomes its operand.
    """
    types = dict(graph.types)
    alias: dict[str, str] = {}
    for name in graph.inputs:
        t = types[name]
        users = graph.users.get(name, [])
        if t.rank < 3 or not users or name in graph.outputs:
            continue
        perm = _to_first(t.rank)
        if all(u.op == "transpose" and u.attrs["perm"] == perm for u in users):
            types[name] = TensorType(t.dtype, tuple(t.shape[p] for p in perm))
            alias.update((u.name, name) for u in users)
    outputs = []
    for name in graph.outputs:
        node = graph.producers.get(name)
        if node is not None and node.op == "transpose":
            rank = types[name].rank
            if rank >= 3 and node.attrs["perm"] == _to_last(rank):
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
