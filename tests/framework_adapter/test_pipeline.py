"""The default pipeline: what it makes of whole networks, and how long it takes."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cir
from cir.builder import Builder
from cir.graph import Graph, Model
from cir.passes import Context
from framework_adapter.pipeline import front
from fusion_db import select

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"pytorch": "torch", "tensorflow": "tensorflow", "mindspore": "mindspore"}
NETWORKS = ("digits_unet", "resnet50")
BUDGET = 5.0  # seconds of CPU time for a graph of 14,000 nodes


def pipeline() -> Any:
    return front(select("canonicalise"), select("fuse"))


# -- whole networks --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module", params=[(f, n) for n in NETWORKS for f in FRAMEWORKS], ids="-".join)
def network(request: pytest.FixtureRequest, folder: Path) -> tuple[Path, Any, Any]:
    """(ONNX file with a symbolic batch, its proto, a function from batch size to inputs)."""
    framework, name = request.param
    pytest.importorskip(FRAMEWORKS[framework])
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from framework_adapter import convert

    zoo = importlib.import_module(f"demos.models.{framework}")
    inputs = zoo.example_inputs(name, batch=2)
    r = convert(
        getattr(zoo, name)(),
        "onnx",
        folder / f"{framework}-{name}.onnx",
        inputs=inputs,
        dynamic_shapes=[{0: "batch"}] * len(inputs),
        validate=False,
    )
    proto = onnx.load(r.artifact)
    return r.artifact, proto.graph, lru_cache(lambda batch: zoo.example_inputs(name, batch))


def ops(graph: Any) -> Counter[str]:
    return Counter(n.op_type for n in graph.node)


def test_a_symbolic_batch_needs_no_shape_arithmetic(network: tuple[Path, Any, Any]) -> None:
    path, graph, inputs = network
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)]
    assert all(d[0] == "batch" for d in dims)
    assert not {"Shape", "Size", "Loop", "If"} & set(ops(graph))
    from framework_adapter.onnx import BACKEND

    one, five = (BACKEND.run(path, inputs(n), threads=2)[0] for n in (1, 5))
    assert one.shape[0] == 1 and five.shape == (5, *one.shape[1:])
    again = BACKEND.run(path, [x[:1] for x in inputs(5)], threads=2)[0]
    np.testing.assert_allclose(again, five[:1], rtol=1e-3, atol=1e-4 * np.abs(five).max())


def test_figures(network: tuple[Path, Any, Any]) -> None:
    path, graph, _ = network
    count = ops(graph)
    framework = path.stem.split("-")[0]
    if path.stem.endswith("resnet50"):
        assert (count["Conv"], count["Relu"], count["Add"]) == (53, 49, 16)
        assert not {"BatchNormalization", "Pad"} & set(count)
        transposes = [n for n in graph.node if n.op_type == "Transpose"]
        assert [n.input[0] for n in transposes] == (["x"] if framework == "tensorflow" else [])
        assert sum(count.values()) <= 122, count
    else:
        heads = count["Attention"] + count["MultiHeadAttention"]
        assert heads == 2 and not count["Softmax"], count


def test_no_transpose_cancels_another(network: tuple[Path, Any, Any]) -> None:
    _, graph, _ = network
    made = {o: n for n in graph.node for o in n.output}
    for n in graph.node:
        before = made.get(n.input[0]) if n.op_type == "Transpose" else None
        assert before is None or before.op_type != "Transpose", (before, n)


# -- time ------------------------------------------------------------------------------------------
def transformer(layers: int) -> Graph:
    """Spelled out op by op, as frameworks trace it: 33 nodes for each layer."""
    b = Builder()
    rng = np.random.default_rng(0)

    def op(name: str, *inputs: str, **attrs: Any) -> str:
        return b.emit(name, list(inputs), attrs)[0]

    def array(shape: Sequence[int], name: str) -> str:
        return b.const(rng.standard_normal(shape).astype(np.float32), name)

    weights = [array((64, 64), f"w{i}") for i in range(4)]
    gamma, beta = array((64,), "gamma"), array((64,), "beta")
    h = b.input("x", "float32", ("n", 16, 64))
    for _ in range(layers):
        centred = op("sub", h, op("mean", h, axis=(-1,), keepdims=True))
        variance = op("mean", op("square", centred), axis=(-1,), keepdims=True)
        y = op("mul", centred, op("rsqrt", op("add", variance, b.const(1e-5))))
        flat = op("reshape", op("add", op("mul", y, gamma), beta), shape=("16*n", 64))
        heads = []
        for w in weights[:3]:
            z = op("reshape", op("matmul", flat, w), shape=("n", 16, 4, 16))
            heads.append(op("transpose", z, perm=(0, 2, 1, 3)))
        scores = op("matmul", heads[0], op("transpose", heads[1], perm=(0, 1, 3, 2)))
        z = op("matmul", op("softmax", op("mul", scores, b.const(0.25)), axis=-1), heads[2])
        z = op("reshape", op("transpose", z, perm=(0, 2, 1, 3)), shape=("n", 16, 64))
        h = op("add", h, op("matmul", z, weights[3]))
        t = op("add", op("erf", op("mul", h, b.const(0.70710678))), b.const(1.0))
        h = op("mul", op("mul", h, b.const(0.5)), t)
    return b.finish([h])


def test_14000_nodes_in_five_seconds() -> None:
    graph = transformer(440)
    assert len(graph.nodes) >= 14_000
    run = pipeline()
    ctx = Context()
    start = time.process_time()
    out = run.run(Model(graph), ctx)
    seconds = time.process_time() - start
    slow = sorted(Counter({r.name: 0 for r in ctx.trace}))
    spent = {name: round(sum(r.ms for r in ctx.trace if r.name == name)) for name in slow}
    print(f"{len(graph.nodes)} nodes to {len(out.graph.nodes)} in {seconds:.2f} s CPU; ms by pass: {spent}")
    kinds = Counter(n.op for n in out.graph.nodes)
    assert kinds["layer_norm"] == kinds["scaled_dot_product_attention"] == kinds["gelu"] == 440
    assert seconds <= BUDGET


def test_the_pipeline_keeps_the_values() -> None:
    graph = transformer(2)
    out = pipeline().run(Model(graph))
    x = np.random.default_rng(1).standard_normal((2, 16, 64)).astype(np.float32)
    (a,), (b,) = (list(cir.run(m, [x]).values()) for m in (Model(graph), out))
    assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


# -- settling --------------------------------------------------------------------------------------
#: Reshapes of size-1 axes are free on either operand: nothing may push them to and fro.
FREE = {
    "sum": """
cir 1.0
graph g
input a: float32[2, 4]
input b: float32[2, 1]
s = sum(a, axis=(-1,), keepdims=False)
t = add(s, b)
return t
""",
    "recurrent": """
cir 1.0
graph g
input x: float32[n, 2, 4]
input h: float32[1, n, 4]
p = reshape(h, shape=('n', 1, 4))
a, b = split(x, axis=-2, sizes=(1, 1))
t = add(p, a)
y = tanh(t)
u = reshape(y, shape=(1, 'n', 4))
return u, b
""",
}


@pytest.mark.parametrize("name", FREE)
def test_free_reshapes_settle(name: str) -> None:
    out = pipeline().run(cir.parse_text(FREE[name]))
    assert "transpose" not in {n.op for n in out.graph.nodes}
    again = pipeline().run(out)
    assert again.graph is out.graph
