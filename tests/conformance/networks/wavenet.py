"""One-dimensional convolutions over time: dilated, causal and gated, with residual and skip sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

WIDTH = 6
DILATIONS = (1, 2, 4)
STEPS = 16


def weights() -> Weights:
    w = Weights(28)

    def conv(name: str, outputs: int, inputs: int, kernel: int) -> None:
        w.normal(f"{name}.weight", outputs, inputs, kernel, std=(inputs * kernel) ** -0.5)
        w.uniform(f"{name}.bias", outputs, low=-0.2, high=0.2)

    conv("inp", WIDTH, 4, 1)
    for d in DILATIONS:
        conv(f"filter{d}", WIDTH, WIDTH, 2)
        conv(f"gate{d}", WIDTH, WIDTH, 2)
        conv(f"mix{d}", WIDTH, WIDTH, 1)
    conv("outp", 3, WIDTH, 3)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    """Sequences [batch, time, features]: the same layout for all three."""
    return (rng.standard_normal((batch, STEPS, 4), dtype=np.float32),)


def pytorch(w: Weights) -> Any:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inp = nn.Conv1d(4, WIDTH, 1)
            for d in DILATIONS:
                setattr(self, f"filter{d}", nn.Conv1d(WIDTH, WIDTH, 2, dilation=d))
                setattr(self, f"gate{d}", nn.Conv1d(WIDTH, WIDTH, 2, dilation=d))
                setattr(self, f"mix{d}", nn.Conv1d(WIDTH, WIDTH, 1))
            self.outp = nn.Conv1d(WIDTH, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.inp(x.transpose(1, 2))
            total: Tensor | float = 0.0
            for d in DILATIONS:
                padded = F.pad(h, (d, 0))
                a = torch.tanh(getattr(self, f"filter{d}")(padded))
                y = a * torch.sigmoid(getattr(self, f"gate{d}")(padded))
                y = getattr(self, f"mix{d}")(y)
                total = y if d == 1 else total + y
                h = h + y
            return self.outp(F.relu(total)).transpose(1, 2)

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    import keras
    from keras import layers

    x = keras.Input((STEPS, 4))
    h = layers.Conv1D(WIDTH, 1, name="inp")(x)
    skips = []
    for d in DILATIONS:
        options = dict(kernel_size=2, dilation_rate=d, padding="causal")
        a = layers.Conv1D(WIDTH, activation="tanh", name=f"filter{d}", **options)(h)
        b = layers.Conv1D(WIDTH, activation="sigmoid", name=f"gate{d}", **options)(h)
        y = layers.Conv1D(WIDTH, 1, name=f"mix{d}")(layers.Multiply()([a, b]))
        skips.append(y)
        h = layers.Add()([h, y])
    y = layers.Activation("relu")(layers.Add()(skips))
    return into_keras(keras.Model(x, layers.Conv1D(3, 3, padding="same", name="outp")(y)), w)


def mindspore(w: Weights) -> Any:
    from mindspore import Tensor, nn, ops

    class Layer(nn.Cell):
        def __init__(self, dilation: int) -> None:
            super().__init__()
            self.pad = nn.ConstantPad1d((dilation, 0), 0.0)
            self.filter = nn.Conv1d(WIDTH, WIDTH, 2, dilation=dilation, pad_mode="valid", has_bias=True)
            self.gate = nn.Conv1d(WIDTH, WIDTH, 2, dilation=dilation, pad_mode="valid", has_bias=True)
            self.mix = nn.Conv1d(WIDTH, WIDTH, 1, has_bias=True)

        def construct(self, h: Tensor) -> Tensor:
            padded = self.pad(h)
            return self.mix(ops.tanh(self.filter(padded)) * ops.sigmoid(self.gate(padded)))

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.inp = nn.Conv1d(4, WIDTH, 1, has_bias=True)
            self.layer1 = Layer(1)
            self.layer2 = Layer(2)
            self.layer4 = Layer(4)
            self.outp = nn.Conv1d(WIDTH, 3, 3, has_bias=True)

        def construct(self, x: Tensor) -> Tensor:
            h = self.inp(x.swapaxes(1, 2))
            y1 = self.layer1(h)
            h = h + y1
            y2 = self.layer2(h)
            y4 = self.layer4(h + y2)
            return self.outp(ops.relu(y1 + y2 + y4)).swapaxes(1, 2)

    named = {}
    for name, value in w.items():
        layer, leaf = name.split(".")
        if layer[-1].isdigit():
            layer = f"layer{layer[-1]}.{layer[:-1]}"
        named[f"{layer}.{leaf}"] = value
    return into_mindspore(Net(), named)
