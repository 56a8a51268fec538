"""Ops against PyTorch, an implementation we did not write, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cir import spec
from cir.builder import infer
from cir.graph import TensorType
from tests.cir.test_ops import Context

torch = pytest.importorskip("torch")
F = torch.nn.functional
RNG = np.random.default_rng(7)


def rand(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def ours(name: str, *xs: Any, **attrs: Any) -> Any:
    """The op on arrays, attributes made canonical; one array or a tuple."""
    types = [None if x is None else TensorType(x.dtype.name, x.shape) for x in xs]
    full, _ = infer(name, types, attrs, Context(list(xs)))
    return spec.get(name).reference(*xs, **full)


def check(got: Any, want: Any, tolerance: float = 1e-12) -> None:
    want = np.asarray(want)
    assert got.shape == want.shape
    assert np.abs(got - want).max(initial=0) <= tolerance * max(np.abs(want).max(initial=0), 1)


def t(x: np.ndarray) -> Any:
    return torch.from_numpy(x)


@pytest.mark.parametrize(
    "shape, wshape, stride, pad, dilation, groups",
    [
        ((2, 3, 9, 8), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
        ((2, 4, 9, 8), (6, 2, 3, 2), (2, 3), (2, 1), (1, 2), 2),
        ((1, 6, 7, 7), (6, 1, 3, 3), (2, 2), (1, 1), (1, 1), 6),
        ((1, 3, 7, 7), (9, 1, 2, 2), (1, 1), (0, 0), (2, 2), 3),
        ((3, 4, 5, 6), (8, 4, 1, 1), (1, 1), (0, 0), (1, 1), 1),
        ((3, 4, 5, 6), (8, 2, 1, 1), (2, 1), (0, 1), (1, 1), 2),
        ((2, 3, 12), (4, 3, 5), (2,), (2,), (2,), 1),
        ((1, 2, 5, 6, 4), (4, 1, 2, 3, 2), (1, 2, 1), (1, 0, 1), (1, 1, 2), 2),
    ],
)
def test_conv(shape: Any, wshape: Any, stride: Any, pad: Any, dilation: Any, groups: int) -> None:
    x, w, b = rand(*shape), rand(*wshape), rand(wshape[0])
    fn = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.ndim]
    want = fn(t(x), t(w), t(b), stride, pad, dilation, groups)
    got = ours("conv", x, w, b, strides=stride, pads=pad * 2, dilations=dilation, groups=groups)
    check(got, want)


def test_conv_with_uneven_pads_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = rand(2, 3, 11, 9), rand(4, 3, 3, 2)
    want = F.conv2d(F.pad(t(x), (0, 3, 2, 1)), t(w), stride=(2, 1))
    kwargs = {"strides": (2, 1), "pads": (2, 0, 1, 3), "dilations": (1, 1)}
    check(ours("conv", x, w, **kwargs), want)
    monkeypatch.setattr("cir.convolution._BLOCK_BYTES", 5000)
    check(ours("conv", x, w, **kwargs), want)
    monkeypatch.setattr("cir.convolution._CHANNEL_ELEMENTS", 100)
    depthwise = rand(6, 1, 3, 2)
    got = ours("conv", x, depthwise, **kwargs, groups=3)
    check(got, F.conv2d(F.pad(t(x), (0, 3, 2, 1)), t(depthwise), stride=(2, 1), groups=3))


def test_conv_of_strided_views() -> None:
    x, w = rand(8, 9, 3, 2), rand(3, 3, 3, 4)
    xt, wt = np.transpose(x, (3, 2, 0, 1)), np.transpose(w, (3, 2, 0, 1))
    want = F.conv2d(t(xt.copy()), t(wt.copy()), padding=1)
    check(ours("conv", xt, wt, strides=(1, 1), pads=(1,) * 4, dilations=(1, 1)), want)


@pytest.mark.parametrize(
    "shape, wshape, stride, pad, extra, dilation, groups",
    [
        ((2, 3, 5, 4), (3, 4, 3, 3), (2, 2), (1, 1), (1, 1), (1, 1), 1),
        ((2, 4, 5, 4), (4, 3, 2, 4), (1, 3), (0, 1), (0, 2), (2, 1), 2),
        ((2, 3, 7), (3, 2, 4), (2,), (1,), (0,), (1,), 1),
        ((1, 2, 3, 4, 3), (2, 2, 2, 3, 2), (2, 1, 2), (0, 1, 0), (1, 0, 0), (1, 1, 1), 2),
    ],
)
@pytest.mark.parametrize("block", [1 << 20, 100])
def test_conv_transpose(
    shape: Any, wshape: Any, stride: Any, pad: Any, extra: Any, dilation: Any, groups: int,
    block: int, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("cir.convolution._BLOCK_BYTES", block)
    x, w, b = rand(*shape), rand(*wshape), rand(wshape[1] * groups)
    fn = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[x.ndim]
    want = fn(t(x), t(w), t(b), stride, pad, extra, groups, dilation)
    got = ours("conv_transpose", x, w, b, strides=stride, pads=pad * 2, dilations=dilation,
               groups=groups, output_padding=extra)  # fmt: skip
    check(got, want)


@pytest.mark.parametrize("size", [7, 8, 9, 10, 11])
@pytest.mark.parametrize(
    "kernel, stride, pad", [(3, 2, 1), (2, 2, 0), (3, 3, 1), (4, 3, 2), (2, 3, 0)]
)
@pytest.mark.parametrize("ceil", [False, True])
def test_pools(size: int, kernel: int, stride: int, pad: int, ceil: bool) -> None:
    x = rand(2, 3, size, size + 2)
    common = {
        "kernel": (kernel,) * 2,
        "strides": (stride,) * 2,
        "pads": (pad,) * 4,
        "ceil_mode": ceil,
    }
    for dilation in (1, 2):
        if dilation * (kernel - 1) + 1 <= size:
            want = F.max_pool2d(t(x), kernel, stride, pad, dilation, ceil)
            check(ours("max_pool", x, **common, dilations=(dilation,) * 2), want)
    for include in (False, True):
        want = F.avg_pool2d(t(x), kernel, stride, pad, ceil, include)
        check(ours("avg_pool", x, **common, count_include_pad=include), want)


def test_pools_in_one_and_three_dimensions() -> None:
    x, y = rand(2, 3, 9), rand(1, 2, 5, 6, 4)
    attrs = {"kernel": (3,), "strides": (2,), "pads": (1, 1)}
    check(ours("max_pool", x, **attrs, dilations=(1,)), F.max_pool1d(t(x), 3, 2, 1))
    cube = {"kernel": (2, 3, 2), "strides": (1, 2, 2), "pads": (1, 1, 0) * 2}
    check(ours("avg_pool", y, **cube, count_include_pad=True),
          F.avg_pool3d(t(y), (2, 3, 2), (1, 2, 2), (1, 1, 0)))  # fmt: skip


@pytest.mark.parametrize("size", [(6, 8), (2, 3), (7, 5), (3, 4), (1, 1), (12, 1)])
def test_resize(size: tuple[int, int]) -> None:
    x = rand(2, 3, 3, 4)
    for mode, torch_mode in (("linear", "bilinear"), ("cubic", "bicubic")):
        for coordinates, align in (("half_pixel", False), ("align_corners", True)):
            want = F.interpolate(t(x), size, mode=torch_mode, align_corners=align)
            check(ours("resize", x, sizes=size, mode=mode, coordinates=coordinates), want)
    check(ours("resize", x, sizes=size), F.interpolate(t(x), size, mode="nearest"))
    exact = F.interpolate(t(x), size, mode="nearest-exact")
    got = ours("resize", x, sizes=size, coordinates="half_pixel", rounding="round_prefer_ceil")
    check(got, exact)


def test_resize_one_and_three_dimensions() -> None:
    x, y = rand(1, 2, 5), rand(1, 2, 3, 4, 5)
    check(ours("resize", x, sizes=(8,), mode="linear", coordinates="half_pixel"),
          F.interpolate(t(x), 8, mode="linear"))  # fmt: skip
    check(ours("resize", y, sizes=(5, 3, 7), mode="linear", coordinates="align_corners"),
          F.interpolate(t(y), (5, 3, 7), mode="trilinear", align_corners=True))  # fmt: skip


def test_norms() -> None:
    x, s, b = rand(2, 6, 5, 4), rand(6), rand(6)
    mean, var = rand(6), np.abs(rand(6)) + 0.1
    want = F.batch_norm(t(x), t(mean), t(var), t(s), t(b), False, 0.1, 1e-3)
    check(ours("batch_norm", x, s, b, mean, var, epsilon=1e-3), want)
    scale, bias = rand(5, 4), rand(5, 4)
    check(ours("layer_norm", x, scale, bias, axis=2), F.layer_norm(t(x), (5, 4), t(scale), t(bias)))
    check(ours("layer_norm", x, epsilon=1e-3), F.layer_norm(t(x), (4,), eps=1e-3))
    check(ours("rms_norm", x, scale, axis=2), F.rms_norm(t(x), (5, 4), t(scale), 1e-6))
    check(ours("group_norm", x, s, b, num_groups=3), F.group_norm(t(x), 3, t(s), t(b)))
    check(ours("group_norm", x, s, b, num_groups=6), F.instance_norm(t(x), weight=t(s), bias=t(b)))
    check(ours("group_norm_silu", x, s, b, num_groups=2), F.silu(F.group_norm(t(x), 2, t(s), t(b))))


ACTIVATIONS = {
    "gelu": ({}, lambda x: F.gelu(x)),
    "gelu-tanh": ({"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
    "swish": ({}, F.silu),
    "hard_sigmoid": ({}, F.hardsigmoid),
    "hard_swish": ({}, F.hardswish),
    "leaky_relu": ({"alpha": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
    "elu": ({"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
    "selu": ({}, F.selu),
    "softplus": ({}, lambda x: F.softplus(x, threshold=1e9)),
    "mish": ({}, F.mish),
    "softsign": ({}, F.softsign),
    "log_sigmoid": ({}, F.logsigmoid),
    "relu": ({}, F.relu),
    "sigmoid": ({}, torch.sigmoid),
    "erf": ({}, torch.erf),
    "erfc": ({}, torch.erfc),
    "rsqrt": ({}, torch.rsqrt),
    "round": ({}, torch.round),
    "expm1": ({}, torch.expm1),
    "asinh": ({}, torch.asinh),
    "clip": ({"min": -1.0, "max": 0.5}, lambda x: torch.clamp(x, -1.0, 0.5)),
    "softmax": ({"axis": 1}, lambda x: F.softmax(x, 1)),
    "log_softmax": ({"axis": -1}, lambda x: F.log_softmax(x, -1)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    attrs, fn = ACTIVATIONS[name]
    x = rand(4, 50) * 5
    x[0, :6] = [0.5, 1.5, -0.5, 2.5, 30, -30]
    if name == "rsqrt":
        x = np.abs(x)
    check(ours(name.partition("-")[0], x, **attrs), fn(t(x)))


def test_gated_units() -> None:
    x = rand(2, 6, 8)
    a, g = t(x).chunk(2, -1)
    check(ours("geglu", x), a * F.gelu(g))
    check(ours("geglu", x, gate_first=True, approximate="tanh"), F.gelu(a, approximate="tanh") * g)
    check(ours("swi_glu", x), F.silu(a) * g)
    c, d = t(x).chunk(2, 1)
    check(ours("swi_glu", x, axis=1, gate_first=False), c * F.silu(d))
    slope = rand(6)
    check(ours("prelu", x, slope.reshape(6, 1)), F.prelu(t(x), t(slope)))


@pytest.mark.parametrize("limit", [1 << 22, 64, 7])
def test_attention(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cir.ops.attention._BLOCK_ELEMENTS", limit)
    sdpa, name = F.scaled_dot_product_attention, "scaled_dot_product_attention"
    q, k, v = rand(2, 3, 5, 8), rand(2, 3, 7, 8), rand(2, 3, 7, 6)
    tq, tk, tv = t(q), t(k), t(v)
    check(ours(name, q, k, v, scale=8**-0.5), sdpa(tq, tk, tv))
    check(ours(name, q, k, v, scale=0.3, causal=True), sdpa(tq, tk, tv, is_causal=True, scale=0.3))
    mask = rand(2, 1, 5, 7)
    check(ours(name, q, k, v, mask, scale=0.3), sdpa(tq, tk, tv, t(mask), scale=0.3))
    keep = RNG.random((5, 7)) < 0.5
    keep[2] = False  # a query without keys gives zeros
    check(ours(name, q, k, v, keep, scale=0.3), sdpa(tq, tk, tv, t(keep), scale=0.3))
    grouped = ours(name, q, k[:, :1], v[:, :1], scale=0.3)
    check(grouped, sdpa(tq, tk[:, :1], tv[:, :1], scale=0.3, enable_gqa=True))


def test_reductions_and_scans() -> None:
    x = rand(3, 4, 5)
    check(ours("logsumexp", x, axis=(0, 2), keepdims=False), torch.logsumexp(t(x), (0, 2)))
    check(ours("cumsum", x, axis=1), torch.cumsum(t(x), 1))
    check(
        ours("cumsum", x, axis=1, reverse=True),
        torch.flip(torch.cumsum(torch.flip(t(x), [1]), 1), [1]),
    )
    check(ours("amax", x, axis=(1,), keepdims=False), t(x).amax(1))
    check(ours("prod", x, axis=(2,)), t(x).prod(2, True))
    check(ours("argmax", x, axis=1, keepdims=False), t(x).argmax(1))
    check(ours("argmin", x, axis=-1), t(x).argmin(-1, True))
    for largest in (True, False):
        values, indices = ours("topk", x, k=3, axis=1, largest=largest)
        want = torch.topk(t(x), 3, 1, largest)
        check(values, want.values)
        check(indices, want.indices)
    i = RNG.integers(-9, 9, (4, 5))
    j = RNG.integers(1, 5, 5) * np.where(RNG.random(5) < 0.5, 1, -1)
    check(ours("mod", i, j), torch.remainder(t(i), t(j)))
    check(ours("floordiv", i, j), torch.div(t(i), t(j), rounding_mode="floor"))


def test_indexing() -> None:
    x = rand(4, 5, 6)
    i = RNG.integers(0, 5, (2, 3))
    want = t(x)[:, t(i)]
    check(ours("gather", x, i, axis=1), want)
    check(ours("gather", x, i - 5, axis=1), want)
    j = RNG.integers(0, 5, (3, 2, 6))
    check(ours("gather_elements", x, j, axis=1), torch.gather(t(x), 1, t(j)))
    u = rand(3, 2, 6)
    for ours_name, name in (("add", "sum"), ("mul", "prod"), ("max", "amax"), ("min", "amin")):
        want = t(x).scatter_reduce(1, t(j), t(u), name)
        check(ours("scatter_elements", x, j, u, axis=1, reduction=ours_name), want)
    once = np.broadcast_to(np.array([3, 1]).reshape(1, 2, 1), (3, 2, 6)).copy()
    check(ours("scatter_elements", x, once, u, axis=1), t(x).scatter(1, t(once), t(u)))
    a, b = RNG.integers(0, 4, 7), RNG.integers(0, 5, 7)
    check(ours("gather_nd", x, np.stack([a, b], -1)), t(x)[t(a), t(b)])
    v = rand(7, 6)
    check(ours("scatter_nd", x, np.stack([a, b], -1), v, reduction="add"),
          t(x).index_put((t(a), t(b)), t(v), accumulate=True))  # fmt: skip
    mask = rand(3, 4) > 0
    check(ours("nonzero", mask), torch.nonzero(t(mask)))


def test_tensor_ops() -> None:
    x = rand(3, 4, 5)
    check(ours("pad", x, pads=(0, 0, 2, 0, 0, 1), mode="reflect"), F.pad(t(x), (2, 1), "reflect"))
    check(ours("pad", x, pads=(0, 0, 2, 0, 0, 1), mode="edge"), F.pad(t(x), (2, 1), "replicate"))
    check(ours("pad", x, pads=(0, 1, 2, 0, 2, 1), value=3.0), F.pad(t(x), (2, 1, 1, 2), value=3.0))
    check(ours("slice", x, axes=(1,), starts=(3,), ends=(-1,), steps=(-1,)), t(x).flip(1))
    empty = ours("slice", x, axes=(1,), starts=(-1,), ends=(-1,), steps=(-1,))
    assert empty.shape == (3, 0, 5)
    check(ours("trilu", x, upper=True, k=1), t(x).triu(1))
    check(ours("tile", x, repeats=(1, 2, 3)), t(x).tile(1, 2, 3))
    check(
        ours("arange", np.float64(1), np.float64(2.05), np.float64(0.35)),
        torch.arange(1, 2.05, 0.35).double(),
        1e-7,
    )
    for piece, want in zip(ours("split", x, axis=1, sizes=(1, 3)), t(x).split([1, 3], 1)):
        check(piece, want)


@pytest.mark.parametrize(
    "equation, shapes",
    [
        ("bqhd,bkhd->bhqk", [(2, 3, 4, 5), (2, 6, 4, 5)]),
        ("...ij,...jk->...ik", [(2, 3, 4), (4, 5)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ii->i", [(3, 3)]),
        ("b...->...b", [(2, 3, 4)]),
        ("ij,ij,j->i", [(2, 3), (2, 3), (3,)]),
        ("i,j->ij", [(2,), (3,)]),
    ],
)
def test_einsum_and_products(equation: str, shapes: list[Any]) -> None:
    xs = [rand(*s) for s in shapes]
    check(ours("einsum", *xs, equation=equation), torch.einsum(equation, *map(t, xs)))


def test_products_of_views() -> None:
    """Broadcast and transposed operands give the same numbers as contiguous ones."""
    a, b = rand(4, 3), rand(3, 5)
    wide = np.broadcast_to(a[0], (6, 3))
    check(ours("matmul", wide, b), t(wide.copy()) @ t(b))
    check(ours("matmul", a, np.asfortranarray(b)), t(a) @ t(b))
    check(ours("linear", a[::2], b.T.copy(), rand(5) * 0), t(a[::2].copy()) @ t(b))


def test_quantisation() -> None:
    x = rand(3, 4) * 20
    scale, zero = np.array([0.1, 0.2, 0.05]), np.array([0, 3, -5])
    want = torch.quantize_per_channel(t(x).float(), t(scale), t(zero), 0, torch.qint8)
    got = ours("quantize", x, scale, zero.astype(np.int8), axis=0)
    check(got.astype(int), want.int_repr().int())
    check(ours("dequantize", got, scale, zero.astype(np.int8), axis=0), want.dequantize(), 1e-6)
    four = np.asarray([3], dtype=spec.dt.to_numpy("int4"))[0]
    assert ours("quantize", x, np.float64(1.5), four).astype(int).max() == 7
