"""Every strategy proves itself, and a wrong one is caught."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import pytest

from cir.diagnostics import CirError
from fusion_db import Strategy, catalog, database, load_text
from fusion_db.prove import ProofReport, prove
from tests.fusion_db.graphs import strategy


@cache
def proof(name: str) -> ProofReport:
    return prove(database()[name])


@pytest.mark.parametrize("name", database())
def test_strategy(name: str) -> None:
    report = proof(name)
    report.raise_errors()
    assert report.instances > 0


def test_all_proofs_take_less_than_a_minute() -> None:
    start = time.process_time()
    reports = [prove(s) for s in database().values()]
    seconds = time.process_time() - start
    instances, negatives = sum(r.instances for r in reports), sum(r.negatives for r in reports)
    print(
        f"{len(reports)} strategies: {instances} positive and {negatives} negative graphs, {seconds:.1f} s of CPU"
    )
    assert seconds < 60


def test_the_catalogue_is_fresh() -> None:
    want = catalog.text(database(), {name: proof(name) for name in database()})
    assert catalog.PATH.read_text(encoding="utf-8") == want, "run python -m fusion_db.catalog"


def gelu(y: str, **more: Any) -> Strategy:
    return strategy([f"y = {y}"], ["y = gelu(x)"], {"x": "float"}, **more)


def problems(s: Strategy) -> str:
    report = prove(s)
    assert all(d.code == "E402" for d in report.problems)
    return "\n".join(str(d) for d in report.problems)


def test_a_sign_error_is_caught() -> None:
    assert prove(gelu("(x * 0.5) * (erf(x * 0.7071067811865476) + 1)")).ok
    wrong = gelu("(x * 0.5) * (1 - erf(x * 0.7071067811865476))")
    assert "wrong by" in problems(wrong)
    with pytest.raises(CirError, match="E402"):
        prove(wrong).raise_errors()


def test_a_wrong_constant_is_caught() -> None:
    assert "wrong by" in problems(gelu("(x * 0.5) * (erf(x * 0.7071) + 1)"))


def test_a_loose_literal_is_caught() -> None:
    y = "(x * 0.5) * (erf(x * 0.7071067811865476) + 1)"
    assert "a literal perturbed" in problems(gelu(y, const_rtol=0.1))


def test_a_wrong_alternative_is_caught_among_right_ones() -> None:
    s = strategy(["y = x * x | pow(x, 2) | pow(x, 3)"], ["y = square(x)"], {"x": "float"})
    assert "wrong by" in problems(s) and "mul" not in problems(s)


def test_rewriting_ones_own_result_is_caught() -> None:
    s = strategy(["y = relu(x) | abs(x)"], ["y = relu(x)"], {"x": "float"})
    assert "without end" in problems(s)


def test_a_missing_condition_is_caught() -> None:
    def leaky(**more: object) -> Strategy:
        kinds = {"x": "float", "k": "scalar"}
        replace = ["y = leaky_relu(x, alpha=value(k))"]
        return strategy(["y = maximum(x, x * k)"], replace, kinds, proof={"k": [0.5, 2.0]}, **more)

    assert "wrong by" in problems(leaky()) and prove(leaky(where=["0 <= value(k) <= 1"])).ok


def test_an_ignored_attribute_is_caught() -> None:
    match = ["y = exp(log_softmax(x, axis=d))"]
    s = strategy(match, ["y = softmax(x)"], {"x": "float[*, H, W]"}, proof={"d": [-1, -2]})
    assert "wrong by" in problems(s)


def test_an_alternative_that_never_fires_is_caught() -> None:
    s = strategy(["y = relu(x) | softmax(x)"], ["y = x"], {"x": "float"}, where=["1 == 2"])
    assert "never fires" in problems(s)
    u = strategy(["y = cumsum(x, axis=d)"], ["y = x"], {"x": "float"})
    assert "proof needs candidates for 'd'" in problems(u)


def test_firing_on_a_counter_example_is_caught() -> None:
    s = strategy(
        ["y = maximum(x, x * k)"],
        ["y = x"],
        {"x": "float", "k": "scalar"},
        counter=[["y = maximum(x, x * 2)"]],
    )
    assert "counter-example" in problems(s)
    t = strategy(["y = relu(x)"], ["y = relu(x)"], {"x": "float"}, counter=[["y = rellu(x)"]])
    assert "cannot be built" in problems(t)


def test_exact_means_bit_for_bit_and_approximate_has_a_bound() -> None:
    def sums(numerics: str, **more: Any) -> Strategy:
        return strategy(
            ["y = x * 0.1 + x * 0.2"], ["y = x * 0.3"], {"x": "float"}, numerics=numerics, **more
        )

    assert "wrong by" in problems(sums("exact")) and prove(sums("reassociate")).ok
    rough = strategy(
        ["y = x * 1.001"], ["y = x * 1"], {"x": "float"}, numerics="approximate", rtol=0.01
    )
    assert prove(rough).ok
    assert "wrong by" in problems(strategy(["y = x * 1.001"], ["y = x * 1"], {"x": "float"}))


def test_invert_reads_a_decomposition_backwards() -> None:
    import json

    text = {
        "id": "s", "schema": 1, "summary": "x", "stage": "canonicalise", "inputs": {"x": "float"},
        "invert": True, "replace": ["y = mish(x)"], "numerics": "reassociate",
    }  # fmt: skip
    s = load_text(json.dumps(text))
    assert s.match == ("y = x * tanh(softplus(x))",) and prove(s).ok
