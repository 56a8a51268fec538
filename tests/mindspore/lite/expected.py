"""What MindSpore Lite's kernels compute, by NumPy and PyTorch: written from the kernels, not from our rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

Array = np.ndarray
_TYPES = {43: np.float32, 34: np.int32}


def _activated(y: Any, kind: str, alpha: float = 0.0) -> Any:
    y = torch.as_tensor(y)
    return {
        "NO_ACTIVATION": lambda: y,
        "RELU": lambda: F.relu(y),
        "RELU6": lambda: F.relu6(y),
        "LEAKY_RELU": lambda: F.leaky_relu(y, alpha),
        "ELU": lambda: F.elu(y, alpha),
        "SIGMOID": lambda: torch.sigmoid(y),
        "TANH": lambda: torch.tanh(y),
        "SWISH": lambda: F.silu(y),
        "HSWISH": lambda: F.hardswish(y),
        "HSIGMOID": lambda: F.hardsigmoid(y),
        "GELU": lambda: F.gelu(y),
        "SOFTPLUS": lambda: F.softplus(y),
    }[kind]().numpy()


def _activation(x: Array, activation_type: str, alpha: float = 0.0, **a: Any) -> Array:
    if activation_type == "HARD_TANH":
        return x.clip(a["min_val"], a["max_val"])
    if a.get("approximate"):
        return F.gelu(torch.as_tensor(x), approximate="tanh").numpy()
    return _activated(x, activation_type, alpha)


def _arithmetic(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, b, activation_type="NO_ACTIVATION": _activated(fn(a, b), activation_type)


def _first(x: Array) -> torch.Tensor:
    return torch.as_tensor(x).permute(0, 3, 1, 2)


def _last(x: torch.Tensor) -> Array:
    return x.permute(0, 2, 3, 1).numpy()


def _same(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    whole = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return whole // 2, whole - whole // 2


def _padded(
    x: torch.Tensor, a: Mapping[str, Any], key: str, kernel: Any, strides: Any, value: float = 0.0
) -> Any:
    up, down, left, right = tuple(a.get(key, ())) or (0, 0, 0, 0)
    if a.get("pad_mode") == "SAME":
        (up, down), (left, right) = (
            _same(x.shape[2 + i], kernel[i], strides[i], a.get("dilation", (1, 1))[i])
            for i in (0, 1)
        )
    return F.pad(x, (left, right, up, down), value=value)


def _conv(x: Array, w: Array, b: Array | None = None, **a: Any) -> Array:
    kernel = _first(w)
    wide = _padded(_first(x), a, "pad_list", kernel.shape[2:], a["stride"])
    bias = None if b is None else torch.as_tensor(b)
    y = F.conv2d(wide, kernel, bias, a["stride"], 0, a.get("dilation", 1), a.get("group", 1))
    return _activated(_last(y), a.get("activation_type", "NO_ACTIVATION"))


def _conv_transpose(
    x: Array, w: Array, b: Array, stride: Any, pad_list: Any, output_paddings: Any, **_: Any
) -> Array:
    pads = (pad_list[0], pad_list[2])
    return _last(
        F.conv_transpose2d(_first(x), _first(w), torch.as_tensor(b), stride, pads, output_paddings)
    )


def _pool(average: bool) -> Callable[..., Any]:
    def run(
        x: Array, kernel_size: Any = None, strides: Any = None, global_: bool = False, **a: Any
    ) -> Array:
        if global_:
            return (x.mean if average else x.max)((1, 2), keepdims=True)
        image, ceil = _first(x), a.get("round_mode") == "CEIL"
        lowest = _padded(image, a, "pad", kernel_size, strides, -np.inf)
        if not average:
            return _last(F.max_pool2d(lowest, kernel_size, strides, ceil_mode=ceil))
        wide = _padded(image, a, "pad", kernel_size, strides)
        real = _padded(torch.ones_like(image), a, "pad", kernel_size, strides)
        total, count = (
            F.avg_pool2d(v, kernel_size, strides, ceil_mode=ceil, divisor_override=1)
            for v in (wide, real)
        )
        return _last(total / count)

    return run


def _resize(
    x: Array, size: Any, method: str, coordinate_transform_mode: str = "ASYMMETRIC"
) -> Array:
    if isinstance(size[0], float):
        size = [int(d * s) for d, s in zip(x.shape[1:3], size)]
    if method == "NEAREST":
        return _last(F.interpolate(_first(x), tuple(size)))
    corners = coordinate_transform_mode == "ALIGN_CORNERS"
    return _last(F.interpolate(_first(x), tuple(size), mode="bilinear", align_corners=corners))


def _matmul(a: Array, b: Array, bias: Any = 0, transpose_a: bool = False, transpose_b: bool = False,
            activation_type: str = "NO_ACTIVATION") -> Array:  # fmt: skip
    left, right = (v.swapaxes(-1, -2) if t else v for v, t in ((a, transpose_a), (b, transpose_b)))
    return _activated(left @ right + bias, activation_type)


def _full(
    x: Array, w: Array, bias: Any = 0, use_axis: bool = False, axis: int = 1, **_: Any
) -> Array:
    return x.reshape(*x.shape[: axis if use_axis else -1], -1) @ w.T + bias


def _norm(x: Array, mean: Any, var: Any, eps: float) -> Array:
    return (x - mean) / np.sqrt(var + eps)


def _instance_norm(x: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    mean, var = (fn((1, 2), keepdims=True) for fn in (x.mean, x.var))
    return _norm(x, mean, var, epsilon) * scale + bias


def _lstm(
    x: Array,
    w: Array,
    r: Array,
    b: Array,
    h: Array,
    c: Array,
    bidirectional: bool = False,
    **_: Any,
) -> Any:
    """PyTorch's gates are i f g o; the kernel's are i o f g."""
    hidden, runs = r.shape[2], 1 + bidirectional
    net = torch.nn.LSTM(x.shape[2], hidden, bidirectional=bidirectional)
    order = [0, 2, 3, 1]

    def turned(v: Array) -> torch.Tensor:
        return torch.as_tensor(v).reshape(4, hidden, -1)[order].reshape(4 * hidden, -1)

    with torch.no_grad():
        for d, suffix in zip(range(runs), ("", "_reverse")):
            getattr(net, f"weight_ih_l0{suffix}").copy_(turned(w[d]))
            getattr(net, f"weight_hh_l0{suffix}").copy_(turned(r[d]))
            for name, half in (("bias_ih", b[d][: 4 * hidden]), ("bias_hh", b[d][4 * hidden :])):
                getattr(net, f"{name}_l0{suffix}").copy_(turned(half)[:, 0])
        y, (last, cell) = net(torch.as_tensor(x), (torch.as_tensor(h), torch.as_tensor(c)))
    y = y.reshape(*y.shape[:2], runs, hidden).permute(0, 2, 1, 3)
    return [v.numpy() for v in (y, last, cell)]


def _reduce(
    x: Array,
    axes: Any,
    mode: str,
    keep_dims: bool = False,
    reduce_to_end: bool = False,
    coeff: float = 1,
) -> Any:
    over = tuple(range(axes[0], x.ndim)) if reduce_to_end else tuple(axes)
    fn = {
        "ReduceMean": np.mean, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min, "ReduceProd": np.prod,
        "ReduceSumSquare": lambda v, **k: np.sum(v * v, **k), "ReduceASum": lambda v, **k: np.abs(v).sum(**k),
        "ReduceL2": lambda v, **k: np.sqrt(np.sum(v * v, **k)),
    }[mode]  # fmt: skip
    return coeff * fn(x, axis=over, keepdims=keep_dims)


def _index(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis, top_k, keep_dims=False: fn(x, axis=axis, keepdims=keep_dims)


def _cumsum(x: Array, axis: Any, exclusive: bool = False, reverse: bool = False) -> Array:
    at = axis[0]
    turned = np.flip(x, at) if reverse else x
    y = turned.cumsum(at) - (turned if exclusive else 0)
    return np.flip(y, at) if reverse else y


def _top(x: Array, k: Any, axis: int, largest: int = 0) -> Any:
    values, indices = torch.topk(torch.as_tensor(x), k[0], axis, largest=bool(largest))
    return [values.numpy(), indices.numpy()]


def _split(x: Array, output_num: int, size_splits: Any = (), axis: int = 0) -> Any:
    sizes = [
        x.shape[axis] - sum(s for s in size_splits if s > 0) if s < 0 else s for s in size_splits
    ]
    return np.split(x, np.cumsum(sizes)[:-1] if sizes else output_num, axis)


def _strided(
    x: Array, begin: Any, end: Any, steps: Any, end_mask: int = 0, shrink_axis_mask: int = 0
) -> Array:
    index = tuple(
        b if shrink_axis_mask >> i & 1 else slice(b, None if end_mask >> i & 1 else e, s)
        for i, (b, e, s) in enumerate(zip(begin, end, steps))
    )
    return x[index]


def _slice(x: Array, begin: Any, size: Any, axes: Any) -> Array:
    index = [slice(None)] * x.ndim
    for a, b, s in zip(axes, begin, size):
        index[a] = slice(b, None if s < 0 else b + s)
    return x[tuple(index)]


def _pad(
    x: Array, paddings: Any, padding_mode: str = "CONSTANT", constant_value: float = 0
) -> Array:
    if padding_mode == "REFLECT":
        return np.pad(x, paddings, mode="reflect")
    return np.pad(x, paddings, constant_values=constant_value)


def _range(*args: int, start: int = 0, limit: int = 0, delta: int = 1) -> Array:
    return np.arange(*(args if len(args) == 3 else (start, limit, delta)), dtype=np.int32)


def _scatter(add: bool) -> Callable[..., Any]:
    def run(x: Array, indices: Array, updates: Array) -> Array:
        y, at = x.copy(), tuple(np.moveaxis(indices, -1, 0))
        if add:
            np.add.at(y, at, updates)
        else:
            y[at] = updates
        return y

    return run


def _one_hot(indices: Array, depth: int, values: Array, off: Any = None, axis: int = -1) -> Array:
    low, high = (values[0], values[1]) if off is None else (off[0], values[0])
    y = np.where(np.arange(depth) == indices[..., None], high, low)
    return np.moveaxis(y, -1, axis)


def _depth_to_space(x: Array, block_size: int, mode: str = "DCR") -> Array:
    n, h, w, c = x.shape
    s = block_size
    if mode == "DCR":
        y = x.reshape(n, h, w, s, s, c // s**2).transpose(0, 1, 3, 2, 4, 5)
    else:
        y = x.reshape(n, h, w, c // s**2, s, s).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(n, h * s, w * s, c // s**2)


def _space_to_depth(x: Array, block_size: int) -> Array:
    n, h, w, c = x.shape
    s = block_size
    y = x.reshape(n, h // s, s, w // s, s, c).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, h // s, w // s, s * s * c)


def _where(cond: Array, x: Any = None, y: Any = None) -> Array:
    return np.argwhere(cond) if x is None else np.where(cond, x, y)


def _exp(x: Array, base: float = -1, scale: float = 1, shift: float = 0) -> Array:
    return np.power(np.e if base == -1 else base, scale * x + shift)


EXPECTED: Mapping[str, Callable[..., Any]] = {
    "Abs": np.abs, "Neg": np.negative, "Sqrt": np.sqrt, "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Reciprocal": lambda x: 1 / x, "Square": np.square, "Sin": np.sin, "Cos": np.cos, "Log": np.log,
    "Log1p": np.log1p, "Erf": lambda x: torch.erf(torch.as_tensor(x)).numpy(), "Floor": np.floor,
    "Ceil": np.ceil, "Round": np.round, "ExpFusion": _exp,
    "PowFusion": lambda x, e, scale=1, shift=0: np.power(x * scale + shift, e),
    "AddFusion": _arithmetic(np.add), "SubFusion": _arithmetic(np.subtract),
    "MulFusion": _arithmetic(np.multiply), "DivFusion": _arithmetic(np.divide), "RealDiv": np.divide,
    "AddN": lambda *xs: sum(xs),
    "Eltwise": lambda a, b, mode="PROD": {"PROD": a * b, "SUM": a + b, "MAXIMUM": np.maximum(a, b)}[mode],
    "FloorDiv": np.floor_divide, "FloorMod": np.mod, "Mod": np.fmod, "Maximum": np.maximum,
    "Minimum": np.minimum, "SquaredDifference": lambda a, b: (a - b) ** 2, "Equal": np.equal,
    "NotEqual": np.not_equal, "Less": np.less, "LessEqual": np.less_equal, "Greater": np.greater,
    "GreaterEqual": np.greater_equal, "LogicalAnd": np.logical_and, "LogicalOr": np.logical_or,
    "LogicalNot": np.logical_not, "Where": _where, "Select": np.where,
    "Cast": lambda x, dtype: x.astype(dtype), "Clip": lambda x, min, max: x.clip(min, max),
    "Activation": _activation,
    "PReLUFusion": lambda x, slope, channel_shared=False: np.where(x > 0, x, x * slope),
    "Softmax": lambda x, axis: torch.softmax(torch.as_tensor(x), axis[0]).numpy(),
    "LogSoftmax": lambda x, axis: torch.log_softmax(torch.as_tensor(x), axis).numpy(),
    "ReduceFusion": _reduce, "ArgMaxFusion": _index(np.argmax), "ArgMinFusion": _index(np.argmin),
    "CumSum": _cumsum, "TopKFusion": _top, "Conv2DFusion": _conv, "Conv2dTransposeFusion": _conv_transpose,
    "AvgPoolFusion": _pool(True), "MaxPoolFusion": _pool(False), "Resize": _resize, "MatMulFusion": _matmul,
    "FullConnection": _full, "BiasAdd": np.add,
    "ScaleFusion": lambda x, f, s=np.float32(0), axis=0: x * _along(x, f, axis) + _along(x, s, axis),
    "LayerNormFusion": lambda x, g, b, epsilon=1e-5, **_: _norm(
        x, x.mean(-1, keepdims=True), x.var(-1, keepdims=True), epsilon) * g + b,
    "InstanceNorm": _instance_norm, "BatchNorm": lambda x, m, v, epsilon: _norm(x, m, v, epsilon),
    "FusedBatchNorm": lambda x, g, b, m, v, epsilon: _norm(x, m, v, epsilon) * g + b, "LSTM": _lstm,
    "Reshape": lambda x, shape: x.reshape([d or x.shape[i] for i, d in enumerate(shape)]),
    "Transpose": np.transpose, "Flatten": lambda x: x.reshape(len(x), -1),
    "Concat": lambda *xs, axis=0: np.concatenate(xs, axis), "Stack": lambda *xs, axis=0: np.stack(xs, axis),
    "Unstack": lambda x, axis: [v.squeeze(axis) for v in np.split(x, x.shape[axis], axis)], "Split": _split,
    "StridedSlice": _strided, "SliceFusion": _slice, "ReverseV2": lambda x, axis: np.flip(x, axis),
    "ExpandDims": np.expand_dims, "Unsqueeze": lambda x, axis: np.expand_dims(x, tuple(axis)),
    "Squeeze": lambda x, axis=None: np.squeeze(x, axis and tuple(axis)),
    "TileFusion": lambda x, multiples, dims: np.tile(x, multiples),
    "BroadcastTo": lambda x, dims=None, shape=None: np.broadcast_to(x, shape or dims), "PadFusion": _pad,
    "Shape": lambda x: np.array(x.shape), "Range": _range, "Fill": lambda v, shape: np.full(shape, v[0]),
    "ConstantOfShape": lambda shape, data_type, value: np.full(shape, value[0], _TYPES[data_type]),
    "Gather": lambda x, i, axis: np.take(x, i, axis[0]),
    "GatherNd": lambda x, i: x[tuple(np.moveaxis(i, -1, 0))],
    "GatherD": lambda x, dim, i: np.take_along_axis(x, i, dim[0]), "ScatterNdUpdate": _scatter(False),
    "TensorScatterAdd": _scatter(True), "OneHot": _one_hot, "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}  # fmt: skip


def _along(x: Array, v: Array, axis: int) -> Array:
    return v.reshape(*v.shape, *[1] * (x.ndim - axis % x.ndim - v.ndim))


def run(op: str, args: Sequence[Any], attrs: Mapping[str, Any]) -> list[Array]:
    """Results of an op; floats are float32."""
    found = EXPECTED[op](*args, **attrs)
    made = found if isinstance(found, list) else [found]
    return [np.asarray(v, np.float32 if np.asarray(v).dtype.kind == "f" else None) for v in made]
