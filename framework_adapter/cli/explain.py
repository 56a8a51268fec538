"""``cir explain``: the page of an error code, offline."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from cir import diagnostics


def explain(code: Annotated[str, typer.Argument(help="a code such as E201")] = "") -> None:
    """Say what an error code means and what to do about it.

    Examples:

        cir explain E201

        cir explain          (lists all codes)
    """
    pages = diagnostics.pages()
    if not code:
        for name, path in pages.items():
            print(path.read_text(encoding="utf-8").splitlines()[0].lstrip("# "))
        return
    if code.upper() not in pages:
        near = difflib.get_close_matches(code.upper(), pages, 1)
        raise diagnostics.error(
            "E100",
            f"no page for {code!r}",
            nearest=near[0] if near else ", ".join(pages),
            fix="cir explain   lists all codes",
        )
    print(diagnostics.explain(code))
