"""The MindSpore frontend: an ``nn.Cell`` or a .mindir file to a source graph."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import CirError, Collector, error
from cir.dim import Dim
from cir.graph import Range, TensorType
from framework_adapter.mindspore import mindir, walk
from framework_adapter.mindspore.mindir import Abstract, MindIR
from framework_adapter.source import InputSpec, Ref, SourceGraph


class MindSporeFrontend:
    """MindSpore: cells, and .mindir files (read without MindSpore)."""

    name = "mindspore"

    def accepts(self, model: object) -> bool:
        """True for an ``nn.Cell`` and for a path that ends in .mindir."""
        if isinstance(model, (str, Path)):
            return Path(model).suffix == ".mindir"
        return any(
            c.__name__ == "Cell" and c.__module__.startswith("mindspore.")
            for c in type(model).__mro__
        )

    def extract(
        self,
        model: Any,
        inputs: Sequence[InputSpec] | None,
        *,
        outputs: Sequence[str] | None = None,
    ) -> SourceGraph:
        """The model's graph.

        Args:
            model: a cell in inference mode, or the path of a .mindir file.
            inputs: required for a cell. For a file they name its dynamic dims and are checked; without
                them dynamic dims are called d0, d1, ...
            outputs: names among ``output_names`` to keep, in this order.

        Raises:
            CirError: E101 missing file; E102 training mode; E103 wrong inputs; E105 MindSpore cannot
                export the cell, or the file is unreadable; E201 control flow that has no counterpart.
        """
        if isinstance(model, (str, Path)):
            ir = mindir.read(model)
            names: list[str] = []
        else:
            names = _argument_names(model)
            inputs = _ordered(inputs, names)
            ir = _exported(model, inputs)
        if ir.graphs[ir.main].flags.get("training"):
            raise _training(str(model) if isinstance(model, (str, Path)) else type(model).__name__)
        return _graph(ir, inputs, names, outputs)

    def run(self, model: Any, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """MindSpore's own results in inference mode, flattened depth first.

        Raises:
            CirError: E105 when MindSpore cannot run the model here (some ops have no CPU kernel).
        """
        ms = _mindspore()
        if isinstance(model, (str, Path)):
            model = ms.nn.GraphCell(ms.load(str(model)))
        training = model.training
        model.set_train(False)
        try:
            result = model(*[ms.Tensor(np.ascontiguousarray(f)) for f in feeds])
            return [_numpy(ms, v) for v in _flatten(result)]
        except Exception as exc:
            raise error(
                "E105",
                "MindSpore cannot run this model here",
                where=type(model).__name__,
                why=_first_line(exc),
                fix="run it where MindSpore has kernels for all its ops, or convert without validation",
            ) from exc
        finally:
            model.set_train(training)


# -- cells -------------------------------------------------------------------------------------------
def _mindspore() -> Any:
    from framework_adapter.registry import require

    return require("mindspore", "mindspore")


def _argument_names(cell: Any) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(cell.construct).parameters.values()
    return [p.name for p in parameters if p.kind in kinds]


def _ordered(inputs: Sequence[InputSpec] | None, names: Sequence[str]) -> list[InputSpec]:
    """Specs in the order of the arguments. Raises CirError E103."""
    if not inputs:
        raise error(
            "E103",
            "a MindSpore cell needs example inputs or InputSpecs",
            fix="pass inputs=(tensor, ...) or inputs={'x': InputSpec(None, 'float32', ('batch', 3))}",
        )
    named = {s.name: s for s in inputs if s.name is not None}
    if not named.keys() & set(names):
        return list(inputs)
    unknown = sorted(n for n in named if n not in names)
    if unknown or len(named) != len(inputs):
        what = f"the cell has no input {unknown[0]!r}" if unknown else "an input has no name"
        raise error("E103", what, nearest=", ".join(names), fix="name each input, or none")
    return [named[n] for n in names if n in named]


def _exported(cell: Any, inputs: Sequence[InputSpec]) -> MindIR:
    """Export a cell into a temporary folder and read the result."""
    ms = _mindspore()
    if cell.training:
        raise _training(type(cell).__name__)
    args = []
    for spec in inputs:
        dtype = getattr(ms, "bool_" if spec.dtype == "bool" else spec.dtype, None)
        if dtype is None:
            raise error("E103", f"MindSpore has no dtype {spec.dtype}", where=spec.name or "")
        if all(isinstance(d, int) for d in spec.shape):
            args.append(ms.Tensor(np.zeros(spec.shape, np.float32), dtype))
        else:
            shape = [None if isinstance(d, str) else d for d in spec.shape]
            args.append(ms.Tensor(shape=shape, dtype=dtype))
    with tempfile.TemporaryDirectory(prefix="mindir") as folder, _same_context(ms):
        try:
            ms.export(cell, *args, file_name=f"{folder}/model", file_format="MINDIR")
        except Exception as exc:
            raise error(
                "E105",
                "MindSpore could not export the cell",
                where=type(cell).__name__,
                why=_first_line(exc),
                fix="check that cell(*inputs) runs and that its class is in a file (not typed in a prompt)",
            ) from exc
        files = sorted(Path(folder).glob("*.mindir"))
        return mindir.read(files[0], keep=False)


@contextlib.contextmanager
def _same_context(ms: Any) -> Iterator[None]:
    """Put back the setting that an export changes, also when it fails."""
    before = ms.context.get_context("jit_syntax_level")
    try:
        yield
    finally:
        ms.context.set_context(jit_syntax_level=before)


def _training(where: str) -> CirError:
    return error(
        "E102",
        "the model is in training mode",
        where=where,
        why="batch norm and dropout would be exported in their training form",
        fix="call net.set_train(False) before converting or exporting",
    )


def _flatten(x: Any) -> list[Any]:
    if isinstance(x, dict):
        x = list(x.values())
    return [v for i in x for v in _flatten(i)] if isinstance(x, (tuple, list)) else [x]


def _numpy(ms: Any, v: Any) -> np.ndarray:
    if not isinstance(v, ms.Tensor):
        return np.asarray(v, np.float32 if isinstance(v, float) else None)
    if v.dtype == ms.bfloat16:
        return np.asarray(v.float().asnumpy().astype(dt.to_numpy("bfloat16")))
    return np.asarray(v.asnumpy())


def _first_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip(" -")]
    return f"{type(exc).__name__}: {lines[0][:300]}" if lines else type(exc).__name__


# -- files -------------------------------------------------------------------------------------------
def _graph(
    ir: MindIR,
    specs: Sequence[InputSpec] | None,
    names: Sequence[str],
    outputs: Sequence[str] | None,
) -> SourceGraph:
    entry = ir.graphs[ir.main]
    found = Collector()
    leaves, feeds = _entry_inputs(entry.inputs)
    types, notes = _input_types(leaves, list(specs) if specs is not None else None, names)
    graph, result = walk.source_graph(ir, types, feeds, found)
    found.raise_errors()
    count = len(graph.outputs)
    output_names = ("output",) if count == 1 else tuple(f"output_{i}" for i in range(count))
    if outputs is not None:
        graph, output_names = _chosen(graph, output_names, outputs)
    symbols = {d: Range(min=1) for t in types.values() for d in t.shape if isinstance(d, str)}
    return replace(
        graph, output_names=output_names, symbols=symbols, notes=(*notes, *graph.notes)
    )


def _entry_inputs(
    inputs: Sequence[tuple[str, Any]],
) -> tuple[dict[str, Abstract], list[Any]]:
    """(name -> kind of each tensor, operand for each parameter); tuples of tensors are taken apart."""
    leaves: dict[str, Abstract] = {}

    def take(name: str, kind: Any) -> Any:
        if isinstance(kind, tuple):
            return tuple(take(f"{name}.{i}", k) for i, k in enumerate(kind))
        if kind is None:
            raise error("E105", f"input {name!r} is not a tensor", fix="pass tensors as inputs")
        leaves[name] = kind
        return Ref(name)

    return leaves, [take(n.rpartition(":")[2].lstrip("ф"), k) for n, k in inputs]


def _input_types(
    leaves: Mapping[str, Abstract], specs: list[InputSpec] | None, names: Sequence[str]
) -> tuple[dict[str, TensorType], list[str]]:
    """Types of the graph's inputs, with the user's symbols, and notes. Raises CirError E103."""
    found, notes = Collector(), []
    by_name = {s.name: s for s in specs or () if s.name in leaves}
    if specs is not None and not by_name:
        by_name = dict(zip(names, specs)) if names else dict(zip(leaves, specs))
    wanted = list(by_name)
    types: dict[str, TensorType] = {}
    fresh = 0
    for name, kind in leaves.items():
        spec = by_name.get(name)
        if specs is not None and spec is None:
            found.add("E103", f"no example for input {name!r}", nearest=", ".join(leaves))
        shape: list[Dim] = []
        for axis, d in enumerate(kind.dims):
            given = spec.shape[axis] if spec and axis < len(spec.shape) else None
            if d >= 0 and given not in (None, d):
                what = f"input {name!r}: axis {axis} is {d} in the file, {given!r} is asked for"
                fix = "export the model with Tensor(shape=[None, ...]) for axes that may vary"
                found.add("E103", what, fix=fix)
            if d < 0 and given is None:
                given, fresh = f"d{fresh}", fresh + 1
            shape.append(d if d >= 0 or given is None else given)
        if spec and (len(spec.shape) != len(shape) or spec.dtype != kind.dtype):
            have = f"{spec.dtype}{list(spec.shape)}"
            what = f"input {name!r} is {kind.dtype}[{', '.join(map(str, shape))}], not {have}"
            found.add("E103", what, fix="pass an input of this type")
        types[name] = TensorType(kind.dtype, tuple(shape))
    for name in wanted:
        if name not in types:
            spec = by_name[name]
            types[name] = TensorType(spec.dtype, spec.shape)
            notes.append(f"input {name!r} has no influence on the result: the export folded it away")
    found.raise_errors()
    order = [n for n in wanted if n in types] or list(types)
    return {n: types[n] for n in (*order, *(t for t in types if t not in order))}, notes


def _chosen(
    graph: SourceGraph, names: Sequence[str], wanted: Sequence[str]
) -> tuple[SourceGraph, tuple[str, ...]]:
    missing = [n for n in wanted if n not in names]
    if missing:
        raise error("E103", f"the model has no output {missing[0]!r}", nearest=", ".join(names))
    picked = tuple(graph.outputs[list(names).index(n)] for n in wanted)
    return replace(graph, outputs=picked), tuple(wanted)
