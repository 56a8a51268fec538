"""Graphs for tests, written as lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cir.builder import Builder
from cir.graph import Graph
from cir.interpret import run
from cir.statement import instantiate
from fusion_db import Strategy, load_text
from fusion_db.prove import difference

RNG = np.random.default_rng(11)


def graph(
    lines: Sequence[str],
    inputs: Mapping[str, str | tuple[Any, ...]],
    consts: Mapping[str, Any] = {},
    *,
    outputs: Sequence[str] = ("y",),
    dtype: str = "float32",
) -> Graph:
    """A graph of lines. ``inputs`` maps a name to a shape, ``consts`` to a shape or an array."""
    b = Builder("test")
    values: dict[str, Any] = {}
    for name, shape in inputs.items():
        kind = dtype
        if isinstance(shape, str):
            kind, _, inner = shape.rstrip("]").partition("[")
            shape = tuple(int(d) if d.isdigit() else d for d in inner.split(",") if d)
        values[name] = b.input(name, kind, shape)
    for name, value in consts.items():
        if isinstance(value, tuple):
            value = RNG.standard_normal(value)
        array = np.asarray(value)
        values[name] = b.const(array, name=name, dtype=dtype if array.dtype.kind == "f" else None)
    env = instantiate(lines, b, values)
    return b.finish([env[o] for o in outputs])


def strategy(
    match: Sequence[str], replace: Sequence[str], inputs: Mapping[str, str], **more: Any
) -> Strategy:
    """A strategy from its essential parts."""
    data = {
        "id": "s", "schema": 1, "summary": "for a test", "stage": "canonicalise", "inputs": dict(inputs),
        "match": list(match), "replace": list(replace), "numerics": "reassociate", **more,
    }  # fmt: skip
    return load_text(json.dumps(data))


def ops(g: Graph) -> list[str]:
    """Ops that do not fold, sorted."""
    folding = set(g.consts)
    out = []
    for n in g.nodes:
        if n.inputs and all(i is None or i in folding for i in n.inputs):
            folding.update(n.outputs)
        else:
            out.append(n.op)
    return sorted(out)


def feeds(g: Graph, batch: int = 2) -> dict[str, np.ndarray]:
    """Random inputs; every symbol is ``batch``."""
    out = {}
    for name in g.inputs:
        t = g.types[name]
        shape = [d if isinstance(d, int) else batch for d in t.shape]
        if t.dtype == "bool":
            out[name] = RNG.random(shape) < 0.5
        elif "int" in t.dtype:
            out[name] = RNG.integers(0, 2, shape).astype(t.dtype)
        else:
            out[name] = RNG.standard_normal(shape).astype(t.dtype)
    return out


def error(a: Graph, b: Graph) -> float:
    """Scaled error between two graphs with the same inputs, in float64, output by output."""
    assert a.inputs == b.inputs and len(a.outputs) == len(b.outputs)
    x = feeds(a)
    return difference(run(a, x), run(b, x))[0]
