"""A canonical graph as text that does not depend on names, so that two graphs can be compared by eye."""

from __future__ import annotations

import difflib
import hashlib

from cir import spec
from cir.graph import Graph, Node
from cir.values import float32_text


def listing(graph: Graph) -> list[str]:
    """One line per node, operands before users; values are numbered in that order."""
    hashes = _hashes(graph)
    numbers = {name: f"%in{i}" for i, name in enumerate(graph.inputs)}
    lines = [f"{numbers[n]}: {graph.types[n]}" for n in graph.inputs]
    done: set[str] = set()

    def visit(name: str) -> None:
        node = graph.producers.get(name)
        if node is None or node.name in done:
            return
        done.add(node.name)
        operands = _ordered(node, hashes)
        for operand in operands:
            visit(operand)
        first = len(numbers)
        for k, out in enumerate(node.outputs):
            numbers[out] = f"%{first + k}"
        shown = ", ".join(numbers.get(o) or _const(graph, o) for o in operands)
        attrs = "".join(f", {k}={_attr(v)}" for k, v in sorted(node.attrs.items()))
        results = ", ".join(numbers[o] for o in node.outputs)
        lines.append(f"{results} = {node.op}({shown}{attrs}) : {graph.types[node.name]}")
        for region in node.regions:
            lines.extend(f"    {line}" for line in listing(region))

    for output in graph.outputs:
        visit(output)
    shown = ", ".join(numbers.get(o) or _const(graph, o) for o in graph.outputs)
    return [*lines, f"return {shown}"]


def difference(a: Graph, b: Graph, names: tuple[str, str], limit: int = 40) -> str:
    """Where two graphs part: the nodes of each that the other lacks although it has their operands.

    Then the first lines in which their listings differ; '' when the listings are equal.
    """
    lines = list(difflib.unified_diff(listing(a), listing(b), *names, lineterm="", n=2))
    if not lines:
        return ""
    return "\n".join([*_frontier(a, b, names[0]), *_frontier(b, a, names[1]), *lines[:limit]])


def _frontier(graph: Graph, other: Graph, name: str) -> list[str]:
    """Nodes whose operands both graphs compute and whose result only ``graph`` does."""
    mine, theirs = _hashes(graph), set(_hashes(other).values())
    found = []
    for node in graph.nodes:
        new = mine[node.name] not in theirs
        if new and all(mine[i or ""] in theirs for i in node.inputs):
            operands = ", ".join(_origin(graph, i) for i in node.inputs)
            attrs = "".join(f", {k}={_attr(v)}" for k, v in sorted(node.attrs.items()))
            found.append(f"{name} only: {node.op}({operands}{attrs}) : {graph.types[node.name]}")
    return found[:12]


def _origin(graph: Graph, name: str | None) -> str:
    if name is None:
        return "none"
    if name in graph.consts:
        return _const(graph, name)
    producer = graph.producers.get(name)
    return f"<{producer.op if producer else 'input'} {graph.types[name]}>"


def _attr(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_attr, value)) + "]"
    return float32_text(value) if isinstance(value, float) else str(value)


def _const(graph: Graph, name: str) -> str:
    if not name:
        return "none"
    c = graph.consts[name]
    if c.type.rank:
        return f"const {c.type}"
    value = c.numpy().reshape(()).item()
    return f"{_attr(value)}:{c.type.dtype}"


def _ordered(node: Node, hashes: dict[str, str]) -> list[str]:
    operands = [i or "" for i in node.inputs]
    return sorted(operands, key=lambda n: hashes[n]) if spec.get(node.op).commutative else operands


def _hashes(graph: Graph) -> dict[str, str]:
    out = {name: f"in{i}" for i, name in enumerate(graph.inputs)} | {"": "none"}
    out.update((name, _const(graph, name)) for name in graph.consts)
    for node in graph.nodes:
        attrs = [f"{k}={_attr(v)}" for k, v in sorted(node.attrs.items())]
        text = "|".join([node.op, *attrs, *(out[o] for o in _ordered(node, out))])
        for k, name in enumerate(node.outputs):
            out[name] = f"{hashlib.sha256(text.encode()).hexdigest()}.{k}"
    return out
