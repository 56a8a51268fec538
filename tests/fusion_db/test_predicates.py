"""Each entry of the closed vocabulary, and that there is no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cir import expr as ex
from fusion_db.predicates import FUNCTIONS, Value
from fusion_db.work import Work
from tests.fusion_db.graphs import graph

TRIL = np.tril(np.ones((3, 3)))
G = graph(
    [
        "r = relu(x)", "p = max_pool(r, kernel=[2, 2], strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1])",
        "s = clip(x, min=0.0, max=6.0)", "t = clip(x, min=-1.0)", "a = concat(r, s, axis=1)", "b = concat(r, t, axis=1)",
        "u = k + 1", "w = r + s", "y = p",
    ],
    {"x": (2, 3, 4, 5), "d": ("n", 3), "i": "int32[2]"},
    {
        "k": (3, 1, 1), "k4": (1, 3, 1, 1), "row": (5,), "one": 0.5, "eps": 1e-5, "pos": np.abs(np.ones(3)),
        "tril": TRIL.astype(bool), "added": np.where(TRIL > 0, 0.0, -1e9), "full": np.ones((3, 3), bool),
    },
)  # fmt: skip
WORK = Work(G.with_(outputs=tuple(n.name for n in G.nodes)))
NAMES = {
    **dict(zip(("r", "p", "s", "t", "a", "b", "u", "w"), (n.name for n in G.nodes))),
    **{n: n for n in (*G.inputs, *G.consts)},
}


def evaluate(text: str, **more: Any) -> Any:
    env = {k: Value(v, WORK) for k, v in NAMES.items()}
    return ex.evaluate(text, {**env, "none": None, "shape": (2, "n"), **more}, FUNCTIONS)


CASES: dict[str, list[tuple[str, Any]]] = {
    "value": [("value(one)", 0.5), ("value(eps)", 1e-05), ("value(3)", 3)],
    "default": [("default(none, 2)", 2), ("default(one, 2)", 0.5), ("default(none, None)", None)],
    "snap": [("snap(0.35355338, 1 / sqrt(8))", 1 / 8**0.5), ("snap(0.3536, 1 / sqrt(8))", 0.3536), ("snap(1, 0)", 1.0)],
    "absent": [("absent(none)", True), ("absent(x)", False)],
    "present": [("present(none)", False), ("present(x)", True)],
    "is_const": [("is_const(k)", True), ("is_const(u)", True), ("is_const(x)", False)],
    "single_use": [("single_use(d)", False), ("single_use(k)", True), ("single_use(x)", False)],
    "made_by": [("made_by(r, 'relu')", True), ("made_by(r, 'clip')", False), ("made_by(x, 'relu')", False)],
    "static": [("static(x)", True), ("static(d)", False), ("static((2, 3))", True), ("static(shape)", False)],
    "nonnegative": [
        ("nonnegative(r)", True), ("nonnegative(p)", True), ("nonnegative(s)", True), ("nonnegative(t)", False),
        ("nonnegative(a)", True), ("nonnegative(b)", False), ("nonnegative(x)", False), ("nonnegative(pos)", True),
        ("nonnegative(w)", True), ("nonnegative(row)", bool((G.consts["row"].numpy() >= 0).all())),
    ],
    "causal": [("causal(tril)", True), ("causal(added)", True), ("causal(full)", False), ("causal(row)", False)],
    "lossless": [
        ("lossless('int32', 'int64')", True), ("lossless('int64', 'int32')", False), ("lossless('bool', 'int8')", True),
        ("lossless('float16', 'float32')", True), ("lossless('float32', 'bfloat16')", False),
        ("lossless('int64', 'float32')", False), ("lossless('int8', 'float32')", True),
    ],
    "same_shape": [("same_shape(x, r)", True), ("same_shape(x, p)", False), ("same_shape(x, d)", False)],
    "broadcasts": [
        ("broadcasts(k, x.shape)", True), ("broadcasts(row, x.shape)", True), ("broadcasts(one, ())", True),
        ("broadcasts(x, k.shape)", False), ("broadcasts(pos, x.shape)", False),
    ],
    "along": [
        ("along(row, x, (-1,))", True), ("along(k, x, (-3,))", True), ("along(k4, x, (-3,))", True),
        ("along(row, x, (-2, -1))", False), ("along(one, x, (-1,))", False), ("along(k, x, (-1,))", False),
    ],
    "channel_const": [
        ("channel_const(k, x)", True), ("channel_const(k4, x)", True), ("channel_const(one, x)", True),
        ("channel_const(row, x)", False), ("channel_const(r, x)", False),
    ],
    "trailing": [("trailing(2)", (-2, -1)), ("trailing(0)", ())],
    "divides": [("divides(2, 6)", True), ("divides(2, 5)", False), ("divides(2, '4*n')", True)],
    "multiples": [("multiples((4, 6), (2, 3))", True), ("multiples((4, 5), (2, 3))", False)],
    "pick": [("pick(x.shape, (-1, 0))", (5, 2))],
    "plus": [("plus((1, 2), (3, 'n'))", (4, "n + 2"))],
    "spatial": [("spatial((0, 0, 1, 2, 0, 0, 3, 4))", (1, 2, 3, 4))],
    "repeated": [
        ("repeated((2, 3, 4, 5), (2, 3, 4, 1, 5, 1), (2, 3, 4, 2, 5, 3))", (8, 15)),
        ("repeated(('n', 3, 4, 5), ('n', 3, 4, 1, 5), ('n', 3, 4, 2, 5))", (8, 5)),
    ],
    "to_end": [("to_end(4, (-3,))", (0, 2, 3, 1)), ("to_end(3, (-1,))", (0, 1, 2))],
    "inverse": [("inverse((0, 2, 3, 1))", (0, 3, 1, 2))],
    "swap_last": [("swap_last(4)", (0, 1, 3, 2))],
    "highest": [("highest(None, 1)", 1), ("highest(2, 1)", 2), ("highest(None, None)", None)],
    "lowest": [("lowest(None, 1)", 1), ("lowest(2, 1)", 1)],
    "ordered": [("ordered(1, 2)", True), ("ordered(2, 1)", False), ("ordered(None, 1)", True)],
}  # fmt: skip


def test_the_vocabulary_is_closed_documented_and_tested() -> None:
    assert set(CASES) == set(FUNCTIONS)
    assert all(fn.__doc__ for fn in FUNCTIONS.values())


@pytest.mark.parametrize(("text", "want"), [c for cases in CASES.values() for c in cases])
def test_predicate(text: str, want: Any) -> None:
    got = evaluate(text)
    assert got == want and type(got) is type(want)


@pytest.mark.parametrize(
    "text",
    [
        "value(x)", "value(row)", "value(u)", "divides(2, 'n')", "same_shape(d, r) and 1 == 1 and along(d, d, (-2,)) == 2",
        "multiples(('n',), (2,))", "spatial((1, 0, 0, 0, 0, 0))", "plus((1,), (1, 2))", "broadcasts(d, ('m', 3))",
        "repeated((2, 3, 4, 5), (2, 3, 1, 4, 5), (2, 3, 2, 4, 5))", "repeated((2, 3, 4), (2, 3, 4), (2, 3, 8))",
    ],
)  # fmt: skip
def test_what_is_not_known_is_an_error_that_never_matches(text: str) -> None:
    if "same_shape(d, r)" in text:
        assert evaluate(text) is False
        return
    with pytest.raises(ex.ExprError):
        evaluate(text)
