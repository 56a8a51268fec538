"""An emitted graph as the tables of a ``.ms`` file.

The runtime's index arithmetic is int32: int64 values and constants are stored so, and a graph input
or output that is int64 keeps its dtype by a Cast beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cir import dim as dm
from cir.diagnostics import Collector, error
from cir.dim import Dim
from cir.graph import Const, Model, Node, TensorType
from cir.infer import broadcast_shapes
from framework_adapter.mindspore.lite import flat, formats
from framework_adapter.mindspore.lite.casts import stored
from framework_adapter.target import TargetGraph, TargetNode

#: Values of ``Tensor.dataType``.
TYPE_IDS: Mapping[str, int] = {
    "bool": 30, "int8": 32, "int16": 33, "int32": 34, "int64": 35, "uint8": 37, "uint16": 38,
    "uint32": 39, "uint64": 40, "float16": 42, "float32": 43, "float64": 44,
}  # fmt: skip
#: ``Tensor.nodeType`` of constants and of all other values.
CONSTANT, VARIABLE = 0, 2
#: Files end at 2 GiB: offsets are 32-bit signed.
_LIMIT = 2**31 - 1
#: Constants below this many elements are not worth half precision.
_SMALL = 64


def model_bytes(
    graph: TargetGraph, dtypes: Mapping[str, str], *, weights: str, runtime: str
) -> bytes:
    """The file of a graph.

    Args:
        graph: nodes in order; ``types`` has what is known of shapes.
        dtypes: dtype of each value.
        weights: ``fp32`` or ``fp16``.
        runtime: version to write.

    Raises:
        CirError: E501 for integer constants beyond int32, E504 beyond 2 GiB.
    """
    file = _File(graph, dtypes, weights == "fp16")
    values = file.values(runtime)
    size = sum(len(t["data"]) for t in values["allTensors"] if "data" in t)
    if size > _LIMIT - (1 << 20):
        raise error(
            "E504", "the weights exceed what a MindSpore Lite file can hold",
            why=f"{size} bytes, a file ends at 2 GiB", fix="pass weights='fp16', or cut the model",
        )  # fmt: skip
    return flat.pack(values, size + 1024 * (len(values["nodes"]) + 1))


class _File:
    def __init__(self, graph: TargetGraph, dtypes: Mapping[str, str], half: bool) -> None:
        self.graph, self.dtypes, self.half = graph, dict(dtypes), half
        self.types = dict(graph.types)
        self.consts = dict(graph.consts)
        self.index: dict[str, int] = {}
        self.tensors: list[dict[str, Any]] = []
        self.names = set(graph.inputs) | set(graph.consts)
        self.names |= {o for n in graph.nodes for o in n.outputs}
        self.found = Collector()
        self.nodes = self.between(list(graph.nodes))
        for node in self.nodes:
            self.infer(node)
        self.formats = self.layout()
        self.halves = halved(self.consts, self.nodes) if half else frozenset()

    # -- nodes -------------------------------------------------------------------------------------
    def between(self, nodes: list[TargetNode]) -> list[TargetNode]:
        """The nodes, with casts between an int64 interface and the int32 inside."""
        inside: dict[str, str] = {}
        casts = []
        for name in self.graph.inputs:
            if self.dtypes[name] == "int64":
                inside[name] = self.twin(name)
                casts.append(_cast(name, inside[name], "int32"))
        ends = []
        for name in self.graph.outputs:
            if self.dtypes[name] == "int64":
                inside[name] = self.twin(name)
                ends.append(_cast(inside[name], name, "int64"))
        kept = [
            TargetNode(
                n.op,
                tuple(inside.get(i, i) for i in n.inputs),
                tuple(inside.get(o, o) for o in n.outputs),
                n.attrs,
                n.origin,
            )
            for n in nodes
        ]
        return [*casts, *kept, *ends]

    def fresh(self, name: str, part: str) -> str:
        """A free name for a value made of another, of its dtype."""
        found = f"{name}.{part}"
        while found in self.names:
            found += "_"
        self.names.add(found)
        self.dtypes[found] = self.dtypes[name]
        return found

    def twin(self, name: str) -> str:
        """A name for the int32 twin of a value."""
        found = self.fresh(name, "int32")
        self.dtypes[found] = "int32"
        if name in self.types:
            self.types[found] = TensorType("int32", self.types[name].shape)
        return found

    def infer(self, node: TargetNode) -> None:
        """State the shape of a result that no handler stated: the op is elementwise."""
        shapes = [self.shape(i) for i in node.inputs if i]
        for out in node.outputs:
            if out not in self.types:
                shape: tuple[Dim, ...] = ()
                for s in shapes:
                    shape = broadcast_shapes(shape, s)
                self.types[out] = TensorType(self.dtypes[out], shape)

    def shape(self, name: str) -> tuple[Dim, ...]:
        """Shape of a value."""
        const = self.consts.get(name)
        return const.type.shape if const is not None else self.types[name].shape

    # -- tensors -----------------------------------------------------------------------------------
    def layout(self) -> dict[str, str]:
        """Format of each value; where an image op would refuse its own, an idle exchange comes
        first.
        """
        inputs = formats.of_inputs(self.nodes, self.graph.inputs, self.perm)
        found, refused = formats.inferred(self.nodes, inputs, self.perm)
        while refused:
            at = self.nodes.index(refused[0])
            self.nodes[at : at + 1] = self.exchanged(refused[0])
            found, refused = formats.inferred(self.nodes, inputs, self.perm)
        return found

    def exchanged(self, node: TargetNode) -> list[TargetNode]:
        """A node after the exchange of an axis of size 1 of its operand, which turns the format."""
        x, *rest = node.inputs
        shape = self.shape(x)
        size: Dim = -1 if any(isinstance(d, str) for d in shape[1:]) else dm.product(shape[1:])
        wide, turned, back, sizes = (self.fresh(x, part) for part in ("w", "t", "b", "s"))
        self.types[wide] = TensorType(self.dtypes[x], (shape[0], 1, size))
        self.types[turned] = TensorType(self.dtypes[x], (shape[0], size, 1))
        self.types[back] = TensorType(self.dtypes[x], shape)
        self.types[sizes] = TensorType("int32", (len(shape),))
        self.dtypes[sizes] = "int32"
        return [
            TargetNode("Shape", (x,), (sizes,), {}, node.origin),
            TargetNode("Reshape", (x, self.vector(0, 1, -1)), (wide,), {}, node.origin),
            TargetNode(
                "Transpose", (wide, self.vector(*formats.EXCHANGE)), (turned,), {}, node.origin
            ),
            TargetNode("Reshape", (turned, sizes), (back,), {}, node.origin),
            replace(node, inputs=(back, *rest)),
        ]

    def vector(self, *values: int) -> str:
        """A constant int32 vector."""
        name = "int32_" + "_".join(str(v).replace("-", "m") for v in values)
        self.consts.setdefault(name, Const.of(np.array(values, np.int32)))
        return name

    def perm(self, node: TargetNode) -> tuple[int, ...]:
        """Permutation of a Transpose."""
        return tuple(int(d) for d in self.consts[node.inputs[1]].numpy())

    def tensor(self, name: str, form: str = "NHWC") -> int:
        """Number of a value or constant, added on first use."""
        if name not in self.index:
            self.index[name] = len(self.tensors)
            const = self.consts.get(name)
            self.tensors.append(
                self.variable(name) if const is None else self.constant(name, const, form)
            )
        return self.index[name]

    def variable(self, name: str) -> dict[str, Any]:
        """A graph input or a node's result."""
        outside = name in self.graph.inputs or name in self.graph.outputs
        dtype = self.dtypes[name] if outside else stored(self.dtypes[name])
        return {
            "name": name,
            "nodeType": VARIABLE,
            "dataType": TYPE_IDS[dtype],
            "dims": [d if isinstance(d, int) else -1 for d in self.shape(name)],
            "format": self.formats.get(name, "NHWC"),
        }

    def constant(self, name: str, const: Const, form: str) -> dict[str, Any]:
        """A constant with its data."""
        data = const.numpy()
        if data.dtype == np.int64:
            data = self.narrow(name, data)
        if name in self.halves:
            data = data.astype(np.float16)
        if not data.size:
            self.found.add(
                "E501", f"target mslite does not take the constant {name}",
                why="it has no elements", fix="leave out what reads it",
            )  # fmt: skip
        return {
            "name": name,
            "nodeType": CONSTANT,
            "dataType": TYPE_IDS[data.dtype.name],
            "dims": list(data.shape),
            "format": form,
            "data": np.frombuffer(data.tobytes(), np.uint8),
        }

    def narrow(self, name: str, data: np.ndarray) -> np.ndarray:
        """int64 as int32."""
        info = np.iinfo(np.int32)
        if data.size and (data.min() < info.min or data.max() > info.max):
            self.found.add(
                "E501", f"target mslite does not take the constant {name}",
                why="it holds integers beyond int32, which is what the runtime computes with",
                fix="use smaller numbers",
            )  # fmt: skip
        return data.astype(np.int32)

    # -- the file ----------------------------------------------------------------------------------
    def values(self, runtime: str) -> dict[str, Any]:
        """Fields of the root table. Raises CirError E501."""
        inputs = [self.tensor(i) for i in self.graph.inputs]
        nodes = [self.node(n) for n in self.nodes]
        outputs = [self.index[o] for o in self.graph.outputs]
        self.found.raise_errors()
        return {
            "name": signature(self.graph.name, [self.shape(i) for i in self.graph.inputs]),
            "version": f"MindSpore Lite {runtime}",
            "fmkType": 3,
            "inputIndex": inputs,
            "outputIndex": outputs,
            "nodes": nodes,
            "allTensors": self.tensors,
            "subGraph": [
                {
                    "name": f"subgraph_0_{self.graph.name}",
                    "inputIndices": inputs,
                    "outputIndices": outputs,
                    "nodeIndices": range(len(nodes)),
                    "tensorIndices": range(len(self.tensors)),
                }
            ],
        }

    def node(self, n: TargetNode) -> dict[str, Any]:
        """One CNode."""
        attrs = dict(n.attrs)
        weight = n.op in ("Conv2DFusion", "Conv2dTransposeFusion")
        inputs = [
            self.tensor(i, "KHWC" if weight and at == 1 else "NHWC")
            for at, i in enumerate(n.inputs)
        ]
        if n.op == "Cast":
            to = stored(attrs.pop("to", self.dtypes[n.outputs[0]]))
            if n.outputs[0] in self.graph.outputs:
                to = self.dtypes[n.outputs[0]]
            inputs.append(self.number(TYPE_IDS[to]))
        return {
            "name": n.outputs[0],
            "primitive": {"value": (n.op, attrs)},
            "inputIndex": inputs,
            "outputIndex": [self.tensor(o) for o in n.outputs],
            "quantType": "QUANT_NONE",
        }

    def number(self, value: int) -> int:
        """An int32 scalar."""
        name = f"int32_{value}"
        if name not in self.index:
            self.index[name] = len(self.tensors)
            self.tensors.append(self.constant(name, Const.of(np.int32(value)), "NHWC"))
        return self.index[name]


def _cast(value: str, result: str, to: str) -> TargetNode:
    return TargetNode("Cast", (value,), (result,), {"to": to}, result)


# -- half precision --------------------------------------------------------------------------------
def halved(consts: Mapping[str, Const], nodes: Iterable[Node | TargetNode]) -> frozenset[str]:
    """Constants to store in half precision: large ones in its range that weigh what a node reads.

    A node's first operand is what it computes on (the table of a Gather): kernels take it as it is.
    """
    first = {n.inputs[0] for n in nodes if n.inputs}
    return frozenset(k for k, v in consts.items() if k not in first and _fits_half(v))


def rounded(model: Model) -> Model:
    """A program with these constants as they come back from half precision."""
    consts = dict(model.graph.consts)
    for name in halved(consts, model.graph.nodes):
        data = consts[name].numpy()
        consts[name] = Const.of(data.astype(np.float16).astype(data.dtype))
    return replace(model, graph=replace(model.graph, consts=consts))


def _fits_half(const: Const) -> bool:
    if const.type.dtype != "float32" or const.size < _SMALL:
        return False
    return bool(np.abs(const.numpy()).max() <= np.finfo(np.float16).max)


# -- names of dims ---------------------------------------------------------------------------------
def signature(name: str, shapes: Sequence[Sequence[Dim]]) -> str:
    """A graph's name with the dims of its inputs, when one is symbolic: "main [batch; 9]".

    A file stores a symbolic dim as -1; which of them are the same size is said in this name.
    """
    if all(isinstance(d, int) for s in shapes for d in s):
        return name
    return " ".join([name, *(f"[{'; '.join(map(str, s))}]" for s in shapes)])


def stated_dims(name: str) -> list[tuple[Dim, ...]] | None:
    """The dims of inputs in a graph's name; None when it has none."""
    parts = re.findall(r"\[([^\[\]]*)\]", name)
    if not parts:
        return None
    texts = ([d.strip() for d in p.split(";")] if p.strip() else [] for p in parts)
    return [tuple(int(d) if re.fullmatch(r"[0-9]{1,18}", d) else d for d in t) for t in texts]
