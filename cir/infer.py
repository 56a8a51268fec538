"""Inference helpers: the shapes and dtypes that several ops have in common.

Each helper is an ``Infer`` function or makes one. Static shapes take short paths: inference runs
once per node of graphs with tens of thousands of nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cir import dim as dims
from cir.dim import Dim
from cir.graph import TensorType
from cir.spec import Infer, InferContext, InferError

Types = Sequence[TensorType | None]
Attrs = Mapping[str, Any]


def typed(types: Types, index: int) -> TensorType:
    """Type of a required input."""
    t = types[index]
    if t is None:
        raise InferError(f"input {index} must not be absent")
    return t


def optional(types: Types, index: int) -> TensorType | None:
    """Type of an optional input; None when it is absent or left out."""
    return types[index] if index < len(types) else None


def same_dtype(a: TensorType, b: TensorType) -> None:
    """Refuse operands of different dtypes."""
    if a.dtype != b.dtype:
        raise InferError(f"operands are {a} and {b}: cast one, the dtypes must be equal")


def same_dim(a: Dim, b: Dim, what: str) -> None:
    """Refuse dims that are not known to be equal; ``what`` names the two sides."""
    if a != b and not dims.equal(a, b):
        sure = "differ" if dims.equal(a, b) is False else "are not known to be equal"
        raise InferError(f"{what}: {a} and {b} {sure}")


def need_rank(t: TensorType, rank: int, name: str) -> None:
    """Refuse another rank than the one given."""
    if len(t.shape) != rank:
        raise InferError(f"{name} must have rank {rank}, is {t}")


def need_min_rank(t: TensorType, rank: int, name: str) -> None:
    """Refuse a rank below the one given."""
    if len(t.shape) < rank:
        raise InferError(f"{name} must have rank {rank} or more, is {t}")


def need_length(attrs: Attrs, name: str, n: int, per: str) -> Any:
    """The sequence attribute ``name``, whose length must be n."""
    value = attrs[name]
    if len(value) != n:
        raise InferError(f"{name} has {len(value)} entries, needs {n}: {per}")
    return value


def need_choice(attrs: Attrs, name: str, choices: tuple[str, ...]) -> str:
    """The string attribute ``name``, which must be one of the choices."""
    value = attrs[name]
    if value not in choices:
        raise InferError(f"{name} is {value!r}, must be one of: {', '.join(choices)}")
    return str(value)


def need_positive(attrs: Attrs, *names: str) -> None:
    """Refuse entries below 1 in integer attributes."""
    for name in names:
        value = attrs[name]
        if any(v < 1 for v in (value if isinstance(value, tuple) else (value,))):
            raise InferError(f"{name} is {value}, must be positive")


def broadcast_dim(a: Dim, b: Dim) -> Dim:
    """The dim that two aligned dims broadcast to. Raises InferError."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    same = dims.equal(a, b)
    if same:
        return a
    why = "differ" if same is False else "are not known to be equal"
    raise InferError(f"dims {a} and {b} {why}: make them equal or one of them 1")


def broadcast_shapes(a: tuple[Dim, ...], b: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The shape that two shapes broadcast to, NumPy's rule. Raises InferError."""
    if a == b or not b:
        return a
    if not a:
        return b
    if len(a) < len(b):
        a, b = b, a
    lead = len(a) - len(b)
    try:
        return (*a[:lead], *[broadcast_dim(x, y) for x, y in zip(a[lead:], b)])
    except InferError as exc:
        show = " and ".join(f"[{', '.join(map(str, s))}]" for s in (a, b))
        raise InferError(f"shapes {show} do not broadcast: {exc}") from None


def same_as(index: int = 0, dtype: str | None = None) -> Infer:
    """Result like input ``index``, of another dtype when one is given."""

    def infer(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
        t = typed(types, index)
        return [t if dtype is None else TensorType(dtype, t.shape)]

    return infer


def broadcast(dtype: str | None = None) -> Infer:
    """Two operands of one dtype broadcast; the result has their dtype or the one given."""

    def infer(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
        a, b = typed(types, 0), typed(types, 1)
        if a.dtype != b.dtype:
            same_dtype(a, b)
        shape = a.shape if a.shape == b.shape else broadcast_shapes(a.shape, b.shape)
        if dtype is None and shape is a.shape:
            return [a]
        return [TensorType(dtype or a.dtype, shape)]

    return infer


def reduced_shape(shape: tuple[Dim, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[Dim, ...]:
    """Shape after reducing canonical (negative) axes."""
    rank = len(shape)
    gone = {a + rank for a in axes}
    if keepdims:
        return tuple([1 if i in gone else d for i, d in enumerate(shape)])
    return tuple([d for i, d in enumerate(shape) if i not in gone])


def reduction(dtype: str | None = None) -> Infer:
    """Reduction over ``axis`` (one axis or several) with ``keepdims``."""

    def infer(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
        t = typed(types, 0)
        axis = attrs["axis"]
        axes = axis if isinstance(axis, tuple) else (axis,)
        return [TensorType(dtype or t.dtype, reduced_shape(t.shape, axes, attrs["keepdims"]))]

    return infer


def checked(infer: Infer, **choices: tuple[str, ...]) -> Infer:
    """An inference that first checks string attributes against their choices."""

    def checked_infer(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
        for name, allowed in choices.items():
            if attrs[name] not in allowed:
                need_choice(attrs, name, allowed)
        return infer(types, attrs, ctx)

    return checked_infer


def ceil_div(a: Dim, b: int) -> Dim:
    """Smallest integer not below a / b, for b > 0."""
    if type(a) is int:
        return -(-a // b)
    return a if b == 1 else dims.floordiv(dims.add(a, b - 1), b)


def window_count(n: Dim, kernel: int, stride: int, dilation: int, pad: int) -> Dim:
    """Places of a window on an axis of n elements with ``pad`` added: (n + pad - span)//stride + 1.

    Raises InferError when it fits nowhere.
    """
    span = dilation * (kernel - 1) + 1
    if type(n) is int:
        if n + pad < span:
            raise InferError(
                f"a window of {span} does not fit into {n} elements and {pad} of padding"
            )
        return (n + pad - span) // stride + 1
    return dims.add(dims.floordiv(dims.add(n, pad - span), stride), 1)
