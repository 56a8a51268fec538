"""Prototypes of GE's operators: what ``signatures.json`` holds of Ascend's published ones.

    "Conv2D": {"inputs": {"x": "float16 float32", "bias?": "float32", "offset_w?": "int8"},
               "outputs": ["y"], "attrs": {"strides!": "ListInt", "groups": "Int"}}

``?`` marks an optional input, ``*`` one that stands for any number (x0, x1, ...), ``!`` an
attribute that must be given. "any" stands for all dtypes. The file is written by
``python -m tests.cann.official`` from the operator definitions in torch-npu's wheel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cir import dtype as dt


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a prototype; ``kind`` is ``required``, ``optional`` or ``dynamic``."""

    name: str
    kind: str
    dtypes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Signature:
    """One operator: inputs in order, output names in order ("*y": any number), attribute kinds."""

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, str]
    required: frozenset[str]

    def input(self, slot: int) -> Input:
        """The input that an operand binds to; a dynamic one takes all from its place on."""
        for i, p in enumerate(self.inputs[: slot + 1]):
            if i == slot or p.kind == "dynamic":
                return p
        return self.inputs[-1]

    def input_names(self, count: int) -> Iterator[tuple[str, Input]]:
        """(descriptor name, input) of ``count`` operands, dynamic ones expanded."""
        fixed = sum(p.kind != "dynamic" for p in self.inputs)
        for p in self.inputs:
            if p.kind == "dynamic":
                yield from ((f"{p.name}{i}", p) for i in range(max(count - fixed, 0)))
            else:
                yield p.name, p

    def output_names(self, count: int) -> list[str]:
        """Descriptor names of ``count`` results."""
        fixed = sum(not o.startswith("*") for o in self.outputs)
        out: list[str] = []
        for o in self.outputs:
            many = o.startswith("*")
            out += [f"{o[1:]}{i}" for i in range(count - fixed)] if many else [o]
        return out


@cache
def load() -> Mapping[str, Signature]:
    """All prototypes by operator."""
    path = Path(__file__).with_name("signatures.json")
    return {op: _signature(raw) for op, raw in json.loads(path.read_text("utf-8")).items()}


def find(op: str) -> Signature | None:
    """The prototype of an operator, None for one that is not in the file."""
    return load().get(op)


def _signature(raw: Mapping[str, Mapping[str, str]]) -> Signature:
    inputs = []
    for name, dtypes in raw["inputs"].items():
        kind = "optional" if name[-1] == "?" else "dynamic" if name[0] == "*" else "required"
        known = frozenset(dt.ALL) if dtypes == "any" else frozenset(dtypes.split())
        inputs.append(Input(name.strip("*?"), kind, known))
    attrs = {name.rstrip("!"): kind for name, kind in raw["attrs"].items()}
    required = frozenset(name[:-1] for name in raw["attrs"] if name[-1] == "!")
    return Signature(tuple(inputs), tuple(raw["outputs"]), attrs, required)
