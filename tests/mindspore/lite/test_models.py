"""The networks as ``.ms`` files, in the eyes of others: netron, MindSpore's shape functions, the source framework."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework_adapter import api, readback, registry, samples
from framework_adapter.mindspore.lite import BACKEND, flat
from framework_adapter.mindspore.lite.check import DTYPES
from tests import netron
from tests.mindspore.lite import nnacl
from tests.models import PAIRS

CASES = [(n, f, symbolic) for n, f in PAIRS for symbolic in (False, True)]


def _program(network: str, framework: str, symbolic: bool) -> tuple[Any, Any, Any]:
    pair = PAIRS[network, framework]()
    front = registry.frontend(framework)
    shapes = pair.dynamic_shapes if symbolic else None
    return api.build(pair.model, front, inputs=pair.inputs, dynamic_shapes=shapes), front, pair


def same_in_netron(path: Path) -> dict[str, Any]:
    """Assert that netron reads ops, names, shapes and weights as we do; what netron reads."""
    seen = netron.read(path)
    assert "error" not in seen, seen.get("error")
    (graph,) = seen["graphs"]
    tables = flat.unpack(path.read_bytes())
    tensors = tables["allTensors"]
    assert [(n["type"], n["name"]) for n in graph["nodes"]] == [
        (n["primitive"]["value"][0], n["name"]) for n in tables["nodes"]
    ]
    for ours, theirs in zip(tables["nodes"], graph["nodes"]):
        for key, slot in (("inputs", "inputIndex"), ("outputs", "outputIndex")):
            names = [v for argument in theirs[key] for v in argument["values"]]
            assert names == [tensors[int(i)]["name"] for i in ours[slot]]
    for t in tensors:
        dtype = {"bool": "boolean"}.get(DTYPES[t["dataType"]], DTYPES[t["dataType"]])
        assert graph["types"][t["name"]] == {"dtype": dtype, "shape": [int(d) for d in t["dims"]]}
    weights = {w["name"]: w["sha256"] for w in graph["weights"]}
    assert weights == {
        t["name"]: hashlib.sha256(t["data"].tobytes()).hexdigest()
        for t in tensors
        if t["data"] is not None
    }
    return graph


@pytest.mark.parametrize(("network", "framework", "symbolic"), CASES)
def test_network(network: str, framework: str, symbolic: bool, tmp_path: Path) -> None:
    """Written; read by netron; each shape inferred by MindSpore; read back: the same program, the same numbers."""
    program, front, pair = _program(network, framework, symbolic)
    path = tmp_path / "m.ms"
    BACKEND.emit(program.model, path)
    graph = same_in_netron(path)
    g = program.model.graph
    for names, ports in ((g.inputs, graph["inputs"]), (g.outputs, graph["outputs"])):
        assert [p["name"] for p in ports] == list(names)
        shapes = [[d if isinstance(d, int) else -1 for d in g.types[n].shape] for n in names]
        assert [p["shape"] for p in ports] == shapes
        assert [p["dtype"] for p in ports] == [g.types[n].dtype for n in names]
    found = nnacl.check(path)
    assert found["agree"] == found["checkable"], found["problems"]
    assert found["checkable"] >= len(graph["nodes"]) - (8 if symbolic else 0)
    assert readback.program(path).digest == program.digest
    want = front.run(pair.model, list(pair.inputs))
    got = BACKEND.run(path, list(pair.inputs))
    assert len(got) == len(want)
    for g_, w in zip(got, want):
        assert samples.scaled_error(np.asarray(g_), np.asarray(w)) <= 1e-5


# -- negative controls: what MindSpore's code must catch -------------------------------------------
def _broken(tables: dict[str, Any], change: Any) -> dict[str, Any]:
    found = copy.deepcopy(tables)
    change(found)
    return nnacl.check_model(found)


def _node(tables: dict[str, Any], op: str) -> dict[str, Any]:
    return next(n for n in tables["nodes"] if n["primitive"]["value"][0] == op)


def _nchw(m: dict[str, Any]) -> None:
    """The image reaches the first convolution without its transpose."""
    conv, turn = _node(m, "Conv2DFusion"), _node(m, "Transpose")
    assert int(turn["outputIndex"][0]) == int(conv["inputIndex"][0])
    conv["inputIndex"] = np.array([turn["inputIndex"][0], *conv["inputIndex"][1:]])


def _weight_first(m: dict[str, Any]) -> None:
    """A convolution's weight as PyTorch has it: [O, I, kh, kw]."""
    convs = [n for n in m["nodes"] if n["primitive"]["value"][0] == "Conv2DFusion"]
    weights = [m["allTensors"][int(n["inputIndex"][1])] for n in convs]
    weight = next(w for w in weights if w["dims"][1] != w["dims"][3])
    o, kh, kw, i = weight["dims"]
    weight["dims"] = np.array([o, i, kh, kw])


def _stride(m: dict[str, Any]) -> None:
    _node(m, "Conv2DFusion")["primitive"]["value"][1]["stride"] = np.array([3, 3])


def _shape(m: dict[str, Any]) -> None:
    """A result that declares another size than its node gives."""
    out = m["allTensors"][int(_node(m, "Conv2DFusion")["outputIndex"][0])]
    out["dims"] = out["dims"] + np.array([0, 1, 0, 0])


def _dtype(m: dict[str, Any]) -> None:
    m["allTensors"][int(_node(m, "AddFusion")["outputIndex"][0])]["dataType"] = 34


@pytest.mark.parametrize("change", [_nchw, _weight_first, _stride, _shape, _dtype])
def test_negative_control(change: Any, tmp_path: Path) -> None:
    """A file that was made wrong is found out."""
    program, _, _ = _program("mobilenet_v2", "pytorch", False)
    path = tmp_path / "m.ms"
    BACKEND.emit(program.model, path)
    tables = flat.unpack(path.read_bytes())
    assert not nnacl.check_model(tables)["problems"]
    found = _broken(tables, change)
    assert found["agree"] < found["checkable"] and found["problems"]
    if change is _nchw:
        assert found["problems"][0]["op"] == "Conv2DFusion"
