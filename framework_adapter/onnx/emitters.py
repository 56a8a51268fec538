"""Emission handlers: the IR ops whose ONNX form depends on shapes, constants or neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from cir import dim as dm
from cir import dtype as dt
from cir.dim import Dim
from cir.graph import TensorType
from framework_adapter.onnx.attention import attention  # noqa: F401
from framework_adapter.onnx.dims import reshaped
from framework_adapter.onnx.recurrent import emit_lstm as lstm  # noqa: F401
from framework_adapter.target import Scope

_INT64_MAX, _INT64_MIN = 2**63 - 1, -(2**63)


def _type(s: Scope, index: int) -> TensorType:
    name = s.node.inputs[index]
    assert name is not None
    return s.graph.types[name]


# -- reductions ------------------------------------------------------------------------------------
def mean(s: Scope, x: str, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    """A reshape that only drops the reduced axes is the node's own keepdims."""
    if not axis:
        return x
    t = _type(s, 0)
    dropped = tuple(d for i, d in enumerate(t.shape) if i - t.rank not in axis)
    users = s.graph.users.get(s.node.name, [])
    if keepdims and len(users) == 1 and s.node.name not in s.graph.outputs:
        (user,) = users
        if user.op == "reshape" and s.graph.types[user.name].shape == dropped:
            s.bind(user.name, str(s.op("ReduceMean", x, axis, keepdims=False)))
            return []
    return s.op("ReduceMean", x, axis, keepdims=keepdims)


# -- views and slices ------------------------------------------------------------------------------
def reshape(s: Scope, x: str, *, shape: tuple[Dim, ...]) -> str:
    """A view of the same elements."""
    return reshaped(s, x, _type(s, 0).shape, shape)


def slice(s: Scope, x: str, *, axes: Any, starts: Any, ends: Any, steps: Any) -> str:  # noqa: A001
    """Bounds that count from the end of a symbolic axis need no arithmetic."""
    t = _type(s, 0)

    def bound(d: Dim, n: Dim) -> Dim:
        gap = dm.sub(d, n) if isinstance(d, str) else 0
        return gap if isinstance(gap, int) and gap < 0 else d

    first: list[Dim] = []
    last: list[Dim] = []
    for a, start, end, step in zip(axes, starts, ends, steps):
        n = t.shape[a]
        first.append(_INT64_MAX if start == n and step > 0 else bound(start, n))
        if step < 0 and end == -1:
            last.append(_INT64_MIN)
        else:
            last.append(_INT64_MAX if end == n else bound(end, n))
    strides = None if all(step == 1 for step in steps) else tuple(steps)
    return s.op("Slice", x, tuple(first), tuple(last), tuple(axes), strides)


def pad(s: Scope, x: str, *, pads: tuple[Dim, ...], mode: str, value: float) -> str:
    """Pad; before a MaxPool with its axes stated.

    ONNX Runtime (1.31) joins a Pad by zeros without axes and a MaxPool into one MaxPool, whose own
    padding is by -inf: wrong where a window has no positive element.
    """
    if mode != "constant":
        return str(s.op("Pad", x, pads, mode=mode))
    fill = s.const(np.asarray(value).astype(dt.to_numpy(s.dtype(x))))
    joined = any(n.op == "max_pool" for n in s.graph.users.get(s.node.name, ()))
    axes = tuple(range(_type(s, 0).rank)) if joined else None
    return str(s.op("Pad", x, pads, fill, axes, mode=mode))


def clip(s: Scope, x: str, *, min: float | None, max: float | None) -> str:  # noqa: A002
    """Bounds beyond an integer dtype do not bound."""
    dtype = s.dtype(x)
    bounds: list[float | None] = [min, max]
    if not dt.is_float(dtype):
        info = np.iinfo(dtype)
        bounds = [None if b is None or not info.min < b < info.max else int(b) for b in (min, max)]
    return x if bounds == [None, None] else s.op("Clip", x, *bounds)


def resize(
    s: Scope, x: str, *, sizes: tuple[Dim, ...], mode: str, coordinates: str, rounding: str
) -> str:
    """Whole factors become scales, which optimisers know best; other sizes are given as sizes."""
    t = _type(s, 0)
    factors: list[int] = []
    for n, m in zip(t.shape[2:], sizes):
        q = dm.floordiv(m, n) if n != 0 else 0
        factors.append(int(q) if isinstance(q, int) and dm.mul(q, n) == m else 0)
    attrs: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attrs["nearest_mode"] = rounding
    if all(factors):
        scales = s.const(np.array([1, 1, *factors], np.float32))
        return s.op("Resize", x, None, scales, **attrs)
    if not all(isinstance(d, int) for d in t.shape[:2]):
        attrs["axes"] = tuple(range(2, t.rank))
        return s.op("Resize", x, None, None, sizes, **attrs)
    return s.op("Resize", x, None, None, (*t.shape[:2], *sizes), **attrs)


# -- linear and normalisation ----------------------------------------------------------------------
def linear(s: Scope, x: str, w: str, b: str | None = None) -> str:
    """Gemm on rank 2; otherwise MatMul with the weight turned once, here, and Add."""
    if _type(s, 0).rank == 2:
        return s.op("Gemm", x, w, b, transB=1)
    y = s.op("MatMul", x, _turned(s, w))
    return y if b is None else s.op("Add", y, b)


def _turned(s: Scope, w: str) -> str:
    key = ("turned", w)
    if key not in s.memo:
        name = s.node.inputs[1]
        assert name is not None
        data = s.known(w)
        others = [
            n
            for n in s.graph.users.get(name, ())
            if n.op != "linear" or n.inputs[0] == name or s.graph.types[str(n.inputs[0])].rank == 2
        ]
        if data is None or others:  # a weight with other uses (tied embeddings) is not stored twice
            s.memo[key] = s.op("Transpose", w, perm=(1, 0))
        else:
            s.memo[key] = s.const(np.ascontiguousarray(data.T), f"{w}.T")
    return s.memo[key]


def norm(
    s: Scope,
    x: str,
    scale: str | None = None,
    bias: str | None = None,
    *,
    axis: int,
    epsilon: float,
) -> str:
    """LayerNormalization without a scale, which the op wants: ones."""
    ones = _ones(s, x, axis)
    return s.op("LayerNormalization", x, ones, bias, axis=axis, epsilon=epsilon)


def rms_norm(s: Scope, x: str, scale: str | None = None, *, axis: int, epsilon: float) -> str:
    """RMSNormalization; without a scale: ones."""
    if scale is None:
        scale = _ones(s, x, axis)
    return s.op("RMSNormalization", x, scale, axis=axis, epsilon=epsilon)


def _ones(s: Scope, x: str, axis: int) -> str:
    """Ones of the shape of the trailing axes, which is static, and the dtype of x."""
    shape = [int(d) for d in _type(s, 0).shape[axis:]]
    return s.const(np.ones(shape, dt.to_numpy(s.dtype(x))))


def group_norm(
    s: Scope, x: str, scale: str | None = None, bias: str | None = None, *,
    num_groups: int, epsilon: float,
) -> str:  # fmt: skip
    """InstanceNormalization over [N, groups, rest], then scale and bias by channel."""
    t = _type(s, 0)
    dtype = dt.to_numpy(s.dtype(x))
    ones, zeros = s.const(np.ones(num_groups, dtype)), s.const(np.zeros(num_groups, dtype))
    if t.shape[1] == num_groups and t.rank > 2:
        return s.op("InstanceNormalization", x, scale or ones, bias or zeros, epsilon=epsilon)
    groups = s.op("Reshape", x, (0, num_groups, -1))
    y = s.op("InstanceNormalization", groups, ones, zeros, epsilon=epsilon)
    size = dm.floordiv(dm.product(t.shape[1:]), num_groups)
    y = reshaped(s, y, (t.shape[0], num_groups, size), t.shape)
    for op, operand in (("Mul", scale), ("Add", bias)):
        if operand is not None:
            y = s.op(op, y, _per_channel(s, operand, t.rank - 2))
    return y


def group_norm_silu(
    s: Scope, x: str, scale: str | None = None, bias: str | None = None, **kw: Any
) -> str:
    """group_norm, then swish."""
    y = group_norm(s, x, scale, bias, **kw)
    if s.target.takes("QuickGelu", 0) is not None:
        return s.op("QuickGelu", y, alpha=1.0)
    return s.op("Mul", y, s.op("Sigmoid", y))


def _per_channel(s: Scope, v: str, trailing: int) -> str:
    """A vector of channels as [C, 1, ...]."""
    if not trailing:
        return v
    data = s.known(v)
    if data is None:
        return s.op("Reshape", v, (-1, *[1] * trailing))
    key = ("channels", v, trailing)
    if key not in s.memo:
        s.memo[key] = s.const(data.reshape(-1, *[1] * trailing), f"{v}.c")
    return s.memo[key]


# -- control flow ----------------------------------------------------------------------------------
def cond(s: Scope, pred: str, *xs: str) -> Any:
    """If: the operands of the isolated regions become captures."""
    branches = []
    for region in s.node.regions:
        inner = s.inner(region, xs)
        branches.append(inner.finish((), inner.outputs(inner.body())))
    dtypes = [s.graph.types[o].dtype for o in s.node.outputs]
    return s.op("If", pred, results=len(dtypes), dtypes=dtypes,
                then_branch=branches[0], else_branch=branches[1])  # fmt: skip


def while_loop(s: Scope, *xs: str, carried: int) -> Any:
    """Loop: the test is emitted before it and at the end of its body; invariants become
    captures.
    """
    test, body = s.node.regions
    start = s.inline(test, xs)[0]
    inner = s.inner(body, xs)
    formals = list(body.inputs[:carried])
    for name in formals:
        inner.env[name] = name
        inner.declare(name, body.types[name])
    turn, again = inner.unique(f"{s.node.name}.turn"), inner.unique(f"{s.node.name}.again")
    inner.declare(turn, TensorType("int64", ()))
    inner.declare(again, TensorType("bool", ()))
    results = inner.outputs(inner.body())
    go_on = inner.own(inner.inline(test, [*results, *xs[carried:]])[0])
    graph = inner.finish((turn, again, *formals), (go_on, *results))
    dtypes = [s.graph.types[o].dtype for o in s.node.outputs]
    return s.op("Loop", None, start, *xs[:carried], results=carried, dtypes=dtypes, body=graph)
