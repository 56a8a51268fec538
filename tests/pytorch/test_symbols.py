"""sympy trees of torch.export as dims, checked by value."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
sympy = pytest.importorskip("sympy")

from torch.utils._sympy import functions as sf  # noqa: E402

from cir import dim as dm  # noqa: E402
from framework_adapter.pytorch.symbols import Symbols  # noqa: E402

S, T = sympy.symbols("s t", integer=True, positive=True)


def size(expr: object) -> SimpleNamespace:
    return SimpleNamespace(node=SimpleNamespace(expr=expr))


def named() -> Symbols:
    symbols = Symbols()
    symbols.name("s", "batch")
    symbols.name("t", "seq")
    return symbols


@pytest.mark.parametrize(
    ("expr", "want"),
    [
        (2 * S + 1, "2*batch + 1"),
        (S * T - 3, "batch*seq - 3"),
        (S**2, "batch*batch"),
        (sf.FloorDiv(S - 1, 2) + 1, "((batch - 1)//2) + 1"),
        (sf.Mod(S, 8), "(batch%8)"),
        (sf.PythonMod(S, 8), "(batch%8)"),
        (sf.Max(S, T), "max(batch, seq)"),
        (sf.Min(S, sympy.Integer(4)), "min(4, batch)"),
        (sf.TruncToInt(sympy.Float(0.5) * sf.ToFloat(2 * S)), "batch"),
        (sf.TruncToInt(sympy.Float(0.5) * sf.ToFloat(S)), "(batch//2)"),
        (sf.FloorToInt(sf.IntTrueDiv(S, sympy.Integer(3))), "(batch//3)"),
        (sf.CeilToInt(sf.IntTrueDiv(S, sympy.Integer(2))), "-((-batch)//2)"),
        (sympy.Integer(7), 7),
    ],
)
def test_translation(expr: object, want: dm.Dim) -> None:
    assert named().dim(size(expr)) == dm.canonical(want)


def test_what_does_not_translate_is_a_fresh_symbol_with_a_note() -> None:
    symbols = named()
    odd = sf.TruncToInt(sf.FloatPow(sf.ToFloat(S), sympy.Float(0.5)))
    first, again = symbols.dim(size(odd)), symbols.dim(size(odd + 1))
    assert first == symbols.dim(size(odd)) and first != again
    assert len(symbols.notes) == 2 and "no symbolic form" in symbols.notes[0]


def test_names_are_unique_and_plain() -> None:
    symbols = Symbols()
    assert symbols.name("s1", "batch") == "batch"
    assert symbols.name("s1", "other") == "batch"
    assert symbols.name("s2", "batch") == "batch_2"
    assert symbols.name("s3", "a.b c") == "a_b_c"


def test_divisibility_from_guards() -> None:
    symbols = Symbols()
    guards = [
        sympy.Eq(4 * sf.FloorDiv(S - 1, 4) + 4, S),
        sympy.Eq(sf.Mod(S, 6), 0),
        sympy.Ne(S, 3),
        sympy.Eq(S, T),
        T > 2,
    ]
    symbols.learn([SimpleNamespace(expr=g) for g in guards])
    symbols.name("s", "h")
    assert symbols.dim(size(S)) == "12*h_by_12"
    assert symbols.dim(size(4 * sf.FloorDiv(S - 1, 4) + 4)) == "12*h_by_12"
    assert symbols.notes == ["h must be a multiple of 12: it is written 12*h_by_12"]


def test_ranges() -> None:
    symbols = named()
    bounds = {S: SimpleNamespace(lower=2, upper=sympy.oo), T: SimpleNamespace(lower=4, upper=64)}
    symbols.add_ranges(bounds)
    assert (symbols.ranges["batch"].min, symbols.ranges["batch"].max) == (1, None)
    assert (symbols.ranges["seq"].min, symbols.ranges["seq"].max) == (4, 64)
