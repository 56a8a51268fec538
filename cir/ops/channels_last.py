"""Image ops on channels-last data: x and y are [N, *S, C], weights and attributes stay as they are.

For targets whose kernels want that layout: the layout pass makes these ops, frontends never do.
Each is the transposed twin of the channels-first op of the same name, and made from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cir import spec
from cir.dim import Dim
from cir.graph import TensorType
from cir.kernel import Array
from cir.ops import conv, norm, spatial  # noqa: F401  (registers the twins' originals)
from cir.spec import Infer, InferContext, InferError

_FIRST = "transpose(x, perm=[0, x.rank - 1, *range(1, x.rank - 1)])"
_LAST = "transpose(f, perm=[0, *range(2, x.rank), 1])"
#: Normalisation needs no transpose: the statistics are taken over other axes.
_DECOMPOSITIONS: Mapping[str, Sequence[str]] = {
    "group_norm": [
        "g = reshape(x, shape=[x.shape[0], prod(x.shape[1:-1]), num_groups,"
        " x.shape[-1] // num_groups])",
        "c = g - mean(g, axis=[-3, -1], keepdims=True)",
        "h = c * rsqrt(mean(c * c, axis=[-3, -1], keepdims=True) + epsilon)",
        "y = reshape(h, shape=x.shape) * scale + bias",
    ],
    "group_norm_silu": [
        "y = swish(group_norm_channels_last(x, scale, bias, num_groups=num_groups,"
        " epsilon=epsilon))"
    ],
}


def first(shape: Sequence[Any]) -> tuple[Any, ...]:
    """[N, *S, C] as [N, C, *S]."""
    return (shape[0], shape[-1], *shape[1:-1])


def last(shape: Sequence[Any]) -> tuple[Any, ...]:
    """[N, C, *S] as [N, *S, C]."""
    return (shape[0], *shape[2:], shape[1])


def _inferred(infer: Infer) -> Infer:
    def twin(
        types: Sequence[TensorType | None], attrs: Mapping[str, Any], ctx: InferContext
    ) -> list[TensorType]:
        x = types[0]
        if x is None or x.rank < 3:
            raise InferError(f"x must be [N, *S, C], is {x}")
        turned: tuple[Dim, ...] = first(x.shape)
        (y,) = infer([TensorType(x.dtype, turned), *types[1:]], attrs, ctx)
        return [TensorType(y.dtype, last(y.shape))]

    return twin


def _turned(sample: Mapping[str, Any]) -> dict[str, Any]:
    x, *rest = sample["inputs"]
    dtype, shape = re.fullmatch(r"(\w+)\[(.*)\]", x).groups()  # type: ignore[union-attr]
    return {**sample, "inputs": [f"{dtype}[{','.join(last(shape.split(',')))}]", *rest]}


def _register(name: str) -> str:
    base = spec.get(name)
    operands = ", ".join(["t", *(p.name for p in base.inputs[1:])])
    attrs = ", ".join(f"{a.name}={a.name}" for a in base.attrs)

    def twin(x: Array, *rest: Array | None, **given: Any) -> Array:
        y: Array = base.reference(x.transpose(first(range(x.ndim))), *rest, **given)
        return y.transpose(last(range(y.ndim)))

    twin.__name__ = f"{name}_channels_last"
    twin.__doc__ = f"``{name}`` of x [N, *S, C], weights and attributes as there: [N, *S', C']."
    plain = (f"t = {_FIRST}", f"f = {name}({operands}, {attrs})", f"y = {_LAST}")
    spec.op(
        base.signature.replace(name, twin.__name__, 1),
        domain=base.domain,
        infer=_inferred(base.infer),
        decomposition=_DECOMPOSITIONS.get(name, plain),
        samples=[_turned(s) for s in base.samples],
    )(twin)
    return twin.__name__


#: Channels-first op -> its channels-last twin.
TWINS: Mapping[str, str] = {
    name: _register(name)
    for name in (
        "conv",
        "conv_transpose",
        "max_pool",
        "avg_pool",
        "resize",
        "group_norm",
        "group_norm_silu",
    )
}
