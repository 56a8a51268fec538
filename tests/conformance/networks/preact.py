"""Pre-activation bottlenecks, the stride on the first 1x1, the shortcut through average pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

EPSILON = 1e-5
BLOCKS = (("block1", 8, 16, 2), ("block2", 16, 16, 1))  # name, inputs, outputs, stride
INNER = 8


def weights() -> Weights:
    w = Weights(12)
    w.conv("stem", 8, 3, 3, bias=False)
    for name, inputs, outputs, stride in BLOCKS:
        w.batch_norm(f"{name}.bn1", inputs)
        w.conv(f"{name}.conv1", INNER, inputs, bias=False)
        w.batch_norm(f"{name}.bn2", INNER)
        w.conv(f"{name}.conv2", INNER, INNER, 3, bias=False)
        w.batch_norm(f"{name}.bn3", INNER)
        w.conv(f"{name}.conv3", outputs, INNER)
        if stride > 1:
            w.conv(f"{name}.shortcut", outputs, inputs, bias=False)
    w.batch_norm("norm", 16)
    w.dense("head", 6, 16)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.standard_normal((batch, 3, 12, 12), dtype=np.float32),)


def pytorch(w: Weights) -> Any:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.bn1 = nn.BatchNorm2d(inputs, eps=EPSILON)
            self.conv1 = nn.Conv2d(inputs, INNER, 1, stride=stride, bias=False)
            self.bn2 = nn.BatchNorm2d(INNER, eps=EPSILON)
            self.conv2 = nn.Conv2d(INNER, INNER, 3, padding=1, bias=False)
            self.bn3 = nn.BatchNorm2d(INNER, eps=EPSILON)
            self.conv3 = nn.Conv2d(INNER, outputs, 1)
            self.stride = stride
            if stride > 1:
                self.pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
                self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.bn1(x))
            shortcut = self.shortcut(self.pool(h)) if self.stride > 1 else x
            h = self.conv1(h)
            h = self.conv2(F.relu(self.bn2(h)))
            h = self.conv3(F.relu(self.bn3(h)))
            return h + shortcut

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
            for name, *sizes in BLOCKS:
                self.add_module(name, Block(*sizes))
            self.norm = nn.BatchNorm2d(16, eps=EPSILON)
            self.head = nn.Linear(16, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = self.block2(self.block1(self.stem(x)))
            x = F.relu(self.norm(x))
            return self.head(torch.mean(x, dim=(-2, -1)))

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    import keras
    from keras import layers

    def norm_relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        x = layers.BatchNormalization(axis=-1, epsilon=EPSILON, name=name)(x)
        return layers.ReLU()(x)

    def block(x: keras.KerasTensor, name: str, outputs: int, stride: int) -> keras.KerasTensor:
        h = norm_relu(x, f"{name}.bn1")
        if stride > 1:
            x = layers.AveragePooling2D(stride)(h)
            x = layers.Conv2D(outputs, 1, use_bias=False, name=f"{name}.shortcut")(x)
        h = layers.Conv2D(INNER, 1, strides=stride, use_bias=False, name=f"{name}.conv1")(h)
        h = norm_relu(h, f"{name}.bn2")
        h = layers.Conv2D(INNER, 3, padding="same", use_bias=False, name=f"{name}.conv2")(h)
        h = norm_relu(h, f"{name}.bn3")
        h = layers.Conv2D(outputs, 1, name=f"{name}.conv3")(h)
        return layers.add([x, h])

    x = keras.Input((12, 12, 3))
    h = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(x)
    for name, _, outputs, stride in BLOCKS:
        h = block(h, name, outputs, stride)
    h = layers.GlobalAveragePooling2D()(norm_relu(h, "norm"))
    return into_keras(keras.Model(x, layers.Dense(6, name="head")(h)), w)


def mindspore(w: Weights) -> Any:
    from mindspore import Tensor, nn

    class Block(nn.Cell):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.bn1 = nn.BatchNorm2d(inputs, eps=EPSILON)
            self.conv1 = nn.Conv2d(inputs, INNER, 1, stride, pad_mode="valid")
            self.bn2 = nn.BatchNorm2d(INNER, eps=EPSILON)
            self.conv2 = nn.Conv2d(INNER, INNER, 3, pad_mode="same")
            self.bn3 = nn.BatchNorm2d(INNER, eps=EPSILON)
            self.conv3 = nn.Conv2d(INNER, outputs, 1, has_bias=True)
            self.relu = nn.ReLU()
            self.strided = stride > 1
            if self.strided:
                self.pool = nn.AvgPool2d(kernel_size=stride, stride=stride)
                self.shortcut = nn.Conv2d(inputs, outputs, 1)

        def construct(self, x: Tensor) -> Tensor:
            h = self.relu(self.bn1(x))
            if self.strided:
                x = self.shortcut(self.pool(h))
            h = self.relu(self.bn2(self.conv1(h)))
            h = self.relu(self.bn3(self.conv2(h)))
            return x + self.conv3(h)

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, pad_mode="pad", padding=1)
            self.block1 = Block(*BLOCKS[0][1:])
            self.block2 = Block(*BLOCKS[1][1:])
            self.norm = nn.BatchNorm2d(16, eps=EPSILON)
            self.relu = nn.ReLU()
            self.head = nn.Dense(16, 6)

        def construct(self, x: Tensor) -> Tensor:
            x = self.block2(self.block1(self.stem(x)))
            x = self.relu(self.norm(x)).mean(axis=(2, 3))
            return self.head(x)

    return into_mindspore(Net(), w)
