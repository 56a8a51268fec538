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


def difference(a: Graph, b: Graph, names: tuple[str, str], limit: int = 60) -> str:
    """The first lines in which two graphs differ; '' when their listings are equal."""
    lines = difflib.unified_diff(listing(a), listing(b), *names, lineterm="", n=2)
    return "\n".join(list(lines)[:limit])


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
