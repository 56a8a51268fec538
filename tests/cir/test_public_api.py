"""The package's surface: names, import cost, and the README's example."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cir

ROOT = Path(cir.__file__).parent


def test_public_names() -> None:
    assert sorted(cir.__all__) == cir.__all__
    for name in cir.__all__:
        assert getattr(cir, name).__doc__, name


def test_import_needs_numpy_only() -> None:
    code = (
        "import sys, numpy; before = set(sys.modules); import cir, cir.ops; "
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before} "
        "- set(sys.stdlib_module_names) - {'numpy'}))"
    )
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, cwd=ROOT.parent, check=True, capture_output=True, text=True).stdout
    assert out.strip() == "['cir']"


def test_readme_example_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    code, want = re.findall(r"```(?:python|text)\n(.*?)```", text, re.DOTALL)[:2]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert out.getvalue() == want


def test_readme_maps_every_file() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`(\w+\.py|\w+/)`", text))
    found = {p.name for p in ROOT.glob("*.py")} - {"__init__.py"}
    found |= {f"{p.name}/" for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith("__")}
    assert named == found
