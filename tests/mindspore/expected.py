"""What primitives compute that MindSpore 2.10 has no CPU kernel for, by PyTorch or NumPy.

The MindSpore documentation of each (``mindspore.mint`` follows PyTorch) is the authority for the choice.
Host scalars (``ScalarAdd`` ...) are listed too: no primitive of that kind takes a tensor outside a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

_GELU = ("none", "tanh")


def _rms(x: Any, gamma: Any, eps: float) -> Any:
    return [x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * gamma, None]


def _add_rms(a: Any, b: Any, gamma: Any, eps: float) -> Any:
    return [_rms(a + b, gamma, eps)[0], None, a + b]


def _rotary(x: Any, cos: Any, sin: Any, mode: int) -> Any:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def _attention(q: Any, k: Any, v: Any, *rest: Any) -> Any:
    mask, heads, scale, layout = rest[3], rest[7], rest[9], rest[13]

    def split(x: Any) -> Any:
        return x if layout == 1 else x.unflatten(-1, (heads, -1)).transpose(1, 2)

    keep = None if mask is None else ~mask
    y = F.scaled_dot_product_attention(split(q), split(k), split(v), keep, scale=scale)
    return [None, None, None, y if layout == 1 else y.transpose(1, 2).flatten(2)]


def _conv_padding(
    x: Any, w: Any, b: Any, stride: Any, padding: int, dilation: Any, groups: int
) -> Any:
    return F.conv1d(x, w, b, stride, {1: "same", 2: "valid"}[padding], dilation, groups)


def _conv_transpose(
    x: Any,
    w: Any,
    b: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Any:
    return F.conv_transpose2d(x, w, b, stride, padding, output_padding, groups, dilation)


def _upsample(x: Any, size: Any, scales: Any, align: bool) -> Any:
    return F.interpolate(x, size, scales, "bilinear", align)


def _batch_norm(
    x: Any, w: Any, b: Any, mean: Any, var: Any, training: bool, m: float, eps: float
) -> Any:
    return [F.batch_norm(x, mean, var, w, b, False, m, eps), None, None]


def _arange(start: int, end: int, step: int, dtype: str) -> Any:
    return torch.arange(start, end, step, dtype=getattr(torch, dtype))


def _norm(x: Any, p: float, dim: Any, keep: bool, dtype: None) -> Any:
    return torch.linalg.vector_norm(x, p, dim, keep)


def _pad(mode: str) -> Callable[..., Any]:
    return lambda x, pads, value=0.0: F.pad(x, pads, mode, value)


def _swiglu(x: Any, dim: int) -> Any:
    a, b = x.chunk(2, dim)
    return F.silu(a) * b


def _instance(x: Any, g: Any, b: Any, mean: Any, var: Any, epsilon: float, momentum: float) -> Any:
    return [F.instance_norm(x, weight=g, bias=b, eps=epsilon), None, None]


def _embedding(i: Any, w: Any, *_: Any) -> Any:
    return F.embedding(i, w)


def _tuple_to_tensor(x: Sequence[Any], dtype: str) -> Any:
    return torch.tensor([int(v) for v in x], dtype=getattr(torch, dtype))


EXPECTED: Mapping[str, Callable[..., Any]] = {
    "AddRmsNorm": _add_rms,
    "AddScalar": lambda x, y, alpha: x + alpha * y,
    "Addmm": lambda c, a, b, beta, alpha: torch.addmm(c, a, b, beta=beta, alpha=alpha),
    "Arange": _arange,
    "ArgMaxExt": lambda x, dim, keep: torch.argmax(x, dim, keep),
    "ArgMinExt": lambda x, dim, keep: torch.argmin(x, dim, keep),
    "AvgPool1D": F.avg_pool1d,
    "AvgPool2D": F.avg_pool2d,
    "AvgPool3DExt": F.avg_pool3d,
    "BatchNormExt": _batch_norm,
    "BitwiseNot": torch.bitwise_not,
    "ConstantPadND": _pad("constant"),
    "Conv1DExt": F.conv1d,
    "Conv1DPadding": _conv_padding,
    "Conv2DExt": F.conv2d,
    "Conv3DExt": F.conv3d,
    "ConvTranspose2D": _conv_transpose,
    "CumsumExt": lambda x, dim, dtype: torch.cumsum(x, dim),
    "EluExt": F.elu,
    "Einsum": lambda x, equation: torch.einsum(equation, *x),
    "Embedding": _embedding,
    "Exp2": torch.exp2,
    "FillScalar": lambda shape, value, dtype: torch.full(shape, value),
    "FlashAttentionScore": _attention,
    "FloorDivScalar": torch.floor_divide,
    "FullLike": lambda x, value, dtype: torch.full_like(x, value),
    "GeluExt": lambda x, approximate: F.gelu(x, approximate=_GELU[approximate]),
    "GreaterEqualScalar": torch.ge,
    "Hardtanh": F.hardtanh,
    "Index": lambda x, indices: x[indices[0]],
    "IndexSelect": torch.index_select,
    "InstanceNorm": _instance,
    "LayerNormExt": lambda x, s, w, b, eps: [F.layer_norm(x, s, w, b, eps), None, None],
    "LeakyReLUExt": F.leaky_relu,
    "LessScalar": torch.lt,
    "Log10": torch.log10,
    "Log2": torch.log2,
    "LogSigmoid": F.logsigmoid,
    "LogSoftmaxExt": lambda x, dim, dtype: F.log_softmax(x, dim),
    "LogSumExp": torch.logsumexp,
    "MaxPoolWithMask": lambda x, k, s, p, d, ceil, t: [F.max_pool2d(x, k, s, p, d, ceil), None],
    "MishExt": F.mish,
    "Norm": _norm,
    "Outer": torch.outer,
    "ReflectionPad1D": _pad("reflect"),
    "RemainderTensorTensor": torch.remainder,
    "ReplicationPad1D": _pad("replicate"),
    "RmsNorm": _rms,
    "Roll": torch.roll,
    "RotaryPositionEmbedding": _rotary,
    "ScalarAdd": torch.add,
    "ScalarDiv": torch.div,
    "ScalarEq": torch.eq,
    "ScalarFloorDiv": torch.floor_divide,
    "ScalarGe": torch.ge,
    "ScalarGt": torch.gt,
    "ScalarLe": torch.le,
    "ScalarLt": torch.lt,
    "ScalarMax": lambda x, y: torch.maximum(x, torch.as_tensor(y)),
    "ScalarMin": lambda x, y: torch.minimum(x, torch.as_tensor(y)),
    "ScalarMod": torch.remainder,
    "ScalarMul": torch.mul,
    "ScalarSub": torch.sub,
    "ScalarToTensor": lambda x, dtype: x.to(getattr(torch, dtype)),
    "ScalarUsub": torch.neg,
    "SeLUExt": F.selu,
    "SortExt": lambda x, dim, descending, stable: torch.sort(x, dim, descending),
    "StackExt": torch.stack,
    "Std": lambda x, dim, correction, keep: torch.std(x, dim, correction=correction, keepdim=keep),
    "SubScalar": lambda x, y, alpha: x - alpha * y,
    "Swiglu": _swiglu,
    "TensorToTuple": lambda x: list(x),
    "Threshold": F.threshold,
    "TopkExt": torch.topk,
    "TrilExt": torch.tril,
    "TupleToTensor": _tuple_to_tensor,
    "UpsampleBilinear2D": _upsample,
    "Var": lambda x, dim, correction, keep: torch.var(x, dim, correction=correction, keepdim=keep),
}


def run(op: str, args: Sequence[Any], attrs: Mapping[str, Any]) -> list[np.ndarray | None]:
    """Results of a primitive, None for one that a row need not produce."""

    def tensor(v: Any) -> Any:
        if isinstance(v, np.ndarray):
            return torch.from_numpy(v)
        return tuple(map(tensor, v)) if isinstance(v, tuple) else v

    out = EXPECTED[op](*map(tensor, args), **{k: tensor(v) for k, v in attrs.items()})
    results = out if isinstance(out, (list, tuple)) else [out]
    return [None if r is None else np.asarray(r) for r in results]
