"""Kinds: what inputs of strategies may be."""

from __future__ import annotations

import numpy as np
import pytest

from fusion_db import kinds
from fusion_db.matcher import Match
from fusion_db.work import Work
from tests.fusion_db.graphs import graph, strategy

G = graph(
    ["y = x + c"],
    {"x": ("batch", 3, 4), "i": "int64[2]", "m": "bool[3,1]", "e": ()},
    {"c": (4,), "one": 2.0, "wide": np.ones((1, 1))},
)


def accepts(kind: str, value: str | None, **bound: object) -> bool:
    match = Match(strategy(["y = relu(x)"], ["y = abs(x)"], {"x": "float"}), Work(G))
    match.attrs.update(bound)
    return kinds.parse(kind).accepts(match, value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("float", "x"), ("any", "x"), ("number", "i"), ("int", "i"), ("bool", "m"), ("float32", "x"),
        ("float[*, n]", "x"), ("float[B, H, n]", "x"), ("float[_, 3, 4]", "x"), ("float[*]", "e"),
        ("float[*lead, n]", "x"), ("const", "c"), ("const float[n]", "c"), ("scalar", "one"),
        ("scalar", "wide"), ("float?", None), ("float[3*n, 4]?", None), ("float[]", "e"),
    ],
)  # fmt: skip
def test_accepted(kind: str, value: str | None) -> None:
    assert accepts(kind, value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", "x"), ("float", "i"), ("const", "x"), ("scalar", "c"), ("scalar", "e"), ("float", None),
        ("float[n]", "x"), ("float[a, a, 4]", "x"), ("float[_, 3, 5]", "x"), ("float[n, *, n]", "x"),
    ],
)  # fmt: skip
def test_refused(kind: str, value: str | None) -> None:
    assert not accepts(kind, value)


def test_names_bind_once_and_unknown_sizes_are_not_equal() -> None:
    assert accepts("float[B, 3, 4]", "x", B="batch")
    assert not accepts("float[B, 3, 4]", "x", B="seq")
    assert not accepts("float[B, 3, 4]", "x", B=2)
    assert accepts("float[*lead, 4]", "x", lead=("batch", 3))
    assert not accepts("float[*lead, 4]", "x", lead=("batch",))


def test_broadcast_axes() -> None:
    assert accepts("bool[~S, ~T]", "m", S=3, T=7)
    assert accepts("bool[~B, ~H, S, ~T]", "m", B=2, H=2, S=3, T=7)
    assert not accepts("bool[~S, ~T]", "m", S=5, T=7)
    assert accepts("bool[~*lead]", "m", lead=("batch", 3, 4))
    assert not accepts("bool[~*lead]", "m", lead=(4,))


def test_expressions_wait_for_their_names() -> None:
    assert accepts("float[B, n, n + 1]", "x", n=3)
    assert not accepts("float[B, n + 1, n]", "x", n=4)
    assert kinds.parse("float[2*n]").deferred and not kinds.parse("float[n]").deferred


@pytest.mark.parametrize(
    "text", ["flot", "float int", "float[*, *]", "float[n", "", "const[a b]", "float[*2]", "3"]
)
def test_malformed(text: str) -> None:
    with pytest.raises(kinds.KindError):
        kinds.parse(text)
