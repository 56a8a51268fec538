"""Where an error starts: each value of a graph in float64 against the same value of another run.

Both sides are computed piece by piece, so memory is bounded by the piece and by what is alive
between two pieces, whatever the size of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from cir import dim as dims
from cir import interpret
from cir.diagnostics import CirError
from cir.graph import Graph, Node
from framework_adapter.validate.metrics import (
    PASS,
    TOLERANCE,
    json_number,
    judge,
    measure,
)

#: Bytes of float64 intermediates held at once.
PIECE_BYTES = 1 << 29

#: Values by name of the side under test; names it does not know are left out.
Actual = Callable[[Sequence[str]], Mapping[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class NodeError:
    """How far one node's results are from float64.

    Attributes:
        name: the node (its first output); ``op``: its op.
        scaled: scaled error of its results as computed (errors of earlier nodes included).
        isolated: scaled error that the node itself adds, given the operands it really had; None
            when an operand could not be read.
        floor: scaled error of the same value in the float32 reference.
        suspicious: True above the noise floor.
        module, place: where the source has it, "" when unknown.
        problem: why the values cannot be compared, "" when they can.
    """

    name: str
    op: str
    scaled: float
    isolated: float | None
    floor: float
    suspicious: bool
    module: str = ""
    place: str = ""
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        out: dict[str, Any] = {k: getattr(self, k) for k in self.__slots__}
        for key in ("scaled", "isolated", "floor"):
            if out[key] is not None:
                out[key] = json_number(out[key])
        return out


@dataclass(frozen=True, slots=True)
class Localization:
    """Errors by node, in topological order, and how much of the graph they cover."""

    nodes: tuple[NodeError, ...] = ()
    total: int = 0

    @property
    def first(self) -> NodeError | None:
        """The first node whose error rounding does not explain."""
        return next((n for n in self.nodes if n.suspicious), None)

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping."""
        return {
            "aligned": len(self.nodes),
            "total": self.total,
            "first_divergence": self.first.name if self.first else None,
            "nodes": [n.as_dict() for n in self.nodes],
        }


def localize(
    graph: Graph,
    feeds: Sequence[np.ndarray],
    actual: Actual,
    *,
    tolerance: float = TOLERANCE,
    piece_bytes: int = PIECE_BYTES,
) -> Localization:
    """Compare every value of a graph that both sides have.

    Args:
        graph: the reference graph, run in float64 (and in float32 for the noise floor).
        feeds: its inputs, in order.
        actual: the side under test.
        tolerance: scaled error that is never suspicious.
        piece_bytes: bound of the float64 intermediates held at once.

    Returns:
        Errors of the aligned nodes.
    """
    inputs = dict(zip(graph.inputs, feeds))
    exact = walk(graph, inputs, "float64", piece_bytes)
    rough = walk(graph, inputs, "float32", piece_bytes)
    found: list[NodeError] = []
    for (nodes, golden), (_, single) in zip(exact, rough):
        names = [o for n in nodes for o in n.outputs]
        operands = [i for n in nodes for i in n.inputs if i and i not in graph.consts]
        seen = {**inputs, **actual(list(dict.fromkeys((*operands, *names))))}
        for node in nodes:
            shared = [o for o in node.outputs if o in seen and o in golden]
            shared = [o for o in shared if seen[o].shape == golden[o].shape]
            if shared:
                found.append(_node_error(graph, node, shared, golden, single, seen, tolerance))
    return Localization(tuple(found), len(graph.nodes))


def walk(
    graph: Graph, feeds: Mapping[str, np.ndarray], compute: str, piece_bytes: int = PIECE_BYTES
) -> Iterator[tuple[tuple[Node, ...], dict[str, np.ndarray]]]:
    """Run a graph in pieces; yields each piece's nodes with all their values.

    The graph's inputs go to every piece, for they bind the symbols of its shapes.
    """
    env: dict[str, int] = {}
    for name in graph.inputs:
        interpret.bind_symbols(graph.types[name].shape, feeds[name].shape, env)
    last = {i: k for k, n in enumerate(graph.nodes) for i in n.inputs if i is not None}
    alive: dict[str, np.ndarray] = {}
    for start, end in _pieces(graph, env, piece_bytes):
        nodes = graph.nodes[start:end]
        needed = dict.fromkeys(i for n in nodes for i in n.inputs if i in alive)
        piece = graph.with_(inputs=(*graph.inputs, *needed), nodes=nodes, outputs=())
        names = [o for n in nodes for o in n.outputs]
        values = interpret.run(
            piece, {**feeds, **{n: alive[n] for n in needed}}, compute=compute, watch=names
        )
        alive = {k: v for k, v in {**alive, **values}.items() if last.get(k, -1) >= end}
        yield nodes, values


def _pieces(graph: Graph, env: Mapping[str, int], limit: int) -> Iterator[tuple[int, int]]:
    start, held = 0, 0
    for i, node in enumerate(graph.nodes):
        size = 8 * sum(_elements(graph, o, env) for o in node.outputs)
        if held and held + size > limit:
            yield start, i
            start, held = i, 0
        held += size
    if start < len(graph.nodes):
        yield start, len(graph.nodes)


def _elements(graph: Graph, name: str, env: Mapping[str, int]) -> int:
    shape = graph.types[name].shape
    known = [d for d in shape if isinstance(d, int) or not dims.symbols_of(d) - env.keys()]
    return prod(d if isinstance(d, int) else dims.evaluate(d, env) for d in known)


def _node_error(
    graph: Graph,
    node: Node,
    shared: Sequence[str],
    golden: Mapping[str, np.ndarray],
    single: Mapping[str, np.ndarray],
    seen: Mapping[str, np.ndarray],
    tolerance: float,
) -> NodeError:
    errors = [measure(seen[o], golden[o]) for o in shared]
    floors = [measure(single[o], golden[o]) for o in shared]
    verdicts = [judge(e, 0.0 if f.problem else f.scaled, tolerance) for e, f in zip(errors, floors)]
    worst = max(range(len(shared)), key=lambda i: errors[i].scaled)
    src = node.meta.src[0] if node.meta.src else None
    return NodeError(
        name=node.name,
        op=node.op,
        scaled=errors[worst].scaled,
        isolated=_isolated(graph, node, shared, seen),
        floor=floors[worst].scaled,
        suspicious=any(v.verdict != PASS for v in verdicts),
        module=src.module if src else "",
        place=src.place if src else "",
        problem=errors[worst].problem,
    )


def _isolated(
    graph: Graph, node: Node, shared: Sequence[str], seen: Mapping[str, np.ndarray]
) -> float | None:
    """Scaled error of a node's results against float64 arithmetic on the operands it really had."""
    operands = dict.fromkeys(i for i in node.inputs if i is not None and i not in graph.consts)
    if any(i not in seen for i in operands):
        return None
    alone = graph.with_(inputs=tuple(operands), nodes=(node,), outputs=())
    try:
        want = interpret.run(alone, {i: seen[i] for i in operands}, watch=shared)
    except CirError:  # a symbol that only an earlier value binds
        return None
    return max(measure(seen[o], want[o]).scaled for o in shared)
