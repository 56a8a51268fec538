"""The JSON Schema agrees with the decoder, versions migrate, and golden files load for good."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cir
from cir import decode, migrate, serde
from cir import dtype as dt
from cir.diagnostics import CirError, error
from cir.serde import encode, load, save
from tests.cir import samples
from tests.cir.test_serde import SOFTMAX, consts, document

SCHEMA = json.loads((Path(cir.__file__).parent / "schema" / "cir.schema.json").read_text())
MODELS = samples.all_models()


# -- schema ----------------------------------------------------------------------------------------
def test_schema_knows_the_same_dtypes_and_version() -> None:
    assert SCHEMA["$defs"]["dtype"]["enum"] == list(dt.ALL)
    assert SCHEMA["properties"]["cir"]["const"] == migrate.VERSION


@pytest.fixture(scope="module")
def validator() -> Any:
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA)


def structure_ok(doc: Any) -> bool:
    try:
        decode.check_structure(doc)
    except CirError as exc:
        assert {d.code for d in exc.diagnostics} == {"E301"}
        return False
    return True


@pytest.mark.parametrize("name", MODELS)
def test_schema_takes_what_is_written(name: str, validator: Any) -> None:
    doc = document(MODELS[name])
    assert list(validator.iter_errors(doc)) == [] and structure_ok(doc)


DOCUMENTS = [document(m) for m in MODELS.values()] + [SOFTMAX]
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "x", "n\n", "float32", "nan", "inf", "1.0", "a b", "sha256:" + "a" * 64]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "dtype", "shape", "value", "blob", "op", "min", "src", "x", "9"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid document with up to three places replaced, removed, doubled or added."""
    doc = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        at: Any = doc
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(at[key], (dict, list)) and at[key] and draw(st.integers(0, 4)):
                at = at[key]
                continue
            break
        match draw(st.integers(0, 3)):
            case 0 if keys:
                at[key] = draw(JUNK)
            case 1 if keys:
                del at[key]
            case 2 if isinstance(at, list):
                at.append(draw(JUNK) if not at or draw(st.booleans()) else copy.deepcopy(at[0]))
            case 3 if isinstance(at, dict):
                at[
                    draw(st.sampled_from(["x", "meta", "attrs", "value", "regions", "9", "a\n"]))
                ] = draw(JUNK)
    return doc


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(doc=mutated())
def test_schema_and_decoder_agree(validator: Any, doc: Any) -> None:
    assert structure_ok(doc) == validator.is_valid(doc)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(doc=mutated())
def test_wrong_documents_raise_coded_errors_only(doc: Any) -> None:
    table = {c.digest: c for m in MODELS.values() for c in consts(m.graph).values()}

    def blob(key: str, t: Any) -> Any:
        if key not in table:
            raise error("E305", "missing")
        return table[key]

    try:
        model = serde.decode(json.dumps(doc), blob)
    except CirError as exc:
        assert {d.code for d in exc.diagnostics} <= {"E301", "E302", "E303", "E304", "E305"}
    else:
        assert encode(serde.decode(encode(model), blob)) == encode(model)


# -- versions --------------------------------------------------------------------------------------
def test_migration_chains_steps() -> None:
    def rename(doc: dict[str, Any]) -> dict[str, Any]:
        return {**{k: v for k, v in doc.items() if k != "title"}, "name": doc["title"]}

    def add(doc: dict[str, Any]) -> dict[str, Any]:
        return {**doc, "nodes": doc.get("nodes", [])}

    steps = {"0.8": ("0.9", rename), "0.9": ("1.0", add)}
    old = {"cir": "0.8", "title": "g"}
    assert migrate.migrate(old, steps=steps) == {"cir": "1.0", "name": "g", "nodes": []}
    assert old == {"cir": "0.8", "title": "g"}
    with pytest.raises(CirError) as info:
        migrate.migrate(old)
    assert info.value.code == "E302"


def test_migration_is_part_of_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(doc: dict[str, Any]) -> dict[str, Any]:
        return {**doc, "name": "migrated"}

    monkeypatch.setitem(migrate.STEPS, "0.9", ("1.0", step))  # type: ignore[arg-type]
    doc = {**SOFTMAX, "cir": "0.9"}
    assert serde.decode(json.dumps(doc)).graph.name == "migrated"


GOLDEN = Path(__file__).parents[1] / "golden" / "cir"


@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("*.cir.json")), ids=lambda p: str(p.name))
def test_files_of_every_released_version_load(path: Path, tmp_path: Path) -> None:
    """They load, and save as the newest version's golden file of the same name."""
    newest = GOLDEN / migrate.VERSION
    save(load(path), tmp_path / path.name)
    written = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert written
    for name, data in written.items():
        assert data == (newest / name).read_bytes()


def test_golden_files_are_the_samples() -> None:
    """The meaning of the samples' files did not change either."""
    for name, model in MODELS.items():
        assert (GOLDEN / migrate.VERSION / f"{name}.cir.json").read_text() == encode(model)
