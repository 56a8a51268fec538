"""Convolution, pooling, resampling, normalisation, attention."""
# ruff: noqa: D103  (the row that names a handler describes it)

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cir import dim as dm
from cir.dim import Dim
from cir.expr import ntuple
from framework_adapter.context import Context, Value
from framework_adapter.functions import same_pads
from framework_adapter.pytorch.handlers.shape import cut
from framework_adapter.source import SourceNode


# -- convolution -----------------------------------------------------------------------------------
def conv(
    c: Context, node: SourceNode, input: Value, weight: Value, bias: Any, stride: Any, padding: Any,
    dilation: Any, groups: int,
) -> Any:  # fmt: skip
    n = c.rank(weight) - 2
    stride, dilation = ntuple(stride, n), ntuple(dilation, n)
    if padding == "same":
        kernel = [int(k) for k in c.shape(weight)[2:]]
        pads = same_pads((1,) * n, kernel, (1,) * n, dilation)
    else:
        pads = (0,) * 2 * n if padding == "valid" else ntuple(padding, n) * 2
    attrs = {"strides": stride, "pads": pads, "dilations": dilation, "groups": groups}
    return _batched(c, input, n, lambda x: c.op("conv", x, weight, bias, **attrs))


def convolution(
    c: Context, node: SourceNode, input: Value, weight: Value, bias: Any, stride: Any, padding: Any,
    dilation: Any, transposed: bool, output_padding: Any, groups: int,
) -> Any:  # fmt: skip
    if not transposed:
        return conv(c, node, input, weight, bias, stride, padding, dilation, groups)
    return conv_transpose(
        c, node, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose(
    c: Context, node: SourceNode, input: Value, weight: Value, bias: Any, stride: Any, padding: Any,
    output_padding: Any, groups: int, dilation: Any,
) -> Any:  # fmt: skip
    n = c.rank(weight) - 2
    attrs = {
        "strides": ntuple(stride, n),
        "pads": ntuple(padding, n) * 2,
        "dilations": ntuple(dilation, n),
        "groups": groups,
        "output_padding": ntuple(output_padding, n),
    }
    return _batched(c, input, n, lambda x: c.op("conv_transpose", x, weight, bias, **attrs))


def _batched(c: Context, x: Value, spatial: int, op: Callable[[Value], Value]) -> Value:
    """Run on [N, C, *S]; an input without N gets one and loses it again."""
    if c.rank(x) == spatial + 2:
        return op(x)
    y = op(c.op("reshape", x, shape=(1, *c.shape(x))))
    return c.op("reshape", y, shape=c.shape(y)[1:])


# -- pooling ---------------------------------------------------------------------------------------
def max_pool(
    c: Context, node: SourceNode, self: Value, kernel_size: Any, stride: Any, padding: Any,
    dilation: Any, ceil_mode: bool,
) -> Any:  # fmt: skip
    n = _spatial(node)
    kernel = ntuple(kernel_size, n)
    attrs = {
        "kernel": kernel,
        "strides": ntuple(stride, n) if stride else kernel,
        "pads": ntuple(padding, n) * 2,
        "dilations": ntuple(dilation, n),
        "ceil_mode": ceil_mode,
    }
    return _batched(c, self, n, lambda x: c.op("max_pool", x, **attrs))


def max_pool_first(c: Context, node: SourceNode, **bound: Any) -> Any:
    return max_pool(c, node, **bound), None


def avg_pool(
    c: Context, node: SourceNode, self: Value, kernel_size: Any, stride: Any, padding: Any,
    ceil_mode: bool, count_include_pad: bool, divisor_override: Any,
) -> Any:  # fmt: skip
    n = _spatial(node)
    kernel = ntuple(kernel_size, n)
    attrs = {
        "kernel": kernel,
        "strides": ntuple(stride, n) if stride else kernel,
        "pads": ntuple(padding, n) * 2,
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
    }
    if divisor_override is not None:  # windows in padding count whole, so mean * k is the sum
        if ceil_mode:
            raise c.refuse("divisor_override with ceil_mode", "leave divisor_override out")
        attrs["count_include_pad"] = True
    y = _batched(c, self, n, lambda x: c.op("avg_pool", x, **attrs))
    if divisor_override is None:
        return y
    return c.op("mul", y, math.prod(kernel) / divisor_override)


def adaptive_avg_pool(c: Context, node: SourceNode, self: Value, output_size: Any) -> Any:
    n = _spatial(node)
    shape, sizes = c.shape(self), c.out.shape[-n:] if c.out else c.dims(output_size)
    axes = [len(shape) - n + i for i in range(n)]
    if all(s == 1 for s in sizes):
        return c.op("mean", self, axis=axes, keepdims=True)
    kernel = _even_windows(shape[-n:], sizes)
    if kernel is not None:
        attrs = {"kernel": kernel, "strides": kernel, "pads": (0,) * (2 * n)}
        return _batched(c, self, n, lambda x: c.op("avg_pool", x, **attrs))
    x = self
    for a, size in zip(axes, sizes):
        n_in = shape[a]
        if n_in == size:
            continue
        if not isinstance(n_in, int) or not isinstance(size, int):
            raise c.refuse(
                "adaptive pooling of a symbolic axis to more than one element",
                "give the axis a fixed size, or pool with a fixed kernel",
            )
        x = _averaged(c, x, a, n_in, size)
    return x


def _even_windows(shape: Sequence[Dim], sizes: Sequence[Dim]) -> tuple[int, ...] | None:
    """The window of the plain pooling that adaptive pooling to ``sizes`` is; None when uneven."""
    kernel = []
    for d, size in zip(shape, sizes):
        if not isinstance(d, int) or not isinstance(size, int) or not size or d % size:
            return None
        kernel.append(d // size)
    return tuple(kernel)


def _averaged(c: Context, x: Value, a: int, n: int, size: int) -> Value:
    """Means over windows [floor(i n/m), ceil((i+1) n/m)) of an axis, as a matrix product."""
    if n % size == 0:
        shape = c.shape(x)
        parts = c.op("reshape", x, shape=(*shape[:a], size, n // size, *shape[a + 1 :]))
        return c.op("mean", parts, axis=[a + 1], keepdims=False)
    weights = np.zeros((n, size))
    for i in range(size):
        low, high = i * n // size, -(-(i + 1) * n // size)
        weights[low:high, i] = 1 / (high - low)
    matrix = Value(c.b.const(weights, dtype=c.dtype(x)))
    r = c.rank(x)
    perm = c.functions["swap"](r, a, r - 1)
    last = a == r - 1
    y = c.op("matmul", x if last else c.op("transpose", x, perm=perm), matrix)
    return y if last else c.op("transpose", y, perm=perm)


def adaptive_max_pool(c: Context, node: SourceNode, self: Value, output_size: Any) -> Any:
    n = _spatial(node)
    shape, sizes = c.shape(self), c.out.shape[-n:] if c.out else c.dims(output_size)
    axes = [len(shape) - n + i for i in range(n)]
    if all(s == 1 for s in sizes):
        return c.op("amax", self, axis=axes, keepdims=True), None
    kernel = _even_windows(shape[-n:], sizes)
    if kernel is not None:
        attrs = {"kernel": kernel, "strides": kernel, "pads": (0,) * (2 * n), "dilations": (1,) * n}
        return _batched(c, self, n, lambda x: c.op("max_pool", x, **attrs)), None
    x = self
    for a, size in zip(axes, sizes):
        n_in = shape[a]
        if not isinstance(n_in, int) or not isinstance(size, int):
            raise c.refuse("adaptive pooling of a symbolic axis", "give the axis a fixed size")
        if n_in % size == 0:
            grouped = (*c.shape(x)[:a], size, n_in // size, *c.shape(x)[a + 1 :])
            x = c.op("amax", c.op("reshape", x, shape=grouped), axis=[a + 1], keepdims=False)
            continue
        windows = [(i * n_in // size, -(-(i + 1) * n_in // size)) for i in range(size)]
        parts = [c.op("amax", cut(c, x, a, lo, hi), axis=[a], keepdims=True) for lo, hi in windows]
        x = c.op("concat", *parts, axis=a)
    return x, None


def _spatial(node: SourceNode) -> int:
    """Number of spatial axes, from the op's name: ...1d, ...2d, ...3d."""
    name = node.op.split(".")[1]
    return int(name[name.index("d_with") - 1] if "d_with" in name else name[-2])


# -- resampling ------------------------------------------------------------------------------------
def _resize(c: Context, x: Value, scale_factors: Any, mode: str, coordinates: str) -> Value:
    assert c.out is not None
    sizes = c.out.shape[2:]
    if scale_factors is not None and coordinates != "align_corners":
        for n, m, scale in zip(c.shape(x)[2:], sizes, scale_factors):
            _check_scale(c, n, m, scale)
    rounding = "round_prefer_ceil" if mode == "nearest" and coordinates != "asymmetric" else "floor"
    return c.op("resize", x, sizes=sizes, mode=mode, coordinates=coordinates, rounding=rounding)


def _check_scale(c: Context, n: Dim, m: Dim, scale: float) -> None:
    """PyTorch samples by the given factor; that is out / in only when the product is whole."""
    num, den = float(scale).as_integer_ratio()
    if scale and den <= 1024 and dm.equal(dm.mul(n, num), dm.mul(m, den)):
        return
    raise c.refuse(
        f"scale_factor={scale} on an axis of size {n} does not give a whole size",
        "use interpolate(size=...), or recompute_scale_factor=True",
    )


def nearest(c: Context, node: SourceNode, self: Value, output_size: Any, scales: Any) -> Any:
    return _resize(c, self, _given(scales), "nearest", "asymmetric")


def nearest_exact(c: Context, node: SourceNode, self: Value, output_size: Any, scales: Any) -> Any:
    return _resize(c, self, _given(scales), "nearest", "half_pixel")


def nearest_vec(
    c: Context, node: SourceNode, input: Value, output_size: Any, scale_factors: Any
) -> Any:
    return _resize(c, input, scale_factors, "nearest", "asymmetric")


def nearest_exact_vec(
    c: Context, node: SourceNode, input: Value, output_size: Any, scale_factors: Any
) -> Any:
    return _resize(c, input, scale_factors, "nearest", "half_pixel")


def _corners(align: bool) -> str:
    return "align_corners" if align else "half_pixel"


def linear(
    c: Context, node: SourceNode, self: Value, output_size: Any, align_corners: bool, scales: Any
) -> Any:
    return _resize(c, self, _given(scales), "linear", _corners(align_corners))


def cubic(
    c: Context, node: SourceNode, self: Value, output_size: Any, align_corners: bool, scales: Any
) -> Any:
    return _resize(c, self, _given(scales), "cubic", _corners(align_corners))


def linear_vec(
    c: Context, node: SourceNode, input: Value, output_size: Any, align_corners: bool,
    scale_factors: Any,
) -> Any:  # fmt: skip
    return _resize(c, input, scale_factors, "linear", _corners(align_corners))


def cubic_vec(
    c: Context, node: SourceNode, input: Value, output_size: Any, align_corners: bool,
    scale_factors: Any,
) -> Any:  # fmt: skip
    return _resize(c, input, scale_factors, "cubic", _corners(align_corners))


def _given(scales: Any) -> Any:
    return scales if scales and all(s is not None for s in scales) else None


# -- normalisation ---------------------------------------------------------------------------------
def batch_norm(
    c: Context, node: SourceNode, input: Value, weight: Any, bias: Any, running_mean: Any,
    running_var: Any, eps: float, **unused: Any,
) -> Any:  # fmt: skip
    if running_mean is None or running_var is None:
        raise c.refuse("no running statistics", "build the layer with track_running_stats=True")
    channels, dtype = c.shape(input)[1], c.dtype(input)
    if weight is None or bias is None:
        if not isinstance(channels, int):
            raise c.refuse("a symbolic number of channels", "give the channel axis a fixed size")
        weight = weight or c.tensor((1.0,) * channels, dtype)
        bias = bias or c.tensor((0.0,) * channels, dtype)
    return c.op("batch_norm", input, weight, bias, running_mean, running_var, epsilon=eps)


def native_batch_norm(c: Context, node: SourceNode, **bound: Any) -> Any:
    return batch_norm(c, node, **bound), None, None


def instance_norm(
    c: Context, node: SourceNode, input: Value, weight: Any, bias: Any, running_mean: Any,
    running_var: Any, use_input_stats: bool, eps: float, **unused: Any,
) -> Any:  # fmt: skip
    if not use_input_stats:
        return batch_norm(c, node, input, weight, bias, running_mean, running_var, eps)
    groups = c.shape(input)[1]
    return c.op("group_norm", input, weight, bias, num_groups=groups, epsilon=eps)


def native_layer_norm(
    c: Context, node: SourceNode, input: Value, normalized_shape: Any, weight: Any, bias: Any,
    eps: float,
) -> Any:  # fmt: skip
    n = len(normalized_shape)
    y = c.op("layer_norm", input, weight, bias, axis=-n, epsilon=eps)
    return y, *_statistics(c, input, range(-n, 0), eps)


def native_group_norm(
    c: Context, node: SourceNode, input: Value, weight: Any, bias: Any, group: int, eps: float,
    **unused: Any,
) -> Any:  # fmt: skip
    y = c.op("group_norm", input, weight, bias, num_groups=group, epsilon=eps)
    n, *rest = c.shape(input)
    grouped = c.op("reshape", input, shape=(n, group, dm.floordiv(dm.product(rest), group)))
    mean, spread = _statistics(c, grouped, (-1,), eps)
    return y, c.op("reshape", mean, shape=(n, group)), c.op("reshape", spread, shape=(n, group))


def _statistics(c: Context, x: Value, axes: Any, eps: float) -> tuple[Value, Value]:
    """Mean and 1 / sqrt(variance + eps) over axes, these kept with size 1."""
    mean = c.op("mean", x, axis=tuple(axes))
    spread = c.run("rsqrt(mean(square(x - m), axis=a) + e)", x=x, m=mean, a=tuple(axes), e=eps)
    return mean, spread


# -- attention -------------------------------------------------------------------------------------
def attention(
    c: Context, node: SourceNode, query: Value, key: Value, value: Value, attn_mask: Any,
    is_causal: bool, scale: Any, enable_gqa: bool, **unused: Any,
) -> Any:  # fmt: skip
    """Without a scale it is 1/sqrt(D); grouped heads repeat each key and value head."""
    width = c.shape(query)[-1]
    if scale is None:
        if not isinstance(width, int):
            raise c.refuse("a symbolic head size without scale", "pass scale= or fix the head size")
        scale = 1 / math.sqrt(width)
    if enable_gqa:
        key, value = (_repeated_heads(c, x, c.shape(query)[-3]) for x in (key, value))
    mask = attn_mask
    if mask is not None and c.dtype(mask) != "bool":
        mask = c.cast(mask, c.dtype(query))
    return c.op(
        "scaled_dot_product_attention", query, key, value, mask,
        scale=c.scalar(scale), causal=is_causal,
    )  # fmt: skip


def _repeated_heads(c: Context, x: Value, heads: Dim) -> Value:
    *lead, groups, length, width = c.shape(x)
    times = dm.floordiv(heads, groups)
    if times == 1:
        return x
    x = c.op("reshape", x, shape=(*lead, groups, 1, length, width))
    x = c.op("expand", x, shape=(*lead, groups, times, length, width))
    return c.op("reshape", x, shape=(*lead, heads, length, width))
