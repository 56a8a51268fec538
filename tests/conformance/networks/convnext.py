"""ConvNeXt: patches, depthwise convolution, LayerNorm and dense layers on channels-last maps, layer scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

EPSILON = 1e-6
BLOCKS = (("block1", 8), ("block2", 16))


def weights() -> Weights:
    w = Weights(19)
    w.conv("stem", 8, 3, 4)
    w.norm("stem_norm", 8)
    for name, width in BLOCKS:
        w.conv(f"{name}.dwconv", width, 1, 7)
        w.norm(f"{name}.norm", width)
        w.dense(f"{name}.fc1", 4 * width, width)
        w.dense(f"{name}.fc2", width, 4 * width)
        w.uniform(f"{name}.gamma", width, low=0.2, high=0.8)
    w.norm("down_norm", 8)
    w.conv("down", 16, 8, 2)
    w.norm("norm", 16)
    w.dense("head", 5, 16)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.standard_normal((batch, 3, 32, 32), dtype=np.float32),)


def pytorch(w: Weights) -> Any:
    """torchvision's style: permute around LayerNorm and Linear."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class LayerNorm2d(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            x = x.permute(0, 2, 3, 1)
            x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
            return x.permute(0, 3, 1, 2)

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
            self.norm = nn.LayerNorm(width, eps=EPSILON)
            self.fc1 = nn.Linear(width, 4 * width)
            self.fc2 = nn.Linear(4 * width, width)
            self.gamma = nn.Parameter(torch.ones(width))

        def forward(self, x: Tensor) -> Tensor:
            h = self.dwconv(x).permute(0, 2, 3, 1)
            h = self.fc2(F.gelu(self.fc1(self.norm(h))))
            return x + (self.gamma * h).permute(0, 3, 1, 2)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 4, stride=4)
            self.stem_norm = LayerNorm2d(8, eps=EPSILON)
            self.block1 = Block(8)
            self.down_norm = LayerNorm2d(8, eps=EPSILON)
            self.down = nn.Conv2d(8, 16, 2, stride=2)
            self.block2 = Block(16)
            self.norm = nn.LayerNorm(16, eps=EPSILON)
            self.head = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.block1(self.stem_norm(self.stem(x)))
            x = self.block2(self.down(self.down_norm(x)))
            return self.head(self.norm(x.mean([-2, -1])))

    return into_torch(Net(), w)


def pytorch_channels_first(w: Weights) -> Any:
    """The paper's code: LayerNorm over channels written out for channels-first maps."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class LayerNorm(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))
            self.bias = nn.Parameter(torch.zeros(width))

        def forward(self, x: Tensor) -> Tensor:
            u = x.mean(1, keepdim=True)
            s = (x - u).pow(2).mean(1, keepdim=True)
            x = (x - u) / torch.sqrt(s + EPSILON)
            return self.weight[:, None, None] * x + self.bias[:, None, None]

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.dwconv = nn.Conv2d(width, width, kernel_size=7, padding=3, groups=width)
            self.norm = nn.LayerNorm(width, eps=EPSILON)
            self.fc1 = nn.Linear(width, 4 * width)
            self.act = nn.GELU()
            self.fc2 = nn.Linear(4 * width, width)
            self.gamma = nn.Parameter(torch.ones(width))

        def forward(self, x: Tensor) -> Tensor:
            shortcut = x
            x = self.dwconv(x)
            x = x.permute(0, 2, 3, 1)
            x = self.fc2(self.act(self.fc1(self.norm(x))))
            x = self.gamma * x
            return shortcut + x.permute(0, 3, 1, 2)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, kernel_size=4, stride=4)
            self.stem_norm = LayerNorm(8)
            self.block1 = Block(8)
            self.down_norm = LayerNorm(8)
            self.down = nn.Conv2d(8, 16, kernel_size=2, stride=2)
            self.block2 = Block(16)
            self.norm = nn.LayerNorm(16, eps=EPSILON)
            self.head = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.block1(self.stem_norm(self.stem(x)))
            x = self.block2(self.down(self.down_norm(x)))
            return self.head(F.layer_norm(x.mean([-2, -1]), (16,), self.norm.weight, self.norm.bias, EPSILON))

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    """keras.applications' style; channels are last anyway."""
    import keras
    from keras import layers

    class LayerScale(layers.Layer):
        def __init__(self, width: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.width = width

        def build(self, input_shape: Any) -> None:
            self.gamma = self.add_weight(name="gamma", shape=(self.width,), initializer="ones")

        def call(self, x: Any) -> Any:
            return x * self.gamma

    def norm(x: Any, name: str) -> Any:
        return layers.LayerNormalization(epsilon=EPSILON, name=name)(x)

    def block(x: Any, name: str, width: int) -> Any:
        h = layers.DepthwiseConv2D(7, padding="same", name=f"{name}.dwconv")(x)
        h = layers.Dense(4 * width, name=f"{name}.fc1")(norm(h, f"{name}.norm"))
        h = layers.Dense(width, name=f"{name}.fc2")(layers.Activation("gelu")(h))
        h = LayerScale(width, name=name)(h)
        return layers.Add()([x, h])

    x = keras.Input((32, 32, 3))
    h = norm(layers.Conv2D(8, 4, strides=4, name="stem")(x), "stem_norm")
    h = block(h, "block1", 8)
    h = layers.Conv2D(16, 2, strides=2, name="down")(norm(h, "down_norm"))
    h = block(h, "block2", 16)
    h = norm(layers.GlobalAveragePooling2D()(h), "norm")
    named = {k.replace(".gamma", ".weight") if k.endswith(".gamma") else k: v for k, v in w.items()}
    return into_keras(keras.Model(x, layers.Dense(5, name="head")(h)), named)


def mindspore(w: Weights) -> Any:
    """ops.transpose around nn.LayerNorm and nn.Dense; the depthwise convolution by ``group``."""
    import mindspore as ms
    from mindspore import Parameter, Tensor, nn, ops

    class LayerNorm2d(nn.LayerNorm):
        def construct(self, x: Tensor) -> Tensor:
            x = ops.transpose(x, (0, 2, 3, 1))
            x, _, _ = self.layer_norm(x, self.gamma, self.beta)
            return ops.transpose(x, (0, 3, 1, 2))

    class Block(nn.Cell):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.dwconv = nn.Conv2d(width, width, 7, group=width, pad_mode="pad", padding=3, has_bias=True)
            self.norm = nn.LayerNorm((width,), epsilon=EPSILON)
            self.fc1 = nn.Dense(width, 4 * width)
            self.act = nn.GELU(approximate=False)
            self.fc2 = nn.Dense(4 * width, width)
            self.gamma = Parameter(ops.ones(width, ms.float32))

        def construct(self, x: Tensor) -> Tensor:
            h = ops.transpose(self.dwconv(x), (0, 2, 3, 1))
            h = self.fc2(self.act(self.fc1(self.norm(h))))
            return x + ops.transpose(h * self.gamma, (0, 3, 1, 2))

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 4, 4, pad_mode="valid", has_bias=True)
            self.stem_norm = LayerNorm2d((8,), epsilon=EPSILON)
            self.block1 = Block(8)
            self.down_norm = LayerNorm2d((8,), epsilon=EPSILON)
            self.down = nn.Conv2d(8, 16, 2, 2, pad_mode="valid", has_bias=True)
            self.block2 = Block(16)
            self.norm = nn.LayerNorm((16,), epsilon=EPSILON)
            self.head = nn.Dense(16, 5)

        def construct(self, x: Tensor) -> Tensor:
            x = self.block1(self.stem_norm(self.stem(x)))
            x = self.block2(self.down(self.down_norm(x)))
            return self.head(self.norm(x.mean((2, 3))))

    return into_mindspore(Net(), w)
