"""Opening models: each kind becomes a tf.Graph with inputs, outputs and variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cir.diagnostics import CirError, error
from framework_adapter.source import InputSpec


@dataclass(frozen=True)
class Variable:
    """A variable: its name, and its value on demand."""

    name: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Traced:
    """A graph ready to be walked.

    Attributes:
        graph: tf.Graph.
        inputs: placeholder tensors, in the order of the specs.
        outputs: (name, tensor), in the order of the flattened results.
        variables: name of the op that gives a variable's handle (or a captured tensor) -> variable.
        modules: op name -> module path, where the model knows better than the op names do.
    """

    graph: Any
    inputs: Sequence[Any]
    outputs: Sequence[tuple[str, Any]]
    variables: Mapping[str, Variable]
    modules: Mapping[str, str] = field(default_factory=dict)


class Loaded(Protocol):
    """An opened model. ``inputs`` holds -1 for open sizes; None when the model does not say."""

    @property
    def inputs(self) -> list[InputSpec] | None:
        """Its own inputs."""

    notes: tuple[str, ...]
    versions: Mapping[str, str]

    def trace(self, specs: Sequence[InputSpec]) -> Traced:
        """The graph for these inputs."""

    def run(self, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """TensorFlow's own result."""


def open_model(model: Any) -> Loaded:
    """Open a model object or path. Raises CirError E101, E103 or E105."""
    if isinstance(model, (str, Path)):
        path = Path(model)
        if not path.exists():
            raise error("E101", f"no such file or folder: {path}")
        if path.suffix == ".keras":
            return _keras(_load_keras(path))
        from framework_adapter.tensorflow import stored

        return stored.frozen_graph(path) if path.suffix == ".pb" else stored.saved_model(path)
    if _is_keras(model):
        return _keras(model)
    return _function(model)


def _is_keras(model: Any) -> bool:
    return any(c.__module__.partition(".")[0] == "keras" for c in type(model).__mro__)


@dataclass
class Live:
    """A Python callable over flattened inputs, traced by TensorFlow."""

    call: Callable[..., Any]
    inputs: list[InputSpec] | None
    output_names: Sequence[str] | None = None
    names: Mapping[int, str] = field(default_factory=dict)  # id of a tf.Variable -> its path
    scope: Callable[[], str] | None = None  # path of the module being called
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def trace(self, specs: Sequence[InputSpec]) -> Traced:
        """Trace with these shapes. Raises CirError E105 when the model's own code fails."""
        import tensorflow as tf

        signature = [
            tf.TensorSpec([d if isinstance(d, int) else None for d in s.shape], s.dtype, f"in{i}")
            for i, s in enumerate(specs)
        ]
        modules: dict[str, str] = {}
        call = _watched(self.call, self.scope, modules)
        # Keras itself never uses autograph.
        function = tf.function(call, autograph=self.scope is None)
        try:
            concrete = function.get_concrete_function(*signature)
        except CirError:
            raise
        except Exception as exc:
            raise failed("TensorFlow could not trace the model", exc) from exc
        results = concrete.structured_outputs
        tensors = [t for t in tf.nest.flatten(results) if isinstance(t, tf.Tensor)]
        if not tensors:
            raise error(
                "E105", "the model returns no tensor", fix="return the results from its call"
            )
        names = list(self.output_names or _result_names(results))
        if len(names) != len(tensors):
            names = [f"output_{i}" for i in range(len(tensors))]
        outputs = [(n, concrete.outputs[i]) for i, n in enumerate(names)]
        placeholders = concrete.inputs[: len(specs)]
        return Traced(concrete.graph, placeholders, outputs, self._variables(concrete), modules)

    def _variables(self, concrete: Any) -> dict[str, Variable]:
        owners = {id(v.handle): v for v in concrete.variables}
        found = {}
        for outer, inner in concrete.graph.captures:
            v = owners.get(id(outer))
            if v is not None:
                name = self.names.get(id(v)) or v.name.removesuffix(":0")
                found[inner.op.name] = Variable(name, v.numpy)
            elif outer.dtype.name not in ("resource", "variant"):
                found[inner.op.name] = Variable("constant", outer.numpy)
        return found

    def run(self, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Call the model on arrays."""
        import tensorflow as tf

        results = self.call(*[tf.constant(a) for a in feeds])
        return [t.numpy() for t in tf.nest.flatten(results) if isinstance(t, tf.Tensor)]


def _watched(
    call: Callable[..., Any], scope: Callable[[], str] | None, modules: dict[str, str]
) -> Callable[..., Any]:
    """``call``, noting for each op it creates the module that was running."""
    if scope is None:
        return call
    from tensorflow.python.framework import op_callbacks

    def note(*_: Any, op_name: Any = None, graph: Any = None) -> None:
        if op_name and (path := scope()):
            modules.setdefault(op_name, path)

    def watched(*args: Any) -> Any:
        op_callbacks.add_op_callback(note)
        try:
            return call(*args)
        finally:
            op_callbacks.remove_op_callback(note)

    return watched


def _result_names(results: Any) -> list[str]:
    if isinstance(results, Mapping):
        return [str(k) for k in sorted(results)]
    return []


def failed(what: str, exc: Exception, fix: str = "") -> CirError:
    """E105 for an exception of TensorFlow or Keras."""
    text = re.sub(r"\x1b\[\d*m", "", str(exc)).strip().splitlines()
    short = " ".join(line.strip() for line in text[:4] if line.strip())[:400]
    why = f"{type(exc).__name__}: {short}"
    fix = fix or "run the model in TensorFlow on an example input first, then convert that call"
    return error("E105", what, why=why, fix=fix)


def _load_keras(path: Path) -> Any:
    """A .keras file. Python code inside it (Lambda layers) is never executed."""
    import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as exc:
        unsafe = "lambda" in str(exc).lower() and "safe_mode" in str(exc)
        fix = (
            "a Lambda layer holds Python code, which is not executed from a file: replace it by a "
            "layer or an op of keras.ops, or build the model in Python and convert the object"
            if unsafe
            else "load the file in Python with its custom objects and convert the model object"
        )
        raise failed(f"Keras could not load {path.name}", exc, fix) from exc


def _keras(model: Any) -> Loaded:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise error(
            "E105",
            f"this Keras runs on {keras.backend.backend()}, not on TensorFlow",
            fix="start Python with the environment variable KERAS_BACKEND=tensorflow",
        )
    if not model.built:
        raise error(
            "E103",
            f"the Keras model {model.name!r} has no weights yet",
            fix="call it once on an example batch, or load its weights, before converting",
        )
    inputs, pack = _keras_inputs(model)

    def call(*args: Any) -> Any:
        return model(pack(args), training=False)

    return Live(
        call,
        inputs,
        getattr(model, "output_names", None),
        {id(v.value): v.path for v in model.variables},
        _keras_scope(),
        versions={"keras": str(keras.__version__)},
    )


def _keras_scope() -> Callable[[], str] | None:
    try:
        from keras.src.backend.common.name_scope import current_path
    except ImportError:  # another Keras version: op names will do
        return None
    return lambda: current_path().replace("/", ".")


def _keras_inputs(model: Any) -> tuple[list[InputSpec] | None, Callable[[Sequence[Any]], Any]]:
    """The model's own inputs, and how flat ones become its argument."""
    import keras

    def flat(args: Sequence[Any]) -> Any:
        return args[0] if len(args) == 1 else list(args)

    declared = getattr(model, "inputs", None)
    if declared:
        specs = [
            InputSpec(t.name, keras.backend.standardize_dtype(t.dtype), _open(t.shape))
            for t in declared
        ]
        structure = getattr(model, "_inputs_struct", None)
        if isinstance(structure, (dict, list, tuple)):
            return specs, lambda args: keras.tree.pack_sequence_as(structure, list(args))
        return specs, flat
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    if all(isinstance(s, tuple) and all(map(_is_size, s)) for s in shapes.values()):
        # Of a call on example data only the sizes behind the batch are the model's.
        named = [(k.removesuffix("_shape"), s) for k, s in shapes.items()]
        dtype = model.input_dtype
        return [InputSpec(k, dtype, (-1, *_open(s[1:]))) for k, s in named] or None, flat
    return None, flat


def _is_size(d: Any) -> bool:
    return d is None or type(d) is int


def _open(shape: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(-1 if d is None else int(d) for d in shape)


def _function(model: Any) -> Loaded:
    """tf.function, ConcreteFunction, tf.Module, or an object that tf.saved_model.load returned."""
    import tensorflow as tf

    serving = getattr(model, "signatures", None)
    if isinstance(serving, Mapping) and serving:
        return _concrete(serving.get("serving_default") or serving[sorted(serving)[0]])
    fn = model
    if isinstance(model, tf.Module):
        fn = model.__call__ if callable(model) else None  # type: ignore[operator]
    if hasattr(fn, "structured_input_signature"):
        return _concrete(fn)
    if getattr(fn, "input_signature", None) is not None:
        return _concrete(fn.get_concrete_function())
    if not callable(fn):
        raise error(
            "E105",
            f"a {type(model).__name__} without __call__ cannot be converted",
            fix="give the module a __call__ method, or pass one of its tf.function methods",
        )
    return Live(fn, None)


def _concrete(fn: Any) -> Loaded:
    import tensorflow as tf

    args, kwargs = fn.structured_input_signature
    leaves = tf.nest.flatten((args, kwargs))
    specs = [
        InputSpec(
            (t.name or f"input_{i}").partition(":")[0],
            t.dtype.name,
            _open(t.shape) if t.shape.rank is not None else None,  # type: ignore[arg-type]
        )
        for i, t in enumerate(leaves)
        if isinstance(t, tf.TensorSpec)
    ]

    def call(*flat: Any) -> Any:
        given = iter(flat)
        filled = [next(given) if isinstance(t, tf.TensorSpec) else t for t in leaves]
        a, k = tf.nest.pack_sequence_as((args, kwargs), filled)
        return fn(*a, **k)

    return Live(call, specs)
