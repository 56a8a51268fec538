"""How much arithmetic a graph does: decides how precise a reference one can afford."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from cir import dim as dims
from cir.graph import Graph, Node, TensorType


def estimate(graph: Graph, env: Mapping[str, int] | None = None) -> float:
    """Floating-point operations of one run; a multiply-add counts as two.

    Products of matrices and convolutions are counted from their shapes, every other op as one
    operation for each element of its results. Loop bodies count once: how often they run is data.

    Args:
        graph: the graph.
        env: sizes of symbols; a dim with an unknown symbol counts as 1.
    """
    sizes = env or {}
    return float(sum(_node(g, n, sizes) for g, n in graph.walk()))


def _node(g: Graph, node: Node, env: Mapping[str, int]) -> int:
    ins = [_shape(g.types.get(i), env) if i is not None else () for i in node.inputs]
    out = [_shape(g.types[o], env) for o in node.outputs]
    match node.op:
        case "conv":
            return 2 * prod(out[0]) * prod(ins[1][1:])
        case "conv_transpose":
            return 2 * prod(ins[0]) * prod(ins[1][1:])
        case "matmul" | "linear":
            return 2 * prod(out[0]) * ins[0][-1]
        case "scaled_dot_product_attention":
            q, k, v = ins[:3]
            scores = prod(q[:-1]) * k[-2]
            return 2 * scores * (q[-1] + v[-1])
        case "reshape" | "transpose" | "identity" | "shape" | "expand":
            return 0
    return sum(prod(s) for s in out)


def _shape(t: TensorType | None, env: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(_size(d, env) for d in t.shape) if t is not None else ()


def _size(d: dims.Dim, env: Mapping[str, int]) -> int:
    if isinstance(d, int):
        return d
    unknown = dims.symbols_of(d) - env.keys()
    return 1 if unknown else dims.evaluate(d, env)
