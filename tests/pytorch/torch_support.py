"""Convert as far as CIR and compare with PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cir.graph import Model
from framework_adapter import samples
from framework_adapter.lowering import lower
from framework_adapter.mapping import load
from framework_adapter.pytorch import FRONTEND
from framework_adapter.source import InputSpec, SourceGraph

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)
TOLERANCE = 1e-5


def spec(name: str | None, array: np.ndarray, *shape: int | str) -> InputSpec:
    """An input with an example; ``shape`` with symbols when given."""
    return InputSpec(name, array.dtype.name, shape or array.shape, array)


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ids(*shape: int, seed: int = 0, below: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, below, shape)


def lowered(model: Any, specs: Sequence[InputSpec] | None) -> tuple[SourceGraph, Model]:
    source = FRONTEND.extract(model, specs)
    return source, lower(source, load("pytorch"))


def check(
    model: Any, specs: Sequence[InputSpec], *more: Sequence[np.ndarray]
) -> tuple[SourceGraph, Model]:
    """Lower a model and compare it with PyTorch on its examples and on further inputs."""
    source, program = lowered(model, specs)
    for feeds in ([s.example for s in specs], *more):
        want = FRONTEND.run(model, feeds)
        got = samples.interpret(program, feeds)
        assert len(got) == len(want)
        for g, w in zip(got, want):
            assert g.shape == w.shape
            assert samples.scaled_error(g, w) <= TOLERANCE
    return source, program
