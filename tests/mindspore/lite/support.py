"""Emit a program as ``.ms``, have it checked by MindSpore's code, read it back, compare with the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cir import dtype as dt
from cir import interpret
from cir.graph import Model
from cir.passes import Context
from framework_adapter import api, readback, samples
from framework_adapter.mindspore.lite import BACKEND, flat
from framework_adapter.pipeline import front
from fusion_db import select
from tests.mindspore.lite import nnacl


def check(model: Model, feeds: Sequence[np.ndarray], path: Path, **options: Any) -> Any:
    """Emit; nnacl agrees on every node; read back, the results are the reference's. Returns the EmitResult."""
    result = BACKEND.emit(model, path, **options)
    found = nnacl.check(path)
    assert found["agree"] == found["checkable"], found["problems"]
    got = BACKEND.run(path, feeds)
    want = interpret.run(model, feeds, compute="float64")
    assert len(got) == len(model.graph.outputs)
    for name, g in zip(model.graph.outputs, got):
        w, dtype = np.asarray(want[name]), model.graph.types[name].dtype
        assert g.dtype == dt.to_numpy(dtype)
        if g.dtype.kind in "iub":
            np.testing.assert_array_equal(g, w.astype(g.dtype))
        else:
            error = samples.scaled_error(g, w)
            assert error <= (5e-3 if dtype == "float16" else 1e-5), (
                f"{name}: scaled error {error:.2e}"
            )
    return result


def ops(path: Path) -> list[str]:
    """Ops of a file, in order."""
    return [n["primitive"]["value"][0] for n in flat.unpack(path.read_bytes())["nodes"]]


def canonical(model: Model) -> Model:
    """The model after the target-independent part of the pipeline."""
    stages = (
        select(stage, "default", extra=[], approximate=False) for stage in ("canonicalise", "fuse")
    )
    return front(*stages).run(model, Context())


def survives(model: Model, path: Path) -> None:
    """Assert that emitting and reading keeps the digest."""
    before = canonical(model)
    BACKEND.emit(before, path)
    after = readback.program(path)
    names = [[n.op for n in m.graph.nodes] for m in (before, after.model)]
    assert after.digest == api.digest_of(before), f"{names[0]} came back as {names[1]}"
