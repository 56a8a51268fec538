"""Local canonical forms: one spelling for things that need no pattern.

Reductions keep their axes, what changes nothing is gone, unit-depth 3-D pooling is 2-D pooling,
a pool over everything is a mean, a convolution of single pixels is a linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cir import dim, spec
from cir.builder import Builder
from cir.graph import Const, Graph, Node
from cir.passes.cuts import cut_by_slice, cut_by_split, cut_of_concat, join, merge_slices
from cir.passes.fills import fill, filled
from cir.passes.grids import along_axis, gathered, gathered_nd, reached, spread
from cir.passes.operands import adds_ones, lean_operands
from cir.passes.permute import permuted_input, permuted_output
from cir.passes.steps import lstm, unreversed
from cir.passes.sweep import Sweep, map_regions
from cir.passes.windows import avg_pool, conv, max_pool

_REDUCTIONS = (
    "sum", "mean", "prod", "amax", "amin", "any", "all", "argmax", "argmin", "logsumexp",
)  # fmt: skip
Result = Sequence[str] | None


def normalize(graph: Graph, parent: Builder | None = None) -> Graph:
    """One sweep of all local canonical forms; ``parent``: builder of the graph around a region."""
    return Sweep(graph, parent).run(_visit)


def _visit(s: Sweep, node: Node) -> Result:
    if node.regions:
        changed = map_regions(node, lambda r: normalize(r, s.b))
        if changed is node:
            return None
        s.b.nodes.append(changed)
        return list(node.outputs)
    rule = _RULES.get(node.op)
    if rule is not None:
        out = rule(s, node)
        if out is not None:
            return out
    if spec.get(node.op).is_elementwise:
        return lean_operands(s, node)
    return None


def _alias(node: Node) -> Result:
    assert node.inputs[0] is not None
    return [node.inputs[0]]


def _identity(s: Sweep, node: Node) -> Result:
    """Stays only where an output is an input, a constant or another output."""
    x = node.inputs[0]
    if node.name in s.graph.outputs:
        others = {s.env.get(o, o) for o in s.graph.outputs if o != node.name}
        if x in others or x in s.b.consts or x in s.graph.inputs:
            return None
    return _alias(node)


def _same_type(s: Sweep, node: Node) -> Result:
    x = node.inputs[0]
    assert x is not None
    return [x] if s.b.types[x] == s.b.types[node.name] else None


def _keepdims(s: Sweep, node: Node) -> Result:
    if node.attrs["keepdims"]:
        axes = node.attrs["axis"]
        if isinstance(axes, tuple) and not axes:
            return _alias(node) if node.op != "argmax" else None
        return None
    inner = s.emit(node, node.op, node.inputs, {**node.attrs, "keepdims": True})
    shape = s.b.types[node.name].shape
    return [s.emit(node, "reshape", [inner], {"shape": shape}, final=True)]


def _expand(s: Sweep, node: Node) -> Result:
    return _same_type(s, node)


def _tile(s: Sweep, node: Node) -> Result:
    x = node.inputs[0]
    assert x is not None
    shape, repeats = s.b.types[x].shape, node.attrs["repeats"]
    assert isinstance(repeats, tuple)
    if all(r == 1 for r in repeats):
        return _alias(node)
    if len(repeats) == len(shape) and all(r == 1 or d == 1 for r, d in zip(repeats, shape)):
        attrs = {"shape": s.b.types[node.name].shape}
        return [s.emit(node, "expand", [x], attrs, final=True)]
    return None


def _pad(s: Sweep, node: Node) -> Result:
    return _alias(node) if not any(node.attrs["pads"]) else None


def _whole_slice(s: Sweep, node: Node) -> Result:
    if all(st == 1 for st in node.attrs["steps"]):
        return _same_type(s, node)
    return None


def _single(s: Sweep, node: Node) -> Result:
    return _alias(node) if len(node.inputs) == 1 else None


def _logical_and(s: Sweep, node: Node) -> Result:
    """What is true everywhere only broadcasts the other operand."""
    for x, k in (node.inputs, node.inputs[::-1]):
        c = s.b.consts.get(str(fill(s, k) or k))
        if c is not None and c.numpy().all():
            attrs = {"shape": s.b.types[node.name].shape}
            return [s.emit(node, "expand", [x], attrs, final=True)]
    return None


def _logical_not(s: Sweep, node: Node) -> Result:
    producer = s.producer(node.inputs[0])
    return _alias(producer) if producer is not None and producer.op == "logical_not" else None


def _attention(s: Sweep, node: Node) -> Result:
    """The mask without what broadcasting does: no expand, no axis along which it repeats."""
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if mask is None:
        return None
    producer, c = s.producer(mask), s.b.consts.get(mask)
    if c is not None and c.type.dtype == "bool" and c.numpy().all():
        return [s.emit(node, node.op, node.inputs[:3], dict(node.attrs), final=True)]
    lean = mask
    if producer is not None and (producer.op == "expand" or adds_ones(s, mask)):
        source = str(producer.inputs[0])
        lean = source if s.b.types[source].rank <= s.b.types[node.name].rank else mask
    elif c is not None and c.type.rank > 2:
        arr = c.numpy()
        for axis in range(arr.ndim - 2):
            first = arr.take([0], axis)
            arr = first if np.array_equal(np.broadcast_to(first, arr.shape), arr) else arr
        while arr.ndim > 2 and arr.shape[0] == 1:
            arr = arr[0]
        if arr.shape != c.type.shape:
            lean = s.b.const(Const.of(arr, c.type.dtype), name=f"{mask}.s")
    if lean == mask:
        return None
    s.b.nodes.append(node.with_(inputs=(*node.inputs[:3], lean)))
    return list(node.outputs)


def _gather(s: Sweep, node: Node) -> Result:
    """gather by one constant scalar index is a slice."""
    x, index = node.inputs
    assert x is not None and index is not None
    c = s.b.consts.get(index)
    t = s.b.types[x]
    axis = int(node.attrs["axis"])
    if c is None or c.type.rank or x in s.b.consts:
        return None
    i: dim.Dim = int(c.numpy())
    if isinstance(i, int) and i < 0:
        i = dim.add(t.shape[axis], i)
    part = s.emit(
        node,
        "slice",
        [x],
        {"axes": (axis,), "starts": (i,), "ends": (dim.add(i, 1),), "steps": (1,)},
    )
    shape = s.b.types[node.name].shape
    return [s.emit(node, "reshape", [part], {"shape": shape}, final=True)]


def _mean_over_merged(s: Sweep, node: Node) -> Result:
    """A reduction over an axis that a reshape merged is one over the axes before."""
    out = _keepdims(s, node)
    if out is not None:
        return out
    x = node.inputs[0]
    producer = s.producer(x)
    if producer is None or producer.op != "reshape" or node.op in ("argmax", "argmin"):
        return None
    source = producer.inputs[0]
    assert source is not None
    before, after = s.b.types[source].shape, s.b.types[str(x)].shape
    axes = node.attrs["axis"]
    k = len(after) - 1
    # Only the common case: trailing axes merged into the last one, which is reduced.
    if axes != (-1,) or len(before) <= len(after) or before[:k] != after[:k] or 1 in before[k:]:
        return None
    new_axes = tuple(range(k - len(before), 0))
    inner = s.emit(node, node.op, [source], {**node.attrs, "axis": new_axes})
    shape = s.b.types[node.name].shape
    return [s.emit(node, "reshape", [inner], {"shape": shape}, final=True)]


def _clip(s: Sweep, node: Node) -> Result:
    """clip(min=0) is relu; clip of a relu needs no lower bound of its own."""
    lo, hi = node.attrs["min"], node.attrs["max"]
    if lo is None and hi is None:
        return _alias(node)
    if lo == 0 and hi is None:
        return [s.emit(node, "relu", node.inputs, final=True)]
    return None


def _cast(s: Sweep, node: Node) -> Result:
    same = _same_type(s, node)
    if same is not None:
        return same
    producer = s.producer(node.inputs[0])
    if producer is None or producer.op != "cast":
        return None
    source = producer.inputs[0]
    assert source is not None
    a, m = s.b.types[source].dtype, s.b.types[producer.name].dtype
    if _widens(a, m):  # the middle dtype holds every value of the first
        return [s.emit(node, "cast", [source], dict(node.attrs), final=True)]
    return None


def _widens(a: str, b: str) -> bool:
    if a == b or a == "bool":
        return True
    try:
        return bool(np.can_cast(a, b, "safe"))
    except TypeError:
        return False


#: Op -> what its optional operands are when they do nothing, by position.
_NEUTRAL: dict[str, dict[int, int]] = {
    **dict.fromkeys(("linear", "conv", "conv_transpose"), {2: 0}),
    **dict.fromkeys(("layer_norm", "group_norm", "group_norm_silu"), {1: 1, 2: 0}),
    "rms_norm": {1: 1},
}


def _lean(s: Sweep, node: Node) -> Result:
    """A bias of zeros and a scale of ones are absent, as ``x + 0`` and ``x * 1`` are."""
    idle = [
        i
        for i, value in _NEUTRAL[node.op].items()
        if i < len(node.inputs)
        and (c := s.b.consts.get(str(node.inputs[i]))) is not None
        and (c.numpy() == value).all()
    ]
    if not idle:
        return None
    inputs = [None if i in idle else x for i, x in enumerate(node.inputs)]
    return [s.emit(node, node.op, inputs, dict(node.attrs), final=True)]


def _mul_like(identity: float) -> Callable[[Sweep, Node], Result]:
    def rule(s: Sweep, node: Node) -> Result:
        x, k = map(str, node.inputs)
        c = s.b.consts.get(k)
        if c is not None and s.b.types[x] == s.b.types[node.name] and (c.numpy() == identity).all():
            return [x]
        return None

    return rule


_RULES: dict[str, Callable[[Sweep, Node], Result]] = {
    "identity": _identity,
    "cast": _cast,
    "expand": lambda s, n: _expand(s, n) or filled(s, n),
    "tile": _tile,
    "pad": _pad,
    "slice": lambda s, n: (
        _whole_slice(s, n)
        or filled(s, n)
        or unreversed(s, n)
        or merge_slices(s, n)
        or cut_of_concat(s, n)
        or cut_by_slice(s, n)
    ),
    "split": lambda s, n: (
        _alias(n)
        if len(n.outputs) == 1
        else filled(s, n) or cut_of_concat(s, n) or cut_by_split(s, n)
    ),
    "reshape": filled,
    "gather": lambda s, n: _gather(s, n) or gathered(s, n) or spread(s, n),
    "gather_nd": gathered_nd,
    "gather_elements": along_axis,
    "greater_equal": reached,
    "lstm": lstm,
    "concat": lambda s, n: _single(s, n) or join(s, n),
    **dict.fromkeys(_NEUTRAL, _lean),
    "conv": lambda s, n: _lean(s, n) or conv(s, n),
    "linear": lambda s, n: _lean(s, n) or permuted_input(s, n),
    "transpose": lambda s, n: filled(s, n) or permuted_output(s, n),
    "avg_pool": avg_pool,
    "max_pool": max_pool,
    "logical_and": _logical_and,
    "logical_not": _logical_not,
    "scaled_dot_product_attention": _attention,
    "clip": _clip,
    "mul": _mul_like(1),
    "div": _mul_like(1),
    "add": _mul_like(0),
    "sub": _mul_like(0),
    **dict.fromkeys(_REDUCTIONS, _keepdims),
    "mean": _mean_over_merged,
    "sum": _mean_over_merged,
}
