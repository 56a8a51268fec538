"""The node being emitted and those around it: an activation after it, a transpose before it."""

from __future__ import annotations

from typing import Any

from cir.graph import Node, TensorType
from framework_adapter.target import Scope


def operand(s: Scope, index: int) -> TensorType:
    """Type of an operand of the IR node being emitted."""
    name = s.node.inputs[index]
    assert name is not None
    return s.graph.types[name]


def result(s: Scope) -> TensorType:
    """Type of the first result of the IR node being emitted."""
    return s.graph.types[s.node.name]


def absorbed(s: Scope) -> tuple[str, Node | None]:
    """(activation, node) of the activation that alone reads the node being emitted.

    Kernels of convolutions, products and arithmetic have RELU and RELU6.
    """
    name = s.node.name
    users = s.graph.users.get(name, [])
    if len(users) == 1 and name not in s.graph.outputs and s.graph.types[name].dtype == "float32":
        (user,) = users
        if user.op == "relu":
            return "RELU", user
        if user.op == "clip" and (user.attrs["min"], user.attrs["max"]) == (0, 6):
            return "RELU6", user
    return "NO_ACTIVATION", None


def settle(s: Scope, value: Any, user: Node | None) -> Any:
    """The node's value, or when it took in its user, the user's value and none for itself."""
    if user is None:
        return str(value)
    s.bind(user.name, str(value))
    return []


def untransposed(s: Scope, index: int, value: str) -> tuple[str, bool]:
    """An operand of a matrix product before the exchange of its last two axes, and whether it had
    one.
    """
    name = s.node.inputs[index]
    node = s.graph.producers.get(str(name))
    if node is not None and node.op == "transpose":
        perm = node.attrs["perm"]
        n = len(perm)
        if tuple(perm) == (*range(n - 2), n - 1, n - 2):
            return s.cast(s.value(str(node.inputs[0])), s.dtype(value)), True
    return value, False
