"""Convert a model as far as CIR and compare it with TensorFlow on random inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from cir.graph import Graph, Model
from cir.passes import dce
from framework_adapter import samples
from framework_adapter.lowering import lower
from framework_adapter.mapping import load
from framework_adapter.source import InputSpec, SourceGraph
from framework_adapter.tensorflow import FRONTEND

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

TOLERANCE = 1e-5


def _lowered(model: Any, inputs: Sequence[InputSpec] | None = None) -> tuple[SourceGraph, Model]:
    """The source graph and the IR model."""
    source = FRONTEND.extract(model, inputs)
    return source, lower(source, load("tensorflow"))


def _feeds(
    source: SourceGraph, sizes: dict[str, int], seed: int = 0, below: int = 10
) -> list[np.ndarray]:
    """Random inputs; integers in [0, below)."""
    rng = np.random.default_rng(seed)
    out = []
    for t in source.inputs.values():
        shape = [d if isinstance(d, int) else sizes[d] for d in t.shape]
        if t.dtype == "bool":
            out.append(rng.random(shape) < 0.5)
        elif "int" in t.dtype:
            out.append(rng.integers(0, below, shape).astype(t.dtype))
        else:
            out.append(rng.standard_normal(shape).astype(t.dtype))
    return out


def _agree(
    model: Any, inputs: Sequence[InputSpec] | None = None, *sizes: dict[str, int]
) -> tuple[SourceGraph, Graph]:
    """Assert that CIR and TensorFlow agree at each choice of symbol sizes.

    Returns the source graph and the IR graph without dead nodes.
    """
    source, model_ir = _lowered(model, inputs)
    for seed, choice in enumerate(sizes or ({},)):
        arrays = _feeds(source, choice, seed)
        want = FRONTEND.run(model, arrays)
        got = samples.interpret(model_ir, arrays)
        assert len(got) == len(want)
        for g, w in zip(got, want):
            assert (g.shape, g.dtype) == (w.shape, w.dtype)
            assert samples.scaled_error(g, w) <= TOLERANCE
    return source, dce(model_ir.graph)


@pytest.fixture
def agree() -> Callable[..., Any]:
    """``agree(model, inputs, *sizes)``; see ``_agree``."""
    return _agree


@pytest.fixture
def lowered() -> Callable[..., Any]:
    """``lowered(model, inputs)``; see ``_lowered``."""
    return _lowered
