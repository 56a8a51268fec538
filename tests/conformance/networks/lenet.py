"""LeNet and a small decoder: feature maps are flattened into a dense layer and unfolded out of one.

Keras flattens channels last, so its dense weights are permuted, as everybody does who ports weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch


def weights() -> Weights:
    w = Weights(24)
    w.conv("conv1", 6, 1, 5)
    w.conv("conv2", 8, 6, 3)
    w.dense("fc1", 10, 8 * 5 * 4)
    w.dense("fc2", 6 * 4 * 5, 10)
    w.conv("up", 6, 5, 4)  # transposed: [inputs, outputs, 4, 4]
    w["up.bias"] = w["up.bias"][:5]
    w.batch_norm("up_bn", 5)
    w.conv("out", 1, 5, 3)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.standard_normal((batch, 1, 20, 16), dtype=np.float32),)


def pytorch(w: Weights) -> Any:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
            self.conv2 = nn.Conv2d(6, 8, 3, padding=1)
            self.fc1 = nn.Linear(8 * 5 * 4, 10)
            self.fc2 = nn.Linear(10, 6 * 4 * 5)
            self.up = nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1)
            self.up_bn = nn.BatchNorm2d(5, eps=1e-3)
            self.out = nn.Conv2d(5, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.max_pool2d(torch.tanh(self.conv1(x)), 2)
            x = F.max_pool2d(torch.tanh(self.conv2(x)), 2)
            x = torch.flatten(x, 1)
            x = F.relu(self.fc1(x))
            x = F.leaky_relu(self.fc2(x), 0.2).view(-1, 6, 4, 5)
            x = F.leaky_relu(self.up_bn(self.up(x)), 0.2)
            return torch.tanh(self.out(x))

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    import keras
    from keras import layers

    x = keras.Input((20, 16, 1))
    h = layers.Conv2D(6, 5, padding="same", activation="tanh", name="conv1")(x)
    h = layers.MaxPooling2D()(h)
    h = layers.Conv2D(8, 3, padding="same", activation="tanh", name="conv2")(h)
    h = layers.MaxPooling2D()(h)
    h = layers.Flatten()(h)
    h = layers.Dense(10, activation="relu", name="fc1")(h)
    h = layers.Dense(4 * 5 * 6, name="fc2")(h)
    h = layers.LeakyReLU(negative_slope=0.2)(h)
    h = layers.Reshape((4, 5, 6))(h)
    h = layers.Conv2DTranspose(5, 4, strides=2, padding="same", name="up")(h)
    h = layers.BatchNormalization(epsilon=1e-3, name="up_bn")(h)
    h = layers.LeakyReLU(negative_slope=0.2)(h)
    h = layers.Conv2D(1, 3, padding="same", activation="tanh", name="out")(h)
    named = dict(w)
    named["fc1.weight"] = w["fc1.weight"].reshape(10, 8, 5, 4).transpose(0, 2, 3, 1).reshape(10, -1)
    for leaf, tail in (("weight", (10,)), ("bias", ())):
        rows = w[f"fc2.{leaf}"].reshape(6, 4, 5, *tail)
        named[f"fc2.{leaf}"] = np.moveaxis(rows, 0, 2).reshape(-1, *tail)
    return into_keras(keras.Model(x, h), named)


def mindspore(w: Weights) -> Any:
    from mindspore import Tensor, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="same", has_bias=True)
            self.conv2 = nn.Conv2d(6, 8, 3, pad_mode="same", has_bias=True)
            self.pool = nn.MaxPool2d(2, 2)
            self.flatten = nn.Flatten()
            self.fc1 = nn.Dense(8 * 5 * 4, 10, activation="relu")
            self.fc2 = nn.Dense(10, 6 * 4 * 5)
            self.up = nn.Conv2dTranspose(6, 5, 4, 2, pad_mode="pad", padding=1, has_bias=True)
            self.up_bn = nn.BatchNorm2d(5, eps=1e-3)
            self.out = nn.Conv2d(5, 1, 3, pad_mode="same", has_bias=True)
            self.leaky = nn.LeakyReLU(0.2)

        def construct(self, x: Tensor) -> Tensor:
            x = self.pool(ops.tanh(self.conv1(x)))
            x = self.pool(ops.tanh(self.conv2(x)))
            x = self.leaky(self.fc2(self.fc1(self.flatten(x))))
            x = ops.reshape(x, (-1, 6, 4, 5))
            return ops.tanh(self.out(self.leaky(self.up_bn(self.up(x)))))

    return into_mindspore(Net(), w)
