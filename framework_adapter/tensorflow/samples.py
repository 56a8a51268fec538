"""Samples of rows, run by TensorFlow itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cir.diagnostics import error
from framework_adapter import samples
from framework_adapter.lowering import lower
from framework_adapter.mapping import MappingTable, Row
from framework_adapter.source import InputSpec

Arrays = list[np.ndarray]


def both(table: MappingTable, row: Row, op: str, sample: Sequence[Any]) -> tuple[Arrays, Arrays]:
    """(results through the row, TensorFlow's results)."""
    from framework_adapter.tensorflow import FRONTEND

    kept = [i for i, r in enumerate(row.results) if r] if row.results else None
    model, feeds = call(op, sample, kept)
    source = FRONTEND.extract(model, [InputSpec(None, a.dtype.name, a.shape) for a in feeds])
    assert op in {n.op for n in source.nodes} or not source.nodes
    got = samples.interpret(lower(source, table), feeds)
    return got, FRONTEND.run(model, feeds)


def call(
    op: str, sample: Sequence[Any], kept: Sequence[int] | None
) -> tuple[Callable[..., Any], Arrays]:
    """A function that applies one TensorFlow op, and the arrays it takes.

    Raises:
        CirError: E203 when TensorFlow has no such op.
    """
    import tensorflow as tf
    from tensorflow.python.framework import op_def_library, op_def_registry

    operands, attrs = samples.operands(sample)
    definition = op_def_registry.get(op)
    if definition is None:
        fix = "use the op's name in a GraphDef, as in Conv2D"
        raise error("E203", f"TensorFlow has no op {op!r}", fix=fix)
    arguments = definition.input_arg
    attrs = {**_defaults(definition), **attrs}
    feeds: Arrays = []
    variables = []

    def template(x: Any, resource: bool) -> Any:
        if isinstance(x, np.ndarray):
            if resource:
                variables.append(tf.Variable(x))
                return variables[-1].handle
            feeds.append(x)
            return len(feeds) - 1, "feed"
        return [template(i, False) for i in x] if isinstance(x, tuple) else x

    wanted = [
        template(x, a.type == tf.resource.as_datatype_enum)
        for x, a in zip(operands, arguments, strict=True)
    ]

    def function(*tensors: Any) -> Any:
        def fill(x: Any) -> Any:
            if isinstance(x, tuple):
                return tensors[x[0]]
            return [fill(i) for i in x] if isinstance(x, list) else x

        for v in variables:
            v.value()  # tells the trace whose handle it is
        named = {a.name: fill(x) for a, x in zip(arguments, wanted)}
        packed = {
            k: tf.stack([tf.convert_to_tensor(i) for i in v])
            if isinstance(v, list) and not a.number_attr and any(tf.is_tensor(i) for i in v)
            else v
            for (k, v), a in zip(named.items(), arguments)
        }
        out = op_def_library.apply_op(op, **packed, **attrs)
        found = tf.nest.flatten(list(out) if isinstance(out, (list, tuple)) else out)
        return [found[i] for i in kept] if kept else found

    function.variables = variables  # type: ignore[attr-defined]  # kept alive
    return tf.function(function, autograph=False), feeds


def _defaults(definition: Any) -> dict[str, Any]:
    """Default attributes of an op, those that follow from its operands left out."""
    implied = {
        n for a in definition.input_arg for n in (a.type_attr, a.number_attr, a.type_list_attr)
    }
    found = {}
    for attr in definition.attr:
        if attr.HasField("default_value") and attr.name not in implied:
            kind = attr.default_value.WhichOneof("value")
            value = getattr(attr.default_value, kind)
            found[attr.name] = list(value.i) if kind == "list" else value
    return found
