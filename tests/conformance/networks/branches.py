"""Inception and DenseNet ingredients: parallel branches, padded pooling, concatenation, norm after relu."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

EPSILON = 1e-3


def weights() -> Weights:
    w = Weights(27)
    w.conv("stem", 8, 3, 3)
    w.batch_norm("stem_bn", 8)
    w.conv("one", 4, 8)
    w.conv("three1", 4, 8)
    w.conv("three2", 6, 4, 3)
    w.conv("pooled", 4, 8)
    w.batch_norm("dense_bn", 14)
    w.conv("dense", 6, 14, 3, bias=False)
    w.batch_norm("last_bn", 20)
    w.dense("head", 4, 40)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.uniform(0, 255, (batch, 3, 11, 11)).astype(np.float32),)


MEAN = np.float32([120.0, 115.0, 105.0])
STD = np.float32([60.0, 58.0, 57.0])


def pytorch(w: Weights) -> Any:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.from_numpy(MEAN).view(1, 3, 1, 1), persistent=False)
            self.register_buffer("std", torch.from_numpy(STD).view(1, 3, 1, 1), persistent=False)
            self.stem = nn.Conv2d(3, 8, 3)
            self.stem_bn = nn.BatchNorm2d(8, eps=EPSILON)
            self.one = nn.Conv2d(8, 4, 1)
            self.three1 = nn.Conv2d(8, 4, 1)
            self.three2 = nn.Conv2d(4, 6, 3, padding=1)
            self.pooled = nn.Conv2d(8, 4, 1)
            self.dense_bn = nn.BatchNorm2d(14, eps=EPSILON)
            self.dense = nn.Conv2d(14, 6, 3, padding=1, bias=False)
            self.last_bn = nn.BatchNorm2d(20, eps=EPSILON)
            self.head = nn.Linear(40, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem_bn(F.relu(self.stem((x - self.mean) / self.std)))
            a = F.relu(self.one(x))
            b = F.relu(self.three2(F.relu(self.three1(x))))
            c = F.relu(self.pooled(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)))
            x = torch.cat([a, b, c], 1)
            x = torch.cat([x, self.dense(F.relu(self.dense_bn(x)))], 1)
            x = F.relu(self.last_bn(x))
            x = torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)], 1)
            return self.head(x.flatten(1))

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    import keras
    from keras import layers

    x = keras.Input((11, 11, 3))
    h = layers.Normalization(mean=MEAN, variance=STD**2)(x)
    h = layers.Conv2D(8, 3, activation="relu", name="stem")(h)
    h = layers.BatchNormalization(epsilon=EPSILON, name="stem_bn")(h)
    a = layers.Conv2D(4, 1, activation="relu", name="one")(h)
    b = layers.Conv2D(4, 1, activation="relu", name="three1")(h)
    b = layers.Conv2D(6, 3, padding="same", activation="relu", name="three2")(b)
    c = layers.AveragePooling2D(3, strides=1, padding="same")(h)
    c = layers.Conv2D(4, 1, activation="relu", name="pooled")(c)
    h = layers.Concatenate()([a, b, c])
    d = layers.ReLU()(layers.BatchNormalization(epsilon=EPSILON, name="dense_bn")(h))
    d = layers.Conv2D(6, 3, padding="same", use_bias=False, name="dense")(d)
    h = layers.Concatenate()([h, d])
    h = layers.ReLU()(layers.BatchNormalization(epsilon=EPSILON, name="last_bn")(h))
    h = layers.Concatenate()([layers.GlobalAveragePooling2D()(h), layers.GlobalMaxPooling2D()(h)])
    return into_keras(keras.Model(x, layers.Dense(4, name="head")(h)), w)


def mindspore(w: Weights) -> Any:
    from mindspore import Tensor, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.mean = Tensor(MEAN.reshape(1, 3, 1, 1))
            self.std = Tensor(STD.reshape(1, 3, 1, 1))
            self.stem = nn.Conv2d(3, 8, 3, pad_mode="valid", has_bias=True)
            self.stem_bn = nn.BatchNorm2d(8, eps=EPSILON)
            self.one = nn.Conv2d(8, 4, 1, has_bias=True)
            self.three1 = nn.Conv2d(8, 4, 1, has_bias=True)
            self.three2 = nn.Conv2d(4, 6, 3, has_bias=True)
            self.pool = nn.AvgPool2d(3, 1, pad_mode="same")
            self.pooled = nn.Conv2d(8, 4, 1, has_bias=True)
            self.dense_bn = nn.BatchNorm2d(14, eps=EPSILON)
            self.dense = nn.Conv2d(14, 6, 3)
            self.last_bn = nn.BatchNorm2d(20, eps=EPSILON)
            self.head = nn.Dense(40, 4)
            self.relu = nn.ReLU()
            self.cat = ops.Concat(1)

        def construct(self, x: Tensor) -> Tensor:
            x = self.stem_bn(self.relu(self.stem((x - self.mean) / self.std)))
            a = self.relu(self.one(x))
            b = self.relu(self.three2(self.relu(self.three1(x))))
            c = self.relu(self.pooled(self.pool(x)))
            x = self.cat((a, b, c))
            x = self.cat((x, self.dense(self.relu(self.dense_bn(x)))))
            x = self.relu(self.last_bn(x))
            return self.head(self.cat((x.mean((2, 3)), ops.amax(x, (2, 3)))))

    return into_mindspore(Net(), w)
