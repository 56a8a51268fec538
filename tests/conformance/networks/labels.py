"""Two conditions, one summed and one concatenated, into a classifier with three outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

CLASSES = 10
STYLES = 6
WIDTH = 8
FEATURES = 12


def weights() -> Weights:
    w = Weights(23)
    w.normal("label.weight", CLASSES, WIDTH)
    w.normal("style.weight", STYLES, WIDTH)
    w.normal("tags.weight", STYLES, WIDTH)
    w.dense("fc1", 16, 2 * WIDTH + FEATURES)
    w.dense("fc2", CLASSES, 16)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (
        rng.standard_normal((batch, FEATURES), dtype=np.float32),
        rng.integers(0, CLASSES, batch, dtype=np.int64),
        rng.integers(0, STYLES, batch, dtype=np.int64),
        rng.integers(0, STYLES, (batch, 3), dtype=np.int64),
    )


def pytorch(w: Weights) -> Any:
    import torch
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.label = nn.Embedding(CLASSES, WIDTH)
            self.style = nn.Embedding(STYLES, WIDTH)
            self.tags = nn.Embedding(STYLES, WIDTH)
            self.fc1 = nn.Linear(2 * WIDTH + FEATURES, 16)
            self.fc2 = nn.Linear(16, CLASSES)

        def forward(self, z: Tensor, y: Tensor, s: Tensor, tags: Tensor) -> tuple[Tensor, ...]:
            condition = self.label(y) + self.style(s)
            tag = self.tags(tags).sum(dim=1)
            h = torch.cat([z, condition, tag], dim=-1)
            logits = self.fc2(torch.tanh(self.fc1(h)))
            return logits.softmax(-1), logits.argmax(-1), torch.log_softmax(logits, dim=1)

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    import keras
    from keras import layers, ops

    z = keras.Input((FEATURES,))
    y = keras.Input((), dtype="int64")
    s = keras.Input((), dtype="int64")
    tags = keras.Input((3,), dtype="int64")
    condition = layers.Add()(
        [
            layers.Embedding(CLASSES, WIDTH, name="label")(y),
            layers.Embedding(STYLES, WIDTH, name="style")(s),
        ]
    )
    tag = ops.sum(layers.Embedding(STYLES, WIDTH, name="tags")(tags), axis=1)
    h = layers.Concatenate()([z, condition, tag])
    h = layers.Dense(16, activation="tanh", name="fc1")(h)
    logits = layers.Dense(CLASSES, name="fc2")(h)
    best = ops.cast(ops.argmax(logits, axis=-1), "int64")
    outputs = [layers.Softmax()(logits), best, ops.log_softmax(logits)]
    return into_keras(keras.Model([z, y, s, tags], outputs), w)


def mindspore(w: Weights) -> Any:
    from mindspore import Tensor, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.label = nn.Embedding(CLASSES, WIDTH)
            self.style = nn.Embedding(STYLES, WIDTH)
            self.tags = nn.Embedding(STYLES, WIDTH)
            self.fc1 = nn.Dense(2 * WIDTH + FEATURES, 16, activation="tanh")
            self.fc2 = nn.Dense(16, CLASSES)
            self.concat = ops.Concat(-1)
            self.softmax = nn.Softmax()
            self.log_softmax = nn.LogSoftmax()

        def construct(self, z: Tensor, y: Tensor, s: Tensor, tags: Tensor) -> tuple[Tensor, ...]:
            condition = self.label(y) + self.style(s)
            tag = self.tags(tags).sum(1)
            h = self.fc1(self.concat((z, condition, tag)))
            logits = self.fc2(h)
            return self.softmax(logits), ops.argmax(logits, dim=-1), self.log_softmax(logits)

    return into_mindspore(Net(), w)
