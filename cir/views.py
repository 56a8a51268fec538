"""View algebra: any chain of reshape and transpose as one value, with a unique shortest spelling.

A view is described by atoms. Factor the axes of the base into the smallest sizes that the chain
ever separates (size-1 axes carry no data and are left out); then a view is a permutation of the
atoms plus the output shape. Atoms that travel together are merged, so equal views have equal
descriptions, however they were spelled: ``flatten(2).transpose(1, 2)`` of NCHW equals
``transpose(0, 2, 3, 1)`` then a reshape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cir import dim
from cir.dim import Dim

Shape = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A bijective rearrangement of a base tensor.

    Attributes:
        base: shape of the base.
        atoms: sizes (none is 1) in the base's order; their product is the base's size.
        order: for each position of the output, the index of its atom.
        shape: output shape.
    """

    base: Shape
    atoms: tuple[Dim, ...]
    order: tuple[int, ...]
    shape: Shape

    @classmethod
    def identity(cls, shape: Shape) -> View:
        """The view that changes nothing."""
        atoms = tuple(d for d in shape if d != 1)
        return cls(shape, atoms, tuple(range(len(atoms))), shape)

    @property
    def is_identity(self) -> bool:
        """True when base and output are the same tensor."""
        return self.base == self.shape and self.is_reshape

    @property
    def is_reshape(self) -> bool:
        """True when the order of elements is unchanged."""
        return all(i == a for i, a in enumerate(self.order))

    def transpose(self, perm: Sequence[int]) -> View:
        """This view followed by a transpose."""
        groups = self.groups()
        if groups is None:  # an output axis of size 0 or one that atoms do not line up with
            raise ValueError("view does not line up with its shape")
        order = tuple(a for p in perm for a in groups[p])
        return View(self.base, self.atoms, order, tuple(self.shape[p] for p in perm))

    def groups(self) -> list[tuple[int, ...]] | None:
        """Atoms of each output axis, in order; None when an axis is not a whole number of atoms."""
        return _group(self.shape, [(a, self.atoms[a]) for a in self.order])

    def base_groups(self) -> list[tuple[int, ...]] | None:
        """Atoms of each base axis."""
        return _group(self.base, list(enumerate(self.atoms)))

    @lru_cache(maxsize=4096)  # noqa: B019 (views are small values, met again and again)
    def reshape(self, shape: Shape) -> View | None:
        """This view followed by a reshape; None when sizes cannot be proven to line up."""
        parts: list[list[tuple[int, Dim]]] = [[] for _ in self.atoms]  # atom -> its pieces
        sequence: list[tuple[int, int]] = []
        pending: list[tuple[int, Dim]] = [(a, self.atoms[a]) for a in self.order]
        for want in shape:
            if want == 1:
                continue
            left: Dim = want
            while left != 1:
                if not pending:
                    return None
                atom, size = pending.pop(0)
                if dim.equal(size, left):
                    piece, left = size, 1
                elif _divides(size, left):
                    piece, left = size, dim.floordiv(left, size)
                elif _divides(left, size):
                    piece, left = left, 1
                    pending.insert(0, (atom, dim.floordiv(size, piece)))
                else:
                    return None
                sequence.append((atom, len(parts[atom])))
                parts[atom].append((atom, piece))
        if pending:
            return None
        index: dict[tuple[int, int], int] = {}
        atoms: list[Dim] = []
        for a, pieces in enumerate(parts):
            for k, (_, size) in enumerate(pieces):
                index[(a, k)] = len(atoms)
                atoms.append(size)
        return View(self.base, tuple(atoms), tuple(index[s] for s in sequence), shape)

    def then(self, other: View) -> View | None:
        """This view followed by another whose base is this one's output."""
        out: View | None = self
        for op, arg in other.spelling():
            assert out is not None
            out = out.reshape(arg) if op == "reshape" else out.transpose(arg)
            if out is None:
                return None
        return out

    def inverse(self) -> View | None:
        """The view from this one's output back to its base."""
        out: View | None = View.identity(self.shape)
        for op, arg in self._inverse_spelling():
            assert out is not None
            out = out.reshape(arg) if op == "reshape" else out.transpose(arg)
            if out is None:
                return None
        return out

    def _inverse_spelling(self) -> list[tuple[str, tuple[Any, ...]]]:
        shapes: list[Shape] = [self.base]
        steps = self.spelling()
        for op, arg in steps:
            last = shapes[-1]
            shapes.append(arg if op == "reshape" else tuple(last[int(p)] for p in arg))
        out: list[tuple[str, tuple[Any, ...]]] = []
        for (op, arg), before in reversed(list(zip(steps, shapes))):
            if op == "reshape":
                out.append(("reshape", before))
            else:
                out.append(("transpose", tuple(sorted(range(len(arg)), key=lambda i: int(arg[i])))))
        return out

    @lru_cache(maxsize=4096)  # noqa: B019
    def merged(self) -> View:
        """The same view with atoms that always travel together merged into one."""
        if not self.order:
            return self
        runs: list[list[int]] = []
        for a in self.order:
            if runs and a == runs[-1][-1] + 1:
                runs[-1].append(a)
            else:
                runs.append([a])
        if len(runs) == len(self.order):
            return self
        by_base = sorted(range(len(runs)), key=lambda r: runs[r][0])
        rank = {r: i for i, r in enumerate(by_base)}
        atoms = tuple(dim.product(self.atoms[a] for a in runs[r]) for r in by_base)
        return View(self.base, atoms, tuple(rank[r] for r in range(len(runs))), self.shape)

    @lru_cache(maxsize=4096)  # noqa: B019
    def spelling(self) -> list[tuple[str, tuple[Any, ...]]]:
        """The shortest chain: [], one reshape, one transpose, or reshape and transpose in any mix.

        Where several chains are equally short the one that reshapes first is taken, so that
        equal views are spelled equally.
        """
        v = self.merged()
        if v.is_reshape:
            return [] if v.base == v.shape else [("reshape", v.shape)]
        pure = _pure_transpose(self)
        if pure is not None:
            return [("transpose", pure)]
        first = _transpose_last(self)
        if first is not None:
            return [("reshape", first[0]), ("transpose", first[1])]
        last = _transpose_first(self)
        if last is not None:
            return [("transpose", last), ("reshape", self.shape)]
        return [
            ("reshape", v.atoms),
            ("transpose", v.order),
            ("reshape", v.shape),
        ]


def _divides(divisor: Dim, d: Dim) -> bool:
    return bool(dim.divides(divisor, d)) and divisor != 0


def _group(shape: Shape, atoms: list[tuple[int, Dim]]) -> list[tuple[int, ...]] | None:
    out: list[tuple[int, ...]] = []
    k = 0
    for want in shape:
        take: list[int] = []
        size: Dim = 1
        while size != want:
            if k >= len(atoms):
                return None
            take.append(atoms[k][0])
            size = dim.mul(size, atoms[k][1])
            k += 1
            if type(size) is int and type(want) is int and size > want:
                return None
        out.append(tuple(take))
    return out if k == len(atoms) else None


def _pure_transpose(v: View) -> tuple[int, ...] | None:
    """perm when the view is a transpose of whole base axes (size-1 axes pair up in order)."""
    if len(v.base) != len(v.shape):
        return None
    mine, theirs = v.base_groups(), v.groups()
    if mine is None or theirs is None:
        return None
    ones = [i for i, g in enumerate(mine) if not g]
    where = {g: i for i, g in enumerate(mine) if g}
    perm: list[int] = []
    for g in theirs:
        if g:
            if g not in where:
                return None
            perm.append(where[g])
        elif ones:
            perm.append(ones.pop(0))
        else:
            return None
    return tuple(perm) if len(perm) == len(mine) and not ones else None


def _transpose_last(v: View) -> tuple[Shape, tuple[int, ...]] | None:
    """(shape, perm) when one reshape and then one transpose give the view."""
    groups = v.groups()
    if groups is None:
        return None
    for g in groups:
        if any(b != a + 1 for a, b in zip(g, g[1:])):
            return None
    by_base = _sorted_axes(groups, {a: a for a in range(len(v.atoms))})
    shape = tuple(v.shape[i] for i in by_base)
    perm = tuple(by_base.index(i) for i in range(len(groups)))
    return shape, perm


def _transpose_first(v: View) -> tuple[int, ...] | None:
    """perm when a transpose of whole base axes and then one reshape give the view."""
    groups = v.base_groups()
    if groups is None:
        return None
    position = {a: i for i, a in enumerate(v.order)}
    for g in groups:
        if any(position[b] != position[a] + 1 for a, b in zip(g, g[1:])):
            return None
    return tuple(_sorted_axes(groups, position))


def _sorted_axes(groups: list[tuple[int, ...]], rank: dict[int, int]) -> list[int]:
    """Axes in the order of their first atom's rank.

    Size-1 axes are free to go anywhere: leading ones stay in front, others stay beside the axis on
    their right, those at the end beside the axis on their left.
    """
    data = [i for i, g in enumerate(groups) if g]
    if not data:
        return list(range(len(groups)))
    out: list[int] = list(range(data[0]))
    for i in sorted(data, key=lambda i: rank[groups[i][0]]):
        k = data.index(i)
        out += range(data[k - 1] + 1 if k else i, i + 1)
        if k == len(data) - 1:
            out += range(i + 1, len(groups))
    return out
