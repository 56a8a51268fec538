"""Operands of elementwise ops in one spelling: nothing that broadcasting does anyway."""

from __future__ import annotations

from collections.abc import Sequence

from cir import dim, spec
from cir.graph import Const, Node
from cir.passes.sweep import Sweep

Result = Sequence[str] | None


def lean_operands(s: Sweep, node: Node) -> Result:
    """Scalars of rank 0, the constant of a commutative op last, no broadcast spelled out."""
    sunk = _sink_expand(s, node)
    if sunk is not None:
        return sunk
    b = s.b
    inputs = list(node.inputs)
    out = b.types[node.name].shape
    for i, name in enumerate(inputs):
        if name is None:
            continue
        c = b.consts.get(name)
        if c is not None:
            if c.type.rank and c.is_scalar and _rank_without(s, inputs, i) == len(out):
                inputs[i] = b.const(Const.of(c.numpy().reshape(()), c.type.dtype))
            elif c.type.rank and c.type.shape[0] == 1 and _rank_without(s, inputs, i) == len(out):
                # Leading axes of size 1 are what broadcasting adds.
                shape = c.type.shape
                while shape and shape[0] == 1:
                    shape = shape[1:]
                arr = c.numpy().reshape([int(d) for d in shape])
                inputs[i] = b.const(Const.of(arr, c.type.dtype), name=f"{name}.s")
            continue
        inputs[i] = _broadcastable(s, node, inputs, i)
    if spec.get(node.op).commutative and inputs[0] in b.consts and inputs[1] not in b.consts:
        inputs.reverse()
    if tuple(inputs) == node.inputs:
        return None
    b.nodes.append(node.with_(inputs=tuple(inputs)))
    return list(node.outputs)


def _sink_expand(s: Sweep, node: Node) -> Result:
    """Compute on what is expanded and expand the result, where that is smaller."""
    producers = [s.producer(i) for i in node.inputs]
    if not any(p is not None and p.op == "expand" for p in producers):
        return None
    inputs = [
        p.inputs[0] if p is not None and p.op == "expand" else i
        for p, i in zip(producers, node.inputs)
    ]
    shape = s.b.types[node.name].shape
    if _broadcast(s, inputs) == shape:
        return None
    small = s.emit(node, node.op, inputs, dict(node.attrs))
    return [s.emit(node, "expand", [small], {"shape": shape}, final=True)]


def _broadcastable(s: Sweep, node: Node, inputs: Sequence[str | None], i: int) -> str | None:
    """Operand i without an expand, or a reshape of leading ones, that broadcasting does anyway.

    A reshape that does more has the rank of the result.
    """
    name = inputs[i]
    producer = s.producer(name)
    if producer is None or producer.op not in ("expand", "reshape"):
        return name
    source, out = producer.inputs[0], s.b.types[node.name].shape
    if producer.op == "expand" or adds_ones(s, name):
        others = [v for k, v in enumerate(inputs) if k != i]
        trial = [source, *others]
        holds = any(v not in s.b.consts and not adds_ones(s, v) for v in _of_rank(s, others, out))
        if producer.op == "reshape" and not holds:
            return name
        return source if _broadcast(s, trial) == out else name
    after = s.b.types[str(name)].shape
    if len(after) == len(out):
        return name
    shape = (1,) * (len(out) - len(after)) + after
    return s.b.emit("reshape", [source], {"shape": shape}, name=f"{name}.full", meta=node.meta)[0]


def _of_rank(s: Sweep, names: Sequence[str | None], shape: Sequence[dim.Dim]) -> list[str]:
    return [n for n in names if n is not None and s.b.types[n].rank == len(shape)]


def adds_ones(s: Sweep, name: str | None) -> bool:
    """Whether a value is a reshape that adds or drops leading ones and does nothing else."""
    producer = s.producer(name)
    if producer is None or producer.op != "reshape":
        return False
    before, after = s.b.types[str(producer.inputs[0])].shape, s.b.types[str(name)].shape
    return _stripped(before) == _stripped(after)


def _stripped(shape: tuple[dim.Dim, ...]) -> tuple[dim.Dim, ...]:
    """Without leading ones."""
    k = next((k for k, d in enumerate(shape) if d != 1), len(shape))
    return shape[k:]


def _rank_without(s: Sweep, inputs: Sequence[str | None], skip: int) -> int:
    ranks = [s.b.types[n].rank for i, n in enumerate(inputs) if i != skip and n is not None]
    return max(ranks, default=0)


def _broadcast(s: Sweep, names: Sequence[str | None]) -> tuple[dim.Dim, ...] | None:
    shapes = [s.b.types[n].shape for n in names if n is not None]
    rank = max(map(len, shapes))
    out: list[dim.Dim] = []
    for axis in range(-rank, 0):
        sizes = {sh[axis] for sh in shapes if len(sh) >= -axis} - {1}
        if len(sizes) > 1:
            return None
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)
