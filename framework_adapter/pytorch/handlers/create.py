"""Tensors from numbers, and selection between tensors and numbers."""
# ruff: noqa: D103  (the row that names a handler describes it)

from __future__ import annotations

from typing import Any

import numpy as np

from framework_adapter.context import Context, Value
from framework_adapter.source import SourceNode


def _filled(c: Context, value: Any) -> Value:
    """The number everywhere in a tensor of the reported type."""
    assert c.out is not None
    one = c.cast(c.tensor(value, c.out.dtype), c.out.dtype)
    if c.rank(one):
        one = c.op("reshape", one, shape=())
    return c.op("expand", one, shape=c.out.shape) if c.out.shape else one


def full(c: Context, node: SourceNode, size: Any, fill_value: Any) -> Any:
    return _filled(c, fill_value)


def full_like(c: Context, node: SourceNode, self: Value, **value: Any) -> Any:
    (number,) = value.values()
    return _filled(c, number)


def full_like_sized(c: Context, node: SourceNode, self: Value, size: Any, fill_value: Any) -> Any:
    return _filled(c, fill_value)


def zeros(c: Context, node: SourceNode, rest: Any) -> Any:
    return _filled(c, 0)


def ones(c: Context, node: SourceNode, rest: Any) -> Any:
    return _filled(c, 1)


def scalar_tensor(c: Context, node: SourceNode, value: Any) -> Any:
    made = c.tensor(value, c.out.dtype if c.out else None)
    return c.cast(made, c.out.dtype) if c.out else made


def arange(c: Context, node: SourceNode, end: Any, start: Any = 0, step: Any = 1) -> Any:
    assert c.out is not None
    dtype = c.out.dtype
    return c.op("arange", *[c.cast(c.tensor(v, dtype), dtype) for v in (start, end, step)])


def linspace(c: Context, node: SourceNode, start: Any, end: Any, steps: Any) -> Any:
    assert c.out is not None
    if isinstance(start, Value) or isinstance(end, Value):
        n = c.scalar(steps)
        a, b = (c.cast(c.tensor(v, c.out.dtype), c.out.dtype) for v in (start, end))
        way = c.tensor([i / max(n - 1, 1) for i in range(n)], c.out.dtype)
        return c.run("a + (b - a) * t", a=a, b=b, t=way)
    numbers = [c.scalar(v) for v in (start, end, steps)]
    return c.tensor(np.linspace(*numbers).tolist(), c.out.dtype)


def eye(c: Context, node: SourceNode, n: Any, m: Any) -> Any:
    assert c.out is not None
    rows, columns = c.out.shape
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise c.refuse("eye of a symbolic size is not supported", "give it a fixed size")
    return Value(c.b.const(np.eye(rows, columns), dtype=c.out.dtype))


def where(c: Context, node: SourceNode, condition: Value, self: Any, other: Any) -> Any:
    assert c.out is not None
    a, b = (c.cast(c.tensor(v, c.out.dtype), c.out.dtype) for v in (self, other))
    return c.op("where", c.cast(condition, "bool"), a, b)


def nan_to_num(
    c: Context, node: SourceNode, self: Value, nan: Any, posinf: Any, neginf: Any
) -> Any:
    dtype = c.dtype(self)
    if "float" not in dtype:
        return self
    from cir.dtype import to_numpy

    limits = np.finfo(np.float32 if dtype == "bfloat16" else to_numpy(dtype))
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    x = c.run(
        "y = where(isnan(x), cast(n, dtype=x.dtype), x)", x=self, n=0.0 if nan is None else nan
    )
    x = c.run("y = where(equal(x, inf), cast(n, dtype=x.dtype), x)", x=x, n=high, inf=float("inf"))
    return c.run(
        "y = where(equal(x, inf), cast(n, dtype=x.dtype), x)", x=x, n=low, inf=-float("inf")
    )


def random(c: Context, node: SourceNode, rest: Any) -> Any:
    raise c.refuse(
        "random numbers differ from run to run",
        "draw them outside and pass them as an input, or call model.eval()",
    )


def complex_numbers(c: Context, node: SourceNode, rest: Any) -> Any:
    raise c.refuse(
        "complex numbers are not supported", "write it with a real and an imaginary part"
    )
