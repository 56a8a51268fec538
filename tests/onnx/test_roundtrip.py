"""Out and back in through the whole pipeline: the structure digest stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir import spec
from cir.builder import Builder
from cir.graph import Const, Model
from cir.passes import Context
from framework_adapter import api
from framework_adapter.onnx import BACKEND, FRONTEND
from framework_adapter.pipeline import front
from fusion_db import select
from tests.onnx import test_attention as att
from tests.onnx.support import program

#: Ops that ONNX spells by several others, for good: they come back as those.
SPELLED = {"atan2", "erfc", "expm1", "floordiv", "log1p", "mod", "squared_difference", "max_pool"}
#: Ops whose scale, bias or weight must be constant, or present, to come back as themselves.
WANT_CONSTANTS = {"group_norm", "group_norm_silu", "layer_norm", "linear", "rms_norm"}


def canonical(model: Model) -> Model:
    """The model after the target-independent part of the pipeline."""
    stages = (
        select(stage, "default", extra=[], approximate=False) for stage in ("canonicalise", "fuse")
    )
    return front(*stages).run(model, Context())


def survives(model: Model, path: Path, **options: Any) -> None:
    """Assert that emitting and reading keeps the digest."""
    before = canonical(model)
    BACKEND.emit(before, path, ctx=Context(), **options)
    after = api.build(str(path), FRONTEND)
    ops = [[n.op for n in m.graph.nodes] for m in (before, after.model)]
    assert after.digest == api.digest_of(before), f"{ops[0]} came back as {ops[1]}"


#: Ops of other targets, which never reach ONNX.
FOREIGN = {o for o in spec.all_ops() if o.endswith("_channels_last")}


@pytest.mark.parametrize("op", sorted(set(spec.all_ops()) - SPELLED - WANT_CONSTANTS - FOREIGN))
def test_op(op: str, tmp_path: Path) -> None:
    """Each op's samples."""
    for sample in spec.get(op).samples:
        model, _ = program(op, sample)
        survives(model, tmp_path / "m.onnx")


def _array(*shape: int) -> Const:
    rng = np.random.default_rng(sum(shape))
    return Const.of(rng.standard_normal(shape).astype(np.float32) + 2)


@pytest.mark.parametrize("batch", [2, "n"])
@pytest.mark.parametrize(
    ("op", "shape", "consts", "attrs"),
    [
        ("group_norm", (8, 4, 5), [(8,), (8,)], {"num_groups": 4}),
        ("group_norm", (8, 4, 5), [(8,), (8,)], {"num_groups": 8}),
        ("group_norm", (8, 4, 5), [], {"num_groups": 8}),
        ("group_norm", (8, 4, 5), [(8,), (8,)], {"num_groups": 1, "epsilon": 1e-6}),
        ("group_norm_silu", (8, 4, 4), [(8,), (8,)], {"num_groups": 2}),
        ("layer_norm", (3, 8), [(8,), (8,)], {}),
        ("layer_norm", (3, 8), [(8,)], {}),
        ("rms_norm", (3, 8), [(8,)], {}),
        ("linear", (8,), [(6, 8), (6,)], {}),
        ("linear", (3, 8), [(6, 8), (6,)], {}),
        ("linear", (3, 8), [(6, 8)], {}),
    ],
)
def test_layers_with_constants(
    op: str, shape: tuple, consts: list, attrs: dict, batch: Any, tmp_path: Path
) -> None:
    """Layers as models have them, with constant parameters."""
    b = Builder()
    x = b.input("x", "float32", [batch, *shape])
    names = [b.const(_array(*s), f"c{i}") for i, s in enumerate(consts)]
    y = b.emit(op, [x, *names], attrs, name="y")[0]
    survives(Model(b.finish([y])), tmp_path / "m.onnx")


@pytest.mark.parametrize("profile", ["ort-cpu", "portable"])
@pytest.mark.parametrize("mask", ["none", "B1ST", "bool ST"])
def test_attention(mask: str, profile: str, tmp_path: Path) -> None:
    """Heads, masks and the transposes around attention."""
    model, _ = att._block(att.MASKS[mask], constant=mask == "bool ST")
    survives(model, tmp_path / "m.onnx", profile=profile)
