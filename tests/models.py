"""The networks that every target is measured with: nine pairs of network and framework.

``PAIRS[network, framework]()`` gives a model ready to convert::

    pair = PAIRS["bert", "pytorch"]()
    convert(pair.model, target, out, framework=pair.framework, inputs=pair.inputs,
            dynamic_shapes=pair.dynamic_shapes)

``digits_unet`` and ``resnet50`` are the demo's; the other three stress what they do not: masked
attention, depthwise convolutions, recurrence. Weights are seeded and scaled so that activations
are of order one everywhere, which is what a comparison of numbers needs. Frameworks are imported
when a network is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

FRAMEWORKS = ("pytorch", "tensorflow", "mindspore")
NETWORKS = ("digits_unet", "resnet50", "bert", "mobilenet_v2", "lstm_classifier")

VOCABULARY, TOKENS = 60, 9  # words known, words in an example sentence
IMAGE = 64  # pixels along each side of MobileNetV2's images


class Pair(NamedTuple):
    """A model of one framework with example inputs, NumPy arrays in call order.

    ``dynamic_shapes`` makes the batch symbolic. ``convert`` without it is the static conversion.
    """

    model: Any
    framework: str
    inputs: tuple[np.ndarray, ...]
    dynamic_shapes: Mapping[int, Mapping[int, str]]


class Example(NamedTuple):
    """A PyTorch module with example inputs and the axes of them that are symbolic."""

    model: Any
    inputs: tuple[np.ndarray, ...]
    dynamic_shapes: Mapping[int, Mapping[int, str]]


def bert(batch: int = 2) -> Example:
    """BERT, 2 layers of width 32: ids, mask int64[N, 9] -> states float32[N, 9, 32], float32[N, 32].

    The mask hides the end of every sentence but the first.
    """
    import transformers

    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=32,
    )  # fmt: skip
    return _example("bert", transformers.BertModel, batch, config)


def mobilenet_v2(batch: int = 1) -> Example:
    """MobileNetV2, width 0.35: pixels float32[N, 3, 64, 64] -> logits float32[N, 10]."""
    import transformers

    config = transformers.MobileNetV2Config(depth_multiplier=0.35, image_size=IMAGE, num_labels=10)
    return _example("mobilenet_v2", transformers.MobileNetV2ForImageClassification, batch, config)


def lstm_classifier(batch: int = 2) -> Example:
    """Embedding, bidirectional LSTM of two layers, linear: ids int64[N, 9] -> logits float32[N, 5]."""
    import torch
    from torch import nn

    class LSTMClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(VOCABULARY, 16)
            self.lstm = nn.LSTM(16, 24, num_layers=2, batch_first=True, bidirectional=True)
            self.out = nn.Linear(48, 5)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            states, _ = self.lstm(self.embed(ids))
            return self.out(states.mean(dim=1))

    return _example("lstm_classifier", LSTMClassifier, batch)


def _example(network: str, build: Callable[..., Any], batch: int, *args: Any) -> Example:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build(*args).eval()
        _spread(model)
    inputs = example_inputs(network, batch)
    return Example(model, inputs, _batch(inputs))


def _spread(model: Any) -> None:
    """Weights of the size that keeps activations of order one, statistics that are not trivial."""
    import torch
    from torch import nn

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.8, 1.2)
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.7, 1.4)
            elif isinstance(module, nn.LayerNorm):
                nn.init.uniform_(module.weight, 0.8, 1.2)
            if isinstance(getattr(module, "bias", None), nn.Parameter):
                nn.init.uniform_(module.bias, -0.2, 0.2)


def _batch(inputs: tuple[np.ndarray, ...]) -> dict[int, dict[int, str]]:
    return {i: {0: "batch"} for i in range(len(inputs))}


def example_inputs(
    network: str, batch: int = 2, seed: int = 0, framework: str = "pytorch"
) -> tuple[np.ndarray, ...]:
    """Seeded inputs in call order; images are NCHW, for TensorFlow NHWC."""
    rng = np.random.default_rng(seed)
    if network == "mobilenet_v2":
        return (rng.standard_normal((batch, 3, IMAGE, IMAGE), dtype=np.float32),)
    if network in ("bert", "lstm_classifier"):
        ids = rng.integers(1, VOCABULARY, (batch, TOKENS))
        if network == "lstm_classifier":
            return (ids,)
        lengths = np.where(np.arange(batch) == 0, TOKENS, rng.integers(2, TOKENS, batch))
        return ids, (np.arange(TOKENS) < lengths[:, None]).astype(np.int64)
    from demos.models.inputs import example_inputs as demo_inputs

    x, *rest = demo_inputs(network, batch, seed)
    if framework == "tensorflow":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return x, *rest


def _demo(network: str, framework: str) -> Pair:
    model = getattr(importlib.import_module(f"demos.models.{framework}"), network)()
    inputs = example_inputs(network, 1 if network == "resnet50" else 2, framework=framework)
    return Pair(model, framework, inputs, _batch(inputs))


def _torch(build: Callable[[], Example]) -> Pair:
    model, inputs, dynamic_shapes = build()
    return Pair(model, "pytorch", inputs, dynamic_shapes)


def _pairs() -> dict[tuple[str, str], Callable[[], Pair]]:
    pairs: dict[tuple[str, str], Callable[[], Pair]] = {}
    for network in ("digits_unet", "resnet50"):
        for framework in FRAMEWORKS:
            pairs[network, framework] = lambda n=network, f=framework: _demo(n, f)  # type: ignore[misc]
    for build in (bert, mobilenet_v2, lstm_classifier):
        pairs[build.__name__, "pytorch"] = lambda b=build: _torch(b)  # type: ignore[misc]
    return pairs


#: (network, framework) -> builder of the pair, in the order of ``NETWORKS``.
PAIRS: Mapping[tuple[str, str], Callable[[], Pair]] = _pairs()
