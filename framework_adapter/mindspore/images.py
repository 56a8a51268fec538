"""Handlers of image ops: padding, transposed convolution, pooling and resizing to a size."""

from __future__ import annotations

from typing import Any

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.context import Context
from framework_adapter.source import SourceNode


def pad(
    c: Context,
    node: SourceNode,
    x: str,
    paddings: Any,
    value: Any = None,
    mode: str = "constant",
    paddings_contiguous: bool = True,
) -> Any:
    """``paddings`` speaks of the last axes first: (last lo, last hi, next lo, ...)."""
    flat, rank = c.dims(paddings), c.rank(x)
    if not paddings_contiguous:
        half = len(flat) // 2
        flat = tuple(d for pair in zip(flat[:half], flat[half:]) for d in pair)
    lo: list[Dim] = [0] * rank
    hi: list[Dim] = [0] * rank
    for i in range(len(flat) // 2):
        lo[rank - 1 - i], hi[rank - 1 - i] = flat[2 * i], flat[2 * i + 1]
    if any(isinstance(d, int) and d < 0 for d in (*lo, *hi)):
        raise c.refuse("a negative padding", "crop with a slice")
    fill = 0.0 if value is None else float(c.scalar(value))
    if mode not in ("constant", "reflect", "edge"):
        raise c.refuse(f"padding mode {mode!r}", "use constant, reflect or edge")
    return c.op("pad", x, pads=(*lo, *hi), mode=mode, value=fill)


def pad_reflect(c: Context, node: SourceNode, x: str, paddings: Any) -> Any:
    """Padding that mirrors, last axis first."""
    return pad(c, node, x, paddings, mode="reflect")


def pad_edge(c: Context, node: SourceNode, x: str, paddings: Any) -> Any:
    """Padding that repeats the edge, last axis first."""
    return pad(c, node, x, paddings, mode="edge")


def mirror_pad(c: Context, node: SourceNode, x: str, paddings: Any, mode: str) -> Any:
    """Padding that mirrors, a pair (lo, hi) for each axis."""
    flat = c.dims(paddings)
    return c.op("pad", x, pads=(*flat[::2], *flat[1::2]), mode="reflect")


def pad_pairs(c: Context, node: SourceNode, x: str, paddings: Any) -> Any:
    """Zero padding, a pair (lo, hi) for each axis."""
    flat = c.dims(paddings)
    return c.op("pad", x, pads=(*flat[::2], *flat[1::2]))


def conv_transpose(
    c: Context,
    node: SourceNode,
    x: str,
    weight: str,
    size: Any,
    stride: Any,
    dilation: Any,
    pad: Any,
    pad_mode: str,
    group: int,
    **_: Any,
) -> Any:
    """Transposed convolution to a given result shape; settings cover all axes."""
    strides, dilations = stride[2:], dilation[2:]
    given = pad_mode.lower() == "pad"
    lo, hi, extra = [], [], []
    for i, (n, k, want) in enumerate(zip(c.shape(x)[2:], c.shape(weight)[2:], c.dims(size)[2:])):
        full = dm.add(
            dm.mul(dm.sub(n, 1), strides[i]), dm.add(dm.mul(dm.sub(k, 1), dilations[i]), 1)
        )
        total = pad[2 * i] + pad[2 * i + 1] if given or want == -1 else dm.sub(full, want)
        more = 0 if want == -1 else dm.sub(want, dm.sub(full, total))
        if not isinstance(total, int) or not isinstance(more, int) or more < 0:
            raise c.refuse(
                f"result size {want} for input size {n}", "give height and width a fixed size"
            )
        lo.append(pad[2 * i] if given else max(total, 0) // 2)
        hi.append(pad[2 * i + 1] if given else max(total, 0) - lo[-1])
        extra.append(more + max(-total, 0))
    return c.op(
        "conv_transpose", x, weight, strides=strides, pads=(*lo, *hi), dilations=dilations,
        groups=group, output_padding=tuple(extra),
    )  # fmt: skip


def conv3d_transpose(
    c: Context,
    node: SourceNode,
    x: str,
    weight: str,
    strides: Any,
    dilations: Any,
    pad: Any,
    input_size: Any,
    **rest: Any,
) -> Any:
    """The same with three spatial axes; the result shape is an attribute."""
    return conv_transpose(c, node, x, weight, input_size, strides, dilations, pad, **rest)


def _adaptive(c: Context, x: str, output_size: Any) -> tuple[int, ...] | None:
    """Kernel of an adaptive pooling; None for a pooling over everything."""
    have = c.shape(x)[2:]
    want = output_size if isinstance(output_size, tuple) else (output_size,) * len(have)
    want = tuple(h if w is None or w == -1 else w for w, h in zip(want, have, strict=True))
    if all(w == 1 for w in want):
        return None
    kernel = [dm.floordiv(h, w) for w, h in zip(want, have) if dm.divides(w, h)]
    if len(kernel) != len(have) or not all(isinstance(k, int) for k in kernel):
        raise c.refuse(f"pooling {have} to {want}", "use an output size that divides the input's")
    return tuple(int(k) for k in kernel)


def adaptive_avg_pool(c: Context, node: SourceNode, x: str, output_size: Any) -> Any:
    """Average pooling to a given size, which must divide the input's."""
    kernel = _adaptive(c, x, output_size)
    if kernel is None:
        return c.op("mean", x, axis=tuple(range(2 - c.rank(x), 0)), keepdims=True)
    return c.op("avg_pool", x, kernel=kernel, strides=kernel, pads=(0,) * (2 * len(kernel)))


def adaptive_max_pool(c: Context, node: SourceNode, x: str, output_size: Any) -> Any:
    """Max pooling to a given size, which must divide the input's; without the places."""
    kernel = _adaptive(c, x, output_size)
    if kernel is None:
        return c.op("amax", x, axis=tuple(range(2 - c.rank(x), 0)), keepdims=True), None
    ones = (1,) * len(kernel)
    pads = (0,) * (2 * len(kernel))
    y = c.op("max_pool", x, kernel=kernel, strides=kernel, pads=pads, dilations=ones)
    return y, None


def _target(c: Context, x: str, output_size: Any, scales: Any) -> tuple[Dim, ...]:
    if output_size is not None:
        return c.dims(output_size)
    out = []
    for n, s in zip(c.shape(x)[2:], scales, strict=True):
        whole = float(s).is_integer()
        if not whole and (isinstance(n, str) or not (n * s).is_integer()):
            raise c.refuse(f"size {n} times {s} is no whole number", "give size instead of a scale")
        out.append(dm.mul(n, int(s)) if whole else int(n * s))
    return tuple(out)


def upsample_nearest(
    c: Context, node: SourceNode, x: str, output_size: Any = None, scales: Any = None
) -> Any:
    """Nearest neighbour to a size or by scales."""
    return c.op("resize", x, sizes=_target(c, x, output_size, scales))


def upsample_linear(
    c: Context,
    node: SourceNode,
    x: str,
    output_size: Any = None,
    scales: Any = None,
    align_corners: bool = False,
) -> Any:
    """Linear interpolation to a size or by scales."""
    how = "align_corners" if align_corners else "half_pixel"
    return c.op(
        "resize", x, sizes=_target(c, x, output_size, scales), mode="linear", coordinates=how
    )


def lrn(
    c: Context,
    node: SourceNode,
    x: str,
    depth_radius: int,
    bias: float,
    alpha: float,
    beta: float,
    norm_region: str,
) -> Any:
    """x / (bias + alpha * sum of squares over 2 * depth_radius + 1 channels) ** beta."""
    n, rank = c.shape(x)[1], c.rank(x)
    lo = tuple(depth_radius if axis == 1 else 0 for axis in range(rank))
    wide = c.op("pad", c.op("square", x), pads=(*lo, *lo))
    total = None
    for i in range(2 * depth_radius + 1):
        ends = (dm.add(n, i),)
        part = c.op("slice", wide, axes=(1,), starts=(i,), ends=ends, steps=(1,))
        total = part if total is None else c.op("add", total, part)
    scale = c.op("add", c.op("mul", total, alpha), bias)
    return c.op("div", x, c.op("pow", scale, beta))
