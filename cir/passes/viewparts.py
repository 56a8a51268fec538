"""Pieces of views: what moves past an op, and what an op's trailing axes keep in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cir import dim, spec
from cir.graph import Const, Node
from cir.views import Shape, View

#: op -> number of trailing axes of the first input that the op needs as they are.
_TRAILING = {"linear": 1}


def step_of(node: Node) -> tuple[str, Any]:
    """A view node as one step of a spelling."""
    return node.op, node.attrs["shape" if node.op == "reshape" else "perm"]


def as_transpose(view: View) -> tuple[int, ...] | None:
    """The permutation that a view is, None when it is more than that."""
    steps = view.spelling()
    if len(steps) == 1 and steps[0][0] == "transpose":
        return tuple(int(p) for p in steps[0][1])
    # A reshape that only moves size-1 axes is a transpose as well.
    if len(steps) == 1 and len(view.base) == len(view.shape) and view.is_reshape:
        ones = [i for i, d in enumerate(view.base) if d == 1]
        data = [i for i, d in enumerate(view.base) if d != 1]
        if tuple(view.base[i] for i in data) == tuple(d for d in view.shape if d != 1):
            return tuple((ones if d == 1 else data).pop(0) for d in view.shape)
    return None


def transposed_view(shape: Shape, perm: Sequence[int]) -> View:
    """The transpose by ``perm`` whose output has this shape."""
    base: list[Any] = [None] * len(perm)
    for out_axis, base_axis in enumerate(perm):
        base[base_axis] = shape[out_axis]
    return View.identity(tuple(base)).transpose(perm)


def transposes(view: View) -> int:
    """Transposes that a view costs; reshapes move no data."""
    return sum(op == "transpose" for op, _ in view.spelling())


def pull_const(c: Const, view: View, perm: Sequence[int] | None) -> np.ndarray | None:
    """The constant operand of an op on ``view``'s output, rearranged for the op on its base."""
    groups, base_groups = view.groups(), view.base_groups()
    arr = c.numpy()
    if perm is not None:
        arr = arr.reshape((1,) * (len(perm) - arr.ndim) + arr.shape)
        arr = arr.transpose([list(perm).index(i) for i in range(len(perm))])
        return lean(arr)
    if groups is None or base_groups is None or arr.ndim > len(groups):
        return None
    arr = arr.reshape((1,) * (len(groups) - arr.ndim) + arr.shape)
    sizes: dict[int, int] = {}
    for axis, group in enumerate(groups):
        for atom in group:
            size = view.atoms[atom]
            if arr.shape[axis] == 1:
                sizes[atom] = 1
            elif isinstance(size, int):
                sizes[atom] = size
            else:
                return None
    flat = arr.reshape([sizes[a] for a in view.order])
    by_base = flat.transpose([view.order.index(a) for a in range(len(view.atoms))])
    target: list[int] = []  # per atom, after growing the ones that share a base axis with full ones
    final: list[int] = []  # per base axis
    for group in base_groups:
        if all(sizes[a] == 1 for a in group):
            target += [1] * len(group)
            final.append(1)
            continue
        full: list[int] = []
        for a in group:
            size = view.atoms[a]
            if not isinstance(size, int):
                return None
            full.append(size)
        target += full
        final.append(int(np.prod(full)))
    if np.prod(final) != arr.size:
        return None  # it would have to be repeated
    return lean(np.broadcast_to(by_base, target).reshape(final))


def lean(arr: np.ndarray) -> np.ndarray:
    """Without leading axes of size 1, which broadcasting supplies."""
    while arr.ndim and arr.shape[0] == 1:
        arr = arr[0]
    return np.ascontiguousarray(arr)


def trailing_axes(node: Node) -> int | None:
    """How many trailing axes of the first input an op needs untouched; None when it is not so."""
    if node.op in _TRAILING:
        return _TRAILING[node.op]
    if node.op in ("layer_norm", "rms_norm"):
        return -int(node.attrs["axis"])
    if len(node.inputs) != 1:
        return None
    s = spec.get(node.op)
    # Not reductions: what else reads their operand, as norms do, would no longer line up with them.
    if s.layout != "axis" or "keepdims" in node.attrs:
        return None
    lowest = 0
    for a in s.attrs:
        if a.kind == "axis":
            lowest = min(lowest, int(node.attrs[a.name]))
        elif a.kind == "axes":
            lowest = min([lowest, *(int(x) for x in node.attrs[a.name])])
    return -lowest


def split_lead(view: View, keep: int) -> tuple[View, View] | None:
    """A view as two: one that arranges ``keep`` trailing axes, then one of leading axes only.

    The leading axes in between are the base's, in its order, joined where they travel together; so
    whatever the whole view makes of the batch (flattened, swapped, with axes of size 1), the first
    part is the same. None when the second part has nothing to do.
    """
    groups = view.groups()
    if groups is None:
        return None
    cut = len(groups) - keep
    lead = [a for g in groups[:cut] for a in g]
    tail = [a for g in groups[cut:] for a in g]
    by_base = sorted(lead)
    rank = {a: i for i, a in enumerate(by_base)}
    place = {a: i for i, a in enumerate(lead)}
    runs: list[list[int]] = []
    for a in by_base:
        if runs and a == runs[-1][-1] + 1 and place[a] == place[a - 1] + 1:
            runs[-1].append(a)
        else:
            runs.append([a])
    ones = next((i for i, d in enumerate(view.base) if d != 1), len(view.base))
    middle = (1,) * ones + tuple(dim.product(view.atoms[a] for a in r) for r in runs)
    if middle == view.shape[:cut] and lead == by_base:
        return None
    inner = View(view.base, view.atoms, (*by_base, *tail), middle + view.shape[cut:])
    rest = tuple(d for d in view.shape[cut:] if d != 1)
    n = len(lead)
    outer = View(
        middle + view.shape[cut:],
        tuple(view.atoms[a] for a in by_base) + rest,
        (*(rank[a] for a in lead), *range(n, n + len(rest))),
        view.shape,
    )
    return inner, outer


def keeps_trailing(view: View, keep: int) -> bool:
    """Whether a view leaves the last ``keep`` axes as they are."""
    return lead_part(view, keep) is not None and len(view.base) >= keep


def lead_part(view: View, keep: int) -> View | None:
    """What a view does in front of ``keep`` untouched trailing axes."""
    if len(view.base) < keep or len(view.shape) < keep:
        return None
    if keep and view.base[-keep:] != view.shape[-keep:]:
        return None
    tail = tuple(d for d in (view.shape[-keep:] if keep else ()) if d != 1)
    m = split_tail(view, len(tail))
    if m is None or m.atoms[len(m.atoms) - len(tail) :] != tail:
        return None
    n = len(m.atoms) - len(tail)
    if m.order[n:] != tuple(range(n, len(m.atoms))):
        return None
    lead_shape = view.shape[: len(view.shape) - keep]
    lead_base = view.base[: len(view.base) - keep]
    if dim.equal(dim.product(m.atoms[:n]), dim.product(lead_base)) is not True:
        return None
    return View(lead_base, m.atoms[:n], m.order[:n], lead_shape)


def split_tail(view: View, count: int) -> View | None:
    """The view with atoms that end exactly at its trailing axes."""
    return view.reshape(view.shape) if count else view


def with_tail(view: View, keep: int, tail: Shape) -> View | None:
    """The same lead view with other trailing axes behind it."""
    lead = lead_part(view, keep)
    if lead is None:
        return None
    extra = tuple(d for d in tail if d != 1)
    n = len(lead.atoms)
    return View(
        lead.base + tail,
        lead.atoms + extra,
        lead.order + tuple(range(n, n + len(extra))),
        lead.shape + tail,
    )
