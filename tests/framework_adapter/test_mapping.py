"""Op tables: loading, checking, user rows; the files of all rooms against the published schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import framework_adapter.mapping as mapping
from cir.diagnostics import CirError
from framework_adapter.mapping import MappingTable, Row, load

ROOMS = Path(mapping.__file__).parent
FILES = sorted(ROOMS.glob("*/ops/*.json"))
EMPTY = MappingTable("pytorch", {})


def table_file(tmp_path: Path, *rows: dict, framework: str = "pytorch") -> Path:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"framework": framework, "family": "mine", "rows": list(rows)}))
    return path


ROW = {"op": "my.scale.default", "args": "x, k=2", "emit": "mul(x, k)", "samples": [["float32[2]"]]}


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.parent.name}/{p.name}")
def test_files_follow_the_published_schema(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOMS / "mapping.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text()))


@pytest.mark.parametrize("room", sorted({p.parent.parent.name for p in FILES}))
def test_tables_load_and_every_row_is_well_formed(room: str) -> None:
    table = load(room)
    assert table.rows
    table.check()


def test_rows_of_extra_files_come_first(tmp_path: Path) -> None:
    path = table_file(
        tmp_path, {**ROW, "op": "aten.relu.default", "args": "x"} | {"emit": "abs(x)"}, ROW
    )
    table = load("pytorch", [path])
    assert table.find("aten.relu.default").raw["emit"] == "abs(x)"
    assert table.find("my.scale.default") and table.find("aten.gelu.default")


def test_arguments() -> None:
    row = Row(("a",), {"op": "a", "args": "x, y=1; axis=-1, mode='none', pads=[0, 0]", "emit": "x"})
    assert [(a.name, a.kind, None if a.required else a.default) for a in row.args] == [
        ("x", "positional", None),
        ("y", "positional", 1),
        ("axis", "named", -1),
        ("mode", "named", "none"),
        ("pads", "named", (0, 0)),
    ]
    assert [a.kind for a in Row(("a",), {"op": "a", "args": "*xs; axis"}).args] == [
        "variadic",
        "named",
    ]
    assert [a.kind for a in Row(("a",), {"op": "a", "args": "; axis"}).args] == ["named"]
    assert Row(("a",), {"op": "a", "args": "x;"}).args[0].kind == "positional"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"args": "x", "emit": "rellu(x)"}, "unknown op 'rellu'; nearest: relu"),
        ({"args": "x", "emit": "relu(y)"}, "unknown name 'y'"),
        ({"args": "x", "emit": "softmax(x, axis=dim)"}, "unknown name 'dim'"),
        ({"args": "x", "emit": "softmax(x, axis=axs(x, 1))"}, "unknown function 'axs'"),
        (
            {"args": "x", "emit": "softmax(x, axis=__import__('os'))"},
            "unknown function '__import__'",
        ),
        ({"args": "x", "emit": "relu(x"}, "not a statement"),
        ({"args": "x y", "emit": "relu(x)"}, "args"),
        ({"args": "x", "emit": "relu(x)", "handler": "f"}, "exactly one of"),
        ({"args": "x"}, "exactly one of"),
        ({"args": "x", "emit": "relu(x)", "adverbs": ["loudly"]}, "unknown adverb 'loudly'"),
        ({"args": "x", "emit": "relu(x)", "emmit": "x"}, "unknown key 'emmit'"),
        ({"args": "x", "emit": "relu(x)", "results": ["z"]}, "result 'z' is not a target"),
        ({"args": "x", "emit": "relu(x)", "refuse": {"x ==": "no"}}, "not an expression"),
        ({"args": "x", "cases": [{"when": "x"}]}, "emit"),
        (
            {"args": "x", "handler": "index_tensr"},
            "no handler 'index_tensr'; nearest: index_tensor",
        ),
    ],
)
def test_wrong_rows_are_refused_with_what_is_wrong(row: dict, says: str) -> None:
    with pytest.raises(CirError) as info:
        EMPTY.extended({"my.op": row})
    assert info.value.code == "E203"
    assert says in str(info.value)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    def problem(text: str) -> str:
        path = tmp_path / "t.json"
        path.write_text(text)
        with pytest.raises(CirError) as info:
            load("pytorch", [path])
        assert info.value.code == "E203"
        return str(info.value)

    twice = '{"framework": "pytorch", "family": "f", "family": "g", "rows": []}'
    assert "key 'family' occurs twice" in problem(twice)
    assert "framework is 'onnx'" in problem('{"framework": "onnx", "family": "f", "rows": []}')
    assert "the keys framework, family, rows" in problem("[]")
    assert "t.json" in problem("{")
    assert "no samples" in problem(json.dumps({"framework": "pytorch", "family": "f", "rows": [
        {"op": "a", "args": "x", "emit": "relu(x)"}]}))  # fmt: skip
    assert "without op" in problem(
        '{"framework": "pytorch", "family": "f", "rows": [{"emit": "x"}]}'
    )
    row = json.dumps({**ROW})
    text = f'{{"framework": "pytorch", "family": "f", "rows": [{row}, {row}]}}'
    assert "two rows" in problem(text)
    with pytest.raises(CirError) as info:
        load("pytorch", [tmp_path / "none.json"])
    assert info.value.code == "E101"


def test_all_wrong_rows_of_a_table_are_reported_at_once() -> None:
    rows = {
        op: Row((op,), {"op": op, "args": "x", "emit": f"{op}(x)"})
        for op in ("nonsense", "rubbish")
    }
    with pytest.raises(CirError) as info:
        MappingTable("pytorch", rows).check()
    assert len(info.value.diagnostics) == 2


def test_nearest() -> None:
    assert load("pytorch").nearest("aten.gelu.defalt") == "aten.gelu.default"
    assert load("pytorch").nearest("zzzzzz") == ""


def test_import_is_framework_free() -> None:
    import subprocess
    import sys

    code = (
        "import sys, framework_adapter.mapping, framework_adapter.lowering, framework_adapter.pytorch, "
        "framework_adapter.pytorch.handlers; "
        "print([m for m in ('torch', 'sympy', 'jsonschema', 'tensorflow') if m in sys.modules])"
    )
    root = str(ROOMS.parent)
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert out.stdout.strip() == "[]"
