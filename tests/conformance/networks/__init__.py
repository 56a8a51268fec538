"""Small networks of the usual ingredients, each written natively in PyTorch, Keras and MindSpore.

A module holds one network: ``weights()`` (NumPy, under PyTorch names and layouts), ``inputs(rng, batch)``
(channels first) and one function per way of writing it. Such a function is named after its framework,
``pytorch``, ``tensorflow`` or ``mindspore``, optionally with a suffix that says what is special:
``pytorch_mha``. All of a module's functions give the same network, so all must give one program.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

FRAMEWORKS = ("pytorch", "tensorflow", "mindspore")
NAMES = (
    "vgg",
    "preact",
    "film",
    "attention",
    "masked",
    "causal",
    "encoder",
    "unet",
    "convnext",
    "mobilenet",
    "gated",
    "mlp",
    "labels",
    "lenet",
    "vit",
    "dit",
    "branches",
    "wavenet",
    "score",
    "cifar",
)
DEMOS = ("digits_unet", "resnet50")


@dataclass(frozen=True)
class Cell:
    """One way of writing a network: ``build()`` gives the framework's model."""

    network: str
    name: str
    framework: str
    build: Callable[[], Any]

    def inputs(self, batch: int, seed: int = 0) -> tuple[np.ndarray, ...]:
        """Example inputs in the framework's layout; for TensorFlow images are channels last."""
        arrays = example_inputs(self.network, batch, seed)
        if self.framework != "tensorflow":
            return arrays
        return tuple(channels_last(a) for a in arrays)


def cells(network: str) -> list[Cell]:
    """All ways of writing a network, the plain three first."""
    if network in DEMOS:
        return [Cell(network, f, f, _demo(f, network)) for f in FRAMEWORKS]
    module = importlib.import_module(f"{__name__}.{network}")
    found = [n for n in vars(module) if n.split("_")[0] in FRAMEWORKS]
    ordered = sorted(found, key=lambda n: (n not in FRAMEWORKS, FRAMEWORKS.index(n.split("_")[0])))
    return [
        Cell(network, n, n.split("_")[0], _own(getattr(module, n), module)) for n in ordered
    ]


def example_inputs(network: str, batch: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Seeded inputs of a network, channels first."""
    if network in DEMOS:
        from demos.models.inputs import example_inputs as demo_inputs

        return demo_inputs(network, batch, seed)
    module = importlib.import_module(f"{__name__}.{network}")
    found = module.inputs(np.random.default_rng(seed + 1), batch)
    return tuple(np.ascontiguousarray(a) for a in found)


def channels_last(a: np.ndarray) -> np.ndarray:
    """NCHW to NHWC; other ranks stay."""
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)) if a.ndim == 4 else a


def channels_first(a: np.ndarray) -> np.ndarray:
    """NHWC to NCHW; other ranks stay."""
    return np.ascontiguousarray(a.transpose(0, 3, 1, 2)) if a.ndim == 4 else a


def _own(function: Callable[..., Any], module: Any) -> Callable[[], Any]:
    return lambda: function(module.weights())


def _demo(framework: str, network: str) -> Callable[[], Any]:
    return lambda: getattr(importlib.import_module(f"demos.models.{framework}"), network)()
