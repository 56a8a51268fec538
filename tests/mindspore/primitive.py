"""Run one MindSpore primitive the way a .mindir node spells it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore.ops import operations
from mindspore.ops.auto_generate import gen_ops_prim

from cir import dtype as dt

ms.runtime.launch_blocking()  # an error belongs to the op that raised it

#: (op, parameter) -> what a constructor takes for the number or list that the file holds.
SPELLINGS: Mapping[tuple[str, str], Any] = {
    ("AvgPool", "pad_mode"): {1: "SAME", 2: "VALID"}.get,
    ("AvgPool", "data_format"): {0: "NCHW"}.get,
    ("AvgPool", "kernel_size"): tuple,
    ("AvgPool", "strides"): tuple,
    ("BatchNorm", "data_format"): {0: "NCHW"}.get,
    ("BiasAdd", "data_format"): {0: "NCHW"}.get,
    ("GeluExt", "approximate"): {0: "none", 1: "tanh"}.get,
    ("NpuGelu", "approximate"): {0: "none", 1: "tanh"}.get,
    ("ResizeLinear1D", "coordinate_transformation_mode"): {
        0: "asymmetric",
        1: "align_corners",
        2: "half_pixel",
    }.get,
    ("TensorScatterElements", "reduce"): {0: "none", 1: "add"}.get,
    ("Conv2D", "stride"): lambda s: s[2:],
    ("Conv2D", "dilation"): lambda s: s[2:],
    ("Conv2DTranspose", "stride"): lambda s: s[2:],
    ("Conv2DTranspose", "dilation"): lambda s: s[2:],
    ("Conv3DTranspose", "output_padding"): lambda s: s[2:],
    ("MaxPool", "kernel_size"): lambda s: s[2:],
    ("MaxPool", "strides"): lambda s: s[2:],
    ("MaxPool3D", "kernel_size"): lambda s: s[2:],
    ("MaxPool3D", "strides"): lambda s: s[2:],
    ("MaxPool3D", "ceil_mode"): lambda s: None,
    ("AvgPool3D", "kernel_size"): lambda s: s[2:],
    ("AvgPool3D", "strides"): lambda s: s[2:],
    ("Meshgrid", "indexing"): {0: "ij", 1: "xy"}.get,
}

#: Operands of hand-written primitives whose settings are positional in a file.
OPERANDS = {"BatchNorm": 5}


def exists(op: str) -> bool:
    """Whether this MindSpore has the primitive."""
    return hasattr(gen_ops_prim, op) or hasattr(operations, op)


def run(op: str, args: Sequence[Any], attrs: Mapping[str, Any]) -> list[np.ndarray]:
    """Results of a primitive, flattened. ``args`` are positional as in a file: operands, then settings."""
    generated = getattr(gen_ops_prim, op, None)
    cls = generated or getattr(operations, op)
    init = [n for n in inspect.signature(cls.__init__).parameters if n != "self"]
    call = [n for n in inspect.signature(cls.__call__).parameters if n not in ("self", "args")]
    operands = len(call) if generated else OPERANDS.get(op, len(args))
    names = (*(call or [""] * operands), *init, *[""] * len(args))
    given = [_value(op, n, a) for n, a in zip(names, args)]
    settings = {k: _value(op, k, v) for k, v in attrs.items() if k in init}
    made = cls(*given[operands:], **settings)
    return [_numpy(t) for t in _flat(made(*given[:operands]))]


def _value(op: str, name: str, v: Any) -> Any:
    if (op, name) in SPELLINGS:
        return SPELLINGS[op, name](v)
    if isinstance(v, np.ndarray):
        return ms.Tensor(v)
    if isinstance(v, str) and v in dt.ALL:
        return getattr(ms, "bool_" if v == "bool" else v)
    return tuple(_value(op, "", x) for x in v) if isinstance(v, tuple) else v


def _flat(x: Any) -> list[Any]:
    return [v for i in x for v in _flat(i)] if isinstance(x, (tuple, list)) else [x]


def _numpy(t: Any) -> np.ndarray:
    return t.asnumpy() if isinstance(t, ms.Tensor) else np.asarray(t)
