"""Every row's samples: TensorFlow itself against the row, lowered and interpreted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from framework_adapter import samples
from framework_adapter.lowering import lower
from framework_adapter.mapping import load
from framework_adapter.source import InputSpec
from framework_adapter.tensorflow import FRONTEND

tf = pytest.importorskip("tensorflow")

TABLE = load("tensorflow")
#: Rows whose operands or results no sample can spell; test_control.py and test_models.py run them.
ELSEWHERE = {"If", "While", "Bitcast", *(op for op in TABLE.rows if op.startswith("TensorList"))}
CASES = [
    pytest.param(op, sample, id=f"{op}-{i}")
    for op, row in TABLE.rows.items()
    for i, sample in enumerate(row.samples)
    if op not in ELSEWHERE
]


def call(
    op: str, sample: Sequence[Any], kept: Sequence[int] | None
) -> tuple[Callable[..., Any], list[np.ndarray]]:
    """A function that applies one TensorFlow op, and the arrays it takes."""
    from tensorflow.python.framework import op_def_library, op_def_registry

    operands, attrs = samples.operands(sample)
    definition = op_def_registry.get(op)
    arguments = definition.input_arg
    attrs = {**defaults(definition), **attrs}
    feeds: list[np.ndarray] = []
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


def defaults(definition: Any) -> dict[str, Any]:
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


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_row(op: str, sample: Sequence[Any]) -> None:
    row = TABLE.rows[op]
    kept = [i for i, r in enumerate(row.results) if r] if row.results else None
    model, feeds = call(op, sample, kept)
    specs = [InputSpec(None, a.dtype.name, a.shape) for a in feeds]
    source = FRONTEND.extract(model, specs)
    assert op in {n.op for n in source.nodes} or not source.nodes
    got = samples.interpret(lower(source, TABLE), feeds)
    samples.check(row, sample, got, FRONTEND.run(model, feeds))


def test_table_is_sound() -> None:
    TABLE.check()
