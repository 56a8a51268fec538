"""Every op that TensorFlow takes, on every sample: the emitted graph against the reference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir import spec
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Model
from framework_adapter import emission, samples
from framework_adapter.tensorflow import saved_model
from tests.cir import samples as models
from tests.onnx.support import program
from tests.onnx.test_emission import _other_dtype
from tests.tensorflow.emission_support import (
    check,
    constant_operands,
    grouped_net,
    lowered,
    main,
    ops,
)

F = np.float32
FOLDER = Path(emission.__file__).parent
OPS = sorted(spec.all_ops())
#: Ops that arrive in other form: decomposed, or as their channels-last twins.
WITHOUT_ROW = set(
    "batch_norm dequantize geglu gelu group_norm_silu_channels_last hard_sigmoid hard_swish"
    " layer_norm log_sigmoid logsumexp mish prelu rms_norm swi_glu"
    " conv conv_transpose max_pool avg_pool resize group_norm group_norm_silu".split()
)


@pytest.mark.parametrize("op", OPS)
def test_samples(op: str) -> None:
    """Each op's samples, all operands being inputs, then all but the first being constants."""
    for sample in spec.get(op).samples:
        check(*program(op, sample))
        check(*constant_operands(op, sample))


@pytest.mark.parametrize("op", OPS)
def test_samples_with_symbolic_sizes(op: str) -> None:
    """One size, then every size of the inputs made a symbol."""
    for sample in spec.get(op).samples:
        arrays = [samples.tensor(t, i) for i, t in enumerate(sample["inputs"]) if t]
        for sizes in (arrays[0].shape[:1], {n for a in arrays for n in a.shape}):
            try:
                model, feeds = program(op, sample, {n: f"s{n}" for n in sizes if n > 1})
            except CirError:
                continue  # the op wants this size known
            if sample.get("mode") != "cubic" or model.graph.types["x0"].is_static:
                check(model, feeds)


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "int8",
        "int16",
        "uint8",
        "uint16",
        "int32",
        "uint32",
        "float16",
        "bfloat16",
        "float64",
    ],
)
def test_dtypes(dtype: str) -> None:
    """Each dtype of an op's domain runs, with casts where no kernel takes it."""
    ran = 0
    for op in OPS:
        sample = _other_dtype(op, dtype)
        if sample is None:
            continue
        try:
            model, feeds = program(op, sample)
        except CirError:
            continue  # an attribute of the sample does not suit the dtype
        if op in ("floordiv", "mod"):
            feeds[1] = np.where(feeds[1] == 0, 1, feeds[1]).astype(feeds[1].dtype)
        check(model, feeds, dtype)
        ran += 1
    assert ran >= (18 if dtype == "bool" else 40)


def test_the_same_without_onednn() -> None:
    """A server may be built without oneDNN, whose kernels take more than TensorFlow's own."""
    env = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    command = [sys.executable, "-m", main.__module__]
    root = FOLDER.parent
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "programs agree" in done.stdout


def test_table_is_well_formed() -> None:
    """Rows are checked in full, fit the schema, name existing ops, and cover the vocabulary."""
    import jsonschema

    rows = saved_model.table()
    rows.check()
    schema = json.loads((FOLDER / "emission.schema.json").read_text())
    for path in sorted((FOLDER / "tensorflow" / "emission").glob("*.json")):
        jsonschema.validate(json.loads(path.read_text()), schema)
    assert set(spec.all_ops()) - set(rows.rows) == WITHOUT_ROW


def test_all_unsupported_ops_at_once() -> None:
    """E501 names each op with its place and its reason."""
    b = Builder()
    x = b.input("x", "uint64", [3, 4])
    y = b.emit("abs", [b.emit("neg", [x], name="first")[0]], name="second")[0]
    with pytest.raises(CirError) as info:
        lowered(Model(b.finish([y])))
    found = info.value.diagnostics
    assert [d.code for d in found] == ["E501", "E501"]
    assert "neg" in found[0].what and found[0].where == "first" and "uint64" in found[0].why


# -- symbolic dims ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "dim",
    ["n + 1", "2*n - 1", "(n + 1)//2", "(3 - n)//2 + 4", "n%3 + 1", "min(4, n)", "max(2, n)*2"],
)
@pytest.mark.parametrize("n", [1, 4, 5])
def test_dim_expressions(dim: str, n: int) -> None:
    """Every operator of the dim language, as the length of an expanded axis."""
    b = Builder()
    x = b.input("x", "float32", ["n", 2])
    row = b.emit("sum", [x], {"axis": [0]})[0]
    y = b.emit("expand", [row], {"shape": [dim, 2]}, name="y")[0]
    check(Model(b.finish([y])), [np.ones((n, 2), F)])


def test_symbol_solved_from_a_size() -> None:
    """n from an input whose size is 2*n + 1; a symbol that is nowhere is E501."""
    for shape, fails in ((["2*n + 1"], False), ([7], True)):
        b = Builder()
        x = b.input("x", "float32", shape)
        one = b.emit("sum", [x], {"axis": [0]})[0]
        y = b.emit("expand", [one], {"shape": ["n"]}, name="y")[0]
        if fails:
            with pytest.raises(CirError, match="symbolic dim n"):
                lowered(Model(b.finish([y])))
        else:
            check(Model(b.finish([y])), [np.ones(7, F)])


@pytest.mark.parametrize(
    ("have", "want", "shapes"),
    [
        (["n", 3, 4], ["n", 12], 0),
        (["n", 4, 6], ["n", 4, 2, 3], 0),
        (["n", "s", 12], ["n", "s", 3, 4], 1),
        (["n", "s", 4], ["n*s", 4], 0),
    ],
)
def test_reshape(have: list, want: list, shapes: int) -> None:
    """One unknown size is -1; of more, runs are cut out of a shape at hand."""
    b = Builder()
    x = b.input("x", "float32", have)
    y = b.emit("reshape", [x], {"shape": want}, name="y")[0]
    sizes = [{"n": 2, "s": 5}.get(d, d) for d in have]
    feed = np.arange(np.prod(sizes), dtype=F).reshape(sizes)
    found = ops(check(Model(b.finish([y])), [feed]))
    assert (found["Shape"], found["Reshape"]) == (shapes, 1)


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [(0, "n", 1), (1, "n", 2), ("n - 2", "n", 1), ("n", "n", 1), (0, "n - 1", 1),
     ("n - 1", -1, -1), ("n - 2", 0, -2), (3, -1, -1), ("n//2", "n", 1)],
)  # fmt: skip
def test_slices(start: Any, end: Any, step: int) -> None:
    """Bounds relative to a symbolic size count from the end; only n//2 is computed."""
    b = Builder()
    x = b.input("x", "float32", ["n", 2])
    attrs = {"axes": [0], "starts": [start], "ends": [end], "steps": [step]}
    y = b.emit("slice", [x], attrs, name="y")[0]
    graph = check(Model(b.finish([y])), [np.arange(12, dtype=F).reshape(6, 2)])
    assert ("Shape" in ops(graph)) == (start == "n//2")


def test_unusual_indices() -> None:
    """Negative indices, which TensorFlow does not take, count from the end; products of updates."""
    for op, shapes, attrs in (
        ("gather", [[5, 3], [-1, 4, -5]], {"axis": 0}),
        ("gather_elements", [[4, 3], [[-1, 0], [1, -4]]], {"axis": 0}),
        ("gather_nd", [[4, 3], [[-1, -3], [0, 2]]], {}),
        ("scatter_nd", [[4, 3], [[-1], [0], [-1]]], {"reduction": "mul"}),
        ("scatter_elements", [[4], [-1, 0, -1]], {"axis": 0, "reduction": "mul"}),
    ):
        shape, indices = shapes
        for known in (False, True):
            b = Builder()
            x = b.input("x", "float32", shape)
            i = np.array(indices)
            feeds = [np.arange(1, np.prod(shape) + 1, dtype=F).reshape(shape)]
            inputs = [x, b.const(i, "i") if known else b.input("i", "int64", i.shape)]
            feeds += [] if known else [i]
            if op.startswith("scatter"):
                up = (*i.shape[:1], 3) if op == "scatter_nd" else i.shape
                inputs.append(b.input("u", "float32", up))
                feeds.append(np.arange(2, 2 + np.prod(up), dtype=F).reshape(up))
            y = b.emit(op, inputs, attrs, name="y")[0]
            check(Model(b.finish([y])), feeds)


# -- forms -----------------------------------------------------------------------------------------
def test_convolutions() -> None:
    """Depthwise ones have an op of their own, without explicit paddings, which TensorFlow loses."""
    graph = check(*grouped_net())
    found = ops(graph)
    assert found["DepthwiseConv2dNative"] == 2 and found["Conv2D"] == 1
    assert found["DepthwiseConv2dNativeBackpropInput"] == 1
    paddings = [n.attrs["padding"] for n in graph.nodes if n.op == "DepthwiseConv2dNative"]
    assert paddings == ["SAME", "VALID"]
    assert found["Transpose"] == 2  # of the image, at both ends


def test_average_pools() -> None:
    """Padding SAME leaves padding out of the mean; other pads and symbolic windows are divided."""
    base = {"kernel": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}
    for attrs, muls in (
        (base, 0),
        ({**base, "count_include_pad": True}, 0),
        ({**base, "pads": [0, 1, 0, 1]}, 1),
        ({**base, "strides": [2, 2], "ceil_mode": True}, 2),
        ({**base, "strides": [2, 2], "ceil_mode": True, "count_include_pad": True}, 2),
    ):
        b = Builder()
        x = b.input("x", "float32", ["n", 3, "h", "w"])
        y = b.emit("avg_pool", [x], attrs, name="y")[0]
        feed = np.random.default_rng(0).standard_normal((2, 3, 6, 8)).astype(F)
        found = ops(check(Model(b.finish([y])), [feed]))
        assert found["AvgPool"] == 1 and found["RealDiv"] == muls, attrs


def _resized(sizes: list, have: list, **attrs: str) -> dict[str, int]:
    b = Builder()
    x = b.input("x", "float32", ["n", 3, *have])
    y = b.emit("resize", [x], {"sizes": sizes, **attrs}, name="y")[0]
    side = {"h": 4, "w": 3}
    shape = (2, 3, *(side.get(d, d) for d in have))
    rng = np.random.default_rng(0)
    return ops(check(Model(b.finish([y])), [rng.standard_normal(shape).astype(F)]))


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize(
    "coordinates", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"]
)
def test_nearest(coordinates: str, rounding: str) -> None:
    """Every way to round, at known and symbolic sizes; where kernels differ, by gathering."""
    how = {"mode": "nearest", "coordinates": coordinates, "rounding": rounding}
    for m in (1, 3, 7, 8, 12):
        _resized([m, 5], [4, 5], **how)
    found = _resized(["2*h", "w + 4"], ["h", "w"], **how)
    assert found["GatherV2"] == 2 and "ResizeNearestNeighbor" not in found


def test_resize_kernels() -> None:
    """TensorFlow's kernels are used where they give the exact places."""
    nearest = _resized([8, 10], [4, 5], mode="nearest", coordinates="asymmetric")
    assert nearest["ResizeNearestNeighbor"] == 1 and "GatherV2" not in nearest
    for coordinates in ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"):
        how = {"mode": "linear", "coordinates": coordinates}
        assert _resized([7, 3], [4, 5], **how)["ResizeBilinear"] == 1
        _resized(["3*h", "w + 1"], ["h", "w"], **how)
        _resized([1, 1], [4, 5], **how)


def test_clip_is_relu6() -> None:
    """The bounds that the optimiser joins to a convolution have their op."""
    for low, high, want in ((0.0, 6.0, "Relu6"), (0.0, None, "Relu"), (0.0, 5.0, "Maximum")):
        b = Builder()
        x = b.input("x", "float32", [3])
        y = b.emit("clip", [x], {"min": low, "max": high}, name="y")[0]
        assert want in ops(check(Model(b.finish([y])), [np.array([-1, 3, 9], F)]))


def test_attention_masks() -> None:
    """A query that keeps no key gives zeros, also when only mask and causality together hide all."""
    for shape, mask, causal in (
        ((2, 3, 4), np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1]], bool), False),
        ((1, 3, 4), np.array([[0, 1, 1], [1, 1, 1], [1, 1, 1]], bool), True),
    ):
        rng, b = np.random.default_rng(0), Builder()
        q, k, v = (b.input(n, "float32", shape) for n in "qkv")
        attrs = {"scale": 0.5, "causal": causal}
        y = b.emit("scaled_dot_product_attention", [q, k, v, b.const(mask, "m")], attrs, name="y")
        feeds = [rng.standard_normal(shape).astype(F) for _ in range(3)]
        graph = check(Model(b.finish(y)), feeds)
        assert ops(graph)["Transpose"] == 0


# -- control flow ----------------------------------------------------------------------------------
def test_cond() -> None:
    """Regions with constants of their own become the branches of a StatelessIf."""
    model = Model(models.cond())
    for p in (True, False):
        graph = check(model, [np.array(p), np.arange(20, dtype=F)])
    assert ops(graph)["StatelessIf"] == 1


@pytest.mark.parametrize("turns", [0, 1, 4])
def test_loop(turns: int) -> None:
    """The test runs before the first turn; what does not change is captured."""
    feeds = [np.array(0), np.array(turns), np.ones(2, F), np.array(1.5, F)]
    assert ops(check(models.loop(), feeds))["StatelessWhile"] == 1


def test_data_dependent_sizes() -> None:
    """A dim that depends on data is read off the value that has it."""
    model = models.dynamic()
    check(model, [np.arange(15, dtype=F).reshape(3, 5), np.array([True, False, True])])
