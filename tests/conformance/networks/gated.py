"""Language-model ingredients: RMSNorm, SwiGLU and GEGLU, one block used twice, output tied to the embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

WIDTH = 16
HIDDEN = 24
TOKENS = 5
VOCABULARY = 30
EPSILON = 1e-6


def weights() -> Weights:
    w = Weights(21)
    w.normal("tokens.weight", VOCABULARY, WIDTH)
    w.norm("norm1", WIDTH, bias=False)
    w.dense("gate", HIDDEN, WIDTH, bias=False)
    w.dense("up", HIDDEN, WIDTH, bias=False)
    w.dense("down", WIDTH, HIDDEN, bias=False)
    w.norm("norm2", WIDTH, bias=False)
    w.dense("wi", 2 * HIDDEN, WIDTH)
    w.dense("wo", WIDTH, HIDDEN)
    w.norm("norm3", WIDTH, bias=False)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.integers(0, VOCABULARY, (batch, TOKENS), dtype=np.int64),)


def pytorch(w: Weights) -> Any:
    """Llama's RMSNorm written out; separate gate and up projections; F.linear with the embedding."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class RMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(WIDTH))

        def forward(self, x: Tensor) -> Tensor:
            variance = x.pow(2).mean(-1, keepdim=True)
            return self.weight * (x * torch.rsqrt(variance + EPSILON))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.norm1 = RMSNorm()
            self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
            self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
            self.down = nn.Linear(HIDDEN, WIDTH, bias=False)
            self.norm2 = RMSNorm()
            self.wi = nn.Linear(WIDTH, 2 * HIDDEN)
            self.wo = nn.Linear(HIDDEN, WIDTH)
            self.norm3 = RMSNorm()

        def swiglu(self, x: Tensor) -> Tensor:
            h = self.norm1(x)
            return x + self.down(F.silu(self.gate(h)) * self.up(h))

        def forward(self, ids: Tensor) -> Tensor:
            x = self.tokens(ids)
            for _ in range(2):
                x = self.swiglu(x)
            hidden, gate = self.wi(self.norm2(x)).chunk(2, dim=-1)
            x = x + self.wo(hidden * F.gelu(gate))
            return F.linear(self.norm3(x), self.tokens.weight)

    return into_torch(Net(), w)


def pytorch_official(w: Weights) -> Any:
    """nn.RMSNorm; gate and up projected together; the tied weight shared by a Linear layer."""
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.norm1 = nn.RMSNorm(WIDTH, eps=EPSILON)
            self.gate_up = nn.Linear(WIDTH, 2 * HIDDEN, bias=False)
            self.down = nn.Linear(HIDDEN, WIDTH, bias=False)
            self.norm2 = nn.RMSNorm(WIDTH, eps=EPSILON)
            self.wi = nn.Linear(WIDTH, 2 * HIDDEN)
            self.wo = nn.Linear(HIDDEN, WIDTH)
            self.norm3 = nn.RMSNorm(WIDTH, eps=EPSILON)
            self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
            self.lm_head.weight = self.tokens.weight

        def swiglu(self, x: Tensor) -> Tensor:
            gate, up = self.gate_up(self.norm1(x)).split(HIDDEN, dim=-1)
            return x + self.down(up * F.silu(gate))

        def forward(self, ids: Tensor) -> Tensor:
            x = self.swiglu(self.swiglu(self.tokens(ids)))
            h = self.wi(self.norm2(x))
            x = x + self.wo(h[..., :HIDDEN] * F.gelu(h[..., HIDDEN:]))
            return self.lm_head(self.norm3(x))

    named = {k: v for k, v in w.items() if k not in ("gate.weight", "up.weight")}
    named["gate_up.weight"] = np.concatenate([w["gate.weight"], w["up.weight"]])
    named["lm_head.weight"] = w["tokens.weight"]
    return into_torch(Net(), named)


def tensorflow(w: Weights) -> Any:
    """layers.RMSNormalization, ops.split; the embedding's matrix in ops.matmul."""
    import keras
    from keras import layers, ops

    ids = keras.Input((TOKENS,), dtype="int64")
    tokens = layers.Embedding(VOCABULARY, WIDTH, name="tokens")
    norm1 = layers.RMSNormalization(epsilon=EPSILON, name="norm1")
    gate = layers.Dense(HIDDEN, activation="silu", use_bias=False, name="gate")
    up = layers.Dense(HIDDEN, use_bias=False, name="up")
    down = layers.Dense(WIDTH, use_bias=False, name="down")
    x = tokens(ids)
    for _ in range(2):
        h = norm1(x)
        x = x + down(gate(h) * up(h))
    h = layers.RMSNormalization(epsilon=EPSILON, name="norm2")(x)
    hidden, g = ops.split(layers.Dense(2 * HIDDEN, name="wi")(h), 2, axis=-1)
    x = x + layers.Dense(WIDTH, name="wo")(hidden * ops.gelu(g, approximate=False))
    x = layers.RMSNormalization(epsilon=EPSILON, name="norm3")(x)
    logits = _TiedHead.make(tokens)(x)
    return into_keras(keras.Model(ids, logits), w)


class _TiedHead:
    @staticmethod
    def make(tokens: Any) -> Any:
        from keras import layers, ops

        class Head(layers.Layer):
            def call(self, x: Any) -> Any:
                return ops.matmul(x, ops.transpose(tokens.embeddings))

        return Head()


def tensorflow_reversible(w: Weights) -> Any:
    """layers.ReversibleEmbedding; RMSNorm written out with ops."""
    import keras
    from keras import layers, ops

    class RMSNorm(layers.Layer):
        def build(self, shape: Any) -> None:
            self.scale = self.add_weight(name="scale", shape=(WIDTH,), initializer="ones")

        def call(self, x: Any) -> Any:
            variance = ops.mean(ops.square(x), axis=-1, keepdims=True)
            return x * ops.rsqrt(variance + EPSILON) * self.scale

    ids = keras.Input((TOKENS,), dtype="int64")
    tokens = layers.ReversibleEmbedding(VOCABULARY, WIDTH, name="tokens")
    norm1 = RMSNorm(name="norm1")
    gate = layers.Dense(HIDDEN, use_bias=False, name="gate")
    up = layers.Dense(HIDDEN, use_bias=False, name="up")
    down = layers.Dense(WIDTH, use_bias=False, name="down")
    x = tokens(ids)
    for _ in range(2):
        h = norm1(x)
        x = layers.add([x, down(layers.multiply([up(h), ops.silu(gate(h))]))])
    h = layers.Dense(2 * HIDDEN, name="wi")(RMSNorm(name="norm2")(x))
    h = h[..., :HIDDEN] * keras.activations.gelu(h[..., HIDDEN:])
    x = layers.add([x, layers.Dense(WIDTH, name="wo")(h)])
    return into_keras(keras.Model(ids, tokens(RMSNorm(name="norm3")(x), reverse=True)), w)


def mindspore(w: Weights) -> Any:
    """RMSNorm from primitives; ops.matmul with the transposed table."""
    import mindspore as ms
    from mindspore import Parameter, Tensor, nn, ops

    class RMSNorm(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.weight = Parameter(ops.ones(WIDTH, ms.float32))
            self.mean = ops.ReduceMean(keep_dims=True)
            self.square = ops.Square()
            self.rsqrt = ops.Rsqrt()

        def construct(self, x: Tensor) -> Tensor:
            return x * self.rsqrt(self.mean(self.square(x), -1) + EPSILON) * self.weight

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.norm1 = RMSNorm()
            self.gate = nn.Dense(WIDTH, HIDDEN, has_bias=False)
            self.up = nn.Dense(WIDTH, HIDDEN, has_bias=False)
            self.down = nn.Dense(HIDDEN, WIDTH, has_bias=False)
            self.norm2 = RMSNorm()
            self.wi = nn.Dense(WIDTH, 2 * HIDDEN)
            self.wo = nn.Dense(HIDDEN, WIDTH)
            self.norm3 = RMSNorm()
            self.matmul = ops.MatMul(transpose_b=True)

        def swiglu(self, x: Tensor) -> Tensor:
            h = self.norm1(x)
            return x + self.down(self.up(h) * ops.silu(self.gate(h)))

        def construct(self, ids: Tensor) -> Tensor:
            x = self.swiglu(self.swiglu(self.tokens(ids)))
            hidden, gate = ops.split(self.wi(self.norm2(x)), HIDDEN, -1)
            x = x + self.wo(hidden * ops.gelu(gate))
            x = self.norm3(x).reshape(-1, WIDTH)
            logits = self.matmul(x, self.tokens.embedding_table)
            return logits.reshape(ids.shape[0], ids.shape[1], VOCABULARY)

    return into_mindspore(Net(), w)
