"""A permutation of features next to a linear goes into its constant weight.

Flattening a channels-last map in front of a dense layer, and unfolding one behind it, reads the
features in another order than channels-first code does. Here the order is the base's in front of a
linear and the linear's own behind it, and no data is moved for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cir import dim, spec
from cir.graph import Node
from cir.passes.sweep import Sweep

Result = Sequence[str] | None


def permuted_input(s: Sweep, node: Node) -> Result:
    """``linear(reshape(transpose(x)), w)``: the merged axes in the order that x has them."""
    reshape = _made_by(s, node.inputs[0], "reshape")
    turn = None if reshape is None else _made_by(s, reshape.inputs[0], "transpose")
    if reshape is None or turn is None or node.inputs[1] not in s.b.consts:
        return None
    turned, flat = s.b.types[turn.name].shape, s.b.types[reshape.name].shape
    k = len(flat) - 1
    perm = turn.attrs["perm"]
    tail = perm[k:]
    order = [tail.index(a) for a in sorted(tail)]
    if turned[:k] != flat[:k] or _in_order(order, turned[k:]):
        return None
    moved = s.emit(node, "transpose", [turn.inputs[0]], {"perm": [*perm[:k], *sorted(tail)]})
    x = s.emit(node, "reshape", [moved], {"shape": flat})
    w = _reordered(s, node.inputs[1], turned[k:], order, axis=1)
    return [s.emit(node, "linear", [x, w, *node.inputs[2:]], final=True)]


def permuted_output(s: Sweep, node: Node) -> Result:
    """``transpose(reshape(linear(x, w, b)))``: the parts of the last axis in the order wanted.

    Ops on single elements may stand between the linear and the reshape.
    """
    reshape = _made_by(s, node.inputs[0], "reshape")
    if reshape is None or s.graph.use_count(reshape.name) != 1:
        return None
    between: list[Node] = []
    source = s.producer(reshape.inputs[0])
    while source is not None and len(source.inputs) == 1 and spec.get(source.op).is_elementwise:
        between.insert(0, source)
        source = s.producer(source.inputs[0])
    if source is None or source.op != "linear" or source.inputs[1] not in s.b.consts:
        return None
    if any(s.graph.use_count(n.name) != 1 for n in (source, *between)):
        return None
    perm, parts = node.attrs["perm"], s.b.types[reshape.name].shape
    before = s.b.types[source.name].shape
    k = len(before) - 1
    wanted = [a for a in perm if a >= k]
    order = [a - k for a in wanted]
    if parts[:k] != before[:k] or _in_order(order, parts[k:]):
        return None
    params = [p and _reordered(s, p, parts[k:], order, axis=0) for p in source.inputs[1:]]
    value = s.emit(node, "linear", [source.inputs[0], *params], meta=source.meta)
    for n in between:
        value = s.emit(node, n.op, [value], dict(n.attrs), meta=n.meta)
    shape = (*parts[:k], *(parts[a] for a in wanted))
    value = s.emit(node, "reshape", [value], {"shape": shape})
    turned = [a if a < k else k + wanted.index(a) for a in perm]
    return [s.emit(node, "transpose", [value], {"perm": turned}, final=True)]


def _made_by(s: Sweep, name: str | None, op: str) -> Node | None:
    producer = s.producer(name)
    return producer if producer is not None and producer.op == op else None


def _in_order(order: Sequence[int], parts: Sequence[dim.Dim]) -> bool:
    """Whether parts keep their order, those of size 1 aside; also when sizes are not known."""
    data = [i for i in order if parts[i] != 1]
    return data == sorted(data) or not all(isinstance(d, int) for d in parts)


def _reordered(
    s: Sweep, name: str | None, parts: Sequence[dim.Dim], order: Sequence[int], axis: int
) -> str:
    """A weight whose axis, taken apart into ``parts``, has them in another order."""
    shape = s.b.types[str(name)].shape
    lead, rest = shape[:axis], shape[axis + 1 :]
    n = len(parts)
    perm = [*range(axis), *(axis + i for i in order), *range(axis + n, axis + n + len(rest))]
    steps = (
        ("reshape", {"shape": [*lead, *parts, *rest]}),
        ("transpose", {"perm": perm}),
        ("reshape", {"shape": shape}),
    )
    value = str(name)
    for op, attrs in steps:
        value = s.b.emit(op, [value], attrs, name=f"{name}.order")[0]
    return value
