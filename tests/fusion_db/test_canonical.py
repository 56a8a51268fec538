"""Strategies together: nothing that one recognises is lost to another, and decompositions are undone."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from cir import expr as ex
from cir import spec
from cir.builder import Builder
from cir.graph import Graph
from cir.passes import decompose
from fusion_db import apply, database, select
from fusion_db.instances import Maker, Unbuildable
from fusion_db.selections import selections
from tests.fusion_db.graphs import ops
from tests.fusion_db.test_spellings import canonical

CANONICAL = [s.id for s in select("canonicalise")]


@pytest.mark.parametrize("name", CANONICAL)
def test_every_alternative_survives_the_company_of_all_others(name: str) -> None:
    strategies, own = select("canonicalise"), database()[name]
    seen = 0
    for selection in selections(own, 40):
        try:
            graph = Maker(own, selection, 0, "float32").make().graph
        except (Unbuildable, ex.ExprError):
            continue
        alone, fired = apply(graph, [own])
        if fired:
            seen += 1
            want = ops(apply(alone, strategies)[0])
            assert ops(apply(graph, strategies)[0]) == want, [n.op for n in graph.nodes]
    assert seen


#: Composites that strategies of the fuse stage make, or that have no canonical spelling of their own.
_ELSEWHERE = {"geglu", "swi_glu", "group_norm_silu", "batch_norm", "dequantize", "quantize"}
_ELSEWHERE |= {name for name in spec.all_ops() if name.endswith("_channels_last")}
_WEIGHTS = {"scale", "bias", "mean", "var", "w", "b", "slope"}


def instance(op: spec.OpSpec, sample: dict[str, Any]) -> Graph:
    """One sample of an op, its weights constant."""
    b = Builder()
    rng = np.random.default_rng(3)
    operands: list[str | None] = []
    for i, text in enumerate(sample["inputs"]):
        if text is None:
            operands.append(None)
            continue
        dtype, shape = re.match(r"\+?(\w+)\[(.*?)\]", text).groups()  # type: ignore[union-attr]
        sizes = tuple(int(d) for d in shape.split(",") if d)
        name = op.param(i).name
        if name in _WEIGHTS:
            operands.append(b.const(np.abs(rng.standard_normal(sizes)), name=name, dtype=dtype))
        else:
            value = b.input(name, dtype, sizes)
            if len(sizes) > 1:  # an op that no view passes: transposes of graph inputs are special
                value = b.emit("trilu", [value], {"upper": True, "k": -9})[0]
            operands.append(value)
    attrs = {k: v for k, v in sample.items() if k != "inputs"}
    return b.finish(b.emit(op.name, operands, attrs))


SAMPLES = [
    (name, k)
    for name, op in spec.all_ops().items()
    for k, sample in enumerate(op.samples)
    if op.decomposition and name not in _ELSEWHERE and not sample.get("causal")
]


@pytest.mark.parametrize(("name", "k"), SAMPLES)
def test_decompositions_are_recognised(name: str, k: int) -> None:
    op = spec.get(name)
    g = instance(op, dict(op.samples[k]))
    decomposed = decompose(g, lambda node, graph: False)
    assert name not in ops(decomposed)
    assert set(ops(canonical(decomposed))) - {"reshape"} == set(ops(canonical(g))) - {"reshape"}
