"""Token encoder: positions added, a post-norm block, a pre-norm block with cross attention, mean pooling."""

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
HEADS = 4
DIM = WIDTH // HEADS
TOKENS = 7
VOCABULARY = 20
EPSILON = 1e-5


def weights() -> Weights:
    w = Weights(17)
    w.normal("tokens.weight", VOCABULARY, WIDTH)
    w.normal("positions", TOKENS, WIDTH, std=0.3)
    for block in ("post", "pre"):
        w.attention(f"{block}.attn", WIDTH)
        w.dense(f"{block}.fc1", 4 * WIDTH, WIDTH)
        w.dense(f"{block}.fc2", WIDTH, 4 * WIDTH)
        w.norm(f"{block}.norm1", WIDTH)
        w.norm(f"{block}.norm2", WIDTH)
    w.attention("pre.cross", WIDTH)
    w.norm("pre.norm3", WIDTH)
    w.norm("norm", WIDTH)
    w.dense("head", 3, WIDTH)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    ids = rng.integers(0, VOCABULARY, (batch, TOKENS), dtype=np.int64)
    return ids, rng.standard_normal((batch, 5, WIDTH), dtype=np.float32)


def pytorch(w: Weights) -> Any:
    """Own modules around F.scaled_dot_product_attention."""
    return _torch(w, official=False)


def pytorch_layer(w: Weights) -> Any:
    """nn.TransformerEncoderLayer and nn.TransformerDecoderLayer."""
    return _torch(w, official=True)


def _torch(w: Weights, official: bool) -> Any:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(WIDTH, WIDTH)
            self.key = nn.Linear(WIDTH, WIDTH)
            self.value = nn.Linear(WIDTH, WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor, memory: Tensor) -> Tensor:
            q = self.query(x).unflatten(2, (HEADS, DIM)).transpose(1, 2)
            k = self.key(memory).unflatten(2, (HEADS, DIM)).transpose(1, 2)
            v = self.value(memory).unflatten(2, (HEADS, DIM)).transpose(1, 2)
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    class Block(nn.Module):
        def __init__(self, cross: bool) -> None:
            super().__init__()
            self.attn = Attention()
            self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
            self.fc2 = nn.Linear(4 * WIDTH, WIDTH)
            self.norm1 = nn.LayerNorm(WIDTH, eps=EPSILON)
            self.norm2 = nn.LayerNorm(WIDTH, eps=EPSILON)
            self.dropout = nn.Dropout(0.1)
            if cross:
                self.cross = Attention()
                self.norm3 = nn.LayerNorm(WIDTH, eps=EPSILON)

    class PostNorm(Block):
        def forward(self, x: Tensor) -> Tensor:
            x = self.norm1(x + self.dropout(self.attn(x, x)))
            return self.norm2(x + self.dropout(self.fc2(F.gelu(self.fc1(x)))))

    class PreNorm(Block):
        def forward(self, x: Tensor, memory: Tensor) -> Tensor:
            h = self.norm1(x)
            x = x + self.dropout(self.attn(h, h))
            x = x + self.dropout(self.cross(self.norm2(x), memory))
            return x + self.dropout(self.fc2(F.gelu(self.fc1(self.norm3(x)), approximate="tanh")))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.positions = nn.Parameter(torch.zeros(TOKENS, WIDTH))
            if official:
                shape = dict(d_model=WIDTH, nhead=HEADS, dim_feedforward=4 * WIDTH)
                options = dict(layer_norm_eps=EPSILON, batch_first=True)
                self.post = nn.TransformerEncoderLayer(**shape, **options, activation="gelu")
                tanh = nn.GELU(approximate="tanh")
                self.pre = nn.TransformerDecoderLayer(
                    **shape, **options, activation=tanh, norm_first=True
                )
            else:
                self.post = PostNorm(cross=False)
                self.pre = PreNorm(cross=True)
            self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
            self.head = nn.Linear(WIDTH, 3)

        def forward(self, ids: Tensor, memory: Tensor) -> Tensor:
            x = self.tokens(ids) + self.positions
            x = self.pre(self.post(x), memory)
            return self.head(self.norm(x).mean(dim=1))

    return into_torch(Net(), _official(w) if official else w)


def _official(w: Weights) -> dict[str, np.ndarray]:
    named: dict[str, np.ndarray] = dict(w)
    for ours, theirs in (
        ("post.attn", "post.self_attn"),
        ("pre.attn", "pre.self_attn"),
        ("pre.cross", "pre.multihead_attn"),
    ):
        fused = with_fused_qkv(w, ours, f"{theirs}.in_proj_weight", f"{theirs}.in_proj_bias")
        named.update({k: v for k, v in fused.items() if k not in w})
        for leaf in ("weight", "bias"):
            named[f"{theirs}.out_proj.{leaf}"] = w[f"{ours}.out.{leaf}"]
        named = {k: v for k, v in named.items() if not k.startswith(f"{ours}.")}
    return {k.replace(".fc", ".linear"): v for k, v in named.items()}


def tensorflow(w: Weights) -> Any:
    """Functional Keras around MultiHeadAttention; positions in a layer of their own."""
    import keras
    from keras import layers, ops

    class PositionEmbedding(layers.Layer):
        def build(self, shape: Any) -> None:
            self.table = self.add_weight(name="table", shape=(TOKENS, WIDTH))

        def call(self, x: Any) -> Any:
            return x + self.table[: ops.shape(x)[1]]

    def attention(x: Any, memory: Any, name: str) -> Any:
        x = layers.MultiHeadAttention(HEADS, DIM, dropout=0.1, name=name)(x, memory)
        return layers.Dropout(0.1)(x)

    def norm(x: Any, name: str) -> Any:
        return layers.LayerNormalization(epsilon=EPSILON, name=name)(x)

    def feed_forward(x: Any, name: str, approximate: bool) -> Any:
        x = layers.Dense(4 * WIDTH, name=f"{name}.fc1")(x)
        x = keras.activations.gelu(x, approximate=approximate)
        return layers.Dropout(0.1)(layers.Dense(WIDTH, name=f"{name}.fc2")(x))

    ids = keras.Input((TOKENS,), dtype="int64")
    memory = keras.Input((5, WIDTH))
    x = layers.Embedding(VOCABULARY, WIDTH, name="tokens")(ids)
    x = PositionEmbedding(name="positions")(x)
    x = norm(layers.Add()([x, attention(x, x, "post.attn")]), "post.norm1")
    x = norm(layers.Add()([x, feed_forward(x, "post", False)]), "post.norm2")
    h = norm(x, "pre.norm1")
    x = layers.Add()([x, attention(h, h, "pre.attn")])
    x = layers.Add()([x, attention(norm(x, "pre.norm2"), memory, "pre.cross")])
    x = layers.Add()([x, feed_forward(norm(x, "pre.norm3"), "pre", True)])
    x = layers.GlobalAveragePooling1D()(norm(x, "norm"))
    return into_keras(keras.Model([ids, memory], layers.Dense(3, name="head")(x)), w)


def mindspore(w: Weights) -> Any:
    """Cells with primitives; positions are a Parameter."""
    import mindspore as ms
    from mindspore import Parameter, Tensor, nn, ops

    class Attention(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Dense(WIDTH, WIDTH)
            self.key = nn.Dense(WIDTH, WIDTH)
            self.value = nn.Dense(WIDTH, WIDTH)
            self.out = nn.Dense(WIDTH, WIDTH)
            self.matmul_t = ops.BatchMatMul(transpose_b=True)
            self.matmul = ops.BatchMatMul()
            self.softmax = ops.Softmax(-1)
            self.scale = Tensor(DIM**-0.5, ms.float32)

        def split(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], x.shape[1], HEADS, DIM).transpose(0, 2, 1, 3)

        def construct(self, x: Tensor, memory: Tensor) -> Tensor:
            q = self.split(self.query(x))
            k = self.split(self.key(memory))
            v = self.split(self.value(memory))
            y = self.matmul(self.softmax(ops.mul(self.matmul_t(q, k), self.scale)), v)
            return self.out(y.transpose(0, 2, 1, 3).reshape(x.shape))

    class Block(nn.Cell):
        def __init__(self, approximate: bool) -> None:
            super().__init__()
            self.attn = Attention()
            self.fc1 = nn.Dense(WIDTH, 4 * WIDTH)
            self.fc2 = nn.Dense(4 * WIDTH, WIDTH)
            self.norm1 = nn.LayerNorm((WIDTH,), epsilon=EPSILON)
            self.norm2 = nn.LayerNorm((WIDTH,), epsilon=EPSILON)
            self.gelu = nn.GELU(approximate=approximate)
            self.dropout = nn.Dropout(p=0.1)

        def feed_forward(self, x: Tensor) -> Tensor:
            return self.dropout(self.fc2(self.gelu(self.fc1(x))))

    class PostNorm(Block):
        def construct(self, x: Tensor) -> Tensor:
            x = self.norm1(x + self.dropout(self.attn(x, x)))
            return self.norm2(x + self.feed_forward(x))

    class PreNorm(Block):
        def __init__(self) -> None:
            super().__init__(approximate=True)
            self.cross = Attention()
            self.norm3 = nn.LayerNorm((WIDTH,), epsilon=EPSILON)

        def construct(self, x: Tensor, memory: Tensor) -> Tensor:
            h = self.norm1(x)
            x = x + self.dropout(self.attn(h, h))
            x = x + self.dropout(self.cross(self.norm2(x), memory))
            return x + self.feed_forward(self.norm3(x))

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.positions = Parameter(Tensor(w["positions"][None]), name="positions")
            self.post = PostNorm(approximate=False)
            self.pre = PreNorm()
            self.norm = nn.LayerNorm((WIDTH,), epsilon=EPSILON)
            self.head = nn.Dense(WIDTH, 3)

        def construct(self, ids: Tensor, memory: Tensor) -> Tensor:
            x = self.tokens(ids) + self.positions
            x = self.pre(self.post(x), memory)
            return self.head(self.norm(x).mean(1))

    return into_mindspore(Net(), w)
