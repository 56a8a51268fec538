"""Symbolic dims: no shape arithmetic where -1 or 0 say it, and right results where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir import spec
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Model
from framework_adapter import samples
from framework_adapter.onnx import emit as em
from tests.onnx.support import check, ops, program

F = np.float32


@pytest.mark.parametrize("which", ["first", "all"])
@pytest.mark.parametrize("op", sorted(spec.all_ops()))
def test_samples_with_symbolic_sizes(op: str, which: str, tmp_path: Path) -> None:
    """Each op's samples with one size, then every size, of its inputs made a symbol."""
    for sample in spec.get(op).samples:
        arrays = [samples.tensor(t, i) for i, t in enumerate(sample["inputs"]) if t]
        sizes = arrays[0].shape[:1] if which == "first" else {n for a in arrays for n in a.shape}
        try:
            model, feeds = program(op, sample, {n: f"s{n}" for n in sizes if n > 1})
        except CirError:
            continue  # the op wants this size known
        if all(em.legal(n, model.graph) for n in model.graph.nodes):
            check(model, feeds, tmp_path / "m.onnx")


def _views(cases: list[tuple[list, list, list[str]]]) -> Any:
    return pytest.mark.parametrize(("have", "want", "expected"), cases)


@_views(
    [
        (["n", 3, 4], ["n", 12], ["Reshape"]),
        (["n", "s", 12], ["n", "s", 3, 4], ["Reshape"]),
        (["n", "s", 3, 4], ["n", "s", 12], ["Reshape"]),
        (["n", "s", 4], ["n*s", 4], ["Reshape"]),
        (["n", 4, "h", "w"], ["n", 4, "h*w"], ["Reshape"]),
        (["n", 4], ["n", 1, 4], ["Reshape"]),
        (["n", "s", "t"], ["n", 1, "s", "t"], ["Unsqueeze"]),
        (["n", 1, "s", 1, "t"], ["n", "s", 1, "t"], ["Squeeze"]),
        (["n", "s"], ["n", "s"], ["Identity"]),
        (["2*n", 3], ["n", 6], ["Reshape"]),
    ]
)
def test_reshape_without_arithmetic(
    have: list, want: list, expected: list[str], tmp_path: Path
) -> None:
    """One node and a constant, for any number of symbolic dims that are copied or left over."""
    b = Builder()
    x = b.input("x", "float32", have)
    y = b.emit("reshape", [x], {"shape": want}, name="y")[0]
    model = Model(b.finish([y]))
    env = {"n": 2, "s": 5, "t": 3, "h": 3, "w": 2, "2*n": 4}
    feed = np.arange(np.prod([env.get(d, d) for d in have]), dtype=F)
    check(model, [feed.reshape([env.get(d, d) for d in have])], tmp_path / "m.onnx")
    assert ops(tmp_path / "m.onnx") == expected


def test_reshape_with_arithmetic(tmp_path: Path) -> None:
    """Two unknowns that are not copied: one is computed, the other is -1."""
    b = Builder()
    x = b.input("x", "float32", ["n*s", 4])
    z = b.input("z", "float32", ["n", "s"])
    y = b.emit("reshape", [x], {"shape": ["s", "n", 4]}, name="y")[0]
    w = b.emit("reshape", [x], {"shape": ["n", "s", 4]}, name="w")[0]
    out = b.emit("relu", [z], name="r")[0]
    feeds = [np.arange(24, dtype=F).reshape(6, 4), np.ones((2, 3), F)]
    check(Model(b.finish([y, w, out])), feeds, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "dim",
    ["n + 1", "2*n - 1", "(n + 1)//2", "(3 - n)//2 + 4", "n%3 + 1", "min(4, n)", "max(2, n)*2"],
)
@pytest.mark.parametrize("n", [1, 4, 5])
def test_dim_expressions(dim: str, n: int, tmp_path: Path) -> None:
    """Every operator of the dim language, as the length of an expanded axis."""
    b = Builder()
    x = b.input("x", "float32", ["n", 2])
    row = b.emit("sum", [x], {"axis": [0]})[0]
    y = b.emit("expand", [row], {"shape": [dim, 2]}, name="y")[0]
    check(Model(b.finish([y])), [np.ones((n, 2), F)], tmp_path / "m.onnx")


def test_symbol_solved_from_a_size(tmp_path: Path) -> None:
    """n from an input whose size is 2*n + 1."""
    b = Builder()
    x = b.input("x", "float32", ["2*n + 1"])
    one = b.emit("sum", [x], {"axis": [0]})[0]
    y = b.emit("expand", [one], {"shape": ["n"]}, name="y")[0]
    check(Model(b.finish([y])), [np.ones(7, F)], tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [
        (0, "n", 1),
        (1, "n", 2),
        ("n - 2", "n", 1),
        ("n", "n", 1),
        (0, "n - 1", 1),
        ("n - 1", -1, -1),
        ("n//2", "n", 1),
    ],
)
def test_slices(start: Any, end: Any, step: int, tmp_path: Path) -> None:
    """Bounds relative to a symbolic size count from the end; only n//2 is computed."""
    b = Builder()
    x = b.input("x", "float32", ["n", 2])
    attrs = {"axes": [0], "starts": [start], "ends": [end], "steps": [step]}
    y = b.emit("slice", [x], attrs, name="y")[0]
    check(Model(b.finish([y])), [np.arange(12, dtype=F).reshape(6, 2)], tmp_path / "m.onnx")
    assert (ops(tmp_path / "m.onnx") == ["Slice"]) == (start != "n//2")


def test_resize_by_a_factor(tmp_path: Path) -> None:
    """Doubling a symbolic size is a constant scale."""
    b = Builder()
    x = b.input("x", "float32", ["n", 3, "h", "w"])
    y = b.emit("resize", [x], {"sizes": ["2*h", "2*w"]}, name="y")[0]
    check(Model(b.finish([y])), [np.arange(36, dtype=F).reshape(1, 3, 4, 3)], tmp_path / "m.onnx")
    assert ops(tmp_path / "m.onnx") == ["Resize"]


def test_arange_tile_and_causal_mask(tmp_path: Path) -> None:
    """Shape arithmetic written as ops of the program itself."""
    b = Builder()
    x = b.input("x", "float32", ["n", "s"])
    shape = b.emit("shape", [x])[0]
    n = b.emit("gather", [shape, b.const(np.int64(1))], {"axis": 0})[0]
    zero, one = b.const(np.int64(0)), b.const(np.int64(1))
    r = b.emit("arange", [zero, n, one])[0]
    rows = b.emit("reshape", [r], {"shape": ["s", 1]})[0]
    mask = b.emit("greater_equal", [rows, r], name="mask")[0]
    t = b.emit("tile", [x], {"repeats": ["s", 2]}, name="t")[0]
    feed = np.arange(6, dtype=F).reshape(2, 3)
    check(Model(b.finish([mask, t])), [feed], tmp_path / "m.onnx")
