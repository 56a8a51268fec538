"""Handlers of ONNX's larger layers: convolution, pooling, resizing, Gemm, attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cir import dim as dm
from cir.dim import Dim
from cir.graph import Node
from framework_adapter.context import Context, Value
from framework_adapter.functions import same_pads, same_pads_lower
from framework_adapter.source import SourceNode

_HEADS = (0, 2, 1, 3)
#: How far back a handler looks for the node that made an operand.
_RECENT = 8


# -- convolution and pooling -----------------------------------------------------------------------
def _window(
    c: Context,
    x: Value,
    kernel: tuple[int, ...],
    strides: Any,
    pads: Any,
    dilations: Any,
    auto_pad: str,
) -> dict[str, tuple[int, ...]]:
    """strides, pads and dilations in full; auto_pad worked out."""
    k = len(kernel)
    strides, dilations = tuple(strides or (1,) * k), tuple(dilations or (1,) * k)
    sizes = c.shape(x)[2:]
    if auto_pad == "SAME_UPPER":
        pads = same_pads(sizes, kernel, strides, dilations)
    elif auto_pad == "SAME_LOWER":
        pads = same_pads_lower(sizes, kernel, strides, dilations)
    elif auto_pad == "VALID" or not pads:
        pads = (0,) * (2 * k)
    return {"strides": strides, "pads": tuple(pads), "dilations": dilations}


def conv(
    c: Context, node: SourceNode, x: Value, w: Value, b: Value | None, *, auto_pad: str,
    dilations: Any, group: int, kernel_shape: Any, pads: Any, strides: Any,
) -> Value:  # fmt: skip
    """Conv."""
    kernel = tuple(int(d) for d in c.shape(w)[2:])
    attrs = _window(c, x, kernel, strides, pads, dilations, auto_pad)
    return c.op("conv", x, w, b, groups=group, **attrs)


def conv_transpose(
    c: Context, node: SourceNode, x: Value, w: Value, b: Value | None, *, auto_pad: str,
    dilations: Any, group: int, kernel_shape: Any, output_padding: Any, output_shape: Any,
    pads: Any, strides: Any,
) -> Value:  # fmt: skip
    """ConvTranspose; output_shape and auto_pad become pads."""
    kernel = tuple(int(d) for d in c.shape(w)[2:])
    k = len(kernel)
    strides, dilations = tuple(strides or (1,) * k), tuple(dilations or (1,) * k)
    extra = tuple(output_padding or (0,) * k)
    sizes = c.shape(x)[2:]
    if output_shape or auto_pad.startswith("SAME"):
        low, high = [], []
        for i in range(k):
            out = output_shape[-k:][i] if output_shape else dm.mul(sizes[i], strides[i])
            full = dm.add(
                dm.mul(dm.sub(sizes[i], 1), strides[i]), (kernel[i] - 1) * dilations[i] + 1
            )
            total = dm.sub(dm.add(full, extra[i]), out)
            if not isinstance(total, int) or total < 0:
                raise c.refuse(
                    "an output size that needs more than padding", "give pads and output_padding"
                )
            half = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            low.append(half)
            high.append(total - half)
        pads = (*low, *high)
    attrs = {"strides": strides, "dilations": dilations, "pads": tuple(pads or (0,) * (2 * k))}
    return c.op("conv_transpose", x, w, b, groups=group, output_padding=extra, **attrs)


def pool(
    c: Context, node: SourceNode, x: Value, *, kernel_shape: tuple[int, ...], auto_pad: str,
    ceil_mode: int, dilations: Any, pads: Any, strides: Any, count_include_pad: int = 0,
    storage_order: int = 0,
) -> Any:  # fmt: skip
    """MaxPool (its values) and AveragePool."""
    attrs: dict[str, Any] = _window(c, x, kernel_shape, strides, pads, dilations, auto_pad)
    attrs |= {"kernel": kernel_shape, "ceil_mode": ceil_mode}
    if node.op == "MaxPool":
        return (c.op("max_pool", x, **attrs), *[None] * (len(node.outputs) - 1))
    if any(d != 1 for d in attrs.pop("dilations")):
        raise c.refuse("AveragePool with dilations", "use a convolution with equal weights")
    return (c.op("avg_pool", x, count_include_pad=count_include_pad, **attrs),)


def resize(
    c: Context, node: SourceNode, x: Value, roi: Any, scales: Any, sizes: Any, *,
    coordinate_transformation_mode: str, mode: str, nearest_mode: str, cubic_coeff_a: float,
    exclude_outside: int, extrapolation_value: float, antialias: int, axes: Any,
    keep_aspect_ratio_policy: str,
) -> Value:  # fmt: skip
    """Resize of the spatial axes."""
    plain = (
        not exclude_outside and not antialias and keep_aspect_ratio_policy == "stretch"
        and (mode != "cubic" or cubic_coeff_a == -0.75)
    )  # fmt: skip
    if not plain:
        raise c.refuse(
            "Resize with antialias, exclude_outside, an aspect ratio or another cubic_coeff_a",
            "resize without these options",
        )
    have = c.shape(x)
    places = range(len(have)) if axes is None else [a % len(have) for a in axes]
    want = list(have)
    exact = True
    if sizes is not None and c.shape(sizes) != (0,):
        for a, d in zip(places, c.dims(sizes)):
            want[a] = d
    else:
        factors = c.b.value(scales)
        if factors is None:
            raise c.refuse("Resize by scales that depend on data", "give sizes, or constant scales")
        for a, f in zip(places, factors.reshape(-1).tolist()):
            want[a] = _scaled(c, have[a], float(f))
            exact &= isinstance(want[a], str) or want[a] == have[a] * f
    if tuple(want[:2]) != tuple(have[:2]):
        raise c.refuse("Resize of the batch or channel axis", "transpose the data first")
    if not exact and coordinate_transformation_mode != "align_corners":
        raise c.refuse(
            "Resize by scales that do not give whole sizes", "give sizes instead of scales"
        )
    attrs = {"rounding": nearest_mode} if mode == "nearest" else {}
    attrs["coordinates"] = coordinate_transformation_mode
    return c.op("resize", x, sizes=tuple(want[2:]), mode=mode, **attrs)


def _scaled(c: Context, n: Dim, factor: float) -> Dim:
    """floor(n * factor); of a symbolic n only for whole factors and their reciprocals."""
    if isinstance(n, int):
        return math.floor(n * factor)
    if factor == int(factor):
        return dm.mul(n, int(factor))
    if factor > 0 and 1 / factor == int(1 / factor):
        return dm.floordiv(n, int(1 / factor))
    raise c.refuse(f"Resize of the symbolic size {n} by {factor}", "give this axis a fixed size")


# -- linear and normalisation ----------------------------------------------------------------------
def gemm(
    c: Context, node: SourceNode, a: Value, b: Value, bias: Value | None, *, alpha: float,
    beta: float, transA: int, transB: int,
) -> Value:  # fmt: skip
    """Gemm: a linear layer where its factors are 1 and the bias is one per column."""
    if transA:
        a = c.op("transpose", a, perm=(1, 0))
    if not transB:
        b = c.op("transpose", b, perm=(1, 0))
    plain = alpha == 1 and (bias is None or beta == 1 and c.shape(bias) == c.shape(b)[:1])
    if plain and c.dtype(a).endswith(("float16", "float32", "float64")):
        return c.op("linear", a, b, bias)
    y = c.op("matmul", a, c.op("transpose", b, perm=(1, 0)))
    y = y if alpha == 1 else c.op("mul", y, alpha)
    if bias is None or beta == 0:
        return y
    return c.op("add", y, bias if beta == 1 else c.op("mul", bias, beta))


def group_norm(
    c: Context, node: SourceNode, x: Value, scale: Value, bias: Value, *, num_groups: int,
    epsilon: float, stash_type: int,
) -> Value:  # fmt: skip
    """GroupNormalization; until opset 20 scale and bias are one per group."""
    channels = c.shape(x)[1]
    if c.shape(scale) != (channels,):
        per = dm.floordiv(channels, num_groups)
        scale, bias = (
            c.op("reshape", c.op("expand", c.op("reshape", v, shape=(num_groups, 1)),
                                 shape=(num_groups, per)), shape=(channels,))
            for v in (scale, bias)
        )  # fmt: skip
    return c.op("group_norm", x, scale, bias, num_groups=num_groups, epsilon=epsilon)


def instance_norm(
    c: Context, node: SourceNode, x: Value, scale: Value, bias: Value, *, epsilon: float
) -> Value:
    """InstanceNormalization; with scale 1 and bias 0 it normalises and no more.

    Over a view [N, G, rest] that is part of a group_norm, which the Reshape after it completes.
    """
    ones, zeros = c.b.consts.get(scale), c.b.consts.get(bias)
    plain = ones and zeros and (ones.numpy() == 1).all() and not zeros.numpy().any()
    made = latest_maker(c, x)
    if plain and c.rank(x) == 3 and made is not None and made.op == "reshape":
        return c.op("layer_norm", x, axis=-1, epsilon=epsilon)
    channels = c.shape(x)[1]
    if not isinstance(channels, int):
        raise c.refuse("a symbolic number of channels", "give the channel axis a fixed size")
    affine = (None, None) if plain else (scale, bias)
    return c.op("group_norm", x, *affine, num_groups=channels, epsilon=epsilon)


def latest_maker(c: Context, x: str | None) -> Node | None:
    """The node that computes a value, when it is among the latest."""
    return next((n for n in c.b.nodes[: -_RECENT - 1 : -1] if x in n.outputs), None)


# -- attention -------------------------------------------------------------------------------------
def _split(c: Context, x: Value, heads: int) -> Value:
    """[B, S, H*D] to [B, H, S, D]; four axes stay as they are."""
    if c.rank(x) == 4 or heads == 1:
        return x
    n, s, width = c.shape(x)
    y = c.op("reshape", x, shape=(n, s, heads, dm.floordiv(width, heads)))
    return c.op("transpose", y, perm=_HEADS)


def _join(c: Context, y: Value, heads: int) -> Value:
    if heads == 1 and c.rank(y) == 3:
        return y
    y = c.op("transpose", y, perm=_HEADS)
    n, s, h, d = c.shape(y)
    return c.op("reshape", y, shape=(n, s, dm.mul(h, d)))


def _as_boolean(c: Context, mask: Value) -> Value:
    """A constant mask of 0 and -inf says the same as a boolean one, which is the plainer form."""
    const = c.b.consts.get(mask)
    if const is None or not const.type.dtype.startswith("float"):
        return mask
    data = const.numpy()
    if not ((data == 0) | np.isneginf(data)).all():
        return mask
    return Value(c.b.const(data == 0, name=mask))


def _attend(
    c: Context, q: Value, k: Value, v: Value, mask: Value | None, scale: float, causal: int
) -> Value:
    """The attention op; with one head without a head axis, a mask loses its own."""
    if mask is not None and c.rank(q) == 3 and c.rank(mask) == 4:
        b, h, s, t = c.shape(mask)
        if h != 1:
            raise c.refuse("a mask by head for one head", "drop the head axis of the mask")
        mask = c.op("reshape", mask, shape=(s, t) if b == 1 else (b, s, t))
    mask = None if mask is None else _as_boolean(c, mask)
    if not scale:
        width = c.shape(q)[-1]
        if not isinstance(width, int):
            raise c.refuse("a head width that is symbolic", "give the scale, or a fixed head width")
        scale = 1 / math.sqrt(width)
    return c.op("scaled_dot_product_attention", q, k, v, mask, scale=scale, causal=bool(causal))


def multi_head_attention(
    c: Context, node: SourceNode, query: Value, key: Value | None, value: Value | None,
    bias: Value | None, key_padding_mask: Value | None, attention_bias: Value | None,
    past_key: Value | None, past_value: Value | None, *, num_heads: int, scale: float,
    unidirectional: int, mask_filter_value: float,
) -> Any:  # fmt: skip
    """com.microsoft.MultiHeadAttention with separate query, key and value and no past."""
    if key is None or value is None or past_key is not None or past_value is not None:
        raise c.refuse("packed or cached query, key and value", "pass query, key and value apart")
    if key_padding_mask is not None:
        raise c.refuse("key_padding_mask", "pass it as attention_bias")
    if bias is not None:
        widths = tuple(c.shape(x)[-1] for x in (query, key, value))
        parts = c.op("split", bias, axis=0, sizes=widths)
        query, key, value = (c.op("add", x, p) for x, p in zip((query, key, value), parts))
    q, k, v = (_split(c, x, num_heads) for x in (query, key, value))
    y = _attend(c, q, k, v, attention_bias, scale, unidirectional)
    return (_join(c, y, num_heads), *[None] * (len(node.outputs) - 1))


def attention(
    c: Context, node: SourceNode, q: Value, k: Value, v: Value, attn_mask: Value | None,
    past_key: Value | None, past_value: Value | None, nonpad_kv_seqlen: Value | None, *,
    is_causal: int, kv_num_heads: int, q_num_heads: int, qk_matmul_output_mode: int, scale: float,
    softcap: float, softmax_precision: int,
) -> Any:  # fmt: skip
    """Attention (opset 23) without past, softcap or grouped heads."""
    if past_key is not None or past_value is not None or nonpad_kv_seqlen is not None or softcap:
        raise c.refuse("attention with past, padding lengths or softcap", "compute it by basic ops")
    flat = c.rank(q) == 3
    heads = (q_num_heads, kv_num_heads) if flat else (c.shape(q)[1], c.shape(k)[1])
    if heads[0] != heads[1]:
        raise c.refuse("grouped heads", "repeat key and value heads first")
    n = int(heads[0]) if flat else 0
    q, k, v = (_split(c, x, n) if flat else x for x in (q, k, v))
    y = _attend(c, q, k, v, attn_mask, scale, is_causal)
    return (_join(c, y, n) if flat else y, *[None] * (len(node.outputs) - 1))
