"""What GE's operators are documented to compute, written out in NumPy, independent of the IR.

``REFERENCE`` is operator -> ``function(*operands, **attributes) -> array(s)``; it tests the rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from cir import dtype as dt

Array = Any

_erf = np.vectorize(math.erf)


def _axes(a: Any) -> tuple[int, ...]:
    return tuple(np.atleast_1d(a).tolist())


def _reduced(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, keep_dims=False: fn(x, axis=_axes(axes), keepdims=keep_dims)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.log1p(np.exp(x))


def _gelu(x: Array, approximate: str = "none") -> Array:
    if approximate == "none":
        return x * (1 + _erf(x / math.sqrt(2))) / 2
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def _swi_glu(x: Array, dim: int = -1) -> Array:
    a, b = np.split(x, 2, dim)
    return a * _sigmoid(a) * b


def _ge_glu(x: Array, dim: int = -1, approximate: int = 1, activate_left: bool = False) -> Any:
    halves = np.split(x, 2, dim)
    other, gate = halves[::-1] if activate_left else halves
    g = _gelu(gate, "tanh" if approximate else "none")
    return other * g, g


def _softmax(x: Array, axes: Any = (-1,)) -> Array:
    e = np.exp(x)
    return e / e.sum(axis=tuple(axes), keepdims=True)


def _product(flip: str) -> Callable[..., Any]:
    def run(a: Array, b: Array, bias: Any = 0.0, **attrs: bool) -> Array:
        a = np.swapaxes(a, -1, -2) if attrs.get(f"{flip}_x1") else a
        b = np.swapaxes(b, -1, -2) if attrs.get(f"{flip}_x2") else b
        return a @ b + bias

    return run


def _at(place: Any) -> tuple[Any, ...]:
    """Index of the last axes."""
    return (..., *place)


# -- images: every element by its definition -------------------------------------------------------
def _windows(
    x: Array, kernel: Any, strides: Any, pads: Any, dilations: Any, ceil: bool = False
) -> Any:
    """(place, input places of its window) for every place of the result."""
    counts = []
    for i, (k, s, d) in enumerate(zip(kernel, strides, dilations)):
        room = x.shape[2 + i] + pads[2 * i] + pads[2 * i + 1] - d * (k - 1) - 1
        counts.append((-(-room // s) if ceil else room // s) + 1)
    for place in itertools.product(*map(range, counts)):
        taps = []
        for tap in itertools.product(*map(range, kernel)):
            at = [p * s - pads[2 * i] + t * d for i, (p, s, t, d) in
                  enumerate(zip(place, strides, tap, dilations))]  # fmt: skip
            if all(0 <= a < n for a, n in zip(at, x.shape[2:])):
                taps.append((tap, tuple(at)))
        yield place, taps


def _filled(results: dict[tuple[int, ...], Any]) -> Array:
    """Results [N, C] by place as [N, C, *places]."""
    size = tuple(1 + max(p[i] for p in results) for i in range(len(next(iter(results)))))
    first = next(iter(results.values()))
    out = np.zeros((*first.shape, *size))
    for place, value in results.items():
        out[_at(place)] = value
    return out


def _conv(x: Array, w: Array, bias: Any = None, *, strides: Any, pads: Any, dilations: Any,
          groups: int = 1, **_: Any) -> Array:  # fmt: skip
    each, per = w.shape[1], w.shape[0] // groups
    results = {}
    for place, taps in _windows(x, w.shape[2:], strides[2:], pads, dilations[2:]):
        y = np.zeros((x.shape[0], w.shape[0]))
        for o in range(w.shape[0]):
            lo = o // per * each
            for tap, at in taps:
                y[:, o] += x[:, lo : lo + each][_at(at)] @ w[o][_at(tap)]
        results[place] = y + (0 if bias is None else bias)
    return _filled(results)


def _conv_transpose(size: Any, x: Array, w: Array, bias: Any = None, *, strides: Any, pads: Any,
                    dilations: Any, **_: Any) -> Array:  # fmt: skip
    out = np.zeros(size)
    for place in itertools.product(*map(range, x.shape[2:])):
        for tap in itertools.product(*map(range, w.shape[2:])):
            at = [p * s + t * d - lo for p, s, t, d, lo in
                  zip(place, strides[2:], tap, dilations[2:], pads[::2])]  # fmt: skip
            if all(0 <= a < n for a, n in zip(at, size[2:])):
                out[_at(at)] += x[_at(place)] @ w[_at(tap)]
    return out if bias is None else out + bias.reshape(-1, *[1] * (x.ndim - 2))


def _pool(x: Array, *, ksize: Any, strides: Any, pads: Any, combine: Any, ceil_mode: Any = False,
          whole: bool = False, **_: Any) -> Array:  # fmt: skip
    count = math.prod(ksize)
    ones = (1,) * (x.ndim - 2)
    found = {}
    for place, taps in _windows(x, ksize[2:], strides[2:], pads, ones, bool(ceil_mode)):
        values = np.stack([x[_at(at)] for _, at in taps])
        found[place] = values.sum(0) / count if whole else combine(values, axis=0)
    return _filled(found)


def _resize(x: Array, size: Any, mode: str, align_corners: bool = False,
            half_pixel_centers: bool = False) -> Array:  # fmt: skip
    for axis, m in enumerate(size, 2):
        n = x.shape[axis]
        i = np.arange(m)
        at = i * n / m
        if align_corners:
            at = i * (n - 1) / (m - 1)
        elif half_pixel_centers:
            at = (i + 0.5) * n / m - (0.5 if mode == "linear" else 0)
        if mode == "nearest":
            at = np.floor(at + 0.5) if align_corners else np.floor(at)
            x = np.take(x, np.clip(at, 0, n - 1).astype(int), axis)
            continue
        lo = np.floor(at).astype(int)
        share = (at - lo).reshape(-1, *[1] * (x.ndim - 1 - axis))
        low, high = (np.take(x, np.clip(lo + k, 0, n - 1), axis) for k in (0, 1))
        x = low * (1 - share) + high * share
    return x


def _cubic(x: Array, _roi: Any, _scales: Any, sizes: Any, mode: str = "cubic") -> Array:
    a = -0.75
    for axis in range(2, x.ndim):
        n, m = x.shape[axis], sizes[axis]
        table = np.zeros((m, n))
        for i in range(m):
            at = (i + 0.5) * n / m - 0.5
            for k in range(math.floor(at) - 1, math.floor(at) + 3):
                d = abs(at - k)
                near = (a + 2) * d**3 - (a + 3) * d**2 + 1
                far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
                table[i, min(max(k, 0), n - 1)] += near if d <= 1 else far
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ table.T, -1, axis)
    return x


# -- normalisation and recurrence ------------------------------------------------------------------
def _layer_norm(x: Array, gamma: Any = 1.0, beta: Any = 0.0, *, axes: Any, epsilon: float,
                rstd: bool) -> Any:  # fmt: skip
    m, v = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    r = 1 / np.sqrt(v + epsilon)
    return (x - m) * r * gamma + beta, m, r if rstd else v


def _rms_norm(x: Array, gamma: Array, epsilon: float = 1e-6) -> Any:
    r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)
    return x * r * gamma, r


def _group_norm(x: Array, gamma: Any = 1.0, beta: Any = 0.0, *, num_groups: int, eps: float = 1e-4,
                silu: bool = False, **_: Any) -> Any:  # fmt: skip
    g = x.reshape(x.shape[0], num_groups, -1)
    m, r = g.mean(-1), 1 / np.sqrt(g.var(-1) + eps)
    y = ((g - m[..., None]) * r[..., None]).reshape(x.shape)
    tail = (-1, *[1] * (x.ndim - 2))
    y = y * np.reshape(gamma, tail if np.ndim(gamma) else ()) + np.reshape(
        beta, tail if np.ndim(beta) else ()
    )
    return y * _sigmoid(y) if silu else y, m, r


def _lstm(x: Array, w: Array, r: Array, b: Any = None, _lens: Any = None, h: Any = None,
          c: Any = None, *, hidden_size: int, direction: str = "forward") -> Any:  # fmt: skip
    n = hidden_size
    b = np.zeros((1, 8 * n)) if b is None else b
    h, c = (np.zeros((x.shape[1], n)) if v is None else v[0] for v in (h, c))
    y = np.zeros((x.shape[0], 1, x.shape[1], n))
    steps = range(x.shape[0])
    for t in reversed(steps) if direction == "reverse" else steps:
        gates = x[t] @ w[0].T + h @ r[0].T + b[0, : 4 * n] + b[0, 4 * n :]
        i, o, f, g = (gates[:, k * n : (k + 1) * n] for k in range(4))
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        y[t, 0] = h
    return y, h[None], c[None]


# -- moving data -----------------------------------------------------------------------------------
def _strided(x: Array, begin: Any, end: Any, axes: Any = None, strides: Any = None) -> Array:
    index: list[Any] = [slice(None)] * x.ndim
    for i, (b, e) in enumerate(zip(begin, end)):
        step = 1 if strides is None else strides[i]
        index[i if axes is None else axes[i]] = slice(b, None if e < -x.ndim - 1 else e, step)
    return x[tuple(index)]


def _masked(x: Array, begin: Any, end: Any, strides: Any, *, end_mask: int = 0,
            shrink_axis_mask: int = 0) -> Array:  # fmt: skip
    index: list[Any] = []
    for i, (b, e, s) in enumerate(zip(begin, end, strides)):
        whole = slice(b, None if end_mask >> i & 1 else e, s)
        index.append(b if shrink_axis_mask >> i & 1 else whole)
    return x[tuple(index)]


def _padded(x: Array, paddings: Any, value: Any = 0, mode: str = "constant",
            paddings_contiguous: bool = True) -> Array:  # fmt: skip
    flat = np.ravel(paddings)
    pairs = flat.reshape(-1, 2) if paddings_contiguous else flat.reshape(2, -1).T
    fill = {"constant_values": value} if mode == "constant" else {}
    return np.pad(x, pairs.tolist(), mode=mode, **fill)  # type: ignore[call-overload]


def _scattered(at: Callable[..., Any] | None) -> Callable[..., Any]:
    def run(x: Array, indices: Any, updates: Array) -> Array:
        out, index = x.copy(), tuple(np.moveaxis(np.asarray(indices), -1, 0))
        if at is None:
            out[index] = updates
        else:
            at(out, index, updates)
        return out

    return run


def _scatter_elements(x: Array, indices: Array, updates: Array, axis: int = 0,
                      reduction: str = "none") -> Array:  # fmt: skip
    out = x.copy()
    for place in np.ndindex(indices.shape):
        to = list(place)
        to[axis] = indices[place]
        old = out[tuple(to)] if reduction == "add" else 0
        out[tuple(to)] = old + updates[place]
    return out


def _topk(x: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:  # noqa: A002
    order = np.argsort(-x if largest else x, axis=dim, kind="stable").take(range(k), axis=dim)
    return np.take_along_axis(x, order, dim), order.astype(np.int32)


def _cumsum(x: Array, axis: int, exclusive: bool = False, reverse: bool = False) -> Array:
    x = np.flip(x, axis) if reverse else x
    y = np.cumsum(x, axis=axis) - (x if exclusive else 0)
    return np.flip(y, axis) if reverse else y


def _number(dtype: str) -> np.dtype:
    return dt.to_numpy(dtype)


REFERENCE: dict[str, Callable[..., Any]] = {
    "Neg": np.negative, "Abs": np.abs, "Sign": np.sign, "Expm1": np.expm1, "Square": np.square,
    "Rsqrt": lambda x: 1 / np.sqrt(x), "Sin": np.sin, "Cos": np.cos, "Tan": np.tan,
    "Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan, "Sinh": np.sinh, "Cosh": np.cosh,
    "Tanh": np.tanh, "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh,
    "Sigmoid": _sigmoid, "Erf": _erf, "Erfc": lambda x: 1 - _erf(x), "Floor": np.floor,
    "Ceil": np.ceil, "Rint": np.rint, "Round": np.rint, "Relu": lambda x: np.where(x > 0, x, 0 * x),
    "Reciprocal": lambda x: 1 / x, "Sqrt": np.sqrt, "Log1p": np.log1p, "Exp": np.exp, "Log": np.log,
    "IsNan": np.isnan, "IsInf": np.isinf, "LogicalNot": np.logical_not, "Invert": np.invert,
    "Identity": lambda x: x, "Relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Maximum": np.maximum,
    "Minimum": np.minimum, "SquaredDifference": lambda a, b: (a - b) ** 2, "Atan2": np.arctan2,
    "FloorDiv": np.floor_divide, "FloorMod": lambda a, b: a - np.floor_divide(a, b) * b,
    "RealDiv": np.divide, "Pow": np.power, "Equal": np.equal, "NotEqual": np.not_equal,
    "Less": np.less, "LessEqual": np.less_equal, "Greater": np.greater,
    "GreaterEqual": np.greater_equal, "LogicalAnd": np.logical_and, "LogicalOr": np.logical_or,
    "BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor,
    "SelectV2": np.where, "Select": np.where,
    "ClipByValue": lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi),
    "ClipByValueV2": lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi),
    "Cast": lambda x, dst_type: x != 0 if dst_type == "bool" else np.trunc(x).astype(dst_type),
    "Muls": lambda x, value: x * value, "Adds": lambda x, value: x + value,
    "BiasAdd": lambda x, b, data_format="NHWC":
        x + (b if data_format == "NHWC" else b.reshape(-1, *[1] * (x.ndim - 2))),
    "AddN": lambda *x, N: sum(x[1:], x[0]),
    "Gelu": lambda x: _gelu(x, "tanh"), "GeluV2": _gelu,
    "Swish": lambda x, scale=1.0: x * _sigmoid(scale * x),
    "HardSigmoid": lambda x, alpha=1 / 6, beta=0.5: np.clip(alpha * x + beta, 0, 1),
    "HardSwish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "LeakyRelu": lambda x, negative_slope=0.0: np.where(x > 0, x, negative_slope * x),
    "Elu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * (np.exp(x) - 1)),
    "Selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "PRelu": lambda x, w: np.where(
        x > 0, x, x * (w if w.size == 1 else w.reshape(-1, *[1] * (x.ndim - 2)))),
    "Softplus": _softplus, "Mish": lambda x: x * np.tanh(_softplus(x)),
    "Softsign": lambda x: x / (1 + np.abs(x)), "LogSigmoid": lambda x: np.log(_sigmoid(x)),
    "SoftmaxV2": _softmax, "LogSoftmaxV2": lambda x, axes=(-1,): np.log(_softmax(x, axes)),
    "SwiGlu": _swi_glu, "GeGluV2": _ge_glu,
    "MatMulV2": _product("transpose"), "MatMul": _product("transpose"),
    "BatchMatMulV2": _product("adj"), "BatchMatMul": _product("adj"),
    "Einsum": lambda *x, equation, N: np.einsum(equation, *x),
    "Conv2D": _conv, "Conv3D": _conv, "Conv2DTranspose": _conv_transpose,
    "Conv3DTranspose": _conv_transpose,
    "MaxPoolV3": lambda x, **k: _pool(x, combine=np.max, **k),
    "MaxPool3D": lambda x, **k: _pool(x, combine=np.max, **k),
    "AvgPoolV2": lambda x, exclusive=True, **k: _pool(
        x, combine=np.mean, whole=not exclusive, **k),
    "AvgPool3D": lambda x, count_include_pad=True, **k: _pool(
        x, combine=np.mean, whole=count_include_pad, **k),
    "ResizeNearestNeighborV2": lambda x, size, **k: _resize(x, size, "nearest", **k),
    "ResizeBilinearV2": lambda x, size, **k: _resize(x, size, "linear", **k),
    "Resize": _cubic,
    "BNInfer": lambda x, s, o, m, v, epsilon: (
        (x - m.reshape(-1, 1, 1)) / np.sqrt(v.reshape(-1, 1, 1) + epsilon)
        * s.reshape(-1, 1, 1) + o.reshape(-1, 1, 1)),
    "LayerNorm": lambda x, g, b, begin_norm_axis, begin_params_axis, epsilon=1e-7: _layer_norm(
        x, g, b, axes=tuple(range(begin_norm_axis % x.ndim, x.ndim)), epsilon=epsilon, rstd=False),
    "LayerNormV3": lambda x, g, b, begin_norm_axis, begin_params_axis, epsilon=1e-5: _layer_norm(
        x, g, b, axes=tuple(range(begin_norm_axis % x.ndim, x.ndim)), epsilon=epsilon, rstd=True),
    "LayerNormV4": lambda x, shape, g=1.0, b=0.0, epsilon=1e-5: _layer_norm(
        x, g, b, axes=tuple(range(-len(shape), 0)), epsilon=epsilon, rstd=True),
    "RmsNorm": _rms_norm,
    "GroupNormV2": lambda x, g, b, **k: _group_norm(x, g, b, **{"eps": 1e-5, **k}),
    "GroupNormSilu": lambda *x, **k: _group_norm(*x, silu=True, **k),
    "CommonLSTM": _lstm,
    "ReduceSum": _reduced(np.sum), "ReduceMean": _reduced(np.mean), "ReduceProd": _reduced(np.prod),
    "ReduceMax": _reduced(np.max), "ReduceMin": _reduced(np.min), "ReduceAny": _reduced(np.any),
    "ReduceAll": _reduced(np.all),
    "ReduceLogSumExp": _reduced(lambda x, **k: np.log(np.sum(np.exp(x), **k))),
    "ArgMaxV2": lambda x, a, dtype="int64": x.argmax(a).astype(_number(dtype)),
    "ArgMin": lambda x, a, dtype="int64": x.argmin(a).astype(_number(dtype)),
    "Cumsum": _cumsum, "TopKV2": _topk,
    "Reshape": np.reshape, "Transpose": np.transpose,
    "ConcatV2": lambda *x: np.concatenate(x[:-1], x[-1]),
    "ConcatD": lambda *x, concat_dim, N: np.concatenate(x, concat_dim),
    "SplitV": lambda x, sizes, a, num_split: tuple(np.split(x, np.cumsum(sizes)[:-1], a)),
    "Split": lambda a, x, num_split: tuple(np.split(x, num_split, a)),
    "SplitD": lambda x, split_dim, num_split: tuple(np.split(x, num_split, split_dim)),
    "Slice": lambda x, o, n: x[tuple(slice(a, None if s < 0 else a + s) for a, s in zip(o, n))],
    "StridedSlice": _masked, "StridedSliceV2": _strided,
    "GatherV2": lambda x, i, a: np.take(x, i, a), "Gather": lambda x, i: x[i],
    "GatherElements": lambda x, i, dim=0: np.take_along_axis(x[: i.shape[0]], i, dim),
    "GatherNd": lambda x, i: x[tuple(np.moveaxis(i, -1, 0))],
    "BroadcastTo": np.broadcast_to, "Expand": np.broadcast_to, "Tile": np.tile,
    "PadV3": _padded, "Pad": _padded,
    "Triu": lambda x, diagonal=0: np.triu(x, diagonal),
    "Tril": lambda x, diagonal=0: np.tril(x, diagonal),
    "Shape": lambda x, dtype="int32": np.array(x.shape, dtype), "Range": np.arange,
    "TensorScatterUpdate": _scattered(None), "TensorScatterAdd": _scattered(np.add.at),
    "TensorScatterMax": _scattered(np.maximum.at), "TensorScatterMin": _scattered(np.minimum.at),
    "ScatterElements": _scatter_elements,
    "NonZero": lambda x, transpose=False, dtype="int64":
        (np.array(np.nonzero(x)) if transpose else np.argwhere(x)).astype(_number(dtype)),
    "Squeeze": lambda x, axis=None: np.squeeze(x, axis),
    "Unsqueeze": lambda x, axes: np.expand_dims(x, axes), "ExpandDims": np.expand_dims,
    "Pack": lambda *x, axis=0, N: np.stack(x, axis), "Fill": np.full, "ReverseV2": np.flip,
    "Flatten": lambda x, axis=1: x.reshape(math.prod(x.shape[:axis]), -1),
    "FlattenV2": lambda x, axis=1, end_axis=-1: x.reshape(
        *x.shape[:axis], -1, *x.shape[end_axis % x.ndim + 1 :]),
}  # fmt: skip
