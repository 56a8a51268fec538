"""Branches, loops and tensor lists become regions, and compute what TensorFlow computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cir.diagnostics import CirError
from framework_adapter.source import InputSpec

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
layers = keras.layers

X = InputSpec("x", "float32", ("batch", 3))
SIZES = ({"batch": 1}, {"batch": 4})


def region_ops(graph: Any) -> list[str]:
    return [n.op for _, n in graph.walk()]


def test_branches_take_the_same_operands(agree: Callable[..., Any]) -> None:
    w = tf.Variable(np.eye(3, dtype=np.float32))

    @tf.function
    def f(x: Any) -> Any:
        if tf.reduce_sum(x) > 0:
            return x @ w, x + 1.0
        return x - 1.0, x * x

    _, graph = agree(f, [X], *SIZES)
    (cond,) = (n for n in graph.nodes if n.op == "cond")
    assert len(cond.regions) == 2
    assert all(r.inputs and len(r.inputs) == len(cond.inputs) - 1 for r in cond.regions)


def test_branches_hold_their_constants(agree: Callable[..., Any]) -> None:
    perm = tf.constant([1, 0])

    @tf.function
    def f(x: Any) -> Any:
        return tf.cond(
            tf.size(x) > 6, lambda: tf.transpose(x, perm), lambda: tf.transpose(x * 2.0, perm)
        )

    agree(f, [X], *SIZES)


def test_loop_carries_only_what_changes(agree: Callable[..., Any]) -> None:
    w = tf.Variable(np.full((3, 3), 0.25, np.float32))

    @tf.function
    def f(x: Any, n: Any) -> Any:
        bias = tf.reduce_mean(x)
        i = tf.constant(0)
        while i < n:
            x = tf.tanh(x @ w) + bias
            i += 1
        return x, i

    _, graph = agree(f, [X, InputSpec("n", "int32", ())], *SIZES)
    (loop,) = (n for n in graph.nodes if n.op == "while_loop")
    # TensorFlow's own counter, i and x change; n and the bias stay; the weight is inside.
    assert loop.attrs["carried"] == 3 and len(loop.inputs) == 5


def test_nested_control_flow(agree: Callable[..., Any]) -> None:
    @tf.function
    def f(x: Any) -> Any:
        for i in tf.range(4):
            if i % 2 == 0:
                x = x * 2.0
            else:
                x = x - 1.0
        return x

    _, graph = agree(f, [X], *SIZES)
    assert region_ops(graph).count("cond") == 1


@pytest.mark.parametrize("element_shape", [[3], None])
def test_tensor_array(agree: Callable[..., Any], element_shape: Any) -> None:
    @tf.function
    def f(x: Any) -> Any:
        n = tf.shape(x)[0]
        rows = tf.TensorArray(tf.float32, size=n, element_shape=element_shape)
        for i in tf.range(n):
            rows = rows.write(i, x[i] * tf.cast(i, tf.float32))
        return rows.stack()

    agree(f, [X], *SIZES)


def test_map_and_scan(agree: Callable[..., Any]) -> None:
    x = InputSpec("x", "float32", (4, 3))
    agree(tf.function(lambda x: tf.map_fn(lambda r: r * tf.reduce_sum(r), x)), [x])
    agree(tf.function(lambda x: tf.scan(lambda a, r: a + r, x)), [x])


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.LSTM(4, return_sequences=True),
        lambda: layers.Bidirectional(layers.GRU(3)),
        lambda: layers.SimpleRNN(3, unroll=True),
        lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
        lambda: layers.TimeDistributed(layers.Dense(2)),
    ],
    ids=["lstm", "gru", "unrolled", "cells", "distributed"],
)
@pytest.mark.parametrize("steps", [5, None])
def test_recurrent_layers(agree: Callable[..., Any], layer: Any, steps: int | None) -> None:
    keras.utils.set_random_seed(0)
    made = layer()
    if steps is None and (
        getattr(made, "unroll", False) or isinstance(made, layers.TimeDistributed)
    ):
        pytest.skip(
            "Keras needs the number of steps (TimeDistributed maps over the batch without it)"
        )
    x = keras.Input((steps, 3), name="x")
    sizes = [{**s, "x_1": 6} for s in SIZES]
    agree(keras.Model(x, made(x)), None, *sizes)


def test_masked_recurrence(agree: Callable[..., Any]) -> None:
    ids = keras.Input((5,), dtype="int32")
    h = layers.Embedding(10, 4, mask_zero=True)(ids)
    agree(keras.Model(ids, layers.GRU(3, return_sequences=True)(h)), None, *SIZES)


def test_switch_case_is_named_as_unsupported(lowered: Callable[..., Any]) -> None:
    f = tf.function(lambda x, i: tf.switch_case(i, [lambda: x, lambda: x * 2.0, lambda: x * 3.0]))
    with pytest.raises(CirError) as caught:
        lowered(f, [X, InputSpec("i", "int32", ())])
    assert caught.value.code == "E201" and "Case" in str(caught.value)


def test_stateful_recurrence_is_refused(lowered: Callable[..., Any]) -> None:
    x = keras.Input(batch_shape=(2, 5, 3))
    model = keras.Model(x, layers.GRU(3, stateful=True)(x))
    with pytest.raises(CirError) as caught:
        lowered(model)
    assert caught.value.code == "E102"
