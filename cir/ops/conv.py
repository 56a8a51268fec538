"""Convolutions, channels first: x [N, C, *S] with one to three spatial axes."""

from __future__ import annotations

from typing import Any

from cir import convolution
from cir import dim as dims
from cir.dim import Dim
from cir.graph import TensorType
from cir.infer import (
    Attrs,
    Types,
    need_length,
    need_positive,
    need_rank,
    optional,
    same_dim,
    same_dtype,
    typed,
    window_count,
)
from cir.kernel import Array, Ints, kernel
from cir.spec import InferContext, InferError, op


def _operands(types: Types, attrs: Attrs) -> tuple[TensorType, TensorType, tuple[int, ...], int]:
    """(x, w, kernel sizes, groups) after the checks that both directions share."""
    x, w = typed(types, 0), typed(types, 1)
    same_dtype(x, w)
    k = x.rank - 2
    if not 1 <= k <= 3:
        raise InferError(f"x must be [N, C, *S] with 1 to 3 spatial axes, is {x}")
    need_rank(w, x.rank, "w")
    need_length(attrs, "strides", k, "one for each spatial axis")
    need_length(attrs, "dilations", k, "one for each spatial axis")
    pads = need_length(attrs, "pads", 2 * k, "the low pads of the spatial axes, then the high ones")
    need_positive(attrs, "strides", "dilations", "groups")
    if min(pads) < 0:
        raise InferError(f"pads {pads} must not be negative: to crop, use slice")
    kernel = w.shape[2:]
    if not all(type(n) is int for n in kernel):
        raise InferError(f"the kernel sizes of w {w} must be known numbers")
    return x, w, kernel, attrs["groups"]  # type: ignore[return-value]


def _check_bias(types: Types, channels: Dim, x: TensorType) -> None:
    b = optional(types, 2)
    if b is not None:
        same_dtype(x, b)
        need_rank(b, 1, "b")
        same_dim(b.shape[0], channels, "bias and output channels")


def _infer_conv(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, w, kernel, groups = _operands(types, attrs)
    channels = dims.mul(w.shape[1], groups)
    if x.shape[1] != channels:
        same_dim(x.shape[1], channels, f"channels of x {x} and of w {w} in {groups} groups")
    if dims.divides(groups, w.shape[0]) is False:
        raise InferError(f"{w.shape[0]} output channels do not divide into {groups} groups")
    _check_bias(types, w.shape[0], x)
    pads, strides, dilations = attrs["pads"], attrs["strides"], attrs["dilations"]
    k = len(kernel)
    out = [
        window_count(x.shape[2 + i], kernel[i], strides[i], dilations[i], pads[i] + pads[k + i])
        for i in range(k)
    ]
    return [TensorType(x.dtype, (x.shape[0], w.shape[0], *out))]


def _with_bias(y: Any, b: Any) -> Any:
    if b is not None:
        y += b.reshape(-1, *[1] * (y.ndim - 2))
    return y


_PLAIN = {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1]}


@op("conv(x, w, b?; strides: ints, pads: ints, dilations: ints, groups: int = 1)",
    domain="float", infer=_infer_conv,
    samples=[{"inputs": ["float32[2,3,6,5]", "float32[4,3,3,3]", "float32[4]"], **_PLAIN},
             {"inputs": ["float32[1,4,7,8]", "float32[6,2,3,2]"], "strides": [2, 1],
              "pads": [0, 1, 2, 0], "dilations": [1, 2], "groups": 2},
             {"inputs": ["float32[2,3,5,5]", "float32[6,1,3,3]", "float32[6]"], **_PLAIN,
              "groups": 3},
             {"inputs": ["float32[2,3,4,4]", "float32[5,3,1,1]"], "strides": [1, 1],
              "pads": [0, 0, 0, 0], "dilations": [1, 1]},
             {"inputs": ["float32[2,3,9]", "float32[4,3,3]"], "strides": [2], "pads": [2, 1],
              "dilations": [2]},
             {"inputs": ["float32[1,2,3,4,5]", "float32[3,2,2,2,2]", "float32[3]"],
              "strides": [1, 2, 1], "pads": [0, 1, 0, 1, 0, 1],
              "dilations": [1, 1, 2]}])  # fmt: skip
@kernel
def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    strides: Ints,
    pads: Ints,
    dilations: Ints,
    groups: int,
) -> Array:
    """Cross-correlation with w [O, C/groups, *k] and bias b [O]: [N, O, *out].

    out = (S + low pad + high pad - dilation*(k - 1) - 1)//stride + 1 on each spatial axis; ``pads``
    holds the low pads of all spatial axes, then the high ones.
    """
    y = convolution.conv(x, w, strides=strides, pads=pads, dilations=dilations, groups=groups)
    return _with_bias(y, b)


def _infer_conv_transpose(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, w, kernel, groups = _operands(types, attrs)
    if x.shape[1] != w.shape[0]:
        same_dim(x.shape[1], w.shape[0], f"channels of x {x} and axis 0 of w {w}")
    if dims.divides(groups, w.shape[0]) is False:
        raise InferError(f"{w.shape[0]} input channels do not divide into {groups} groups")
    k = len(kernel)
    extra = need_length(attrs, "output_padding", k, "one for each spatial axis")
    channels = dims.mul(w.shape[1], groups)
    _check_bias(types, channels, x)
    out: list[Dim] = []
    for i in range(k):
        stride, dilation = attrs["strides"][i], attrs["dilations"][i]
        if not 0 <= extra[i] < max(stride, dilation):
            raise InferError(f"output_padding {extra} must be below the stride or the dilation")
        pad = attrs["pads"][i] + attrs["pads"][k + i]
        rest = dilation * (kernel[i] - 1) + 1 + extra[i] - pad
        n = dims.add(dims.mul(dims.sub(x.shape[2 + i], 1), stride), rest)
        if type(n) is int and n < 1:
            raise InferError(f"pads {attrs['pads']} leave nothing of spatial axis {i} of {x}")
        out.append(n)
    return [TensorType(x.dtype, (x.shape[0], channels, *out))]


@op("conv_transpose(x, w, b?; strides: ints, pads: ints, dilations: ints, groups: int = 1,"
    " output_padding: ints)",
    domain="float", infer=_infer_conv_transpose,
    samples=[{"inputs": ["float32[2,3,4,5]", "float32[3,4,3,3]", "float32[4]"],
              "strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1],
              "output_padding": [1, 1]},
             {"inputs": ["float32[1,4,3,4]", "float32[4,3,2,3]"], "strides": [1, 3],
              "pads": [0, 1, 1, 0], "dilations": [2, 1], "groups": 2, "output_padding": [0, 2]},
             {"inputs": ["float32[2,3,5]", "float32[3,2,4]", "float32[2]"], "strides": [2],
              "pads": [1, 1], "dilations": [1], "output_padding": [0]}])  # fmt: skip
@kernel
def conv_transpose(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    strides: Ints,
    pads: Ints,
    dilations: Ints,
    groups: int,
    output_padding: Ints,
) -> Array:
    """Gradient of conv with respect to its input, w [C, O/groups, *k] and bias b [O]: [N, O, *out].

    out = (S - 1)*stride + dilation*(k - 1) + 1 + output_padding - low pad - high pad.
    """
    y = convolution.conv_transpose(
        x, w, strides=strides, pads=pads, dilations=dilations, groups=groups,
        output_padding=output_padding,
    )  # fmt: skip
    return _with_bias(y, b)
