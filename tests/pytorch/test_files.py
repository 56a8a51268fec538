"""Model files: programs load without running code, pickles are refused."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cir.diagnostics import CirError
from framework_adapter import samples
from framework_adapter.lowering import lower
from framework_adapter.mapping import load
from framework_adapter.pytorch import FRONTEND

sys.path.insert(0, str(Path(__file__).parent))
from torch_support import floats, spec  # noqa: E402


class Net(nn.Module):
    """Nested input, symbolic batch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x, options):
        return self.fc(x) + options["bias"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = torch.export.export(
        Net().eval(),
        (torch.randn(2, 4), {"bias": torch.randn(3)}),
        dynamic_shapes={"x": {0: torch.export.Dim.AUTO}, "options": {"bias": None}},
        strict=False,
    )
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    torch.export.save(program, str(path))
    return path


def test_program_file(saved: Path) -> None:
    source = FRONTEND.extract(str(saved), None)
    assert [(n, str(t)) for n, t in source.inputs.items()] == [
        ("x", "float32[x_0, 4]"),
        ("options_bias", "float32[3]"),
    ]
    feeds = [floats(5, 4), floats(3)]
    (got,) = samples.interpret(lower(source, load("pytorch")), feeds)
    (want,) = FRONTEND.run(saved, feeds)
    assert samples.scaled_error(got, want) <= 1e-6


def test_program_object_and_symbol_names(saved: Path) -> None:
    program = torch.export.load(str(saved))
    assert FRONTEND.accepts(program)
    source = FRONTEND.extract(
        program, [spec(None, floats(2, 4), "batch", 4), spec(None, floats(3))]
    )
    assert source.inputs["x"].shape == ("batch", 4)
    with pytest.raises(CirError) as info:
        FRONTEND.extract(program, [spec(None, floats(2, 4))])
    assert info.value.code == "E103"


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_pickles_are_refused_with_the_way_to_go(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(Net().state_dict(), path)
    assert FRONTEND.accepts(path)
    with pytest.raises(CirError, match="weights_only=True") as info:
        FRONTEND.extract(path, None)
    assert info.value.code == "E105"


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(CirError) as info:
        FRONTEND.extract(tmp_path / "none.pt2", None)
    assert info.value.code == "E101"
    broken = tmp_path / "broken.pt2"
    broken.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(CirError) as info:
        FRONTEND.extract(broken, None)
    assert info.value.code == "E105"


class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_code_in_a_program_file_is_not_run(saved: Path, tmp_path: Path) -> None:
    """Every pickle inside the archive is replaced by one that would leave a mark."""
    mark, evil = tmp_path / "ran", tmp_path / "evil.pt2"
    buffer = io.BytesIO()
    torch.save({"x": Bomb(mark)}, buffer)
    replaced = 0
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(evil, "w", zipfile.ZIP_STORED) as new:
        for item in old.infolist():
            data = old.read(item)
            if data[:2] == b"PK" or item.filename.endswith(".pt"):
                data, replaced = buffer.getvalue(), replaced + 1
            new.writestr(item.filename, data)
    assert replaced
    try:
        FRONTEND.extract(evil, None)
    except CirError as exc:
        assert exc.code == "E105"
    assert not mark.exists()


def test_environment_is_restored(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import pickle

    from torch.export.pt2_archive import _package

    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    FRONTEND.extract(saved, None)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    assert _package.pickle is pickle and np.float32(1) == 1
