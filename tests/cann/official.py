"""AIR and OM files against Ascend's own published descriptors and operator prototypes.

Both are in the wheel of torch-npu, which is read, never imported: the protobuf descriptor is a bytes
literal, the prototypes are docstrings and parameter lists. Nothing of our reader or writer is used.
"""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.peers import torch_npu

_FOLDER = "torchair/_ge_concrete_graph/"
#: What the wheel has no prototype for: the nodes that GE itself defines.
_BUILT_IN = (
    "REG_OP(Data) .INPUT(x, TensorType::ALL()) .OUTPUT(y, TensorType::ALL()) .ATTR(index, Int, 0)",
    "REG_OP(Const) .OUTPUT(y, TensorType::ALL()) .REQUIRED_ATTR(value, Tensor)",
    "REG_OP(NetOutput) .DYNAMIC_INPUT(input, TensorType::ALL())",
)
_MEMBER = {
    "Int": "i", "Float": "f", "Bool": "b", "String": "s", "Type": "dt", "Tensor": "t",
    "Bytes": "bt", "NamedAttrs": "func", "ListListInt": "list_list_int",
    "ListListFloat": "list_list_float",
}  # fmt: skip
#: Kind of a list -> (field, val_type).
_LIST_MEMBER = {
    "ListString": ("s", 1), "ListInt": ("i", 2), "ListFloat": ("f", 3), "ListBool": ("b", 4),
    "ListTensor": ("t", 7), "ListType": ("dt", 10),
}  # fmt: skip
_REAL = "DT_DOUBLE DT_FLOAT DT_FLOAT16 DT_BF16 DT_INT8 DT_INT16 DT_INT32 DT_INT64 DT_UINT8 DT_UINT16 DT_UINT32 DT_UINT64"
_COMPLEX = "DT_COMPLEX64 DT_COMPLEX128 DT_COMPLEX32"
_FAMILIES = {
    "BasicType": f"{_REAL} {_COMPLEX} DT_QINT8 DT_QINT16 DT_QINT32 DT_QUINT8 DT_QUINT16",
    "NumberType": f"{_REAL} {_COMPLEX} DT_QINT8 DT_QINT32 DT_QUINT8",
    "RealNumberType": _REAL,
    "FloatingDataType": "DT_DOUBLE DT_FLOAT DT_FLOAT16",
    "IntegerDataType": "DT_INT8 DT_INT16 DT_INT32 DT_INT64 DT_UINT8 DT_UINT16 DT_UINT32 DT_UINT64",
    "IndexNumberType": "DT_INT32 DT_INT64",
    "UnaryDataType": f"{_COMPLEX} DT_DOUBLE DT_FLOAT DT_FLOAT16 DT_BF16",
}
#: Dtypes that these operands have in later releases than the wheel's, where they are not listed yet.
_LATER = {
    ("Conv3D", "DT_FLOAT"), ("Conv3DTranspose", "DT_FLOAT"), ("Conv2DTranspose", "DT_FLOAT"),
    ("Conv3D", "DT_BF16"),
}  # fmt: skip


@dataclass(frozen=True)
class Operand:
    """One input or output of a prototype; ``dtypes`` is None where the prototype does not say."""

    name: str
    kind: str  # "required" | "optional" | "dynamic"
    dtypes: frozenset[str] | None


@dataclass(frozen=True)
class Prototype:
    """One operator."""

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    attrs: Mapping[str, str]
    required: frozenset[str]


@cache
def prototypes() -> Mapping[str, Prototype]:
    """Every operator of the wheel, and the nodes that are built into GE."""
    texts = list(_BUILT_IN)
    for name, wanted in (
        (f"{_FOLDER}auto_generated_ge_raw_ops.py", ""),
        ("ge/_ge_graph.py", "Cast"),
    ):
        for f in ast.parse(torch_npu(name)).body:
            doc = ast.get_docstring(f) if isinstance(f, ast.FunctionDef) else None
            if doc and "REG_OP(" in doc and wanted in ("", f.name):
                texts.append(doc)
    return dict(map(_prototype, texts))


def _prototype(text: str) -> tuple[str, Prototype]:
    text = text.replace("\\n", " ")
    (name,) = re.findall(r"REG_OP\((\w+)\)", text)
    inputs, outputs, attrs, required = [], [], {}, set()
    types = dict(re.findall(r"\.DATATYPE\((\w+),\s*(.*?)\)\s*(?=\.|$)", text, re.S))
    for kind, first, rest in re.findall(
        r"\.(\w*INPUT|\w*OUTPUT|\w*ATTR|ATRR)\(\s*(\w+)\s*,\s*(.*?)\)\s*(?=\.[A-Z]|$)", text, re.S
    ):
        if kind.endswith("PUT"):
            how = kind.split("_")[0].lower() if "_" in kind else "required"
            side = inputs if kind.endswith("INPUT") else outputs
            side.append(Operand(first, how, _dtypes(types.get(rest.strip('" '), rest))))
        else:
            attrs[first] = rest.split(",")[0].strip()
            required |= {first} if kind == "REQUIRED_ATTR" else set()
    return name, Prototype(tuple(inputs), tuple(outputs), attrs, frozenset(required))


def _dtypes(text: str) -> frozenset[str] | None:
    found = {"DT_FLOAT" if d == "DT_FLOAT32" else d for d in re.findall(r"DT_\w+", text)}
    for family in re.findall(r"(\w+)\(\)", text):
        if family not in _FAMILIES:
            return None
        found.update(_FAMILIES[family].split())
    return frozenset(found) or None


@cache
def parameters() -> Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Operator -> (inputs, attributes) as the parameter list of its function has them."""
    out = {}
    for f in ast.parse(torch_npu(f"{_FOLDER}auto_generated_ge_raw_ops.py")).body:
        if isinstance(f, ast.FunctionDef) and "REG_OP(" in (ast.get_docstring(f) or ""):
            named = [a.arg for a in f.args.kwonlyargs]
            attrs = [
                a for a in named if a not in ("dependencies", "node_name") and "size_of_" not in a
            ]
            out[f.name.removeprefix("_")] = (tuple(a.arg for a in f.args.args), tuple(attrs))
    return out


@cache
def model_def() -> Any:
    """The official class of ``ge.proto.ModelDef``, in a pool of its own."""
    from google.protobuf import descriptor_pool, message_factory

    tree = ast.parse(torch_npu(f"{_FOLDER}ge_ir_by_protoc_3_19_pb2.py"))
    (call,) = (
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "AddSerializedFile"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(ast.literal_eval(call.args[0]))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ge.proto.ModelDef"))


def graph_bytes(path: Path | str) -> bytes:
    """The ModelDef of an AIR file or of the first model of an OM."""
    data = Path(path).read_bytes()
    if data[:4] != b"IMOD":
        return data
    (length,) = struct.unpack_from("<Q", data, 184)
    assert length == len(data) - 256, "model_length is not what follows the header"
    (count,) = struct.unpack_from("<I", data, 256)
    at = 264 + 24 * count
    for i in range(count):  # as GE does: partitions follow each other, whatever their offsets say
        kind, _, offset, size = struct.unpack_from("<IIQQ", data, 264 + 24 * i)
        assert offset == at - 264 - 24 * count, "partitions do not follow each other"
        if kind == 0:
            return data[at : at + size]
        at += size
    raise AssertionError("no MODEL_DEF partition")


def check(path: Path | str) -> dict[str, Any]:
    """Check a file.

    Returns:
        ``nodes_checked``, ``nodes_valid``, and ``problems``: one line for each thing that is wrong,
        the name of the node first; those of the whole file start with "file".
    """
    return check_bytes(graph_bytes(path))


def check_bytes(data: bytes) -> dict[str, Any]:
    """``check`` of a serialised ModelDef."""
    model = model_def()()
    model.ParseFromString(data)
    problems = [f"file: unknown fields in {where}" for where in _unknown(model)]
    if model.SerializeToString(deterministic=True) != data:
        problems.append("file: serialised again it differs")
    checked = valid = 0
    for graph in model.graph:
        outputs = {op.name: len(op.output_desc) for op in graph.op}
        if len(outputs) != len(graph.op):
            problems.append(f"file: names in graph {graph.name} are not unique")
        indices = sorted(op.attr["index"].i for op in graph.op if op.type == "Data")
        if indices != list(range(len(indices))):
            problems.append(f"file: indices of Data are {indices}")
        for op in graph.op:
            found = list(_problems(op, outputs))
            problems += [f"{op.name} ({op.type}): {p}" for p in found]
            checked += 1
            valid += not found
    return {"nodes_checked": checked, "nodes_valid": valid, "problems": problems}


def _unknown(message: Any) -> Iterator[str]:
    from google.protobuf.unknown_fields import UnknownFieldSet

    if len(UnknownFieldSet(message)):
        yield message.DESCRIPTOR.name
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            children: Sequence[Any] = [v for v in value.values() if hasattr(v, "ListFields")]
        else:
            children = value if hasattr(value, "__len__") else [value]
        for child in children:
            yield from _unknown(child)


def _problems(op: Any, outputs: Mapping[str, int]) -> Iterator[str]:
    proto = prototypes().get(op.type)
    if proto is None:
        yield "no such operator"
        return
    slots = [i for i in op.input if not i.endswith(":-1")]
    if op.type == "Data":
        slots = [""] * len(op.input_desc)
    if len(slots) != len(op.input_desc):
        yield f"{len(slots)} inputs, {len(op.input_desc)} descriptors"
        return
    for slot in filter(None, slots):
        producer, _, index = slot.rpartition(":")
        if not index.isdigit() or int(index) >= outputs.get(producer, 0):
            yield f"reads {slot!r}, which nothing computes"
    yield from _operands(op, "input", proto.inputs, op.input_desc, slots)
    yield from _operands(op, "output", proto.outputs, op.output_desc, ["."] * len(op.output_desc))
    for name, attr in op.attr.items():
        if name in proto.attrs:
            yield from _attr(name, proto.attrs[name], attr)
        elif not name.startswith("_"):
            yield f"no attribute {name!r}"
    for name in proto.required - set(op.attr):
        yield f"attribute {name!r} is missing"


def _operands(
    op: Any, side: str, wanted: Sequence[Operand], descs: Sequence[Any], slots: Sequence[str]
) -> Iterator[str]:
    """Names, number and dtypes of one side, dynamic operands expanded: x0, x1, ..."""
    have = list(zip(descs, slots))
    dynamic = len(have) - sum(o.kind != "dynamic" for o in wanted)
    for o in wanted:
        if o.kind == "dynamic":
            names = [f"{o.name}{i}" for i in range(dynamic)]
            counts = {
                f"N of {side}s": op.attr[k].i for k in ("N", "num_split", "num") if k in op.attr
            }
            if any(n != dynamic for n in counts.values()):
                yield f"{dynamic} {side}s {o.name}, the attribute says {counts}"
        else:
            names = [o.name]
        for name in names:
            if not have:
                if o.kind != "optional":
                    yield f"{side} {name!r} is missing"
                continue
            desc, slot = have.pop(0)
            if desc.name != name:
                yield f"{side} {desc.name!r} where {name!r} is wanted"
            elif not slot and op.type != "Data":
                if o.kind != "optional" or desc.dtype:
                    yield f"{side} {name!r} is missing"
            else:
                yield from _dtype(op.type, side, o, desc)
    if have:
        yield f"{len(have)} {side}s too many"


def _dtype(op: str, side: str, o: Operand, desc: Any) -> Iterator[str]:
    name = desc.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number[desc.dtype].name
    if o.dtypes is not None and name not in o.dtypes and (op, name) not in _LATER:
        yield f"{side} {o.name!r} is {name}"


def _attr(name: str, kind: str, attr: Any) -> Iterator[str]:
    member = attr.WhichOneof("value")
    if kind in _LIST_MEMBER:
        field, number = _LIST_MEMBER[kind]
        filled = [f.name for f, _ in attr.list.ListFields() if f.name != "val_type"]
        if member != "list" or attr.list.val_type != number or filled not in ([], [field]):
            yield f"attribute {name!r} is {member} {filled}, {kind} is wanted"
    elif kind not in _MEMBER:
        yield f"attribute {name!r} has the unknown kind {kind}"
    elif member != _MEMBER[kind]:
        yield f"attribute {name!r} is {member}, {kind} is wanted"


_DTYPES = {
    "DT_FLOAT": "float32", "DT_FLOAT16": "float16", "DT_BF16": "bfloat16", "DT_DOUBLE": "float64",
    **{f"DT_{n.upper()}": n for n in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")},
}  # fmt: skip


def compact(op: str) -> dict[str, Any]:
    """A prototype in the form of ``framework_adapter/cann/signatures.json``."""
    proto = prototypes()[op]
    mark = {"required": "{}", "optional": "{}?", "dynamic": "*{}"}
    inputs = {}
    for o in proto.inputs:
        later = (
            {d for d in ("DT_FLOAT", "DT_BF16") if (op, d) in _LATER}
            if o.name in ("x", "filter")
            else set()
        )
        names = [n for d, n in sorted(_DTYPES.items()) if o.dtypes and d in {*o.dtypes, *later}]
        inputs[mark[o.kind].format(o.name)] = " ".join(names) if o.dtypes else "any"
    attrs = {f"{k}!" if k in proto.required else k: v for k, v in proto.attrs.items()}
    return {
        "inputs": inputs,
        "outputs": [mark[o.kind].format(o.name) for o in proto.outputs],
        "attrs": attrs,
    }


def main(ops: Sequence[str]) -> None:
    """Write the file again, for the operators it has and those named."""
    import json

    path = Path(__file__).parents[2] / "framework_adapter" / "cann" / "signatures.json"
    known = {*ops, *(json.loads(path.read_text()) if path.exists() else ())}
    lines = (f"{json.dumps(op)}: {json.dumps(compact(op))}" for op in sorted(known))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
