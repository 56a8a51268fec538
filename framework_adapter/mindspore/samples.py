"""Samples of rows, run by MindSpore's own primitives the way a .mindir node spells them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import error
from cir.graph import TensorType
from framework_adapter import samples
from framework_adapter.mapping import MappingTable, Row

Arrays = list[np.ndarray]

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
#: Ops whose paddings are a tensor, which must be a constant.
CONSTANTS = ("MirrorPad",)


def both(table: MappingTable, row: Row, op: str, sample: Sequence[Any]) -> tuple[Arrays, Arrays]:
    """(results through the row, MindSpore's results)."""
    return through(table, row, op, sample, run(op, *samples.operands(sample)))


def through(
    table: MappingTable, row: Row, op: str, sample: Sequence[Any], want: Sequence[Any]
) -> tuple[Arrays, Arrays]:
    """(results through the row, those of ``want`` that the row makes); None is not made."""
    kept = row.results or [""] * len(want)
    types = [
        None if k is None or w is None else TensorType(dt.from_numpy(w.dtype), w.shape)
        for k, w in zip(kept, want, strict=True)
    ]
    got = samples.run(table, op, sample, types, constants=op in CONSTANTS)
    return got, [w for w, t in zip(want, types) if t is not None]


def run(op: str, args: Sequence[Any], attrs: Mapping[str, Any]) -> Arrays:
    """Results of a primitive, flattened; ``args`` are positional as in a file.

    Raises:
        CirError: E203 when MindSpore has no such primitive.
    """
    import mindspore as ms
    from mindspore.ops import operations
    from mindspore.ops.auto_generate import gen_ops_prim

    ms.runtime.launch_blocking()  # an error belongs to the op that raised it
    generated = getattr(gen_ops_prim, op, None)
    cls = generated or getattr(operations, op, None)
    if cls is None:
        fix = "use a primitive's name, as in mindspore.ops.operations"
        raise error("E203", f"MindSpore has no primitive {op!r}", fix=fix)
    init = [n for n in inspect.signature(cls.__init__).parameters if n != "self"]
    names = [n for n in inspect.signature(cls.__call__).parameters if n not in ("self", "args")]
    operands = len(names) if generated else OPERANDS.get(op, len(args))
    names = [*(names or [""] * operands), *init, *[""] * len(args)]
    given = [_value(op, n, a) for n, a in zip(names, args)]
    settings = {k: _value(op, k, v) for k, v in attrs.items() if k in init}
    made = cls(*given[operands:], **settings)
    found = _flat(made(*given[:operands]))
    return [t.asnumpy() if isinstance(t, ms.Tensor) else np.asarray(t) for t in found]


def _value(op: str, name: str, v: Any) -> Any:
    import mindspore as ms

    if (op, name) in SPELLINGS:
        return SPELLINGS[op, name](v)
    if isinstance(v, np.ndarray):
        return ms.Tensor(v)
    if isinstance(v, str) and v in dt.ALL:
        return getattr(ms, "bool_" if v == "bool" else v)
    return tuple(_value(op, "", x) for x in v) if isinstance(v, tuple) else v


def _flat(x: Any) -> list[Any]:
    return [v for i in x for v in _flat(i)] if isinstance(x, (tuple, list)) else [x]
