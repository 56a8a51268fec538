"""Handlers of ops on channels-last images: windows, resizing, normalisation by channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.context import Context, Value
from framework_adapter.functions import same_pads
from framework_adapter.mindspore.lite.fused import activate, maker
from framework_adapter.source import SourceNode

Ints = tuple[int, ...]


def _first(c: Context, x: Value) -> Value:
    return c.op("transpose", x, perm=(0, 3, 1, 2))


def _last(c: Context, x: Value) -> Value:
    return c.op("transpose", x, perm=(0, 2, 3, 1))


def _pads(
    c: Context, x: Value, mode: str, pads: Any, kernel: Ints, strides: Ints, dilations: Ints
) -> Ints:
    """Low pads, then high ones, for x [N, H, W, C]."""
    if mode == "SAME":
        return same_pads(c.shape(x)[1:3], kernel, strides, dilations)
    if mode == "VALID" or not pads:
        return (0, 0, 0, 0)
    up, down, left, right = pads
    return up, left, down, right


def _kernel(c: Context, w: Value) -> tuple[Value, Ints]:
    """A weight [O, kh, kw, I] as [O, I, kh, kw], and its window."""
    shape = c.shape(w)
    return _first(c, w), (int(shape[1]), int(shape[2]))


def conv(
    c: Context, node: SourceNode, x: Value, w: Value, b: Value | None, stride: Ints, dilation: Ints,
    pad_mode: str, pad_list: Any, group: int, activation_type: str,
) -> Value:  # fmt: skip
    """Conv2DFusion: x [N, H, W, C], w [O, kh, kw, C/groups]."""
    turned, kernel = _kernel(c, w)
    pads = _pads(c, x, pad_mode, pad_list, kernel, stride, dilation)
    attrs = {"strides": stride, "pads": pads, "dilations": dilation, "groups": group}
    y = activate(c, c.op("conv", _first(c, x), turned, b, **attrs), activation_type)
    return _last(c, y)


def conv_transpose(
    c: Context, node: SourceNode, x: Value, w: Value, b: Value | None, stride: Ints, dilation: Ints,
    pad_mode: str, pad_list: Any, group: int, activation_type: str, output_paddings: Ints,
) -> Value:  # fmt: skip
    """Conv2dTransposeFusion: x [N, H, W, C], w [C, kh, kw, O/groups]."""
    if pad_mode == "SAME":
        raise c.refuse("a transposed convolution with pad mode SAME", "state its pads")
    turned, kernel = _kernel(c, w)
    pads = _pads(c, x, pad_mode, pad_list, kernel, stride, dilation)
    extra = tuple(output_paddings) or (0, 0)
    idle = c.shape(x)[1] == 1 == kernel[0] and not (pads[0] or pads[2] or extra[0])
    settings = {"strides": stride, "dilations": dilation, "output_padding": extra}
    image = _first(c, x)
    if idle:  # the form of a one-dimensional one, which the runtime does not have
        image, turned = (
            c.op("reshape", v, shape=(*c.shape(v)[:2], c.shape(v)[3])) for v in (image, turned)
        )
        pads, settings = pads[1::2], {k: v[1:] for k, v in settings.items()}
    y = c.op("conv_transpose", image, turned, b, pads=pads, groups=group, **settings)
    if idle:
        n, features, length = c.shape(y)
        y = c.op("reshape", y, shape=(n, features, 1, length))
    return _last(c, activate(c, y, activation_type))


def pool(
    c: Context, node: SourceNode, x: Value, kernel_size: Ints, strides: Ints, pad: Any,
    pad_mode: str, round_mode: str, global_: bool, activation_type: str,
) -> Value:  # fmt: skip
    """AvgPoolFusion and MaxPoolFusion."""
    average = node.op == "AvgPoolFusion"
    if global_:
        return activate(c, c.op("mean" if average else "amax", x, axis=(1, 2)), activation_type)
    pads = _pads(c, x, pad_mode, pad, kernel_size, strides, (1, 1))
    attrs: dict[str, Any] = {"kernel": kernel_size, "strides": strides, "pads": pads}
    attrs["ceil_mode"] = round_mode == "CEIL"
    if not average:
        y = c.op("max_pool", _first(c, x), dilations=(1, 1), **attrs)
        return _last(c, activate(c, y, activation_type))
    wide = maker(c, x)
    counted = None if wide is None or wide.op != "pad" else _counted(wide.attrs, pads)
    if wide is not None and counted is not None:  # the padding is part of the mean
        x, attrs["pads"] = Value(str(wide.inputs[0])), counted
    y = c.op("avg_pool", _first(c, x), count_include_pad=counted is not None, **attrs)
    return _last(c, activate(c, y, activation_type))


def _counted(attrs: Any, pads: Ints) -> Ints | None:
    """Pads of a mean whose input was padded with zeros for it; None where it was not."""
    outer, value = attrs["pads"], attrs["value"]
    if attrs["mode"] != "constant" or value or any(pads) or len(outer) != 8:
        return None
    if any(not isinstance(p, int) for p in outer) or any(outer[i] for i in (0, 3, 4, 7)):
        return None
    return (*outer[1:3], *outer[5:7])


_COORDINATES = {
    "ASYMMETRIC": "asymmetric", "ALIGN_CORNERS": "align_corners", "HALF_PIXEL": "half_pixel",
}  # fmt: skip
_ROUNDINGS = {
    "ROUND_HALF_DOWN": "round_prefer_floor", "ROUND_HALF_UP": "round_prefer_ceil", "FLOOR": "floor",
    "CEIL": "ceil",
}  # fmt: skip
_MODES = {"NEAREST": "nearest", "LINEAR": "linear", "CUBIC": "cubic"}


def resize(
    c: Context, node: SourceNode, x: Value, size: Any, method: str, new_height: int, new_width: int,
    coordinate_transform_mode: str, nearest_mode: str, cubic_coeff: float, exclude_outside: int,
) -> Value:  # fmt: skip
    """Resize of height and width, to sizes or by factors."""
    if method not in _MODES:
        raise c.refuse(f"resize method {method}", f"use one of {', '.join(_MODES)}")
    if method == "CUBIC" and (abs(cubic_coeff + 0.75) > 1e-6 or exclude_outside):
        raise c.refuse("cubic interpolation of another kind", "use a coefficient of -0.75")
    have = c.shape(x)[1:3]
    sizes: Sequence[Dim] = (new_height, new_width)
    if size is not None:
        sizes = c.dims(size) if c.dtype(size).startswith("int") else _factors(c, size, have)
        sizes = sizes[1:3] if len(sizes) == 4 else sizes
    coordinates = _COORDINATES[coordinate_transform_mode]
    rounding = _ROUNDINGS.get(nearest_mode)
    if rounding is None:
        rounding = "round_prefer_ceil" if coordinates == "align_corners" else "floor"
    y = c.op(
        "resize", _first(c, x), sizes=tuple(sizes), mode=_MODES[method], coordinates=coordinates,
        rounding=rounding if method == "NEAREST" else "floor",
    )  # fmt: skip
    return _last(c, y)


def _factors(c: Context, scales: Value, have: Sequence[Dim]) -> tuple[Dim, ...]:
    found = c.b.value(scales)
    if found is None or found.size != 2 or any(f != int(f) for f in found.reshape(-1)):
        raise c.refuse("resizing by factors that are not whole numbers", "state the sizes")
    return tuple(dm.mul(n, int(f)) for n, f in zip(have, found.reshape(-1)))


def instance_norm(
    c: Context, node: SourceNode, x: Value, scale: Value, bias: Value, epsilon: float
) -> Value:
    """InstanceNorm over height and width."""
    channels = c.shape(x)[-1]
    if not isinstance(channels, int) or c.rank(x) != 4:
        raise c.refuse("instance normalisation of this shape", "use [N, H, W, C], C a number")
    y = c.op("group_norm", _first(c, x), scale, bias, num_groups=channels, epsilon=epsilon)
    return _last(c, y)


def batch_norm(
    c: Context, node: SourceNode, x: Value, scale: Value | None, bias: Value | None, mean: Value,
    var: Value, epsilon: float,
) -> Value:  # fmt: skip
    """(x - mean) / sqrt(var + epsilon) along the last axis, with scale and bias or without."""
    spread = c.op("rsqrt", c.op("add", var, float(epsilon)))
    factor = spread if scale is None else c.op("mul", scale, spread)
    shift = c.op("neg", c.op("mul", mean, factor))
    shift = shift if bias is None else c.op("add", bias, shift)
    return c.op("add", c.op("mul", x, factor), shift)


def depth_to_space(
    c: Context, node: SourceNode, x: Value, block_size: int, mode: str = "DCR"
) -> Value:
    """[N, H, W, C] to [N, H*b, W*b, C/b²]."""
    n, h, w, ch = c.shape(x)
    b, rest = block_size, dm.floordiv(ch, block_size * block_size)
    if mode == "CRD":
        y = c.op("reshape", x, shape=(n, h, w, rest, b, b))
        y = c.op("transpose", y, perm=(0, 1, 4, 2, 5, 3))
    else:
        y = c.op("reshape", x, shape=(n, h, w, b, b, rest))
        y = c.op("transpose", y, perm=(0, 1, 3, 2, 4, 5))
    return c.op("reshape", y, shape=(n, dm.mul(h, b), dm.mul(w, b), rest))


def space_to_depth(c: Context, node: SourceNode, x: Value, block_size: int) -> Value:
    """[N, H, W, C] to [N, H/b, W/b, C*b²]."""
    n, h, w, ch = c.shape(x)
    b = block_size
    h2, w2 = dm.floordiv(h, b), dm.floordiv(w, b)
    y = c.op("reshape", x, shape=(n, h2, b, w2, b, ch))
    y = c.op("transpose", y, perm=(0, 1, 3, 2, 4, 5))
    return c.op("reshape", y, shape=(n, h2, w2, dm.mul(ch, b * b)))
