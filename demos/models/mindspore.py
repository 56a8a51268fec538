"""The demo networks in MindSpore."""

from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from . import resnet50 as resnet
from .digits import CONFIG, DEFAULT_PATH, frequencies, load_weights
from .inputs import example_inputs

__all__ = ["DigitsUNet", "ResNet50", "digits_unet", "example_inputs", "resnet50"]


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(CONFIG.groups, channels, eps=CONFIG.epsilon)


def _layer_norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm((width,), epsilon=CONFIG.epsilon)


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, pad_mode="pad", padding=1, has_bias=True)


class ResBlock(nn.Cell):
    """x float32[N,inputs,H,W], time float32[N,time_width] -> float32[N,outputs,H,W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = _group_norm(inputs)
        self.conv1 = _conv3x3(inputs, outputs)
        self.time = nn.Dense(CONFIG.time_width, outputs)
        self.norm2 = _group_norm(outputs)
        self.conv2 = _conv3x3(outputs, outputs)
        self.silu = nn.SiLU()
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, has_bias=True)
        else:
            self.shortcut = nn.Identity()

    def construct(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(self.silu(self.norm1(x)))
        h = h + self.time(self.silu(time)).expand_dims(-1).expand_dims(-1)
        h = self.conv2(self.silu(self.norm2(h)))
        return h + self.shortcut(x)


class Attention(nn.Cell):
    """x float32[N,L,width], context float32[N,S,width] -> float32[N,L,width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.query = nn.Dense(width, width)
        self.key = nn.Dense(width, width)
        self.value = nn.Dense(width, width)
        self.out = nn.Dense(width, width)
        self.softmax = nn.Softmax(axis=-1)

    def split_heads(self, x: Tensor) -> Tensor:
        """float32[N,L,width] -> float32[N,heads,L,width/heads]."""
        n, length, width = x.shape
        return x.reshape(n, length, self.heads, width // self.heads).transpose(0, 2, 1, 3)

    def construct(self, x: Tensor, context: Tensor) -> Tensor:
        q = self.split_heads(self.query(x))
        k = self.split_heads(self.key(context))
        v = self.split_heads(self.value(context))
        scores = ops.matmul(q, k.transpose(0, 1, 3, 2)) * self.scale
        h = ops.matmul(self.softmax(scores), v)
        return self.out(h.transpose(0, 2, 1, 3).reshape(x.shape))


class Transformer(nn.Cell):
    """x float32[N,width,H,W], context float32[N,S,width] -> float32[N,width,H,W]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = _layer_norm(width)
        self.self_attn = Attention(width, heads)
        self.norm2 = _layer_norm(width)
        self.cross_attn = Attention(width, heads)
        self.norm3 = _layer_norm(width)
        self.ff_in = nn.Dense(width, 8 * width)
        self.ff_out = nn.Dense(4 * width, width)
        self.gelu = nn.GELU(approximate=False)

    def construct(self, x: Tensor, context: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        h = x.reshape(n, channels, height * width).transpose(0, 2, 1)
        normed = self.norm1(h)
        h = h + self.self_attn(normed, normed)
        h = h + self.cross_attn(self.norm2(h), context)
        value, gate = ops.chunk(self.ff_in(self.norm3(h)), 2, axis=-1)
        h = h + self.ff_out(value * self.gelu(gate))
        return h.transpose(0, 2, 1).reshape(x.shape)


class DigitsUNet(nn.Cell):
    """x float32[N,1,8,8], t int64[N], y int64[N] -> predicted noise float32[N,1,8,8]."""

    def __init__(self) -> None:
        super().__init__()
        width, inner, time = CONFIG.width, CONFIG.inner, CONFIG.time_width
        self.tokens = CONFIG.tokens
        self.freqs = Tensor(frequencies())
        self.time_in = nn.Dense(CONFIG.time_features, time)
        self.time_out = nn.Dense(time, time)
        self.label = nn.Embedding(CONFIG.classes, CONFIG.tokens * inner)
        self.conv_in = _conv3x3(CONFIG.channels, width)
        self.down1 = ResBlock(width, width)
        self.downsample = _conv3x3(width, width, stride=2)
        self.down2 = ResBlock(width, inner)
        self.mid1 = ResBlock(inner, inner)
        self.transformer = Transformer(inner, CONFIG.heads)
        self.mid2 = ResBlock(inner, inner)
        self.up2 = ResBlock(2 * inner, inner)
        self.upsample = _conv3x3(inner, inner)
        self.up1 = ResBlock(inner + width, width)
        self.norm_out = _group_norm(width)
        self.conv_out = _conv3x3(width, CONFIG.channels)
        self.silu = nn.SiLU()

    def construct(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        angles = t.astype(ms.float32).expand_dims(-1) * self.freqs
        time = self.time_in(ops.cat((ops.cos(angles), ops.sin(angles)), axis=-1))
        time = self.time_out(self.silu(time))
        context = self.label(y)
        context = context.reshape(context.shape[0], self.tokens, -1)

        skip1 = self.down1(self.conv_in(x), time)
        skip2 = self.down2(self.downsample(skip1), time)
        h = self.mid1(skip2, time)
        h = self.transformer(h, context)
        h = self.mid2(h, time)
        h = self.up2(ops.cat((h, skip2), axis=1), time)
        h = self.upsample(ops.interpolate(h, size=skip1.shape[2:], mode="nearest"))
        h = self.up1(ops.cat((h, skip1), axis=1), time)
        return self.conv_out(self.silu(self.norm_out(h)))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, pad_mode="pad", padding=kernel // 2)


class Bottleneck(nn.Cell):
    """x float32[N,inputs,H,W] -> float32[N,4*width,H/stride,W/stride]."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * resnet.EXPANSION
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width, eps=resnet.EPSILON)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width, eps=resnet.EPSILON)
        self.conv3 = _conv(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs, eps=resnet.EPSILON)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.SequentialCell(
                _conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs, eps=resnet.EPSILON)
            )

    def construct(self, x: Tensor) -> Tensor:
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h))
        if self.downsample is not None:
            x = self.downsample(x)
        return self.relu(h + x)


class ResNet50(nn.Cell):
    """x float32[N,3,224,224] -> logits float32[N,1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64, eps=resnet.EPSILON)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, pad_mode="pad", padding=1)
        inputs, stages = 64, []
        for width, blocks, stride in resnet.STAGES:
            stage = [Bottleneck(inputs, width, stride)]
            inputs = width * resnet.EXPANSION
            stage += [Bottleneck(inputs, width, 1) for _ in range(blocks - 1)]
            stages.append(nn.SequentialCell(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Dense(inputs, resnet.CLASSES)

    def construct(self, x: Tensor) -> Tensor:
        h = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return self.fc(ops.mean(h, axis=(2, 3)))


_TORCH_LEAF = {
    "gamma": "weight",
    "beta": "bias",
    "embedding_table": "weight",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _load(net: nn.Cell, weights: dict[str, np.ndarray]) -> nn.Cell:
    """Assign PyTorch weights: layouts agree, and names too but for ``_TORCH_LEAF``."""
    for name, parameter in net.parameters_and_names():
        cell, leaf = name.rsplit(".", 1)
        parameter.set_data(Tensor(weights[f"{cell}.{_TORCH_LEAF.get(leaf, leaf)}"]))
    return net.set_train(False)


def digits_unet(weights: str | Path = DEFAULT_PATH) -> nn.Cell:
    """The trained digits denoiser, in inference mode."""
    return _load(DigitsUNet(), load_weights(weights))


def resnet50(seed: int = 0) -> nn.Cell:
    """ResNet-50 v1.5 with seeded random weights, in inference mode."""
    return _load(ResNet50(), resnet.random_weights(seed))
