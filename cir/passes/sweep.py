"""One forward sweep over a graph: keep a node, replace it, or alias its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cir.builder import Builder
from cir.graph import Graph, Meta, Node

#: Returns None to keep the node, else the values that replace its outputs.
Visit = Callable[["Sweep", Node], Sequence[str] | None]


class Sweep:
    """State of a sweep: ``b`` builds the new graph; inputs of visited nodes are already renamed.

    ``parent`` is the builder of the graph around a region, whose names new nodes must not take.
    Nodes that are kept are the same objects, so later checks may skip them.
    """

    def __init__(self, graph: Graph, parent: Builder | None = None) -> None:
        self.graph = graph
        self.b = Builder.resume(graph, parent)
        self.env: dict[str, str] = {}
        self.changed = False
        self.made: dict[str, Node] = {}

    def emit(
        self,
        node: Node,
        op: str,
        inputs: Sequence[str | None],
        attrs: dict[str, Any] | None = None,
        *,
        final: bool = False,
        meta: Meta | None = None,
    ) -> str:
        """Emit one single-result node in place of ``node``; ``final`` takes over its name."""
        if final:
            self.b.release(node.outputs)
        name = node.name if final else f"{node.name}.{op}"
        return self.b.emit(op, inputs, attrs, name=name, meta=meta or node.meta)[0]

    def producer(self, name: str | None) -> Node | None:
        """The node of the new graph that computes a value."""
        self._index()
        return self.made.get(name) if name is not None else None

    def _index(self) -> None:
        # The builder only appends, so the index is extended, never rebuilt.
        start = self.__dict__.setdefault("_seen", 0)
        for node in self.b.nodes[start:]:
            for out in node.outputs:
                self.made[out] = node
        self.__dict__["_seen"] = len(self.b.nodes)

    def run(self, visit: Visit) -> Graph:
        """The swept graph, or the same object when nothing changed."""
        env = self.env
        for node in self.graph.nodes:
            if any(i in env for i in node.inputs):
                node = node.with_(
                    inputs=tuple(None if i is None else env.get(i, i) for i in node.inputs)
                )
            result = visit(self, node)
            if result is None:
                self.b.nodes.append(node)
                continue
            self.changed = True
            for old, new in zip(node.outputs, result):
                if old != new:
                    env[old] = new
        if not self.changed:
            return self.graph
        return prune(
            self.graph.with_(
                outputs=self._outputs(),
                nodes=tuple(self.b.nodes),
                types=self.b.types,
                consts=self.b.consts,
            )
        )

    def _outputs(self) -> tuple[str, ...]:
        """The graph's outputs, each still computed by a node of its own where it was before.

        An output that became an input, a constant or another output is an identity of it.
        """
        now = [self.env.get(o, o) for o in self.graph.outputs]
        for i, (old, new) in enumerate(zip(self.graph.outputs, now)):
            if old == new:
                continue
            others = (*now[:i], *(n for n, o in zip(now[i:], self.graph.outputs[i:]) if n == o))
            if new in others or new in self.b.consts or new in self.graph.inputs:
                self.b.release([old])
                now[i] = self.b.emit("identity", [new], name=old)[0]
        return tuple(now)


def prune(graph: Graph) -> Graph:
    """Drop types and constants that nothing mentions any more."""
    used: set[str] = set(graph.inputs) | set(graph.outputs)
    for node in graph.nodes:
        used.update(i for i in node.inputs if i is not None)
        used.update(node.outputs)
    return graph.with_(
        types={k: t for k, t in graph.types.items() if k in used},
        consts={k: c for k, c in graph.consts.items() if k in used},
    )


def map_regions(node: Node, fn: Callable[[Graph], Graph]) -> Node:
    """The node with each region transformed; the same object when none changed."""
    if not node.regions:
        return node
    regions = tuple(fn(r) for r in node.regions)
    if all(a is b for a, b in zip(regions, node.regions)):
        return node
    return node.with_(regions=regions)
