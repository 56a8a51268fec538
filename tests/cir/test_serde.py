"""CIR files: bytes, round trips, strictness, versions."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import cir
from cir import serde
from cir.diagnostics import CirError
from cir.graph import Graph, Model
from cir.serde import encode, load, save
from tests.cir import samples

MODELS = samples.all_models()


def document(model: Model) -> dict[str, Any]:
    return json.loads(encode(model))


def consts(graph: Graph) -> dict[str, Any]:
    found = dict(graph.consts)
    for _, node in graph.walk():
        for region in node.regions:
            found.update(region.consts)
    return found


def assert_same(a: Model, b: Model) -> None:
    assert encode(a) == encode(b)
    left, right = consts(a.graph), consts(b.graph)
    assert left.keys() == right.keys()
    for name, c in left.items():
        x, y = c.numpy(), right[name].numpy()
        assert (x.dtype, x.shape) == (y.dtype, y.shape), name
        if x.tobytes() != y.tobytes():  # inline values keep a nan, not its sign and payload
            nan = x != x
            assert c.size <= 16 and nan.any() and (nan == (y != y)).all(), name
            assert x[~nan].tobytes() == y[~nan].tobytes(), name
    assert [n.meta for n in a.graph.nodes] == [n.meta for n in b.graph.nodes]
    assert (a.state, dict(a.symbols), a.meta) == (b.state, dict(b.symbols), b.meta)


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.cir.json"
    save(MODELS[name], path)
    again = load(path)
    assert_same(again, MODELS[name])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    save(again, path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@settings(max_examples=60, deadline=None)
@given(samples.models())
def test_round_trip_of_random_models(model: Model) -> None:
    table = {c.digest: c for c in model.graph.consts.values()}
    text = encode(model)
    assert_same(serde.decode(text, lambda key, t: table[key]), model)
    assert encode(serde.decode(text, lambda key, t: table[key])) == text


def test_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    code = (
        "from tests.cir import samples; from cir.serde import save; from cir.digest import *\n"
        "for name, m in samples.all_models().items():\n"
        "    save(m, name + '.cir.json'); print(structure_digest(m).hex, content_digest(m))"
    )
    found = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        run = [sys.executable, "-c", code]
        out = subprocess.run(run, cwd=folder, env=env, check=True, capture_output=True).stdout
        found.append((out, {p.name: p.read_bytes() for p in sorted(folder.iterdir())}))
    assert found[0] == found[1] and len(found[0][1]) == 8


def test_lines_and_numbers(tmp_path: Path) -> None:
    text = encode(samples.mlp())
    lines = text.splitlines()
    assert sum('"op"' in line for line in lines) == len(samples.mlp().graph.nodes)
    assert all(line.count('"op"') <= 1 for line in lines) and text.endswith("}\n")
    assert '"epsilon": 1e-05' in text and '"value": [0.1]' in text
    assert '"sizes": [1, 8]' in text and "\r" not in text
    assert '"min": "-inf"' in encode(samples.dynamic())


def test_tied_weights_are_one_blob(tmp_path: Path) -> None:
    doc = document(samples.mlp())
    assert doc["consts"]["fc1.weight"] == doc["consts"]["fc2.weight"]


def test_meta_takes_no_part_without_it() -> None:
    a = samples.mlp()
    text = encode(a, meta=False)
    assert '"meta"' not in text and "model.py" not in text
    assert text == encode(a.with_(meta={"other": 1}), meta=False)


def test_numbers_may_be_spelled_loosely() -> None:
    """JSON has one kind of number and axes may count from the front; the model is canonical."""
    doc = document(Model(samples.cond()))
    doc["inputs"][1]["shape"] = [20.0]
    b = cir.Builder()
    g = b.finish(b.emit("softmax", [b.input("x", "float32", (2, 3))], name="y"))
    other = document(Model(g))
    other["nodes"][0]["attrs"] = {"axis": 1.0}
    again = serde.decode(json.dumps(other))
    assert again.graph.nodes[0].attrs == {"axis": -1} and encode(again) == encode(Model(g))
    other["nodes"][0]["attrs"] = {}
    assert encode(serde.decode(json.dumps(other))) == encode(Model(g))


# -- saving ----------------------------------------------------------------------------------------
def test_names_must_end_with_the_suffix(tmp_path: Path) -> None:
    for name in ("m.json", "m.cir", ".cir.json"):
        with pytest.raises(CirError) as info:
            save(samples.mlp(), tmp_path / name)
        assert info.value.code == "E100"


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.cir.json"
    save(samples.mlp(), path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(file: Any, blobs: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(serde, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        save(Model(samples.cond()), path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_model_without_large_constants_has_no_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "m.cir.json"
    save(samples.mlp(), path)
    save(samples.dynamic(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.cir.json"]
    load(path)


def test_a_checkpoint_is_not_replaced(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    checkpoint = tmp_path / "m.safetensors"
    save_file({"fc.weight": np.ones(3)}, checkpoint)
    before = checkpoint.read_bytes()
    for model in (samples.mlp(), samples.dynamic()):
        with pytest.raises(CirError, match="E305 m.safetensors exists"):
            save(model, tmp_path / "m.cir.json")
    assert checkpoint.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_loaded_model_survives_being_saved_over(tmp_path: Path) -> None:
    path = tmp_path / "m.cir.json"
    save(MODELS["storage"], path)
    old = load(path)
    save(samples.mlp(), path)
    assert_same(old, MODELS["storage"])


def test_what_cannot_be_written_is_coded(tmp_path: Path) -> None:
    m = samples.mlp()
    for bad in ({"x": object()}, {"x": float("nan")}):
        with pytest.raises(CirError) as info:
            save(m.with_(meta=bad), tmp_path / "m.cir.json")
        assert info.value.code == "E301"
    with pytest.raises(CirError) as info:
        save(m.with_graph(m.graph.with_(outputs=("nowhere",))), tmp_path / "m.cir.json")
    assert info.value.code == "E303"
    assert not list(tmp_path.iterdir())


# -- loading ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not a JSON document"),
        ("{", "not a JSON document"),
        (b"\xff\xfe", "not a JSON document"),
        ("[]", "must be a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"cir": "1.0", "meta": {"a": NaN}}', "NaN is not JSON"),
        ('{"cir": "1.0", "meta": {"a": ' + "9" * 5000 + "}}", "not a JSON document"),
        ('{"cir": "1.0", "name": "a", "name": "b"}', "'name' occurs twice"),
        ('{"cir": 1.0}', '"cir" must hold'),
        ("{}", '"cir" must hold'),
        ('{"cir": "1.0"}', "lacks the field 'name'"),
    ],
)
def test_malformed_texts_are_e301(text: str | bytes, what: str) -> None:
    with pytest.raises(CirError) as info:
        serde.decode(text)
    assert info.value.code == "E301" and what in str(info.value)


def change(doc: Any, path: tuple, value: Any) -> Any:
    """The document with one place set, or removed when the value is ``...``."""
    doc = copy.deepcopy(doc)
    at = doc
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return doc


SOFTMAX = {
    "cir": "1.0",
    "name": "g",
    "inputs": [{"name": "x", "dtype": "float32", "shape": [2, "n"]}],
    "consts": {"w": {"dtype": "float32", "shape": [2], "value": [1, 2]}},
    "nodes": [
        {
            "op": "softmax",
            "inputs": ["x"],
            "attrs": {"axis": -1},
            "outputs": [{"name": "y", "dtype": "float32", "shape": [2, "n"]}],
        }
    ],
    "outputs": ["y"],
}
NODE, OUT = ("nodes", 0), ("nodes", 0, "outputs", 0)


def test_the_plain_document_loads() -> None:
    assert serde.decode(json.dumps(SOFTMAX)).graph.outputs == ("y",)


@pytest.mark.parametrize(
    ("path", "value", "code", "what"),
    [
        (("extra",), 1, "E301", "unknown field 'extra'"),
        ((*NODE, "extra"), 1, "E301", "nodes[0] has an unknown field"),
        ((*OUT, "dtype"), ..., "E301", "nodes[0].outputs[0] lacks the field 'dtype'"),
        ((*OUT, "dtype"), "float31", "E301", "must be a dtype"),
        ((*OUT, "shape"), [True], "E301", "shape[0] must be an integer >= 0"),
        ((*OUT, "shape"), [-1], "E301", "must be an integer >= 0"),
        ((*OUT, "shape"), [1.5], "E301", "must be an integer >= 0"),
        ((*OUT, "name"), "a b", "E301", "must be a name"),
        ((*NODE, "outputs"), [], "E301", "must have 1"),
        ((*NODE, "inputs"), "x", "E301", "must be an array"),
        ((*NODE, "attrs"), [], "E301", "must be an object"),
        ((*NODE, "attrs", "axis"), {}, "E301", "plain value"),
        (("consts", "w", "blob"), "sha256:" + "0" * 64, "E301", "either value or blob"),
        (("consts", "w", "value"), ..., "E301", "either value or blob"),
        (("consts", "w", "value"), [1], "E301", "1 elements"),
        (("consts", "w", "value"), [1, True], "E301", "True is not an element"),
        (("state",), [["x"]], "E301", "must have 2"),
        (("symbols",), {"n": {"min": 0}}, "E301", "lacks the field 'max'"),
        (("cir",), "1.1", "E302", "upgrade"),
        (("cir",), "0.9", "E302", "save it again"),
        (("outputs",), ["z"], "E303", "'z' is not computed"),
        ((*NODE, "inputs"), ["z"], "E303", "reads 'z'"),
        ((*OUT, "name"), "x", "E303", "defined twice"),
        (("state",), [["x", "x"]], "E303", "which is no output"),
        ((*NODE, "op"), "sofmax", "E304", "nearest: softmax"),
        ((*NODE, "attrs"), {"axes": 1}, "E304", "no attribute 'axes'"),
        ((*NODE, "attrs", "axis"), 5, "E304", "out of range"),
        ((*NODE, "attrs", "axis"), 1e999, "E304", "infinity"),
        ((*OUT, "shape"), [2, "m"], "E304", "declared float32[2, m]"),
        ((*OUT, "shape"), [2, "n*"], "E304", "not a dimension"),
        (("symbols",), {"n": {"min": 3, "max": 2, "sizes": []}}, "E304", "empty"),
        (
            ("consts", "w"),
            {"dtype": "int8", "shape": [2], "value": [1, 128]},
            "E301",
            "outside int8",
        ),
        (
            ("consts", "w"),
            {"dtype": "int8", "shape": [2], "blob": "sha256:" + "0" * 64},
            "E305",
            "",
        ),
    ],
)
def test_each_problem_has_its_code(path: tuple, value: Any, code: str, what: str) -> None:
    with pytest.raises(CirError) as info:
        serde.decode(json.dumps(change(SOFTMAX, path, value)).replace("Infinity", "1e999"))
    assert info.value.code == code and what in str(info.value)


def test_all_problems_are_reported_at_once() -> None:
    doc = change(SOFTMAX, ("extra",), 1)
    doc["nodes"] = [change(SOFTMAX["nodes"][0], ("op",), k) for k in range(70)]  # type: ignore[index]
    with pytest.raises(CirError) as info:
        serde.decode(json.dumps(doc))
    assert len(info.value.diagnostics) == 50
    assert "nodes[48].op must be an op name" in str(info.value)


def test_regions_nest_to_a_limit() -> None:
    inner: dict[str, Any] = {**SOFTMAX, "nodes": [], "outputs": [], "inputs": [], "consts": {}}
    del inner["cir"]
    for k in range(40):
        out = [{"name": f"y{k}", "dtype": "bool", "shape": []}]
        node = {"op": "cond", "inputs": [], "outputs": out, "regions": [inner, inner]}
        inner = {**inner, "nodes": [node]}
        node["regions"] = [node["regions"][0]]  # type: ignore[index]
    with pytest.raises(CirError, match="E301 regions nest deeper"):
        serde.decode(json.dumps({**inner, "cir": "1.0"}))


def test_wrong_files(tmp_path: Path) -> None:
    path = tmp_path / "m.cir.json"
    with pytest.raises(CirError) as info:
        load(path)
    assert info.value.code == "E101"
    save(samples.mlp(), path)
    (tmp_path / "m.safetensors").unlink()
    with pytest.raises(CirError) as info:
        load(path)
    assert info.value.code == "E305" and "is missing" in str(info.value)


def test_changed_weights_are_found(tmp_path: Path) -> None:
    path = tmp_path / "m.cir.json"
    save(samples.mlp(), path)
    weights = tmp_path / "m.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CirError) as info:
        load(path)
    assert info.value.code == "E305" and "differs from its sha256" in str(info.value)
    load(path, check=False)


def test_a_large_graph_loads_quickly() -> None:
    from tests.cir.test_verify import chain

    text = encode(Model(chain(14_000)))
    best = 9.0
    for _ in range(3):
        start = time.process_time()
        serde.decode(text)
        best = min(best, time.process_time() - start)
    print(f"14,000 nodes: {best:.2f} s")
    assert best < 1.5
