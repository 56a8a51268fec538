"""Values that are one number throughout: whatever is cut from them or turned is one as well."""

from __future__ import annotations

from collections.abc import Sequence

from cir.graph import Const, Node
from cir.passes.sweep import Sweep

Result = Sequence[str] | None


def filled(s: Sweep, node: Node) -> Result:
    """An op that only moves the elements of an expanded number."""
    number = fill(s, node.inputs[0])
    types = [s.b.types[o] for o in node.outputs]
    if number is None and not all(t.is_static for t in types):
        number = _uniform(s, node.inputs[0])  # with static results the op is evaluated anyway
    if number is None:
        return None
    s.b.release(node.outputs)
    return [
        s.b.emit("expand", [number], {"shape": t.shape}, name=out, meta=node.meta)[0]
        for t, out in zip(types, node.outputs)
    ]


def fill(s: Sweep, name: str | None) -> str | None:
    """The rank-0 constant that an expand repeats, None for any other value."""
    node = s.producer(name)
    if node is None or node.op != "expand":
        return None
    c = s.b.consts.get(str(node.inputs[0]))
    return node.inputs[0] if c is not None and not c.type.rank else _uniform(s, node.inputs[0])


def _uniform(s: Sweep, name: str | None) -> str | None:
    """The one number that a constant holds, as a rank-0 constant; None for another value."""
    c = s.b.consts.get(str(name))
    if c is None or not c.size or not c.type.rank:
        return None
    arr = c.numpy()
    first = arr.reshape(-1)[:1].reshape(())
    return s.b.const(Const.of(first, c.type.dtype)) if (arr == first).all() else None


def is_zero(s: Sweep, name: str | None) -> bool:
    """Whether a value is known to be zero throughout."""
    c = s.b.consts.get(str(fill(s, name) or name))
    return c is not None and not c.numpy().any()
