"""Each code has a page and a test; each page has a code."""

from __future__ import annotations

import re
from pathlib import Path

from cir import diagnostics

ROOT = Path(__file__).parents[2]
PATTERN = re.compile(r"[\"'`]([EWN]\d{3})[\"'`]")


def codes_in(folders: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "test_error_pages.py":
                continue
            found |= set(PATTERN.findall(path.read_text()))
    return found


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    used = codes_in(("cir", "fusion_db", "framework_adapter", "demos"))
    assert used == set(diagnostics.pages())


def test_every_code_is_triggered_by_a_test() -> None:
    assert set(diagnostics.pages()) <= codes_in(("tests",))


def test_pages_have_the_same_sections() -> None:
    for code, path in diagnostics.pages().items():
        text = path.read_text()
        assert text.startswith(f"# {code} "), path
        for section in ("Meaning", "Example", "What to do"):
            assert section in text, f"{path} has no section {section!r}"
