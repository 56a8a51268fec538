"""Variance, norms and products of matrices."""
# ruff: noqa: D103  (the row that names a handler describes it)

from __future__ import annotations

from typing import Any

from cir import dim as dm
from cir.dim import Dim
from framework_adapter.context import Context, Value
from framework_adapter.functions import axis
from framework_adapter.source import SourceNode


def variance(
    c: Context, node: SourceNode, self: Value, dim: Any, correction: Any, keepdim: bool
) -> Any:
    """Sum of squared distances from the mean over (n - correction)."""
    return _variance(c, self, dim, 1 if correction is None else correction, keepdim)


def variance_mean(
    c: Context, node: SourceNode, self: Value, dim: Any, correction: Any, keepdim: bool
) -> Any:
    var = _variance(c, self, dim, 1 if correction is None else correction, keepdim)
    return var, c.run("mean(x, axis=axes(d, x.rank), keepdims=k)", x=self, d=dim, k=keepdim)


def deviation(
    c: Context, node: SourceNode, self: Value, dim: Any, correction: Any, keepdim: bool
) -> Any:
    return c.op("sqrt", variance(c, node, self, dim, correction, keepdim))


def deviation_mean(
    c: Context, node: SourceNode, self: Value, dim: Any, correction: Any, keepdim: bool
) -> Any:
    var, mean = variance_mean(c, node, self, dim, correction, keepdim)
    return c.op("sqrt", var), mean


def variance_all(c: Context, node: SourceNode, self: Value, unbiased: bool) -> Any:
    return _variance(c, self, None, int(unbiased), False)


def deviation_all(c: Context, node: SourceNode, self: Value, unbiased: bool) -> Any:
    return c.op("sqrt", _variance(c, self, None, int(unbiased), False))


def variance_dim(
    c: Context, node: SourceNode, self: Value, dim: Any, unbiased: bool, keepdim: bool
) -> Any:
    return _variance(c, self, dim, int(unbiased), keepdim)


def deviation_dim(
    c: Context, node: SourceNode, self: Value, dim: Any, unbiased: bool, keepdim: bool
) -> Any:
    return c.op("sqrt", _variance(c, self, dim, int(unbiased), keepdim))


def _variance(c: Context, x: Value, dim: Any, correction: float, keepdim: bool) -> Value:
    axes = c.functions["axes"](dim, c.rank(x))
    square = c.run("square(x - mean(x, axis=a))", x=x, a=axes)
    if correction == 0:
        return c.op("mean", square, axis=axes, keepdims=keepdim)
    n = dm.product(c.shape(x)[a] for a in axes)
    total = c.op("sum", square, axis=axes, keepdims=keepdim)
    return c.op("div", total, _count(c, dm.sub(n, int(correction)), c.dtype(x)))


def _count(c: Context, n: Dim, dtype: str) -> Any:
    if isinstance(n, int):
        return float(n)
    from cir.dim import SymInt

    return c.tensor(SymInt(n), dtype)


def vector_norm(
    c: Context,
    node: SourceNode,
    self: Value,
    ord: Any = 2,
    dim: Any = None,
    keepdim: bool = False,
    dtype: Any = None,
) -> Any:
    x = c.cast(self, dtype) if dtype else self
    axes = c.functions["axes"](dim, c.rank(x))
    p = 2 if ord in (None, "fro") else c.scalar(ord)
    bound = {"a": axes, "k": keepdim, "x": x}
    if p == 2:
        return c.run("sqrt(sum(x * x, axis=a, keepdims=k))", **bound)
    if p == 1:
        return c.run("sum(abs(x), axis=a, keepdims=k)", **bound)
    if p == float("inf"):
        return c.run("amax(abs(x), axis=a, keepdims=k)", **bound)
    if p == -float("inf"):
        return c.run("amin(abs(x), axis=a, keepdims=k)", **bound)
    if p == 0:
        return c.run("sum(cast(not_equal(x, 0), dtype=x.dtype), axis=a, keepdims=k)", **bound)
    return c.run("pow(sum(pow(abs(x), p), axis=a, keepdims=k), q)", p=float(p), q=1 / p, **bound)


def distance(c: Context, node: SourceNode, self: Value, other: Value, p: Any) -> Any:
    return vector_norm(c, node, c.op("sub", self, other), p)


def pairwise_distance(
    c: Context, node: SourceNode, x1: Value, x2: Value, p: Any, eps: float, keepdim: bool
) -> Any:
    gap = c.op("add", c.op("sub", x1, x2), float(eps))
    return vector_norm(c, node, gap, p, (-1,), keepdim)


def pair_distances(
    c: Context, node: SourceNode, x1: Value, x2: Value, p: Any, compute_mode: Any
) -> Any:
    """Distance of each row of x1 to each row of x2."""
    *lead, rows, width = c.shape(x1)
    *lead2, columns, _ = c.shape(x2)
    a = c.op("reshape", x1, shape=(*lead, rows, 1, width))
    b = c.op("reshape", x2, shape=(*lead2, 1, columns, width))
    return vector_norm(c, node, c.op("sub", a, b), p, (-1,))


def cross(c: Context, node: SourceNode, self: Value, other: Value, dim: int) -> Any:
    """Component i is a[i+1] b[i+2] - a[i+2] b[i+1], counted modulo 3."""

    def turned(x: Value, first: int) -> Value:
        order = c.tensor([(first + i) % 3 for i in range(3)], "int64")
        return c.op("gather", x, order, axis=dim)

    ahead = c.op("mul", turned(self, 1), turned(other, 2))
    return c.op("sub", ahead, c.op("mul", turned(self, 2), turned(other, 1)))


def addmm(
    c: Context, node: SourceNode, self: Value, mat1: Value, mat2: Value, beta: Any, alpha: Any
) -> Any:
    """``beta * self + alpha * mat1 @ mat2``; beta = 0 ignores self, even NaN in it."""
    product = c.op("matmul", mat1, mat2)
    return _scaled_sum(c, self, product, beta, alpha)


def addbmm(
    c: Context, node: SourceNode, self: Value, mat1: Value, mat2: Value, beta: Any, alpha: Any
) -> Any:
    product = c.op("sum", c.op("matmul", mat1, mat2), axis=[0], keepdims=False)
    return _scaled_sum(c, self, product, beta, alpha)


def _scaled_sum(c: Context, x: Value, product: Value, beta: Any, alpha: Any) -> Value:
    if alpha != 1:
        product = c.op("mul", product, alpha)
    if beta == 0:
        return product
    return c.op("add", product, x if beta == 1 else c.op("mul", x, beta))


def einsum(c: Context, node: SourceNode, equation: str, operands: Any, path: Any) -> Any:
    return c.op("einsum", *operands, equation=equation.replace(" ", ""))


def tensordot(
    c: Context, node: SourceNode, self: Value, other: Value, dims_self: Any, dims_other: Any
) -> Any:
    a, b = c.shape(self), c.shape(other)
    ia = [axis(d, len(a)) for d in dims_self]
    ib = [axis(d, len(b)) for d in dims_other]
    ra = [i for i in range(len(a)) if i not in ia]
    rb = [i for i in range(len(b)) if i not in ib]
    k = dm.product(a[i] for i in ia)
    x = c.op("transpose", self, perm=(*ra, *ia))
    y = c.op("transpose", other, perm=(*ib, *rb))
    x = c.op("reshape", x, shape=(dm.product(a[i] for i in ra), k))
    y = c.op("reshape", y, shape=(k, dm.product(b[i] for i in rb)))
    return c.op("reshape", c.op("matmul", x, y), shape=[a[i] for i in ra] + [b[i] for i in rb])
