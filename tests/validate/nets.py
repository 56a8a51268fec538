"""Small programs with a hand-written ONNX twin each, so that no frontend or emitter is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cir.builder import Builder
from cir.graph import Meta, Model, Source

RNG = np.random.default_rng(7)
W1 = RNG.standard_normal((16, 8)).astype(np.float32) / 3
B1 = RNG.standard_normal(16).astype(np.float32)
W2 = RNG.standard_normal((4, 16)).astype(np.float32) / 4


def mlp(batch: int | str = 3, w2: np.ndarray = W2) -> Model:
    """relu(x W1' + b1) W2', outputs: logits and argmax-like int mask."""
    b = Builder("mlp")
    x = b.input("x", "float32", (batch, 8))
    b.meta = Meta((Source("torch:aten.linear.default", "net.fc1", "net.py:10"),))
    (h,) = b.emit("linear", [x, b.const(W1, "w1"), b.const(B1, "b1")], name="h")
    b.meta = Meta((Source("torch:aten.relu.default", "net.act", "net.py:11"),))
    (a,) = b.emit("relu", [h], name="a")
    b.meta = Meta(
        (
            Source("torch:aten.matmul.default", "net.fc2", "net.py:12"),
            Source("torch:aten.t.default", "net.fc2", "net.py:12"),
        ),
        ("linear_from_matmul",),
    )
    (y,) = b.emit("linear", [a, b.const(w2, "w2")], name="y")
    return Model(b.finish([y]))


def numpy_mlp(feeds: Sequence[np.ndarray], w2: np.ndarray = W2) -> list[np.ndarray]:
    """The source model: plain float32 numpy."""
    (x,) = feeds
    return [np.maximum(x @ W1.T + B1, 0) @ w2.T]


def write_onnx(path: Path, *, w2: np.ndarray = W2, act: str = "Relu") -> Path:
    """The artefact: the same network as an ONNX file; names of values as in the program."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], "fc1", transB=1),
        helper.make_node(act, ["h"], ["a"], "act"),
        helper.make_node("Gemm", ["a", "w2"], ["logits"], "fc2", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(v, k) for k, v in (("w1", W1), ("b1", B1), ("w2", w2))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path
