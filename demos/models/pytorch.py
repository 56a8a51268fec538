"""The demo networks in PyTorch."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import resnet50 as resnet
from .digits import CONFIG, DEFAULT_PATH, frequencies, load_weights
from .inputs import example_inputs

__all__ = ["DigitsUNet", "ResNet50", "digits_unet", "example_inputs", "resnet50"]


class ResBlock(nn.Module):
    """x float32[N,inputs,H,W], time float32[N,time_width] -> float32[N,outputs,H,W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(CONFIG.groups, inputs, eps=CONFIG.epsilon)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(CONFIG.time_width, outputs)
        self.norm2 = nn.GroupNorm(CONFIG.groups, outputs, eps=CONFIG.epsilon)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + self.shortcut(x)


class Attention(nn.Module):
    """x float32[N,L,width], context float32[N,S,width] -> float32[N,L,width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            h.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for h in (self.query(x), self.key(context), self.value(context))
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """x float32[N,width,H,W], context float32[N,S,width] -> float32[N,width,H,W]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=CONFIG.epsilon)
        self.self_attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=CONFIG.epsilon)
        self.cross_attn = Attention(width, heads)
        self.norm3 = nn.LayerNorm(width, eps=CONFIG.epsilon)
        self.ff_in = nn.Linear(width, 8 * width)
        self.ff_out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = x.flatten(2).transpose(1, 2)
        n = self.norm1(h)
        h = h + self.self_attn(n, n)
        h = h + self.cross_attn(self.norm2(h), context)
        value, gate = self.ff_in(self.norm3(h)).chunk(2, dim=-1)
        h = h + self.ff_out(value * F.gelu(gate))
        return h.transpose(1, 2).reshape(x.shape)


class DigitsUNet(nn.Module):
    """x float32[N,1,8,8], t int64[N], y int64[N] -> predicted noise float32[N,1,8,8]."""

    def __init__(self) -> None:
        super().__init__()
        width, inner, time = CONFIG.width, CONFIG.inner, CONFIG.time_width
        self.register_buffer("freqs", torch.from_numpy(frequencies()), persistent=False)
        self.time_in = nn.Linear(CONFIG.time_features, time)
        self.time_out = nn.Linear(time, time)
        self.label = nn.Embedding(CONFIG.classes, CONFIG.tokens * inner)
        self.conv_in = nn.Conv2d(CONFIG.channels, width, 3, padding=1)
        self.down1 = ResBlock(width, width)
        self.downsample = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.down2 = ResBlock(width, inner)
        self.mid1 = ResBlock(inner, inner)
        self.transformer = Transformer(inner, CONFIG.heads)
        self.mid2 = ResBlock(inner, inner)
        self.up2 = ResBlock(2 * inner, inner)
        self.upsample = nn.Conv2d(inner, inner, 3, padding=1)
        self.up1 = ResBlock(inner + width, width)
        self.norm_out = nn.GroupNorm(CONFIG.groups, width, eps=CONFIG.epsilon)
        self.conv_out = nn.Conv2d(width, CONFIG.channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        angles = t.float()[:, None] * self.freqs
        time = self.time_in(torch.cat([angles.cos(), angles.sin()], dim=-1))
        time = self.time_out(F.silu(time))
        context = self.label(y).unflatten(-1, (CONFIG.tokens, -1))

        skip1 = self.down1(self.conv_in(x), time)
        skip2 = self.down2(self.downsample(skip1), time)
        h = self.mid1(skip2, time)
        h = self.transformer(h, context)
        h = self.mid2(h, time)
        h = self.up2(torch.cat([h, skip2], dim=1), time)
        h = self.upsample(F.interpolate(h, scale_factor=2, mode="nearest"))
        h = self.up1(torch.cat([h, skip1], dim=1), time)
        return self.conv_out(F.silu(self.norm_out(h)))


class Bottleneck(nn.Module):
    """x float32[N,inputs,H,W] -> float32[N,4*width,H/stride,W/stride]."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * resnet.EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=resnet.EPSILON)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=resnet.EPSILON)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps=resnet.EPSILON)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                nn.BatchNorm2d(outputs, eps=resnet.EPSILON),
            )

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h))
        h += x if self.downsample is None else self.downsample(x)
        return self.relu(h)


class ResNet50(nn.Module):
    """x float32[N,3,224,224] -> logits float32[N,1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64, eps=resnet.EPSILON)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs, stages = 64, []
        for width, blocks, stride in resnet.STAGES:
            stage = [Bottleneck(inputs, width, stride)]
            inputs = width * resnet.EXPANSION
            stage += [Bottleneck(inputs, width, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, resnet.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        return self.fc(torch.flatten(self.avgpool(h), 1))


def _load(model: nn.Module, weights: dict[str, np.ndarray]) -> nn.Module:
    """Names and layouts are PyTorch's own, so this is a plain strict ``load_state_dict``."""
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model.eval()


def digits_unet(weights: str | Path = DEFAULT_PATH) -> nn.Module:
    """The trained digits denoiser, in eval mode."""
    return _load(DigitsUNet(), load_weights(weights))


def resnet50(seed: int = 0) -> nn.Module:
    """ResNet-50 v1.5 with seeded random weights, in eval mode."""
    return _load(ResNet50(), resnet.random_weights(seed))
