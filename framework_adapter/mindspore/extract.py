"""The MindSpore frontend: an ``nn.Cell`` or a .mindir file to a source graph."""

from __future__ import annotations

import contextlib
import inspect
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
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
        custom: Collection[str] = (),
    ) -> SourceGraph:
        """The model's graph.

        Args:
            model: a cell in inference mode, or the path of a .mindir file.
            inputs: required for a cell. For a file they name its dynamic dims and are checked;
                without them dynamic dims are called d0, d1, ...
            outputs: names among ``output_names`` to keep, in this order.
            custom: op ids that the user has rows for; nothing is decomposed here, so unused.

        Raises:
            CirError: E101 missing file; E102 training mode; E103 wrong inputs; E105 MindSpore
                cannot export the cell, or the file is unreadable; E201 control flow that has no
                counterpart.
        """
        if isinstance(model, (str, Path)):
            ir = mindir.read(model)
            arguments: list[str] = []
        else:
            arguments = _argument_names(model)
            inputs = _ordered(inputs, arguments)
            ir = _exported(model, inputs)
        if ir.graphs[ir.main].flags.get("training"):
            raise _training(str(model) if isinstance(model, (str, Path)) else type(model).__name__)
        return _graph(ir, inputs, arguments, outputs)

    def run(self, model: Any, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """MindSpore's own results in inference mode, flattened depth first.

        Raises:
            CirError: E105 when MindSpore cannot run the model here (some ops have no CPU kernel).
        """
        ms = _mindspore()
        if isinstance(model, (str, Path)):
            model = ms.nn.GraphCell(ms.load(str(model)))
        modes = [(cell, cell.training) for _, cell in model.cells_and_names()]
        if any(training for _, training in modes):
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
                fix="run it where MindSpore has kernels for its ops, or pass validate=False",
            ) from exc
        finally:
            for cell, training in modes:  # parents come before children
                if cell.training != training:
                    cell.set_train(training)


# -- cells -----------------------------------------------------------------------------------------
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
            fix="pass inputs=(tensor,) or inputs={'x': InputSpec(None, 'float32', ('n', 3))}",
        )
    named = {s.name: s for s in inputs if s.name in names}
    return [named[n] for n in names if n in named] if len(named) == len(inputs) else list(inputs)


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
        shape = [None if isinstance(d, str) else d for d in spec.shape]
        if None not in shape:
            args.append(ms.Tensor(np.zeros(shape, np.float32), dtype))  # type: ignore[arg-type]
        else:
            args.append(ms.Tensor(shape=shape, dtype=dtype))
    with tempfile.TemporaryDirectory(prefix="mindir") as folder, _undisturbed(ms, folder):
        try:
            ms.export(cell, *args, file_name=f"{folder}/model", file_format="MINDIR")
        except Exception as exc:
            raise error(
                "E105",
                "MindSpore could not export the cell",
                where=type(cell).__name__,
                why=_first_line(exc),
                fix="check that cell(*inputs) runs and that its class is defined in a file",
            ) from exc
        files = sorted(Path(folder).glob("*.mindir"))
        return mindir.read(files[0], keep=False)


@contextlib.contextmanager
def _undisturbed(ms: Any, folder: str) -> Iterator[None]:
    """Put back the setting that an export changes; keep a failed one's dump out of the way."""
    before = ms.context.get_context("jit_syntax_level")
    own = os.environ.get("MS_OM_PATH")
    os.environ["MS_OM_PATH"] = own or folder
    try:
        yield
    finally:
        ms.context.set_context(jit_syntax_level=before)
        if own is None:
            del os.environ["MS_OM_PATH"]


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
    lines = [line.strip() for line in str(exc).splitlines()]
    lines = [line for line in lines if line and not line.startswith("-")]
    return f"{type(exc).__name__}: {lines[0][:300]}" if lines else type(exc).__name__


# -- files -----------------------------------------------------------------------------------------
def _graph(
    ir: MindIR,
    specs: Sequence[InputSpec] | None,
    arguments: Sequence[str],
    outputs: Sequence[str] | None,
) -> SourceGraph:
    """The source graph of a file; ``arguments`` are the cell's, none for a file of the user's."""
    found = Collector()
    leaves, feeds = _entry_inputs(ir.graphs[ir.main].inputs)
    given = _by_name(specs, leaves, arguments)
    types = _input_types(leaves, given, specs is not None, found)
    found.raise_errors()
    try:
        graph, result = walk.source_graph(ir, types, feeds, found)
    except (LookupError, AttributeError, TypeError, RecursionError) as exc:
        why = f"{type(exc).__name__}: {exc}"
        raise error(
            "E105", "the model's graph contradicts itself", why=why, fix=mindir.FIX
        ) from exc
    found.raise_errors()
    names = _output_names(result)
    kept = [n for n in outputs if n in names] if outputs is not None else names
    if outputs is not None and len(kept) != len(outputs):
        missing = next(n for n in outputs if n not in names)
        raise error("E103", f"the model has no output {missing!r}", nearest=", ".join(names))
    return replace(
        graph,
        outputs=tuple(graph.outputs[names.index(n)] for n in kept),
        output_names=tuple(kept),
        symbols={d: Range(min=1) for t in types.values() for d in t.shape if isinstance(d, str)},
        notes=(
            *(
                f"input {n!r} has no influence on the result: the export folded it away"
                for n in types
                if n not in leaves
            ),
            *graph.notes,
        ),
    )


def _entry_inputs(
    inputs: Sequence[tuple[str, Any]],
) -> tuple[dict[str, Abstract], list[Any]]:
    """(name -> kind of each tensor, operand for each parameter); tuples are taken apart."""
    leaves: dict[str, Abstract] = {}

    def take(name: str, kind: Any) -> Any:
        if isinstance(kind, tuple):
            return tuple(take(f"{name}.{i}", k) for i, k in enumerate(kind))
        if kind is None or kind.rank is None:
            raise error(
                "E105", f"input {name!r} is no tensor of known rank", fix="pass tensors as inputs"
            )
        leaves[name] = kind
        return Ref(name)

    return leaves, [take(n.rpartition(":")[2].lstrip("ф"), k) for n, k in inputs]


def _by_name(
    specs: Sequence[InputSpec] | None, leaves: Mapping[str, Abstract], arguments: Sequence[str]
) -> dict[str, InputSpec]:
    """The spec of each input: by its name when the specs have such names, else in order."""
    if not specs:
        return {}
    names = list(arguments) if len(arguments) >= len(specs) else list(leaves)
    if any(s.name in names for s in specs):
        unknown = [s.name for s in specs if s.name not in names]
        if unknown:
            what = f"the model has no input {unknown[0]!r}"
            raise error("E103", what, nearest=", ".join(names), fix="name each input, or none")
        return {n: s for n in names for s in specs if s.name == n}
    if len(specs) > len(names):
        what = f"{len(specs)} inputs for a model that takes {len(names)}"
        raise error("E103", what, nearest=", ".join(names))
    return dict(zip(names, specs))


def _input_types(
    leaves: Mapping[str, Abstract],
    given: Mapping[str, InputSpec],
    complete: bool,
    found: Collector,
) -> dict[str, TensorType]:
    """Types of all inputs in order, the user's symbols in place of unknown dims."""
    types: dict[str, TensorType] = {}
    fresh = 0
    for name in (*(n for n in given if n not in leaves), *leaves):
        spec = given.get(name)
        if name not in leaves:
            assert spec is not None
            types[name] = TensorType(spec.dtype, spec.shape)
            continue
        kind = leaves[name]
        if spec is None and complete:
            found.add("E103", f"no example for input {name!r}", nearest=", ".join(leaves))
        shape: list[Dim] = []
        for axis, d in enumerate(kind.dims):
            asked = spec.shape[axis] if spec and axis < len(spec.shape) else None
            if d >= 0 and asked not in (None, d):
                what = f"input {name!r}: axis {axis} is {d} in the file, {asked!r} is asked for"
                fix = "export the model with Tensor(shape=[None, ...]) for axes that may vary"
                found.add("E103", what, fix=fix)
            if d < 0 and asked is None:
                asked, fresh = f"d{fresh}", fresh + 1
            shape.append(d if d >= 0 or asked is None else asked)
        if spec and (len(spec.shape) != len(shape) or spec.dtype != kind.dtype):
            have = f"{spec.dtype}{list(spec.shape)}"
            what = f"input {name!r} is {kind.dtype}[{', '.join(map(str, shape))}], not {have}"
            found.add("E103", what, fix="pass an input of this type")
        types[name] = TensorType(kind.dtype, tuple(shape))
    order = [n for n in given if n in types] if len(given) == len(types) else list(types)
    return {n: types[n] for n in order}


def _output_names(result: Any, path: str = "") -> list[str]:
    """``output``, or for a tuple ``output_0``, ``output_1.0``, ... by place."""
    if isinstance(result, tuple):
        dot = "." if path else ""
        return [n for i, r in enumerate(result) for n in _output_names(r, f"{path}{dot}{i}")]
    return [] if result is mindir.MONAD else [f"output_{path}" if path else "output"]
