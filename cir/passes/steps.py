"""Recurrent layers in one spelling: zero states are absent, a reversed sequence is an attribute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cir import dim
from cir.graph import Node
from cir.passes.fills import is_zero
from cir.passes.sweep import Sweep

Result = Sequence[str] | None


def lstm(s: Sweep, node: Node) -> Result:
    """What an lstm need not be given."""
    return _from_zero(s, node) or _turned(s, node)


def _from_zero(s: Sweep, node: Node) -> Result:
    inputs = [None if i > 2 and is_zero(s, v) else v for i, v in enumerate(node.inputs)]
    if tuple(inputs) == node.inputs:
        return None
    while inputs[-1] is None:
        inputs.pop()
    s.b.nodes.append(node.with_(inputs=tuple(inputs)))
    return list(node.outputs)


def _turned(s: Sweep, node: Node) -> Result:
    """An lstm over a reversed sequence is a reversed lstm whose steps are in the other order."""
    x = _in_order(s, node)
    if x is None:
        return None
    attrs = {"reverse": not node.attrs["reverse"]}
    names = [f"{node.name}.turned", *node.outputs[1:]]
    s.b.release(node.outputs)
    y, *states = s.b.emit(
        "lstm", [x, *node.inputs[1:]], attrs, names=names, meta=node.meta
    )
    return [s.emit(node, "slice", [y], _reversed(s, y), final=True), *states]


def _in_order(s: Sweep, node: Node) -> str | None:
    """The sequence that an lstm's operand reverses, before a transpose or not; None without."""
    turn = s.producer(node.inputs[0])
    if turn is None or turn.op != "transpose":
        return turn.inputs[0] if turn is not None and _reverses(s, turn, -3) else None
    first, perm = s.producer(turn.inputs[0]), turn.attrs["perm"]
    if first is None or not _reverses(s, first, perm[0] - 3):
        return None
    return s.emit(node, "transpose", [first.inputs[0]], {"perm": perm})


def unreversed(s: Sweep, node: Node) -> Result:
    """Reversing twice changes nothing."""
    first = s.producer(node.inputs[0])
    if first is None or first.op != "slice" or first.attrs["axes"] != node.attrs["axes"]:
        return None
    (axis, *more) = node.attrs["axes"]
    both = not more and _reverses(s, first, axis) and _reverses(s, node, axis)
    return [str(first.inputs[0])] if both else None


def _reverses(s: Sweep, node: Node, axis: int) -> bool:
    if node.op != "slice" or node.attrs["axes"] != (axis,):
        return False
    size = s.b.types[str(node.inputs[0])].shape[axis]
    bounds = (node.attrs["starts"], node.attrs["ends"], node.attrs["steps"])
    return bounds == ((dim.sub(size, 1),), (-1,), (-1,))


def _reversed(s: Sweep, name: str) -> dict[str, Any]:
    last = dim.sub(s.b.types[name].shape[0], 1)
    return {"axes": (-3,), "starts": (last,), "ends": (-1,), "steps": (-1,)}
