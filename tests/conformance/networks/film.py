"""Residual GroupNorm and SiLU blocks whose second norm is scaled and shifted by a time embedding.

The sinusoids' frequencies are computed in the graph; sine comes before cosine.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

EPSILON = 1e-6
GROUPS = 4
FEATURES = 16
TIME = 24
BLOCKS = (("block1", 8, 8), ("block2", 8, 16))  # name, inputs, outputs


def weights() -> Weights:
    w = Weights(13)
    w.dense("time1", TIME, FEATURES)
    w.dense("time2", TIME, TIME)
    w.conv("conv_in", 8, 4, 3)
    for name, inputs, outputs in BLOCKS:
        w.norm(f"{name}.norm1", inputs)
        w.conv(f"{name}.conv1", outputs, inputs, 3)
        w.dense(f"{name}.emb", 2 * outputs, TIME)
        w.norm(f"{name}.norm2", outputs)
        w.conv(f"{name}.conv2", outputs, outputs, 3)
        if inputs != outputs:
            w.conv(f"{name}.skip", outputs, inputs)
    w.conv("conv_out", 4, 16, 3)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    x = rng.standard_normal((batch, 4, 8, 8), dtype=np.float32)
    return x, rng.integers(1, 40, batch, dtype=np.int64)


def pytorch(w: Weights) -> Any:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    def timestep_embedding(t: Tensor, dim: int) -> Tensor:
        half = dim // 2
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        freqs = torch.exp(-math.log(10000) * steps / half)
        args = t[:, None].float() * freqs[None]
        return torch.cat([torch.sin(args), torch.cos(args)], dim=-1)

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.norm1 = nn.GroupNorm(GROUPS, inputs, eps=EPSILON)
            self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
            self.emb = nn.Linear(TIME, 2 * outputs)
            self.norm2 = nn.GroupNorm(GROUPS, outputs, eps=EPSILON)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
            self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

        def forward(self, x: Tensor, emb: Tensor) -> Tensor:
            h = self.conv1(F.silu(self.norm1(x)))
            scale, shift = self.emb(F.silu(emb))[..., None, None].chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
            return self.skip(x) + self.conv2(F.silu(h))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.time1 = nn.Linear(FEATURES, TIME)
            self.time2 = nn.Linear(TIME, TIME)
            self.conv_in = nn.Conv2d(4, 8, 3, padding=1)
            for name, *sizes in BLOCKS:
                self.add_module(name, Block(*sizes))
            self.conv_out = nn.Conv2d(16, 4, 3, padding=1)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            emb = self.time2(F.silu(self.time1(timestep_embedding(t, FEATURES))))
            h = self.conv_in(x)
            for name, *_ in BLOCKS:
                h = getattr(self, name)(h, emb)
            return self.conv_out(h)

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    import keras
    from keras import layers, ops

    def block(x: keras.KerasTensor, emb: keras.KerasTensor, name: str, outputs: int) -> keras.KerasTensor:
        h = layers.GroupNormalization(groups=GROUPS, epsilon=EPSILON, name=f"{name}.norm1")(x)
        h = layers.Conv2D(outputs, 3, padding="same", name=f"{name}.conv1")(ops.silu(h))
        emb = layers.Dense(2 * outputs, name=f"{name}.emb")(ops.silu(emb))
        scale, shift = ops.split(emb[:, None, None, :], 2, axis=-1)
        h = layers.GroupNormalization(groups=GROUPS, epsilon=EPSILON, name=f"{name}.norm2")(h)
        h = ops.silu(h * (scale + 1.0) + shift)
        h = layers.Conv2D(outputs, 3, padding="same", name=f"{name}.conv2")(h)
        if x.shape[-1] != outputs:
            x = layers.Conv2D(outputs, 1, name=f"{name}.skip")(x)
        return x + h

    x = keras.Input((8, 8, 4))
    t = keras.Input((), dtype="int64")
    half = FEATURES // 2
    freqs = ops.exp(ops.arange(half, dtype="float32") * (-math.log(10000.0) / half))
    args = ops.cast(t, "float32")[:, None] * freqs[None, :]
    emb = ops.concatenate([ops.sin(args), ops.cos(args)], axis=-1)
    emb = layers.Dense(TIME, activation="swish", name="time1")(emb)
    emb = layers.Dense(TIME, name="time2")(emb)
    h = layers.Conv2D(8, 3, padding="same", name="conv_in")(x)
    for name, _, outputs in BLOCKS:
        h = block(h, emb, name, outputs)
    h = layers.Conv2D(4, 3, padding="same", name="conv_out")(h)
    return into_keras(keras.Model([x, t], h), w)


def mindspore(w: Weights) -> Any:
    import mindspore as ms
    from mindspore import Tensor, nn, ops

    class TimestepEmbedding(nn.Cell):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.half = dim // 2
            self.rate = -math.log(10000.0) / self.half
            self.cat = ops.Concat(axis=1)

        def construct(self, t: Tensor) -> Tensor:
            freqs = ops.exp(self.rate * ops.arange(self.half).astype(ms.float32))
            args = t.astype(ms.float32).reshape(-1, 1) * freqs
            return self.cat((ops.sin(args), ops.cos(args)))

    class Block(nn.Cell):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.norm1 = nn.GroupNorm(GROUPS, inputs, eps=EPSILON)
            self.conv1 = nn.Conv2d(inputs, outputs, 3, pad_mode="pad", padding=1, has_bias=True)
            self.emb = nn.Dense(TIME, 2 * outputs)
            self.norm2 = nn.GroupNorm(GROUPS, outputs, eps=EPSILON)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, pad_mode="pad", padding=1, has_bias=True)
            self.act = nn.SiLU()
            self.resample = inputs != outputs
            if self.resample:
                self.skip = nn.Conv2d(inputs, outputs, 1, has_bias=True)

        def construct(self, x: Tensor, emb: Tensor) -> Tensor:
            h = self.conv1(self.act(self.norm1(x)))
            emb = self.emb(self.act(emb))
            emb = emb.reshape(emb.shape[0], emb.shape[1], 1, 1)
            scale, shift = ops.chunk(emb, 2, axis=1)
            h = (1 + scale) * self.norm2(h) + shift
            h = self.conv2(self.act(h))
            if self.resample:
                x = self.skip(x)
            return h + x

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.embed = TimestepEmbedding(FEATURES)
            self.time1 = nn.Dense(FEATURES, TIME)
            self.time2 = nn.Dense(TIME, TIME)
            self.conv_in = nn.Conv2d(4, 8, 3, pad_mode="pad", padding=1, has_bias=True)
            self.block1 = Block(*BLOCKS[0][1:])
            self.block2 = Block(*BLOCKS[1][1:])
            self.conv_out = nn.Conv2d(16, 4, 3, pad_mode="pad", padding=1, has_bias=True)

        def construct(self, x: Tensor, t: Tensor) -> Tensor:
            emb = self.time2(ops.silu(self.time1(self.embed(t))))
            h = self.block1(self.conv_in(x), emb)
            return self.conv_out(self.block2(h, emb))

    return into_mindspore(Net(), w)
