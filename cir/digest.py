"""Digests: whether two graphs are the same network, and whether two models are the same file.

Specification of the structure digest. Nodes are visited depth-first from the outputs in order,
operands of a commutative op in the order of their own structural hashes (equal hashes: source
order). Values are numbered at first visit, the inputs before all others. Hashed are: the types of
the inputs in order; for each visited node its op, attributes, operand numbers, operand and result
types, and regions; the numbers of the outputs. Names, provenance and unreachable nodes take no
part.

* A float attribute enters as its shortest float32 decimal, and so does a rank-0 constant, whose
  number stands for dtype and value.
* A constant of rank 1 and more enters as dtype and shape; the arrays, in the order of their
  numbers, are kept beside the digest for ``constants_match``. Its number stands for its *content*:
  weights are content-addressed, so two names with equal bytes are one value (a tied weight stored
  twice is still tied), and one weight used twice differs from two weights.
* Symbols are renamed in the order of their first occurrence.

The structural hash that orders operands covers the same facts bottom-up without numbers: equal
shapes of weights tie, and symbols that no input has are not told apart.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cir import dim as dims
from cir import spec
from cir.graph import Const, Graph, Model, Node, TensorType
from cir.values import float32_text, plain_elements

#: Leading elements that are compared before a constant is hashed in full.
_HEAD = 1024
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class StructureDigest:
    """Digest of a graph's structure, and its constants of rank 1 and more in visit order."""

    hex: str
    consts: tuple[np.ndarray, ...]


def structure_digest(model: Graph | Model) -> StructureDigest:
    """The structure digest of a verified graph; see the module docstring."""
    graph = model.graph if isinstance(model, Model) else model
    work = _Structure(graph)
    text = json.dumps(work.region(graph), separators=(",", ":"), sort_keys=True)
    return StructureDigest(
        hashlib.sha256(text.encode()).hexdigest(), tuple(c.numpy() for c in work.arrays)
    )


def constants_match(
    a: StructureDigest | Sequence[np.ndarray],
    b: StructureDigest | Sequence[np.ndarray],
    tol: float = 1e-6,
) -> bool:
    """Whether constants agree pairwise: max|a - b| <= tol * max|a|, integers and bools exactly.

    Two nan, and two equal infinities, agree.
    """
    xs = a.consts if isinstance(a, StructureDigest) else a
    ys = b.consts if isinstance(b, StructureDigest) else b
    return len(xs) == len(ys) and all(_close(x, y, tol) for x, y in zip(xs, ys))


def _close(x: np.ndarray, y: np.ndarray, tol: float) -> bool:
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    exact = "int" in x.dtype.name or x.dtype == bool
    wide = np.complex128 if x.dtype.kind == "c" else np.float64
    top = gap = 0.0
    x, y = x.reshape(-1), y.reshape(-1)
    for i in range(0, x.size, _CHUNK):
        p, q = x[i : i + _CHUNK], y[i : i + _CHUNK]
        if exact:
            if not np.array_equal(p, q):
                return False
            continue
        p, q = p.astype(wide), q.astype(wide)
        with np.errstate(invalid="ignore"):
            delta = np.where((p == q) | (np.isnan(p) & np.isnan(q)), 0, np.abs(p - q))
        if np.isnan(delta).any():
            return False
        gap = max(gap, float(delta.max(initial=0)))
        top = max(top, float(np.abs(p[np.isfinite(p)]).max(initial=0)))
    return gap <= tol * top


def content_digest(model: Model) -> str:
    """sha256 (hex) of the canonical JSON without provenance: names, order and weights all count."""
    from cir.serde import encode

    return hashlib.sha256(encode(model, meta=False).encode()).hexdigest()


class _Structure:
    """Numbers and hashes of one digest. Constants and symbols are numbered across regions."""

    def __init__(self, graph: Graph) -> None:
        self.arrays: list[Const] = []
        self._consts: dict[Any, int] = {}
        self._identity = _content_keys(graph)
        self._of_inputs = _input_symbols(graph)
        self._symbols = dict(self._of_inputs)
        self._dims: tuple[dict[str, dims.Dim], dict[str, dims.Dim]] = ({}, {})
        self._ops: dict[str, spec.OpSpec | None] = {}

    # -- types, attributes, constants --------------------------------------------------------------
    def dim(self, d: Any, numbered: bool) -> Any:
        """A dim in renamed symbols; in structural hashes those that no input has are all "u"."""
        if not isinstance(d, str):
            return d
        cache = self._dims[numbered]
        if d not in cache:
            found = _symbols_in(d)
            for name in found if numbered else ():
                self._symbols.setdefault(name, f"s{len(self._symbols)}")
            names = self._symbols if numbered else self._of_inputs
            cache[d] = dims.substitute(d, {name: names.get(name, "u") for name in found})
        return cache[d]

    def type(self, t: TensorType, numbered: bool = True) -> list[Any]:
        """A type as it is hashed."""
        return [t.dtype, *(self.dim(d, numbered) for d in t.shape)]

    def types(self, g: Graph, names: Sequence[str | None], numbered: bool = True) -> list[Any]:
        """Types of values as they are hashed."""
        return [None if n is None else self.type(g.types[n], numbered) for n in names]

    def attrs(self, node: Node, numbered: bool = True) -> dict[str, Any]:
        """Attributes of a node as they are hashed."""
        s = self.spec(node)
        kinds = {} if s is None else s.attr_map
        return {
            k: self._attr(v, k in kinds and kinds[k].kind in ("dim", "dims"), numbered)
            for k, v in node.attrs.items()
        }

    def _attr(self, v: Any, is_dim: bool, numbered: bool) -> Any:
        if isinstance(v, tuple):
            return [self._attr(x, is_dim, numbered) for x in v]
        if isinstance(v, float):
            return float32_text(v)
        return self.dim(v, numbered) if is_dim else v

    def spec(self, node: Node) -> spec.OpSpec | None:
        """The op's spec."""
        if node.op not in self._ops:
            self._ops[node.op] = spec.find(node.op)
        return self._ops[node.op]

    def constant(self, c: Const) -> str:
        """The number of a constant: its value when it is a scalar, else one per content."""
        if not c.type.shape:
            return _scalar(c)
        key = self._identity[id(c)]
        if key not in self._consts:
            self._consts[key] = len(self.arrays)
            self.arrays.append(c)
        return f"c{self._consts[key]}"

    # -- graphs ------------------------------------------------------------------------------------
    def region(self, g: Graph) -> Any:
        """The record of a graph: everything that is hashed, as JSON-like data."""
        inputs = self.types(g, g.inputs)
        numbers: dict[str, Any] = {name: i for i, name in enumerate(g.inputs)}
        hashes = self.hashes(g)
        records = []
        visited: list[tuple[Node, list[str | None]]] = []
        stack: list[str] = list(reversed(g.outputs))
        count = len(numbers)
        while stack:
            name = stack.pop()
            if name in numbers:
                continue
            if name in g.consts:
                numbers[name] = self.constant(g.consts[name])
                continue
            node = g.producers[name]
            for out in node.outputs:
                numbers[out] = count
                count += 1
            operands = self.ordered(node, list(node.inputs), hashes)
            visited.append((node, operands))
            stack.extend(n for n in reversed(operands) if n is not None)
        for node, operands in visited:
            records.append([
                node.op, self.attrs(node), [None if n is None else numbers[n] for n in operands],
                self.types(g, operands), numbers[node.name], self.types(g, node.outputs),
                [self.region(r) for r in node.regions],
            ])  # fmt: skip
        return [inputs, records, [numbers[o] for o in g.outputs]]

    def ordered(self, node: Node, operands: list[Any], hashes: Mapping[str, str]) -> list[Any]:
        """Operands in canonical order: the sort is stable, equal hashes keep the source's order."""
        s = self.spec(node)
        if s is None or not s.commutative:
            return operands
        return sorted(operands, key=lambda n: hashes[n])

    def hashes(self, g: Graph) -> dict[str, str]:
        """Structural hash of each value, bottom-up."""
        out: dict[str, str] = {}
        for i, name in enumerate(g.inputs):
            out[name] = f"{i}:{self.type(g.types[name], numbered=False)}"
        for name, c in g.consts.items():
            shown = self.type(c.type) if c.type.shape else _scalar(c)
            out[name] = f"c:{shown}"
        for node in g.nodes:
            operands = self.ordered(node, list(node.inputs), out)
            record = [
                node.op, self.attrs(node, numbered=False), [out.get(n) for n in operands],
                self.types(g, node.outputs, numbered=False),
                [self._shape_of(r) for r in node.regions],
            ]  # fmt: skip
            h = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
            for k, name in enumerate(node.outputs):
                out[name] = f"{h}.{k}"
        return out

    def _shape_of(self, region: Graph) -> list[str]:
        hashes = self.hashes(region)
        return [hashes[o] for o in region.outputs]


def _scalar(c: Const) -> str:
    value = plain_elements(c)
    shown = [float32_text(float(v)) if isinstance(v, (float, str)) else str(v) for v in value]
    return f"{c.type.dtype}={','.join(shown)}"


def _all_consts(g: Graph) -> Iterator[Const]:
    yield from g.consts.values()
    for _, node in g.walk():
        for region in node.regions:
            yield from region.consts.values()


def _content_keys(graph: Graph) -> dict[int, Any]:
    """Constant (by id) -> a key that equal content shares.

    Types and first bytes tell most constants apart; only those that they do not are hashed in full.
    """
    groups: dict[Any, list[Const]] = {}
    for c in _all_consts(graph):
        if c.type.shape:
            head = c.numpy().reshape(-1)[:_HEAD].tobytes()
            groups.setdefault((c.type.dtype, c.type.shape, head), []).append(c)
    return {
        id(c): key if len(members) == 1 else (key, c.digest)
        for key, members in groups.items()
        for c in members
    }


def _symbols_in(d: dims.Dim) -> list[str]:
    """Symbols of a dim in the order of its text."""
    if not isinstance(d, str):
        return []
    found = re.findall(r"[A-Za-z_]\w*", d)
    return [name for name in dict.fromkeys(found) if name not in ("min", "max")]


def _input_symbols(graph: Graph) -> dict[str, dims.Dim]:
    """Symbols of the inputs and their new names; dims that are one symbol are numbered first.

    Within an expression the order of symbols depends on their names, so plain dims decide.
    """
    all_dims = [d for name in graph.inputs for d in graph.types[name].shape]
    plain = [d for d in all_dims if isinstance(d, str) and d.isidentifier()]
    out: dict[str, dims.Dim] = {}
    for d in (*plain, *all_dims):
        for name in _symbols_in(d):
            out.setdefault(name, f"s{len(out)}")
    return out
