"""Versions of the CIR file format: each older one is brought forward by steps over the raw JSON.

``MAJOR.MINOR``: a minor version only adds. The meaning of an op never changes under its name, so
steps rename and restructure but never reinterpret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from cir.diagnostics import error

#: The version this program writes.
VERSION = "1.0"

#: Version -> (the version after it, function from the older document to the newer).
Steps = Mapping[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]]
STEPS: Steps = {}


def migrate(doc: dict[str, Any], *, steps: Steps = STEPS, current: str = VERSION) -> dict[str, Any]:
    """The document in the current version; the same object when it already is.

    Raises:
        CirError: E301 when the version is missing or not a version, E302 when no step leads from
            it.
    """
    version = doc.get("cir")
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}", version):
        raise error(
            "E301",
            'the field "cir" must hold the format version',
            where="cir",
            fix=f'write "cir": "{current}"',
        )
    visited = [version]
    while version != current:
        if version not in steps:
            raise error(
                "E302",
                f"CIR version {version} is not known; this program reads up to {current}",
                where="cir",
                fix="upgrade: pip install --upgrade framework-adapter"
                if _newer(version, current)
                else f"save it again with the program that wrote it, as version {current}",
            )
        after, step = steps[version]
        doc = {**step(doc), "cir": after}
        version = after
        if version in visited:
            raise ValueError(f"migration steps run in a circle: {visited}")
        visited.append(version)
    return doc


def _newer(version: str, current: str) -> bool:
    return tuple(map(int, version.split("."))) > tuple(map(int, current.split(".")))
