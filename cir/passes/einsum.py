"""Einsum becomes transpose, reshape, matmul, mul and sum, so that patterns see one spelling."""

from __future__ import annotations

from collections.abc import Sequence

from cir import dim
from cir.builder import Builder
from cir.graph import Graph, Node
from cir.passes.sweep import Sweep, map_regions


def expand_einsum(graph: Graph, parent: Builder | None = None) -> Graph:
    """Replace every einsum that has no repeated label inside one operand.

    ``parent`` is the builder of the graph around a region.
    """

    def visit(s: Sweep, node: Node) -> Sequence[str] | None:
        if node.regions:
            changed = map_regions(node, lambda r: expand_einsum(r, s.b))
            if changed is node:
                return None
            s.b.nodes.append(changed)
            return list(node.outputs)
        if node.op != "einsum":
            return None
        return _Einsum(s, node).expand()

    if not any(n.op == "einsum" or n.regions for n in graph.nodes):
        return graph
    return Sweep(graph, parent).run(visit)


class _Einsum:
    def __init__(self, s: Sweep, node: Node) -> None:
        self.s, self.node = s, node
        self.meta = node.meta

    def expand(self) -> Sequence[str] | None:
        parsed = self.labels()
        if parsed is None:
            return None
        terms, out = parsed
        values = [i for i in self.node.inputs if i is not None]
        if any(len(set(t)) != len(t) for t in terms):
            return None  # a diagonal: left to the reference and to targets that have einsum
        while len(values) > 1:
            rest = set(out).union(*terms[2:]) if len(terms) > 2 else set(out)
            value, label = self.pair(values[0], terms[0], values[1], terms[1], rest, out)
            values[:2], terms[:2] = [value], [label]
        value, label = self.reduce(values[0], terms[0], set(out))
        if label != out:
            value = self.emit("transpose", [value], {"perm": [label.index(c) for c in out]})
        return [value]

    def labels(self) -> tuple[list[str], str] | None:
        """Operand labels and output labels, the ellipsis spelled out by capital letters."""
        text = str(self.node.attrs["equation"]).replace(" ", "")
        left, arrow, right = text.partition("->")
        terms = left.split(",")
        ranks = [self.s.b.types[i].rank for i in self.node.inputs if i is not None]
        spare = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in text]
        gaps = [r - len(t.replace("...", "")) for r, t in zip(ranks, terms) if "..." in t]
        extra = max(gaps, default=0)
        dots = "".join(spare[:extra])
        filled = []
        for t, r in zip(terms, ranks):
            n = r - len(t.replace("...", ""))
            filled.append(t.replace("...", dots[len(dots) - n :] if n else ""))
        if not arrow:
            joined = "".join(filled)
            once = sorted(c for c in set(joined) if joined.count(c) == 1 and c not in dots)
            right = dots + "".join(once)
        else:
            right = right.replace("...", dots)
        return (filled, right) if len(terms) == len(ranks) else None

    def emit(self, op: str, inputs: list[str | None] | list[str], attrs: dict | None = None) -> str:
        return self.s.b.emit(op, inputs, attrs, name=f"{self.node.name}.{op}", meta=self.meta)[0]

    def reduce(self, x: str, label: str, keep: set[str]) -> tuple[str, str]:
        """Sum out labels that nobody needs."""
        gone = [i for i, c in enumerate(label) if c not in keep]
        if not gone:
            return x, label
        y = self.emit("sum", [x], {"axis": gone, "keepdims": False})
        return y, "".join(c for c in label if c in keep)

    def pair(self, x: str, a: str, y: str, b: str, keep: set[str], out: str) -> tuple[str, str]:
        x, a = self.reduce(x, a, keep | set(b))
        y, b = self.reduce(y, b, keep | set(a))
        batch = [c for c in a if c in b and c in keep]
        contract = [c for c in a if c in b and c not in keep]
        left = [c for c in a if c not in b]
        right = [c for c in b if c not in a]
        both = bool(left and right) and set(left + right) <= set(out)
        if both and out.index(right[0]) < out.index(left[0]):
            return self.pair(y, b, x, a, keep, out)
        if not contract:
            return self.outer(x, a, y, b)
        sizes = dict(zip(a, self.s.b.types[x].shape)) | dict(zip(b, self.s.b.types[y].shape))
        lead = left if not batch else [*batch, "".join(left)]
        # Without batch labels the left operand keeps its axes: matmul with a matrix takes any rank.
        x = self.arrange(x, a, lead + ["".join(contract)], sizes)
        y = self.arrange(y, b, [*batch, "".join(contract), "".join(right)], sizes)
        z = self.emit("matmul", [x, y])
        label = "".join(batch + left + right)
        return self.reshape(z, [sizes[c] for c in label]), label

    def outer(self, x: str, a: str, y: str, b: str) -> tuple[str, str]:
        """No contraction: broadcast and multiply."""
        label = a + "".join(c for c in b if c not in a)
        shapes = dict(zip(a, self.s.b.types[x].shape)), dict(zip(b, self.s.b.types[y].shape))
        order = [c for c in label if c in b]
        if order != list(b):
            y = self.emit("transpose", [y], {"perm": [b.index(c) for c in order]})
        x = self.reshape(x, [shapes[0].get(c, 1) for c in label])
        y = self.reshape(y, [shapes[1].get(c, 1) for c in label])
        return self.emit("mul", [x, y]), label

    def arrange(self, x: str, label: str, groups: list[str], sizes: dict[str, dim.Dim]) -> str:
        """Transpose and reshape so that each group of labels is one axis."""
        flat = "".join(groups)
        if flat != label:
            x = self.emit("transpose", [x], {"perm": [label.index(c) for c in flat]})
        return self.reshape(x, [dim.product(sizes[c] for c in g) for g in groups])

    def reshape(self, x: str, shape: list[dim.Dim]) -> str:
        if self.s.b.types[x].shape == tuple(shape):
            return x
        return self.emit("reshape", [x], {"shape": shape})
