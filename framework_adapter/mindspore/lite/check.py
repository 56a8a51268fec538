"""What a ``.ms`` file must fulfil beyond its encoding, as the runtime demands it at load time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cir.diagnostics import error
from framework_adapter.mindspore.lite.write import CONSTANT, TYPE_IDS

DTYPES: Mapping[int, str] = {v: k for k, v in TYPE_IDS.items()}
_MAX_RANK = 8


def _bad(what: str, where: str = "", **more: str) -> Exception:
    return error("E105", f"the MindSpore Lite model is malformed: {what}", where=where, **more)


def _refused(what: str, where: str, fix: str) -> Exception:
    return error("E105", f"the MindSpore Lite model {what}", where=where, fix=fix)


def numbers(values: Any, limit: int, what: str) -> list[int]:
    """A vector of indices below a limit. Raises CirError E105."""
    if values is None:
        raise _bad(f"{what} are missing")
    out = [int(v) for v in values]
    if any(v >= limit for v in out):
        raise _bad(f"{what} point beyond {limit}")
    return out


def checked(model: Mapping[str, Any]) -> list[int]:
    """Check the tables of a file; returns its nodes' numbers in the order they run.

    Raises:
        CirError: E105 for the first fault, and for what is not read: several sub-graphs, quantised
        or compressed weights, external data.
    """
    nodes, tensors = model["nodes"], model["allTensors"]
    if not nodes or not tensors:
        raise _bad("it has no nodes or no tensors")
    if model["obfuscate"]:
        raise _refused("is obfuscated", "", "convert the source model again, without obfuscation")
    for i, t in enumerate(tensors):
        _tensor(t, t["name"] or f"tensor {i}")
    inputs, outputs, order = _graph(model, len(nodes), len(tensors))
    _edges(nodes, tensors, inputs, outputs, order)
    return order


def _graph(
    model: Mapping[str, Any], nodes: int, tensors: int
) -> tuple[list[int], list[int], list[int]]:
    inputs = numbers(model["inputIndex"], tensors, "inputs")
    outputs = numbers(model["outputIndex"], tensors, "outputs")
    if not outputs or len(set(inputs)) != len(inputs):
        raise _bad("its inputs repeat, or it has no outputs")
    graphs = model["subGraph"]
    if not graphs:
        return inputs, outputs, list(range(nodes))
    if len(graphs) > 1:
        raise _refused(
            "has several sub-graphs", graphs[1]["name"] or "",
            "control flow is not read from this format: convert the source model",
        )  # fmt: skip
    (graph,) = graphs
    order = numbers(graph["nodeIndices"], nodes, "nodes of the sub-graph")
    if len(set(order)) != len(order):
        raise _bad("a sub-graph lists a node twice")
    for key, whole in (("inputIndices", inputs), ("outputIndices", outputs)):
        if sorted(numbers(graph[key], tensors, key)) != sorted(whole):
            raise _bad(f"{key} of the sub-graph differ from the model's")
    numbers(graph["tensorIndices"], tensors, "tensors of the sub-graph")
    return inputs, outputs, order


def _edges(
    nodes: Sequence[Any], tensors: Sequence[Any], inputs: Sequence[int], outputs: Sequence[int],
    order: Sequence[int],
) -> None:  # fmt: skip
    ready = {i for i, t in enumerate(tensors) if t["nodeType"] == CONSTANT and has_data(t)}
    for i in inputs:
        if i in ready:
            raise _bad("an input has data", tensors[i]["name"] or "")
        ready.add(i)
    for at in order:
        node = nodes[at]
        where = node["name"] or f"node {at}"
        if node["primitive"] is None or node["primitive"]["value"] is None:
            raise _bad("a node has no op", where)
        if node["quantType"] != "QUANT_NONE":
            raise _refused("is quantised", where, "convert it without quantisation")
        for i in numbers(node["inputIndex"], len(tensors), "inputs of a node"):
            if i not in ready:
                raise _bad("a node reads a value that nothing computes before it", where)
        made = numbers(node["outputIndex"], len(tensors), "outputs of a node")
        if not made:
            raise _bad("a node has no outputs", where)
        for o in made:
            if o in ready:
                raise _bad("a value is computed twice, or is a constant or input", where)
            ready.add(o)
    for o in outputs:
        if o not in ready:
            raise _bad("an output is not computed", tensors[o]["name"] or "")


def has_data(t: Mapping[str, Any]) -> bool:
    """Whether a tensor brings its elements."""
    return t["data"] is not None and len(t["data"]) > 0


def dims_of(t: Mapping[str, Any]) -> list[int]:
    """Dims of a tensor; none for a scalar."""
    return [] if t["dims"] is None else [int(d) for d in t["dims"]]


def _tensor(t: Mapping[str, Any], where: str) -> None:
    dtype = DTYPES.get(t["dataType"])
    if dtype is None:
        raise _bad(f"data type {t['dataType']} is not supported", where)
    if t["externalData"]:
        raise _refused("has external data", where, "convert it to a single file")
    if t["weightQuantCompressType"] != "NONE" or t["enableHuffmanCode"]:
        raise _refused("has compressed weights", where, "convert it without compression")
    if any(q["inited"] for q in t["quantParams"] or ()):
        raise _refused("is quantised", where, "convert it without quantisation")
    dims = dims_of(t)
    if len(dims) > _MAX_RANK or any(d < -1 for d in dims):
        raise _bad(f"its dims are {dims[: _MAX_RANK + 1]}", where)
    if t["nodeType"] == CONSTANT and has_data(t):
        size = np.dtype(dtype).itemsize
        for d in dims:
            size *= d
        if any(d < 1 for d in dims) or size > len(t["data"]):
            raise _bad(f"it has {len(t['data'])} bytes for {dtype}{dims}", where)
