"""``cir explain``: the page of an error code, offline."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from cir import diagnostics

EXAMPLES = """cir explain E201
  cir explain            # lists all codes"""


def explain(
    code: Annotated[str, typer.Argument(help="a code such as E201; none lists all codes")] = "",
) -> None:
    """Say what an error code means."""
    pages = diagnostics.pages()
    if not code:
        for path in pages.values():
            print(path.read_text(encoding="utf-8").splitlines()[0].lstrip("# "))
        return
    if code.upper() not in pages:
        near = difflib.get_close_matches(code.upper(), pages, 1)
        raise diagnostics.error(
            "E100",
            f"no page for {code!r}",
            nearest=near[0] if near else ", ".join(pages),
            fix="list all codes: cir explain",
        )
    print(diagnostics.explain(code))
