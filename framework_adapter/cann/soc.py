"""Ascend chips by name, and what each family of them lacks.

``socs.json`` lists the names that ``atc --soc_version`` takes (``*`` ends a name that has more
variants), the dtypes a family has no arithmetic for, and the operators that only some families have
kernels for. An operator that is not listed is taken to exist everywhere.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from cir.diagnostics import error

#: What a graph is written for when no chip is named: the family most graphs are compiled for.
DEFAULT_FAMILY = "910b"


@dataclass(frozen=True)
class Soc:
    """A chip: its name ("" when none was given), family, and what the family lacks."""

    name: str
    family: str
    lacks_ops: frozenset[str]
    lacks_dtypes: frozenset[str]


@cache
def find(name: str | None) -> Soc:
    """The chip of a name; without one, the default family's common ground.

    Raises:
        CirError E503: no chip has this name.
    """
    table = _table()
    if not name:
        return _soc("", DEFAULT_FAMILY)
    for family, raw in table["families"].items():
        if any(fnmatchcase(name, pattern) for pattern in raw["names"]):
            return _soc(name, family)
    near = difflib.get_close_matches(name, names(), 3, 0.4)
    raise error(
        "E503",
        f"unknown SoC {name!r}",
        nearest=", ".join(near or names()),
        fix='pass the name that npu-smi info shows, "Ascend" before it: soc="Ascend310P3"',
    )


def names() -> list[str]:
    """All names, families with open ends as patterns such as ``Ascend950*``."""
    return [n for raw in _table()["families"].values() for n in raw["names"]]


def _soc(name: str, family: str) -> Soc:
    table = _table()
    lacks = frozenset(op for op, on in table["only_on"].items() if family not in on.split())
    return Soc(name, family, lacks, frozenset(table["families"][family]["lacks_dtypes"]))


@cache
def _table() -> Mapping[str, Any]:
    raw: Mapping[str, Any] = json.loads(Path(__file__).with_name("socs.json").read_text("utf-8"))
    return raw
