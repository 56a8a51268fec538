"""Diffusion transformer block: adaptive layer norm with shift, scale and gate; patches in and out.

A convolution smooths what the patches are put together to.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

WIDTH = 16
HEADS = 4
DIM = WIDTH // HEADS
SIDE = 4  # patches along an edge
EPSILON = 1e-6
CLASSES = 7


def weights() -> Weights:
    w = Weights(26)
    w.conv("patch", WIDTH, 2, 2)
    w.dense("time1", WIDTH, 8)
    w.dense("time2", WIDTH, WIDTH)
    w.normal("label.weight", CLASSES, WIDTH)
    w.dense("ada", 6 * WIDTH, WIDTH)
    w.attention("attn", WIDTH)
    w.dense("fc1", 4 * WIDTH, WIDTH)
    w.dense("fc2", WIDTH, 4 * WIDTH)
    w.dense("final_ada", 2 * WIDTH, WIDTH)
    w.dense("final", 2 * 2 * 2, WIDTH)
    w.conv("smooth", 2, 2, 3)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (
        rng.standard_normal((batch, 2, 2 * SIDE, 2 * SIDE), dtype=np.float32),
        rng.uniform(0, 1, batch).astype(np.float32),
        rng.integers(0, CLASSES, batch, dtype=np.int64),
    )


def positions() -> np.ndarray:
    """float32[SIDE * SIDE, WIDTH] sinusoids."""
    freqs = 100.0 ** (-np.arange(WIDTH // 2) / (WIDTH // 2))
    angles = np.arange(SIDE * SIDE)[:, None] * freqs
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


FREQUENCIES = (100.0 ** (-np.arange(4) / 4)).astype(np.float32)


def pytorch(w: Weights) -> Any:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(WIDTH, WIDTH)
            self.key = nn.Linear(WIDTH, WIDTH)
            self.value = nn.Linear(WIDTH, WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            b, n, _ = x.shape
            q, k, v = (
                f(x).reshape(b, n, HEADS, DIM).transpose(1, 2)
                for f in (self.query, self.key, self.value)
            )
            y = F.scaled_dot_product_attention(q, k, v)
            return self.out(y.transpose(1, 2).reshape(b, n, WIDTH))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(2, WIDTH, 2, stride=2)
            self.time1 = nn.Linear(8, WIDTH)
            self.time2 = nn.Linear(WIDTH, WIDTH)
            self.label = nn.Embedding(CLASSES, WIDTH)
            self.ada = nn.Linear(WIDTH, 6 * WIDTH)
            self.norm1 = nn.LayerNorm(WIDTH, elementwise_affine=False, eps=EPSILON)
            self.attn = Attention()
            self.norm2 = nn.LayerNorm(WIDTH, elementwise_affine=False, eps=EPSILON)
            self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
            self.fc2 = nn.Linear(4 * WIDTH, WIDTH)
            self.final_ada = nn.Linear(WIDTH, 2 * WIDTH)
            self.norm3 = nn.LayerNorm(WIDTH, elementwise_affine=False, eps=EPSILON)
            self.final = nn.Linear(WIDTH, 2 * 2 * 2)
            self.smooth = nn.Conv2d(2, 2, 3, padding=1)
            self.register_buffer("pos", torch.from_numpy(positions())[None], persistent=False)
            self.register_buffer("freqs", torch.from_numpy(FREQUENCIES), persistent=False)

        def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            angles = torch.outer(t, self.freqs)
            t = self.time2(F.silu(self.time1(torch.cat([angles.cos(), angles.sin()], -1))))
            c = F.silu(t + self.label(y))
            h = self.patch(x).flatten(2).transpose(1, 2) + self.pos
            shift1, scale1, gate1, shift2, scale2, gate2 = self.ada(c).chunk(6, dim=1)
            h = h + gate1.unsqueeze(1) * self.attn(modulate(self.norm1(h), shift1, scale1))
            m = modulate(self.norm2(h), shift2, scale2)
            m = self.fc2(F.gelu(self.fc1(m), approximate="tanh"))
            h = h + gate2.unsqueeze(1) * m
            shift, scale = self.final_ada(c).chunk(2, dim=1)
            h = self.final(modulate(self.norm3(h), shift, scale))
            h = h.reshape(x.shape[0], SIDE, SIDE, 2, 2, 2)
            h = torch.einsum("nhwpqc->nchpwq", h)
            return self.smooth(h.reshape(x.shape))

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    import keras
    from keras import layers, ops

    def norm(x: Any) -> Any:
        return layers.LayerNormalization(epsilon=EPSILON, center=False, scale=False)(x)

    def modulate(x: Any, shift: Any, scale: Any) -> Any:
        return x * (ops.expand_dims(scale, 1) + 1.0) + ops.expand_dims(shift, 1)

    x = keras.Input((2 * SIDE, 2 * SIDE, 2))
    t = keras.Input(())
    y = keras.Input((), dtype="int64")
    angles = ops.expand_dims(t, -1) * FREQUENCIES
    emb = layers.Concatenate()([ops.cos(angles), ops.sin(angles)])
    emb = layers.Dense(WIDTH, activation="silu", name="time1")(emb)
    emb = layers.Dense(WIDTH, name="time2")(emb)
    c = ops.silu(emb + layers.Embedding(CLASSES, WIDTH, name="label")(y))
    h = layers.Conv2D(WIDTH, 2, strides=2, name="patch")(x)
    h = layers.Reshape((SIDE * SIDE, WIDTH))(h) + positions()
    six = layers.Reshape((6, WIDTH))(layers.Dense(6 * WIDTH, name="ada")(c))
    shift1, scale1, gate1, shift2, scale2, gate2 = ops.unstack(six, 6, axis=1)
    n = modulate(norm(h), shift1, scale1)
    a = layers.MultiHeadAttention(HEADS, DIM, name="attn")(n, n)
    h = h + ops.expand_dims(gate1, 1) * a
    n = modulate(norm(h), shift2, scale2)
    n = layers.Dense(4 * WIDTH, name="fc1")(n)
    n = layers.Dense(WIDTH, name="fc2")(ops.gelu(n, approximate=True))
    h = h + gate2[:, None, :] * n
    shift, scale = ops.split(layers.Dense(2 * WIDTH, name="final_ada")(c), 2, axis=-1)
    h = layers.Dense(2 * 2 * 2, name="final")(modulate(norm(h), shift, scale))
    h = ops.reshape(h, (-1, SIDE, SIDE, 2, 2, 2))
    h = ops.transpose(h, (0, 1, 3, 2, 4, 5))
    h = ops.reshape(h, (-1, 2 * SIDE, 2 * SIDE, 2))
    h = layers.Conv2D(2, 3, padding="same", name="smooth")(h)
    return into_keras(keras.Model([x, t, y], h), w)


def mindspore(w: Weights) -> Any:
    from mindspore import Tensor, nn, ops

    class Attention(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Dense(WIDTH, WIDTH)
            self.key = nn.Dense(WIDTH, WIDTH)
            self.value = nn.Dense(WIDTH, WIDTH)
            self.out = nn.Dense(WIDTH, WIDTH)
            self.root = math.sqrt(DIM)

        def heads(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], x.shape[1], HEADS, DIM).transpose(0, 2, 1, 3)

        def construct(self, x: Tensor) -> Tensor:
            q, k, v = self.heads(self.query(x)), self.heads(self.key(x)), self.heads(self.value(x))
            p = ops.softmax(ops.matmul(q, k.swapaxes(2, 3)) / self.root)
            return self.out(ops.matmul(p, v).transpose(0, 2, 1, 3).reshape(x.shape))

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(2, WIDTH, 2, 2, pad_mode="valid", has_bias=True)
            self.time1 = nn.Dense(8, WIDTH)
            self.time2 = nn.Dense(WIDTH, WIDTH)
            self.label = nn.Embedding(CLASSES, WIDTH)
            self.ada = nn.Dense(WIDTH, 6 * WIDTH)
            self.attn = Attention()
            self.fc1 = nn.Dense(WIDTH, 4 * WIDTH)
            self.fc2 = nn.Dense(4 * WIDTH, WIDTH)
            self.final_ada = nn.Dense(WIDTH, 2 * WIDTH)
            self.final = nn.Dense(WIDTH, 2 * 2 * 2)
            self.smooth = nn.Conv2d(2, 2, 3, has_bias=True)
            self.silu = nn.SiLU()
            self.gelu = nn.GELU(approximate=True)
            self.pos = Tensor(positions()[None])
            self.freqs = Tensor(FREQUENCIES)

        def norm(self, x: Tensor) -> Tensor:
            mean = x.mean(-1, keep_dims=True)
            variance = ops.square(x - mean).mean(-1, keep_dims=True)
            return (x - mean) * ops.rsqrt(variance + EPSILON)

        def modulate(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
            return x * (1 + scale.expand_dims(1)) + shift.expand_dims(1)

        def construct(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            angles = t.reshape(-1, 1) * self.freqs
            t = ops.cat((ops.cos(angles), ops.sin(angles)), -1)
            t = self.time2(self.silu(self.time1(t)))
            c = self.silu(t + self.label(y))
            h = self.patch(x)
            h = h.reshape(h.shape[0], WIDTH, SIDE * SIDE).transpose(0, 2, 1) + self.pos
            shift1, scale1, gate1, shift2, scale2, gate2 = ops.chunk(self.ada(c), 6, axis=1)
            h = h + gate1.expand_dims(1) * self.attn(self.modulate(self.norm(h), shift1, scale1))
            m = self.modulate(self.norm(h), shift2, scale2)
            h = h + gate2.expand_dims(1) * self.fc2(self.gelu(self.fc1(m)))
            shift, scale = ops.chunk(self.final_ada(c), 2, axis=1)
            h = self.final(self.modulate(self.norm(h), shift, scale))
            h = h.reshape(x.shape[0], SIDE, SIDE, 2, 2, 2)
            return self.smooth(h.transpose(0, 5, 1, 3, 2, 4).reshape(x.shape))

    return into_mindspore(Net(), w)
