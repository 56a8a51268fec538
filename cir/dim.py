"""Symbolic dimensions: integer expressions over + - * // % min max in one canonical spelling.

A dim is an ``int`` or a canonical expression string such as ``"2*seq + 1"``. Internally an
expression is a polynomial: a mapping from a monomial (a sorted tuple of atoms) to an integer
coefficient; an atom is a symbol or an opaque ``//``, ``%``, ``min`` or ``max`` term over canonical
operands. Symbols stand for integers >= 0 (sizes of axes).
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

Dim = int | str
_Mono = tuple[str, ...]
_Poly = tuple[tuple[_Mono, int], ...]

_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


#: A product of sums grows exponentially when it is multiplied out.
_MAX_TERMS = 4096


class DimError(ValueError):
    """An expression that is not a valid dimension."""


def symbol(name: str) -> str:
    """A dimension symbol; raises DimError when the name is not an identifier."""
    if not _SYMBOL.match(name) or name in ("min", "max") or keyword.iskeyword(name):
        raise DimError(f"{name!r} is not a dimension symbol")
    return name


def _poly(d: Dim) -> _Poly:
    if isinstance(d, str):
        return _parse(d)
    if isinstance(d, bool) or not hasattr(d, "__index__"):
        raise DimError(f"{d!r} is not a dimension")
    n = int(d)
    return (((), n),) if n else ()


def _make(terms: Iterable[tuple[_Mono, int]]) -> _Poly:
    acc: dict[_Mono, int] = {}
    for mono, coeff in terms:
        acc[mono] = acc.get(mono, 0) + coeff
    return tuple(sorted((m, c) for m, c in acc.items() if c))


def _padd(a: _Poly, b: _Poly, sign: int = 1) -> _Poly:
    return _make([*a, *((m, sign * c) for m, c in b)])


def _pmul(a: _Poly, b: _Poly) -> _Poly:
    if len(a) * len(b) > _MAX_TERMS:
        raise DimError(f"dimension expression with more than {_MAX_TERMS} terms")
    return _make((tuple(sorted(m + n)), c * d) for m, c in a for n, d in b)


def _const(p: _Poly) -> int | None:
    if not p:
        return 0
    return p[0][1] if len(p) == 1 and p[0][0] == () else None


@lru_cache(maxsize=65536)
def _render(p: _Poly) -> Dim:
    value = _const(p)
    if value is not None:
        return value
    parts: list[str] = []
    # Highest degree first, the constant last: "2*seq + 1".
    for mono, coeff in sorted(p, key=lambda t: (-len(t[0]), t[0])):
        body = "*".join(mono)
        mag = abs(coeff)
        text = body if mono and mag == 1 else f"{mag}*{body}" if mono else str(mag)
        if not parts:
            parts.append(text if coeff > 0 else f"-{text}")
        else:
            parts.append(f"{'+' if coeff > 0 else '-'} {text}")
    return " ".join(parts)


def _atom(text: str) -> _Poly:
    return (((text,), 1),)


def _wrap(d: Dim) -> str:
    text = str(d)
    return text if re.fullmatch(r"\w+", text) else f"({text})"


def _floordiv(a: _Poly, b: _Poly) -> _Poly:
    cb = _const(b)
    if cb == 0:
        raise DimError("division by zero in a dimension")
    ca = _const(a)
    if ca is not None and cb is not None:
        return _poly(ca // cb)
    if a == b:
        return _poly(1)
    if cb is not None:
        # Split off what divides exactly: (4*n + 3)//2 = 2*n + 1 (the rest of each is below cb).
        exact = [(m, c // cb) for m, c in a if c % cb == 0]
        rest = _make((m, c) for m, c in a if c % cb)
        const_rest = _const(rest)
        if const_rest is not None:
            return _padd(_make(exact), _poly(const_rest // cb))
        if exact:
            return _padd(_make(exact), _floordiv(rest, b))
        # (x//p)//q = x//(p*q)
        if len(a) == 1 and a[0][1] == 1 and len(a[0][0]) == 1 and "//" in a[0][0][0] and cb > 0:
            inner = ast.parse(a[0][0][0], mode="eval").body
            if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.FloorDiv):
                p = _const(_eval(inner.right))
                if p is not None and p > 0:
                    return _floordiv(_eval(inner.left), _poly(p * cb))
    elif len(b) == 1:
        # Divide by a monomial where each term of a holds it: (3*n*m)//n = 3*m.
        mono_b, cb1 = b[0]
        out = []
        for mono, coeff in a:
            left = list(mono)
            try:
                for atom in mono_b:
                    left.remove(atom)
            except ValueError:
                break
            if coeff % cb1:
                break
            out.append((tuple(left), coeff // cb1))
        else:
            return _make(out)
    return _atom(f"({_wrap(_render(a))}//{_wrap(_render(b))})")


def _mod(a: _Poly, b: _Poly) -> _Poly:
    ca, cb = _const(a), _const(b)
    if cb == 0:
        raise DimError("modulo by zero in a dimension")
    if ca is not None and cb is not None:
        return _poly(ca % cb)
    if a == b:
        return ()
    if cb is not None:
        rest = _make((m, c % cb) for m, c in a)
        value = _const(rest)
        if value is not None:
            return _poly(value % cb)
        a = rest
    return _atom(f"({_wrap(_render(a))}%{_wrap(_render(b))})")


def _minmax(name: str, args: list[_Poly]) -> _Poly:
    best: list[_Poly] = []
    for p in sorted(set(args)):
        for i, q in enumerate(best):
            gap = _const(_padd(p, q, -1))
            if gap is not None:
                best[i] = p if (gap < 0) == (name == "min") else q
                break
        else:
            best.append(p)
    if len(best) == 1:
        return best[0]
    return _atom(f"{name}({', '.join(sorted(str(_render(p)) for p in best))})")


def _eval(node: ast.expr) -> _Poly:
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int(v)):
            return _poly(v)
        case ast.Name(id=name):
            return _atom(symbol(name))
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return _pmul(_poly(-1), _eval(x))
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _eval(left), _eval(right)
            match op:
                case ast.Add():
                    return _padd(a, b)
                case ast.Sub():
                    return _padd(a, b, -1)
                case ast.Mult():
                    return _pmul(a, b)
                case ast.FloorDiv():
                    return _floordiv(a, b)
                case ast.Mod():
                    return _mod(a, b)
        case ast.Call(func=ast.Name(id="min" | "max" as fn), args=args, keywords=[]) if args:
            return _minmax(fn, [_eval(a) for a in args])
    raise DimError(f"{ast.unparse(node)!r} is not a dimension expression")


@lru_cache(maxsize=65536)
def _parse(text: str) -> _Poly:
    if len(text) > 1000:
        raise DimError("dimension expression longer than 1000 characters")
    if _SYMBOL.match(text):
        return _atom(symbol(text))
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return _eval(tree.body)
    except (SyntaxError, RecursionError, MemoryError) as exc:
        raise DimError(f"{text!r} is not a dimension expression") from exc


def canonical(d: Dim) -> Dim:
    """The one canonical spelling of a dim. Raises DimError."""
    return int(d) if not isinstance(d, str) else _render(_parse(d))


def add(a: Dim, b: Dim) -> Dim:
    """a + b."""
    return a + b if type(a) is int and type(b) is int else _render(_padd(_poly(a), _poly(b)))


def sub(a: Dim, b: Dim) -> Dim:
    """a - b."""
    return a - b if type(a) is int and type(b) is int else _render(_padd(_poly(a), _poly(b), -1))


def mul(a: Dim, b: Dim) -> Dim:
    """a * b."""
    return a * b if type(a) is int and type(b) is int else _render(_pmul(_poly(a), _poly(b)))


def floordiv(a: Dim, b: Dim) -> Dim:
    """a // b. Raises DimError on division by zero."""
    return _render(_floordiv(_poly(a), _poly(b)))


def mod(a: Dim, b: Dim) -> Dim:
    """a % b. Raises DimError on modulo by zero."""
    return _render(_mod(_poly(a), _poly(b)))


def minimum(*dims: Dim) -> Dim:
    """min of dims."""
    return _render(_minmax("min", [_poly(d) for d in dims]))


def maximum(*dims: Dim) -> Dim:
    """max of dims."""
    return _render(_minmax("max", [_poly(d) for d in dims]))


def product(dims: Iterable[Dim]) -> Dim:
    """Product of dims (1 for none)."""
    out: Dim = 1
    for d in dims:
        out = mul(out, d)
    return out


def equal(a: Dim, b: Dim) -> bool | None:
    """True, False, or None when it depends on the symbols' values."""
    if a == b:
        return True
    if type(a) is int and type(b) is int:
        return False
    diff = _const(_padd(_poly(a), _poly(b), -1))
    return None if diff is None else diff == 0


def divides(divisor: Dim, d: Dim) -> bool | None:
    """Whether d is a multiple of divisor: True, False, or None for unknown."""
    if type(divisor) is int and type(d) is int:
        return divisor != 0 and d % divisor == 0
    if divisor == 1:
        return True
    q = _floordiv(_poly(d), _poly(divisor))
    return True if _pmul(q, _poly(divisor)) == _poly(d) else None


def symbols_of(d: Dim) -> frozenset[str]:
    """Symbols that occur in a dim."""
    if not isinstance(d, str):
        return frozenset()
    return frozenset(re.findall(r"[A-Za-z_]\w*", d)) - {"min", "max"}


def substitute(d: Dim, env: Mapping[str, Dim]) -> Dim:
    """Replace symbols by other dims; symbols that env does not name stay."""
    if not isinstance(d, str) or not (symbols_of(d) & env.keys()):
        return d

    def walk(node: ast.expr) -> _Poly:
        match node:
            case ast.Name(id=name) if name in env:
                return _poly(env[name])
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return _pmul(_poly(-1), walk(x))
            case ast.BinOp(left=left, op=op, right=right):
                fn = {
                    ast.Add: _padd,
                    ast.Sub: lambda p, q: _padd(p, q, -1),
                    ast.Mult: _pmul,
                    ast.FloorDiv: _floordiv,
                    ast.Mod: _mod,
                }[type(op)]
                return fn(walk(left), walk(right))  # type: ignore[operator]
            case ast.Call(func=ast.Name(id=fn_name), args=args):
                return _minmax(fn_name, [walk(a) for a in args])
            case _:
                return _eval(node)

    return _render(walk(ast.parse(d, mode="eval").body))


def evaluate(d: Dim, env: Mapping[str, int]) -> int:
    """The integer value of a dim. Raises DimError when a symbol has no value."""
    out = substitute(d, env)
    if isinstance(out, str):
        raise DimError(f"dimension {d!r} needs values for {', '.join(sorted(symbols_of(out)))}")
    return out


class SymInt:
    """A dim as a number-like object, so that NumPy object arrays can compute with shapes."""

    __slots__ = ("dim",)

    def __init__(self, dim: Dim) -> None:
        self.dim = canonical(dim)

    @staticmethod
    def _of(x: object) -> Dim:
        return x.dim if isinstance(x, SymInt) else int(x)  # type: ignore[call-overload]

    def __add__(self, o: object) -> SymInt:
        return SymInt(add(self.dim, self._of(o)))

    __radd__ = __add__

    def __sub__(self, o: object) -> SymInt:
        return SymInt(sub(self.dim, self._of(o)))

    def __rsub__(self, o: object) -> SymInt:
        return SymInt(sub(self._of(o), self.dim))

    def __mul__(self, o: object) -> SymInt:
        return SymInt(mul(self.dim, self._of(o)))

    __rmul__ = __mul__

    def __floordiv__(self, o: object) -> SymInt:
        return SymInt(floordiv(self.dim, self._of(o)))

    def __rfloordiv__(self, o: object) -> SymInt:
        return SymInt(floordiv(self._of(o), self.dim))

    def __mod__(self, o: object) -> SymInt:
        return SymInt(mod(self.dim, self._of(o)))

    def __neg__(self) -> SymInt:
        return SymInt(mul(-1, self.dim))

    def __eq__(self, o: object) -> bool:
        return isinstance(o, (SymInt, int)) and self.dim == self._of(o)

    def __hash__(self) -> int:
        return hash(self.dim)

    def __repr__(self) -> str:
        return str(self.dim)
