"""What kernels fuse is taken apart when a file is read."""

from __future__ import annotations

from cir.graph import Node
from framework_adapter.context import Context, Value


def maker(c: Context, x: str | None) -> Node | None:
    """The node that computes a value."""
    return next((n for n in reversed(c.b.nodes) if x in n.outputs), None)


def activate(c: Context, y: Value, activation: str) -> Value:
    """The activation that a kernel applies to its own result."""
    if activation == "RELU":
        return c.op("relu", y)
    if activation == "RELU6":
        return c.op("clip", y, min=0.0, max=6.0)
    if activation != "NO_ACTIVATION":
        raise c.refuse(f"the fused activation {activation}", "use RELU, RELU6 or a node of its own")
    return y
