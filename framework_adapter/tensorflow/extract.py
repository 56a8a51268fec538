"""TensorFlow models of every kind become one SourceGraph; README.md says what each kind needs."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cir.diagnostics import error
from cir.dim import symbols_of
from cir.graph import Range
from framework_adapter.registry import require
from framework_adapter.source import InputSpec, SourceGraph

_ROOTS = ("keras", "tensorflow", "tf_keras")


class TensorFlowFrontend:
    """The TensorFlow room as a Frontend (``framework_adapter.source``)."""

    name = "tensorflow"

    def accepts(self, model: object) -> bool:
        """Keras models, tf.Module, tf.function and their kin; SavedModel folder, .keras, .pb."""
        if isinstance(model, (str, Path)):
            path = Path(model)
            return path.suffix in (".keras", ".pb") or (path / "saved_model.pb").is_file()
        roots = {c.__module__.partition(".")[0] for c in type(model).__mro__}
        return bool(roots.intersection(_ROOTS))

    def extract(
        self,
        model: object,
        inputs: Sequence[InputSpec] | None,
        *,
        outputs: Sequence[str] | None = None,
        custom: Collection[str] = (),
    ) -> SourceGraph:
        """The model's graph with training=False.

        Args:
            model: what ``accepts`` takes.
            inputs: shapes and dtypes, which fix or name the sizes that the model leaves open; None
                uses the model's own, and an open first axis becomes the symbol ``batch``.
            outputs: output names, or names of tensors or Keras layers inside the graph.
            custom: op ids that the user has rows for; nothing is decomposed here, so unused.

        Raises:
            CirError: E101 missing file, E102 training-mode graph, E103 inputs that do not fit,
                E105 TensorFlow cannot load or trace the model, E901 TensorFlow is missing.
        """
        tf = require("tensorflow", "tensorflow")
        from framework_adapter.tensorflow.dilated import with_dilations
        from framework_adapter.tensorflow.load import open_model
        from framework_adapter.tensorflow.walk import walk

        loaded = open_model(model)
        specs = bind(loaded.inputs, inputs)
        traced = loaded.trace(specs)
        ends = _select(traced.graph, traced.outputs, traced.modules, outputs)
        graph = with_dilations(walk(traced, specs, [tensor for _, tensor in ends]))
        symbols = sorted({s for spec in specs for d in spec.shape for s in symbols_of(d)})
        return replace(
            graph,
            output_names=tuple(name for name, _ in ends),
            symbols={s: Range(min=1) for s in symbols},
            notes=(*loaded.notes, *_dim_notes(inputs, specs)),
            versions={"tensorflow": str(tf.__version__), **loaded.versions},
        )

    def run(self, model: object, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """TensorFlow's own result with training=False: flattened outputs in order.

        A Python model is called; of a file only ops without side effects that lead to the outputs
        are executed, never its initialisers or other functions.
        """
        require("tensorflow", "tensorflow")
        from framework_adapter.tensorflow.load import open_model

        return [np.asarray(y) for y in open_model(model).run(feeds)]


def bind(own: Sequence[InputSpec] | None, given: Sequence[InputSpec] | None) -> list[InputSpec]:
    """The specs to trace with: the model's own, refined by the user's, in the model's order.

    ``own`` shapes hold -1 where the model leaves a size open; own None: the model has no signature.
    Raises CirError E103.
    """
    if own is None:
        if given is None:
            raise error(
                "E103",
                "this model does not say what its inputs look like",
                fix="pass inputs= with one InputSpec or example tensor for each argument",
            )
        return [_named(s, f"input_{i}") for i, s in enumerate(given)]
    if given is None:
        return [_opened(s) for s in own]
    ordered = _in_order(own, given)
    return [_refined(o, g) for o, g in zip(own, ordered)]


def _named(spec: InputSpec, default: str) -> InputSpec:
    return spec if spec.name else InputSpec(default, spec.dtype, spec.shape, spec.example)


def _opened(own: InputSpec) -> InputSpec:
    if own.shape is None:
        raise error(
            "E103",
            f"input {own.name!r} has no fixed rank",
            fix="pass inputs= with an InputSpec or example tensor for each input",
        )
    shape = tuple(
        d if d != -1 else "batch" if i == 0 else f"{_symbol(own.name)}_{i}"
        for i, d in enumerate(own.shape)
    )
    return InputSpec(own.name, own.dtype, shape)


def _symbol(name: str | None) -> str:
    text = "".join(c if c.isalnum() else "_" for c in name or "")
    return text if text[:1].isalpha() else f"d{text}"


def _in_order(own: Sequence[InputSpec], given: Sequence[InputSpec]) -> list[InputSpec]:
    names = [str(s.name) for s in own]
    if len(given) != len(own):
        raise error(
            "E103",
            f"the model has {len(own)} inputs, {len(given)} were given",
            nearest=", ".join(names),
        )
    by_name: dict[str, InputSpec] = {s.name: s for s in given if s.name}
    if len(by_name) < len(given):
        return list(given)
    unknown = [n for n in by_name if n not in names]
    if unknown and len(own) == 1:  # one input needs no name
        return list(given)
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, 1)
        raise error(
            "E103",
            f"the model has no input {unknown[0]!r}",
            nearest=near[0] if near else ", ".join(names),
        )
    return [by_name[n] for n in names]


def _refined(own: InputSpec, given: InputSpec) -> InputSpec:
    where = f"input {own.name!r}"
    if own.dtype != given.dtype:
        raise error(
            "E103",
            f"{where} is {own.dtype}, {given.dtype} was given",
            fix=f"pass {own.dtype}",
        )
    if own.shape is None:
        return InputSpec(own.name, own.dtype, given.shape, given.example)
    if len(own.shape) != len(given.shape):
        raise error(
            "E103",
            f"{where} has rank {len(own.shape)}, shape {given.shape} was given",
            why="TensorFlow images are laid out as [batch, height, width, channels]",
            fix=f"pass a tensor of rank {len(own.shape)}",
        )
    for axis, (o, g) in enumerate(zip(own.shape, given.shape)):
        if o != -1 and o != g:
            raise error(
                "E103",
                f"{where} has size {o} on axis {axis}, {g!r} was given",
                why="the model was built with that size",
                fix=f"pass size {o} on axis {axis}",
            )
    return InputSpec(own.name, own.dtype, given.shape, given.example)


def _dim_notes(given: Sequence[InputSpec] | None, specs: Sequence[InputSpec]) -> list[str]:
    if given is not None:
        return []
    return [
        f"input {s.name!r}: open sizes became symbols: [{', '.join(map(str, s.shape))}]"
        for s in specs
        if any(isinstance(d, str) for d in s.shape)
    ]


def _select(
    graph: Any,
    ends: Sequence[tuple[str, Any]],
    modules: Mapping[str, str],
    wanted: Sequence[str] | None,
) -> list[tuple[str, Any]]:
    """The output tensors a user asks for, by output name, tensor name or layer name."""
    if not wanted:
        return list(ends)
    known = dict(ends)
    tensors = {t.name: t for op in graph.get_operations() for t in op.outputs}
    out = []
    for name in wanted:
        found = known.get(name)
        if found is None:
            found = tensors.get(name if ":" in name else f"{name}:0")
        if found is None:
            inside = [op for op, path in modules.items() if _inside(path, name)]
            found = tensors.get(f"{inside[-1]}:0") if inside else None
        if found is None:
            near = difflib.get_close_matches(name, [*known, *dict.fromkeys(modules.values())], 1)
            raise error(
                "E103",
                f"no output or layer {name!r}",
                nearest=near[0] if near else ", ".join(known),
            )
        out.append((name, found))
    return out


def _inside(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.") or path.endswith(f".{name}")
