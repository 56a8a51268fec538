"""A tower of dense layers, layer norm and as many activations as the frameworks share."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

WIDTH = 12
EPSILON = 1e-5
KINDS = (
    "leaky_relu",
    "elu",
    "softplus",
    "mish",
    "gelu",
    "gelu_tanh",
    "selu",
    "softsign",
    "tanh",
    "log_sigmoid",
    "hard_sigmoid",
)


def weights() -> Weights:
    w = Weights(22)
    for i, _ in enumerate(KINDS):
        w.dense(f"fc{i}", WIDTH, WIDTH)
        w.norm(f"norm{i}", WIDTH)
    w.dense("head", 3, WIDTH)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.standard_normal((batch, WIDTH), dtype=np.float32),)


def pytorch(w: Weights) -> Any:
    """nn layers."""
    from torch import Tensor, nn

    acts = (
        nn.LeakyReLU(0.2),
        nn.ELU(),
        nn.Softplus(),
        nn.Mish(),
        nn.GELU(),
        nn.GELU(approximate="tanh"),
        nn.SELU(),
        nn.Softsign(),
        nn.Tanh(),
        nn.LogSigmoid(),
        nn.Hardsigmoid(),
    )

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for i, _ in enumerate(KINDS):
                self.add_module(f"fc{i}", nn.Linear(WIDTH, WIDTH))
                self.add_module(f"norm{i}", nn.LayerNorm(WIDTH, eps=EPSILON))
            self.acts = nn.ModuleList(acts)
            self.head = nn.Linear(WIDTH, 3)

        def forward(self, x: Tensor) -> Tensor:
            for i, act in enumerate(self.acts):
                norm, fc = getattr(self, f"norm{i}"), getattr(self, f"fc{i}")
                x = x + act(fc(norm(x)))
            return self.head(x)

    return into_torch(Net(), w)


def pytorch_formulas(w: Weights) -> Any:
    """The same activations by their formulas."""
    import math

    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    def gelu_tanh(x: Tensor) -> Tensor:
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))

    acts = (
        lambda x: torch.where(x > 0, x, 0.2 * x),
        F.elu,
        F.softplus,
        lambda x: x * torch.tanh(F.softplus(x)),
        lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))),
        gelu_tanh,
        F.selu,
        lambda x: x / (1 + x.abs()),
        torch.tanh,
        F.logsigmoid,
        lambda x: F.relu6(x + 3) / 6,
    )

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for i, _ in enumerate(KINDS):
                self.add_module(f"fc{i}", nn.Linear(WIDTH, WIDTH))
                self.add_module(f"norm{i}", nn.LayerNorm(WIDTH, eps=EPSILON))
            self.head = nn.Linear(WIDTH, 3)

        def forward(self, x: Tensor) -> Tensor:
            for i, act in enumerate(acts):
                norm, fc = getattr(self, f"norm{i}"), getattr(self, f"fc{i}")
                x = x + act(fc(norm(x)))
            return self.head(x)

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    """Activations by layer and by name."""
    import keras
    from keras import layers

    acts = (
        layers.LeakyReLU(negative_slope=0.2),
        layers.ELU(),
        layers.Activation("softplus"),
        layers.Activation("mish"),
        layers.Activation("gelu"),
        lambda x: keras.activations.gelu(x, approximate=True),
        layers.Activation("selu"),
        layers.Activation("softsign"),
        layers.Activation("tanh"),
        layers.Activation("log_sigmoid"),
        layers.Activation("hard_sigmoid"),
    )
    x = h = keras.Input((WIDTH,))
    for i, act in enumerate(acts):
        y = layers.LayerNormalization(epsilon=EPSILON, name=f"norm{i}")(h)
        h = layers.Add()([h, act(layers.Dense(WIDTH, name=f"fc{i}")(y))])
    return into_keras(keras.Model(x, layers.Dense(3, name="head")(h)), w)


def mindspore(w: Weights) -> Any:
    """Activation cells."""
    from mindspore import Tensor, nn, ops

    class Softplus(nn.Cell):
        def construct(self, x: Tensor) -> Tensor:
            return ops.softplus(x)

    class Layer(nn.Cell):
        def __init__(self, act: nn.Cell) -> None:
            super().__init__()
            self.norm = nn.LayerNorm((WIDTH,), epsilon=EPSILON)
            self.fc = nn.Dense(WIDTH, WIDTH)
            self.act = act

        def construct(self, x: Tensor) -> Tensor:
            return x + self.act(self.fc(self.norm(x)))

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.SequentialCell(
                Layer(nn.LeakyReLU(alpha=0.2)),
                Layer(nn.ELU()),
                Layer(Softplus()),
                Layer(nn.Mish()),
                Layer(nn.GELU(approximate=False)),
                Layer(nn.GELU(approximate=True)),
                Layer(nn.SeLU()),
                Layer(nn.Softsign()),
                Layer(nn.Tanh()),
                Layer(nn.LogSigmoid()),
                Layer(nn.HSigmoid()),
            )
            self.head = nn.Dense(WIDTH, 3)

        def construct(self, x: Tensor) -> Tensor:
            return self.head(self.layers(x))

    named = {}
    for name, value in w.items():
        layer, leaf = name.split(".")
        if layer != "head":
            kind = layer.rstrip("0123456789")
            layer = f"layers.{layer.removeprefix(kind)}.{kind}"
        named[f"{layer}.{leaf}"] = value
    return into_mindspore(Net(), named)
