"""The IR: frozen SSA graphs. A value is its name; a node's identity is its first output's name.

Nothing here is mutated after construction. A pass builds a new Graph; producer and user maps are
computed once per graph and kept beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.dim import Dim, symbols_of

Attr = bool | int | float | str | tuple["Attr", ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element dtype and shape; the rank is always known, a dim may be symbolic."""

    dtype: dt.DType
    shape: tuple[Dim, ...]

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def is_static(self) -> bool:
        """True when no dim is symbolic."""
        return all(type(d) is int for d in self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a node comes from: the framework's op, the module path, and file:line (or "")."""

    op: str
    module: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Meta:
    """Provenance: the source nodes a node stands for and the strategies that made it."""

    src: tuple[Source, ...] = ()
    by: tuple[str, ...] = ()

    def merge(self, other: Meta, by: str = "") -> Meta:
        """Union of both, in order, with one more strategy id appended."""
        src = tuple(dict.fromkeys((*self.src, *other.src)))
        ids = tuple(dict.fromkeys((*self.by, *other.by, *((by,) if by else ()))))
        return Meta(src, ids)


NO_META = Meta()


@dataclass(frozen=True, eq=False)
class Const:
    """A constant tensor: its type and its data, in memory or mapped from a file on first use."""

    type: TensorType
    array: np.ndarray | None = None
    path: Path | None = None
    offset: int = 0

    @classmethod
    def of(cls, value: Any, dtype: dt.DType | None = None) -> Const:
        """A constant from anything NumPy takes; dtype defaults to the array's own."""
        arr = np.asarray(value)
        if dtype is not None and arr.dtype != dt.to_numpy(dtype):
            arr = arr.astype(dt.to_numpy(dtype))
        arr = np.ascontiguousarray(arr).reshape(arr.shape)
        return cls(TensorType(dt.from_numpy(arr.dtype), tuple(int(d) for d in arr.shape)), arr)

    def numpy(self) -> np.ndarray:
        """The data as a read-only array of the constant's dtype and shape."""
        return self._data

    @cached_property
    def _data(self) -> np.ndarray:
        if self.array is not None:
            out = self.array.view()
        else:
            from cir.weights import read_blob

            assert self.path is not None
            out = read_blob(self.path, self.offset, self.type)
        out.flags.writeable = False
        return out

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over dtype, shape and little-endian bytes: the key of the weights file."""
        from cir.weights import blob_digest

        return blob_digest(self)

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for d in self.type.shape:
            n *= int(d)
        return n

    @property
    def is_scalar(self) -> bool:
        """True for one element, whatever the rank."""
        return self.size == 1


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One op application. ``inputs`` holds value names, None for an absent optional input."""

    op: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    regions: tuple[Graph, ...] = ()
    meta: Meta = NO_META

    @property
    def name(self) -> str:
        """The node's identity: its first output."""
        return self.outputs[0]

    def with_(self, **changes: Any) -> Node:
        """A copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, eq=False)
class Graph:
    """A region: inputs, nodes in topological order, outputs.

    ``types`` has an entry for each input, constant and node output; ``consts`` maps constant names
    to data. Names are unique across a graph and its regions. Regions are isolated: a region sees
    its own inputs and its own constants only.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    consts: Mapping[str, Const] = field(default_factory=dict)

    def with_(self, **changes: Any) -> Graph:
        """A copy with some fields changed."""
        return replace(self, **changes)

    @cached_property
    def producers(self) -> dict[str, Node]:
        """Value name -> the node that computes it (inputs and constants have none)."""
        return {out: node for node in self.nodes for out in node.outputs}

    @cached_property
    def users(self) -> dict[str, list[Node]]:
        """Value name -> the nodes that read it, one entry per read, in graph order."""
        out: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name is not None:
                    out.setdefault(name, []).append(node)
        return out

    def use_count(self, name: str) -> int:
        """Reads of a value, graph outputs included."""
        return len(self.users.get(name, ())) + self.outputs.count(name)

    def walk(self) -> Iterator[tuple[Graph, Node]]:
        """Every node with its graph, regions included, in order."""
        for node in self.nodes:
            yield self, node
            for region in node.regions:
                yield from region.walk()

    def regions(self) -> Iterator[Graph]:
        """Every region below this graph, nested ones included."""
        for node in self.nodes:
            for region in node.regions:
                yield region
                yield from region.regions()

    def symbols(self) -> frozenset[str]:
        """Dimension symbols that occur in any type."""
        found: set[str] = set()
        for t in self.types.values():
            for d in t.shape:
                if isinstance(d, str):
                    found |= symbols_of(d)
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Range:
    """What is known about a symbol: bounds (inclusive) and preferred sizes."""

    min: int = 0
    max: int | None = None
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Model:
    """A graph with what surrounds it: symbol ranges, state pairs (input name, output name),
    metadata.

    ``meta`` is a JSON-like mapping for provenance; it takes no part in any digest.
    """

    graph: Graph
    symbols: Mapping[str, Range] = field(default_factory=dict)
    state: tuple[tuple[str, str], ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def with_(self, **changes: Any) -> Model:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def with_graph(self, graph: Graph) -> Model:
        """A copy around another graph."""
        return replace(self, graph=graph)
