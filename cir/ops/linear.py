"""Matrix products: matmul, linear, einsum."""

from __future__ import annotations

import numpy as np

from cir.dim import Dim
from cir.graph import TensorType
from cir.infer import (
    Attrs,
    Types,
    broadcast_dim,
    broadcast_shapes,
    need_min_rank,
    need_rank,
    optional,
    same_dim,
    same_dtype,
    typed,
)
from cir.kernel import Array, kernel
from cir.spec import InferContext, InferError, op


def _infer_matmul(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    a, b = typed(types, 0), typed(types, 1)
    same_dtype(a, b)
    sa, sb = a.shape, b.shape
    if not sa or not sb:
        raise InferError(f"operands are {a} and {b}: rank 0 takes mul")
    inner = sb[-2] if len(sb) > 1 else sb[0]
    if sa[-1] != inner:
        same_dim(sa[-1], inner, f"contracted axes of {a} and {b}")
    lead = broadcast_shapes(sa[:-2], sb[:-2])
    rows = sa[-2:-1] if len(sa) > 1 else ()
    cols = sb[-1:] if len(sb) > 1 else ()
    return [TensorType(a.dtype, (*lead, *rows, *cols))]


def for_blas(x: Array) -> Array:
    """x, copied when BLAS would refuse its last two axes (broadcast or doubly strided)."""
    if x.ndim < 2:
        return x
    size = x.itemsize
    rows, cols = x.strides[-2:]
    plain = (cols == size and rows >= size * x.shape[-1]) or (
        rows == size and cols >= size * x.shape[-2]
    )
    return x if plain else np.ascontiguousarray(x)


@op("matmul(a, b)", domain="number", infer=_infer_matmul,
    samples=[{"inputs": ["float32[2,3]", "float32[3,4]"]},
             {"inputs": ["float32[2,1,3,4]", "float32[5,4,2]"]},
             {"inputs": ["float32[3]", "float32[2,3,4]"]},
             {"inputs": ["int64[2,3]", "int64[3]"]}])  # fmt: skip
@kernel
def matmul(a: Array, b: Array) -> Array:
    """Matrix product over the last two axes; leading axes broadcast; rank 1 is a row or column."""
    return np.matmul(for_blas(a), for_blas(b))


def _infer_linear(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, w, b = typed(types, 0), typed(types, 1), optional(types, 2)
    same_dtype(x, w)
    need_min_rank(x, 1, "x")
    need_rank(w, 2, "w")
    if x.shape[-1] != w.shape[1]:
        same_dim(
            x.shape[-1], w.shape[1], f"last axis of x {x} and axis 1 of w {w} (w is [out, in])"
        )
    if b is not None:
        same_dtype(x, b)
        need_rank(b, 1, "b")
        same_dim(b.shape[0], w.shape[0], f"bias {b} and axis 0 of w {w}")
    return [TensorType(x.dtype, (*x.shape[:-1], w.shape[0]))]


@op("linear(x, w, b?)", domain="float", infer=_infer_linear,
    decomposition="y = matmul(x, transpose(w, perm=[1, 0])) + b",
    samples=[{"inputs": ["float32[2,3]", "float32[4,3]", "float32[4]"]},
             {"inputs": ["float32[2,5,3]", "float32[4,3]"]}])  # fmt: skip
@kernel
def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """``x @ w.T + b`` over the last axis of x; w is [out, in], b is [out]."""
    y = (for_blas(x.reshape(-1, x.shape[-1])) @ for_blas(w).T).reshape(*x.shape[:-1], w.shape[0])
    return y if b is None else np.add(y, b, out=y)


def parse_equation(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Operand and result labels of an einsum equation, one character for each axis.

    An ellipsis becomes upper-case letters that the equation does not use, aligned at the right.
    Without "->" the result has the ellipsis axes, then the labels that occur once, in alphabetical
    order.

    Raises:
        InferError: the equation is malformed or does not fit the ranks.
    """
    text = equation.replace(" ", "")
    left, arrow, result = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise InferError(f"equation {equation!r} has {len(terms)} operands, got {len(ranks)}")
    spare = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in text]
    dots = ""
    for term, rank in zip(terms, ranks):
        if "..." in term:
            n = rank - len(term.replace("...", ""))
            if n > len(dots):
                dots = "".join(reversed(spare[:n]))
    out = []
    for term, rank in zip(terms, ranks):
        n = rank - len(term.replace("...", ""))
        labels = term.replace("...", dots[len(dots) - n :] if n > 0 else "", 1)
        if len(labels) != rank or not (labels.isalpha() or not labels):
            raise InferError(f"operand {term!r} of {equation!r} does not label {rank} axes")
        out.append(labels)
    seen = "".join(out)
    if arrow:
        result = result.replace("...", dots, 1)
    else:
        result = dots + "".join(
            sorted(c for c in set(seen) if seen.count(c) == 1 and c not in dots)
        )
    if len(set(result)) != len(result) or not set(result) <= set(seen):
        raise InferError(f"result of {equation!r} must hold each label once, from the operands")
    return out, result


def _infer_einsum(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    if not types:
        raise InferError("einsum needs one operand or more")
    operands = [typed(types, i) for i in range(len(types))]
    labels, result = parse_equation(attrs["equation"], [t.rank for t in operands])
    sizes: dict[str, Dim] = {}
    for t, term in zip(operands, labels):
        same_dtype(operands[0], t)
        for c, d in zip(term, t.shape):
            try:
                sizes[c] = broadcast_dim(sizes[c], d) if c in sizes else d
            except InferError as exc:
                raise InferError(f"label {c!r} of {attrs['equation']!r}: {exc}") from None
    return [TensorType(operands[0].dtype, tuple(sizes[c] for c in result))]


@op("einsum(*xs; equation: str)", domain="number", infer=_infer_einsum,
    samples=[{"inputs": ["float32[2,3,4]", "float32[2,5,4]"], "equation": "bqd,bkd->bqk"},
             {"inputs": ["float32[2,3,4]", "float32[4,5]"], "equation": "...i,ij->...j"},
             {"inputs": ["float32[3,3]"], "equation": "ii"},
             {"inputs": ["float32[2,3]", "float32[3,4]", "float32[4]"],
              "equation": "ij,jk,k"}])  # fmt: skip
@kernel
def einsum(*xs: Array, equation: str) -> Array:
    """Sum of products over the labels that the result leaves out (Einstein's convention)."""
    labels, result = parse_equation(equation, [x.ndim for x in xs])
    return np.einsum(f"{','.join(labels)}->{result}", *xs, optimize=True)
