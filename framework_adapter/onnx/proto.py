"""The ONNX file: messages from a finished target graph, external data, checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from cir.diagnostics import error
from cir.dim import Dim
from cir.graph import Const, TensorType
from cir.weights import byte_count, storage_bytes
from framework_adapter.onnx.kernels import Profile
from framework_adapter.target import TargetGraph, TargetNode

#: dtype -> ONNX TensorProto.DataType.
DATA_TYPES: Mapping[str, int] = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9,
    "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "complex64": 14, "complex128": 15,
    "bfloat16": 16, "float8_e4m3fn": 17, "float8_e5m2": 19, "uint4": 21, "int4": 22,
}  # fmt: skip
DTYPES: Mapping[int, str] = {code: name for name, code in DATA_TYPES.items()}

#: Opset -> the IR version that came with it; later files are refused by older runtimes.
_IR_VERSIONS = ((23, 11), (21, 10), (19, 9), (0, 8))
#: Tensors below this many bytes stay in the main file; external ones start at multiples of _ALIGN.
_INLINE, _ALIGN = 1024, 4096


def required_opset(
    graph: TargetGraph, dtypes: Mapping[str, str], profile: Profile, opsets: Sequence[int]
) -> int:
    """The first of the opsets at which every node has a kernel for its operands.

    Raises CirError E504 when there is none.
    """
    failed: tuple[TargetNode, str] | None = None
    for opset in opsets:
        failed = None
        for node in graph.walk():
            why = _no_kernel(node, dtypes, profile, opset)
            if why:
                failed = (node, why)
                break
        if failed is None:
            return opset
    assert failed is not None
    raise error(
        "E504",
        f"{profile.name} has no kernel for {failed[0].op}",
        where=failed[0].origin,
        why=failed[1],
        fix="choose a later opset, or emit the op by others in its emission row",
    )


def _no_kernel(node: TargetNode, dtypes: Mapping[str, str], profile: Profile, opset: int) -> str:
    for slot, name in enumerate(node.inputs or ("",)):
        takes = profile.dtypes(node.op, slot, opset)
        if takes is None:
            return f"no kernel at opset {opset}"
        if name and takes and dtypes.get(name, "float32") not in takes:
            return f"none takes {dtypes[name]} as input {slot} at opset {opset}"
    return ""


def model(
    graph: TargetGraph,
    opset: int,
    profile: Profile,
    metadata: Mapping[str, str],
    producer: tuple[str, str],
) -> Any:
    """The ModelProto without the data of its initialisers' larger tensors (see ``attach``)."""
    import onnx

    used = {profile.domain(n.op) for n in graph.walk()} | {""}
    out = onnx.ModelProto()
    out.ir_version = next(v for since, v in _IR_VERSIONS if opset >= since)
    out.producer_name, out.producer_version = producer
    for domain in sorted(used):
        entry = out.opset_import.add()
        entry.domain, entry.version = domain, opset if not domain else 1
    for key, value in sorted(metadata.items()):
        prop = out.metadata_props.add()
        prop.key, prop.value = key, value
    _fill(out.graph, graph, profile)
    return out


def _fill(out: Any, graph: TargetGraph, profile: Profile) -> None:
    out.name = graph.name
    for name in graph.inputs:
        _value_info(out.input.add(), name, graph.types.get(name))
    for name in graph.outputs:
        _value_info(out.output.add(), name, graph.types.get(name))
    edge = {*graph.inputs, *graph.outputs}
    for node in graph.nodes:
        n = out.node.add()
        n.op_type, n.domain, n.name = node.op, profile.domain(node.op), node.outputs[0]
        n.input.extend(node.inputs)
        n.output.extend(node.outputs)
        for key, value in sorted(node.attrs.items()):
            _attribute(n.attribute.add(), key, value, profile)
        for o in node.outputs:
            if o in graph.types and o not in edge:
                _value_info(out.value_info.add(), o, graph.types[o])


def _value_info(out: Any, name: str, t: TensorType | None) -> None:
    out.name = name
    if t is None:
        return
    out.type.tensor_type.elem_type = DATA_TYPES[t.dtype]
    out.type.tensor_type.shape.SetInParent()
    for d in t.shape:
        _dim(out.type.tensor_type.shape.dim.add(), d)


def _dim(out: Any, d: Dim) -> None:
    if isinstance(d, int):
        out.dim_value = d
    else:
        out.dim_param = d


def _attribute(out: Any, name: str, value: Any, profile: Profile) -> None:
    from onnx import AttributeProto as A

    out.name = name
    match value:
        case TargetGraph():
            out.type = A.GRAPH
            _fill(out.g, value, profile)
        case Const():
            out.type = A.TENSOR
            _tensor(out.t, "", value)
            out.t.raw_data = storage_bytes(value).tobytes()
        case bool() | int():
            out.type, out.i = A.INT, int(value)
        case float():
            out.type, out.f = A.FLOAT, value
        case str():
            out.type, out.s = A.STRING, value.encode()
        case tuple() | list() if all(isinstance(v, (bool, int)) for v in value):
            out.type = A.INTS
            out.ints.extend(int(v) for v in value)
        case tuple() | list() if all(isinstance(v, (int, float)) for v in value):
            out.type = A.FLOATS
            out.floats.extend(float(v) for v in value)
        case _:
            raise TypeError(f"attribute {name} = {value!r} has no ONNX form")


def _tensor(out: Any, name: str, const: Const) -> None:
    out.name = name
    out.data_type = DATA_TYPES[const.type.dtype]
    out.dims.extend(int(d) for d in const.type.shape)


def write(out: Any, consts: Mapping[str, Const], path: Path, limit: int) -> list[Path]:
    """Attach the initialisers and write; more than ``limit`` bytes of them go to a data file.

    Returns the files written, the main one first.
    """
    total = sum(byte_count(c.type) for c in consts.values())
    side = path.with_name(path.name + ".data")
    external = total > limit
    with open(side, "wb") if external else nullcontext() as data:
        for name, const in consts.items():
            tensor = out.graph.initializer.add()
            _tensor(tensor, name, const)
            if data is None or byte_count(const.type) < _INLINE:
                tensor.raw_data = storage_bytes(const).tobytes()
                continue
            at = data.tell()
            data.write(b"\0" * (-at % _ALIGN))
            start = data.tell()
            data.write(storage_bytes(const).data)
            tensor.data_location = 1
            for key, value in (
                ("location", side.name), ("offset", start), ("length", byte_count(const.type)),
            ):  # fmt: skip
                entry = tensor.external_data.add()
                entry.key, entry.value = key, str(value)
    path.write_bytes(out.SerializeToString(deterministic=True))
    return [path, side] if external else [path]


def check(path: Path) -> None:
    """Run ONNX's own checker, shape inference included. Raises CirError E504."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as exc:  # the checker raises its own types and ValueErrors
        text = str(exc).strip().splitlines()
        raise error(
            "E504",
            "the emitted model does not pass ONNX's checker",
            why=" ".join(text[:3])[:400],
            fix="report this with the model; another opset or profile may do meanwhile",
        ) from exc
