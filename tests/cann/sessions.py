"""The network, feeds and expectations of the tests of sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cir
from cir.diagnostics import CirError

CPU = "CPUExecutionProvider"
TARGETS = {".onnx": "onnx", ".cir.json": "cir", ".om": "om", ".air": "air", ".ms": "mslite"}
STAND_INS = Path(__file__).parent / "stand_ins"


def network() -> cir.Model:
    """Two inputs, two outputs, a symbolic batch."""
    rng = np.random.default_rng(0)
    b = cir.Builder("net")
    x = b.input("x", "float32", ("batch", 4))
    shift = b.input("shift", "float32", ("batch", 3))
    w = b.const(rng.standard_normal((3, 4)).astype(np.float32), name="w")
    (h,) = b.emit("linear", [x, w], name="h")
    (s,) = b.emit("add", [h, shift], name="s")
    (p,) = b.emit("softmax", [s], {"axis": -1}, name="p")
    (r,) = b.emit("relu", [s], name="r")
    return cir.Model(b.finish([p, r]))


def lookup() -> cir.Model:
    """Rows of a table by index, which the runtime checks."""
    b = cir.Builder("lookup")
    i = b.input("i", "int64", ("n",))
    table = b.const(np.arange(8, dtype=np.float32).reshape(4, 2), name="table")
    return cir.Model(b.finish(b.emit("gather", [table, i], {"axis": 0}, name="rows")))


def feeds(n: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, n])
    return {
        "x": rng.standard_normal((n, 4)).astype(np.float32),
        "shift": rng.standard_normal((n, 3)).astype(np.float32),
    }


def expected(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return cir.run(network(), given)


def code_of(call: Any) -> str:
    with pytest.raises(CirError) as exc:
        call()
    return exc.value.code
