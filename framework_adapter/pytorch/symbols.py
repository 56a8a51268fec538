"""Symbolic sizes of torch.export (sympy trees) as dims of the IR, node by node.

sympy is never imported: a tree is read through the class names and ``args`` of its nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

from cir import dim as dm
from cir.builder import sanitize
from cir.dim import Dim, DimError, SymInt
from cir.graph import Range

#: An affine form with rational factor: factor * dim, for sizes that pass through floating point.
_Scaled = tuple[Fraction, Dim]


class Untranslatable(Exception):
    """An expression without a counterpart among dims."""


class Symbols:
    """Names and dims for the symbols of one exported program."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.ranges: dict[str, Range] = {}
        self.notes: list[str] = []
        self._factors: dict[str, int] = {}
        self._made: dict[str, str] = {}
        self._cache: dict[Any, Dim] = {}

    def learn(self, guards: Any) -> None:
        """Take divisibility from the exporter's guards, before any symbol is named.

        A guard such as ``2*((s - 1)//2) + 2 == s`` says that s is a multiple of 2. Then s is
        written as twice a new symbol, and expressions over it simplify to what the guard says.
        """
        raw = Symbols()
        for guard in guards:
            e = guard.expr
            if type(e).__name__ not in ("Equality", "Eq"):
                continue
            try:
                gap = dm.sub(raw._whole(e.args[0]), raw._whole(e.args[1]))
            except (Untranslatable, DimError):
                continue
            found = dm.symbols_of(gap)
            if len(found) == 1 and (m := _period(gap, *found)) > 1:
                symbol = next(s for s, name in raw.names.items() if name in found)
                self._factors[symbol] = math.lcm(m, self._factors.get(symbol, 1))

    def name(self, symbol: str, wanted: str, *, same: bool = False) -> str:
        """Give one of the exporter's symbols a name, unless it has one; returns its name.

        Symbols of one name are one size when ``same``, as the user's are; else names are made
        different.
        """
        if symbol not in self.names:
            if symbol in self._factors:
                whole, m = wanted, self._factors[symbol]
                wanted = f"{whole}_by_{m}"
                self.notes.append(f"{whole} must be a multiple of {m}: it is written {m}*{wanted}")
            base = name = sanitize(wanted).replace(".", "_").replace("/", "_")
            count = 1
            while not same and name in self.names.values():
                count += 1
                name = f"{base}_{count}"
            self.names[symbol] = name
        return self.names[symbol]

    def dim(self, size: Any) -> Dim:
        """The dim of an int or SymInt."""
        expr = None if isinstance(size, int) else getattr(size.node, "expr", None)
        if expr is None:
            return int(size)
        if expr not in self._cache:
            self._cache[expr] = self._translate(expr)
        return self._cache[expr]

    def operand(self, size: Any) -> int | SymInt:
        """A host operand of an int or SymInt."""
        d = self.dim(size)
        return SymInt(d) if isinstance(d, str) else d

    def shape(self, sizes: Sequence[Any]) -> tuple[Dim, ...]:
        """Dims of a shape."""
        return tuple(d if isinstance(d, int) else self.dim(d) for d in sizes)

    def add_ranges(self, constraints: Any) -> None:
        """Record the bounds that the exporter knows, for named symbols.

        The exporter never sees the sizes 0 and 1 of a dynamic dim (it would specialise on them); a
        lower bound of 2 is that habit, not a property of the model, and becomes 1.
        """
        for symbol, bounds in constraints.items():
            name = self.names.get(str(symbol))
            if name is None:
                continue
            lower, upper = _bound(bounds.lower), _bound(bounds.upper)
            low = 1 if lower is None or lower <= 2 else lower
            m = self._factors.get(str(symbol), 1)
            self.ranges[name] = Range(-(-low // m), None if upper is None else upper // m)

    def _translate(self, expr: Any) -> Dim:
        try:
            factor, d = self._walk(expr)
            if factor.denominator == 1:
                return dm.mul(factor.numerator, d)
        except (Untranslatable, DimError, RecursionError):
            pass
        text = str(expr)
        if text not in self._made:
            self._made[text] = self.name(f"<{text}>", f"size{len(self._made)}")
            self.notes.append(
                f"size {text} has no symbolic form; it is the symbol {self._made[text]}"
            )
        return self._made[text]

    def _walk(self, e: Any) -> _Scaled:
        kind = type(e).__name__
        if getattr(e, "is_Integer", False):
            return Fraction(1), int(e)
        if getattr(e, "is_Symbol", False):
            return Fraction(1), dm.mul(self._factors.get(str(e), 1), self.name(str(e), f"size_{e}"))
        if getattr(e, "is_Number", False):
            value = (
                Fraction(str(e)) if "/" in str(e) else Fraction(float(e)).limit_denominator(1024)
            )
            if abs(float(value) - float(e)) > 1e-9:
                raise Untranslatable(kind)
            return value, 1
        if kind in _IDENTITIES:
            return self._walk(e.args[0])
        if kind in ("Add", "Mul"):
            return reduce(_add if kind == "Add" else _mul, map(self._walk, e.args))
        if kind in ("Pow", "PowByNatural"):
            base, power = (self._walk(x) for x in e.args)
            n = power[0] * power[1] if isinstance(power[1], int) else Fraction(-1)
            if n.denominator != 1 or not 0 <= n <= 8:
                raise Untranslatable(kind)
            one: _Scaled = (Fraction(1), 1)
            return reduce(_mul, [base] * int(n), one)
        if kind in ("IntTrueDiv", "FloatTrueDiv"):
            a, b = map(self._walk, e.args)
            if not isinstance(b[1], int):
                raise Untranslatable(kind)
            return a[0] / (b[0] * b[1]), a[1]
        if kind in ("FloorToInt", "TruncToInt", "floor"):  # sizes are never negative
            factor, d = self._walk(e.args[0])
            return Fraction(1), dm.floordiv(dm.mul(factor.numerator, d), factor.denominator)
        if kind in ("CeilToInt", "ceiling"):
            factor, d = self._walk(e.args[0])
            top = dm.mul(-factor.numerator, d)
            return Fraction(1), dm.mul(-1, dm.floordiv(top, factor.denominator))
        if kind in _BINARY:
            left, right = (self._whole(x) for x in e.args)
            return Fraction(1), _BINARY[kind](left, right)
        if kind in ("Max", "Min"):
            parts = [self._whole(x) for x in e.args]
            return Fraction(1), (dm.maximum if kind == "Max" else dm.minimum)(*parts)
        raise Untranslatable(kind)

    def _whole(self, e: Any) -> Dim:
        factor, d = self._walk(e)
        if factor.denominator != 1:
            raise Untranslatable("a fraction")
        return dm.mul(factor.numerator, d)


_IDENTITIES = ("ToFloat", "Identity")
_BINARY: dict[str, Callable[[Dim, Dim], Dim]] = {
    "FloorDiv": dm.floordiv,
    "CleanDiv": dm.floordiv,
    "Mod": dm.mod,
    "PythonMod": dm.mod,
}


def _period(gap: Dim, symbol: str) -> int:
    """The m > 1 for which the gap is zero exactly at the multiples of m, else 1."""
    zeros = [n for n in range(1, 513) if _value(gap, symbol, n) == 0]
    m = zeros[0] if zeros else 1
    return m if zeros == list(range(m, 513, m)) else 1


def _value(d: Dim, symbol: str, n: int) -> int | None:
    try:
        return dm.evaluate(d, {symbol: n})
    except DimError:  # division by zero
        return None


def _add(a: _Scaled, b: _Scaled) -> _Scaled:
    unit = Fraction(1, a[0].denominator * b[0].denominator)
    total = dm.add(dm.mul(int(a[0] / unit), a[1]), dm.mul(int(b[0] / unit), b[1]))
    return unit, total


def _mul(a: _Scaled, b: _Scaled) -> _Scaled:
    return a[0] * b[0], dm.mul(a[1], b[1])


def _bound(x: Any) -> int | None:
    try:
        n = int(x)
    except (TypeError, ValueError, OverflowError, AttributeError):
        return None
    return n if abs(n) < 2**31 - 1 else None
