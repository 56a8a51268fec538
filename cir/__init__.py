"""CIR: a small, typed, framework-neutral graph IR. See README.md for the map.

import cir
model = cir.load("model.cir.json")
print(cir.print_text(model))
"""

from cir.builder import Builder
from cir.diagnostics import CirError, Diagnostic
from cir.digest import content_digest, structure_digest
from cir.graph import Const, Graph, Model, Node, Range, TensorType
from cir.interpret import run
from cir.serde import load, save
from cir.text import parse_text, print_text

__all__ = [
    "Builder",
    "CirError",
    "Const",
    "Diagnostic",
    "Graph",
    "Model",
    "Node",
    "Range",
    "TensorType",
    "content_digest",
    "load",
    "parse_text",
    "print_text",
    "run",
    "save",
    "structure_digest",
]
