"""A graph under rewriting: def-use maps that change in place, frozen into a Graph at the end.

Nodes stand in slots, one for each node of the original graph; what replaces a node stands in its
slot, so the order stays topological without sorting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cir.builder import Builder
from cir.graph import Const, Graph, Node, TensorType
from cir.statement import Statement


class Work:
    """Mutable twin of a graph. ``builder`` holds its types, constants and names."""

    def __init__(self, graph: Graph, names: Builder | None = None) -> None:
        self.graph = graph
        self.builder = _resume(graph, names)
        self.types: dict[str, TensorType] = self.builder.types
        self.consts: dict[str, Const] = self.builder.consts
        self.outputs = list(graph.outputs)
        self.is_output = frozenset(graph.outputs)
        self.producers: dict[str, Node] = {}
        self.users: dict[str, dict[str, Node]] = {}
        self.slot: dict[str, int] = {}
        self.slots: list[list[Node]] = []
        self.unsorted = False
        self.resolved: dict[Any, list[Statement]] = {}  # replacement lines, by absent names
        self._folding: set[str] = set()  # results that folding will make constants
        live = _live(graph)  # a dead reader must not keep a value from being interior
        for i, node in enumerate(graph.nodes):
            self.slots.append([])
            if live[i]:
                self.add(node, i)

    # -- queries -----------------------------------------------------------------------------------
    def alive(self, name: str) -> bool:
        """Whether a node of this name is in the graph."""
        return name in self.slot

    def nodes(self) -> Iterator[Node]:
        """All nodes, in slot order."""
        for slot in self.slots:
            yield from slot

    def reads(self, value: str) -> int:
        """Reads of a value, graph outputs included."""
        users = self.users.get(value, {})
        return sum(n.inputs.count(value) for n in users.values()) + self.outputs.count(value)

    def is_const(self, value: str) -> bool:
        """Whether a value is computed from constants alone, however far from being folded."""
        return value in self._folding or value in self.consts

    # -- changes -----------------------------------------------------------------------------------
    def add(self, node: Node, slot: int, at: int | None = None) -> None:
        """Put a node into a slot: at a place in it, or at its end."""
        self.slots[slot].insert(len(self.slots[slot]) if at is None else at, node)
        self.slot[node.name] = slot
        for out in node.outputs:
            self.producers[out] = node
        for i in node.inputs:
            if i is not None:
                self.users.setdefault(i, {})[node.name] = node
        if (
            node.inputs
            and not node.regions
            and all(i is None or self.is_const(i) for i in node.inputs)
        ):
            self._folding.update(node.outputs)

    def remove(self, node: Node) -> None:
        """Take a node out; its results must have no users left, or get a new producer."""
        slot = self.slots[self.slot.pop(node.name)]
        slot[:] = [n for n in slot if n is not node]
        for out in node.outputs:
            self.producers.pop(out, None)
        for i in node.inputs:
            if i is not None:
                self.users[i].pop(node.name, None)

    def prune(self, values: Iterable[str | None]) -> None:
        """Remove the producers of values that nothing reads, and what only they read."""
        pending = [v for v in values if v is not None]
        while pending:
            node = self.producers.get(pending.pop())
            if node is None or any(self.users.get(o) or o in self.is_output for o in node.outputs):
                continue
            self.remove(node)
            pending.extend(i for i in node.inputs if i is not None)

    def alias(self, old: str, new: str) -> None:
        """Let every reader of ``old`` read ``new``; a graph output keeps its name."""
        for user in list(self.users.get(old, {}).values()):
            inputs = tuple(new if i == old else i for i in user.inputs)
            self.swap(user, user.with_(inputs=inputs))
        if old not in self.is_output:
            return
        node = self.producers.get(new)
        if node is None or new in self.is_output:
            self.builder.emit("identity", [new], name=old)
            made = self.builder.nodes.pop().with_(outputs=(old,))
            self.types[old] = self.types[new]
            # In a slot of its own at the end: nothing reads an output's alias.
            self.slots.append([])
            meta = node.meta if node is not None else made.meta
            self.add(made.with_(meta=meta), len(self.slots) - 1)
        else:
            self.rename(new, old)

    def rename(self, old: str, new: str) -> None:
        """Give a computed value another name."""
        node = self.producers[old]
        self.types[new] = self.types[old]
        users = list(self.users.get(old, {}).values())
        self.swap(node, node.with_(outputs=tuple(new if o == old else o for o in node.outputs)))
        for user in users:
            self.swap(user, user.with_(inputs=tuple(new if i == old else i for i in user.inputs)))

    def swap(self, old: Node, new: Node) -> None:
        """Put a node in the place of another that computes the same."""
        index = self.slot[old.name]
        at = next(i for i, n in enumerate(self.slots[index]) if n is old)
        self.remove(old)
        self.add(new, index, at)

    # -- the result --------------------------------------------------------------------------------
    def freeze(self) -> Graph:
        """The graph as it now stands, without types and constants that nothing mentions."""
        nodes = _sorted(list(self.nodes())) if self.unsorted else list(self.nodes())
        used = {*self.graph.inputs, *self.outputs}
        for node in nodes:
            used.update(node.outputs)
            used.update(i for i in node.inputs if i is not None)
        return self.graph.with_(
            outputs=tuple(self.outputs),
            nodes=tuple(nodes),
            types={k: t for k, t in self.types.items() if k in used},
            consts={k: c for k, c in self.consts.items() if k in used},
        )


def _live(graph: Graph) -> list[bool]:
    """For each node, whether a graph output depends on it."""
    wanted = set(graph.outputs)
    out = [False] * len(graph.nodes)
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        if not wanted.isdisjoint(node.outputs):
            out[i] = True
            wanted.update(k for k in node.inputs if k is not None)
    return out


def _resume(graph: Graph, parent: Builder | None) -> Builder:
    """A builder holding the graph's values; names of its regions, or of its parent, are taken."""
    if parent is None:
        b = Builder.resume(graph)
        for node in graph.nodes:
            for region in node.regions:
                for inner in _all_regions(region):
                    for name in inner.types:
                        b._names.setdefault(name, 0)
        return b
    b = parent.region(graph.name)
    b.inputs, b.types, b.consts = list(graph.inputs), dict(graph.types), dict(graph.consts)
    return b


def _all_regions(graph: Graph) -> Iterator[Graph]:
    yield graph
    for node in graph.nodes:
        for region in node.regions:
            yield from _all_regions(region)


def _sorted(nodes: Sequence[Node]) -> list[Node]:
    """Topological order, as close to the given one as possible."""
    producers = {o: n for n in nodes for o in n.outputs}
    done: set[str] = set()
    out: list[Node] = []
    for start in nodes:
        stack = [start]
        while stack:
            node = stack[-1]
            if node.name in done:
                stack.pop()
                continue
            waiting = [
                producers[i]
                for i in node.inputs
                if i in producers and producers[i].name not in done
            ]
            if waiting:
                stack.extend(reversed(waiting))
            else:
                done.add(node.name)
                out.append(node)
                stack.pop()
    return out
