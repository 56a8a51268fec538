"""Build one-op programs, emit them, run them, compare with the reference interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cir import dtype as dt
from cir import interpret, spec
from cir.builder import Builder
from cir.graph import Model
from framework_adapter import samples
from framework_adapter.onnx import emit as em

#: Dtypes that ONNX Runtime's Python binding does not hand out as arrays.
_OPAQUE = ("bfloat16", *dt.STORAGE)
TOLERANCE = {"float16": 5e-3, "bfloat16": 2e-2}


def program(
    op: str, sample: Mapping[str, Any], symbols: Mapping[int, str] | None = None
) -> tuple[Model, list]:
    """(model, feeds) of one op application; operands of opaque dtypes go through casts.

    ``symbols`` makes sizes symbolic: size -> symbol, in input shapes and in ``dims`` attributes.
    """
    names = symbols or {}
    s, b = spec.get(op), Builder()
    feeds: list[np.ndarray] = []
    inputs: list[str | None] = []
    for i, text in enumerate(sample["inputs"]):
        if text is None:
            inputs.append(None)
            continue
        array = samples.tensor(text, i)
        dtype = dt.from_numpy(array.dtype)
        feeds.append(array.astype(np.float32) if dtype in _OPAQUE else array)
        shape = [names.get(n, n) for n in array.shape]
        x = b.input(f"x{i}", dt.from_numpy(feeds[-1].dtype), shape)
        inputs.append(x if dtype not in _OPAQUE else b.emit("cast", [x], {"dtype": dtype})[0])
    attrs = {k: v for k, v in sample.items() if k != "inputs"}
    for k, v in attrs.items():
        if s.attr_map[k].kind == "dims" and k in ("shape", "sizes") and op != "resize":
            attrs[k] = [names.get(d, d) for d in v]
    outs = b.emit(op, inputs, attrs, name="y")
    plain = [
        o if b.types[o].dtype not in _OPAQUE else b.emit("cast", [o], {"dtype": "float32"})[0]
        for o in outs
    ]
    return Model(b.finish(plain)), feeds


def check(
    model: Model, feeds: Sequence[np.ndarray], path: Path, dtype: str = "", **options: Any
) -> Any:
    """Emit, run without optimisers, compare every output with the interpreter; returns the EmitResult."""
    result = em.emit(model, path, **options)
    got = em.run(path, feeds, threads=1, optimise=False)
    want = interpret.run(model, feeds, compute=None if dtype in TOLERANCE else "float64")
    assert len(got) == len(model.graph.outputs)
    for name, g in zip(model.graph.outputs, got):
        t = model.graph.types[name]
        assert g.dtype == dt.to_numpy(t.dtype)
        w = np.asarray(want[name])
        if g.dtype.kind in "iub":
            np.testing.assert_array_equal(g, w.astype(g.dtype))
        else:
            err = samples.scaled_error(g, w)
            assert err <= TOLERANCE.get(dtype, 1e-5), f"{name}: scaled error {err:.2e}"
    return result


def ops(path: Path) -> list[str]:
    """Op types of a file's main graph, in order."""
    import onnx

    return [n.op_type for n in onnx.load(path, load_external_data=False).graph.node]


def domains(path: Path) -> list[str]:
    """Op domains that a file imports."""
    import onnx

    return [e.domain for e in onnx.load(path, load_external_data=False).opset_import]
