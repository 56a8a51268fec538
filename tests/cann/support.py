"""Small programs and files for the tests of AIR and OM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Const, Model, Range
from framework_adapter import api, registry
from framework_adapter.cann import FRONTEND
from framework_adapter.cann.air import BACKEND as AIR
from framework_adapter.cann.om import BACKEND as OM
from framework_adapter.lowering import lower
from framework_adapter.mapping import load
from framework_adapter.pipeline import front
from fusion_db import select

BACKENDS = {"air": AIR, "om": OM}


def array(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal deviates."""
    rng = np.random.default_rng((*shape, seed))
    return rng.standard_normal(shape).astype(np.float32)


def network(batch: Any = 2) -> Model:
    """A little of everything: image ops, norms, products, attention, gather, LSTM, two outputs."""
    b = Builder("net")
    x = b.input("image", "float32", (batch, 3, 6, 6))
    ids = b.input("ids", "int64", (batch, 5))

    def w(name: str, *shape: int) -> str:
        return b.const(Const.of(array(*shape, seed=sum(name.encode()))), name)

    def op(kind: str, *xs: str | None, **attrs: Any) -> str:
        return b.emit(kind, list(xs), attrs)[0]

    window = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    h = op("conv", x, w("w0", 8, 3, 3, 3), w("b0", 8), **window)
    h = op("group_norm_silu", h, w("g0", 8), w("g1", 8), num_groups=2)
    h = op("max_pool", h, kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), dilations=(1, 1))
    h = op("resize", h, sizes=(6, 6))
    h = op("reshape", op("mean", h, axis=(2, 3)), shape=(batch, 8))
    e = op("gather", w("table", 9, 8), ids, axis=0)
    e = op("layer_norm", e, w("s1", 8), w("t1", 8))
    steps = op("transpose", e, perm=(1, 0, 2))
    y, last, _ = b.emit(
        "lstm", [steps, w("wi", 32, 8), w("wh", 32, 8), w("bh", 32)], {"reverse": True}
    )
    a = op("softmax", op("matmul", y, op("transpose", y, perm=(0, 2, 1))))
    z = op("gelu", op("linear", op("add", h, last), w("w1", 4, 8), w("b1", 4)))
    return Model(b.finish([z, a]), symbols={"n": Range(1, 64)} if batch == "n" else {})


def canonical(model: Model) -> Model:
    """The model after the target-independent part of the pipeline."""
    stages = (select(s, "default", extra=[], approximate=False) for s in ("canonicalise", "fuse"))
    return front(*stages).run(model)


def read(path: Path) -> Model:
    """A file lowered to the IR, as its rows give it."""
    return lower(FRONTEND.extract(path, None), load("cann"))


def write(model: Model, folder: Path, target: str = "air", **options: Any) -> Path:
    """A program written as one file in a folder."""
    path = folder / f"m.{target}"
    BACKENDS[target].emit(model, path, **options)
    return path


def digest(path: Path) -> str:
    """Structure digest of a file read back through the whole pipeline."""
    return api.build(str(path), registry.frontend("cann")).digest


def refused(path: Path, what: str, code: str = "E105") -> None:
    """Reading a file fails with this code and text, and says what to do or where."""
    with pytest.raises(CirError, match=what) as info:
        read(path)
    assert info.value.code == code and info.value.exit_code == 4, info.value
    first = info.value.diagnostics[0]
    assert first.fix or first.nearest or first.where
