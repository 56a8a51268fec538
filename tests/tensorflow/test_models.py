"""Keras networks: all of them lower, match TensorFlow, and keep no shape arithmetic behind a symbolic batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from framework_adapter.source import InputSpec

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
layers = keras.layers

SIZES = ({"batch": 1}, {"batch": 5})
#: Ops that compute with shapes; dead once dims are known symbolically.
SHAPE_OPS = {"shape", "prod", "floordiv"}


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(0)


def randomised(model: Any) -> Any:
    """Batch statistics unlike those of a fresh model."""
    rng = np.random.default_rng(0)
    for v in model.variables:
        if "moving_variance" in v.path:
            v.assign(rng.random(v.shape) + 0.5)
        elif "moving_mean" in v.path:
            v.assign(rng.standard_normal(v.shape) * 0.1)
    return model


def cnn() -> Any:
    x = keras.Input((16, 15, 3))
    h = layers.Conv2D(8, 3, 2, "same", activation="relu")(x)
    h = layers.BatchNormalization()(h)
    h = layers.Conv2DTranspose(4, 3, 2, "same")(h)
    h = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(h)
    h = layers.MaxPooling2D(2, padding="same")(layers.SeparableConv2D(6, 3)(h))
    h = layers.PReLU(shared_axes=[1, 2])(layers.AveragePooling2D(2)(h))
    return keras.Model(x, layers.Dense(3, activation="softmax")(layers.Flatten()(h)))


def transformer() -> Any:
    ids = keras.Input((12,), dtype="int32")
    h = layers.Embedding(10, 16)(ids)
    h = layers.LayerNormalization()(h + layers.MultiHeadAttention(4, 4)(h, h, use_causal_mask=True))
    f = layers.Dense(16)(layers.Dense(32, activation="gelu")(h))
    h = layers.RMSNormalization()(h + f)
    return keras.Model(ids, layers.Dense(4)(layers.GlobalAveragePooling1D()(h)))


def unet() -> Any:
    x = keras.Input((16, 16, 8))
    h = layers.Activation("silu")(layers.GroupNormalization(4)(x))
    d = layers.Conv2D(16, 3, 2, padding="same")(h)
    h = layers.Concatenate()([layers.UpSampling2D(2)(d), h])
    h = layers.UpSampling2D(2, interpolation="bilinear")(h)
    return keras.Model(x, layers.Conv2D(4, 1, activation="hard_silu")(h))


def one_dimensional() -> Any:
    x = keras.Input((20, 4))
    h = layers.Conv1D(8, 3, padding="causal", dilation_rate=2)(x)
    h = layers.SeparableConv1D(6, 3, strides=2, padding="same")(h)
    return keras.Model(x, layers.Conv1DTranspose(3, 3, strides=2)(layers.MaxPooling1D(2)(h)))


def three_dimensional() -> Any:
    x = keras.Input((8, 8, 6, 2))
    h = layers.Conv3D(4, 3, padding="same", strides=2)(x)
    h = layers.Conv3DTranspose(2, 3, strides=2, padding="same")(h)
    return keras.Model(x, layers.AveragePooling3D(2, padding="same")(layers.MaxPooling3D(2)(h)))


def mobilenet() -> Any:
    return keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=10)


def resnet() -> Any:
    return keras.applications.ResNet50V2(weights=None, input_shape=(32, 32, 3), classes=10)


@pytest.mark.parametrize(
    "build", [cnn, transformer, unet, one_dimensional, three_dimensional, mobilenet, resnet]
)
def test_network(agree: Callable[..., Any], build: Callable[[], Any]) -> None:
    _, graph = agree(randomised(build()), None, *SIZES)
    assert SHAPE_OPS.isdisjoint(n.op for n in graph.nodes)
    reshapes = [n.attrs["shape"] for n in graph.nodes if n.op == "reshape"]
    assert build is not transformer or any("batch" in shape for shape in reshapes)


def test_symbolic_image_and_sequence_sizes(agree: Callable[..., Any]) -> None:
    x = keras.Input((None, None, 8), name="x")
    h = layers.Conv2D(8, 3, padding="same")(layers.GroupNormalization(4)(x))
    agree(keras.Model(x, layers.UpSampling2D(2)(h)), None, {"batch": 2, "x_1": 5, "x_2": 4})
    ids = keras.Input((None,), dtype="int32", name="ids")
    h = layers.Embedding(10, 16, mask_zero=True)(ids)
    h = layers.MultiHeadAttention(4, 4)(h, h, use_causal_mask=True)
    agree(keras.Model(ids, h), None, {"batch": 2, "ids_1": 7}, {"batch": 1, "ids_1": 3})


def test_same_padding_that_depends_on_a_symbol_is_refused(lowered: Callable[..., Any]) -> None:
    x = keras.Input((None, 8, 3), name="x")
    with pytest.raises(Exception, match="E207") as caught:
        lowered(keras.Model(x, layers.Conv2D(4, 3, 2, "same")(x)))
    assert "multiple" in str(caught.value)


def test_a_symbol_that_is_a_multiple_of_the_stride(agree: Callable[..., Any]) -> None:
    x = keras.Input((None, 8, 3), name="x")
    model = keras.Model(
        x, layers.Conv2DTranspose(2, 3, 2, "same")(layers.Conv2D(4, 3, 2, "same")(x))
    )
    agree(model, [InputSpec("x", "float32", ("n", "2*h", 8, 3))], {"n": 2, "2*h": 6})


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_other_precisions(lowered: Callable[..., Any], policy: str) -> None:
    x = keras.Input((4, 4, 2), dtype="float32")
    h = layers.Conv2D(3, 3, dtype=policy)(x)
    source, model = lowered(keras.Model(x, layers.LayerNormalization(dtype=policy)(h)))
    assert any(
        c.type.dtype == ("float64" if policy == "float64" else "float32")
        for c in source.consts.values()
    )
    assert model.graph.types[model.graph.outputs[0]].dtype == (
        "float64" if policy == "float64" else "float16"
    )


@pytest.mark.parametrize(
    "activation", ["relu6", "gelu", "silu", "hard_silu", "mish", "celu", "glu", "squareplus"]
)
def test_activation(agree: Callable[..., Any], activation: str) -> None:
    x = keras.Input((6,))
    agree(keras.Model(x, layers.Activation(activation)(x)), None, *SIZES)


def test_keras_argmax_and_its_sign_test(agree: Callable[..., Any]) -> None:
    x = keras.Input((6,))
    agree(keras.Model(x, keras.ops.argmax(x, axis=1)), None, *SIZES)


def test_numpy_style_slicing(agree: Callable[..., Any]) -> None:
    def f(x: Any) -> Any:
        return (
            x[:, -1],
            x[:, :-1],
            x[:, ::2],
            x[:, ::-1],
            x[:, :3],
            x[..., None],
            x[-2:],
            x[1:, None],
        )

    agree(
        tf.function(f), [InputSpec("x", "float32", ("n", "m"))], {"n": 1, "m": 2}, {"n": 4, "m": 7}
    )


@pytest.mark.parametrize(("name", "batch"), [("digits_unet", 3), ("resnet50", 1)])
def test_demo_network(agree: Callable[..., Any], name: str, batch: int) -> None:
    from demos.models import tensorflow as demo

    model = getattr(demo, name)()
    _, graph = agree(model, None, {"batch": batch})
    assert SHAPE_OPS.isdisjoint(n.op for n in graph.nodes)
