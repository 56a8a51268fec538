"""Builder: emit nodes with inference, naming and known values; the one way to make a graph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cir import dtype as dt
from cir import spec
from cir.diagnostics import error
from cir.dim import Dim, SymInt, canonical
from cir.graph import NO_META, Const, Graph, Meta, Node, TensorType

#: Ops whose reference also computes on SymInt objects: shape arithmetic stays known while building.
_SHAPE_OPS = frozenset(
    (
        "reshape",
        "transpose",
        "gather",
        "slice",
        "concat",
        "split",
        "add",
        "sub",
        "mul",
        "floordiv",
        "mod",
        "neg",
        "cast",
        "prod",
        "sum",
        "maximum",
        "minimum",
        "expand",
        "tile",
        "where",
        "equal",
        "less",
        "greater",
        "identity",
        "abs",
        "amax",
        "amin",
        "arange",
        "clip",
    )
)
#: Above this many elements a value is data, not shape arithmetic.
_KNOWN_LIMIT = 64


def sanitize(name: str) -> str:
    """A value name of letters, digits and ``_ . /`` derived from any text."""
    out = re.sub(r"[^A-Za-z0-9_./]+", "_", name).strip("_./") or "v"
    return out if out[0].isalpha() or out[0] == "_" else f"v{out}"


class Builder:
    """Emits nodes of one graph.

    Names are unique within a builder and its regions' builders (``region``); a wanted name that is
    taken gets the first free suffix ``_1``, ``_2``, ... so equal calls give equal names.
    """

    def __init__(self, name: str = "main", *, parent: Builder | None = None) -> None:
        self.name = name
        self.inputs: list[str] = []
        self.nodes: list[Node] = []
        self.types: dict[str, TensorType] = {}
        self.consts: dict[str, Const] = {}
        self.meta: Meta = NO_META
        self._known: dict[str, np.ndarray | None] = {}
        self._names: dict[str, int] = parent._names if parent else {}
        self._fresh: list[int] = parent._fresh if parent else [0]
        self._symbols: set[str] = parent._symbols if parent else set()
        self._scalars: dict[tuple[str, str], str] = {}

    # -- names and symbols -------------------------------------------------------------------------
    def unique(self, wanted: str) -> str:
        """Reserve and return a free name close to the wanted one."""
        base = sanitize(wanted)
        if base not in self._names:
            self._names[base] = 0
            return base
        while True:
            self._names[base] += 1
            name = f"{base}_{self._names[base]}"
            if name not in self._names:
                self._names[name] = 0
                return name

    def release(self, names: Iterable[str]) -> None:
        """Free the names of values that are about to be replaced, so new nodes may take them."""
        for name in names:
            self._names.pop(name, None)
            self._known.pop(name, None)

    def fresh(self) -> str:
        """A new symbol ``u0, u1, ...`` for a data-dependent dim."""
        while True:
            name = f"u{self._fresh[0]}"
            self._fresh[0] += 1
            if name not in self._symbols:
                self._symbols.add(name)
                return name

    def region(self, name: str) -> Builder:
        """A builder for a region of a node of this graph; shares names and symbols."""
        return Builder(name, parent=self)

    # -- values ------------------------------------------------------------------------------------
    def input(self, name: str, dtype: dt.DType, shape: Sequence[Dim]) -> str:
        """Add a graph input and return its name."""
        name = self.unique(name)
        self.inputs.append(name)
        self.types[name] = TensorType(dtype, tuple(canonical(d) for d in shape))
        for d in self.types[name].shape:
            if isinstance(d, str):
                self._symbols.add(d)
        return name

    def const(self, value: Any, name: str | None = None, dtype: dt.DType | None = None) -> str:
        """Add a constant (array, number, Const), return its name; unnamed scalars are shared."""
        c = value if isinstance(value, Const) else Const.of(_as_array(value, dtype), dtype)
        if name is None and c.size == 1:
            key = (str(c.type), c.numpy().tobytes().hex())
            if key not in self._scalars:
                self._scalars[key] = self._add_const(c, "c")
            return self._scalars[key]
        return self._add_const(c, name or "c")

    def _add_const(self, c: Const, name: str) -> str:
        name = self.unique(name)
        self.consts[name] = c
        self.types[name] = c.type
        return name

    def type(self, name: str) -> TensorType:
        """Type of a value."""
        return self.types[name]

    def shape(self, name: str) -> tuple[Dim, ...]:
        """Shape of a value."""
        return self.types[name].shape

    def value(self, name: str | None) -> np.ndarray | None:
        """Known value of a small tensor: a constant's, or SymInt objects from shape arithmetic."""
        if name is None:
            return None
        c = self.consts.get(name)
        if c is not None:
            return c.numpy() if c.size <= _KNOWN_LIMIT else None
        return self._known.get(name)

    def dims(self, name: str) -> tuple[Dim, ...] | None:
        """Known value of an integer tensor as dims, flattened; None when it is data-dependent."""
        v = self.value(name)
        if v is None:
            return None
        return tuple(x.dim if isinstance(x, SymInt) else int(x) for x in v.reshape(-1).tolist())

    # -- nodes -------------------------------------------------------------------------------------
    def emit(
        self,
        op: str,
        inputs: Sequence[str | None],
        attrs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        names: Sequence[str] | None = None,
        regions: Sequence[Graph] = (),
        meta: Meta | None = None,
    ) -> tuple[str, ...]:
        """Emit one node; returns its output names.

        Args:
            op: an op of the registry.
            inputs: value names, None for an absent optional input (trailing ones are dropped).
            attrs: attributes; defaults are filled and values made canonical.
            name: wanted name of the first output (default: the op's name).
            names: wanted names of all outputs, instead of ``name``.
            regions: regions, in the spec's order.
            meta: provenance (default: the builder's current ``meta``).

        Raises:
            CirError: E304 when inputs or attributes do not fit the op.
        """
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        try:
            node_attrs, types, known = self._infer(op, tuple(given), attrs or {}, regions)
        except spec.InferError as exc:
            shown = ", ".join("None" if i is None else f"{i}: {self.types.get(i)}" for i in given)
            raise error(
                "E304", f"{op}: {exc}", where=name or op, why=f"inputs: {shown or 'none'}"
            ) from exc
        wanted = list(names) if names else [name or op] * len(types)
        if not names and len(types) > 1:
            wanted = [f"{name or op}.{i}" for i in range(len(types))]
        if len(wanted) != len(types):
            raise error("E304", f"{op} gives {len(types)} results, not {len(wanted)}", where=op)
        outs = tuple(self.unique(w) for w in wanted)
        for out, t in zip(outs, types):
            self.types[out] = t
        if known is not None:
            for out, value in zip(outs, known):
                self._known[out] = value
        self.nodes.append(
            Node(op, tuple(given), outs, node_attrs, tuple(regions), meta or self.meta)
        )
        return outs

    def add_node(self, node: Node, types: Sequence[TensorType]) -> None:
        """Append a finished node whose inputs are already values here; its names must be free."""
        for out, t in zip(node.outputs, types):
            self._names.setdefault(out, 0)
            self.types[out] = t
        self.nodes.append(node)

    def _infer(
        self,
        op: str,
        inputs: tuple[str | None, ...],
        attrs: Mapping[str, Any],
        regions: Sequence[Graph],
    ) -> tuple[dict[str, Any], list[TensorType], list[np.ndarray | None] | None]:
        ctx = _Context(self, inputs, regions)
        types = [None if i is None else self.types[i] for i in inputs]
        node_attrs, out = infer(op, types, attrs, ctx)
        return node_attrs, out, self._shape_value(op, inputs, types, node_attrs, out)

    def _shape_value(
        self,
        op: str,
        inputs: Sequence[str | None],
        types: Sequence[TensorType | None],
        attrs: Mapping[str, Any],
        out: Sequence[TensorType],
    ) -> list[np.ndarray | None] | None:
        if op == "shape":
            t = types[0]
            assert t is not None
            return [_dims_array(t.shape)]
        if op not in _SHAPE_OPS or not inputs:
            return None
        values = [self.value(i) for i in inputs]
        if any(v is None or v.dtype.kind == "f" for v in values):
            return None
        if any(not _small(t) for t in out):
            return None
        try:
            result = spec.get(op).reference(*values, **attrs)
        except (TypeError, ValueError, ArithmeticError, IndexError):
            return None
        if not isinstance(result, (tuple, list)):
            result = [result]
        return [np.asarray(r) for r in result]

    def finish(self, outputs: Iterable[str]) -> Graph:
        """The graph with these outputs."""
        return Graph(
            self.name,
            tuple(self.inputs),
            tuple(outputs),
            tuple(self.nodes),
            self.types,
            self.consts,
        )

    @classmethod
    def resume(cls, graph: Graph, parent: Builder | None = None) -> Builder:
        """A builder with a graph's inputs, constants, types and names, but none of its nodes.

        That of a region shares names and symbols with the ``parent``, which resumed the graph that
        the region is in.
        """
        b = cls(graph.name, parent=parent)
        b.inputs = list(graph.inputs)
        b.types = dict(graph.types)
        b.consts = dict(graph.consts)
        if parent is None:
            b._names = dict.fromkeys(graph.types, 0)
            for region in graph.regions():
                b._names.update(dict.fromkeys(region.types, 0))
            b._symbols = set(graph.symbols())
        return b


def infer(
    op: str,
    types: Sequence[TensorType | None],
    attrs: Mapping[str, Any],
    ctx: spec.InferContext,
) -> tuple[dict[str, Any], list[TensorType]]:
    """Canonical attributes and output types of one op application.

    Raises spec.InferError when the op does not exist or does not take these inputs.
    """
    s = spec.find(op)
    if s is None:
        import difflib

        near = difflib.get_close_matches(op, spec.all_ops(), 1)
        raise spec.InferError(f"unknown op{f'; nearest: {near[0]}' if near else ''}")
    if not s.arity(len(types)):
        raise spec.InferError(f"takes ({s.signature}), got {len(types)} inputs")
    for i, t in enumerate(types):
        p = s.param(i)
        if t is None:
            if not p.optional:
                raise spec.InferError(f"input {p.name!r} must not be absent")
            continue
        cls = s.domain.get(p.name, "any")
        if cls != "any" and t.dtype not in dt.CLASSES.get(cls, (cls,)):
            raise spec.InferError(f"input {p.name!r} must be {cls}, is {t}")
    rank = types[0].rank if types and types[0] is not None else 0
    canonical_attrs = s.canonical_attrs(attrs, rank)
    return canonical_attrs, s.infer(types, canonical_attrs, ctx)


class _Context:
    """InferContext of one emit call."""

    def __init__(
        self, builder: Builder, inputs: Sequence[str | None], regions: Sequence[Graph]
    ) -> None:
        self._builder = builder
        self._inputs = inputs
        self.regions = regions

    def fresh(self) -> str:
        return self._builder.fresh()

    def value(self, index: int) -> np.ndarray | None:
        return self._builder.value(self._inputs[index]) if index < len(self._inputs) else None


def _as_array(value: Any, dtype: dt.DType | None) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    if dtype is None:  # Python numbers: the IR's defaults are float32 and int64
        probe = np.asarray(value)
        dtype = {"f": "float32", "i": "int64", "b": "bool"}.get(probe.dtype.kind)
    return np.asarray(value, dtype=dt.to_numpy(dtype) if dtype else None)


def _dims_array(shape: Sequence[Dim]) -> np.ndarray:
    if all(type(d) is int for d in shape):
        return np.array(shape, dtype=np.int64)
    out = np.empty(len(shape), dtype=object)
    out[:] = [SymInt(d) if isinstance(d, str) else int(d) for d in shape]
    return out


def _small(t: TensorType) -> bool:
    n = 1
    for d in t.shape:
        if not isinstance(d, int):
            return False
        n *= d
    return n <= _KNOWN_LIMIT
