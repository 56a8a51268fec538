"""Handlers of GE's operators: products, layers, cutting and joining."""

from __future__ import annotations

from typing import Any

from cir import dim as dm
from cir import dtype as dt
from cir.dim import Dim
from framework_adapter.context import Context, Value
from framework_adapter.functions import axis as counted
from framework_adapter.functions import squeezed, unsqueezed
from framework_adapter.onnx.handlers import expand  # noqa: F401
from framework_adapter.onnx.handlers import slice_ as _slice_along
from framework_adapter.onnx.layers import latest_maker
from framework_adapter.source import SourceNode
from framework_adapter.tensorflow.slicing import slice_ as _slice_sizes
from framework_adapter.tensorflow.slicing import strided_slice  # noqa: F401


# -- elementwise, cutting and joining --------------------------------------------------------------
def add_n(c: Context, node: SourceNode, x: tuple[Value, ...], N: int) -> Value:  # noqa: N803
    """Sum of any number of tensors."""
    out = x[0]
    for other in x[1:]:
        out = c.op("add", out, other)
    return out


def concat_v2(c: Context, node: SourceNode, x: tuple[Any, ...], N: int) -> Value:  # noqa: N803
    """ConcatV2: the last operand is the axis."""
    *xs, axis = x
    return c.op("concat", *xs, axis=int(c.scalar(axis)))


def pack(c: Context, node: SourceNode, x: tuple[Value, ...], axis: int, N: int) -> Value:  # noqa: N803
    """Tensors stacked along a new axis."""
    at = counted(axis, c.rank(x[0]) + 1)
    xs = [c.op("reshape", v, shape=unsqueezed(c.shape(v), (at,))) for v in x]
    return xs[0] if len(xs) == 1 else c.op("concat", *xs, axis=at)


def split_v(
    c: Context, node: SourceNode, x: Value, size_splits: Any, split_dim: Any, num_split: int
) -> Any:
    """SplitV: one size may be -1, the rest."""
    axis = int(c.scalar(split_dim))
    sizes: list[Dim] = list(c.dims(size_splits))
    if -1 in sizes:
        known: Dim = 0
        for s in sizes:
            known = known if s == -1 else dm.add(known, s)
        sizes[sizes.index(-1)] = dm.sub(c.shape(x)[axis], known)
    return (x,) if len(sizes) == 1 else c.op("split", x, axis=axis, sizes=tuple(sizes))


def split(c: Context, node: SourceNode, split_dim: Any, x: Value, num_split: int) -> Any:
    """Split into equal parts."""
    axis = int(c.scalar(split_dim))
    part = dm.floordiv(c.shape(x)[axis], num_split)
    return (x,) if num_split == 1 else c.op("split", x, axis=axis, sizes=(part,) * num_split)


def slice_(c: Context, node: SourceNode, x: Value, offsets: Any, size: Any) -> Value:
    """Slice: ``size`` elements from ``offsets`` on each axis; -1 takes the rest."""
    return _slice_sizes(c, node, x, offsets, size)


def strided_slice_v2(
    c: Context, node: SourceNode, x: Value, begin: Any, end: Any, axes: Any, strides: Any, **_: Any
) -> Value:
    """StridedSliceV2: bounds along the axes listed."""
    return _slice_along(c, node, x, begin, end, axes, strides)


def reverse(c: Context, node: SourceNode, x: Value, axis: Any) -> Value:
    """ReverseV2: the listed axes run backwards."""
    axes = sorted(counted(int(a), c.rank(x)) for a in c.dims(axis))
    starts = tuple(dm.sub(c.shape(x)[a], 1) for a in axes)
    back = (-1,) * len(axes)
    return c.op("slice", x, axes=tuple(axes), starts=starts, ends=back, steps=back)


def pad_v3(
    c: Context, node: SourceNode, x: Value, paddings: Any, constant_values: Any = None,
    mode: str = "constant", paddings_contiguous: bool = True,
) -> Value:  # fmt: skip
    """PadV3 and Pad: pads of each axis side by side, or those before all axes first."""
    given = c.dims(paddings)
    pads = given if not paddings_contiguous else (*given[::2], *given[1::2])
    fill = 0.0
    if mode == "constant" and constant_values is not None:
        fill = float(c.scalar(constant_values))
    return c.op("pad", x, pads=pads, mode=mode, value=fill)


# -- matrix products -------------------------------------------------------------------------------
def _product(c: Context, a: Value, b: Value, bias: Value | None, flip_a: bool, flip_b: bool) -> Any:
    """``a @ b + bias`` with either side read transposed; a linear layer where it is one."""
    if flip_a:
        a = _flipped(c, a)
    if flip_b and c.rank(b) == 2 and dt.is_float(c.dtype(a)):
        return c.op("linear", a, b, bias)
    y = c.op("matmul", a, _flipped(c, b) if flip_b else b)
    return y if bias is None else c.op("add", y, bias)


def _flipped(c: Context, x: Value) -> Value:
    rank = c.rank(x)
    return c.op("transpose", x, perm=(*range(rank - 2), rank - 1, rank - 2))


def mat_mul(
    c: Context, node: SourceNode, x1: Value, x2: Value, bias: Value | None, *, transpose_x1: bool,
    transpose_x2: bool, **_: Any,
) -> Value:  # fmt: skip
    """MatMulV2."""
    return _product(c, x1, x2, bias, transpose_x1, transpose_x2)


def batch_mat_mul(
    c: Context, node: SourceNode, x1: Value, x2: Value, bias: Value | None, *, adj_x1: bool,
    adj_x2: bool, **_: Any,
) -> Value:  # fmt: skip
    """BatchMatMulV2."""
    return _product(c, x1, x2, bias, adj_x1, adj_x2)


# -- convolution and pooling -----------------------------------------------------------------------
def _split_pads(pads: Any) -> tuple[int, ...]:
    """lo and hi of each axis side by side as [lo..., hi...]."""
    return (*pads[::2], *pads[1::2])


def _spatial(values: Any, count: int) -> tuple[int, ...]:
    """The entries of an attribute that are not of batch or channels."""
    return tuple(values)[-count:] if len(values) > 1 else tuple(values) * count


def conv(
    c: Context, node: SourceNode, x: Value, filter: Value, bias: Value | None, *, strides: Any,  # noqa: A002
    pads: Any, dilations: Any, groups: int, **_: Any,
) -> Value:  # fmt: skip
    """Conv2D and Conv3D, channels first."""
    k = c.rank(x) - 2
    if bias is not None:
        bias = c.cast(bias, c.dtype(x))
    return c.op("conv", x, filter, bias, strides=_spatial(strides, k), pads=_split_pads(pads),
                dilations=_spatial(dilations, k), groups=groups)  # fmt: skip


def conv_transpose(
    c: Context, node: SourceNode, input_size: Any, x: Value, filter: Value, bias: Value | None, *,  # noqa: A002
    strides: Any, pads: Any, dilations: Any, groups: int, output_padding: Any, **_: Any,
) -> Value:  # fmt: skip
    """Conv2DTranspose and Conv3DTranspose, channels first; the attributes give the size as well."""
    k = c.rank(x) - 2
    if bias is not None:
        bias = c.cast(bias, c.dtype(x))
    return c.op("conv_transpose", x, filter, bias, strides=_spatial(strides, k),
                pads=_split_pads(pads), dilations=_spatial(dilations, k), groups=groups,
                output_padding=_spatial(output_padding, k))  # fmt: skip


def pool(
    c: Context, node: SourceNode, x: Value, *, ksize: Any, strides: Any, pads: Any,
    ceil_mode: int, exclusive: bool = True, count_include_pad: bool | None = None,
    dilation: Any = (1,), **_: Any,
) -> Value:  # fmt: skip
    """MaxPoolV3, MaxPool3D, AvgPoolV2 and AvgPool3D."""
    k = c.rank(x) - 2
    attrs: dict[str, Any] = {
        "kernel": _spatial(ksize, k), "strides": _spatial(strides, k), "pads": _split_pads(pads),
        "ceil_mode": bool(ceil_mode),
    }  # fmt: skip
    if node.op.startswith("Max"):
        return c.op("max_pool", x, dilations=_spatial(dilation, k), **attrs)
    counted_in = not exclusive if count_include_pad is None else count_include_pad
    return c.op("avg_pool", x, count_include_pad=bool(counted_in), **attrs)


_WINDOWS = {
    "conv": ("strides", "pads", "dilations"),
    "conv_transpose": ("strides", "pads", "dilations", "output_padding"),
    "max_pool": ("kernel", "strides", "pads", "dilations"),
    "avg_pool": ("kernel", "strides", "pads"),
}


def squeeze(c: Context, node: SourceNode, x: Value, axis: Any = ()) -> Value:
    """Squeeze: the axes given, else all of size 1."""
    flat = _one_axis(c, x) if tuple(axis) == (2,) and c.rank(x) == 4 else None
    return flat or c.op("reshape", x, shape=squeezed(c.shape(x), axis or None))


def _one_axis(c: Context, x: Value) -> Value | None:
    """The op over one spatial axis that was made one over two, the first of size 1."""
    made = latest_maker(c, x)
    if made is None or made.op not in _WINDOWS:
        return None
    view = latest_maker(c, made.inputs[0])
    if view is None or view.op != "reshape" or made.attrs["pads"][0] or made.attrs["pads"][2]:
        return None
    source = str(view.inputs[0])
    if c.rank(source) != 3 or unsqueezed(c.shape(source), (2,)) != c.shape(str(made.inputs[0])):
        return None
    attrs = dict(made.attrs)
    for name in _WINDOWS[made.op]:
        attrs[name] = attrs[name][1::2]
    operands: list[Any] = [source]
    if made.op.startswith("conv"):
        w = str(made.inputs[1])
        operands.append(c.op("reshape", w, shape=squeezed(c.shape(w), (2,))))
        operands += made.inputs[2:]
    return c.op(made.op, *operands, **attrs)


# -- normalisation ---------------------------------------------------------------------------------
def _statistics(c: Context, x: Value, num_groups: int, eps: float) -> tuple[Value, Value]:
    """Mean and 1/sqrt(variance + eps) of each group: [N, groups]."""
    n, channels, *sizes = c.shape(x)
    rest = dm.product((dm.floordiv(channels, num_groups), *sizes))
    g = c.op("reshape", x, shape=(n, num_groups, rest))
    mean = c.op("mean", g, axis=(-1,))
    var = c.op("mean", c.op("squared_difference", g, mean), axis=(-1,))
    rstd = c.op("rsqrt", c.op("add", var, eps))
    return tuple(c.op("reshape", v, shape=(n, num_groups)) for v in (mean, rstd))  # type: ignore[return-value]


def group_norm(
    c: Context, node: SourceNode, x: Value, gamma: Value, beta: Value, *, num_groups: int,
    eps: float, **_: Any,
) -> Any:  # fmt: skip
    """GroupNormV2 with its statistics."""
    y = c.op("group_norm", x, gamma, beta, num_groups=num_groups, epsilon=eps)
    return y, *_statistics(c, x, num_groups, eps)


def group_norm_silu(
    c: Context, node: SourceNode, x: Value, gamma: Value | None, beta: Value | None, *,
    num_groups: int, eps: float,
) -> Any:  # fmt: skip
    """GroupNormSilu with its statistics."""
    y = c.op("group_norm_silu", x, gamma, beta, num_groups=num_groups, epsilon=eps)
    return y, *_statistics(c, x, num_groups, eps)


def lstm(
    c: Context, node: SourceNode, x: Value, w: Value, r: Value, b: Value | None, *,
    initial_h: Value | None, initial_c: Value | None, direction: str, **_: Any,
) -> Any:  # fmt: skip
    """CommonLSTM in one direction: the direction's axis of its operands and results goes."""

    def plain(v: Value | None) -> Value | None:
        return None if v is None else c.op("reshape", v, shape=c.shape(v)[1:])

    bias = plain(b)
    if bias is not None:  # that of the input, then that of the state
        half = dm.floordiv(c.shape(bias)[0], 2)
        bias = c.op("add", *c.op("split", bias, axis=0, sizes=(half, half)))
    y, h, s = c.op("lstm", x, plain(w), plain(r), bias, plain(initial_h), plain(initial_c),
                   reverse=direction == "reverse")  # fmt: skip
    return (
        c.op("reshape", y, shape=unsqueezed(c.shape(y), (1,))),
        *(c.op("reshape", v, shape=unsqueezed(c.shape(v), (0,))) for v in (h, s)),
    )
