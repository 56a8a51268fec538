"""View normal form: chains of reshape and transpose become one shortest chain and sink downward.

A view moves past every op that does not care: elementwise ops (their other operands are rearranged
the other way, when that is free), ops along axes (the axes are renamed), and ops that only touch
trailing axes (linear, layer_norm, softmax, matmul). What is left stands where the layout matters,
so networks written channels-first and channels-last reach the same graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cir import spec
from cir.builder import Builder
from cir.graph import Const, Graph, Node
from cir.passes.interface import delayed_inputs, is_entry
from cir.passes.sweep import Sweep, map_regions
from cir.passes.viewparts import (
    as_transpose,
    keeps_trailing,
    lead_part,
    pull_const,
    split_lead,
    step_of,
    trailing_axes,
    transposed_view,
    transposes,
    with_tail,
)
from cir.views import View


def sink_views(graph: Graph, channels_last: bool = False, parent: Builder | None = None) -> Graph:
    """Normalise and sink views, in one forward sweep; regions included.

    Where images of both layouts meet, the transposed ones are brought to channels-first, or to
    channels-last. ``parent``: builder of the graph around a region.
    """
    return _Views(graph, channels_last, parent).run_all()


class _Views(Sweep):
    def __init__(self, graph: Graph, channels_last: bool, parent: Builder | None) -> None:
        super().__init__(graph, parent)
        self.channels_last = channels_last
        self.view_of: dict[str, tuple[str, View]] = {}
        self.cache: dict[tuple[Any, ...], str] = {}
        #: channels-first twin of a channels-last input -> the input, and the way back to it
        self.entry: dict[str, tuple[str, View]] = {}
        # The permutation a value was sunk by, which size-1 axes make ambiguous in its view.
        self.sunk_by: dict[str, tuple[str, tuple[int, ...]]] = {}

    def run_all(self) -> Graph:
        for name in () if self.channels_last else delayed_inputs(self.graph):
            # The input is taken as a view of its channels-first transpose, so that work on it sinks
            # no transpose but meets one that is already there.
            rank = self.b.types[name].rank
            perm = {"perm": (0, rank - 1, *range(1, rank - 1))}
            first = self.b.emit("transpose", [name], perm, name=f"{name}.first")[0]
            view = View.identity(self.b.types[first].shape).transpose((0, *range(2, rank), 1))
            self.view_of[name] = (first, view)
            self.entry[first] = (name, view)
            self.changed = True
        return self.run(lambda _, node: self.visit(node))

    # -- views ------------------------------------------------------------------------------------
    def base(self, name: str) -> tuple[str, View]:
        """The value behind a value's views, and the view."""
        found = self.view_of.get(name)
        return found if found else (name, View.identity(self.b.types[name].shape))

    def transposed(self, name: str) -> tuple[str, tuple[int, ...]] | None:
        """(operand, perm) when a value is a transpose of another, views before it left alone."""
        found = self.view_of.get(name)
        if found is not None:
            steps = found[1].spelling()
            if len(steps) == 1 and steps[0][0] == "transpose":
                return found[0], tuple(int(p) for p in steps[0][1])
        if name in self.sunk_by:
            return self.sunk_by[name]
        node = self.producer(name)
        if node is not None and node.op == "transpose" and node.inputs[0] is not None:
            return node.inputs[0], tuple(node.attrs["perm"])
        perm = as_transpose(found[1]) if found is not None else None
        return (found[0], perm) if found is not None and perm is not None else None

    def viewed(self, node: Node, base: str, view: View, out: str) -> list[str]:
        """Emit the canonical chain of a view; the last node takes the name ``out``."""
        steps = view.spelling()
        if not steps:
            return [base]
        if base in self.entry and self.entry[base][1].spelling() == steps:
            return [self.entry[base][0]]
        key = (base, tuple(steps))
        if key in self.cache:
            return [self.cache[key]]
        value = base
        for i, (op, arg) in enumerate(steps):
            last = i == len(steps) - 1
            attr = "shape" if op == "reshape" else "perm"
            part = (base, tuple(steps[: i + 1]))
            if part in self.cache:
                value = self.cache[part]
                continue
            value = self.b.emit(
                op,
                [value],
                {attr: arg},
                name=out if last else f"{base}.{op}",
                meta=node.meta,
            )[0]
            self.cache[part] = value
        if base not in self.b.consts:  # a view of a constant is folded, not tracked
            self.view_of[value] = (base, view)
        return [value]

    def unchanged(self, node: Node, base: str, view: View) -> bool:
        """Whether a view node is already the last node of its canonical chain."""
        steps = view.spelling()
        if not steps or (base, tuple(steps)) in self.cache:
            return False
        value = node.inputs[0]
        chain: list[tuple[str, Any]] = [step_of(node)]
        while value != base:
            before = self.producer(value)
            if before is None or before.op not in ("reshape", "transpose"):
                return False
            chain.insert(0, step_of(before))
            value = before.inputs[0]
        return chain == steps

    def visit(self, node: Node) -> Sequence[str] | None:
        if node.regions:
            changed = map_regions(node, lambda r: sink_views(r, self.channels_last, self.b))
            if changed is node:
                return None
            self.b.nodes.append(changed)
            return list(node.outputs)
        if node.op in ("reshape", "transpose"):
            return self.visit_view(node)
        if not any(i in self.view_of for i in node.inputs):
            return None
        s = spec.get(node.op)
        if s.is_elementwise:
            return self.sink_elementwise(node)
        if node.op in ("matmul", "scaled_dot_product_attention"):
            return self.sink_batched(node)
        if node.op == "gather":
            return self.sink_gather(node)
        if node.op in ("group_norm", "group_norm_silu"):
            return self.sink_grouped(node)
        if s.layout == "axis" and node.attrs.get("keepdims", True):
            out = self.sink_axis(node, s)
            if out is not None:
                return out
        elif s.layout.startswith("per_axis:"):
            return self.sink_per_axis(node, s.layout.partition(":")[2])
        elif node.op == "expand":
            return self.sink_expand(node)
        return self.sink_trailing(node)

    def visit_view(self, node: Node) -> Sequence[str] | None:
        x = node.inputs[0]
        assert x is not None
        if x not in self.view_of and not self.channels_last and is_entry(self.graph, node):
            rank = self.b.types[x].rank
            back = View.identity(self.b.types[node.name].shape).transpose((0, *range(2, rank), 1))
            self.entry[node.name] = (x, back)
            return None  # a base of its own: it stays at the input, it does not sink
        base, view = self.base(x)
        out = self._step(view, node)
        if out is None:  # sizes that cannot be proven to line up: a new base starts here
            base, out = x, self._step(View.identity(self.b.types[x].shape), node)
            if out is None:
                return None
        if self.unchanged(node, base, out):
            self.cache[(base, tuple(out.spelling()))] = node.name
            if base not in self.b.consts:
                self.view_of[node.name] = (base, out)
            return None
        self.b.release(node.outputs)
        return self.viewed(node, base, out, node.name)

    @staticmethod
    def _step(view: View, node: Node) -> View | None:
        if node.op == "reshape":
            return view.reshape(node.attrs["shape"])
        if view.groups() is None:
            return None
        return view.transpose(node.attrs["perm"])

    def sunk(
        self,
        node: Node,
        inputs: Sequence[str | None],
        attrs: dict[str, Any],
        views: list[View],
        perm: tuple[int, ...] | None = None,
    ) -> list[str]:
        """Emit the op on bases and the views of its results."""
        self.b.release(node.outputs)
        names = [f"{o}.base" for o in node.outputs]
        inner = self.b.emit(node.op, inputs, attrs, names=names, meta=node.meta)
        results = []
        for value, view, out in zip(inner, views, node.outputs):
            # The operand of a sunk op may itself be a view: the chain goes on from there.
            base, own = self.base(value)
            whole = own.then(view)
            if whole is None:
                base, whole = value, view
            result = self.viewed(node, base, whole, out)[0]
            if perm is not None:
                self.sunk_by[result] = (value, perm)
            results.append(result)
        return results

    def free(self, base: str, view: View, instead: View) -> bool:
        """Whether a view moves no more data than the one it is taken instead of."""
        if (base, tuple(view.spelling())) in self.cache:
            return True
        return transposes(view) <= transposes(instead)

    # -- elementwise ------------------------------------------------------------------------------
    def sink_elementwise(self, node: Node) -> Sequence[str] | None:
        out_shape = self.b.types[node.name].shape
        full = [i for i in node.inputs if i in self.view_of and self.b.types[i].shape == out_shape]
        for candidate in dict.fromkeys(full):  # the whole view first, then its last transpose
            assert candidate is not None
            base, view = self.view_of[candidate]
            known = self.sunk_by.get(candidate)
            perm = known[1] if known is not None and known[0] == base else None
            out = self._sink_past(node, view, perm, free=perm is None and not transposes(view))
            if out is not None:
                return out
        for candidate in dict.fromkeys(i for i in node.inputs if i is not None):
            found = self.transposed(candidate)
            if found is None or len(found[1]) != len(out_shape):
                continue
            view = transposed_view(out_shape, found[1])
            # A reshape that moves axes of size 1 is free; behind the op it may move data.
            if transposes(view) and not any(map(self._moves_data, node.inputs)):
                continue
            out = self._sink_past(node, view, found[1], free=not self._moves_data(candidate))
            if out is not None:
                return out
        # Images have one layout: where one operand has it, the others are transposed to it.
        rank = len(out_shape)
        away = (0, rank - 1, *range(1, rank - 1)) if self.channels_last else (0, *range(2, rank), 1)
        for candidate in dict.fromkeys(full):
            found = self.transposed(str(candidate))
            if rank >= 4 and found is not None and found[1] == away:
                return self._sink_past(node, transposed_view(out_shape, away), away, force=True)
        return None

    def _moves_data(self, name: str | None) -> bool:
        if name in self.view_of and name not in self.sunk_by:
            return transposes(self.view_of[name][1]) > 0
        node = self.producer(name)
        return name in self.sunk_by or (node is not None and node.op == "transpose")

    def _sink_past(
        self,
        node: Node,
        view: View,
        perm: tuple[int, ...] | None = None,
        *,
        force: bool = False,
        free: bool = False,
    ) -> Sequence[str] | None:
        moved = [self.pulled(i, view, node, perm, force=force, free=free) for i in node.inputs]
        if any(m is None and i is not None for m, i in zip(moved, node.inputs)):
            return None
        inputs = [None if m is None else m() for m in moved]
        return self.sunk(node, inputs, dict(node.attrs), [view], perm)

    def pulled(
        self,
        name: str | None,
        view: View,
        node: Node,
        perm: tuple[int, ...] | None = None,
        *,
        force: bool = False,
        free: bool = False,
    ) -> Any:
        """A thunk giving the operand as the op on the base wants it; None when that is not free.

        ``perm`` says which permutation the view is, where size-1 axes leave that open; ``free``
        that it moves no data, so that nothing is won when another operand takes on its opposite.
        """
        if name is None:
            return None
        if perm is not None and name in self.sunk_by and self.sunk_by[name][1] == perm:
            return lambda: self.sunk_by[name][0]
        base, own = self.base(name)
        shape = self.b.types[name].shape
        if shape == view.shape and own.base == view.base and own.spelling() == view.spelling():
            return lambda: base
        if not shape:
            return lambda: name
        if name in self.b.consts:
            arr = pull_const(self.b.consts[name], view, perm)
            if arr is None:
                return None
            return lambda: self.b.const(Const.of(arr, self.b.types[name].dtype), name=f"{name}.v")
        perm = perm or as_transpose(view)
        if perm is None:
            return None
        padded = own.reshape((1,) * (len(perm) - len(shape)) + shape)
        if padded is None or padded.groups() is None:
            return None
        back = padded.transpose([perm.index(i) for i in range(len(perm))])
        if free and shape == view.shape and len(back.spelling()) > len(own.spelling()):
            return None  # the reshape would only change sides
        if not force and not self.free(base, back, own):
            return None
        return lambda: self.viewed(node, base, back, f"{name}.v")[0]

    # -- ops along axes ---------------------------------------------------------------------------
    def sink_axis(self, node: Node, s: spec.OpSpec) -> Sequence[str] | None:
        first = next(i for i in node.inputs if i in self.view_of)
        found = self.transposed(str(first))
        if found is None:
            return None
        perm = found[1]
        moved = [self.pulled_full(i, perm, node) for i in node.inputs]
        if any(m is None for m in moved):
            return None
        rank = len(perm)
        attrs = dict(node.attrs)
        for a in s.attrs:
            if a.kind == "axis":
                attrs[a.name] = perm[int(attrs[a.name]) % rank] - rank
            elif a.kind == "axes":
                mapped = [perm[int(x) % rank] - rank for x in attrs[a.name]]
                order = sorted(range(len(mapped)), key=lambda i: mapped[i])
                for name in ("starts", "ends", "steps") if node.op == "slice" else ():
                    attrs[name] = tuple(attrs[name][i] for i in order)
                attrs[a.name] = tuple(sorted(mapped))
        inputs = [m() for m in moved if m is not None]
        views = [transposed_view(self.b.types[o].shape, perm) for o in node.outputs]
        return self.sunk(node, inputs, attrs, views, perm)

    def pulled_full(self, name: str | None, perm: Sequence[int], node: Node) -> Any:
        """Like ``pulled`` for an operand of full rank that does not broadcast."""
        assert name is not None
        base, own = self.base(name)
        inverse = [list(perm).index(i) for i in range(len(perm))]
        if name in self.b.consts:
            c = self.b.consts[name]
            moved = Const.of(c.numpy().transpose(inverse), c.type.dtype)
            return lambda: self.b.const(moved, name=f"{name}.v")
        if own.groups() is None:
            return None
        back = own.transpose(inverse)
        if not self.free(base, back, own):
            return None
        return lambda: self.viewed(node, base, back, f"{name}.v")[0]

    def sink_per_axis(self, node: Node, attr: str) -> Sequence[str] | None:
        x = node.inputs[0]
        if x not in self.view_of or any(i in self.view_of for i in node.inputs[1:]):
            return None
        found = self.transposed(x)
        values = node.attrs[attr]
        assert isinstance(values, tuple)
        if found is None or len(values) % len(found[1]):
            return None
        base, perm = found
        rank = len(perm)
        attrs = dict(node.attrs)
        runs = [values[k : k + rank] for k in range(0, len(values), rank)]
        attrs[attr] = tuple(run[perm.index(i)] for run in runs for i in range(rank))
        view = transposed_view(self.b.types[node.name].shape, perm)
        return self.sunk(node, [base, *node.inputs[1:]], attrs, [view], perm)

    def sink_expand(self, node: Node) -> Sequence[str] | None:
        """Repeating by expand: an axis that grows is put behind its left neighbour.

        That is where ``repeat`` merges it to, so that no transpose comes between.
        """
        x = node.inputs[0]
        assert x is not None
        shape, target = self.b.types[x].shape, self.b.types[node.name].shape
        base, own = self.base(x)
        groups = own.groups()
        if len(shape) != len(target) or groups is None or not transposes(own):
            return None
        grown = [i for i, d in enumerate(shape) if d == 1 and target[i] != 1 and i]
        rest = [i for i in range(len(shape)) if i not in grown]
        data = iter(sorted((i for i in rest if groups[i]), key=lambda i: groups[i]))
        order = [next(data) if groups[i] else i for i in rest]
        for i in grown:
            order.insert(order.index(i - 1) + 1, i)
        moved = own.transpose(order)
        if transposes(moved):
            return None
        value = self.viewed(node, base, moved, f"{x}.v")[0]
        perm = tuple(order.index(i) for i in range(len(order)))
        attrs = {"shape": tuple(target[i] for i in order)}
        return self.sunk(node, [value], attrs, [transposed_view(target, perm)], perm)

    # -- ops on trailing axes ---------------------------------------------------------------------
    def sink_trailing(self, node: Node) -> Sequence[str] | None:
        x = node.inputs[0]
        if x not in self.view_of or any(i in self.view_of for i in node.inputs[1:]):
            return None
        keep = trailing_axes(node)
        base, view = self.view_of[x]
        if keep is None:
            return None
        inner: View | None = None
        outer = view
        if not keeps_trailing(view, keep):
            parts = split_lead(view, keep)
            if parts is None:
                return None
            inner, outer = parts
        views = []
        for o in node.outputs:
            shape = self.b.types[o].shape
            lead = with_tail(outer, keep, shape[len(shape) - keep :])
            if lead is None:
                return None
            views.append(lead)
        value = base if inner is None else self.viewed(node, base, inner, f"{x}.v")[0]
        return self.sunk(node, [value, *node.inputs[1:]], dict(node.attrs), views)

    def sink_batched(self, node: Node) -> Sequence[str] | None:
        """matmul and attention on operands whose batch axes are viewed alike."""
        operands = [i for i in node.inputs[:3] if i is not None]
        if any(self.b.types[i].rank > 2 for i in node.inputs[3:] if i is not None):
            return None  # a mask with batch axes of its own
        if any(i not in self.view_of for i in operands):
            return None
        views = [self.view_of[i][1] for i in operands]
        inner: list[View | None] = []
        leads: list[View] = []
        for v in views:
            parts = (None, v) if keeps_trailing(v, 2) else split_lead(v, 2)
            if parts is None:
                return None
            inner.append(parts[0])
            leads.append(parts[1])
        same = [None if (p := lead_part(v, 2)) is None else p.merged() for v in leads]
        if same[0] is None or any(x != same[0] for x in same[1:]):
            return None
        if any(len(v.base) != len(leads[0].base) for v in leads):
            return None
        out = with_tail(leads[0], 2, self.b.types[node.name].shape[-2:])
        if out is None:
            return None
        values = [
            self.view_of[i][0]
            if v is None
            else self.viewed(node, self.view_of[i][0], v, f"{i}.v")[0]
            for i, v in zip(operands, inner)
        ]
        return self.sunk(node, [*values, *node.inputs[3:]], dict(node.attrs), [out])

    def sink_grouped(self, node: Node) -> Sequence[str] | None:
        """Statistics over a group's channels and places do not care how the places are arranged."""
        x = node.inputs[0]
        if x not in self.view_of or any(i in self.view_of for i in node.inputs[1:]):
            return None
        base, view = self.view_of[x]
        if view.base[:2] != view.shape[:2] or transposes(view):
            return None
        return self.sunk(node, [base, *node.inputs[1:]], dict(node.attrs), [view])

    def sink_gather(self, node: Node) -> Sequence[str] | None:
        """A lookup by viewed indices is a viewed lookup, when axis 0 of the table is gathered."""
        table, index = node.inputs
        assert table is not None and index is not None
        if index not in self.view_of or node.attrs["axis"] != -self.b.types[table].rank:
            return None
        base, view = self.view_of[index]
        tail = self.b.types[table].shape[1:]
        out = with_tail(view, 0, tail)
        if out is None:
            return None
        return self.sunk(node, [table, base], dict(node.attrs), [out])
