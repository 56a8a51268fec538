"""Local canonical forms: one spelling for things that need no pattern.

Reductions keep their axes, what changes nothing is gone, unit-depth 3-D pooling is 2-D pooling,
a pool over everything is a mean, a convolution of single pixels is a linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cir import dim, spec
from cir.graph import Const, Graph, Node
from cir.passes.cuts import cut_by_slice, cut_by_split, join, merge_slices
from cir.passes.operands import adds_ones, lean_operands
from cir.passes.permute import permuted_input, permuted_output
from cir.passes.sweep import Sweep, map_regions

_REDUCTIONS = (
    "sum", "mean", "prod", "amax", "amin", "any", "all", "argmax", "argmin", "logsumexp",
)  # fmt: skip
Result = Sequence[str] | None


def normalize(graph: Graph) -> Graph:
    """One sweep of all local canonical forms."""
    return Sweep(graph).run(_visit)


def _visit(s: Sweep, node: Node) -> Result:
    if node.regions:
        changed = map_regions(node, normalize)
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


def _conv(s: Sweep, node: Node) -> Result:
    """A 1x1 convolution of single pixels is a linear."""
    x, w, *rest = node.inputs
    t, k = s.b.types[str(x)], s.b.types[str(w)]
    ones = (1,) * (t.rank - 2)
    if t.shape[2:] != ones or k.shape[2:] != ones or node.attrs["groups"] != 1:
        return None
    if any(node.attrs["pads"]):
        return None
    flat = s.emit(node, "reshape", [x], {"shape": t.shape[:2]})
    matrix = s.emit(node, "reshape", [w], {"shape": k.shape[:2]})
    y = s.emit(node, "linear", [flat, matrix, *rest])
    return [s.emit(node, "reshape", [y], {"shape": s.b.types[node.name].shape}, final=True)]


def _flat_conv(s: Sweep, node: Node) -> Result:
    """A convolution along axes of which one has size 1 is one along the others."""
    x, w, *rest = node.inputs
    t, k = s.b.types[str(x)].shape, s.b.types[str(w)].shape
    n = len(t) - 2
    pads = node.attrs["pads"]
    idle = [i for i in range(n) if t[i + 2] == 1 == k[i + 2] and not pads[i] and not pads[n + i]]
    if n == 1 or not idle:
        return None
    at = idle[0]
    less = [
        s.emit(node, "reshape", [v], {"shape": shape[: at + 2] + shape[at + 3 :]})
        for v, shape in ((x, t), (w, k))
    ]
    attrs = dict(node.attrs)
    for key in ("strides", "dilations"):
        attrs[key] = attrs[key][:at] + attrs[key][at + 1 :]
    attrs["pads"] = tuple(p for i, p in enumerate(pads) if i % n != at)
    y = s.emit(node, "conv", [*less, *rest], attrs)
    return [s.emit(node, "reshape", [y], {"shape": s.b.types[node.name].shape}, final=True)]


def _logical_and(s: Sweep, node: Node) -> Result:
    """What is true everywhere only broadcasts the other operand."""
    x, k = node.inputs
    c = s.b.consts.get(str(k))
    if c is None or not c.numpy().all():
        return None
    return [s.emit(node, "expand", [x], {"shape": s.b.types[node.name].shape}, final=True)]


def _logical_not(s: Sweep, node: Node) -> Result:
    producer = s.producer(node.inputs[0])
    return _alias(producer) if producer is not None and producer.op == "logical_not" else None


def _attention(s: Sweep, node: Node) -> Result:
    """The mask without what broadcasting does: no expand, no axis along which it repeats."""
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if mask is None:
        return None
    producer, c = s.producer(mask), s.b.consts.get(mask)
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


def _avg_pool(s: Sweep, node: Node) -> Result:
    """A pool whose one window is the whole image is a mean over the spatial axes."""
    x = node.inputs[0]
    assert x is not None
    t = s.b.types[x]
    spatial = t.shape[2:]
    if tuple(node.attrs["kernel"]) != spatial or any(node.attrs["pads"]):
        return None
    if any(d != 1 for d in s.b.types[node.name].shape[2:]):
        return None
    axes = tuple(range(-len(spatial), 0))
    return [s.emit(node, "mean", [x], {"axis": axes, "keepdims": True}, final=True)]


def _plain(s: Sweep, node: Node) -> Result:
    """Without rounding ceil_mode is False, without padding count_include_pad is False."""
    attrs: dict[str, Any] = dict(node.attrs)
    shape = s.b.types[str(node.inputs[0])].shape[2:]
    kernel, strides, pads = (attrs[k] for k in ("kernel", "strides", "pads"))
    dilations = attrs.get("dilations", (1,) * len(shape))
    n = len(shape)
    spans = [dilations[i] * (kernel[i] - 1) + 1 - pads[i] - pads[n + i] for i in range(n)]
    exact = all(isinstance(d, int) and (d - a) % b == 0 for d, a, b in zip(shape, spans, strides))
    attrs["ceil_mode"] = attrs["ceil_mode"] and not exact
    if "count_include_pad" in attrs and not any(pads) and not attrs["ceil_mode"]:
        attrs["count_include_pad"] = False
    if attrs == dict(node.attrs):
        return None
    return [s.emit(node, node.op, node.inputs, attrs, final=True)]


def _pool(s: Sweep, node: Node) -> Result:
    """Pooling over a leading spatial axis of size 1 needs one axis less."""
    x = node.inputs[0]
    assert x is not None
    t = s.b.types[x]
    kernel = node.attrs["kernel"]
    n = t.rank - 2
    pads = node.attrs["pads"]
    assert isinstance(kernel, tuple) and isinstance(pads, tuple)
    if n < 2 or t.shape[2] != 1 or kernel[0] != 1 or pads[0] or pads[n]:
        return None
    inner = s.emit(node, "reshape", [x], {"shape": t.shape[:2] + t.shape[3:]})
    attrs = dict(node.attrs)
    for key in ("kernel", "strides", "dilations"):
        if key in attrs:
            attrs[key] = attrs[key][1:]
    attrs["pads"] = pads[1:n] + pads[n + 1 :]
    pooled = s.emit(node, node.op, [inner], attrs)
    shape = s.b.types[node.name].shape
    return [s.emit(node, "reshape", [pooled], {"shape": shape}, final=True)]


def _average(s: Sweep, node: Node) -> Result:
    return _avg_pool(s, node) or _pool(s, node) or _plain(s, node)


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


def _mul_like(identity: float) -> Callable[[Sweep, Node], Result]:
    def rule(s: Sweep, node: Node) -> Result:
        x, k = node.inputs[0], node.inputs[1]
        if k in s.b.consts and s.b.consts[k].is_scalar:
            value = s.b.consts[k].numpy().reshape(())
            if value == identity and s.b.types[str(x)] == s.b.types[node.name]:
                return [x]  # type: ignore[list-item]
        return None

    return rule


_RULES: dict[str, Callable[[Sweep, Node], Result]] = {
    "identity": lambda s, n: _alias(n),
    "cast": _cast,
    "expand": _expand,
    "tile": _tile,
    "pad": _pad,
    "slice": lambda s, n: _whole_slice(s, n) or merge_slices(s, n) or cut_by_slice(s, n),
    "split": lambda s, n: _alias(n) if len(n.outputs) == 1 else cut_by_split(s, n),
    "gather": _gather,
    "concat": lambda s, n: _single(s, n) or join(s, n),
    "conv": lambda s, n: _conv(s, n) or _flat_conv(s, n),
    "linear": permuted_input,
    "transpose": permuted_output,
    "avg_pool": _average,
    "max_pool": lambda s, n: _pool(s, n) or _plain(s, n),
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
