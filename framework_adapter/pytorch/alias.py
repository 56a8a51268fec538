"""In-place ops of a torch.export graph: which read as plain ops, which do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Return their operand itself in eval mode although their schema does not say so.
_HIDDEN_VIEWS = frozenset(("aten.dropout.default", "aten.feature_dropout.default",
                           "aten.alpha_dropout.default", "aten.type_as.default"))  # fmt: skip


def mutated(node: Any) -> list[Any]:
    """FX nodes that a call writes to."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not schema.is_mutable:
        return []
    return [
        x for x, a in _operands(node, schema) if a.alias_info is not None and a.alias_info.is_write
    ]


def needs_functionalising(graph: Any) -> bool:
    """Whether an in-place op writes memory that another value shows later.

    Values are grouped by memory: views and in-place results join their operands. Reading each
    in-place op as a plain op whose result replaces its operand is right unless some other member of
    the group that existed before the write is read after it.
    """
    nodes = list(graph.nodes)
    writes = [(n, x) for n in nodes for x in mutated(n)]
    if not writes:
        return False
    place = {n: i for i, n in enumerate(nodes)}
    parent: dict[Any, Any] = {}

    def root(n: Any) -> Any:
        while n in parent:
            n = parent[n]
        return n

    for n in nodes:
        for x in _sharing(n):
            if root(n) is not root(x):
                parent[root(n)] = root(x)
    for write, target in writes:
        replaced = set(_versions(target))
        for m in nodes[: place[write]]:
            if m in replaced or root(m) is not root(target):
                continue
            if any(place[u] > place[write] for u in m.users):
                return True
    return False


def _versions(target: Any) -> Iterator[Any]:
    """The value and what in-place ops made it from."""
    while True:
        yield target
        written = mutated(target)
        if not written:
            return
        target = written[0]


def _sharing(n: Any) -> list[Any]:
    """Operands whose memory the results of a call may share."""
    if n.op != "call_function":
        return []
    schema = getattr(n.target, "_schema", None)
    if schema is None:  # an element of a list of views
        return [a for a in n.args if hasattr(a, "users")]
    if str(n.target) in _HIDDEN_VIEWS:
        return [n.args[0]]
    if all(r.alias_info is None for r in schema.returns):
        return []
    return [x for x, a in _operands(n, schema) if a.alias_info is not None]


def _operands(node: Any, schema: Any) -> Iterator[tuple[Any, Any]]:
    """(FX node, schema argument) pairs of a call, those in lists included."""
    for i, a in enumerate(schema.arguments):
        x = node.args[i] if i < len(node.args) else node.kwargs.get(a.name)
        for one in x if isinstance(x, (list, tuple)) else (x,):
            if hasattr(one, "users"):
                yield one, a
