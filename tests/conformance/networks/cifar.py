"""CIFAR ResNet with parameter-free shortcuts: every second pixel, channels padded with zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

EPSILON = 1e-5
BLOCKS = (("a", 8, 8, 1), ("b", 8, 16, 2), ("c", 16, 16, 1))


def weights() -> Weights:
    w = Weights(30)
    w.conv("stem", 8, 3, 3, bias=False)
    w.batch_norm("stem_bn", 8)
    for name, inputs, outputs, _ in BLOCKS:
        w.conv(f"{name}.conv1", outputs, inputs, 3, bias=False)
        w.batch_norm(f"{name}.bn1", outputs)
        w.conv(f"{name}.conv2", outputs, outputs, 3, bias=False)
        w.batch_norm(f"{name}.bn2", outputs)
    w.dense("fc", 10, 16)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.standard_normal((batch, 3, 16, 16), dtype=np.float32),)


def pytorch(w: Weights) -> Any:
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs, eps=EPSILON)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs, eps=EPSILON)
            self.extra = outputs - inputs

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.bn1(self.conv1(x)))
            h = self.bn2(self.conv2(h))
            if self.extra:
                half = self.extra // 2
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half), "constant", 0)
            h += x
            return F.relu(h)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
            self.stem_bn = nn.BatchNorm2d(8, eps=EPSILON)
            for name, *sizes in BLOCKS:
                self.add_module(name, Block(*sizes))
            self.fc = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.stem_bn(self.stem(x)))
            x = self.c(self.b(self.a(x)))
            x = F.avg_pool2d(x, x.size()[3])
            return F.log_softmax(self.fc(x.view(x.size(0), -1)), dim=-1)

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    import keras
    from keras import layers, ops

    def conv(x: Any, name: str, filters: int, stride: int = 1) -> Any:
        # "same" would pad a stride of two on the far side only.
        x = layers.ZeroPadding2D(1)(x)
        return layers.Conv2D(filters, 3, stride, use_bias=False, name=name)(x)

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=EPSILON, name=name)(x)

    x = keras.Input((16, 16, 3))
    h = ops.relu(norm(conv(x, "stem", 8), "stem_bn"))
    for name, inputs, outputs, stride in BLOCKS:
        y = ops.relu(norm(conv(h, f"{name}.conv1", outputs, stride), f"{name}.bn1"))
        y = norm(conv(y, f"{name}.conv2", outputs), f"{name}.bn2")
        if outputs != inputs:
            half = (outputs - inputs) // 2
            h = ops.pad(h[:, ::2, ::2, :], ((0, 0), (0, 0), (0, 0), (half, half)))
        h = layers.ReLU()(y + h)
    h = layers.Flatten()(layers.AveragePooling2D(8)(h))
    logits = layers.Dense(10, name="fc")(h)
    return into_keras(keras.Model(x, ops.log_softmax(logits, axis=-1)), w)


def mindspore(w: Weights) -> Any:
    from mindspore import Tensor, nn

    class Block(nn.Cell):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, pad_mode="pad", padding=1)
            self.bn1 = nn.BatchNorm2d(outputs, eps=EPSILON)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, pad_mode="pad", padding=1)
            self.bn2 = nn.BatchNorm2d(outputs, eps=EPSILON)
            self.relu = nn.ReLU()
            half = (outputs - inputs) // 2
            self.widens = half > 0
            self.pad = nn.Pad(((0, 0), (half, half), (0, 0), (0, 0)))

        def construct(self, x: Tensor) -> Tensor:
            h = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            if self.widens:
                x = self.pad(x[:, :, ::2, ::2])
            return self.relu(h + x)

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, pad_mode="pad", padding=1)
            self.stem_bn = nn.BatchNorm2d(8, eps=EPSILON)
            self.a = Block(*BLOCKS[0][1:])
            self.b = Block(*BLOCKS[1][1:])
            self.c = Block(*BLOCKS[2][1:])
            self.relu = nn.ReLU()
            self.pool = nn.AvgPool2d(8)
            self.flatten = nn.Flatten()
            self.fc = nn.Dense(16, 10)
            self.log_softmax = nn.LogSoftmax(axis=1)

        def construct(self, x: Tensor) -> Tensor:
            x = self.relu(self.stem_bn(self.stem(x)))
            x = self.flatten(self.pool(self.c(self.b(self.a(x)))))
            return self.log_softmax(self.fc(x))

    return into_mindspore(Net(), w)
