"""Attention with a mask that is an input: additive first, then boolean (True where a key may be seen)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

WIDTH = 16
HEADS = 2
DIM = WIDTH // HEADS
TOKENS = 5
LOW = -1e9


def weights() -> Weights:
    w = Weights(15)
    w.attention("first", WIDTH)
    w.attention("second", WIDTH)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    x = rng.standard_normal((batch, TOKENS, WIDTH), dtype=np.float32)
    bias = rng.standard_normal((batch, TOKENS, TOKENS), dtype=np.float32)
    keep = rng.integers(0, 2, (batch, TOKENS)).astype(bool)
    keep[:, 0] = True  # a row without any key means something else in each framework
    return x, bias, keep


def pytorch(w: Weights) -> Any:
    """F.scaled_dot_product_attention with both kinds of mask."""
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(WIDTH, WIDTH)
            self.key = nn.Linear(WIDTH, WIDTH)
            self.value = nn.Linear(WIDTH, WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            b, t, c = x.shape
            q, k, v = (
                f(x).view(b, t, HEADS, DIM).transpose(1, 2)
                for f in (self.query, self.key, self.value)
            )
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            return self.out(y.transpose(1, 2).reshape(b, t, c))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Attention()
            self.second = Attention()

        def forward(self, x: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
            x = x + self.first(x, bias.unsqueeze(1))
            return x + self.second(x, keep[:, None, None, :])

    return into_torch(Net(), w)


def pytorch_eager(w: Weights) -> Any:
    """Scores written out; masked_fill for the boolean mask."""
    import torch
    from torch import Tensor, nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(WIDTH, WIDTH)
            self.key = nn.Linear(WIDTH, WIDTH)
            self.value = nn.Linear(WIDTH, WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor, bias: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
            b, t, c = x.shape
            q, k, v = (
                f(x).view(b, t, HEADS, DIM).transpose(1, 2)
                for f in (self.query, self.key, self.value)
            )
            scores = torch.matmul(q, k.mT) / math.sqrt(DIM)
            if bias is not None:
                scores = scores + bias[:, None]
            if keep is not None:
                scores = scores.masked_fill(~keep[:, None, None, :], LOW)
            return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, c))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Attention()
            self.second = Attention()

        def forward(self, x: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
            x = x + self.first(x, bias=bias)
            return x + self.second(x, keep=keep)

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    """The first written out (Keras' own layer takes no additive mask), the second MultiHeadAttention."""
    import keras
    from keras import layers, ops

    def split(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        x = layers.Dense(WIDTH, name=name)(x)
        return ops.transpose(layers.Reshape((TOKENS, HEADS, DIM))(x), (0, 2, 1, 3))

    x = keras.Input((TOKENS, WIDTH))
    bias = keras.Input((TOKENS, TOKENS))
    keep = keras.Input((TOKENS,), dtype="bool")
    q, k, v = (split(x, f"first.{p}") for p in ("query", "key", "value"))
    scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / ops.sqrt(float(DIM))
    scores = scores + ops.expand_dims(bias, 1)
    y = ops.transpose(ops.matmul(ops.softmax(scores, axis=-1), v), (0, 2, 1, 3))
    h = x + layers.Dense(WIDTH, name="first.out")(layers.Reshape((TOKENS, WIDTH))(y))
    second = layers.MultiHeadAttention(HEADS, DIM, name="second")
    h = h + second(h, h, attention_mask=keep[:, None, :])
    return into_keras(keras.Model([x, bias, keep], h), w)


def mindspore(w: Weights) -> Any:
    """masked_fill and addition before nn.Softmax."""
    from mindspore import Tensor, nn, ops

    class Attention(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Dense(WIDTH, WIDTH)
            self.key = nn.Dense(WIDTH, WIDTH)
            self.value = nn.Dense(WIDTH, WIDTH)
            self.out = nn.Dense(WIDTH, WIDTH)
            self.root = math.sqrt(DIM)

        def split(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], x.shape[1], HEADS, DIM).transpose(0, 2, 1, 3)

        def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))

        def finish(self, scores: Tensor, v: Tensor, shape: tuple[int, ...]) -> Tensor:
            y = ops.matmul(ops.softmax(scores, axis=-1), v)
            return self.out(y.transpose(0, 2, 1, 3).reshape(shape))

    class Biased(Attention):
        def construct(self, x: Tensor, bias: Tensor) -> Tensor:
            q, k, v = self.project(x)
            scores = ops.matmul(q, k.transpose(0, 1, 3, 2)) / self.root
            return self.finish(scores + ops.expand_dims(bias, 1), v, x.shape)

    class Selective(Attention):
        def construct(self, x: Tensor, keep: Tensor) -> Tensor:
            q, k, v = self.project(x)
            scores = ops.matmul(q, k.transpose(0, 1, 3, 2)) / self.root
            drop = ops.logical_not(keep).expand_dims(1).expand_dims(1)
            return self.finish(ops.masked_fill(scores, drop, LOW), v, x.shape)

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.first = Biased()
            self.second = Selective()

        def construct(self, x: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
            x = x + self.first(x, bias)
            return x + self.second(x, keep)

    return into_mindspore(Net(), w)
