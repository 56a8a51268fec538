"""Handlers of MindSpore Lite ops that a row cannot express."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cir import dim as dm
from cir import dtype as dt
from framework_adapter.context import Context, Value
from framework_adapter.mindspore.lite.fused import activate, maker
from framework_adapter.mindspore.lite.images import (  # noqa: F401
    batch_norm,
    conv,
    conv_transpose,
    depth_to_space,
    instance_norm,
    pool,
    resize,
    space_to_depth,
)
from framework_adapter.mindspore.lite.views import (  # noqa: F401
    broadcast_to,
    constant_of_shape,
    expand_dims,
    fill,
    flatten,
    gather,
    gather_d,
    one_hot,
    pad,
    range_,
    reshape,
    reverse,
    reverses,
    slice_,
    split,
    squeeze,
    stack,
    strided_slice,
    tile,
    unsqueeze,
    unstack,
)
from framework_adapter.source import SourceNode

# -- elementwise -----------------------------------------------------------------------------------
_ARITHMETIC = {"AddFusion": "add", "SubFusion": "sub", "MulFusion": "mul", "DivFusion": "div"}


def arithmetic(
    c: Context, node: SourceNode, a: Value, b: Value, activation_type: str = "NO_ACTIVATION"
) -> Value:
    """Addition, subtraction, product, quotient."""
    op = _ARITHMETIC[node.op]
    if op == "div" and not dt.is_float(c.dtype(a)):
        op = "floordiv"
    return activate(c, c.op(op, a, b), activation_type)


def floor_div(c: Context, node: SourceNode, a: Value, b: Value) -> Value:
    """Rounds down; (a - a % b) / b is how the truncating kernel for integers is made to."""
    if not dt.is_float(c.dtype(a)):
        less = maker(c, a)
        rest = maker(c, less.inputs[1]) if less is not None and less.op == "sub" else None
        if rest is not None and rest.op == "mod" and rest.inputs == (less.inputs[0], b):  # type: ignore[union-attr]
            return c.op("floordiv", Value(str(rest.inputs[0])), b)
    return c.op("floordiv", a, b)


def fmod(c: Context, node: SourceNode, a: Value, b: Value) -> Value:
    """Remainder with the sign of the dividend."""
    rest = c.op("mod", c.op("abs", a), c.op("abs", b))
    return c.op("mul", c.op("sign", a), rest)


def not_equal(c: Context, node: SourceNode, a: Value, b: Value) -> Value:
    """What differs from itself is nan; a largest or smallest of 0 and 1 against 0 is any or all."""
    if a == b and dt.is_float(c.dtype(a)):
        return c.op("isnan", a)
    best = maker(c, a)
    zero = c.b.consts.get(b)
    if best is not None and best.op in ("amax", "amin") and zero is not None:
        number = maker(c, best.inputs[0])
        whole = zero.size == 1 and not zero.numpy().any()
        if whole and number is not None and number.op == "cast":
            x = str(number.inputs[0])
            if c.dtype(x) == "bool":
                op = "any" if best.op == "amax" else "all"
                return c.op(op, Value(x), **best.attrs)
    return c.op("not_equal", a, b)


def equal(c: Context, node: SourceNode, a: Value, b: Value) -> Value:
    """A magnitude that equals infinity is infinite."""
    size = maker(c, a)
    bound = c.b.consts.get(b)
    if size is not None and size.op == "abs" and bound is not None and bound.size == 1:
        if np.isposinf(bound.numpy().astype(np.float64)).all():
            return c.op("isinf", Value(str(size.inputs[0])))
    return c.op("equal", a, b)


def logical_not(c: Context, node: SourceNode, x: Value) -> Value:
    """Of an equality of booleans it is the exclusive or."""
    made = maker(c, x)
    if made is not None and made.op == "equal" and c.dtype(str(made.inputs[0])) == "bool":
        return c.op("logical_xor", *map(Value, map(str, made.inputs)))
    return c.op("logical_not", x)


def cast(c: Context, node: SourceNode, x: Value, dtype: str) -> Value:
    """A cast to bool goes by way of float32 from integers."""
    made = maker(c, x)
    if dtype == "bool" and made is not None and made.op == "cast":
        source = str(made.inputs[0])
        if dt.is_int(c.dtype(source)) and c.dtype(x) == "float32":
            x = Value(source)
    return c.cast(x, dtype)


def where(c: Context, node: SourceNode, cond: Value, x: Any = None, y: Any = None) -> Value:
    """Selection; with a condition alone, the places where it holds."""
    if x is None:
        made = maker(c, cond)
        zero = c.b.consts.get(str(made.inputs[1])) if made is not None else None
        if made is not None and made.op == "not_equal" and zero is not None:
            if zero.size == 1 and not zero.numpy().any():
                cond = Value(str(made.inputs[0]))
        return c.op("nonzero", cond)
    want = c.shape(c.op("where", cond, x, y))
    lean = [_unexpanded(c, v) for v in (cond, x, y)]
    small = c.op("where", *lean)
    return small if c.shape(small) == want else c.op("where", cond, x, y)


def _unexpanded(c: Context, v: Value) -> Value:
    """A value before it was broadcast, which selection does itself."""
    made = maker(c, v)
    if made is None or made.op != "expand":
        return v
    source = str(made.inputs[0])
    inner = maker(c, source)
    if inner is not None and inner.op == "reshape" and not c.shape(str(inner.inputs[0])):
        return Value(str(inner.inputs[0]))
    return Value(source)


def clip(c: Context, node: SourceNode, x: Value, min: float, max: float) -> Value:  # noqa: A002
    """Clip by attributes."""
    return c.op("clip", x, min=float(min), max=float(max))


def exp(c: Context, node: SourceNode, x: Value, base: float, scale: float, shift: float) -> Value:
    """``base ** (x*scale + shift)``; a base of -1 is e."""
    x = _scaled(c, x, scale, shift)
    if base == -1:
        return c.op("exp", x)
    if base <= 0:
        raise c.refuse(f"a base of {base}", "use a positive base")
    return c.op("exp", c.op("mul", x, math.log(base)))


def power(
    c: Context, node: SourceNode, x: Value, exponent: Value, scale: float, shift: float
) -> Value:
    """``(x*scale + shift) ** exponent``."""
    return c.op("pow", _scaled(c, x, scale, shift), exponent)


def _scaled(c: Context, x: Value, scale: float, shift: float) -> Value:
    x = x if scale == 1 else c.op("mul", x, float(scale))
    return x if shift == 0 else c.op("add", x, float(shift))


def add_n(c: Context, node: SourceNode, xs: tuple[Value, ...]) -> Value:
    """A sum of operands."""
    out = xs[0]
    for x in xs[1:]:
        out = c.op("add", out, x)
    return out


def scale(
    c: Context, node: SourceNode, x: Value, factor: Value, shift: Value | None, axis: int,
    activation_type: str,
) -> Value:  # fmt: skip
    """A factor and a shift along axes that begin at ``axis``."""
    rank = c.rank(x)
    at = axis % max(rank, 1)

    def along(v: Value) -> Value:
        return c.op("reshape", v, shape=(*c.shape(v), *[1] * (rank - at - c.rank(v))))

    y = c.op("mul", x, along(factor))
    return activate(c, y if shift is None else c.op("add", y, along(shift)), activation_type)


def prelu(c: Context, node: SourceNode, x: Value, slope: Value, channel_shared: bool) -> Value:
    """A slope for each element of the last axis, or one for all."""
    shape = () if channel_shared or c.shape(slope) == (1,) else c.shape(slope)
    return c.op("prelu", x, c.op("reshape", slope, shape=shape))


# -- reductions ------------------------------------------------------------------------------------
_MODES = {
    "ReduceMean": "mean", "ReduceMax": "amax", "ReduceMin": "amin", "ReduceProd": "prod",
    "ReduceSum": "sum", "ReduceAll": "all",
}  # fmt: skip


def reduce(
    c: Context, node: SourceNode, x: Value, axes: Any, mode: str, keep_dims: bool,
    reduce_to_end: bool, coeff: float,
) -> Value:  # fmt: skip
    """Reductions over axes; none means all of them."""
    rank = c.rank(x)
    given = [int(a) for a in c.dims(axes)] if axes is not None else []
    if reduce_to_end:
        given = list(range(given[0] % rank, rank)) if given else []
    over = tuple(sorted({a % rank for a in given})) if given else tuple(range(rank))
    attrs = {"axis": over, "keepdims": keep_dims}
    if mode == "ReduceSumSquare":
        y = c.op("sum", c.op("square", x), **attrs)
    elif mode == "ReduceASum":
        y = c.op("sum", c.op("abs", x), **attrs)
    elif mode == "ReduceL2":
        y = c.op("sqrt", c.op("sum", c.op("square", x), **attrs))
    else:
        y = c.op(_MODES[mode], x, **attrs)
    return y if coeff in (0.0, 1.0) or mode == "ReduceAll" else c.op("mul", y, float(coeff))


def extreme(
    c: Context, node: SourceNode, x: Value, axis: int, top_k: int, keep_dims: bool,
    out_max_value: bool,
) -> Value:  # fmt: skip
    """Index of the largest or smallest element."""
    if top_k > 1 or out_max_value:
        raise c.refuse("several extremes, or their values", "use TopK")
    op = {"ArgMaxFusion": "argmax", "ArgMinFusion": "argmin"}[node.op]
    return c.op(op, x, axis=axis, keepdims=keep_dims)


# -- products and recurrence -----------------------------------------------------------------------
def matmul(
    c: Context, node: SourceNode, a: Value, b: Value, bias: Value | None, transpose_a: bool,
    transpose_b: bool, activation_type: str,
) -> Value:  # fmt: skip
    """A product; of a matrix [out, in] that is turned, with or without bias, it is linear."""
    if transpose_b and not transpose_a and c.rank(b) == 2:
        return activate(c, c.op("linear", a, b, bias), activation_type)
    a, b = (_turned(c, v) if turn else v for v, turn in ((a, transpose_a), (b, transpose_b)))
    y = c.op("matmul", a, b)
    return activate(c, y if bias is None else c.op("add", y, bias), activation_type)


def _turned(c: Context, v: Value) -> Value:
    n = c.rank(v)
    return c.op("transpose", v, perm=(*range(n - 2), n - 1, n - 2))


def full_connection(
    c: Context, node: SourceNode, x: Value, w: Value, bias: Value | None, use_axis: bool, axis: int,
    activation_type: str,
) -> Value:  # fmt: skip
    """A matrix [out, in] on the axes from ``axis`` on, merged."""
    shape = c.shape(x)
    at = axis % len(shape) if use_axis else len(shape) - 1
    lead = shape[:at] if use_axis else (dm.product(shape[:-1]),)
    x = c.op("reshape", x, shape=(*lead, dm.product(shape[at:])))
    return activate(c, c.op("linear", x, w, bias), activation_type)


def layer_norm(
    c: Context, node: SourceNode, x: Value, scale: Value | None, bias: Value | None,
    begin_norm_axis: int, begin_params_axis: int, elementwise_affine: bool, epsilon: float,
) -> Value:  # fmt: skip
    """Normalises the axes from one on; without affine, scale and bias are stand-ins."""
    rank = c.rank(x)
    if begin_norm_axis % rank != begin_params_axis % rank:
        raise c.refuse("a scale of other axes than are normalised", "give both the same axes")
    if not elementwise_affine:
        scale = bias = None
    return c.op("layer_norm", x, scale, bias, axis=begin_norm_axis % rank - rank, epsilon=epsilon)


def lstm(
    c: Context, node: SourceNode, x: Value, w: Value, r: Value, b: Value, h: Value, cell: Value,
    bidirectional: bool, has_bias: bool, zoneout_cell: float, zoneout_hidden: float,
) -> Any:  # fmt: skip
    """One layer of one direction or two: y [T, D, N, H], last states [D, N, H]."""
    if zoneout_cell or zoneout_hidden:
        raise c.refuse("zoneout", "convert the model in inference mode")
    runs = 2 if bidirectional else 1
    bias = None
    if has_bias:
        halves = c.op("split", b, axis=1, sizes=(c.shape(r)[1],) * 2)
        bias = c.op("add", *halves)
    sides = zip(*(_each(c, v, runs) for v in (w, r, bias, h, cell)))
    turn = maker(c, x)
    if runs == 1 and turn is not None and reverses(c, turn, 0):
        (side,) = sides
        y, *ends = c.op("lstm", Value(str(turn.inputs[0])), *side, reverse=True)
        found = [(reverse(c, node, y, (0,)), *ends)]
    else:
        found = [c.op("lstm", x, *side, reverse=back) for side, back in zip(sides, (False, True))]
    return tuple(_joined(c, list(v), axis) for v, axis in zip(zip(*found), (1, 0, 0)))


def _each(c: Context, v: Value | None, runs: int) -> list[Value | None]:
    """[D, ...] as D values without that axis."""
    if v is None:
        return [None] * runs
    parts = c.op("split", v, axis=0, sizes=(1,) * runs) if runs > 1 else (v,)
    return [c.op("reshape", p, shape=c.shape(v)[1:]) for p in parts]


def _joined(c: Context, values: list[Value], axis: int) -> Value:
    """The results of the directions along a new axis."""
    shape = c.shape(values[0])
    wide = [c.op("reshape", v, shape=(*shape[:axis], 1, *shape[axis:])) for v in values]
    return c.op("concat", *wide, axis=axis) if len(wide) > 1 else wide[0]
