"""Every kind of TensorFlow model becomes a source graph with the right inputs, outputs and constants."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.diagnostics import CirError
from framework_adapter.source import InputSpec
from framework_adapter.tensorflow import FRONTEND

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
layers = keras.layers


def two_inputs() -> Any:
    """Inputs deliberately not in alphabetical order; two outputs."""
    image, vector = keras.Input((8, 8, 3), name="img"), keras.Input((5,), name="aux")
    h = layers.Conv2D(4, 3, 2, "same", name="stem")(image)
    h = layers.GlobalAveragePooling2D()(h)
    d = layers.Dense(4, name="side")(vector)
    return keras.Model([image, vector], [layers.Dense(2, name="head")(h + d), d])


class Affine(tf.Module):
    """y = x @ w + b, with the weight read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable(np.eye(3, dtype=np.float32) * 2, name="w")
        self.b = tf.Variable(np.ones(3, np.float32), name="b")

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")])
    def __call__(self, x: Any) -> dict[str, Any]:
        return {"y": x @ self.w + self.b, "again": tf.reduce_sum(x @ self.w)}


BATCHES = ({"batch": 1}, {"batch": 5})


def test_keras_functional_keeps_order_names_and_modules(agree: Callable[..., Any]) -> None:
    source, graph = agree(two_inputs(), None, *BATCHES)
    assert list(source.inputs) == ["img", "aux"]
    assert source.inputs["img"].shape == ("batch", 8, 8, 3)
    assert source.output_names == ("head", "side")
    assert source.layout == "channels_last"
    assert {"stem/kernel", "head/bias"} <= source.consts.keys()
    assert {n.op: n.module for n in source.nodes}["Conv2D"] == "stem"
    assert any("batch" in note for note in source.notes)
    assert set(source.versions) == {"tensorflow", "keras"}
    assert "shape" not in [n.op for n in graph.nodes]


def recurrent() -> Any:
    x = keras.Input((5, 3))
    return keras.Model(x, layers.LSTM(4)(x))


@pytest.mark.parametrize("build", [two_inputs, recurrent])
def test_names_are_the_same_each_time(build: Callable[[], Any]) -> None:
    model = build()
    first, second = FRONTEND.extract(model, None), FRONTEND.extract(model, None)
    assert list(first.consts) == list(second.consts)
    assert _text(first) == _text(second)


def _text(source: Any) -> list[str]:
    """All of a graph but the constants' data."""
    lines = [str(dict(source.inputs)), str(source.outputs), str(list(source.consts))]
    for n in source.nodes:
        lines.append(f"{n.op} {n.inputs} {dict(n.attrs)} {n.outputs} {n.types} {n.module}")
        for r in n.regions:
            lines += _text(r)
    return lines


def test_extraction_leaves_the_model_alone() -> None:
    model = two_inputs()
    before = [v.numpy() for v in model.variables]
    config = model.get_config()
    FRONTEND.extract(model, None)
    assert config == model.get_config()
    assert all(np.array_equal(a, v.numpy()) for a, v in zip(before, model.variables))
    assert tf.executing_eagerly() and len(model.variables) == len(before)


def test_user_shapes_refine_the_model(agree: Callable[..., Any]) -> None:
    specs = [InputSpec("aux", "float32", ("n", 5)), InputSpec("img", "float32", ("n", 8, 8, 3))]
    source, _ = agree(two_inputs(), specs, {"n": 3})
    assert list(source.inputs) == ["img", "aux"] and list(source.symbols) == ["n"]


def test_keras_sequential_and_subclassed(agree: Callable[..., Any]) -> None:
    net = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(2)])
    net.build((None, 3))
    agree(net, None, *BATCHES)

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = layers.Dense(4, name="first"), layers.Dense(2, name="second")

        def call(self, x: Any) -> Any:
            return {"b": self.second(tf.nn.relu(self.first(x))), "a": x}

    net = Net()
    net(np.zeros((2, 3), np.float32))
    source, _ = agree(net, None, *BATCHES)
    assert source.output_names == ("a", "b")
    relu = next(n for n in source.nodes if n.op == "Relu")
    assert relu.place.startswith("test_extract.py:")


def test_keras_dictionary_inputs(agree: Callable[..., Any]) -> None:
    a, b = keras.Input((2,), name="zebra"), keras.Input((2,), name="ape")
    model = keras.Model({"zebra": a, "ape": b}, layers.Subtract()([a, b]))
    source, _ = agree(model, None, *BATCHES)
    assert list(source.inputs) == [t.name for t in model.inputs]


def test_module_function_and_concrete_function(agree: Callable[..., Any]) -> None:
    module = Affine()
    source, _ = agree(module, None, *BATCHES)
    assert list(source.inputs) == ["x"] and source.output_names == ("again", "y")
    assert sorted(source.consts)[-1] == "w" and sum(n.startswith("w") for n in source.consts) == 1
    agree(module.__call__.get_concrete_function(), None, *BATCHES)
    spec = InputSpec(None, "float32", ("n", 4))
    agree(tf.function(lambda x: tf.nn.softmax(x) * 2.0), [spec], {"n": 3})


def test_nested_functions_are_inlined(agree: Callable[..., Any]) -> None:
    inner = tf.function(lambda x, y: (x * y, x - 2.0 * y))

    @tf.function
    def outer(x: Any) -> Any:
        a, b = inner(x, x + 1.0)
        return a + inner(b, a)[0]

    source, _ = agree(outer, [InputSpec("x", "float32", (2, 3))])
    assert {n.op for n in source.nodes} == {"AddV2", "Mul", "Sub"}


def test_saved_model_of_keras_keeps_the_keras_input_order(
    agree: Callable[..., Any], tmp_path: Path
) -> None:
    model = two_inputs()
    model.export(tmp_path / "m", verbose=False)
    source, _ = agree(str(tmp_path / "m"), None, *BATCHES)
    assert list(source.inputs) == ["img", "aux"]
    assert source.output_names == ("output_0", "output_1")
    loaded, _ = agree(tf.saved_model.load(str(tmp_path / "m")), None, {"batch": 2})
    assert len(loaded.nodes) == len(source.nodes)


def test_saved_model_of_a_module(agree: Callable[..., Any], tmp_path: Path) -> None:
    tf.saved_model.save(Affine(), str(tmp_path))
    source, _ = agree(tmp_path, None, *BATCHES)
    assert source.inputs["x"].shape == ("batch", 3)
    assert np.array_equal(source.consts["w"].numpy(), np.eye(3) * 2)


def test_side_effects_in_a_saved_model_are_never_executed(
    lowered: Callable[..., Any], tmp_path: Path
) -> None:
    class Harmful(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.v = tf.Variable(1.0)

        @tf.function(input_signature=[tf.TensorSpec((2,), tf.float32)])
        def __call__(self, x: Any) -> Any:
            tf.io.write_file(str(tmp_path / "written"), "x")
            return x + self.v

    tf.saved_model.save(Harmful(), str(tmp_path / "m"))
    source, _ = lowered(tmp_path / "m")
    assert [n.op for n in source.nodes] == ["AddV2"]
    with pytest.raises(CirError) as caught:
        FRONTEND.run(tmp_path / "m", [np.zeros(2, np.float32)])
    assert caught.value.code == "E105" and "WriteFile" in str(caught.value)
    assert not (tmp_path / "written").exists()


def test_frozen_graph(agree: Callable[..., Any], tmp_path: Path) -> None:
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder(tf.float32, (None, 3), name="x")
        tf.identity(tf.nn.relu(tf.matmul(x, tf.constant(np.ones((3, 2), np.float32)))), name="y")
    path = tmp_path / "frozen.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    source, _ = agree(path, None, *BATCHES)
    assert list(source.inputs) == ["x"] and source.output_names == ("y",)


def test_keras_file(agree: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    two_inputs().save(path)
    source, _ = agree(path, None, {"batch": 2})
    assert source.output_names == ("head", "side")


def test_lambda_in_a_file_is_not_executed(agree: Callable[..., Any], tmp_path: Path) -> None:
    x = keras.Input((3,))
    model = keras.Model(x, layers.Lambda(lambda t: t * 2.0)(x))
    agree(model, None, {"batch": 2})  # a live object is the user's own code
    path = tmp_path / "m.keras"
    model.save(path)
    with pytest.raises(CirError) as caught:
        FRONTEND.extract(path, None)
    assert caught.value.code == "E105" and "Lambda" in str(caught.value)


def test_outputs_by_name_tensor_or_layer() -> None:
    model = two_inputs()
    source = FRONTEND.extract(model, None, outputs=["side", "stem"])
    assert source.output_names == ("side", "stem")
    assert [n.op for n in source.nodes if n.outputs[0] == source.outputs[1]] == ["BiasAdd"]
    with pytest.raises(CirError) as caught:
        FRONTEND.extract(model, None, outputs=["stam"])
    assert caught.value.code == "E103" and "stem" in str(caught.value)


def test_dead_nodes_and_noise_are_dropped(agree: Callable[..., Any]) -> None:
    @tf.function
    def f(x: Any) -> Any:
        tf.exp(x)
        tf.debugging.assert_non_negative(tf.reduce_sum(x * x))
        x = tf.stop_gradient(tf.identity(x))
        return tf.grad_pass_through(tf.sin)(x) if False else tf.sin(x)

    source, _ = agree(f, [InputSpec("x", "float32", (3,))])
    assert [n.op for n in source.nodes] == ["Sin"]


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        ([InputSpec("img", "float32", (1, 8, 8, 3))], "2 inputs"),
        ([InputSpec("image", "float32", (1, 8, 8, 3)), InputSpec("aux", "float32", (1, 5))], "img"),
        (
            [InputSpec("img", "float32", (1, 3, 8, 8)), InputSpec("aux", "float32", (1, 5))],
            "axis 1",
        ),
        (
            [InputSpec("img", "float64", (1, 8, 8, 3)), InputSpec("aux", "float32", (1, 5))],
            "float64",
        ),
        ([InputSpec("img", "float32", (8, 8, 3)), InputSpec("aux", "float32", (1, 5))], "rank 4"),
    ],
)
def test_wrong_inputs(specs: list[InputSpec], text: str) -> None:
    with pytest.raises(CirError) as caught:
        FRONTEND.extract(two_inputs(), specs)
    assert caught.value.code == "E103" and text in str(caught.value)


def test_models_that_cannot_be_extracted(tmp_path: Path) -> None:
    def code(model: Any, inputs: Any = None) -> str:
        with pytest.raises(CirError) as caught:
            FRONTEND.extract(model, inputs)
        return caught.value.code

    x = [InputSpec("x", "float32", (2, 3))]
    assert code(tmp_path / "none.keras") == "E101"
    assert code(keras.Sequential([layers.Dense(2)])) == "E103"
    assert code(tf.function(lambda x: x)) == "E103"
    assert code(tf.function(lambda x: x @ x), x) == "E105"
    assert code(tf.function(lambda x: None), x) == "E105"
    (tmp_path / "bad.pb").write_bytes(b"not a graph")
    assert code(tmp_path / "bad.pb") == "E105"


def test_training_mode_is_refused(lowered: Callable[..., Any]) -> None:
    x = keras.Input((4, 4, 3))
    net = keras.Model(x, layers.BatchNormalization()(x))
    specs = [InputSpec("x", "float32", (2, 4, 4, 3))]
    with pytest.raises(CirError) as caught:
        FRONTEND.extract(tf.function(lambda x: net(x, training=True)), specs)
    assert caught.value.code == "E102" and "moving_mean" in str(caught.value)

    scale = tf.constant(np.ones(3, np.float32))
    with pytest.raises(CirError) as caught:
        lowered(tf.function(lambda x: tf.compat.v1.nn.fused_batch_norm(x, scale, scale)[0]), specs)
    assert caught.value.code == "E202" and "training=False" in str(caught.value)


def test_state_is_refused_even_inside_functions() -> None:
    count = tf.Variable(0.0, name="count")
    step = tf.function(lambda: count.assign_add(1.0))

    @tf.function
    def f(x: Any) -> Any:
        step()
        return x * count

    with pytest.raises(CirError) as caught:
        FRONTEND.extract(f, [InputSpec("x", "float32", (2,))])
    assert caught.value.code == "E102" and "count" in str(caught.value)


def test_unsupported_ops_are_all_named(lowered: Callable[..., Any]) -> None:
    def f(x: Any) -> Any:
        y = tf.py_function(lambda a: a, [x], tf.float32)
        return tf.linalg.inv(tf.reshape(y, (2, 2))) + tf.linalg.cholesky(tf.reshape(x, (2, 2)))

    with pytest.raises(CirError) as caught:
        lowered(tf.function(f), [InputSpec("x", "float32", (4,))])
    found = "\n".join(d.what for d in caught.value.diagnostics if d.code == "E201")
    assert "EagerPyFunc" in found and "MatrixInverse" in found and "Cholesky" in found


def test_accepts() -> None:
    assert FRONTEND.accepts(Affine()) and FRONTEND.accepts("net.keras")
    assert not FRONTEND.accepts("net.onnx") and not FRONTEND.accepts(object())


def test_the_room_imports_without_tensorflow() -> None:
    code = "import sys, framework_adapter.tensorflow as t; t.FRONTEND.accepts('a.pb');"
    code += "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
