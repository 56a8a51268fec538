"""Segmentation UNet: average pooling down, nearest upsampling and a transposed convolution up, concatenation."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

EPSILON = 1e-5
GROUPS = 4
STAGES = (  # name, inputs, outputs
    ("enc1", 3, 8),
    ("enc2", 8, 16),
    ("mid", 16, 16),
    ("dec2", 32, 16),
    ("dec1", 16, 8),
)


def weights() -> Weights:
    w = Weights(18)
    for name, inputs, outputs in STAGES:
        w.conv(f"{name}.conv1", outputs, inputs, 3)
        w.norm(f"{name}.norm1", outputs)
        w.conv(f"{name}.conv2", outputs, outputs, 3)
        w.norm(f"{name}.norm2", outputs)
    w.conv("up", 16, 8, 2)  # transposed: [inputs, outputs, 2, 2]
    w["up.bias"] = w["up.bias"][:8]
    w.conv("head", 2, 8)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.standard_normal((batch, 3, 16, 16), dtype=np.float32),)


def pytorch(w: Weights) -> Any:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Stage(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
            self.norm1 = nn.GroupNorm(GROUPS, outputs, eps=EPSILON)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
            self.norm2 = nn.GroupNorm(GROUPS, outputs, eps=EPSILON)
            self.act = nn.SiLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.norm1(self.conv1(x)))
            return self.act(self.norm2(self.conv2(x)))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, *sizes in STAGES:
                self.add_module(name, Stage(*sizes))
            self.pool = nn.AvgPool2d(2)
            self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
            self.up = nn.ConvTranspose2d(16, 8, kernel_size=2, stride=2)
            self.head = nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            skip1 = self.enc1(x)
            skip2 = self.enc2(self.pool(skip1))
            h = self.mid(F.avg_pool2d(skip2, kernel_size=2, stride=2))
            h = self.dec2(torch.cat((self.upsample(h), skip2), dim=1))
            h = self.dec1(torch.cat((self.up(h), skip1), dim=1))
            return torch.sigmoid(self.head(h))

    return into_torch(Net(), w)


def pytorch_interpolate(w: Weights) -> Any:
    """F.interpolate to the skip's size; x * sigmoid(x) written out."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Stage(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1)
            self.norm1 = nn.GroupNorm(GROUPS, outputs, EPSILON)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
            self.norm2 = nn.GroupNorm(GROUPS, outputs, EPSILON)

        def forward(self, x: Tensor) -> Tensor:
            for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
                x = norm(conv(x))
                x = x * torch.sigmoid(x)
            return x

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, *sizes in STAGES:
                self.add_module(name, Stage(*sizes))
            self.up = nn.ConvTranspose2d(16, 8, 2, 2)
            self.head = nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            skip1 = self.enc1(x)
            skip2 = self.enc2(F.avg_pool2d(skip1, 2))
            h = self.mid(F.adaptive_avg_pool2d(skip2, (skip2.shape[2] // 2, skip2.shape[3] // 2)))
            h = F.interpolate(h, size=skip2.shape[-2:])
            h = self.dec2(torch.cat([h, skip2], 1))
            h = self.dec1(torch.cat([self.up(h), skip1], 1))
            return self.head(h).sigmoid()

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    import keras
    from keras import layers

    def stage(x: keras.KerasTensor, name: str, filters: int) -> keras.KerasTensor:
        for i in (1, 2):
            x = layers.Conv2D(filters, 3, padding="same", name=f"{name}.conv{i}")(x)
            x = layers.GroupNormalization(GROUPS, epsilon=EPSILON, name=f"{name}.norm{i}")(x)
            x = layers.Activation("swish")(x)
        return x

    x = keras.Input((16, 16, 3))
    skip1 = stage(x, "enc1", 8)
    skip2 = stage(layers.AveragePooling2D(2)(skip1), "enc2", 16)
    h = stage(layers.AveragePooling2D((2, 2), strides=2, padding="same")(skip2), "mid", 16)
    h = layers.UpSampling2D((2, 2), interpolation="nearest")(h)
    h = stage(layers.Concatenate(axis=-1)([h, skip2]), "dec2", 16)
    h = layers.Conv2DTranspose(8, 2, strides=2, padding="valid", name="up")(h)
    h = stage(layers.concatenate([h, skip1]), "dec1", 8)
    return into_keras(keras.Model(x, layers.Conv2D(2, 1, activation="sigmoid", name="head")(h)), w)


def tensorflow_repeat(w: Weights) -> Any:
    """Upsampling by ops.repeat along both axes; ``padding="same"`` for the transposed convolution."""
    import keras
    from keras import layers, ops

    def stage(x: keras.KerasTensor, name: str, filters: int) -> keras.KerasTensor:
        for i in (1, 2):
            x = layers.Conv2D(filters, 3, padding="same", name=f"{name}.conv{i}")(x)
            x = layers.GroupNormalization(GROUPS, epsilon=EPSILON, name=f"{name}.norm{i}")(x)
            x = x * ops.sigmoid(x)
        return x

    x = keras.Input((16, 16, 3))
    skip1 = stage(x, "enc1", 8)
    skip2 = stage(ops.average_pool(skip1, 2), "enc2", 16)
    h = stage(ops.average_pool(skip2, 2, strides=2), "mid", 16)
    h = ops.repeat(ops.repeat(h, 2, axis=1), 2, axis=2)
    h = stage(ops.concatenate([h, skip2], axis=-1), "dec2", 16)
    h = layers.Conv2DTranspose(8, 2, strides=2, padding="same", name="up")(h)
    h = stage(ops.concatenate([h, skip1], axis=-1), "dec1", 8)
    return into_keras(keras.Model(x, ops.sigmoid(layers.Conv2D(2, 1, name="head")(h))), w)


def mindspore(w: Weights) -> Any:
    from mindspore import Tensor, nn, ops

    class Stage(nn.Cell):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, has_bias=True)
            self.norm1 = nn.GroupNorm(GROUPS, outputs, eps=EPSILON)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, has_bias=True)
            self.norm2 = nn.GroupNorm(GROUPS, outputs, eps=EPSILON)
            self.act = nn.SiLU()

        def construct(self, x: Tensor) -> Tensor:
            x = self.act(self.norm1(self.conv1(x)))
            return self.act(self.norm2(self.conv2(x)))

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.enc1 = Stage(3, 8)
            self.enc2 = Stage(8, 16)
            self.mid = Stage(16, 16)
            self.dec2 = Stage(32, 16)
            self.dec1 = Stage(16, 8)
            self.pool = nn.AvgPool2d(kernel_size=2, stride=2)
            self.up = nn.Conv2dTranspose(16, 8, 2, stride=2, pad_mode="valid", has_bias=True)
            self.head = nn.Conv2d(8, 2, 1, has_bias=True)
            self.concat = ops.Concat(axis=1)
            self.sigmoid = nn.Sigmoid()

        def construct(self, x: Tensor) -> Tensor:
            skip1 = self.enc1(x)
            skip2 = self.enc2(self.pool(skip1))
            h = self.mid(self.pool(skip2))
            h = ops.interpolate(h, scale_factor=2.0, recompute_scale_factor=True, mode="nearest")
            h = self.dec2(self.concat((h, skip2)))
            h = self.dec1(self.concat((self.up(h), skip1)))
            return self.sigmoid(self.head(h))

    return into_mindspore(Net(), w)
