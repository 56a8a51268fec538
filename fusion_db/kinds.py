"""Kinds: what an input of a strategy may be, such as ``float[*, n]``, ``const[n]?`` or ``scalar``.

    kind  := ["+"] word+ ["[" axes "]"] ["?"]      word: const, scalar, a dtype class or a dtype
    axes  := axis ("," axis)*
    axis  := n | 3 | 2*n | _ | * | *lead | ~n | ~*lead

A name stands for one size throughout a strategy; ``_`` is any size, ``*`` any number of axes,
``~n`` a size that broadcasts to n, ``~*lead`` axes that broadcast to lead. ``?`` admits an absent
operand. ``+`` (positive numbers) matters to proofs only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cir import dim
from cir import dtype as dt
from cir import expr as ex
from cir.dim import Dim
from cir.graph import Const, TensorType

_KIND = re.compile(r"\s*(\+?)([a-z0-9_ ]+?)\s*(?:\[(.*)\])?\s*(\??)\s*\Z")
_NAME = re.compile(r"[A-Za-z]\w*\Z")


class KindError(ValueError):
    """A kind that does not follow the grammar."""


class Names(Protocol):
    """What a kind needs of the match in progress."""

    attrs: dict[str, object]

    def bind_attr(self, name: str, value: object) -> None:
        """Bind a name until the match backtracks."""

    def type_of(self, value: str) -> TensorType:
        """Type of a value."""

    def is_const(self, value: str) -> bool:
        """Whether a value is computed from constants alone."""

    def const(self, value: str) -> Const | None:
        """The constant of that name, or None."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a kind. ``form`` is one of: size, expr, any, rest; ``broadcast`` marks ``~``."""

    form: str
    name: str = ""
    size: int = 0
    expr: ast.expr | None = None
    broadcast: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A parsed kind; ``axes`` is None when any shape will do."""

    text: str
    dtype: str
    const: bool
    scalar: bool
    optional: bool
    positive: bool
    axes: tuple[Axis, ...] | None

    def names(self) -> set[str]:
        """Names of sizes that the axes mention."""
        found: set[str] = set()
        for a in self.axes or ():
            if a.expr is not None:
                found |= {n.id for n in ast.walk(a.expr) if isinstance(n, ast.Name)}
            elif a.name:
                found.add(a.name)
        return found

    @property
    def deferred(self) -> bool:
        """True when the check may need names that are bound later."""
        return any(a.broadcast or a.form == "expr" for a in self.axes or ())

    def accepts(self, m: Names, value: str | None) -> bool:
        """Whether a value is of this kind; binds the names of its axes."""
        if value is None:
            return self.optional
        t = m.type_of(value)
        if self.dtype != "any" and t.dtype not in dt.CLASSES.get(self.dtype, (self.dtype,)):
            return False
        if self.scalar:
            c = m.const(value)
            if c is None or not c.is_scalar:
                return False
        elif self.const and not m.is_const(value):
            return False
        return self.axes is None or self._shape(m, t.shape)

    def _shape(self, m: Names, shape: Sequence[Dim]) -> bool:
        axes = list(self.axes or ())
        rest = next((i for i, a in enumerate(axes) if a.form == "rest"), None)
        if rest is not None:
            spare = len(shape) - (len(axes) - 1)
            if spare < 0:
                return False
            if not _rest(m, axes[rest], tuple(shape[rest : rest + spare])):
                return False
            shape = [*shape[:rest], *shape[rest + spare :]]
            del axes[rest]
        while len(axes) > len(shape) and axes[0].broadcast:
            del axes[0]  # broadcasting supplies leading axes
        return len(axes) == len(shape) and all(_axis(m, a, d) for a, d in zip(axes, shape))


def _rest(m: Names, a: Axis, sizes: tuple[Dim, ...]) -> bool:
    if not a.name:
        return True
    bound = m.attrs.get(a.name)
    if a.broadcast:
        if bound is None:
            return True  # checked again when the match is complete
        assert isinstance(bound, tuple)
        tail = bound[len(bound) - len(sizes) :] if sizes else ()
        return len(sizes) <= len(bound) and all(
            d == 1 or dim.equal(d, b) is True for d, b in zip(sizes, tail)
        )
    if bound is None:
        m.bind_attr(a.name, sizes)
        return True
    return len(bound) == len(sizes) and all(  # type: ignore[arg-type]
        dim.equal(d, b) is True
        for d, b in zip(sizes, bound)  # type: ignore[call-overload]
    )


def _axis(m: Names, a: Axis, d: Dim) -> bool:
    if a.form == "any" or (a.broadcast and d == 1):
        return True
    if a.form == "size":
        return d == a.size
    if a.form == "expr":
        assert a.expr is not None
        try:
            want = ex.evaluate(a.expr, m.attrs)
        except ex.ExprError:
            return True  # a name is still unbound: checked again when the match is complete
        return isinstance(want, (int, str)) and dim.equal(d, want) is True
    bound = m.attrs.get(a.name)
    if bound is None:
        if not a.broadcast:
            m.bind_attr(a.name, d)
        return True
    return isinstance(bound, (int, str)) and dim.equal(d, bound) is True


def parse(text: str) -> Kind:
    """Parse a kind. Raises KindError."""
    found = _KIND.match(text)
    if not found:
        raise KindError(f"{text!r} is not a kind such as 'float[*, n]' or 'const[n]?'")
    plus, words, inner, optional = found.groups()
    parts = words.split()
    dtypes = [w for w in parts if w not in ("const", "scalar")]
    known = {*dt.CLASSES, *dt.ALL}
    if len(dtypes) > 1 or any(w not in known for w in dtypes):
        raise KindError(f"{text!r}: use const, scalar, and one of {', '.join(sorted(dt.CLASSES))}")
    axes = None
    if inner is not None:
        axes = tuple(_parse_axis(a.strip(), text) for a in _commas(inner))
        if sum(a.form == "rest" for a in axes) > 1:
            raise KindError(f"{text!r} has more than one '*'")
    return Kind(
        text=text,
        dtype=dtypes[0] if dtypes else "any",
        const="const" in parts or "scalar" in parts,
        scalar="scalar" in parts,
        optional=bool(optional),
        positive=bool(plus),
        axes=axes,
    )


def _commas(inner: str) -> list[str]:
    out, depth, start = [], 0, 0
    for i, c in enumerate(inner):
        depth += (c in "([") - (c in ")]")
        if c == "," and not depth:
            out.append(inner[start:i])
            start = i + 1
    return [*out, inner[start:]] if inner.strip() else []


def _parse_axis(text: str, kind: str) -> Axis:
    broadcast = text.startswith("~")
    body = text[1:].strip() if broadcast else text
    if body.startswith("*"):
        name = body[1:].strip()
        if name and not _NAME.match(name):
            raise KindError(f"{text!r} in {kind!r} is not an axis")
        return Axis("rest", name, broadcast=broadcast)
    if body == "_":
        return Axis("any", broadcast=broadcast)
    if body.isdigit():
        return Axis("size", size=int(body), broadcast=broadcast)
    if _NAME.match(body):
        return Axis("name", body, broadcast=broadcast)
    try:
        return Axis("expr", expr=ex.parse(body), broadcast=broadcast)
    except ex.ExprError as exc:
        raise KindError(f"{text!r} in {kind!r} is not an axis") from exc
