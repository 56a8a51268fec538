"""Patterns of attribute values: names bind, literals compare, tuples match element by element."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusion_db.numbers import same_attr

if TYPE_CHECKING:
    from fusion_db.matcher import Match


class AttrPat:
    """A pattern of one attribute value."""

    def match(self, m: Match, value: Any) -> bool:
        """Whether the value fits; binds names until the match backtracks."""
        raise NotImplementedError


@dataclass(eq=False)
class AttrName(AttrPat):
    """A name: the first use binds it, a later one must be equal. ``_`` fits anything."""

    name: str

    def match(self, m: Match, value: Any) -> bool:  # noqa: D102
        if self.name == "_":
            return True
        if self.name in m.attrs:
            return same_attr(m.attrs[self.name], value)
        m.bind_attr(self.name, value)
        return True


@dataclass(eq=False)
class AttrConst(AttrPat):
    """A literal."""

    value: Any

    def match(self, m: Match, value: Any) -> bool:  # noqa: D102
        return same_attr(self.value, value)


@dataclass(eq=False)
class AttrTuple(AttrPat):
    """A tuple matched element by element; one ``*rest`` takes what is left."""

    items: tuple[AttrPat, ...]
    rest: int | None = None

    def match(self, m: Match, value: Any) -> bool:  # noqa: D102
        if not isinstance(value, tuple):
            return False
        items: list[Any] = list(value)
        if self.rest is not None:
            spare = len(items) - (len(self.items) - 1)
            if spare < 0:
                return False
            items[self.rest : self.rest + spare] = [tuple(items[self.rest : self.rest + spare])]
        return len(items) == len(self.items) and all(
            p.match(m, v) for p, v in zip(self.items, items)
        )


@dataclass(eq=False)
class AttrExpr(AttrPat):
    """An expression over other names, compared when the match is complete."""

    expr: ast.expr

    def match(self, m: Match, value: Any) -> bool:  # noqa: D102
        m.defer(self.expr, value)
        return True
