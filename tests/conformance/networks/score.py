"""Score network: Fourier features of time, downsampling padded on the far side, single-head attention
on feature maps by 1x1 convolutions, residuals divided by the square root of two."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

WIDTH = 8
FEATURES = 6
EPSILON = 1e-6


def weights() -> Weights:
    w = Weights(29)
    w.normal("fourier", FEATURES)
    w.dense("time", WIDTH, 2 * FEATURES)
    w.conv("inp", WIDTH, 2, 3)
    w.conv("down", WIDTH, WIDTH, 3)
    w.norm("norm", WIDTH)
    for part in ("q", "k", "v", "proj"):
        w.conv(part, WIDTH, WIDTH)
    w.conv("up", WIDTH, WIDTH, 3)
    w.conv("out", 2, WIDTH, 3)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    x = rng.standard_normal((batch, 2, 8, 12), dtype=np.float32)
    return x, rng.uniform(0.1, 1, batch).astype(np.float32)


def pytorch(w: Weights) -> Any:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fourier = nn.Parameter(torch.zeros(FEATURES), requires_grad=False)
            self.time = nn.Linear(2 * FEATURES, WIDTH)
            self.inp = nn.Conv2d(2, WIDTH, 3, padding=1)
            self.down = nn.Conv2d(WIDTH, WIDTH, 3, stride=2)
            self.norm = nn.GroupNorm(4, WIDTH, eps=EPSILON)
            self.q = nn.Conv2d(WIDTH, WIDTH, 1)
            self.k = nn.Conv2d(WIDTH, WIDTH, 1)
            self.v = nn.Conv2d(WIDTH, WIDTH, 1)
            self.proj = nn.Conv2d(WIDTH, WIDTH, 1)
            self.up = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
            self.out = nn.Conv2d(WIDTH, 2, 3, padding=1)

        def attention(self, x: Tensor) -> Tensor:
            b, c, h, w = x.shape
            n = self.norm(x)
            q = self.q(n).reshape(b, c, h * w).permute(0, 2, 1)
            k = self.k(n).reshape(b, c, h * w)
            v = self.v(n).reshape(b, c, h * w)
            weight = torch.softmax(torch.bmm(q, k) * (int(c) ** (-0.5)), dim=2)
            y = torch.bmm(v, weight.permute(0, 2, 1)).reshape(b, c, h, w)
            return (x + self.proj(y)) / math.sqrt(2)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            angles = t[:, None] * self.fourier[None, :] * 2 * math.pi
            emb = self.time(torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1))
            h = self.inp(x) + emb[..., None, None]
            skip = h = h * torch.sigmoid(h)
            h = self.down(F.pad(h, (0, 1, 0, 1), mode="constant", value=0))
            h = self.attention(h)
            h = self.up(F.interpolate(h, scale_factor=2.0, mode="nearest"))
            h = self.out((h + skip) / math.sqrt(2.0))
            return h / t[:, None, None, None]

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    import keras
    from keras import layers, ops

    class Fourier(layers.Layer):
        def build(self, shape: Any) -> None:
            self.table = self.add_weight(name="table", shape=(FEATURES,), trainable=False)

        def call(self, t: Any) -> Any:
            angles = 2 * math.pi * ops.expand_dims(t, 1) * self.table
            return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)

    x = keras.Input((8, 12, 2))
    t = keras.Input(())
    emb = layers.Dense(WIDTH, name="time")(Fourier(name="fourier")(t))
    h = layers.Conv2D(WIDTH, 3, padding="same", name="inp")(x) + emb[:, None, None, :]
    skip = h = keras.ops.swish(h)
    h = layers.Conv2D(WIDTH, 3, strides=2, padding="same", name="down")(h)
    n = layers.GroupNormalization(4, epsilon=EPSILON, name="norm")(h)
    q, k, v = (
        layers.Reshape((4 * 6, WIDTH))(layers.Conv2D(WIDTH, 1, name=part)(n)) for part in "qkv"
    )
    scores = ops.einsum("bic,bjc->bij", q, k) * WIDTH**-0.5
    y = ops.einsum("bij,bjc->bic", ops.softmax(scores, axis=-1), v)
    y = layers.Conv2D(WIDTH, 1, name="proj")(layers.Reshape((4, 6, WIDTH))(y))
    h = (h + y) / math.sqrt(2)
    h = layers.UpSampling2D(2, interpolation="nearest")(h)
    h = layers.Conv2D(WIDTH, 3, padding="same", name="up")(h)
    h = layers.Conv2D(2, 3, padding="same", name="out")((h + skip) / np.sqrt(2.0).astype("float32"))
    return into_keras(keras.Model([x, t], h / ops.reshape(t, (-1, 1, 1, 1))), w)


def mindspore(w: Weights) -> Any:
    from mindspore import Parameter, Tensor, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.fourier = Parameter(Tensor(w["fourier"]), requires_grad=False)
            self.time = nn.Dense(2 * FEATURES, WIDTH)
            self.inp = nn.Conv2d(2, WIDTH, 3, has_bias=True)
            self.pad = nn.ZeroPad2d((0, 1, 0, 1))
            self.down = nn.Conv2d(WIDTH, WIDTH, 3, 2, pad_mode="valid", has_bias=True)
            self.norm = nn.GroupNorm(4, WIDTH, eps=EPSILON)
            self.q = nn.Conv2d(WIDTH, WIDTH, 1, has_bias=True)
            self.k = nn.Conv2d(WIDTH, WIDTH, 1, has_bias=True)
            self.v = nn.Conv2d(WIDTH, WIDTH, 1, has_bias=True)
            self.proj = nn.Conv2d(WIDTH, WIDTH, 1, has_bias=True)
            self.up = nn.Conv2d(WIDTH, WIDTH, 3, has_bias=True)
            self.out = nn.Conv2d(WIDTH, 2, 3, has_bias=True)
            self.upsample = ops.ResizeNearestNeighbor((8, 12))
            self.scores = ops.BatchMatMul(transpose_a=True)
            self.mix = ops.BatchMatMul(transpose_b=True)
            self.softmax = nn.Softmax(axis=-1)
            self.half = 1 / math.sqrt(2)

        def attention(self, x: Tensor) -> Tensor:
            b, c, h, w = x.shape
            n = self.norm(x)
            q = self.q(n).reshape(b, c, h * w)
            k = self.k(n).reshape(b, c, h * w)
            v = self.v(n).reshape(b, c, h * w)
            weight = self.softmax(self.scores(q, k) * (c**-0.5))
            return (x + self.proj(self.mix(v, weight).reshape(b, c, h, w))) * self.half

        def construct(self, x: Tensor, t: Tensor) -> Tensor:
            angles = t.expand_dims(1) * (self.fourier * (2 * math.pi))
            emb = self.time(ops.cat((ops.sin(angles), ops.cos(angles)), axis=1))
            h = self.inp(x) + emb.reshape(emb.shape[0], WIDTH, 1, 1)
            h = ops.silu(h)
            skip = h
            h = self.attention(self.down(self.pad(h)))
            h = self.up(self.upsample(h))
            h = self.out((h + skip) * self.half)
            return h / t.reshape(-1, 1, 1, 1)

    return into_mindspore(Net(), w)
