"""What a frontend hands over: a framework's graph as dataclasses, no framework object in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from cir.dim import Dim
from cir.graph import Const, Range, TensorType


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One model input as the user describes it.

    Attributes:
        name: argument name, or None for "in order".
        dtype: dtype name.
        shape: dims; a string is a symbolic dim such as ``"batch"``.
        example: an array of that dtype and a matching shape, or None (the frontend makes one).
    """

    name: str | None
    dtype: str
    shape: tuple[Dim, ...]
    example: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to a value of the source graph, by name."""

    name: str


#: An operand: Ref, plain Python value (number, str, bool, None), or a tuple of operands.
Operand = Any


@dataclass(frozen=True, slots=True)
class SourceNode:
    """One op of the source framework.

    Attributes:
        op: the framework's op id, e.g. ``aten.relu.default``, ``Conv2D``, ``BatchNorm``.
        inputs: positional operands in the order of the op's definition.
        attrs: operands given by name. Dtypes are dtype names of the IR; sequences are tuples.
        outputs: value names, one for each result ("" for a result nobody may use).
        types: types the framework reports, None where unknown.
        module: module path, e.g. ``encoder.layers.0``; "" when unknown.
        place: ``file:line`` in the user's source; "" when unknown.
        regions: bodies of control-flow ops.
    """

    op: str
    inputs: tuple[Operand, ...]
    attrs: Mapping[str, Operand]
    outputs: tuple[str, ...]
    types: tuple[TensorType | None, ...] = ()
    module: str = ""
    place: str = ""
    regions: tuple[SourceGraph, ...] = ()


@dataclass(frozen=True)
class SourceGraph:
    """A framework's graph after extraction.

    Attributes:
        framework: ``pytorch``, ``tensorflow``, ``mindspore`` or ``onnx``.
        inputs: name -> type, in the order of the flattened arguments.
        outputs: value names, in the order of the flattened results.
        output_names: names for the emitted outputs.
        nodes: in topological order.
        consts: parameters and constants by value name; a tied weight is one Const object.
        symbols: ranges of symbolic dims.
        state: (input name, output name) pairs of functionalised state.
        layout: ``channels_first`` or ``channels_last``: the convention for image inputs.
        notes: what the extraction did that a user should know.
        versions: library -> version.
    """

    framework: str
    inputs: Mapping[str, TensorType]
    outputs: tuple[str, ...]
    nodes: tuple[SourceNode, ...]
    consts: Mapping[str, Const]
    output_names: tuple[str, ...] = ()
    symbols: Mapping[str, Range] = field(default_factory=dict)
    state: tuple[tuple[str, str], ...] = ()
    layout: str = "channels_first"
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


class Frontend(Protocol):
    """A source framework. Its module imports the framework inside functions only."""

    name: str

    def accepts(self, model: object) -> bool:
        """Whether this object or path is one of this framework's models (imports nothing heavy)."""

    def extract(
        self,
        model: object,
        inputs: Sequence[InputSpec] | None,
        *,
        outputs: Sequence[str] | None = None,
        custom: Collection[str] = (),
    ) -> SourceGraph:
        """The model's graph; ``custom`` are ops the user has rows for. Raises CirError E1xx."""

    def run(self, model: object, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The framework's own result for inputs in order (eval mode), flattened outputs."""
