"""Cells for the tests: MindSpore's parser needs their source in a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, mint, nn, ops


class Case(NamedTuple):
    """A cell, its inputs as sample texts, and whether the first axis may vary."""

    make: Callable[[], Any]
    inputs: tuple[str, ...]
    batch: bool = True


class Wrap(nn.Cell):
    """A layer as a field of a cell."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def construct(self, x):
        return self.layer(x)


class Classifier(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, pad_mode="pad", padding=1, has_bias=True)
        self.bn = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, 2, pad_mode="pad", padding=1)
        self.fc = nn.Dense(8, 4)

    def construct(self, x):
        h = self.pool(ops.relu(self.bn(self.conv(x))))
        return self.fc(ops.mean(h, axis=(2, 3)))


class Attention(nn.Cell):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm = nn.LayerNorm((16,))

    def construct(self, x):
        y, _ = self.attention(x, x, x)
        return self.norm(x + y)


class Recurrent(nn.Cell):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def construct(self, x):
        y, _ = self.layer(x)
        return y


class Rope(nn.Cell):
    def construct(self, x, c, s):
        a, b = ops.split(x, 4, axis=-1)
        return ops.concat((a * c - b * s, a * s + b * c), axis=-1)


class Shapes(nn.Cell):
    def construct(self, x):
        n, c, h, w = x.shape
        y = ops.reshape(x, (n, c, h * w)).transpose(0, 2, 1)
        return y.reshape(n, -1), y[:, 1:-1:2, ..., -1], ops.zeros_like(x).sum(axis=-1)


class Upsample(nn.Cell):
    def construct(self, x):
        a = ops.interpolate(x, size=(x.shape[2] * 2, x.shape[3] * 2), mode="nearest")
        b = ops.interpolate(x, scale_factor=2.0, mode="nearest", recompute_scale_factor=True)
        return a + b, ops.interpolate(x, size=(5, 9), mode="bilinear", align_corners=True)


class Decoder(nn.Cell):
    def __init__(self):
        super().__init__()
        self.up = nn.Conv2dTranspose(4, 8, 4, stride=2, pad_mode="pad", padding=1, has_bias=True)
        self.norm = nn.GroupNorm(4, 8)
        self.act = nn.SiLU()

    def construct(self, x):
        return ops.pixel_shuffle(self.act(self.norm(self.up(x))), 2)


class Activations(nn.Cell):
    def construct(self, x):
        a = ops.silu(x) + ops.gelu(x) + ops.gelu(x, approximate="tanh") + ops.leaky_relu(x, 0.1)
        b = ops.elu(x) + ops.hardswish(x) + ops.hardsigmoid(x) + ops.softplus(x) + ops.mish(x)
        c = ops.softmax(x, axis=-1) * ops.log_softmax(x, axis=-1) + ops.relu6(x) + ops.tanh(x)
        return a, b + c, mint.clamp(x, -1.0, 1.0) ** 2.0


class Indexing(nn.Cell):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def construct(self, i):
        e = self.table(i)
        v, k = ops.topk(e, 2)
        return e, v, k, ops.argmax(e, dim=-1), ops.cumsum(e, 1)


class Masked(nn.Cell):
    def construct(self, x, m):
        y = ops.masked_fill(x, m, -1e9)
        return ops.where(x > 0, y, ops.zeros_like(x)), ops.logical_and(m, x < 0)


class Mint(nn.Cell):
    def construct(self, x):
        a, b = mint.chunk(x, 2, dim=1)
        y = mint.mean(a * mint.sigmoid(b), dim=(1,), keepdim=True)
        return mint.matmul(mint.transpose(x, 0, 1), y)


class Half(nn.Cell):
    def construct(self, x):
        return (x.astype(ms.float16) * 2).astype(ms.float32), x.astype(ms.int32)


class Tied(nn.Cell):
    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.eye(4, dtype=np.float32) + 0.5), name="w")
        self.shift = Tensor(np.arange(4).astype(np.float32))

    def construct(self, x):
        return ops.matmul(ops.matmul(x, self.w) + self.shift, self.w), (x * 2, x - 3)


class Unrolled(nn.Cell):
    def __init__(self):
        super().__init__()
        self.layers = nn.CellList([nn.Dense(8, 8) for _ in range(3)])

    def construct(self, x):
        for layer in self.layers:
            x = ops.relu(layer(x))
        return x


class If(nn.Cell):
    def construct(self, x):
        if x.sum() > 0:
            y = x * 2
        else:
            y = x - 1
        return y + 1


class EarlyReturn(nn.Cell):
    def construct(self, x):
        if x.sum() > 0:
            return x * 2
        y = x + 3
        if y.mean() > 1:
            return y
        return y - 1


class While(nn.Cell):
    def __init__(self):
        super().__init__()
        self.fc = nn.Dense(8, 8)

    def construct(self, x, n):
        i = ops.zeros_like(n)
        while i < n:
            if x.sum() > 0:
                x = self.fc(x)
            else:
                x = x - 1.0
            i = i + 1
        return x + 1


class Break(nn.Cell):
    def construct(self, x, n):
        i = ops.zeros_like(n)
        while i < n:
            x = x * 1.5
            if x.sum() > 100:
                break
            i = i + 1
        return x


class Counter(nn.Cell):
    def __init__(self):
        super().__init__()
        self.total = Parameter(Tensor(np.zeros((2, 3), np.float32)), name="total")

    def construct(self, x):
        ops.assign(self.total, self.total + x)
        return self.total * 2


class Talking(nn.Cell):
    def construct(self, x):
        print(x)
        return x * 2


def _layer(make: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: Wrap(make())


CASES: dict[str, Case] = {
    "classifier": Case(Classifier, ("float32[2,3,16,16]",)),
    "attention": Case(Attention, ("float32[2,5,16]",)),
    "encoder": Case(
        _layer(lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)),
        ("float32[2,5,16]",),
    ),
    "lstm": Case(
        lambda: Recurrent(nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)),
        ("float32[2,5,8]",),
    ),
    "gru": Case(lambda: Recurrent(nn.GRU(8, 6, 1, batch_first=True)), ("float32[2,5,8]",)),
    "rope": Case(Rope, ("float32[1,2,4,8]", "float32[4,4]", "float32[4,4]")),
    "shapes": Case(Shapes, ("float32[2,3,4,5]",)),
    "upsample": Case(Upsample, ("float32[2,3,4,5]",)),
    "decoder": Case(Decoder, ("float32[1,4,5,5]",)),
    "activations": Case(Activations, ("float32[2,8]",)),
    "indexing": Case(Indexing, ("int32[2,5]<9",)),
    "masked": Case(Masked, ("float32[2,8]", "bool[2,8]")),
    "mint": Case(Mint, ("float32[4,8]",)),
    "half": Case(Half, ("float32[2,8]",)),
    "tied": Case(Tied, ("float32[2,4]",)),
    "unrolled": Case(Unrolled, ("float32[2,8]",)),
    "if": Case(If, ("float32[2,8]",)),
    "early_return": Case(EarlyReturn, ("float32[2,8]",)),
    "while": Case(While, ("float32[2,8]", "int32[]<5"), False),
    "depthwise": Case(
        _layer(lambda: nn.Conv2d(8, 8, 3, pad_mode="same", group=8)), ("float32[1,8,9,9]",)
    ),
    "conv1d": Case(_layer(lambda: nn.Conv1d(4, 8, 3, has_bias=True)), ("float32[1,4,16]",)),
    "conv3d": Case(_layer(lambda: nn.Conv3d(3, 4, 3, has_bias=True)), ("float32[1,3,6,6,6]",)),
    "max_pool_same": Case(
        _layer(lambda: nn.MaxPool2d(3, 2, pad_mode="same")), ("float32[1,3,9,9]",)
    ),
    "avg_pool": Case(_layer(lambda: nn.AvgPool2d(2, 2)), ("float32[1,3,8,8]",)),
    "adaptive": Case(_layer(lambda: nn.AdaptiveAvgPool2d((2, 2))), ("float32[1,3,8,8]",)),
    "prelu": Case(_layer(lambda: nn.PReLU(3)), ("float32[1,3,4,4]",)),
    "pad": Case(_layer(lambda: nn.Pad(((0, 0), (0, 0), (1, 2), (0, 1)))), ("float32[1,3,4,4]",)),
    "dropout": Case(_layer(lambda: nn.Dropout(p=0.5)), ("float32[2,8]",)),
}
