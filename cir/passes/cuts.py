"""Cuts and joins: slices, splits and concatenations stand before reshapes.

A linear whose result is cut is cut itself: its weights are.
"""

from __future__ import annotations

from collections.abc import Sequence

from cir import dim
from cir.graph import Node
from cir.passes.sweep import Sweep

Result = Sequence[str] | None


def merge_slices(s: Sweep, node: Node) -> Result:
    """Slices of different axes, one after the other, are one slice."""
    x = node.inputs[0]
    first = s.producer(x)
    if x is None or first is None or first.op != "slice" or s.graph.use_count(x) != 1:
        return None
    if set(first.attrs["axes"]) & set(node.attrs["axes"]):
        return None
    keys = ("axes", "starts", "ends", "steps")
    pieces = [t for n in (first, node) for t in zip(*(n.attrs[k] for k in keys))]
    both = sorted(pieces, key=lambda t: int(t[0]))
    attrs = {k: [t[i] for t in both] for i, k in enumerate(keys)}
    return [s.emit(node, "slice", [first.inputs[0]], attrs, final=True)]


def cut_of_concat(s: Sweep, node: Node) -> Result:
    """Pieces of a concatenation that are its operands: these."""
    joined = s.producer(node.inputs[0])
    axes = node.attrs["axes"] if node.op == "slice" else (node.attrs["axis"],)
    if joined is None or joined.op != "concat" or axes != (joined.attrs["axis"],):
        return None
    bounds: list[dim.Dim] = [0]
    for x in joined.inputs:
        bounds.append(dim.add(bounds[-1], s.b.types[str(x)].shape[axes[0]]))
    pieces = dict(zip(zip(bounds, bounds[1:]), joined.inputs))
    if node.op == "slice":
        whole = node.attrs["steps"] == (1,)
        found = [pieces.get((node.attrs["starts"][0], node.attrs["ends"][0]))] if whole else [None]
    else:
        ends: list[dim.Dim] = [0]
        for size in node.attrs["sizes"]:
            ends.append(dim.add(ends[-1], size))
        found = [pieces.get(pair) for pair in zip(ends, ends[1:])]
    return None if None in found else [str(x) for x in found]


def cut_by_slice(s: Sweep, node: Node) -> Result:
    """A contiguous slice of a reshape is a reshape of a slice."""
    axes, starts, ends, steps = (node.attrs[k] for k in ("axes", "starts", "ends", "steps"))
    assert isinstance(axes, tuple) and isinstance(starts, tuple) and isinstance(ends, tuple)
    found = _factor(s, node.inputs[0], int(axes[0])) if steps == (1,) else None
    if found is None:
        return None
    source, axis, inner = found
    attrs = {
        "axes": (axis,),
        "starts": (dim.mul(starts[0], inner),),
        "ends": (dim.mul(ends[0], inner),),
        "steps": (1,),
    }
    part = s.emit(node, "slice", [source], attrs)
    shape = s.b.types[node.name].shape
    return [s.emit(node, "reshape", [part], {"shape": shape}, final=True)]


def cut_by_split(s: Sweep, node: Node) -> Result:
    """A split of a reshape is reshapes of a split, a split of a linear is several linears."""
    x, axis, sizes = node.inputs[0], int(node.attrs["axis"]), node.attrs["sizes"]
    assert x is not None and isinstance(sizes, tuple)
    found = _factor(s, x, axis)
    if found is not None:
        source, outer, inner = found
        attrs = {"axis": outer, "sizes": tuple(dim.mul(d, inner) for d in sizes)}
        names = [f"{o}.part" for o in node.outputs]
        parts = s.b.emit("split", [source], attrs, names=names, meta=node.meta)
        shapes = [s.b.types[o].shape for o in node.outputs]
        s.b.release(node.outputs)
        return [
            s.b.emit("reshape", [part], {"shape": shape}, name=out, meta=node.meta)[0]
            for part, shape, out in zip(parts, shapes, node.outputs)
        ]
    linear = s.producer(x)
    if linear is None or linear.op != "linear" or axis != -1 or s.graph.use_count(x) != 1:
        return None
    if linear.inputs[1] not in s.b.consts or not all(isinstance(d, int) for d in sizes):
        return None
    return _several(s, linear, node, [int(d) for d in sizes])


def join(s: Sweep, node: Node) -> Result:
    """A concatenation of equal reshapes that keep its axis is a reshape of a concatenation."""
    at = len(s.b.types[node.name].shape) + int(node.attrs["axis"])
    sources, frames = [], []
    for x in node.inputs:
        reshape = s.producer(x)
        if x is None or reshape is None or reshape.op != "reshape" or reshape.inputs[0] is None:
            return None
        before, after = s.b.types[reshape.inputs[0]].shape, s.b.types[x].shape
        lead = dim.product(after[:at])
        places = [
            m
            for m, d in enumerate(before)
            if d == after[at] != 1 and dim.product(before[:m]) == lead
        ]
        if not places:
            return None
        m = places[0]
        sources.append(reshape.inputs[0])
        frames.append((before[:m], before[m + 1 :]))
    if any(f != frames[0] for f in frames):
        return None
    axis = -len(frames[0][1]) - 1
    joined = s.emit(node, "concat", sources, {"axis": axis})
    return [s.emit(node, "reshape", [joined], {"shape": s.b.types[node.name].shape}, final=True)]


def _several(s: Sweep, linear: Node, node: Node, sizes: Sequence[int]) -> list[str]:
    """One linear for each part of a split."""
    s.b.release(node.outputs)
    meta = linear.meta.merge(node.meta)
    results: list[str] = []
    at = 0
    for out, size in zip(node.outputs, sizes):
        params: list[str | None] = []
        for name, axis in zip(linear.inputs[1:], (-2, -1)):  # the rows of the weight, the bias
            attrs = {"axes": (axis,), "starts": (at,), "ends": (at + size,), "steps": (1,)}
            cut = None if name is None else s.b.emit("slice", [name], attrs, name=f"{name}.cut")[0]
            params.append(cut)
        results += s.b.emit("linear", [linear.inputs[0], *params], name=out, meta=meta)
        at += size
    return results


def _factor(s: Sweep, x: str | None, axis: int) -> tuple[str, int, int] | None:
    """(source, its axis, inner size) when an axis of a reshape is the outer factor of that axis.

    A cut of the reshaped axis at k is then a cut of the source's axis at k times the inner size.
    """
    reshape = s.producer(x)
    if x is None or reshape is None or reshape.op != "reshape" or reshape.inputs[0] is None:
        return None
    source = reshape.inputs[0]
    before, after = s.b.types[source].shape, s.b.types[x].shape
    at = len(after) + axis
    lead = dim.product(after[:at])
    m = 0
    while m < len(before) and (before[m] == 1 or dim.product(before[:m]) != lead):
        m += 1
    if m == len(before) or not isinstance(before[m], int) or not isinstance(after[at], int):
        return None
    inner, k = 1, at + 1
    while k < len(after) and isinstance(after[k], int) and after[at] * inner < before[m]:  # type: ignore[operator]
        inner, k = inner * int(after[k]), k + 1
    if after[at] * inner != before[m] or dim.product(before[m + 1 :]) != dim.product(after[k:]):  # type: ignore[operator]
        return None
    return source, m - len(before), inner
