"""Convolutions and pools without what they do not need: idle axes, windows that see everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cir.graph import Node
from cir.passes.sweep import Sweep

Result = Sequence[str] | None


def conv(s: Sweep, node: Node) -> Result:
    """A convolution of single pixels, or with an idle axis."""
    return _conv(s, node) or _flat_conv(s, node)


def max_pool(s: Sweep, node: Node) -> Result:
    """A pool with an idle axis, or with attributes that say nothing."""
    return _pool(s, node) or _plain(s, node)


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
    if "count_include_pad" in attrs and not any(pads):
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


def avg_pool(s: Sweep, node: Node) -> Result:
    """The same of averages; over everything they are a mean."""
    return _avg_pool(s, node) or _pool(s, node) or _plain(s, node)
