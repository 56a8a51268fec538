"""Vision transformer: patches, a class token, learned positions, the class token's logits."""

from __future__ import annotations

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
HEADS = 2
DIM = WIDTH // HEADS
TOKENS = 3 * 2
EPSILON = 1e-6


def weights() -> Weights:
    w = Weights(25)
    w.conv("patch", WIDTH, 3, 4)
    w.normal("cls", 1, 1, WIDTH)
    w.normal("pos", 1, TOKENS + 1, WIDTH, std=0.3)
    w.norm("norm1", WIDTH)
    w.attention("attn", WIDTH)
    w.norm("norm2", WIDTH)
    w.dense("fc1", 2 * WIDTH, WIDTH)
    w.dense("fc2", WIDTH, 2 * WIDTH)
    w.norm("norm", WIDTH)
    w.dense("head", 4, WIDTH)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.standard_normal((batch, 3, 12, 8), dtype=np.float32),)


def pytorch(w: Weights) -> Any:
    """timm's style."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, WIDTH, 4, stride=4)
            self.cls = nn.Parameter(torch.zeros(1, 1, WIDTH))
            self.pos = nn.Parameter(torch.zeros(1, TOKENS + 1, WIDTH))
            self.norm1 = nn.LayerNorm(WIDTH, eps=EPSILON)
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)
            self.norm2 = nn.LayerNorm(WIDTH, eps=EPSILON)
            self.fc1 = nn.Linear(WIDTH, 2 * WIDTH)
            self.fc2 = nn.Linear(2 * WIDTH, WIDTH)
            self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
            self.head = nn.Linear(WIDTH, 4)

        def attention(self, x: Tensor) -> Tensor:
            b, n, c = x.shape
            qkv = self.qkv(x).reshape(b, n, 3, HEADS, DIM).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            x = F.scaled_dot_product_attention(q, k, v)
            return self.out(x.transpose(1, 2).reshape(b, n, c))

        def forward(self, x: Tensor) -> Tensor:
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x), dim=1) + self.pos
            x = x + self.attention(self.norm1(x))
            x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
            return self.head(self.norm(x)[:, 0])

    named = with_fused_qkv(w, "attn", "qkv.weight", "qkv.bias")
    return into_torch(Net(), {k.removeprefix("attn."): v for k, v in named.items()})


def tensorflow(w: Weights) -> Any:
    """keras-hub's style: a layer for class token and positions."""
    import keras
    from keras import layers, ops

    class Embed(layers.Layer):
        def build(self, shape: Any) -> None:
            self.cls = self.add_weight(name="cls", shape=(1, 1, WIDTH))
            self.pos = self.add_weight(name="pos", shape=(1, TOKENS + 1, WIDTH))

        def call(self, x: Any) -> Any:
            cls = ops.broadcast_to(self.cls, (ops.shape(x)[0], 1, WIDTH))
            return ops.concatenate([cls, x], axis=1) + self.pos

    x = keras.Input((12, 8, 3))
    h = layers.Conv2D(WIDTH, 4, strides=4, padding="valid", name="patch")(x)
    h = layers.Reshape((TOKENS, WIDTH))(h)
    h = Embed(name="embed")(h)
    n = layers.LayerNormalization(epsilon=EPSILON, name="norm1")(h)
    h = layers.Add()([h, layers.MultiHeadAttention(HEADS, DIM, name="attn")(n, n)])
    n = layers.LayerNormalization(epsilon=EPSILON, name="norm2")(h)
    n = layers.Dense(2 * WIDTH, activation="gelu", name="fc1")(n)
    h = layers.Add()([h, layers.Dense(WIDTH, name="fc2")(n)])
    h = layers.LayerNormalization(epsilon=EPSILON, name="norm")(h)
    h = layers.Dense(4, name="head")(h[:, 0])
    named = {{"cls": "embed.cls", "pos": "embed.pos"}.get(k, k): v for k, v in w.items()}
    return into_keras(keras.Model(x, h), named)


def mindspore(w: Weights) -> Any:
    """ops.tile of the class token, BatchMatMul."""
    from mindspore import Parameter, Tensor, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, WIDTH, 4, 4, pad_mode="valid", has_bias=True)
            self.cls = Parameter(Tensor(w["cls"]))
            self.pos = Parameter(Tensor(w["pos"]))
            self.norm1 = nn.LayerNorm((WIDTH,), epsilon=EPSILON)
            self.query = nn.Dense(WIDTH, WIDTH)
            self.key = nn.Dense(WIDTH, WIDTH)
            self.value = nn.Dense(WIDTH, WIDTH)
            self.out = nn.Dense(WIDTH, WIDTH)
            self.norm2 = nn.LayerNorm((WIDTH,), epsilon=EPSILON)
            self.fc1 = nn.Dense(WIDTH, 2 * WIDTH)
            self.fc2 = nn.Dense(2 * WIDTH, WIDTH)
            self.norm = nn.LayerNorm((WIDTH,), epsilon=EPSILON)
            self.head = nn.Dense(WIDTH, 4)
            self.bmm_t = ops.BatchMatMul(transpose_b=True)
            self.bmm = ops.BatchMatMul()

        def heads(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], -1, HEADS, DIM).transpose(0, 2, 1, 3)

        def attention(self, x: Tensor) -> Tensor:
            q = self.heads(self.query(x)) * (DIM**-0.5)
            scores = self.bmm_t(q, self.heads(self.key(x)))
            y = self.bmm(ops.softmax(scores), self.heads(self.value(x)))
            return self.out(y.transpose(0, 2, 1, 3).reshape(x.shape))

        def construct(self, x: Tensor) -> Tensor:
            x = self.patch(x)
            x = x.reshape(x.shape[0], WIDTH, -1).swapaxes(1, 2)
            x = ops.concat((ops.tile(self.cls, (x.shape[0], 1, 1)), x), axis=1) + self.pos
            x = x + self.attention(self.norm1(x))
            x = x + self.fc2(ops.gelu(self.fc1(self.norm2(x))))
            return self.head(self.norm(x)[:, 0, :])

    return into_mindspore(Net(), {k.removeprefix("attn."): v for k, v in w.items()})
