"""Loading: every mistake is E401, named, and the schema agrees; presets and selection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cir.diagnostics import CirError
from fusion_db import database, load, load_text, presets, select
from fusion_db.strategy import FIELDS, FOLDER

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "fusion_db" / "strategy.schema.json").read_text())
GOOD: dict[str, Any] = {
    "id": "s", "schema": 1, "summary": "x", "stage": "fuse", "inputs": {"x": "float[*, n]", "k": "const[n]?"},
    "match": ["h = softmax(x, axis=d)", "y = h * k | h"], "where": ["d == -1"],
    "replace": ["y = relu(x) * k"], "numerics": "reassociate",
}  # fmt: skip


def load_one(**changes: Any) -> Any:
    data = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    return load_text(json.dumps(data))


def test_a_good_one_loads() -> None:
    s = load_one()
    assert (s.id, s.stage, s.size, s.attr_names) == ("s", "fuse", 2, ("n", "d"))


MISTAKES: list[tuple[dict[str, Any], str, bool]] = [
    # (changes, what the message says, whether the schema sees it too)
    ({"mtach": []}, "unknown field 'mtach'; nearest: match", True),
    ({"summary": None}, "field 'summary' is missing", True),
    ({"inputs": []}, "field 'inputs' must be of type dict", True),
    ({"grows": 1}, "field 'grows' must be of type bool", True),
    ({"match": [1]}, "field 'match' must hold strings", True),
    ({"schema": 2}, "schema is 2", True),
    ({"id": "my strategy"}, "must be an identifier", True),
    ({"stage": "fusion"}, "stage is 'fusion', must be one of", True),
    ({"numerics": "approximate"}, "needs rtol", True),
    ({"match": None}, "match has no lines", True),
    ({"targets": {"excluded": []}}, "targets has no 'excluded'; nearest: exclude", True),
    ({"proof": {"n": 3}}, "must be a list of candidates", True),
    ({"inputs": {"x": "flaot", "k": "const?"}}, "input 'x'", False),
    ({"match": ["h = softmax(x", "y = h * k"]}, "is not a statement", False),
    ({"match": ["h = sofmax(x)", "y = h * k"]}, "unknown op 'sofmax'", False),
    ({"match": ["h = softmax(x, axes=d)", "y = h * k"]}, "has no attribute 'axes'; nearest: axis", False),
    ({"match": ["h = cumsum(x)", "y = h * k"]}, "cumsum needs axis=", False),
    ({"match": ["h = softmax(z, axis=d)", "y = h * k + x"]}, "unknown name 'z'", False),
    ({"match": ["h = softmax(x, axis=d)", "h = exp(x)", "y = h * k"]}, "two lines", False),
    ({"match": ["h = exp(y)", "y = h * k + x"]}, "describes itself", False),
    ({"match": ["h = softmax(x, axis=d)", "g = exp(x)", "y = h * k"]}, "not part of what is replaced", False),
    ({"match": ["y = softmax(x, axis=d)"]}, "input 'k' does not occur in match", False),
    ({"match": ["y = softmax(x, axis=x) * k"]}, "is a value, not an attribute", False),
    ({"match": ["y = softmax(x, axis=d) * k | x"]}, "must be an op", False),
    ({"match": ["y = add(x, k, x) * softmax(x, axis=d)"]}, "does not take these operands", False),
    ({"match": ["h = softmax(x, axis=d)", "keep('z')", "y = h * k"]}, "names no line", False),
    ({"where": ["d = 1"]}, "is not an expression", False),
    ({"where": ["e == 1"]}, "unknown name 'e'", False),
    ({"where": ["trailling(1) == d"]}, "unknown predicate 'trailling' in 'trailling(1) == d'; nearest: trailing", False),
    ({"replace": ["z = relu(x)"]}, "must define a name that has a line", False),
    ({"replace": ["y = relu(z)"]}, "unknown name 'z'", False),
    ({"replace": ["y = rellu(x)"]}, "unknown op 'rellu'", False),
    ({"replace": ["y = softmax(x, dim=1)"]}, "has no attribute 'dim'", False),
    ({"replace": ["y = relu(x) | x"]}, "alternatives are for match only", False),
    ({"proof": {"z": [1]}}, "proof names 'z'", False),
    ({"proof": {"x": ["float[", "float"]}}, "proof of 'x'", False),
    ({"counter": [["y = "]]}, "is not a statement", False),
    ({"match": None, "invert": True}, "invert needs", False),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "text", "in_schema"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_mistakes_are_e401_and_named(changes: dict[str, Any], text: str, in_schema: bool) -> None:
    import jsonschema

    with pytest.raises(CirError) as found:
        load_one(**changes)
    assert all(d.code == "E401" for d in found.value.diagnostics)
    assert text in str(found.value)
    data = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(data) is not in_schema


def test_all_mistakes_are_reported_together() -> None:
    with pytest.raises(CirError) as found:
        load_one(
            where=["e == 1"], replace=["y = rellu(x)"], match=["y = softmax(x, axis=d) * k * z"]
        )
    assert len(found.value.diagnostics) == 3


@pytest.mark.parametrize("text", ["{", "[]", '{"id": "a", "id": "b"}'])
def test_what_is_not_an_object_is_e401(text: str) -> None:
    with pytest.raises(CirError, match="E401"):
        load_text(text)


def test_schema_and_loader_know_the_same_fields() -> None:
    import jsonschema

    assert set(SCHEMA["properties"]) == set(FIELDS)
    assert set(SCHEMA["required"]) == {k for k, (_, required) in FIELDS.items() if required}
    for path in sorted(FOLDER.rglob("*.json")):
        jsonschema.validate(json.loads(path.read_text()), SCHEMA)


def test_every_strategy_says_where_it_is_seen() -> None:
    assert all(s.origin and s.tags for s in database().values())


def test_every_preset_names_fuse_strategies() -> None:
    fuse = {s.id for s in database().values() if s.stage == "fuse"}
    assert set(presets()) == {
        "safe", "default", "cnn_optimized", "transformer_optimized", "llm_optimized", "sd_optimized",
    }  # fmt: skip
    for name in presets():
        assert {s.id for s in select("fuse", name)} == set(presets()[name]) <= fuse
    assert {s.id for s in select("fuse", "sd_optimized")} == fuse


def test_select() -> None:
    everything = select("canonicalise", "safe")
    assert {s.id for s in everything} == {
        s.id for s in database().values() if s.stage == "canonicalise"
    }
    assert len(select("canonicalise", disable=["gelu"])) == len(everything) - 1
    assert {s.id for s in select("fuse", ["norm"])} == {"group_norm_silu"}
    assert {s.id for s in select("fuse", ["geglu"])} == {"geglu"}
    for wrong in ({"preset": "sd_optimised"}, {"preset": ["gelgu"]}, {"disable": ["gelgu"]}):
        with pytest.raises(CirError, match="E401 .*nearest"):
            select("fuse", **wrong)  # type: ignore[arg-type]


def test_outside_strategies_are_loaded_and_must_prove_themselves(tmp_path: Path) -> None:
    mine = {
        **GOOD, "id": "mine", "inputs": {"x": "float"}, "match": ["y = exp(neg(x))"], "where": [],
        "replace": ["y = reciprocal(exp(x))"],
    }  # fmt: skip
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(mine))
    assert "mine" in load(path) and "mine" in load(tmp_path)
    assert "mine" in {s.id for s in select("fuse", "safe", extra=[path])}
    assert "mine" not in {s.id for s in select("fuse", "safe", extra=[tmp_path], disable=["mine"])}
    path.write_text(json.dumps({**mine, "replace": ["y = exp(x)"]}))
    with pytest.raises(CirError, match="E402 strategy 'mine': wrong by"):
        select("fuse", "safe", extra=[path])
    path.write_text(json.dumps({**mine, "id": "other"}))
    with pytest.raises(CirError, match="E401 id 'other' must be"):
        load(path)
    with pytest.raises(CirError, match="E401 cannot read"):
        load(tmp_path / "nowhere.json")


def test_targets_and_approximate_strategies() -> None:
    s = load_one(targets={"exclude": ["om"]}, numerics="approximate", rtol=0.01)
    assert s.applies_to("onnx") and not s.applies_to("om") and s.rtol == 0.01
    only = load_one(targets={"include": ["om"]})
    assert only.applies_to("om") and not only.applies_to("onnx")
