"""A graph of GE operators as ``ge.proto.ModelDef``: nodes, edges, descriptors, attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cir.dim import Dim
from cir.graph import Const, Model, Range, TensorType
from cir.weights import byte_count
from framework_adapter.cann import signatures
from framework_adapter.cann.proto import (
    DATA_TYPES,
    FORMATS,
    TYPE_NUMBERS,
    message,
    set_attr,
)
from framework_adapter.target import TargetGraph, TargetNode

#: Operators whose images are laid out: their descriptors of rank 4 and 5 say so, all others are ND.
IMAGE_OPS = (
    "Conv2D", "Conv3D", "Conv2DTranspose", "Conv3DTranspose", "MaxPoolV3", "MaxPool3D", "AvgPoolV2",
    "AvgPool3D", "BNInfer", "GroupNormV2", "ResizeNearestNeighborV2", "ResizeBilinearV2", "Resize",
)  # fmt: skip
#: Version of the format that GE's own builder writes.
VERSION = 2
#: Attributes that hold a dtype as a number.
TYPE_ATTRS = ("dst_type", "dtype")
#: Attributes of the model in which we keep what GE has no place for.
OUTPUT_NAMES, INPUT_DIMS, STATE, DIGEST, MARK = (
    "attr_model_out_nodes_name",
    "cir_input_dims",
    "cir_state",
    "cir_digest",
    "cir_graph_only",
)


@dataclass(frozen=True)
class Place:
    """Where a constant's data are when not in the message itself.

    ``offset`` counts in the weights partition of an OM; ``file`` names a file beside an AIR.
    """

    offset: int = 0
    file: str = ""


def build(
    graph: TargetGraph,
    model: Model,
    *,
    places: Mapping[str, Place] | None = None,
    texts: Mapping[str, str] | None = None,
) -> Any:
    """The ModelDef of a graph. Constants that have no place of their own are not filled in.

    Args:
        graph: operators, every value typed.
        model: the program it was made from: symbols and state.
        places: constant -> where its data are; without one, they are in the message.
        texts: further attributes of the model.
    """
    out = message("ModelDef")(name=graph.name or "graph", version=VERSION)
    g = out.graph.add(name=out.name)
    writer = _Writer(g, graph, model.symbols, places or {})
    writer.fill()
    names = [f"{edge}:{name}" for edge, name in zip(g.output, graph.outputs)]
    set_attr(out.attr[OUTPUT_NAMES], "ListString", names)
    dims = [f"{i}: {' '.join(map(str, graph.types[i].shape))}" for i in graph.inputs]
    set_attr(out.attr[INPUT_DIMS], "ListString", dims)
    if model.state:
        pairs = [name for pair in model.state for name in pair]
        set_attr(out.attr[STATE], "ListString", pairs)
    for key, text in (texts or {}).items():
        set_attr(out.attr[key], "String", text)
    return out


class _Writer:
    """Fills one GraphDef."""

    def __init__(
        self,
        out: Any,
        graph: TargetGraph,
        symbols: Mapping[str, Range],
        places: Mapping[str, Place],
    ) -> None:
        self.out, self.graph, self.symbols, self.places = out, graph, symbols, places
        self.edges = {v: f"{v}:0" for v in (*graph.inputs, *graph.consts)}
        for node in graph.nodes:
            for i, o in enumerate(node.outputs):
                self.edges[o] = f"{node.outputs[0]}:{i}"

    def fill(self) -> None:
        """All nodes: inputs, constants where they are first read, operators, the outputs."""
        for i, name in enumerate(self.graph.inputs):
            self._data(i, name)
        waiting = dict(self.graph.consts)
        for node in self.graph.nodes:
            for name in node.inputs:
                if name in waiting:
                    self._const(name, waiting.pop(name))
            self._node(node)
        self._net_output()
        self.out.input.extend(f"{name}:0" for name in self.graph.inputs)
        self.out.output.extend(self.edges[name] for name in self.graph.outputs)

    def _op(self, name: str, kind: str) -> Any:
        op = self.out.op.add(name=name, type=kind)
        op.id = len(self.out.op) - 1
        return op

    def _data(self, index: int, name: str) -> None:
        op = self._op(name, "Data")
        set_attr(op.attr["index"], "Int", index)
        for desc, label in ((op.input_desc.add(), "x"), (op.output_desc.add(), "y")):
            self._describe(desc, label, self.graph.types[name], ranges=True)
        _name_lists(op)

    def _const(self, name: str, const: Const) -> None:
        op = self._op(name, "Const")
        value = op.attr["value"].t
        self._describe(value.desc, "", const.type)
        place = self.places.get(name)
        if place is not None and place.file:
            set_attr(op.attr["location"], "String", place.file)
            set_attr(op.attr["length"], "Int", byte_count(const.type))
        elif place is not None:
            value.desc.data_offset = place.offset
            value.desc.weight_size = byte_count(const.type)
        self._describe(op.output_desc.add(), "y", const.type)
        _name_lists(op)

    def _node(self, node: TargetNode) -> None:
        op = self._op(node.outputs[0], node.op)
        signature = signatures.load()[node.op]
        layout = node.op in IMAGE_OPS
        for (label, _), name in zip(signature.input_names(len(node.inputs)), node.inputs):
            desc = op.input_desc.add(name=label)
            op.input.append(self.edges[name] if name else "")
            op.is_input_const.append(name in self.graph.consts)
            if name:
                self._describe(desc, label, self._type(name), layout)
                place = self.places.get(name)
                if place is not None and not place.file:
                    desc.data_offset = place.offset
            else:
                set_attr(desc.attr["_is_unfed_optional"], "Int", 1)
        for label, name in zip(signature.output_names(len(node.outputs)), node.outputs):
            self._describe(op.output_desc.add(), label, self.graph.types[name], layout)
        attrs = dict(node.attrs)
        if "N" in signature.attrs:
            kinds = [p.kind for _, p in signature.input_names(len(node.inputs))]
            attrs["N"] = kinds.count("dynamic")
        for key, value in sorted(attrs.items()):
            if key in TYPE_ATTRS:
                value = TYPE_NUMBERS[value]
            set_attr(op.attr[key], signature.attrs[key], value)
        optional = [p.name for p in signature.inputs if p.kind == "optional"]
        if optional:
            set_attr(op.attr["_opt_input"], "ListString", optional)
        _name_lists(op)

    def _net_output(self) -> None:
        op = self._op(_free("Node_Output", self.edges), "NetOutput")
        for i, name in enumerate(self.graph.outputs):
            edge = self.edges[name]
            producer, _, index = edge.rpartition(":")
            op.input.append(edge)
            op.is_input_const.append(False)
            op.src_name.append(producer)
            op.src_index.append(int(index))
            self._describe(op.input_desc.add(), f"input{i}", self._type(name))
        _name_lists(op)

    def _type(self, name: str) -> TensorType:
        const = self.graph.consts.get(name)
        return self.graph.types[name] if const is None else const.type

    def _describe(
        self, desc: Any, label: str, t: TensorType, image: bool = False, ranges: bool = False
    ) -> None:
        layout = {4: "NCHW", 5: "NCDHW"}.get(t.rank, "ND") if image else "ND"
        desc.name, desc.dtype, desc.layout = label, DATA_TYPES[t.dtype], layout
        desc.shape.dim.extend(_size(d) for d in t.shape)
        set_attr(desc.attr["origin_format"], "String", layout)
        for key in ("origin_format_for_int", "format_for_int"):
            set_attr(desc.attr[key], "Int", FORMATS[layout])
        set_attr(desc.attr["origin_shape_initialized"], "Bool", True)
        set_attr(desc.attr["origin_shape"], "ListInt", [_size(d) for d in t.shape])
        if ranges and not t.is_static:
            bounds = [self._range(d) for d in t.shape]
            set_attr(desc.attr["shape_range"], "ListListInt", bounds)

    def _range(self, d: Dim) -> tuple[int, int]:
        if isinstance(d, int):
            return d, d
        known = self.symbols.get(d, Range())
        return max(known.min, 1), -1 if known.max is None else known.max


def _size(d: Dim) -> int:
    return d if isinstance(d, int) else -1


def _name_lists(op: Any) -> None:
    """Slots by name, which GE otherwise learns only from its own prototypes."""
    for side, descs in (("input", op.input_desc), ("output", op.output_desc)):
        set_attr(op.attr[f"_{side}_name_key"], "ListString", [d.name for d in descs])
        set_attr(op.attr[f"_{side}_name_value"], "ListInt", range(len(descs)))


def _free(wanted: str, taken: Mapping[str, Any]) -> str:
    name, n = wanted, 0
    while name in taken:
        n += 1
        name = f"{wanted}_{n}"
    return name


def const_ops(model: Any) -> Iterator[tuple[str, Any]]:
    """(name, TensorDef) of every constant of a ModelDef."""
    for op in model.graph[0].op:
        if op.type == "Const":
            yield op.name, op.attr["value"].t


def text_attrs(versions: Mapping[str, str] | None, digest: str) -> dict[str, str]:
    """Attributes of the model that tell where it comes from."""
    out = {f"cir_version.{k}": v for k, v in sorted((versions or {}).items())}
    return {**out, **({DIGEST: digest} if digest else {})}


def mapping(nodes: Sequence[TargetNode]) -> dict[str, tuple[str, ...]]:
    """IR node -> names of the nodes made for it."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        found.setdefault(node.origin, []).append(node.outputs[0])
    return {k: tuple(v) for k, v in found.items()}
