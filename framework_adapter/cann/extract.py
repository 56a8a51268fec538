"""AIR and OM files to a source graph. They are only read: nothing in them is executed.

Both hold a ``ge.proto.ModelDef``; an OM has the weights in a partition of its own, an AIR may have
them in files beside it. Compiled OMs are read as well where their graph still consists of plain
operators.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cir import dim as dm
from cir.diagnostics import CirError, error
from cir.dim import Dim
from cir.graph import Const, Range, TensorType
from framework_adapter.cann import container, modeldef, outline
from framework_adapter.cann.compressed import expanded
from framework_adapter.cann.proto import DTYPES, TYPE_NAMES, message, value_of
from framework_adapter.cann.weights import Weights
from framework_adapter.source import InputSpec, Ref, SourceGraph, SourceNode

_OUTPUT, _INPUTS, _CONSTS = "NetOutput", ("Data", "RefData"), ("Const", "Constant", "FileConstant")
#: Attributes that say nothing about what an operator computes.
_PRIVATE = ("_", "cir_")


def extract(
    model: str | Path,
    inputs: Sequence[InputSpec] | None = None,
    *,
    outputs: Sequence[str] | None = None,
) -> SourceGraph:
    """The graph of a file.

    Args:
        model: path of an ``.air`` or ``.om`` file.
        inputs: shapes to take instead of the file's, by name or in order.
        outputs: nodes (or ``node:index``) to compute instead of the model's outputs.

    Raises:
        CirError: E101 for a missing file; E103 for inputs or outputs that do not fit; E105 for a
            file that is broken, encrypted or of a kind that is not read; E901 without protobuf.
    """
    path = Path(model)
    if not path.is_file():
        kind = "is a folder, not a file" if path.is_dir() else "is not there"
        raise error("E101", f"{path.name} {kind}", where=str(path), fix="check the path")
    try:
        definition, weights = load(path)
        return _Reader(definition, weights).graph(inputs, outputs)
    except CirError:
        raise
    except OSError as exc:
        raise error("E101", f"cannot read {path.name}: {exc.strerror}", where=str(path),
                    fix="check the path and its permissions") from exc  # fmt: skip
    except Exception as exc:  # the fields of a message may hold anything at all
        raise error(
            "E105",
            f"{path.name} is malformed: {exc}",
            where=str(path),
            fix="export the model again",
        ) from exc


def load(path: Path) -> tuple[Any, Weights]:
    """(ModelDef, its weights) of a file; of several models in one file, the first.

    Raises:
        CirError: E105, E901.
    """
    with open(path, "rb") as f:
        head = f.read(4)
    if head == container.MAGIC or path.suffix == ".om":
        parts = {p.kind: p for p in container.read(path)[0]}
        if container.MODEL_DEF not in parts:
            raise _broken(f"{path.name} holds no graph", str(path))
        where = parts[container.MODEL_DEF]
        with open(path, "rb") as f:
            f.seek(where.offset)
            data = f.read(where.size)
        weights = Weights(path, parts.get(container.WEIGHTS))
    else:
        data, weights = path.read_bytes(), Weights(path, None)
    outline.check(data, path)
    model = message("ModelDef")()
    try:
        model.ParseFromString(data)
    except Exception as exc:  # protobuf's own exception types
        raise error(
            "E105", f"{path.name} holds no graph of GE: {exc}", where=str(path),
            fix="export the model again",
        ) from exc  # fmt: skip
    if not model.graph or not model.graph[0].op:
        raise _broken(f"{path.name} holds no graph of GE", str(path))
    return expanded(model), weights


def run_source(model: str | Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Results of a file read back, in order. Raises CirError."""
    from framework_adapter import readback

    return readback.run(model, feeds)


class _Reader:
    """Reads one model."""

    def __init__(self, model: Any, weights: Weights) -> None:
        self.model, self.weights = model, weights
        self.root = model.graph[0]
        self.consts: dict[str, Const] = {}
        self.inputs: dict[str, TensorType] = {}
        self.symbols: dict[str, Range] = {}

    def graph(
        self, specs: Sequence[InputSpec] | None, outputs: Sequence[str] | None
    ) -> SourceGraph:
        """The main graph."""
        self._check_names()
        self._inputs(list(specs or []))
        for op in self.root.op:
            if op.type in _CONSTS:
                self.consts[f"{op.name}:0"] = self.weights.constant(op)
        self._check_edges()
        nodes = tuple(self._ordered())
        results, names = self._outputs(outputs)
        notes = []
        attrs = self.model.attr
        if _marked(self.model):
            notes.append("the OM holds the graph only: it was not compiled")
        state = value_of(attrs[modeldef.STATE]) if modeldef.STATE in attrs else ()
        values = dict(zip(names, results))
        pairs = [
            (i, o) for i, o in zip(state[::2], state[1::2]) if i in self.inputs and o in values
        ]
        return SourceGraph(
            "cann",
            self.inputs,
            results,
            nodes,
            self.consts,
            names,
            symbols=self.symbols,
            state=tuple((i, values[o]) for i, o in pairs),
            notes=tuple(notes),
            versions={"ge_model": str(self.model.version)},
        )

    def _check_names(self) -> None:
        names = [op.name for op in self.root.op]
        if len(set(names)) != len(names):
            raise _broken("names of nodes occur twice")
        for op in self.root.op:
            if op.subgraph_name:
                raise error(
                    "E105",
                    f"node {op.name!r} ({op.type}) has subgraphs, which are not read",
                    fix="export the model without control flow",
                )

    def _check_edges(self) -> None:
        known = {f"{op.name}:{i}" for op in self.root.op for i in range(len(op.output_desc))}
        for op in self.root.op:
            for edge in op.input:
                if edge and not edge.endswith(":-1") and edge not in known:
                    what = f"node {op.name!r} ({op.type}) reads {edge!r}, which nothing computes"
                    raise _broken(what, op.name)

    # -- inputs ------------------------------------------------------------------------------------
    def _inputs(self, specs: list[InputSpec]) -> None:
        given = [op for op in self.root.op if op.type in _INPUTS]
        given.sort(key=lambda op: op.attr["index"].i if "index" in op.attr else 0)
        names = [op.name for op in given]
        by_name = {s.name: s for s in specs if s.name}
        if unknown := [n for n in by_name if n not in names]:
            what = f"the model has no input {unknown[0]!r}"
            raise error("E103", what, nearest=", ".join(names), fix="name one of these")
        if len(specs) > len(given):
            raise error(
                "E103",
                f"{len(specs)} inputs are given, the model has {len(given)}",
                nearest=", ".join(names),
                fix="give at most one for each of these",
            )
        labels = self._labels()
        for i, op in enumerate(given):
            unnamed = specs[i] if i < len(specs) and not specs[i].name else None
            spec = by_name.get(op.name) or unnamed
            self.inputs[op.name] = self._input(op, spec, labels.get(op.name))

    def _labels(self) -> dict[str, list[str]]:
        """Dims of inputs as our writer noted them, symbols by name."""
        attrs = self.model.attr
        if modeldef.INPUT_DIMS not in attrs:
            return {}
        rows = (str(line).rpartition(": ") for line in value_of(attrs[modeldef.INPUT_DIMS]))
        return {name: dims.split(" ") if dims else [] for name, _, dims in rows}

    def _input(self, op: Any, spec: InputSpec | None, labels: list[str] | None) -> TensorType:
        if len(op.input_desc) + len(op.output_desc) < 1:
            raise _broken(f"input {op.name!r} has no descriptor", op.name)
        desc = (op.output_desc or op.input_desc)[0]
        dtype = _dtype(desc, op.name)
        if spec is not None:
            if spec.dtype != dtype:
                raise error(
                    "E103",
                    f"input {op.name!r} is {dtype} in the model, not {spec.dtype}",
                    fix=f"pass {dtype}",
                )
            return TensorType(dtype, spec.shape)
        dims = list(desc.shape.dim)
        if -2 in dims:
            raise error(
                "E103",
                f"input {op.name!r} has no shape in the model",
                fix="pass inputs= with an InputSpec for it",
            )
        ranges = value_of(desc.attr["shape_range"]) if "shape_range" in desc.attr else ()
        labels = labels if labels is not None and len(labels) == len(dims) else [""] * len(dims)
        shape: list[Dim] = []
        for i, (n, label) in enumerate(zip(dims, labels)):
            if n >= 0:
                shape.append(int(n))
                continue
            shape.append(_symbol(label, f"{op.name}_{i}"))
            if i < len(ranges) and len(ranges[i]) == 2 and str(shape[-1]).isidentifier():
                low, high = ranges[i]
                self.symbols[str(shape[-1])] = Range(max(low, 0), None if high < 0 else high)
        return TensorType(dtype, tuple(shape))

    # -- nodes -------------------------------------------------------------------------------------
    def _ordered(self) -> Iterator[SourceNode]:
        """Operators, each after those it reads: a file may list them in any order."""
        ops = {op.name: op for op in self.root.op if op.type not in (*_INPUTS, *_CONSTS, _OUTPUT)}
        waiting = {
            name: {p for p in map(_producer, op.input) if p in ops} for name, op in ops.items()
        }
        users: dict[str, list[str]] = {}
        for name, producers in waiting.items():
            for p in producers:
                users.setdefault(p, []).append(name)
        ready = [name for name, producers in waiting.items() if not producers]
        done = 0
        for name in ready:
            done += 1
            yield self._node(ops[name])
            for user in users.get(name, ()):
                waiting[user].discard(name)
                if not waiting[user]:
                    ready.append(user)
        if done != len(ops):
            raise _broken("the nodes read each other in a circle")

    def _node(self, op: Any) -> SourceNode:
        count = len(op.output_desc)
        outputs = tuple(f"{op.name}:{i}" for i in range(count))
        attrs = {k: self._attribute(k, v) for k, v in op.attr.items() if not k.startswith(_PRIVATE)}
        slots = [i for i in op.input if not i.endswith(":-1")]
        return SourceNode(
            op.type, tuple(self._operand(i) for i in slots), attrs, outputs, (), op.name
        )

    @staticmethod
    def _attribute(name: str, attr: Any) -> Any:
        value = value_of(attr)
        typed = name in modeldef.TYPE_ATTRS and isinstance(value, int)
        return TYPE_NAMES.get(value, f"type {value}") if typed else value

    def _operand(self, text: str) -> Ref | None:
        if not text:
            return None
        name = _producer(text)
        return Ref(name if name in self.inputs else text)

    # -- outputs -----------------------------------------------------------------------------------
    def _outputs(self, wanted: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        known = {f"{op.name}:{i}" for op in self.root.op for i in range(len(op.output_desc))}
        if wanted:
            edges = [w if w in known else f"{w}:0" for w in wanted]
            if missing := [w for w, e in zip(wanted, edges) if e not in known]:
                near = ", ".join(sorted(known)[:5])
                what = f"output {missing[0]!r} is no value of the model"
                raise error("E103", what, nearest=near, fix="name a node, or NODE:INDEX")
            return self._values(edges), tuple(wanted)
        sinks = [op for op in self.root.op if op.type == _OUTPUT]
        listed = sinks[0].input if sinks else self.root.output
        edges = [e for e in listed if not e.endswith(":-1")]
        if not edges or (bad := [e for e in edges if e not in known]):
            what = f"output {bad[0]!r} is no value of it" if edges else "there are no outputs"
            raise _broken(what)
        return self._values(edges), self._output_names(edges)

    def _values(self, edges: Sequence[str]) -> tuple[str, ...]:
        return tuple(_producer(e) if _producer(e) in self.inputs else e for e in edges)

    def _output_names(self, edges: Sequence[str]) -> tuple[str, ...]:
        """Names of the outputs as the model notes them: ``node:index:name``."""
        attrs = self.model.attr
        noted = value_of(attrs[modeldef.OUTPUT_NAMES]) if modeldef.OUTPUT_NAMES in attrs else ()
        names = []
        for i, edge in enumerate(edges):
            text = str(noted[i]) if i < len(noted) else ""
            own = text[len(edge) + 1 :] if text.startswith(f"{edge}:") else ""
            names.append(own or (edge[:-2] if edge.endswith(":0") else edge))
        return tuple(names)


def is_graph_only(path: Path) -> bool:
    """Whether a file is an OM that holds its graph and nothing compiled."""
    try:
        return _marked(load(path)[0])
    except CirError:
        return False


def _marked(model: Any) -> bool:
    return modeldef.MARK in model.attr and model.attr[modeldef.MARK].b


def _broken(what: str, where: str = "") -> CirError:
    return error("E105", what, where=where, fix="export the model again")


def _producer(edge: str) -> str:
    return edge.rpartition(":")[0]


def _dtype(desc: Any, name: str) -> str:
    found = DTYPES.get(desc.dtype)
    if found is None:
        raise _broken(f"{name!r} has data type {desc.dtype}, which is not supported", name)
    return found


def _symbol(label: str, default: str) -> Dim:
    try:
        found = dm.canonical(label)
        if isinstance(found, str):
            return found
    except dm.DimError:
        pass
    plain = re.sub(r"\W+", "_", default).strip("_")
    return plain if plain[:1].isalpha() else f"d_{plain}"
