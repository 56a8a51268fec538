"""VGG-like classifier: conv, batch norm, relu; two kinds of max pooling; global average; two dense layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.conformance.networks.weights import Weights, into_keras, into_mindspore, into_torch

EPSILON = 1e-3


def weights() -> Weights:
    w = Weights(11)
    for name, outputs, inputs in (("conv1", 8, 3), ("conv2", 8, 8), ("conv3", 16, 8)):
        w.conv(name, outputs, inputs, 3, bias=name == "conv2")
        w.batch_norm(name.replace("conv", "bn"), outputs)
    w.conv("conv4", 16, 16, 3)
    w.dense("fc1", 12, 16)
    w.dense("fc2", 5, 12)
    return w


def inputs(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, ...]:
    return (rng.standard_normal((batch, 3, 16, 16), dtype=np.float32),)


def pytorch(w: Weights) -> Any:
    """One Sequential, as torchvision's ``features`` and ``classifier``."""
    from collections import OrderedDict

    from torch import nn

    def block(i: int, inputs: int, outputs: int) -> list[tuple[str, nn.Module]]:
        return [
            (f"conv{i}", nn.Conv2d(inputs, outputs, 3, padding=1, bias=i == 2)),
            (f"bn{i}", nn.BatchNorm2d(outputs, eps=EPSILON)),
            (f"relu{i}", nn.ReLU(inplace=True)),
        ]

    layers = [
        *block(1, 3, 8),
        *block(2, 8, 8),
        ("pool1", nn.MaxPool2d(kernel_size=2, stride=2)),
        *block(3, 8, 16),
        ("pool2", nn.MaxPool2d(kernel_size=3, stride=2, padding=1)),
        ("conv4", nn.Conv2d(16, 16, 3, padding="same")),
        ("relu4", nn.ReLU()),
        ("gap", nn.AdaptiveAvgPool2d((1, 1))),
        ("flatten", nn.Flatten()),
        ("fc1", nn.Linear(16, 12)),
        ("relu5", nn.ReLU()),
        ("dropout", nn.Dropout()),
        ("fc2", nn.Linear(12, 5)),
    ]
    return into_torch(nn.Sequential(OrderedDict(layers)), w)


def pytorch_functional(w: Weights) -> Any:
    """``forward`` in terms of torch.nn.functional; average pooling over the whole image."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, (3, 3), padding=(1, 1), bias=False)
            self.bn1 = nn.BatchNorm2d(8, eps=EPSILON)
            self.conv2 = nn.Conv2d(8, 8, (3, 3), padding=(1, 1))
            self.bn2 = nn.BatchNorm2d(8, eps=EPSILON)
            self.conv3 = nn.Conv2d(8, 16, (3, 3), padding=(1, 1), bias=False)
            self.bn3 = nn.BatchNorm2d(16, eps=EPSILON)
            self.conv4 = nn.Conv2d(16, 16, (3, 3))
            self.fc1 = nn.Linear(16, 12)
            self.fc2 = nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.bn1(self.conv1(x)))
            x = F.relu_(self.bn2(self.conv2(x)))
            x = F.max_pool2d(x, 2)
            x = self.bn3(self.conv3(x)).relu()
            x = F.max_pool2d(x, 3, 2, 1)
            x = self.conv4(F.pad(x, (1, 1, 1, 1))).clamp(min=0)
            x = F.avg_pool2d(x, x.shape[-1])
            x = x.view(x.size(0), -1)
            return self.fc2(F.dropout(F.relu(self.fc1(x)), training=self.training))

    return into_torch(Net(), w)


def tensorflow(w: Weights) -> Any:
    """keras.Sequential; activations inside layers where Keras has the argument."""
    import keras
    from keras import layers

    def block(i: int, filters: int) -> list[keras.layers.Layer]:
        return [
            layers.Conv2D(filters, 3, padding="same", use_bias=i == 2, name=f"conv{i}"),
            layers.BatchNormalization(epsilon=EPSILON, name=f"bn{i}"),
            layers.Activation("relu"),
        ]

    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            *block(1, 8),
            *block(2, 8),
            layers.MaxPooling2D(),
            *block(3, 16),
            layers.ZeroPadding2D(1),
            layers.MaxPooling2D(3, strides=2),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv4"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(12, activation="relu", name="fc1"),
            layers.Dropout(0.5),
            layers.Dense(5, name="fc2"),
        ]
    )
    return into_keras(model, w)


def tensorflow_module(w: Weights) -> Any:
    """tf.Module without Keras: tf.nn functions on variables."""
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = {}
            for name, value in w.items():
                if name.endswith("weight") and value.ndim == 4:
                    value = value.transpose(2, 3, 1, 0)
                elif name.endswith("weight") and value.ndim == 2:
                    value = value.T
                self.p[name] = tf.Variable(value, name=name.replace(".", "_"))

        def norm(self, x: tf.Tensor, name: str) -> tf.Tensor:
            p = [self.p[f"{name}.{k}"] for k in ("running_mean", "running_var", "bias", "weight")]
            return tf.nn.batch_normalization(x, *p, variance_epsilon=EPSILON)

        def conv(self, x: tf.Tensor, name: str) -> tf.Tensor:
            x = tf.nn.conv2d(x, self.p[f"{name}.weight"], strides=1, padding="SAME")
            bias = self.p.get(f"{name}.bias")
            return x if bias is None else tf.nn.bias_add(x, bias)

        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
        def __call__(self, x: tf.Tensor) -> tf.Tensor:
            x = tf.nn.relu(self.norm(self.conv(x, "conv1"), "bn1"))
            x = tf.nn.relu(self.norm(self.conv(x, "conv2"), "bn2"))
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            x = tf.nn.relu(self.norm(self.conv(x, "conv3"), "bn3"))
            x = tf.nn.max_pool2d(x, 3, 2, [[0, 0], [1, 1], [1, 1], [0, 0]])
            x = tf.nn.relu(self.conv(x, "conv4"))
            x = tf.reduce_mean(x, axis=[1, 2])
            x = tf.nn.relu(x @ self.p["fc1.weight"] + self.p["fc1.bias"])
            return tf.linalg.matmul(x, self.p["fc2.weight"]) + self.p["fc2.bias"]

    return Net()


def mindspore(w: Weights) -> Any:
    """SequentialCell with ``pad_mode="same"``, pooling layers, mean over the image."""
    from mindspore import Tensor, nn, ops

    class Block(nn.SequentialCell):
        def __init__(self, inputs: int, outputs: int, has_bias: bool) -> None:
            super().__init__(
                nn.Conv2d(inputs, outputs, 3, has_bias=has_bias),
                nn.BatchNorm2d(outputs, eps=EPSILON),
                nn.ReLU(),
            )

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.block1 = Block(3, 8, False)
            self.block2 = Block(8, 8, True)
            self.pool1 = nn.MaxPool2d(kernel_size=2, stride=2)
            self.block3 = Block(8, 16, False)
            self.pool2 = nn.MaxPool2d(kernel_size=3, stride=2, pad_mode="pad", padding=1)
            self.conv4 = nn.Conv2d(16, 16, 3, pad_mode="same", has_bias=True)
            self.relu = nn.ReLU()
            self.fc1 = nn.Dense(16, 12, activation="relu")
            self.dropout = nn.Dropout(p=0.5)
            self.fc2 = nn.Dense(12, 5)

        def construct(self, x: Tensor) -> Tensor:
            x = self.pool1(self.block2(self.block1(x)))
            x = self.pool2(self.block3(x))
            x = ops.mean(self.relu(self.conv4(x)), (2, 3))
            return self.fc2(self.dropout(self.fc1(x)))

    named = {}
    for name, value in w.items():
        layer, leaf = name.split(".")
        if layer in ("conv1", "conv2", "conv3", "bn1", "bn2", "bn3"):
            layer = f"block{layer[-1]}.{0 if layer[0] == 'c' else 1}"
        named[f"{layer}.{leaf}"] = value
    return into_mindspore(Net(), named)


def mindspore_avgpool(w: Weights) -> Any:
    """Flat cell; average pooling by a window as large as the image, then Flatten."""
    from mindspore import Tensor, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, 3, pad_mode="pad", padding=1)
            self.bn1 = nn.BatchNorm2d(8, eps=EPSILON)
            self.conv2 = nn.Conv2d(8, 8, 3, pad_mode="pad", padding=1, has_bias=True)
            self.bn2 = nn.BatchNorm2d(8, eps=EPSILON)
            self.conv3 = nn.Conv2d(8, 16, 3, pad_mode="pad", padding=1)
            self.bn3 = nn.BatchNorm2d(16, eps=EPSILON)
            self.conv4 = nn.Conv2d(16, 16, 3, pad_mode="pad", padding=1, has_bias=True)
            self.pool = nn.MaxPool2d(2, 2)
            self.pad = nn.ZeroPad2d((1, 1, 1, 1))
            self.pool3 = nn.MaxPool2d(3, 2)
            self.gap = nn.AvgPool2d(4)
            self.flatten = nn.Flatten()
            self.fc1 = nn.Dense(16, 12)
            self.fc2 = nn.Dense(12, 5)

        def construct(self, x: Tensor) -> Tensor:
            x = ops.relu(self.bn1(self.conv1(x)))
            x = self.pool(ops.relu(self.bn2(self.conv2(x))))
            x = self.pool3(self.pad(ops.relu(self.bn3(self.conv3(x)))))
            x = self.flatten(self.gap(ops.relu(self.conv4(x))))
            return self.fc2(ops.relu(self.fc1(x)))

    return into_mindspore(Net(), w)
