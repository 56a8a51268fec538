"""MobileNetV3-like: depthwise convolution, relu6, hard-swish, squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

EPSILON = 1e-3


def weights() -> Weights:
    w = Weights(20)
    w.conv("stem", 8, 3, 3, bias=False)
    w.batch_norm("stem_bn", 8)
    w.conv("expand", 16, 8, bias=False)
    w.batch_norm("expand_bn", 16)
    w.conv("depthwise", 16, 1, 3, bias=False)
    w.batch_norm("depthwise_bn", 16)
    w.conv("squeeze", 4, 16)
    w.conv("excite", 16, 4)
    w.conv("project", 8, 16, bias=False)
    w.batch_norm("project_bn", 8)
    w.conv("gate1", 2, 8)
    w.conv("gate2", 8, 2)
    w.conv("last", 12, 8, bias=False)
    w.batch_norm("last_bn", 12)
    w.dense("head", 4, 12)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (3 * rng.standard_normal((batch, 3, 16, 16), dtype=np.float32),)


def pytorch(w: Weights) -> Any:
    """torchvision's style: 1x1 convolutions on the pooled map."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
            self.stem_bn = nn.BatchNorm2d(8, eps=EPSILON)
            self.expand = nn.Conv2d(8, 16, 1, bias=False)
            self.expand_bn = nn.BatchNorm2d(16, eps=EPSILON)
            self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
            self.depthwise_bn = nn.BatchNorm2d(16, eps=EPSILON)
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.squeeze = nn.Conv2d(16, 4, 1)
            self.excite = nn.Conv2d(4, 16, 1)
            self.scale_activation = nn.Hardsigmoid()
            self.project = nn.Conv2d(16, 8, 1, bias=False)
            self.project_bn = nn.BatchNorm2d(8, eps=EPSILON)
            self.gate1 = nn.Conv2d(8, 2, 1)
            self.gate2 = nn.Conv2d(2, 8, 1)
            self.last = nn.Conv2d(8, 12, 1, bias=False)
            self.last_bn = nn.BatchNorm2d(12, eps=EPSILON)
            self.head = nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = F.hardswish(self.stem_bn(self.stem(x)))
            h = F.relu6(self.expand_bn(self.expand(x)))
            h = F.hardswish(self.depthwise_bn(self.depthwise(h)))
            h = h * self.scale_activation(self.excite(F.relu(self.squeeze(self.avgpool(h)))))
            x = x + self.project_bn(self.project(h))
            gate = self.gate2(F.silu(self.gate1(x.mean((2, 3), keepdim=True))))
            x = x * torch.sigmoid(gate)
            x = F.hardswish(self.last_bn(self.last(x)))
            return self.head(self.avgpool(x).flatten(1))

    return into_torch(Net(), w)


def pytorch_dense(w: Weights) -> Any:
    """Squeeze-and-excitation by Linear layers; activations written out."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    def hard_sigmoid(x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
            self.stem_bn = nn.BatchNorm2d(8, eps=EPSILON)
            self.expand = nn.Conv2d(8, 16, 1, bias=False)
            self.expand_bn = nn.BatchNorm2d(16, eps=EPSILON)
            self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
            self.depthwise_bn = nn.BatchNorm2d(16, eps=EPSILON)
            self.squeeze = nn.Linear(16, 4)
            self.excite = nn.Linear(4, 16)
            self.project = nn.Conv2d(16, 8, 1, bias=False)
            self.project_bn = nn.BatchNorm2d(8, eps=EPSILON)
            self.gate1 = nn.Linear(8, 2)
            self.gate2 = nn.Linear(2, 8)
            self.last = nn.Conv2d(8, 12, 1, bias=False)
            self.last_bn = nn.BatchNorm2d(12, eps=EPSILON)
            self.head = nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem_bn(self.stem(x))
            x = x * hard_sigmoid(x)
            h = torch.clamp(self.expand_bn(self.expand(x)), 0, 6)
            h = self.depthwise_bn(self.depthwise(h))
            h = h * hard_sigmoid(h)
            b, c, _, _ = h.shape
            scale = self.excite(torch.relu(self.squeeze(h.mean((2, 3)))))
            h = h * hard_sigmoid(scale).view(b, c, 1, 1)
            x = x + self.project_bn(self.project(h))
            gate = self.gate1(F.adaptive_avg_pool2d(x, 1).view(b, -1))
            gate = self.gate2(gate * gate.sigmoid()).sigmoid()
            x = x * gate[:, :, None, None].expand_as(x)
            x = self.last_bn(self.last(x))
            x = x * F.relu6(x + 3.0) * (1.0 / 6.0)
            return self.head(x.mean((2, 3)))

    return into_torch(Net(), {k: v[:, :, 0, 0] if k in _GATES else v for k, v in w.items()})


_GATES = tuple(f"{n}.weight" for n in ("squeeze", "excite", "gate1", "gate2"))


def tensorflow(w: Weights) -> Any:
    """1x1 convolutions on a map pooled with ``keepdims=True``; Keras' activations."""
    import keras
    from keras import layers

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=EPSILON, name=name)(x)

    x = keras.Input((16, 16, 3))
    h = layers.ZeroPadding2D(1)(x)
    h = layers.Conv2D(8, 3, strides=2, padding="valid", use_bias=False, name="stem")(h)
    h = skip = layers.Activation("hard_silu")(norm(h, "stem_bn"))
    h = norm(layers.Conv2D(16, 1, use_bias=False, name="expand")(h), "expand_bn")
    h = layers.ReLU(max_value=6.0)(h)
    h = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(h)
    h = layers.Activation("hard_swish")(norm(h, "depthwise_bn"))
    s = layers.GlobalAveragePooling2D(keepdims=True)(h)
    s = layers.Conv2D(4, 1, activation="relu", name="squeeze")(s)
    s = layers.Conv2D(16, 1, activation="hard_sigmoid", name="excite")(s)
    h = layers.Multiply()([h, s])
    h = norm(layers.Conv2D(8, 1, use_bias=False, name="project")(h), "project_bn")
    h = layers.Add()([skip, h])
    s = layers.GlobalAveragePooling2D(keepdims=True)(h)
    s = layers.Conv2D(2, 1, activation="silu", name="gate1")(s)
    h = h * layers.Conv2D(8, 1, activation="sigmoid", name="gate2")(s)
    h = norm(layers.Conv2D(12, 1, use_bias=False, name="last")(h), "last_bn")
    h = layers.GlobalAveragePooling2D()(layers.Activation("hard_silu")(h))
    return into_keras(keras.Model(x, layers.Dense(4, name="head")(h)), w)


def tensorflow_dense(w: Weights) -> Any:
    """Dense layers on the pooled vector, reshaped for the product; relu6 written out."""
    import keras
    from keras import layers, ops

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=EPSILON, name=name)(x)

    def hard_sigmoid(x: Any) -> Any:
        return ops.relu6(x + 3.0) * (1.0 / 6.0)

    x = keras.Input((16, 16, 3))
    h = layers.ZeroPadding2D(((1, 1), (1, 1)))(x)
    h = norm(layers.Conv2D(8, 3, 2, use_bias=False, name="stem")(h), "stem_bn")
    h = skip = h * hard_sigmoid(h)
    h = ops.relu6(norm(layers.Conv2D(16, 1, use_bias=False, name="expand")(h), "expand_bn"))
    h = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(h)
    h = norm(h, "depthwise_bn")
    h = h * hard_sigmoid(h)
    s = layers.GlobalAveragePooling2D()(h)
    s = layers.Reshape((1, 1, 16))(s)
    s = layers.Dense(4, activation="relu", name="squeeze")(s)
    h = h * hard_sigmoid(layers.Dense(16, name="excite")(s))
    h = norm(layers.Conv2D(8, 1, use_bias=False, name="project")(h), "project_bn")
    h = skip + h
    s = layers.Dense(2, activation="silu", name="gate1")(ops.mean(h, axis=(1, 2)))
    s = layers.Dense(8, activation="sigmoid", name="gate2")(s)
    h = layers.Multiply()([h, s[:, None, None, :]])
    h = norm(layers.Conv2D(12, 1, use_bias=False, name="last")(h), "last_bn")
    h = ops.mean(ops.hard_silu(h), axis=(1, 2))
    named = {k: v[:, :, 0, 0] if k in _GATES else v for k, v in w.items()}
    return into_keras(keras.Model(x, layers.Dense(4, name="head")(h)), named)


def mindspore(w: Weights) -> Any:
    """nn.HSwish, nn.ReLU6, nn.HSigmoid; squeeze-and-excitation by nn.Dense and ops.reshape."""
    from mindspore import Tensor, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, stride=2, pad_mode="pad", padding=1)
            self.stem_bn = nn.BatchNorm2d(8, eps=EPSILON)
            self.expand = nn.Conv2d(8, 16, 1)
            self.expand_bn = nn.BatchNorm2d(16, eps=EPSILON)
            self.depthwise = nn.Conv2d(16, 16, 3, pad_mode="pad", padding=1, group=16)
            self.depthwise_bn = nn.BatchNorm2d(16, eps=EPSILON)
            self.squeeze = nn.Dense(16, 4)
            self.excite = nn.Dense(4, 16)
            self.project = nn.Conv2d(16, 8, 1)
            self.project_bn = nn.BatchNorm2d(8, eps=EPSILON)
            self.gate1 = nn.Dense(8, 2)
            self.gate2 = nn.Dense(2, 8)
            self.last = nn.Conv2d(8, 12, 1)
            self.last_bn = nn.BatchNorm2d(12, eps=EPSILON)
            self.head = nn.Dense(12, 4)
            self.hswish = nn.HSwish()
            self.hsigmoid = nn.HSigmoid()
            self.relu6 = nn.ReLU6()
            self.relu = nn.ReLU()
            self.silu = nn.SiLU()
            self.mean = ops.ReduceMean(keep_dims=False)
            self.mul = ops.Mul()

        def construct(self, x: Tensor) -> Tensor:
            x = self.hswish(self.stem_bn(self.stem(x)))
            h = self.relu6(self.expand_bn(self.expand(x)))
            h = self.hswish(self.depthwise_bn(self.depthwise(h)))
            s = self.excite(self.relu(self.squeeze(self.mean(h, (2, 3)))))
            s = ops.reshape(self.hsigmoid(s), (s.shape[0], s.shape[1], 1, 1))
            x = x + self.project_bn(self.project(self.mul(h, s)))
            s = ops.sigmoid(self.gate2(self.silu(self.gate1(self.mean(x, (2, 3))))))
            x = self.mul(x, ops.expand_dims(ops.expand_dims(s, -1), -1))
            x = self.hswish(self.last_bn(self.last(x)))
            return self.head(self.mean(x, (2, 3)))

    return into_mindspore(Net(), w)
