"""Programs as TensorFlow graphs, run without writing them: what the emission tests share.

``python -m tests.tensorflow.emission_support`` runs every op's samples, and is a process of its own
because TensorFlow's kernels are chosen by an environment variable that it reads when it starts.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cir import dtype as dt
from cir import interpret, spec
from cir.builder import Builder
from cir.graph import Model
from framework_adapter import samples
from framework_adapter.pipeline import back
from framework_adapter.target import TargetGraph
from framework_adapter.tensorflow import saved_model
from tests.onnx.support import TOLERANCE, program

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def lowered(model: Model) -> TargetGraph:
    """The TensorFlow graph of a program, legalised as the backend does it."""
    rows = saved_model.table()
    return saved_model.lowered(back(rows.legal, layout="channels_last").run(model).graph)


def ops(graph: TargetGraph) -> Counter[str]:
    """How often each op occurs, bodies included."""
    return Counter(n.op for n in graph.walk())


def check(model: Model, feeds: Sequence[np.ndarray], dtype: str = "") -> TargetGraph:
    """Run a program in TensorFlow and compare every output with the interpreter in float64."""
    import tensorflow as tf

    from framework_adapter.tensorflow.program import build

    graph = lowered(model)
    module = build(
        graph, {k: f"x{i}" for i, k in enumerate(graph.inputs)}, {k: k for k in graph.outputs}
    )
    got = module.serve(*[tf.constant(f) for f in feeds])
    want = interpret.run(model, feeds, compute=None if dtype in TOLERANCE else "float64")
    for name, out in zip(model.graph.outputs, graph.outputs):
        g, w = got[out].numpy(), np.asarray(want[name])
        assert g.dtype == dt.to_numpy(model.graph.types[name].dtype)
        if g.dtype.kind in "iub":
            np.testing.assert_array_equal(g, w.astype(g.dtype))
        else:
            error = samples.scaled_error(g, w)
            assert error <= TOLERANCE.get(dtype, 1e-5), f"{name}: scaled error {error:.2e}"
    return graph


def constant_operands(op: str, sample: Mapping[str, Any]) -> tuple[Model, list[np.ndarray]]:
    """(model, feeds) of an op whose first operand is an input and whose others are constants."""
    b, feeds = Builder(), []
    inputs: list[str | None] = []
    for i, text in enumerate(sample["inputs"]):
        array = None if text is None else samples.tensor(text, i)
        if array is None:
            inputs.append(None)
        elif i == 0:
            inputs.append(b.input("x0", dt.from_numpy(array.dtype), array.shape))
            feeds.append(array)
        else:
            inputs.append(b.const(array, name=f"w{i}"))
    attrs = {k: v for k, v in sample.items() if k != "inputs"}
    return Model(b.finish(b.emit(op, inputs, attrs, name="y"))), feeds


def grouped_net() -> tuple[Model, list[np.ndarray]]:
    """Convolutions that are grouped, depthwise and transposed, each with bias and activation."""
    rng, b = np.random.default_rng(0), Builder()
    y = b.input("x", "float32", ["n", 4, 8, 8])

    def weight(name: str, *shape: int) -> str:
        return b.const(rng.standard_normal(shape).astype(np.float32) / 3, name=name)

    plain = {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1]}
    uneven = {**plain, "strides": [2, 2], "pads": [1, 1, 1, 1]}
    for i, (shape, attrs) in enumerate(
        [((8, 2, 3, 3), {**plain, "groups": 2}), ((8, 1, 3, 3), {**plain, "groups": 8}),
         ((8, 1, 3, 3), {**uneven, "groups": 8})]
    ):  # fmt: skip
        y = b.emit("conv", [y, weight(f"w{i}", *shape), weight(f"b{i}", shape[0])], attrs)[0]
        y = b.emit("clip", [y], {"min": 0.0, "max": 6.0})[0]
    attrs = {**plain, "groups": 8, "output_padding": [0, 0]}
    y = b.emit("conv_transpose", [y, weight("w3", 8, 1, 3, 3), weight("b3", 8)], attrs)[0]
    y = b.emit("relu", [y], name="y")[0]
    return Model(b.finish([y])), [rng.standard_normal((2, 4, 8, 8)).astype(np.float32)]


def main() -> int:
    """Run every sample with inputs, then with constants, and the grouped net; 0 when all agree."""
    count = 0
    for op, s in spec.all_ops().items():
        for sample in s.samples:
            check(*program(op, sample))
            check(*constant_operands(op, sample))
            count += 2
    check(*grouped_net())
    print(f"{count + 1} programs agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
