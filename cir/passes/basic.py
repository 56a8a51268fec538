"""The textbook passes: dead code, common subexpressions, constant folding."""

from __future__ import annotations

from typing import Any

import numpy as np

from cir import dtype as dt
from cir import spec
from cir.graph import Const, Graph, Node
from cir.passes.sweep import Sweep, map_regions, prune

#: A folded result above this many bytes must not be larger than what it is computed from.
_FOLD_GROWTH_LIMIT = 1 << 16
#: Ops that fold never evaluates: their results are not functions of constant operands alone, or
#: stand for an output.
_NO_FOLD = frozenset(("cond", "while_loop", "identity"))


def dce(graph: Graph) -> Graph:
    """Remove nodes none of whose results is used, and constants nobody reads."""
    live: set[str] = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(o in live for o in node.outputs):
            kept.append(map_regions(node, dce))
            live.update(i for i in node.inputs if i is not None)
    if len(kept) == len(graph.nodes) and all(a is b for a, b in zip(reversed(kept), graph.nodes)):
        if all(c in live for c in graph.consts):
            return graph
    return prune(graph.with_(nodes=tuple(reversed(kept))))


def _attr_key(attrs: Any) -> tuple[Any, ...]:
    # bool is an int and 1 == 1.0 in Python: the type keeps them apart.
    return tuple((k, type(v).__name__, v) for k, v in sorted(attrs.items()))


def cse(graph: Graph) -> Graph:
    """Merge equal computations and equal constants (content decides, then the first name stays)."""
    merged: dict[str, str] = {}
    by_content: dict[tuple[str, str], str] = {}
    by_type: dict[tuple[str, tuple[Any, ...]], list[str]] = {}
    for name, c in graph.consts.items():
        by_type.setdefault((c.type.dtype, c.type.shape), []).append(name)
    for names in by_type.values():
        if len(names) == 1:
            continue  # hashing is for constants that could be equal
        for name in names:
            key = (str(graph.consts[name].type), graph.consts[name].digest)
            first = by_content.setdefault(key, name)
            if first != name:
                merged[name] = first
    sweep = Sweep(graph)
    sweep.env = merged
    sweep.changed = bool(merged)
    seen: dict[Any, Node] = {}

    def visit(s: Sweep, node: Node) -> Any:
        if node.regions or node.op == "identity":
            return None
        key = (node.op, node.inputs, _attr_key(node.attrs))
        first = seen.setdefault(key, node)
        return None if first is node else first.outputs

    return sweep.run(visit)


def fold(graph: Graph) -> Graph:
    """Evaluate nodes whose operands are all constant.

    Floating chains are computed in float64 from the stored weights and rounded once, so folding a
    batch norm into a convolution costs one rounding.
    """
    wide: dict[str, np.ndarray] = {}

    def visit(s: Sweep, node: Node) -> Any:
        if node.op in _NO_FOLD or not node.inputs:
            return None
        consts = s.b.consts
        if any(i is not None and i not in consts for i in node.inputs):
            return None
        given = [consts[i] for i in node.inputs if i is not None]
        out_types = [s.b.types[o] for o in node.outputs]
        if not all(t.is_static for t in out_types):
            return None
        size = sum(Const(t).size * dt.bits(t.dtype) // 8 for t in out_types)
        source = sum(c.size * dt.bits(c.type.dtype) // 8 for c in given)
        if size > _FOLD_GROWTH_LIMIT and size > source:
            return None
        args = [None if i is None else _wide(i, consts[i], wide) for i in node.inputs]
        with np.errstate(all="ignore"):
            result = spec.get(node.op).reference(*args, **node.attrs)
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        s.b.release(node.outputs)
        names = []
        for out, t, value in zip(node.outputs, out_types, results):
            value = np.asarray(value)
            wanted = f"{out}.value" if out in graph.outputs else out  # the output keeps its name
            name = s.b.const(Const.of(value, t.dtype), name=wanted)
            if dt.is_float(t.dtype) and value.dtype == np.float64:
                wide[name] = value
            names.append(name)
        return names

    return Sweep(graph).run(visit)


def _wide(name: str, c: Const, wide: dict[str, np.ndarray]) -> np.ndarray:
    if name in wide:
        return wide[name]
    arr = c.numpy()
    return arr.astype(np.float64) if dt.is_float(c.type.dtype) else arr
