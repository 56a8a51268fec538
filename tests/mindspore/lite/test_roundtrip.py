"""Out and back in through the whole pipeline: the structure digest stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir import spec
from cir.builder import Builder
from cir.graph import Const, Model
from tests.mindspore.lite.support import check, ops, survives
from tests.mindspore.lite.test_emission import LAYERS, REFUSED, _constants
from tests.onnx.support import program

#: Ops that the runtime has no kernel for: they are spelled by others, for good.
SPELLED = {
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_not", "cosh", "erfc", "expm1", "round",
    "sign", "sinh", "tan", "einsum", "quantize", "dequantize", "bitwise_and", "bitwise_or", "bitwise_xor",
    "trilu", "scatter_elements",
}  # fmt: skip
#: Ops whose weights must be constant to come back as themselves.
WANT_CONSTANTS = {*LAYERS, "batch_norm"}
#: Samples without kernel, or spelled otherwise, among the rest: by index. A rank-3 input that is only transposed and
#: transposed back is taken for a channels-last one by the canonical form.
OTHERWISE = {
    ("expand", 1), ("gather_nd", 1), ("matmul", 2), ("pad", 2), ("resize", 1), ("resize", 5),
    ("squared_difference", 2), ("conv_transpose", 1), ("scaled_dot_product_attention", 4), ("prelu", 0),
    ("dequantize", 0),
    ("scaled_dot_product_attention", 3), ("group_norm", 1), ("group_norm_silu", 1),
}  # fmt: skip
CASES = [
    (op, i)
    for op, s in spec.all_ops().items()
    for i in range(len(s.samples))
    if op not in SPELLED | WANT_CONSTANTS
    and not op.endswith("_channels_last")
    and (op, i) not in {*REFUSED, *OTHERWISE}
]


@pytest.mark.parametrize(("op", "index"), CASES)
def test_op(op: str, index: int, tmp_path: Path) -> None:
    """Each op's samples."""
    survives(program(op, spec.get(op).samples[index])[0], tmp_path / "m.ms")


@pytest.mark.parametrize(
    ("op", "index"),
    [
        (op, i)
        for op in LAYERS
        for i in range(len(spec.get(op).samples))
        if (op, i) not in {*REFUSED, *OTHERWISE}
    ],
)
def test_layer(op: str, index: int, tmp_path: Path) -> None:
    """Each layer's samples, its weights constant."""
    survives(_constants(op, index)[0], tmp_path / "m.ms")


# -- integers --------------------------------------------------------------------------------------
def _tokens(dtype: str) -> tuple[Model, list[np.ndarray]]:
    """Token ids, shifted and counted, index a table and decide a mask; the shifted ids are a result as well."""
    rng = np.random.default_rng(0)
    b = Builder()
    ids = b.input("ids", dtype, ["batch", 5])
    table = b.const(Const.of(rng.standard_normal((9, 4)).astype(np.float32)), "table")
    one = b.const(np.ones((), dtype))
    more = b.emit("add", [ids, one], name="more")[0]
    found = b.emit("gather", [table, more])[0]
    seen = b.emit("cast", [ids], {"dtype": "bool"})[0]
    mask = b.emit("reshape", [seen], {"shape": ["batch", 5, 1]})[0]
    y = b.emit("where", [mask, found, b.const(np.float32(-1))], name="y")[0]
    return Model(b.finish([y, more])), [rng.integers(0, 8, (3, 5)).astype(dtype)]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers(dtype: str, tmp_path: Path) -> None:
    """int64 inputs and outputs keep their dtype; inside a file all integers are int32."""
    from framework_adapter.mindspore.lite import flat
    from framework_adapter.mindspore.lite.check import DTYPES

    model, feeds = _tokens(dtype)
    check(model, feeds, tmp_path / "m.ms")
    survives(model, tmp_path / "m.ms")
    tables = flat.unpack((tmp_path / "m.ms").read_bytes())
    wide = [t["name"] for t in tables["allTensors"] if DTYPES[t["dataType"]] == "int64"]
    assert wide == (["ids", "more"] if dtype == "int64" else [])


def test_indices_as_results(tmp_path: Path) -> None:
    """Indices that an op gives are int64 outside."""
    b = Builder()
    x = b.input("x", "float32", [3, 7])
    values, places = b.emit("topk", [x], {"k": 2}, names=["values", "places"])
    best = b.emit("argmax", [x], {"axis": -1}, name="best")[0]
    model = Model(b.finish([values, places, best]))
    feed = np.random.default_rng(0).permutation(21).astype(np.float32).reshape(3, 7)
    check(model, [feed], tmp_path / "m.ms")
    survives(model, tmp_path / "m.ms")


# -- layout ----------------------------------------------------------------------------------------
def _image(b: Builder, x: str, channels: int, name: str) -> str:
    rng = np.random.default_rng(channels)
    c = int(b.shape(x)[1])
    w = b.const(Const.of(rng.standard_normal((channels, c, 3, 3)).astype(np.float32)), f"{name}.w")
    attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    return b.emit("conv", [x, w], attrs, name=name)[0]


def test_image_that_comes_out_of_tokens(tmp_path: Path) -> None:
    """Tokens [N, S, C] turned to [N, C, H, W]: the runtime would call the image NCHW without an idle exchange."""
    b = Builder()
    x = b.input("x", "float32", [2, 6, 4])
    w = b.const(Const.of(np.eye(4, dtype=np.float32) * 2), "w")
    t = b.emit("transpose", [b.emit("linear", [x, w])[0]], {"perm": (0, 2, 1)})[0]
    r = b.emit("relu", [b.emit("softmax", [t], {"axis": 1})[0]])[0]
    image = b.emit("reshape", [r], {"shape": (2, 4, 2, 3)})[0]
    model = Model(b.finish([_image(b, image, 3, "y")]))
    check(
        model,
        [np.random.default_rng(0).standard_normal((2, 6, 4)).astype(np.float32)],
        tmp_path / "m.ms",
    )
    survives(model, tmp_path / "m.ms")


def test_transposes_between_image_ops_are_gone(tmp_path: Path) -> None:
    """A chain of image ops has one transpose before it and one after; none when its edges are channels last."""
    for layout in ("channels_first", "channels_last"):
        b = Builder()
        x = b.input("x", "float32", [2, 3, 6, 5] if layout == "channels_first" else [2, 6, 5, 3])
        h = x if layout == "channels_first" else b.emit("transpose", [x], {"perm": (0, 3, 1, 2)})[0]
        h = b.emit("relu", [_image(b, h, 4, "a")])[0]
        h = b.emit("add", [_image(b, h, 4, "b"), h])[0]
        h = b.emit(
            "max_pool",
            [h],
            {"kernel": (2, 2), "strides": (2, 2), "pads": (0,) * 4, "dilations": (1, 1)},
        )[0]
        if layout == "channels_last":
            h = b.emit("transpose", [h], {"perm": (0, 2, 3, 1)})[0]
        model = Model(b.finish([h]))
        shape = [int(d) for d in model.graph.types["x"].shape]
        feed = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        check(model, [feed], tmp_path / "m.ms")
        survives(model, tmp_path / "m.ms")
        assert ops(tmp_path / "m.ms").count("Transpose") == (2 if layout == "channels_first" else 0)


# -- symbolic sizes --------------------------------------------------------------------------------
SYMBOLIC: dict[str, Any] = {
    "flatten": ("reshape", {"shape": ["n", "h*w", 4]}),
    "merge": ("reshape", {"shape": ["n*h", "w", 4]}),
    "expand": ("expand", {"shape": [2, "n", "h", "w", 4]}),
    "tile": ("tile", {"repeats": [1, 2, 1, 1]}),
    "tail": ("slice", {"axes": (1,), "starts": (1,), "ends": ("h",), "steps": (1,)}),
    "head": ("slice", {"axes": (1,), "starts": (0,), "ends": ("h - 1",), "steps": (2,)}),
    "reversed": ("slice", {"axes": (1,), "starts": ("h - 1",), "ends": (-1,), "steps": (-1,)}),
    "padded": ("pad", {"pads": (0, 1, 0, 0, 0, 0, 2, 0)}),
    "mean": ("mean", {"axis": (1, 2)}),
    "shape": ("shape", {}),
}


@pytest.mark.parametrize("case", SYMBOLIC)
def test_symbolic(case: str, tmp_path: Path) -> None:
    """Sizes that are known when the model runs: -1 in the file, named again after reading."""
    op, attrs = SYMBOLIC[case]
    b = Builder()
    x = b.input("x", "float32", ["n", "h", "w", 4])
    model = Model(b.finish([b.emit(op, [x], attrs, name="y")[0]]))
    feed = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    check(model, [feed], tmp_path / "m.ms")
    survives(model, tmp_path / "m.ms")


def test_two_inputs_of_one_size(tmp_path: Path) -> None:
    """Which unknown sizes are equal is in the graph's name; without it the first axis is the batch."""
    from framework_adapter import readback
    from framework_adapter.mindspore.lite import BACKEND, flat

    path = tmp_path / "m.ms"
    b = Builder()
    x, y = b.input("x", "float32", ["batch", "t"]), b.input("y", "float32", ["batch", "t"])
    survives(Model(b.finish([b.emit("add", [x, y], name="z")[0]])), path)
    tables = flat.unpack(path.read_bytes())
    assert tables["name"] == "main [batch; t] [batch; t]"
    b = Builder()
    names = [b.input(n, "float32", ["batch", "t"]) for n in "xy"]
    BACKEND.emit(Model(b.finish([b.emit("neg", [n])[0] for n in names])), path)
    tables = flat.unpack(path.read_bytes())
    for name in (
        "", "main [batch; t]", "main [batch; 3] [batch; t]", "main [a b; t] [__import__; t]", "[" * 99,
    ):  # fmt: skip
        path.write_bytes(flat.pack({**tables, "name": name}))
        types = readback.program(path).source.inputs
        assert [t.shape for t in types.values()] == [("batch", "d0_1"), ("batch", "d1_1")]
