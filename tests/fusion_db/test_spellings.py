"""One concept as PyTorch, Keras on TensorFlow and MindSpore really spell it: one op, the same numbers.

Strategies run between the canonical passes, in the pipeline of a conversion. Layouts are those after
lowering: Keras's channels-last ops are wrapped in transposes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cir.graph import Graph, Model
from cir.verify import verify
from framework_adapter.pipeline import front
from fusion_db import apply, select
from tests.fusion_db.graphs import error, graph, ops

X = {"x": ("batch", 5, 8)}
IMAGE = {"x": ("batch", 6, 4, 5)}
LAST = {"x": ("batch", 4, 5, 6)}
HEADS = {"q": ("batch", 7, 8), "k": ("batch", 5, 8), "v": ("batch", 5, 8)}
NORM = {"g": (8,), "b": (8,)}
CHANNELS = {"g": (6,), "b": (6,), "m": (6,), "v": np.array([0.5, 1.0, 1.5, 2.0, 0.7, 1.2])}


def canonical(g: Graph) -> Graph:
    """The graph after the canonical passes and strategies, to a fixpoint."""
    return front(select("canonicalise"), []).run(Model(g)).graph


def rewritten(lines: list[str], inputs: Any, consts: Any = {}) -> Graph:
    g = graph(lines, inputs, consts, dtype="float64")
    out = canonical(g)
    verify(out)
    assert error(g, out) < 1e-9
    return out


KERAS_LN = [
    "m = mean(x, axis=[-1])", "v = mean(squared_difference(x, m), axis=[-1])",
    "i = rsqrt(v + 1e-3) * reshape(g, shape=[1, 1, 8])", "y = x * i + (neg(m) * i + reshape(b, shape=[1, 1, 8]))",
]  # fmt: skip
LN = {
    "torch TorchScript": ["m = mean(x, axis=[-1])", "c = x - m", "y = c / sqrt(mean(pow(c, 2), axis=[-1]) + 1e-3) * g + b"],
    "torch var_mean": ["m = mean(x, axis=[-1])", "c = x - m", "y = (c * rsqrt(mean(c * c, axis=[-1]) + 1e-3)) * g + b"],
    "torch keepdim=False": [
        "m = reshape(mean(x, axis=[-1], keepdims=False), shape=['batch', 5, 1])", "c = x - m",
        "v = reshape(mean(c * c, axis=[-1], keepdims=False), shape=['batch', 5, 1])", "y = (c / sqrt(v + 1e-3)) * g + b",
    ],
    "Keras": KERAS_LN,
    "Flax": ["m = mean(x, axis=[-1])", "v = mean(square(x), axis=[-1]) - square(m)", "y = (x - m) * (rsqrt(v + 1e-3) * g) + b"],
    "ONNX reciprocal": ["m = mean(x, axis=[-1])", "c = x - m", "y = g * (reciprocal(sqrt(1e-3 + mean(c * c, axis=[-1]))) * c) + b"],
}  # fmt: skip


@pytest.mark.parametrize("lines", LN.values(), ids=LN)
def test_layer_norm(lines: list[str]) -> None:
    out = rewritten(lines, X, NORM)
    assert ops(out) == ["layer_norm"]
    assert out.nodes[-1].attrs == {"axis": -1, "epsilon": 1e-3} and len(out.nodes[-1].inputs) == 3


def test_layer_norm_over_channels_of_an_image() -> None:
    lines = [line.replace("[-1]", "[-3]").replace("[1, 1, 8]", "[6, 1, 1]") for line in KERAS_LN]
    out = rewritten(lines, IMAGE, CHANNELS)
    # the spatial axes travel together, so one transpose of rank 3 each way does
    assert ops(out) == ["layer_norm", "reshape", "reshape", "transpose", "transpose"]
    assert len(next(n for n in out.nodes if n.op == "layer_norm").inputs) == 3


RMS = {
    "Llama": "y = g * (x * rsqrt(mean(pow(x, 2), axis=[-1]) + 1e-6))",
    "Keras": "y = (x * rsqrt(mean(square(x), axis=[-1]) + 1e-6)) * g",
    "divided": "y = x / sqrt(mean(x * x, axis=[-1]) + 1e-6) * g",
}


def test_layer_norm_of_flattened_activations() -> None:
    lines = [
        "r = reshape(x, shape=['batch*5', 8])", "m = mean(r, axis=[-1])",
        "i = rsqrt(mean(squared_difference(r, m), axis=[-1]) + 1e-3) * g", "y = r * i + (neg(m) * i + b)",
    ]  # fmt: skip
    assert ops(rewritten(lines, X, NORM)) == ["layer_norm", "reshape"]


@pytest.mark.parametrize("line", RMS.values(), ids=RMS)
def test_rms_norm(line: str) -> None:
    assert ops(rewritten([line], X, NORM)) == ["rms_norm"]


ACTIVATIONS: dict[str, tuple[str, list[str]]] = {
    "gelu torch": ("gelu", ["y = (x * 0.5) * (erf(x * 0.7071067811865476) + 1)"]),
    "gelu Keras": ("gelu", ["y = (0.5 * x) * erfc(neg(x) * 0.7071067811865476)"]),
    "gelu MindSpore": ("gelu", ["y = x * (1 + erf(x / 1.4142135623730951)) * 0.5"]),
    "gelu TorchScript": ("gelu", ["y = x * (erf(x / 1.4142135623730951) + 1) / 2"]),
    "gelu_tanh Keras": ("gelu", ["y = (0.5 * x) * (1 + tanh(0.7978845608028654 * (x + 0.044715 * pow(x, 3))))"]),
    "gelu_tanh core ATen": ("gelu", ["y = (x * 0.5) * (tanh((x + (x * x * x) * 0.044715) * 0.7978845608028654) + 1)"]),
    "gelu_tanh fast": ("gelu", ["y = (x * 0.5) * (tanh((x * 0.7978845608028654) * ((x * 0.044715) * x + 1)) + 1)"]),
    "silu torch": ("swish", ["y = x * sigmoid(x)"]),
    "silu Keras": ("swish", ["y = x * sigmoid(x * 1.0)"]),
    "silu core ATen": ("swish", ["y = x / (exp(neg(x)) + 1)"]),
    "quick gelu": ("swish", ["y = x * sigmoid(1.702 * x)"]),
    "hard_swish torch": ("hard_swish", ["y = x * clip(clip(x + 3, min=0.0), max=6.0) / 6"]),
    "hard_swish Keras": ("hard_swish", ["y = x * (minimum(relu(x + 3), 6) * 0.16666666666666666)"]),
    "hard_sigmoid torch": ("hard_sigmoid", ["y = clip(clip(x + 3, min=0.0), max=6.0) / 6"]),
    "hard_sigmoid Keras": ("hard_sigmoid", ["y = clip(x + 3, min=0.0, max=6.0) / 6"]),
    "hard_sigmoid 0.2": ("hard_sigmoid", ["y = minimum(maximum(x * 0.2 + 0.5, 0), 1)"]),
    "softplus torch": ("softplus", ["y = where(x > 20, x, log1p(exp(x)))"]),
    "softplus plain": ("softplus", ["y = log(1 + exp(x))"]),
    "softplus stable": ("softplus", ["y = maximum(x, 0) + log1p(exp(neg(abs(x))))"]),
    "mish torch": ("mish", ["y = x * tanh(where(x > 20, x, log1p(exp(x))))"]),
    "mish Keras": ("mish", ["y = tanh(softplus(x)) * x"]),
    "softmax": ("softmax", ["e = exp(x - amax(x, axis=[-1]))", "y = e / sum(e, axis=[-1])"]),
    "softmax plain": ("softmax", ["e = exp(x)", "y = e * reciprocal(sum(e, axis=[-1]))"]),
    "log_softmax": ("log_softmax", ["c = x - amax(x, axis=[-1])", "y = c - log(sum(exp(c), axis=[-1]))"]),
    "log_softmax of softmax": ("log_softmax", ["e = exp(x)", "y = log(e / sum(e, axis=[-1]))"]),
    "relu6": ("clip", ["y = minimum(relu(x), 6)"]),
    "relu": ("relu", ["y = maximum(0, x)"]),
    "prelu Keras": ("prelu", ["y = neg(g) * relu(neg(x)) + relu(x)"]),
    "prelu torch": ("prelu", ["y = where(x > 0, x, g * x)"]),
    "leaky_relu torch": ("leaky_relu", ["y = where(x > 0, x, x * 0.01)"]),
    "leaky_relu MindSpore": ("leaky_relu", ["y = maximum(x * 0.2, x)"]),
    "elu torch": ("elu", ["y = where(x > 0, x, expm1(x) * 1.0)"]),
}  # fmt: skip


@pytest.mark.parametrize(("op", "lines"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activation(op: str, lines: list[str]) -> None:
    assert ops(rewritten(lines, X, NORM)) == [op]


PADS = "strides=[1, 1], pads=[1, 1, 1, 1], dilations=[1, 1]"
CONVS: dict[str, tuple[list[str], Any]] = {
    "torch BN": ([f"c = conv(x, w, {PADS})", "y = batch_norm(c, g, b, m, v, epsilon=1e-3)"], IMAGE),
    "torch bias BN": ([f"c = conv(x, w, b, {PADS})", "y = batch_norm(c, g, b, m, v)"], IMAGE),
    "Keras BN": (
        [
            f"c = transpose(conv(transpose(x, perm=[0, 3, 1, 2]), w, {PADS}), perm=[0, 2, 3, 1])", "d = c + reshape(b, shape=[1, 1, 1, 6])",
            "i = rsqrt(v + 1e-3) * g", "z = d * i + (b - m * i)", "y = transpose(z, perm=[0, 3, 1, 2])",
        ], LAST,
    ),
    "spelled BN": ([f"c = conv(x, w, {PADS})", "y = (c - reshape(m, shape=[6, 1, 1])) / reshape(sqrt(v + 1e-3), shape=[6, 1, 1])"], IMAGE),
    "MindSpore BiasAdd": ([f"y = conv(x, w, {PADS}) + reshape(b, shape=[1, 6, 1, 1])"], IMAGE),
    "ZeroPadding2D": (["y = conv(pad(x, pads=[0, 0, 1, 1, 0, 0, 1, 1]), w, strides=[2, 2], pads=[0, 0, 0, 0], dilations=[1, 1])"], IMAGE),
    "groups": (["c = conv(x, wg, strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1], groups=3)", "y = batch_norm(c, g, b, m, v)"], IMAGE),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "inputs"), CONVS.values(), ids=CONVS)
def test_conv(lines: list[str], inputs: Any) -> None:
    out = rewritten(lines, inputs, {**CHANNELS, "w": (6, 6, 3, 3), "wg": (6, 2, 3, 3)})
    assert [o for o in ops(out) if o != "transpose"] == ["conv"]
    assert len([n for n in out.nodes if n.op not in ("transpose",)]) == 1  # the weights are folded


def test_conv_transpose_batch_norm() -> None:
    attrs = "strides=[2, 2], pads=[1, 1, 1, 1], dilations=[1, 1], groups=2, output_padding=[1, 1]"
    lines = [f"c = conv_transpose(x, w, {attrs})", "y = batch_norm(c, g, b, m, v)"]
    assert ops(rewritten(lines, IMAGE, {**CHANNELS, "w": (6, 3, 3, 3)})) == ["conv_transpose"]


def test_batch_norm_alone_is_the_same_in_all_spellings() -> None:
    one = rewritten(["y = batch_norm(x, g, b, m, v, epsilon=1e-3)"], IMAGE, CHANNELS)
    other = rewritten(
        ["i = rsqrt(v + 1e-3) * g", "y = x * reshape(i, shape=[6, 1, 1]) + reshape(b - m * i, shape=[6, 1, 1])"], IMAGE, CHANNELS
    )  # fmt: skip
    assert ops(one) == ops(other) == ["add", "mul"]


LINEARS: dict[str, list[str]] = {
    "torch": ["y = linear(x, w, b)"],
    "Keras Dense": ["y = matmul(x, transpose(w, perm=[1, 0])) + b"],
    "Keras Tensordot": ["y = reshape(matmul(reshape(x, shape=['batch*5', 8]), transpose(w, perm=[1, 0])), shape=['batch', 5, 8]) + b"],
    "MindSpore": ["y = reshape(matmul(reshape(x, shape=['batch*5', 8]), transpose(w, perm=[1, 0])) + b, shape=['batch', 5, 8])"],
    "batch norm": ["r = matmul(reshape(x, shape=['batch*5', 8]), w)", "y = reshape(batch_norm(r, g, b, g, v), shape=['batch', 5, 8])"],
}  # fmt: skip


@pytest.mark.parametrize("lines", LINEARS.values(), ids=LINEARS)
def test_linear(lines: list[str]) -> None:
    out = rewritten(lines, X, {**NORM, "w": (8, 8), "v": np.linspace(0.5, 1.5, 8)})
    assert ops(out) == ["linear"] and len(out.nodes[-1].inputs) == 3


SPLIT = ["{n}h = transpose(reshape({n}{s}, shape=['batch', {t}, 2, 4]), perm=[0, 2, 1, 3])"]


def heads(scaled: bool = False) -> list[str]:
    return [
        SPLIT[0].format(n=n, t=7 if n == "q" else 5, s=" * 0.5" if scaled and n == "q" else "") for n in "qkv"
    ]  # fmt: skip


OUT = "y = reshape(transpose(o, perm=[0, 2, 1, 3]), shape=['batch', 7, 8])"
KT = "t = transpose(kh, perm=[0, 1, 3, 2])"
ATTENTION: dict[str, list[str]] = {
    "torch": [*heads(), "o = scaled_dot_product_attention(qh, kh, vh, scale=0.5)"],
    "torch eager": [*heads(), KT, "o = matmul(softmax(matmul(qh, t) / 2.0), vh)"],
    "torch decomposed": [
        *heads(), "r = qh * 0.7071067811865476", "t = transpose(kh, perm=[0, 1, 3, 2]) * 0.7071067811865476",
        "p = softmax(matmul(r, t))", "o = matmul(where(isnan(p), 0, p), vh)",
    ],
    "Keras": [
        "qr = reshape(q, shape=['batch', 7, 2, 4]) * 0.5", "kr = reshape(k, shape=['batch', 5, 2, 4])",
        "vr = reshape(v, shape=['batch', 5, 2, 4])", "s = einsum(kr, qr, equation='aecd,abcd->acbe')",
        "e = einsum(softmax(s), vr, equation='acbe,aecd->abcd')", "y = reshape(e, shape=['batch', 7, 8])",
    ],
    "Keras keys first": [
        *heads(), "s = matmul(kh, transpose(qh, perm=[0, 1, 3, 2])) * 0.5",
        "o = matmul(transpose(softmax(s, axis=-2), perm=[0, 1, 3, 2]), vh)",
    ],
    "MindSpore": [*heads(scaled=True), KT, "o = matmul(softmax(matmul(qh, t)), vh)"],
    "scaled twice": [*heads(scaled=True), "o = scaled_dot_product_attention(qh, kh, vh, scale=1.0)"],
    "spelled softmax": [
        *heads(), KT, "s = matmul(qh, t) * 0.5", "e = exp(s - amax(s, axis=[-1]))", "o = matmul(e / sum(e, axis=[-1]), vh)",
    ],
}  # fmt: skip


@pytest.mark.parametrize("lines", ATTENTION.values(), ids=ATTENTION)
def test_attention(lines: list[str]) -> None:
    lines = lines if lines[-1].startswith("y") else [*lines, OUT]
    out = rewritten(lines, HEADS)
    assert set(ops(out)) == {"reshape", "scaled_dot_product_attention", "transpose"}
    node = next(n for n in out.nodes if n.op == "scaled_dot_product_attention")
    assert node.attrs == {"scale": 0.5, "causal": False} and ops(out).count("transpose") == 4


MASKS: dict[str, tuple[str, Any, Any]] = {
    "added": ("s + mask", {"mask": ("batch", 1, 7, 5)}, {}),
    "kept": ("where(mask, s, -1e9)", {"mask": "bool[batch,1,1,5]"}, {}),
    "dropped": ("where(logical_not(mask), -1e9, s)", {"mask": "bool[7,5]"}, {}),
    "causal": ("where(mask, s, -1e30)", {}, {"mask": np.tri(7, 5, dtype=bool)}),
    "causal added": ("s + mask", {}, {"mask": np.where(np.tri(7, 5), 0.0, -1e9)}),
}


@pytest.mark.parametrize(("line", "inputs", "consts"), MASKS.values(), ids=MASKS)
def test_masks(line: str, inputs: Any, consts: Any) -> None:
    lines = [*heads(), KT, "s = matmul(qh, t) * 0.5", f"o = matmul(softmax({line}), vh)", OUT]
    g = graph(lines, {**HEADS, **inputs}, consts, dtype="float64")
    out = canonical(g)
    node = next(n for n in out.nodes if n.op == "scaled_dot_product_attention")
    assert node.attrs["causal"] is ("mask" in consts) and len(node.inputs) == (3 if consts else 4)


GROUPS: dict[str, tuple[list[str], Any]] = {
    "Keras": (
        [
            "r = reshape(x, shape=['batch', 4, 5, 3, 2])", "m = mean(r, axis=[1, 2, 4])",
            "v = mean(squared_difference(r, m), axis=[1, 2, 4])", "i = rsqrt(v + 1e-5) * reshape(g, shape=[1, 1, 1, 3, 2])",
            "z = r * i + (neg(m) * i + reshape(b, shape=[1, 1, 1, 3, 2]))",
            "y = transpose(reshape(z, shape=['batch', 4, 5, 6]), perm=[0, 3, 1, 2])",
        ], LAST,
    ),
    "core ATen": (
        [
            "r = reshape(x, shape=['batch', 3, 2, 20])", "m = mean(r, axis=[2, 3])", "c = r - m",
            "n = c * rsqrt(mean(c * c, axis=[2, 3]) + 1e-5)",
            "y = reshape(n, shape=['batch', 6, 4, 5]) * reshape(g, shape=[6, 1, 1]) + reshape(b, shape=[6, 1, 1])",
        ], IMAGE,
    ),
    "TorchScript": (
        [
            "r = reshape(x, shape=['batch', 3, 40])", "n = layer_norm(r)",
            "y = reshape(n, shape=['batch', 6, 4, 5]) * reshape(g, shape=[1, 6, 1, 1]) + reshape(b, shape=[1, 6, 1, 1])",
        ], IMAGE,
    ),
    "instance": (
        [
            "m = mean(x, axis=[2, 3])", "c = x - m",
            "y = c / sqrt(mean(square(c), axis=[2, 3]) + 1e-5) * reshape(g, shape=[6, 1, 1]) + reshape(b, shape=[6, 1, 1])",
        ], IMAGE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
def test_group_norm(name: str, request: pytest.FixtureRequest) -> None:
    if name == "TorchScript":
        reason = "views sink below the affine, whose constants then repeat along the image"
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    lines, inputs = GROUPS[name]
    out = rewritten(lines, inputs, CHANNELS)
    assert [o for o in ops(out) if o != "transpose"] == ["group_norm"]
    node = next(n for n in out.nodes if n.op == "group_norm")
    assert node.attrs["num_groups"] == (6 if name == "instance" else 3) and len(node.inputs) == 3


def test_up_sampling_is_one_resize() -> None:
    keras = [
        "h = transpose(x, perm=[0, 2, 3, 1])",
        "a = expand(reshape(h, shape=['batch', 4, 1, 5, 6]), shape=['batch', 4, 2, 5, 6])",
        "c = reshape(a, shape=['batch', 8, 5, 6])",
        "d = tile(reshape(c, shape=['batch', 8, 5, 1, 6]), repeats=[1, 1, 1, 3, 1])",
        "y = transpose(reshape(d, shape=['batch', 8, 15, 6]), perm=[0, 3, 1, 2])",
    ]
    assert ops(rewritten(keras, IMAGE)) == ["resize"]


GATED: dict[str, tuple[str, list[str]]] = {
    "geglu": ("geglu", ["a, g = split(linear(x, w, b), axis=-1, sizes=[4, 4])", "y = a * gelu(g)"]),
    "geglu of two": ("geglu", ["y = gelu(linear(x, w, b)) * linear(x, u, b)"]),
    "swi_glu": ("swi_glu", ["a, g = split(x, axis=-1, sizes=[4, 4])", "y = swish(a) * g"]),
    "swi_glu of two": ("swi_glu", ["y = linear(x, u) * swish(linear(x, w))"]),
}  # fmt: skip


@pytest.mark.parametrize(("op", "lines"), GATED.values(), ids=GATED)
def test_gated_units(op: str, lines: list[str]) -> None:
    g = graph(lines, X, {"w": (8, 8), "u": (8, 8), "b": (8,)}, dtype="float64")
    out, fired = apply(canonical(g), select("fuse"))
    assert op in ops(out) and not {"mul", "gelu", "swish"} & set(ops(out)), fired
    assert ops(out).count("linear") <= 1 and error(g, out) < 1e-9


def test_group_norm_silu() -> None:
    g = graph(["y = swish(group_norm(x, g, b, num_groups=3))"], IMAGE, CHANNELS)
    assert ops(apply(g, select("fuse"))[0]) == ["group_norm_silu"]


def test_index_arithmetic() -> None:
    inputs = {"i": "int32[3]"}
    lines = ["j = where(i < 0, i + 4, i)", "y = gather(t, cast(j, dtype='int64'), axis=0)"]
    assert ops(rewritten(lines, inputs, {"t": (4, 2)})) == ["gather"]


def test_zero_padding_before_max_pool_needs_nonnegative_images() -> None:
    pool = "max_pool(pad({x}, pads=[0, 0, 1, 1, 0, 0, 1, 1]), kernel=[3, 3], strides=[2, 2], pads=[0, 0, 0, 0], dilations=[1, 1])"
    assert ops(rewritten([f"y = {pool.format(x='relu(x)')}"], IMAGE)) == ["max_pool", "relu"]
    assert ops(rewritten([f"y = {pool.format(x='x')}"], IMAGE)) == ["max_pool", "pad"]
