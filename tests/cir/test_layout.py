"""The layout pass: image ops on channels-last data, with the transposes between them gone."""

from __future__ import annotations

import numpy as np
import pytest

from cir.builder import Builder
from cir.graph import Graph, Model
from cir.interpret import run
from cir.ops.channels_last import TWINS
from framework_adapter.pipeline import back

CONV = {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1]}


def to_last(graph: Graph) -> Graph:
    model = Model(graph)
    return back(lambda n, g: n.op not in TWINS, layout="channels_last").run(model).graph


def weights(b: Builder, o: int, i: int, name: str = "w") -> str:
    rng = np.random.default_rng(o + i)
    return b.const(rng.standard_normal((o, i, 3, 3)).astype(np.float32), name)


def residual(channels_last_input: bool = False) -> Graph:
    """conv, group norm, a block whose branches meet, a pool, an upsampling and a concatenation."""
    b = Builder()
    x = b.input("x", "float32", (2, 8, 8, 4) if channels_last_input else (2, 4, 8, 8))
    if channels_last_input:
        x = b.emit("transpose", [x], {"perm": [0, 3, 1, 2]})[0]
    h = b.emit("conv", [x, weights(b, 4, 4)], CONV)[0]
    h = b.emit("group_norm", [h], {"num_groups": 2})[0]
    h = b.emit("add", [b.emit("swish", [h])[0], x])[0]
    pool = {"kernel": [2, 2], "strides": [2, 2], "pads": [0] * 4}
    down = b.emit("avg_pool", [h], pool)[0]
    up = b.emit("resize", [down], {"sizes": [8, 8]})[0]
    y = b.emit("concat", [up, h], {"axis": 1})[0]
    gate = b.emit("mean", [y], {"axis": [-2, -1], "keepdims": True})[0]
    y = b.emit("mul", [y, b.emit("sigmoid", [gate])[0]])[0]
    return b.finish([b.emit("conv", [y, weights(b, 3, 8)], CONV, name="y")[0]])


@pytest.mark.parametrize("channels_last_input", [False, True])
def test_only_the_edges_are_transposed(channels_last_input: bool) -> None:
    graph = residual(channels_last_input)
    out = to_last(graph)
    turned = [n for n in out.nodes if n.op == "transpose"]
    assert len(turned) == (1 if channels_last_input else 2)
    assert sum(n.op.endswith("_channels_last") for n in out.nodes) == 5
    assert not any(n.op in TWINS for n in out.nodes)
    assert (out.inputs, out.outputs) == (graph.inputs, graph.outputs)
    x = np.random.default_rng(0).standard_normal(graph.types["x"].shape).astype(np.float32)
    want, got = run(Model(graph), [x]), run(Model(out), [x])
    np.testing.assert_allclose(got["y"], want["y"], rtol=1e-12, atol=1e-12)


def test_attention_tokens_need_no_transpose() -> None:
    """An image as a sequence of its places is a reshape of channels-last data."""
    b = Builder()
    x = b.input("x", "float32", ("n", 4, 6, 6))
    h = b.emit("conv", [x, weights(b, 4, 4)], CONV)[0]
    h = b.emit(
        "transpose", [b.emit("reshape", [h], {"shape": ["n", 4, 36]})[0]], {"perm": [0, 2, 1]}
    )[0]
    w = b.const(np.eye(4, dtype=np.float32), "v")
    y = b.emit("linear", [h, w], name="y")[0]
    out = to_last(b.finish([y]))
    assert [n.op for n in out.nodes] == [
        "transpose",
        "conv_channels_last",
        "reshape",
        "linear",
    ] or [n.op for n in out.nodes] == ["transpose", "conv_channels_last", "linear", "reshape"]


def test_regions_too() -> None:
    """Images inside control flow."""
    b = Builder()
    pred, x = b.input("p", "bool", ()), b.input("x", "float32", (1, 4, 5, 5))
    branches = []
    for name in ("then", "otherwise"):
        inner = Builder(name)
        v = inner.input(f"{name}_x", "float32", (1, 4, 5, 5))
        branches.append(
            inner.finish(
                [
                    inner.emit(
                        "conv", [v, weights(inner, 4, 4, f"{name}_w")], CONV, name=f"{name}_y"
                    )[0]
                ]
            )
        )
    y = b.emit("cond", [pred, x], regions=branches, name="y")[0]
    out = to_last(b.finish([y]))
    assert all("conv_channels_last" in [n.op for n in r.nodes] for r in out.regions())


def test_a_dense_network_stays() -> None:
    b = Builder()
    x = b.input("x", "float32", (2, 4))
    graph = b.finish([b.emit("relu", [x], name="y")[0]])
    assert [n.op for n in to_last(graph).nodes] == ["relu"]
