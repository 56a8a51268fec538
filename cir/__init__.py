"""CIR: a small, typed, framework-neutral graph IR. See README.md for the map.

import cir
model = cir.load("model.cir.json")
print(cir.print_text(model))
"""

from __future__ import annotations

from typing import Any

#: Public name -> module that holds it; imported on first use so that the package imports fast.
_PUBLIC = {
    "Builder": "cir.builder",
    "CirError": "cir.diagnostics",
    "Const": "cir.graph",
    "Diagnostic": "cir.diagnostics",
    "Graph": "cir.graph",
    "Model": "cir.graph",
    "Node": "cir.graph",
    "Range": "cir.graph",
    "TensorType": "cir.graph",
    "content_digest": "cir.digest",
    "load": "cir.serde",
    "parse_text": "cir.text",
    "print_text": "cir.text",
    "run": "cir.interpret",
    "save": "cir.serde",
    "structure_digest": "cir.digest",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
