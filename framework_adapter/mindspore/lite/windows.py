"""Emission handlers of convolution and pooling, for channels-last images.

One spatial axis is the width of an image of height 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.mindspore.lite.dims import made
from framework_adapter.mindspore.lite.neighbours import absorbed, operand, result, settle
from framework_adapter.target import Scope

Ints = tuple[int, ...]


def image(s: Scope, x: str) -> tuple[str, bool]:
    """[N, *S, C] as [N, H, W, C]: a single spatial axis is the width of rows of height 1."""
    t = operand(s, 0)
    if t.rank == 4:
        return x, False
    n, width, c = t.shape
    return made(s, s.op("Unsqueeze", x, axis=(1,)), (n, 1, width, c)), True


def flattened(s: Scope, y: str, flat: bool) -> str:
    """The result of an image op without the height that ``image`` added."""
    if not flat:
        return y
    n, width, c = result(s).shape
    return str(s.op("Squeeze", made(s, y, (n, 1, width, c)), axis=(1,)))


def _two(values: Ints, flat: bool, fill: int = 1) -> Ints:
    return (fill, *values) if flat else tuple(values)


def _pads(pads: Ints, flat: bool) -> Ints:
    """Up, down, left, right from the low pads and the high ones."""
    k = len(pads) // 2
    low, high = _two(pads[:k], flat, 0), _two(pads[k:], flat, 0)
    return low[0], high[0], low[1], high[1]


def _kernel_last(s: Scope, w: str, flat: bool) -> str:
    """A weight [O, I, *k] as [O, kh, kw, I], turned when the file is written."""
    shape = operand(s, 1).shape
    data = s.known(w)
    if data is not None:
        key = ("khwc", w)
        if key not in s.memo:
            image = data[:, :, None] if flat else data
            s.memo[key] = s.const(np.ascontiguousarray(image.transpose(0, 2, 3, 1)), f"{w}.khwc")
        return s.memo[key]
    if flat:
        shape = (*shape[:2], 1, *shape[2:])
        w = made(s, s.op("Unsqueeze", w, axis=(2,)), shape)
    o, i, *kernel = shape
    return made(s, s.op("Transpose", w, (0, 2, 3, 1)), (o, *kernel, i))


def conv(
    s: Scope, x: str, w: str, b: str | None = None, *, strides: Ints, pads: Ints, dilations: Ints,
    groups: int,
) -> Any:  # fmt: skip
    """Conv2DFusion with the activation that follows."""
    activation, user = absorbed(s)
    o, i, *kernel = operand(s, 1).shape
    x, flat = image(s, x)
    y = s.op(
        "Conv2DFusion", x, _kernel_last(s, w, flat), b, format="NHWC",
        kernel_size=_two(tuple(kernel), flat), stride=_two(strides, flat),  # type: ignore[arg-type]
        dilation=_two(dilations, flat), pad_mode="PAD", pad_list=_pads(pads, flat), group=groups,
        in_channel=dm.mul(i, groups), out_channel=o, activation_type=activation,
    )  # fmt: skip
    return settle(s, flattened(s, y, flat), user)


def conv_transpose(
    s: Scope, x: str, w: str, b: str | None = None, *, strides: Ints, pads: Ints, dilations: Ints,
    groups: int, output_padding: Ints,
) -> Any:  # fmt: skip
    """Conv2dTransposeFusion; groups that are neither one nor depthwise are nodes of their own."""
    activation, user = absorbed(s)
    c, o, *kernel = (int(d) for d in operand(s, 1).shape)
    x, flat = image(s, x)
    w = _kernel_last(s, w, flat)
    parts = groups if groups > 1 and not c == groups == groups * o else 1
    attrs: dict[str, Any] = {
        "format": "NHWC", "kernel_size": _two(tuple(kernel), flat), "stride": _two(strides, flat),
        "dilation": _two(dilations, flat), "pad_mode": "PAD", "pad_list": _pads(pads, flat),
        "group": groups // parts, "in_channel": c // parts, "out_channel": o * groups // parts,
        "activation_type": activation, "output_paddings": _two(output_padding, flat, 0),
    }  # fmt: skip
    if parts == 1:
        return settle(s, flattened(s, s.op("Conv2dTransposeFusion", x, w, b, **attrs), flat), user)
    lead = s.types[x].shape[:3]
    out = list(result(s).shape)
    if flat:
        out.insert(1, 1)
    pieces = []
    xs = _cut(s, x, [(*lead, c // parts)] * parts, 3)
    ws = _cut(s, w, [(c // parts, *_two(tuple(kernel), flat), o)] * parts, 0)
    bs = _cut(s, b, [(o,)] * parts, 0) if b is not None else [None] * parts
    for xi, wi, bi in zip(xs, ws, bs):
        y = s.op("Conv2dTransposeFusion", xi, wi, bi, **attrs)
        pieces.append(made(s, y, (*out[:3], o)))
    return settle(s, flattened(s, s.op("Concat", *pieces, axis=3), flat), user)


def _cut(s: Scope, v: str, shapes: Sequence[Sequence[Dim]], axis: int) -> list[str]:
    data = s.known(v)
    if data is not None:
        return [
            s.const(p.copy(), f"{v}.{i}") for i, p in enumerate(np.split(data, len(shapes), axis))
        ]
    sizes = tuple(int(t[axis]) for t in shapes)
    outs = s.op(
        "Split", v, results=len(shapes), output_num=len(shapes), size_splits=sizes, axis=axis
    )
    return [made(s, o, t) for o, t in zip(outs, shapes)]


def _rounds_up(s: Scope, kernel: Ints, strides: Ints, pads: Ints, ceil: bool) -> tuple[Ints, bool]:
    """Pads and whether sizes round up as the runtime does it: it also counts a window that would
    start in the high padding, which ours leaves out. Known sizes need no rounding: the high pads
    say where the last window ends.
    """
    if not ceil:
        return pads, False
    k = len(kernel)
    high = list(pads[k:])
    exact = True
    for i in range(k):
        n, m = operand(s, 0).shape[1 + i], result(s).shape[1 + i]
        span = dm.add(n, pads[i] + pads[k + i] - kernel[i])
        rounded = dm.add(dm.floordiv(dm.add(span, strides[i] - 1), strides[i]), 1)
        if rounded != m:
            exact = False
        if isinstance(n, int) and isinstance(m, int):
            high[i] = max((m - 1) * strides[i] + kernel[i] - n - pads[i], 0)
    return (pads, True) if exact else ((*pads[:k], *high), False)


def max_pool(
    s: Scope, x: str, *, kernel: Ints, strides: Ints, pads: Ints, dilations: Ints, ceil_mode: bool
) -> str:
    """MaxPoolFusion."""
    return _pool(s, "MaxPoolFusion", x, kernel, strides, pads, ceil_mode)


def avg_pool(
    s: Scope, x: str, *, kernel: Ints, strides: Ints, pads: Ints, ceil_mode: bool,
    count_include_pad: bool,
) -> str:  # fmt: skip
    """AvgPoolFusion, which counts elements inside its input: counted padding is part of that."""
    if not count_include_pad or not any(pads):
        return _pool(s, "AvgPoolFusion", x, kernel, strides, pads, ceil_mode)
    k = len(kernel)
    pairs = [0, 0, *(p for i in range(k) for p in (pads[i], pads[k + i])), 0, 0]
    table = s.const(np.array(pairs, np.int64).reshape(k + 2, 2))
    shape = operand(s, 0).shape
    wide = (shape[0], *(dm.add(shape[1 + i], pads[i] + pads[k + i]) for i in range(k)), shape[-1])
    x = made(s, s.op("PadFusion", x, table, padding_mode="CONSTANT", constant_value=0.0), wide)
    return _pool(s, "AvgPoolFusion", x, kernel, strides, pads, ceil_mode, padded=True)


def _pool(
    s: Scope, op: str, x: str, kernel: Ints, strides: Ints, pads: Ints, ceil: bool,
    padded: bool = False,
) -> str:  # fmt: skip
    stated = pads
    pads, up = _rounds_up(s, kernel, strides, pads, ceil)
    if padded:  # only what exceeds the padding that x has
        pads = tuple(p - q for p, q in zip(pads, stated))
    if operand(s, 0).rank == 3:
        n, width, c = s.types[x].shape
        x = made(s, s.op("Unsqueeze", x, axis=(1,)), (n, 1, width, c))
    flat = operand(s, 0).rank == 3
    y = s.op(
        op, x, kernel_size=_two(kernel, flat), strides=_two(strides, flat), pad=_pads(pads, flat),
        pad_mode="PAD", round_mode="CEIL" if up else "FLOOR", format="NHWC",
        activation_type="NO_ACTIVATION",
    )  # fmt: skip
    return flattened(s, y, flat)
