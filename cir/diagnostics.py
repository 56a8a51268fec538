"""Diagnostics: every problem is collected, coded, placed and comes with a next step.

A code's page is ``cir/errors/CODE.md``. Families: E1xx input and extraction, E2xx lowering, E3xx
IR and verification, E4xx strategies, E5xx legalising and emission, E6xx precision, E7xx
running, E9xx environment; W... warn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding.

    Attributes:
        code: stable code such as ``E201``.
        what: one sentence, the problem itself.
        where: module path, file:line or value name; "" when it concerns the whole model.
        why: the reason, when it is not obvious.
        nearest: closest thing that is supported.
        fix: what to do or type next.
    """

    code: str
    what: str
    where: str = ""
    why: str = ""
    nearest: str = ""
    fix: str = ""

    @property
    def is_error(self) -> bool:
        """False for warnings and notes."""
        return self.code.startswith("E")

    def __str__(self) -> str:
        lines = [f"{self.code} {self.what}"]
        for label, text in (
            ("where", self.where),
            ("why", self.why),
            ("nearest", self.nearest),
            ("fix", self.fix),
        ):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """A JSON-ready mapping without the empty fields."""
        items = {k: getattr(self, k) for k in ("code", "what", "where", "why", "nearest", "fix")}
        return {k: v for k, v in items.items() if v}


class CirError(Exception):
    """Base of every error this project raises on bad input; carries one diagnostic or more.

    ``exit_code`` is what the command line returns: 1 precision, 2 usage, 3 unsupported op,
    4 bad input file, 5 environment, 6 resource limit.
    """

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        items = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        self.diagnostics: tuple[Diagnostic, ...] = items
        super().__init__("\n".join(str(d) for d in items))

    @property
    def code(self) -> str:
        """Code of the first diagnostic."""
        return self.diagnostics[0].code if self.diagnostics else ""

    @property
    def exit_code(self) -> int:
        """Process exit code for this error."""
        return exit_code(self.code)


_EXIT: Mapping[str, int] = {"E1": 4, "E2": 3, "E3": 4, "E4": 4, "E5": 3, "E6": 1, "E7": 5, "E9": 5}
_EXIT_SPECIAL: Mapping[str, int] = {"E100": 2, "E901": 5, "E960": 6, "E961": 6}


def exit_code(code: str) -> int:
    """Process exit code of a diagnostic code."""
    return _EXIT_SPECIAL.get(code, _EXIT.get(code[:2], 1))


def error(code: str, what: str, **fields: Any) -> CirError:
    """A CirError with one diagnostic; ``fields`` are where, why, nearest, fix."""
    return CirError(Diagnostic(code, what, **fields))


class Collector:
    """Gathers diagnostics during a stage; ``raise_errors`` ends the stage."""

    def __init__(self) -> None:
        self.items: list[Diagnostic] = []

    def add(self, code: str, what: str, **fields: Any) -> None:
        """Record a finding; an identical one is recorded once."""
        d = Diagnostic(code, what, **fields)
        if d not in self.items:
            self.items.append(d)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The errors among the findings."""
        return tuple(d for d in self.items if d.is_error)

    def raise_errors(self) -> None:
        """Raise CirError when there is at least one error."""
        if self.errors:
            raise CirError(self.errors)


def pages() -> dict[str, Path]:
    """Code -> path of its page."""
    folder = Path(__file__).parent / "errors"
    return {p.stem: p for p in sorted(folder.glob("[EWN]*.md"))}


def explain(code: str) -> str:
    """The page of a code. Raises KeyError for an unknown one."""
    return pages()[code.upper()].read_text(encoding="utf-8")
