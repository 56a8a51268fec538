"""Rewriting a graph with strategies to a fixpoint: one worklist over an index of root ops.

Consumers come before producers, so the largest pattern over a piece of graph is tried first. A
replacement takes over the name and the slot of the value it replaces: no consumer is touched, no
sort is needed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cir.builder import Builder
from cir.diagnostics import error
from cir.graph import Graph, Node
from fusion_db.matcher import BUDGET, Binding, Match
from fusion_db.pattern import CONST, INPUT, Head
from fusion_db.replace import build, discard, renamed
from fusion_db.strategy import Strategy
from fusion_db.work import Work

#: Rewrites of one value after which the rewriting is taken to be a loop.
LOOP = 64
#: Strategies with this tag tidy up what nothing else takes: they run when nothing else fires.
LAST = "algebra"
#: A rewrite may enable matches this many consumers further down; the next sweep finds the rest.
_RADIUS = 2

#: Called after each rewrite with (strategy id, replaced value, binding).
Trace = Callable[[str, str, Binding], None]


@dataclass
class _Index:
    """Strategies by what their root looks like; larger patterns first."""

    strategies: Sequence[Strategy]
    by_op: dict[str, list[tuple[Strategy, Head]]] = field(default_factory=dict)
    cache: dict[tuple[str, ...], tuple[Strategy, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for s in sorted(self.strategies, key=lambda s: (-s.size, s.id)):
            for head in s.pattern.heads(s.pattern.outputs[0]):
                self.by_op.setdefault(head.spec.name, []).append((s, head))

    def candidates(self, work: Work, node: Node) -> tuple[Strategy, ...]:
        """Strategies whose root fits the node's op and those of its operands' producers."""
        entries = self.by_op.get(node.op)
        if not entries:
            return ()
        key = (node.op, *(_producer(work, i) for i in node.inputs))
        found = self.cache.get(key)
        if found is None:
            fitting = {s.id: s for s, head in entries if head.admits(key[1:])}
            found = self.cache[key] = tuple(fitting.values())
        return found


def _producer(work: Work, value: str | None) -> str:
    node = work.producers.get(value) if value is not None else None
    if node is not None:
        return node.op
    return CONST if value in work.consts else INPUT


def apply(
    graph: Graph,
    strategies: Iterable[Strategy],
    *,
    budget: int = BUDGET,
    trace: Trace | None = None,
) -> tuple[Graph, dict[str, int]]:
    """Apply strategies until none fires; regions included.

    Args:
        graph: any verified graph.
        strategies: usually those of one stage (``strategy.select``).
        budget: matching steps for one strategy at one node.
        trace: called after each rewrite.

    Returns:
        The rewritten graph (the same object when nothing fired), and how often each strategy fired.

    Raises:
        CirError: E403 when two strategies keep undoing each other.
    """
    chosen = tuple(strategies)
    tiers = ([s for s in chosen if (LAST in s.tags) is last] for last in (False, True))
    run = _Run([_Index(tier) for tier in tiers if tier], budget, trace)
    out = run.graph(graph, None)
    return out, dict(sorted(run.fired.items()))


class _Run:
    """One call of ``apply``; strategies of a later index run when those before find nothing."""

    def __init__(self, indices: Sequence[_Index], budget: int, trace: Trace | None) -> None:
        self.indices, self.budget, self.trace = indices, budget, trace
        self.fired: dict[str, int] = {}

    def graph(self, graph: Graph, names: Builder | None) -> Graph:
        """One graph and its regions."""
        if not self.indices:
            return graph
        work = Work(graph, names)
        before = sum(self.fired.values())
        for node in graph.nodes:
            if node.regions and work.alive(node.name):
                regions = tuple(self.graph(r, work.builder) for r in node.regions)
                if any(a is not b for a, b in zip(regions, node.regions)):
                    work.swap(node, node.with_(regions=regions))
        guard = _Guard(8 * len(work.slots) + 1000)
        k = 0
        while k < len(self.indices):
            k = 0 if self._sweep(work, self.indices[k], guard) else k + 1
        return work.freeze() if sum(self.fired.values()) != before else graph

    def _sweep(self, work: Work, index: _Index, guard: _Guard) -> bool:
        """Visit every node, and again those that a rewrite may concern; whether anything fired."""
        heap = [(-work.slot[n.name], k, n.name) for k, n in enumerate(_backwards(work))]
        heapq.heapify(heap)
        queued = {name for _, _, name in heap}
        serial = len(heap)
        fired = False
        while heap:
            _, _, name = heapq.heappop(heap)
            queued.discard(name)
            if not work.alive(name):
                continue
            readers = list(work.users.get(name, ()))
            strategy = self._visit(work, index, work.producers[name])
            if strategy is None:
                continue
            fired = True
            guard.count(name, strategy.id)
            for again in _neighbourhood(work, name, readers):
                if again not in queued:
                    queued.add(again)
                    serial += 1
                    heapq.heappush(heap, (-work.slot[again], serial, again))
        return fired

    def _visit(self, work: Work, index: _Index, node: Node) -> Strategy | None:
        """Fire the first strategy that fits at a node."""
        for strategy in index.candidates(work, node):
            if strategy.grows and strategy.id in node.meta.by:
                continue
            for binding in Match(strategy, work, budget=self.budget).run(node.outputs[0]):
                if _replace(strategy, work, binding) is None:
                    self.fired[strategy.id] = self.fired.get(strategy.id, 0) + 1
                    if self.trace is not None:
                        self.trace(strategy.id, node.name, binding)
                    return strategy
        return None


def _backwards(work: Work) -> list[Node]:
    return [n for slot in reversed(work.slots) for n in reversed(slot)]


def _neighbourhood(work: Work, name: str, readers: Sequence[str]) -> list[str]:
    """Nodes where a rewrite of ``name`` may have enabled a match: new and downstream ones."""
    found: dict[str, None] = {}
    if work.alive(name):
        found.update((n.name, None) for n in work.slots[work.slot[name]])
    level = [r for r in readers if work.alive(r)]
    for _ in range(_RADIUS):
        found.update(dict.fromkeys(level))
        outs = [o for r in level for o in work.producers[r].outputs]
        level = [u for o in outs for u in work.users.get(o, ())]
    return list(found)


def _replace(strategy: Strategy, work: Work, binding: Binding) -> str | None:
    """Put the replacement in; None when done, else the reason why it does not fit."""
    slots = [work.slot[work.producers[r].name] for r in binding.roots]
    first = min(slots)
    if len(slots) > 1:
        late = _depends_on_roots(work, binding, first)
        if late:
            return late
    start = len(work.builder.nodes)
    made = build(strategy, work, binding)
    if isinstance(made, str):
        return made
    nodes = list(work.builder.nodes[start:])
    new_values = {o for n in nodes for o in n.outputs}
    names: dict[str, str] = {}
    aliases: list[tuple[str, str]] = []
    for root, value in made.items():
        if value in new_values and value not in names:
            names[value] = root
        else:
            aliases.append((root, value))
    if any(value in made for _, value in aliases):
        discard(work.builder, start)
        return "the replacement is one of the replaced values"
    del work.builder.nodes[start:]
    replaced = list({work.producers[r].name: work.producers[r] for r in binding.roots}.values())
    # Where the earliest of them stands in its slot: what reads it there must stay behind it.
    at = next(i for i, n in enumerate(work.slots[first]) if any(n is r for r in replaced))
    for node in replaced:
        work.remove(node)
    for i, node in enumerate(renamed(nodes, names)):
        work.add(node, first, at + i)
    for old, new in aliases:
        work.alias(old, names.get(new, new))
    work.prune(i for node in replaced for i in node.inputs)
    return None


def _depends_on_roots(work: Work, binding: Binding, first: int) -> str:
    """Why one replacement cannot compute several values: an operand depends on one of them."""
    roots = set(binding.roots)
    interior = {o for n in binding.nodes for o in n.outputs} - roots
    operands = {i for n in binding.nodes for i in n.inputs if i is not None} - interior
    pending = sorted(operands)
    seen = set(pending)
    while pending:
        value = pending.pop()
        if value in roots:
            return "an operand depends on a replaced value: the rewrite would make a cycle"
        node = work.producers.get(value)
        if node is None or work.slot[node.name] < first:
            continue
        work.unsorted = True  # an operand is computed after the first root: sort at the end
        fresh = [i for i in node.inputs if i is not None and i not in seen]
        seen.update(fresh)
        pending.extend(fresh)
    return ""


class _Guard:
    """Counts rewrites, to tell a loop from progress."""

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.log: dict[str, list[str]] = {}

    def count(self, value: str, strategy: str) -> None:
        """Note a rewrite of a value. Raises CirError E403 when there are too many."""
        self.left -= 1
        log = self.log.setdefault(value, [])
        log.append(strategy)
        if len(log) <= LOOP and self.left >= 0:
            return
        ids = list(dict.fromkeys(reversed(log)))[:2]
        what = "keep undoing each other" if len(ids) == 2 else "keeps rewriting its own result"
        raise error(
            "E403",
            f"{' and '.join(map(repr, ids))} {what}: rewriting does not end",
            where=value,
            why=f"{len(log)} rewrites of this value, the last by {', '.join(log[-4:])}",
            fix=f"disable one of them: disable=[{ids[0]!r}]",
        )


def explain(graph: Graph, strategy: Strategy, node: str, *, budget: int = BUDGET) -> str:
    """Why a strategy does not fire with its result at value ``node``: the nearest miss.

    Returns:
        One line: "matches", or the reason of the attempt that got furthest.
    """
    work = Work(graph)
    if node not in work.producers:
        return f"{node} is not computed in this graph"
    match = Match(strategy, work, budget=budget, log=True)
    for binding in match.run(node):
        made = build(strategy, work, binding)
        if isinstance(made, dict):
            return "matches"
        match.nearest = (len(binding.nodes) + 1, made)
    depth, why = match.nearest
    return (
        f"{max(depth, 0)} nodes match, then: {why}" if why else "no alternative fits the node's op"
    )
