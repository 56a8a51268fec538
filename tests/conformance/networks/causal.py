"""Causal self-attention, pre-norm, with the triangle made in each framework's own way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.conformance.networks.weights import (
    Weights,
    into_keras,
    into_mindspore,
    into_torch,
    with_fused_qkv,
)

WIDTH = 16
HEADS = 4
DIM = WIDTH // HEADS
TOKENS = 6
EPSILON = 1e-5


def weights() -> Weights:
    w = Weights(16)
    w.norm("norm", WIDTH)
    w.attention("attn", WIDTH)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.standard_normal((batch, TOKENS, WIDTH), dtype=np.float32),)


def _fused(w: Weights) -> dict[str, np.ndarray]:
    named = with_fused_qkv(w, "attn", "qkv.weight", "qkv.bias")
    return {k.replace("attn.out.", "out."): v for k, v in named.items()}


def pytorch(w: Weights) -> Any:
    """nanoGPT: one dense layer, split, ``is_causal=True``."""
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            b, t, c = x.size()
            q, k, v = self.qkv(self.norm(x)).split(c, dim=2)
            q = q.view(b, t, HEADS, c // HEADS).transpose(1, 2)
            k = k.view(b, t, HEADS, c // HEADS).transpose(1, 2)
            v = v.view(b, t, HEADS, c // HEADS).transpose(1, 2)
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0, is_causal=True)
            return x + self.out(y.transpose(1, 2).contiguous().view(b, t, c))

    return into_torch(Net(), _fused(w))


def pytorch_buffer(w: Weights) -> Any:
    """minGPT: a triangular buffer and masked_fill with -inf."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)
            triangle = torch.tril(torch.ones(TOKENS, TOKENS)).view(1, 1, TOKENS, TOKENS)
            self.register_buffer("triangle", triangle, persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            b, t, c = x.size()
            q, k, v = self.qkv(self.norm(x)).split(c, dim=2)
            q = q.view(b, t, HEADS, c // HEADS).transpose(1, 2)
            k = k.view(b, t, HEADS, c // HEADS).transpose(1, 2)
            v = v.view(b, t, HEADS, c // HEADS).transpose(1, 2)
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.triangle[:, :, :t, :t] == 0, float("-inf"))
            y = F.softmax(att, dim=-1) @ v
            return x + self.out(y.transpose(1, 2).contiguous().view(b, t, c))

    return into_torch(Net(), _fused(w))


def tensorflow(w: Weights) -> Any:
    """MultiHeadAttention(use_causal_mask=True)."""
    import keras
    from keras import layers

    x = keras.Input((TOKENS, WIDTH))
    h = layers.LayerNormalization(epsilon=EPSILON, name="norm")(x)
    h = layers.MultiHeadAttention(HEADS, DIM, name="attn")(h, h, use_causal_mask=True)
    return into_keras(keras.Model(x, layers.Add()([x, h])), w)


def tensorflow_where(w: Weights) -> Any:
    """ops.where on ops.tril, a large negative number."""
    import keras
    from keras import layers, ops

    def heads(h: keras.KerasTensor) -> keras.KerasTensor:
        return ops.transpose(ops.reshape(h, (-1, TOKENS, HEADS, DIM)), (0, 2, 1, 3))

    x = keras.Input((TOKENS, WIDTH))
    h = layers.LayerNormalization(epsilon=EPSILON, name="norm")(x)
    q, k, v = (heads(layers.Dense(WIDTH, name=f"attn.{p}")(h)) for p in ("query", "key", "value"))
    scores = ops.einsum("bhqd,bhkd->bhqk", q, k) * DIM**-0.5
    triangle = ops.tril(ops.ones((TOKENS, TOKENS), dtype="bool"))
    scores = ops.where(triangle, scores, -1e9)
    y = ops.einsum("bhqk,bhkd->bqhd", ops.softmax(scores), v)
    y = layers.Dense(WIDTH, name="attn.out")(ops.reshape(y, (-1, TOKENS, WIDTH)))
    return into_keras(keras.Model(x, x + y), w)


def mindspore(w: Weights) -> Any:
    """ops.masked_fill with an upper triangle made by NumPy."""
    import mindspore as ms
    from mindspore import Tensor, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm((WIDTH,), epsilon=EPSILON)
            self.qkv = nn.Dense(WIDTH, 3 * WIDTH)
            self.out = nn.Dense(WIDTH, WIDTH)
            self.future = Tensor(np.triu(np.ones((TOKENS, TOKENS)), 1), ms.bool_)
            self.scale = 1 / math.sqrt(DIM)

        def heads(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], TOKENS, HEADS, DIM).transpose(0, 2, 1, 3)

        def construct(self, x: Tensor) -> Tensor:
            q, k, v = ops.split(self.qkv(self.norm(x)), WIDTH, axis=-1)
            q, k, v = self.heads(q), self.heads(k), self.heads(v)
            scores = ops.matmul(q, k.transpose(0, 1, 3, 2)) * self.scale
            scores = ops.masked_fill(scores, self.future, -1e9)
            y = ops.matmul(ops.softmax(scores), v)
            return x + self.out(y.transpose(0, 2, 1, 3).reshape(x.shape))

    return into_mindspore(Net(), _fused(w))
