"""``cir inspect``: text listing and op histogram of a CIR file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from cir.diagnostics import error

EXAMPLES = """cir inspect model.cir.json
  cir inspect model.onnx --json
  cir inspect model.cir.json --text | less"""


def inspect(
    path: Annotated[Path, typer.Argument(help="a .cir.json file, or a model file or folder")],
    listing: Annotated[bool, typer.Option("--text", help="print the whole graph as text")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Show a program's inputs, outputs and ops."""
    from cir.serde import load
    from cir.text import print_text
    from framework_adapter.api import build, digest_of
    from framework_adapter.registry import detect

    if not path.exists():
        raise error("E101", f"no such file or folder: {path}", fix="check the path")
    model = load(path) if path.suffix == ".json" else build(path, detect(path)).model
    g = model.graph
    if listing:
        print(print_text(model))
        return
    ops = Counter(n.op for _, n in g.walk())
    size = sum(c.size for c in g.consts.values())
    digest = digest_of(model)
    if as_json:
        io = {"inputs": g.inputs, "outputs": g.outputs}
        types = {k: [f"{n}: {g.types[n]}" for n in names] for k, names in io.items()}
        print(json.dumps({**types, "ops": dict(ops), "parameters": size, "digest": digest}))
        return
    for label, names in (("input", g.inputs), ("output", g.outputs)):
        for n in names:
            print(f"{label:7} {n}: {g.types[n]}")
    print(f"{len(g.nodes)} nodes, {size:,} parameters, digest {digest}")
    widest = max(ops.values(), default=1)
    for op, count in sorted(ops.items(), key=lambda t: (-t[1], t[0])):
        print(f"  {op:32} {count:5}  {'█' * max(1, 40 * count // widest)}")
