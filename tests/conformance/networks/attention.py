"""Multi-head self-attention without a mask: one network, many ways of writing it."""

from __future__ import annotations

import math
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


def weights() -> Weights:
    w = Weights(14)
    w.attention("attn", WIDTH)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.standard_normal((batch, 6, WIDTH), dtype=np.float32),)


def pytorch(w: Weights) -> Any:
    """Scores divided by sqrt(d), written out."""
    import torch
    from torch import Tensor, nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(WIDTH, WIDTH)
            self.key = nn.Linear(WIDTH, WIDTH)
            self.value = nn.Linear(WIDTH, WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)

        def split(self, x: Tensor) -> Tensor:
            return x.view(x.size(0), x.size(1), HEADS, DIM).permute(0, 2, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
            scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(DIM)
            probs = nn.functional.softmax(scores, dim=-1)
            context = torch.matmul(probs, v).permute(0, 2, 1, 3).contiguous()
            return self.out(context.view(x.size(0), x.size(1), WIDTH))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = Attention()

        def forward(self, x: Tensor) -> Tensor:
            return self.attn(x)

    return into_torch(Net(), w)


def pytorch_sdpa(w: Weights) -> Any:
    """One dense layer for q, k and v, chunked; F.scaled_dot_product_attention."""
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            b, t, c = x.shape
            q, k, v = (h.view(b, t, HEADS, DIM).transpose(1, 2) for h in self.qkv(x).chunk(3, -1))
            y = F.scaled_dot_product_attention(q, k, v)
            return self.out(y.transpose(1, 2).reshape(b, t, c))

    return into_torch(Net(), _fused(w))


def pytorch_timm(w: Weights) -> Any:
    """Heads as [B,T,3,H,D] permuted and unbound; q scaled before the product."""
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            b, n, c = x.shape
            qkv = self.qkv(x).reshape(b, n, 3, HEADS, DIM).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            attn = (q * DIM**-0.5) @ k.transpose(-2, -1)
            x = attn.softmax(dim=-1) @ v
            return self.out(x.transpose(1, 2).reshape(b, n, c))

    return into_torch(Net(), _fused(w))


def pytorch_mha(w: Weights) -> Any:
    """nn.MultiheadAttention."""
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(WIDTH, HEADS, dropout=0.1, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attn(x, x, x, need_weights=False)[0]

    return into_torch(Net(), _in_proj(w, "out_proj"))


def pytorch_einsum(w: Weights) -> Any:
    """torch.einsum on [B,T,H,D], no transposition in sight."""
    import torch
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(WIDTH, WIDTH)
            self.key = nn.Linear(WIDTH, WIDTH)
            self.value = nn.Linear(WIDTH, WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            q = self.query(x).unflatten(-1, (HEADS, DIM))
            k = self.key(x).unflatten(-1, (HEADS, DIM))
            v = self.value(x).unflatten(-1, (HEADS, DIM))
            scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * (1 / math.sqrt(DIM))
            y = torch.einsum("bhqk,bkhd->bqhd", torch.softmax(scores, dim=-1), v)
            return self.out(y.flatten(2))

    return into_torch(Net(), {k.removeprefix("attn."): v for k, v in w.items()})


def pytorch_bmm(w: Weights) -> Any:
    """Batch and heads merged into one axis, torch.bmm, sequence first as in fairseq."""
    import torch
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Linear(WIDTH, WIDTH)
            self.key = nn.Linear(WIDTH, WIDTH)
            self.value = nn.Linear(WIDTH, WIDTH)
            self.out = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            x = x.transpose(0, 1)  # T x B x C
            t, b, c = x.shape
            q = self.query(x) * DIM**-0.5
            q = q.contiguous().view(t, b * HEADS, DIM).transpose(0, 1)
            k = self.key(x).contiguous().view(t, b * HEADS, DIM).transpose(0, 1)
            v = self.value(x).contiguous().view(t, b * HEADS, DIM).transpose(0, 1)
            probs = torch.softmax(torch.bmm(q, k.transpose(1, 2)), dim=-1)
            y = torch.bmm(probs, v).transpose(0, 1).contiguous().view(t, b, c)
            return self.out(y).transpose(0, 1)

    return into_torch(Net(), {k.removeprefix("attn."): v for k, v in w.items()})


def tensorflow(w: Weights) -> Any:
    """layers.MultiHeadAttention."""
    import keras
    from keras import layers

    x = keras.Input((6, WIDTH))
    return into_keras(keras.Model(x, layers.MultiHeadAttention(HEADS, DIM, name="attn")(x, x)), w)


def tensorflow_einsum(w: Weights) -> Any:
    """A layer of four Dense, with ops.einsum."""
    import keras
    from keras import layers, ops

    class Attention(layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.query = layers.Dense(WIDTH, name="query")
            self.key = layers.Dense(WIDTH, name="key")
            self.value = layers.Dense(WIDTH, name="value")
            self.out = layers.Dense(WIDTH, name="out")

        def call(self, x: Any) -> Any:
            shape = (-1, x.shape[1], HEADS, DIM)
            q = ops.reshape(self.query(x), shape)
            k = ops.reshape(self.key(x), shape)
            v = ops.reshape(self.value(x), shape)
            scores = ops.einsum("bthd,bshd->bhts", q, k) / math.sqrt(DIM)
            y = ops.einsum("bhts,bshd->bthd", ops.softmax(scores), v)
            return self.out(ops.reshape(y, (-1, x.shape[1], WIDTH)))

    x = keras.Input((6, WIDTH))
    return into_keras(keras.Model(x, Attention(name="attn")(x)), w)


def tensorflow_matmul(w: Weights) -> Any:
    """One Dense for q, k and v, ops.split and ops.matmul."""
    import keras
    from keras import layers, ops

    def heads(h: keras.KerasTensor) -> keras.KerasTensor:
        return ops.transpose(layers.Reshape((6, HEADS, DIM))(h), (0, 2, 1, 3))

    x = keras.Input((6, WIDTH))
    q, k, v = map(heads, ops.split(layers.Dense(3 * WIDTH, name="qkv")(x), 3, axis=-1))
    scores = ops.matmul(q, ops.swapaxes(k, -1, -2)) * DIM**-0.5
    y = ops.matmul(layers.Softmax()(scores), v)
    y = layers.Reshape((6, WIDTH))(ops.transpose(y, (0, 2, 1, 3)))
    return into_keras(keras.Model(x, layers.Dense(WIDTH, name="out")(y)), _fused(w))


def tensorflow_dropout(w: Weights) -> Any:
    """MultiHeadAttention with dropout, which takes Keras along its einsum road."""
    import keras
    from keras import layers

    x = keras.Input((6, WIDTH))
    attention = layers.MultiHeadAttention(HEADS, DIM, dropout=0.1, name="attn")
    return into_keras(keras.Model(x, attention(query=x, value=x, key=x)), w)


def mindspore(w: Weights) -> Any:
    """ops.BatchMatMul(transpose_b=True), scores multiplied by a Tensor."""
    import mindspore as ms
    from mindspore import Tensor, nn, ops

    class Attention(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Dense(WIDTH, WIDTH)
            self.key = nn.Dense(WIDTH, WIDTH)
            self.value = nn.Dense(WIDTH, WIDTH)
            self.out = nn.Dense(WIDTH, WIDTH)
            self.scores = ops.BatchMatMul(transpose_b=True)
            self.apply_to = ops.BatchMatMul()
            self.softmax = nn.Softmax()
            self.factor = Tensor(1.0 / math.sqrt(DIM), ms.float32)
            self.transpose = ops.Transpose()

        def split(self, x: Tensor) -> Tensor:
            x = x.reshape((x.shape[0], -1, HEADS, DIM))
            return self.transpose(x, (0, 2, 1, 3))

        def construct(self, x: Tensor) -> Tensor:
            q = self.split(self.query(x))
            k = self.split(self.key(x))
            v = self.split(self.value(x))
            probs = self.softmax(self.scores(q, k) * self.factor)
            y = self.transpose(self.apply_to(probs, v), (0, 2, 1, 3))
            return self.out(y.reshape(x.shape))

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.attn = Attention()

        def construct(self, x: Tensor) -> Tensor:
            return self.attn(x)

    return into_mindspore(Net(), w)


def mindspore_bmm(w: Weights) -> Any:
    """Dense layers on [B*T,C], ops.bmm on [B*H,T,D], q scaled first."""
    from mindspore import Tensor, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Dense(WIDTH, WIDTH)
            self.key = nn.Dense(WIDTH, WIDTH)
            self.value = nn.Dense(WIDTH, WIDTH)
            self.out = nn.Dense(WIDTH, WIDTH)
            self.scale = DIM**-0.5

        def construct(self, x: Tensor) -> Tensor:
            b, t, c = x.shape
            x = ops.reshape(x, (b * t, c))
            q = ops.reshape(self.query(x) * self.scale, (b, t, HEADS, DIM))
            k = ops.reshape(self.key(x), (b, t, HEADS, DIM))
            v = ops.reshape(self.value(x), (b, t, HEADS, DIM))
            q = ops.reshape(ops.transpose(q, (0, 2, 1, 3)), (b * HEADS, t, DIM))
            k = ops.reshape(ops.transpose(k, (0, 2, 3, 1)), (b * HEADS, DIM, t))
            v = ops.reshape(ops.transpose(v, (0, 2, 1, 3)), (b * HEADS, t, DIM))
            y = ops.bmm(ops.softmax(ops.bmm(q, k), axis=-1), v)
            y = ops.transpose(ops.reshape(y, (b, HEADS, t, DIM)), (0, 2, 1, 3))
            return ops.reshape(self.out(ops.reshape(y, (b * t, c))), (b, t, c))

    return into_mindspore(Net(), {k.removeprefix("attn."): v for k, v in w.items()})


def mindspore_fused(w: Weights) -> Any:
    """One Dense, [B,T,3,H,D], indexed; scores divided."""
    from mindspore import Tensor, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Dense(WIDTH, 3 * WIDTH)
            self.out = nn.Dense(WIDTH, WIDTH)
            self.root = math.sqrt(DIM)

        def construct(self, x: Tensor) -> Tensor:
            b, t, c = x.shape
            qkv = self.qkv(x).reshape(b, t, 3, HEADS, DIM).transpose(2, 0, 3, 1, 4)
            q, k, v = qkv[0], qkv[1], qkv[2]
            scores = ops.matmul(q, k.swapaxes(-2, -1)) / self.root
            y = ops.matmul(ops.softmax(scores, -1), v)
            return self.out(y.swapaxes(1, 2).reshape(b, t, c))

    return into_mindspore(Net(), _fused(w))


def mindspore_mha(w: Weights) -> Any:
    """nn.MultiheadAttention."""
    from mindspore import Tensor, nn

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

        def construct(self, x: Tensor) -> Tensor:
            return self.attn(x, x, x, need_weights=False)[0]

    return into_mindspore(Net(), _in_proj(w, "out_proj"))


def _fused(w: Weights) -> dict[str, np.ndarray]:
    named = with_fused_qkv(w, "attn", "qkv.weight", "qkv.bias")
    return {k.removeprefix("attn."): v for k, v in named.items()}


def _in_proj(w: Weights, out: str) -> dict[str, np.ndarray]:
    named = with_fused_qkv(w, "attn", "attn.in_proj_weight", "attn.in_proj_bias")
    return {k.replace("attn.out.", f"attn.{out}."): v for k, v in named.items()}
