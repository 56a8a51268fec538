"""Staged output: all or nothing, whatever goes wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cir.diagnostics import CirError
from framework_adapter.output import check_writable, staged


def test_moves_the_file_and_its_side_files(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder" / "m.onnx"
    with staged(out) as tmp:
        tmp.write_text("model")
        (tmp.parent / "m.data").write_text("weights")
    assert sorted(p.name for p in out.parent.iterdir()) == ["m.data", "m.onnx"]


def test_leaves_nothing_behind_on_failure_and_keeps_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    out.write_text("old")
    with pytest.raises(RuntimeError), staged(out) as tmp:
        tmp.write_text("half")
        raise RuntimeError
    assert out.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "a" / "b" / "m.onnx"):
        raise KeyboardInterrupt
    assert not (tmp_path / "a").exists()


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "saved"
    for text in ("one", "two"):
        with staged(out) as tmp:
            tmp.mkdir()
            (tmp / text).write_text(text)
    assert [p.name for p in out.iterdir()] == ["two"]


def test_only_an_earlier_saved_model_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "served"
    check_writable(out, folder=True)
    (out / "variables").mkdir(parents=True)
    with pytest.raises(CirError, match="holds other files"):
        check_writable(out, folder=True)
    (out / "saved_model.pb").write_bytes(b"")
    check_writable(out, folder=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(CirError, match="notes.txt") as e:
        check_writable(out, folder=True)
    assert e.value.code == "E502"


def test_unwritable_place(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with pytest.raises(CirError) as e, staged(blocker / "m.onnx"):
        pass
    assert e.value.code == "E502" and "path" in e.value.diagnostics[0].fix
    if os.geteuid():  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(CirError), staged(tmp_path / "m.onnx"):
            pass


def test_the_path_that_was_asked_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(CirError) as e, staged(tmp_path / "m.om") as outer, staged(outer):
        raise OSError(28, "No space left on device")
    assert f"cannot write {tmp_path / 'm.om'}: No space" in str(e.value)
    assert not list(tmp_path.iterdir())


def test_disk_full(tmp_path: Path) -> None:
    with pytest.raises(CirError) as e, staged(tmp_path / "m.onnx"):
        raise OSError(28, "No space left on device")
    assert e.value.code == "E502" and "No space left" in str(e.value)
    assert not list(tmp_path.iterdir())
