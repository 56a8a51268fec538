"""The pattern language, one rule at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion_db import Strategy, apply, explain
from fusion_db.matcher import Match, matches
from fusion_db.work import Work
from tests.fusion_db.graphs import graph, ops, strategy

X = {"x": (2, 3)}


def fires(s: Strategy, lines: list[str], inputs: Any = X, consts: Any = {}, **more: Any) -> int:
    return apply(graph(lines, inputs, consts, **more), [s])[1].get("s", 0)


def bindings(s: Strategy, lines: list[str], inputs: Any = X, consts: Any = {}) -> list[Any]:
    g = graph(lines, inputs, consts)
    return list(matches(s, Work(g), g.outputs[0]))


SWISH = strategy(["y = x * sigmoid(x)"], ["y = swish(x)"], {"x": "float"})


def test_first_use_binds_and_later_uses_must_be_the_same_value() -> None:
    assert fires(SWISH, ["y = x * sigmoid(x)"])
    assert not fires(SWISH, ["y = x * sigmoid(z)"], {"x": (2, 3), "z": (2, 3)})


def test_commutative_operands_permute_at_every_level() -> None:
    s = strategy(["y = (a * b + 1) * c"], ["y = a"], {"a": "float", "b": "scalar", "c": "float"})
    for lines in ("(a * 2 + 1) * c", "(2 * a + 1) * c", "c * (1 + 2 * a)", "c * (1 + a * 2)"):
        assert len(bindings(s, [f"y = {lines}"], {"a": (3,), "c": (3,)})) >= 1, lines
    assert not bindings(s, ["y = (a * 2 - 1) * c"], {"a": (3,), "c": (3,)})


def test_operands_of_other_ops_do_not_permute() -> None:
    s = strategy(["y = x - relu(x)"], ["y = neg(relu(neg(x)))"], {"x": "float"})
    assert fires(s, ["y = x - relu(x)"]) and not fires(s, ["y = relu(x) - x"])


def test_alternatives_and_sub_patterns() -> None:
    s = strategy(
        [
            "q = c * c | square(c) | pow(c, 2)",
            "c = x - m",
            "m = mean(x, axis=a)",
            "y = mean(q, axis=a)",
        ],
        ["y = sum(x, axis=a)"],
        {"x": "float"},
    )
    head = ["m = mean(x, axis=[-1])", "c = x - m"]
    for q in ("c * c", "square(c)", "pow(c, 2)"):
        assert fires(s, [*head, f"y = mean({q}, axis=[-1])"]), q
    assert not fires(s, [*head, "y = mean(square(c), axis=[-2])"])  # another axis
    assert not fires(s, [*head, "y = mean(abs(c), axis=[-1])"])
    assert not fires(s, [*head, "y = mean(c * (x - m), axis=[-1])"])  # two values, equal or not


def test_names_that_the_alternative_leaves_out_are_absent() -> None:
    s = strategy(
        ["y = x * k + b | x * k | x + b"], ["y = x"], {"x": "float", "k": "const?", "b": "const?"}
    )
    consts = {"k": (3,), "b": (3,)}
    for line, present in (("x * k + b", "kb"), ("x * k", "k"), ("x + b", "b")):
        found = bindings(s, [f"y = {line}"], X, consts)[0].values
        assert {n for n in "kb" if found[n] is not None} == set(present)


def test_attributes_bind_compare_and_default() -> None:
    s = strategy(["y = softmax(softmax(x, axis=a), axis=a)"], ["y = x"], {"x": "float"})
    assert bindings(s, ["y = softmax(softmax(x, axis=-2), axis=-2)"])[0].attrs["a"] == -2
    assert not bindings(s, ["y = softmax(softmax(x, axis=-2), axis=-1)"])
    plain = strategy(["y = softmax(x)"], ["y = x"], {"x": "float"})
    assert bindings(plain, ["y = softmax(x)"]) and not bindings(plain, ["y = softmax(x, axis=-2)"])
    any_ = strategy(["y = softmax(x, axis=_)"], ["y = x"], {"x": "float"})
    assert bindings(any_, ["y = softmax(x, axis=-2)"])


def test_attributes_match_by_element_and_by_expression() -> None:
    s = strategy(
        ["y = reshape(x, shape=(N, G, *R))"], ["y = x"], {"x": "float[N, C]"}, where=["G * 2 == C"]
    )
    found = bindings(s, ["y = reshape(x, shape=[2, 3, 2, 1])"], {"x": (2, 6)})
    assert found[0].attrs["R"] == (2, 1)
    assert not bindings(s, ["y = reshape(x, shape=[2, 2, 3])"], {"x": (2, 6)})
    t = strategy(["y = reshape(x, shape=(2 * N, C // 2))"], ["y = x"], {"x": "float[N, C]"})
    assert bindings(t, ["y = reshape(x, shape=[4, 3])"], {"x": (2, 6)})
    assert not bindings(t, ["y = reshape(x, shape=[3, 4])"], {"x": (2, 6)})


def test_float_attributes_compare_as_float32() -> None:
    s = strategy(["y = rms_norm(x, epsilon=1e-5)"], ["y = x"], {"x": "float"})
    assert bindings(s, ["y = rms_norm(x, epsilon=0.000009999999747378752)"])
    assert not bindings(s, ["y = rms_norm(x, epsilon=0.000011)"])


def test_literals_match_rounded_constants_but_must_not_raise_the_rank() -> None:
    s = strategy(["y = x * 0.7071067811865476"], ["y = x"], {"x": "float"})
    for dtype in ("float64", "float32", "float16"):
        consts = {"c": np.float64(0.5**0.5)}
        assert fires(s, ["y = x * c"], X, consts, dtype=dtype), dtype
    assert not fires(s, ["y = x * c"], X, {"c": np.float64(0.7072)})
    assert fires(s, ["y = x * c"], X, {"c": np.full((1, 1), 0.5**0.5)})
    assert not fires(s, ["y = x * c"], X, {"c": np.full((1, 1, 1), 0.5**0.5)})


def test_optional_operands() -> None:
    s = strategy(["y = linear(x, w, b)"], ["y = x"], {"x": "float", "w": "const", "b": "const?"})
    consts = {"w": (3, 3), "b": (3,)}
    assert bindings(s, ["y = linear(x, w)"], X, consts)[0].values["b"] is None
    assert bindings(s, ["y = linear(x, w, b)"], X, consts)[0].values["b"] == "b"
    bare = strategy(["y = linear(x, w)"], ["y = x"], {"x": "float", "w": "const"})
    assert not bindings(bare, ["y = linear(x, w, b)"], X, consts)


def test_several_results_and_variadic_operands() -> None:
    s = strategy(
        ["a, b = split(x, axis=d, sizes=(n, n))", "y = concat(b, *rest, axis=d)"], ["y = x"], {"x": "float"}
    )  # fmt: skip
    lines = ["a, b = split(x, axis=-1, sizes=[2, 2])", "y = concat(b, a, x, axis=-1)"]
    found = bindings(s, lines, {"x": (3, 4)})[0]
    assert len(found.values["rest"]) == 2 and found.attrs["n"] == 2
    uneven = ["a, b = split(x, axis=-1, sizes=[1, 3])", "y = concat(b, a, x, axis=-1)"]
    assert not bindings(s, uneven, {"x": (3, 4)})


def test_many_takes_chains_and_again_repeats_them() -> None:
    s = strategy(
        ["v = many(reshape|transpose, x * k)", "y = relu(v)"],
        ["y = relu(again(v, x)) * k"],
        {"x": "float", "k": "scalar"},
    )
    lines = ["v = transpose(reshape(x * 2, shape=[3, 2, 1]), perm=[2, 0, 1])", "y = relu(v)"]
    g = graph(lines, X)
    out, fired = apply(g, [s])
    assert fired == {"s": 1} and ops(out) == ["mul", "relu", "reshape", "transpose"]
    assert [n.op for n in out.nodes] == ["reshape", "transpose", "relu", "mul"]
    assert fires(s, ["y = relu(x * 2)"]) and not fires(s, ["y = relu(exp(x * 2))"])


def test_interior_values_must_not_escape() -> None:
    lines = ["s = sigmoid(x)", "y = x * s"]
    assert fires(SWISH, lines)
    assert not fires(SWISH, lines, outputs=("y", "s"))
    assert not fires(SWISH, [*lines, "z = s + 1"], outputs=("y", "z"))
    assert fires(SWISH, [*lines, "dead = s + 1"])  # what nothing reads does not count
    kept = strategy(["s = sigmoid(x)", "keep('s')", "y = x * s"], ["y = swish(x)"], {"x": "float"})
    assert fires(kept, [*lines, "z = s + 1"], outputs=("y", "z"))


def test_conditions_and_unknowns_never_match() -> None:
    s = strategy(["y = relu(x)"], ["y = x"], {"x": "float[N, C]"}, where=["divides(2, C)"])
    assert bindings(s, ["y = relu(x)"], {"x": (3, 4)})
    assert not bindings(s, ["y = relu(x)"], {"x": (3, 5)})
    assert not bindings(s, ["y = relu(x)"], {"x": (3, "c")})
    assert bindings(s, ["y = relu(x)"], {"x": (3, "2*c")})


def test_the_budget_ends_an_attempt() -> None:
    names = "abcdefgh"
    kinds = dict.fromkeys(names, "float")
    s = strategy(["y = ((a + b) + (c + d)) + ((e + f) + (g + h))"], ["y = a"], kinds)
    g = graph(["y = ((a + b) + (c + d)) + ((e + f) + (g + h))"], dict.fromkeys(names, (2,)))
    assert len(list(matches(s, Work(g), g.outputs[0]))) == 128  # all orders of operands
    match = Match(s, Work(g), budget=50, log=True)
    assert len(list(match.run(g.outputs[0]))) < 128
    assert match.left < 0


def test_explain_names_the_nearest_miss() -> None:
    s = strategy(
        ["m = mean(x, axis=a)", "y = (x - m) * rsqrt(mean(square(x - m), axis=a) + e)"], ["y = x"],
        {"x": "float", "e": "scalar"}, where=["value(e) > 0", "a == (-1,)"],
    )  # fmt: skip
    good = ["m = mean(x, axis=[-1])", "y = (x - m) * rsqrt(mean(square(x - m), axis=[-1]) + 0.5)"]
    g = graph([good[0], "c = x - m", "y = c * rsqrt(mean(square(c), axis=[-1]) + 0.5)"], X)
    assert explain(g, s, g.outputs[0]) == "matches"
    bad = graph([good[0], "c = x - m", "y = c * rsqrt(mean(square(c), axis=[-1]) + -0.5)"], X)
    assert "value(e) > 0 does not hold" in explain(bad, s, bad.outputs[0])
    other = graph([good[0], "c = x - m", "y = c * rsqrt(mean(exp(c), axis=[-1]) + 0.5)"], X)
    assert "square" in explain(other, s, other.outputs[0])
    assert "not computed" in explain(g, s, "x")
