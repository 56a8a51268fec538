"""The demo networks in Keras 3 (functional API), for its TensorFlow backend. Images are NHWC."""

from pathlib import Path

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from . import inputs
from . import resnet50 as resnet
from .digits import CONFIG, DEFAULT_PATH, frequencies, load_weights

__all__ = ["digits_unet", "example_inputs", "resnet50"]


def _group_norm_silu(x: KerasTensor, name: str) -> KerasTensor:
    x = layers.GroupNormalization(CONFIG.groups, epsilon=CONFIG.epsilon, name=name)(x)
    return layers.Activation("silu")(x)


def _layer_norm(x: KerasTensor, name: str) -> KerasTensor:
    return layers.LayerNormalization(epsilon=CONFIG.epsilon, name=name)(x)


def _conv3x3(x: KerasTensor, filters: int, name: str) -> KerasTensor:
    return layers.Conv2D(filters, 3, padding="same", name=name)(x)


def _res_block(x: KerasTensor, time: KerasTensor, filters: int, name: str) -> KerasTensor:
    """x float32[N,H,W,C], time float32[N,time_width] -> float32[N,H,W,filters]."""
    h = _conv3x3(_group_norm_silu(x, f"{name}.norm1"), filters, f"{name}.conv1")
    time = layers.Dense(filters, name=f"{name}.time")(layers.Activation("silu")(time))
    h = layers.Add()([h, layers.Reshape((1, 1, filters))(time)])
    h = _conv3x3(_group_norm_silu(h, f"{name}.norm2"), filters, f"{name}.conv2")
    if x.shape[-1] != filters:
        x = layers.Conv2D(filters, 1, name=f"{name}.shortcut")(x)
    return layers.Add()([h, x])


def _attention(x: KerasTensor, context: KerasTensor, name: str) -> KerasTensor:
    """x float32[N,L,C], context float32[N,S,C] -> float32[N,L,C]."""
    heads = CONFIG.heads
    attention = layers.MultiHeadAttention(heads, key_dim=x.shape[-1] // heads, name=name)
    return attention(query=x, value=context)


def _transformer(x: KerasTensor, context: KerasTensor, name: str) -> KerasTensor:
    """x float32[N,H,W,C], context float32[N,S,C] -> float32[N,H,W,C]."""
    _, height, width, channels = x.shape
    h = layers.Reshape((height * width, channels))(x)
    n = _layer_norm(h, f"{name}.norm1")
    h = layers.Add()([h, _attention(n, n, f"{name}.self_attn")])
    n = _layer_norm(h, f"{name}.norm2")
    h = layers.Add()([h, _attention(n, context, f"{name}.cross_attn")])
    n = layers.Dense(8 * channels, name=f"{name}.ff_in")(_layer_norm(h, f"{name}.norm3"))
    value, gate = ops.split(n, 2, axis=-1)
    n = value * keras.activations.gelu(gate, approximate=False)
    h = layers.Add()([h, layers.Dense(channels, name=f"{name}.ff_out")(n)])
    return layers.Reshape((height, width, channels))(h)


def _build_digits_unet() -> keras.Model:
    """x float32[N,8,8,1], t int64[N], y int64[N] -> predicted noise float32[N,8,8,1]."""
    width, inner = CONFIG.width, CONFIG.inner
    x = keras.Input((CONFIG.size, CONFIG.size, CONFIG.channels), name="x")
    t = keras.Input((), dtype="int64", name="t")
    y = keras.Input((), dtype="int64", name="y")

    angles = ops.expand_dims(ops.cast(t, "float32"), -1) * frequencies()
    time = layers.Concatenate()([ops.cos(angles), ops.sin(angles)])
    time = layers.Dense(CONFIG.time_width, activation="silu", name="time_in")(time)
    time = layers.Dense(CONFIG.time_width, name="time_out")(time)
    context = layers.Embedding(CONFIG.classes, CONFIG.tokens * inner, name="label")(y)
    context = layers.Reshape((CONFIG.tokens, inner))(context)

    skip1 = _res_block(_conv3x3(x, width, "conv_in"), time, width, "down1")
    # Padded by hand: "same" pads a stride of two on the far side only.
    h = layers.ZeroPadding2D(1)(skip1)
    h = layers.Conv2D(width, 3, strides=2, padding="valid", name="downsample")(h)
    skip2 = _res_block(h, time, inner, "down2")
    h = _res_block(skip2, time, inner, "mid1")
    h = _transformer(h, context, "transformer")
    h = _res_block(h, time, inner, "mid2")
    h = _res_block(layers.Concatenate()([h, skip2]), time, inner, "up2")
    h = _conv3x3(layers.UpSampling2D(2)(h), inner, "upsample")
    h = _res_block(layers.Concatenate()([h, skip1]), time, width, "up1")
    eps = _conv3x3(_group_norm_silu(h, "norm_out"), CONFIG.channels, "conv_out")
    return keras.Model([x, t, y], eps, name="digits_unet")


def _conv_norm(
    x: KerasTensor, filters: int, kernel: int, conv: str, norm: str, stride: int = 1
) -> KerasTensor:
    """Convolution without bias, padded by ``kernel // 2`` on every side, then normalised."""
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    x = layers.Conv2D(filters, kernel, stride, "valid", use_bias=False, name=conv)(x)
    return layers.BatchNormalization(epsilon=resnet.EPSILON, name=norm)(x)


def _bottleneck(x: KerasTensor, width: int, stride: int, name: str) -> KerasTensor:
    """x float32[N,H,W,C] -> float32[N,H/stride,W/stride,4*width]."""
    outputs = width * resnet.EXPANSION
    h = layers.ReLU()(_conv_norm(x, width, 1, f"{name}.conv1", f"{name}.bn1"))
    h = layers.ReLU()(_conv_norm(h, width, 3, f"{name}.conv2", f"{name}.bn2", stride))
    h = _conv_norm(h, outputs, 1, f"{name}.conv3", f"{name}.bn3")
    if stride != 1 or x.shape[-1] != outputs:
        x = _conv_norm(x, outputs, 1, f"{name}.downsample.0", f"{name}.downsample.1", stride)
    return layers.ReLU()(layers.Add()([h, x]))


def _build_resnet50() -> keras.Model:
    """x float32[N,224,224,3] -> logits float32[N,1000]."""
    x = keras.Input((resnet.IMAGE_SIZE, resnet.IMAGE_SIZE, 3), name="x")
    h = layers.ReLU()(_conv_norm(x, 64, 7, "conv1", "bn1", 2))
    # Padding the pool with zeros is the same as with -inf here: its input is never negative.
    h = layers.MaxPooling2D(3, 2, "valid")(layers.ZeroPadding2D(1)(h))
    for stage, (width, blocks, stride) in enumerate(resnet.STAGES, start=1):
        for block in range(blocks):
            h = _bottleneck(h, width, stride if block == 0 else 1, f"layer{stage}.{block}")
    logits = layers.Dense(resnet.CLASSES, name="fc")(layers.GlobalAveragePooling2D()(h))
    return keras.Model(x, logits, name="resnet50")


_TORCH_LEAF = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "embeddings": "weight",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _load(model: keras.Model, weights: dict[str, np.ndarray]) -> keras.Model:
    """Assign PyTorch weights; layers carry their PyTorch names, so only these rules remain.

    - The last part of the name follows ``_TORCH_LEAF``; ``attention_output`` is ``out``.
    - Convolution kernels are [kh,kw,in,out] for PyTorch's [out,in,kh,kw].
    - Dense kernels are [in,out] for [out,in]; attention also splits a width into [heads,key_dim].
    """
    for variable in model.variables:
        path = variable.path.replace("attention_output", "out").replace("/", ".")
        module, leaf = path.rsplit(".", 1)
        value = weights[f"{module}.{_TORCH_LEAF.get(leaf, leaf)}"]
        if leaf == "kernel":
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        variable.assign(value.reshape(variable.shape))
    return model


def digits_unet(weights: str | Path = DEFAULT_PATH) -> keras.Model:
    """The trained digits denoiser; call it with ``training=False`` (the default)."""
    return _load(_build_digits_unet(), load_weights(weights))


def resnet50(seed: int = 0) -> keras.Model:
    """ResNet-50 v1.5 with seeded random weights; call it with ``training=False`` (the default)."""
    return _load(_build_resnet50(), resnet.random_weights(seed))


def example_inputs(name: str, batch: int = 1, seed: int = 0) -> inputs.Inputs:
    """``inputs.example_inputs`` with images laid out as NHWC."""
    x, *rest = inputs.example_inputs(name, batch, seed)
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)), *rest
