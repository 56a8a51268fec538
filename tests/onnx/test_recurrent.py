"""LSTM nodes, written and read: the same numbers in ONNX Runtime, the same program back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.builder import Builder
from cir.graph import Model
from cir.interpret import run as interpret
from framework_adapter.lowering import lower
from framework_adapter.mapping import load
from framework_adapter.onnx import emit as em
from framework_adapter.onnx.extract import extract
from framework_adapter.samples import scaled_error
from tests.onnx.support import check
from tests.onnx.test_roundtrip import survives

STEPS, BATCH, FEATURES, HIDDEN = 5, 3, 4, 6


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def program(steps: Any, batch: Any, bias: bool, states: int, reverse: bool) -> tuple[Model, list]:
    """One lstm with constant weights, and feeds."""
    b = Builder()
    feeds = [array(STEPS, BATCH, FEATURES)]
    inputs: list[str | None] = [b.input("x", "float32", (steps, batch, FEATURES))]
    inputs.append(b.const(array(4 * HIDDEN, FEATURES), "w"))
    inputs.append(b.const(array(4 * HIDDEN, HIDDEN), "r"))
    inputs.append(b.const(array(4 * HIDDEN), "b") if bias else None)
    for name in ("h", "c")[:states]:
        inputs.append(b.input(name, "float32", (batch, HIDDEN)))
        feeds.append(array(BATCH, HIDDEN) + len(feeds))
    return Model(b.finish(b.emit("lstm", inputs, {"reverse": reverse}))), feeds


@pytest.mark.parametrize("steps", [STEPS, "t"])
@pytest.mark.parametrize("batch", [BATCH, "n"])
@pytest.mark.parametrize(("bias", "states"), [(True, 0), (False, 0), (True, 1), (False, 2)])
@pytest.mark.parametrize("reverse", [False, True])
def test_out_and_in(
    steps: Any, batch: Any, bias: bool, states: int, reverse: bool, tmp_path: Path
) -> None:
    model, feeds = program(steps, batch, bias, states, reverse)
    check(model, feeds, tmp_path / "m.onnx")
    survives(model, tmp_path / "n.onnx")


def test_float64_is_decomposed(tmp_path: Path) -> None:
    """The runtime's kernel for it is declared but throws."""
    from cir.passes import decompose

    b = Builder()
    shapes = ((3, 2, 4), (24, 4), (24, 6))
    inputs = [b.input(f"x{i}", "float64", s) for i, s in enumerate(shapes)]
    model = Model(b.finish(b.emit("lstm", inputs)))
    assert not em.legal(model.graph.nodes[0], model.graph)
    plain = model.with_graph(decompose(model.graph, em.legal))
    check(plain, [array(*s).astype(np.float64) for s in shapes], tmp_path / "m.onnx")


def one_node(layout: int, direction: str, states: bool, path: Path) -> list[np.ndarray]:
    """A file of one LSTM node as other exporters write it, and its feeds."""
    import onnx
    from onnx import helper, numpy_helper

    d = 2 if direction == "bidirectional" else 1
    shapes = {"W": (d, 4 * HIDDEN, FEATURES), "R": (d, 4 * HIDDEN, HIDDEN), "B": (d, 8 * HIDDEN)}
    x = (BATCH, STEPS, FEATURES) if layout else (STEPS, BATCH, FEATURES)
    state = (BATCH, d, HIDDEN) if layout else (d, BATCH, HIDDEN)
    feeds = {"X": array(*x)} | ({"h": array(*state), "c": array(*state) + 1} if states else {})
    names = ["X", "W", "R", "B", "", *(["h", "c"] if states else [])]
    node = helper.make_node(
        "LSTM", names, ["Y", "Yh", "Yc"], hidden_size=HIDDEN, direction=direction, layout=layout
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, 1, a.shape) for n, a in feeds.items()],
        [helper.make_empty_tensor_value_info(n) for n in ("Y", "Yh", "Yc")],
        [numpy_helper.from_array(array(*s), n) for n, s in shapes.items()],
    )
    onnx.save(
        helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), path
    )
    return list(feeds.values())


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("states", [False, True])
def test_a_foreign_file(direction: str, states: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    feeds = one_node(0, direction, states, path)
    want = em.run(path, feeds)
    model = lower(extract(path), load("onnx"))
    for a, b in zip(interpret(model, feeds).values(), want):
        assert a.shape == b.shape and scaled_error(a, b) <= 1e-6


@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_batch_first(direction: str, tmp_path: Path) -> None:
    """ONNX Runtime has no kernel for it, so: the same as with turned operands and results."""
    paths = [tmp_path / "first.onnx", tmp_path / "last.onnx"]
    for layout, path in enumerate(paths):
        one_node(layout, direction, True, path)
    turned = [array(BATCH, STEPS, FEATURES), array(BATCH, 1, HIDDEN), array(BATCH, 1, HIDDEN)]
    if direction == "bidirectional":
        turned[1:] = [array(BATCH, 2, HIDDEN), array(BATCH, 2, HIDDEN)]
    plain = [a.transpose(1, 0, 2) for a in turned]
    ours = [lower(extract(p), load("onnx")) for p in paths]
    y, h, c = interpret(ours[0], plain).values()
    for a, b in zip(
        interpret(ours[1], turned).values(),
        (y.transpose(2, 0, 1, 3), h.transpose(1, 0, 2), c.transpose(1, 0, 2)),
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
