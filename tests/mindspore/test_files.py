"""The .mindir reader: real files, wrong files, and no MindSpore."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")

from cir.diagnostics import CirError  # noqa: E402
from framework_adapter import mapping, samples  # noqa: E402
from framework_adapter.lowering import lower  # noqa: E402
from framework_adapter.mindspore import FRONTEND, mindir  # noqa: E402
from framework_adapter.source import InputSpec  # noqa: E402
from tests.mindspore import cells  # noqa: E402

ROOT = Path(__file__).parents[2]
TABLE = mapping.load("mindspore")


def export(path: Path, *shape: int | None, net: object = None, **options: object) -> Path:
    net = net or cells.Classifier().set_train(False)
    x = ms.Tensor(shape=list(shape), dtype=ms.float32)
    if None not in shape:
        x = ms.Tensor(np.zeros(shape, np.float32))
    ms.export(net, x, file_name=str(path), file_format="MINDIR", **options)
    return path.with_suffix(".mindir")


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = cells.Wrap(ms.nn.Conv2d(3, 8, 3, has_bias=True)).set_train(False)
    return export(tmp_path_factory.mktemp("dynamic") / "net", None, 3, None, 16, net=net)


def test_file_matches_its_own_run(dynamic: Path) -> None:
    assert FRONTEND.accepts(str(dynamic)) and FRONTEND.accepts(dynamic)
    source = FRONTEND.extract(dynamic, None)
    assert {n: str(t) for n, t in source.inputs.items()} == {"x": "float32[d0, 3, d1, 16]"}
    x = samples.tensor("float32[2,3,20,16]")
    got = samples.interpret(lower(source, TABLE), [x])  # type: ignore[list-item]
    want = FRONTEND.run(dynamic, [x])  # type: ignore[list-item]
    assert samples.scaled_error(got[0], want[0]) <= 1e-5


def test_specs_name_and_fix_dynamic_dims(dynamic: Path) -> None:
    for shape in (("batch", 3, "height", 16), (4, 3, "height", 16)):
        source = FRONTEND.extract(dynamic, [InputSpec(None, "float32", shape)])
        assert source.inputs["x"].shape == shape
    for wrong in (
        InputSpec(None, "float32", ("batch", "channels", 16, 16)),
        InputSpec(None, "float16", ("batch", 3, 16, 16)),
        InputSpec(None, "float32", (3, 16, 16)),
    ):
        with pytest.raises(CirError) as info:
            FRONTEND.extract(dynamic, [wrong])
        assert info.value.code == "E103"


def test_reading_needs_no_mindspore(dynamic: Path) -> None:
    code = (
        "import sys; sys.modules['mindspore'] = None; sys.modules['google.protobuf'] = None\n"
        "from framework_adapter.mindspore import FRONTEND\n"
        f"print(len(FRONTEND.extract({str(dynamic)!r}, None).nodes))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.returncode == 0 and int(run.stdout) == 2, run.stderr


def test_weights_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mindspore.train import serialization

    with monkeypatch.context() as patch:
        patch.setattr(serialization, "TOTAL_SAVE", 0)
        export(tmp_path / "big", 1, 3, 16, 16)
    path = tmp_path / "big_graph.mindir"
    source = FRONTEND.extract(path, None)
    inline = FRONTEND.extract(export(tmp_path / "small", 1, 3, 16, 16), None)
    assert list(source.consts) == list(inline.consts)
    conv = source.consts["conv.weight"]
    assert conv.numpy().shape == (8, 3, 3, 3) and np.abs(conv.numpy()).max() > 0
    with pytest.raises(CirError) as info:
        FRONTEND.extract(tmp_path / "big.mindir", None)
    assert info.value.code == "E101" and "big_graph" in info.value.diagnostics[0].fix
    (tmp_path / "big_variables" / "data_0").rename(tmp_path / "gone")
    with pytest.raises(CirError) as info:
        FRONTEND.extract(path, None)
    assert info.value.code == "E105" and "data_0" in str(info.value)


def test_wrong_files(tmp_path: Path) -> None:
    encrypted = export(
        tmp_path / "secret", 1, 3, 16, 16, enc_key=b"0123456789abcdef", enc_mode="AES-GCM"
    )
    texts = {
        encrypted: "encrypted",
        tmp_path / "empty.mindir": "empty",
        tmp_path / "text.mindir": "not a readable",
        tmp_path / "blank.mindir": "not a readable",
    }
    (tmp_path / "empty.mindir").touch()
    (tmp_path / "text.mindir").write_text("this is no model")
    (tmp_path / "blank.mindir").write_bytes(bytes(1000))
    for path, text in texts.items():
        with pytest.raises(CirError) as info:
            FRONTEND.extract(path, None)
        assert info.value.code == "E105"
        assert text in str(info.value) and info.value.diagnostics[0].fix
    with pytest.raises(CirError) as info:
        FRONTEND.extract(tmp_path / "missing.mindir", None)
    assert info.value.code == "E101"


def test_damaged_files_end_in_a_diagnostic(tmp_path: Path) -> None:
    """Random damage: the file still reads, or one coded error says that it does not."""
    good = export(tmp_path / "good", 1, 3, 16, 16).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "bad.mindir"
    outcomes = set()
    for turn in range(300):
        data = bytearray(good[: int(rng.integers(1, len(good)))] if turn % 3 == 0 else good)
        for place in rng.integers(0, min(len(data), 6000), 1 + turn % 5):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            FRONTEND.extract(path, None)
            outcomes.add("read")
        except CirError as exc:
            outcomes.add(exc.code)
    assert outcomes <= {"read", "E102", "E105", "E201"} and "E105" in outcomes


def test_a_training_export_is_refused(tmp_path: Path) -> None:
    net = cells.Classifier().set_train(True)
    x = ms.Tensor(np.zeros((1, 3, 16, 16), np.float32))
    ms.export(net, x, file_name=str(tmp_path / "train"), file_format="MINDIR")
    with pytest.raises(CirError) as info:
        FRONTEND.extract(tmp_path / "train.mindir", None)
    assert info.value.code == "E102"


def test_weights_are_not_copied(dynamic: Path) -> None:
    """Arrays of a file that stays are views of it."""
    for _, const in mindir.read(dynamic).parameters.values():
        assert const.array is not None and not const.array.flags.owndata


def test_names_outside_the_folder_are_refused() -> None:
    reader = mindir._Reader(ROOT, True)
    for location in ("/etc/passwd", "../secret", ""):
        with pytest.raises(ValueError, match="outside"):
            reader.external({"location": location}, 4)
