"""The messages of ``ge.proto``: GE's graph format, which AIR files and OM containers hold.

The descriptors are built at run time from the table below, in a pool of their own, so that no
other copy of the same package in the process clashes with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from framework_adapter.registry import require

_PACKAGE = "ge.proto"
#: Message -> fields ``name=number:type``; ``*`` repeats, ``map`` is map<string, AttrDef>, ``|``
#: marks members of the oneof ``value``. Attribute groups, which only GE's passes read, stay opaque.
_MESSAGES: Mapping[str, str] = {
    "ModelDef": "name=1:string version=2:uint32 custom_version=3:string graph=7:*GraphDef"
    " attr=11:map attr_groups=12:AttrGroups",
    "GraphDef": "name=1:string input=4:*string output=5:*string op=6:*OpDef attr=11:map"
    " attr_groups=12:AttrGroups",
    "OpDef": "name=1:string type=2:string input=5:*string attr=10:map attr_groups=11:AttrGroups"
    " has_out_attr=20:bool id=21:int64 stream_id=22:int64 input_name=23:*string"
    " src_name=24:*string src_index=25:*int64 dst_name=26:*string dst_index=27:*int64"
    " input_i=28:*int64 output_i=29:*int64 workspace=30:*int64 workspace_bytes=31:*int64"
    " is_input_const=32:*bool input_desc=33:*TensorDescriptor output_desc=34:*TensorDescriptor"
    " subgraph_name=35:*string",
    "TensorDescriptor": "name=1:string dtype=2:DataType shape=3:ShapeDef layout=4:string attr=5:map"
    " attr_groups=6:AttrGroups has_out_attr=9:bool size=10:int64 weight_size=11:int64"
    " reuse_input=12:bool output_tensor=13:bool device_type=14:string input_tensor=15:bool"
    " real_dim_cnt=16:int64 reuse_input_index=17:int64 data_offset=18:int64 cmps_size=19:int64"
    " cmps_tab=20:string cmps_tab_offset=21:int64",
    "TensorDef": "desc=1:TensorDescriptor data=2:bytes",
    "ShapeDef": "dim=1:*int64",
    "NamedAttrs": "name=1:string attr=2:map",
    "AttrGroups": "",
    "AttrDef": "list=1:|AttrDef.ListValue s=2:|bytes i=3:|int64 f=4:|float b=5:|bool bt=7:|bytes"
    " func=10:|NamedAttrs td=11:|TensorDescriptor t=12:|TensorDef g=13:|GraphDef"
    " list_list_int=14:|AttrDef.ListListInt dt=15:|int64 list_list_float=16:|AttrDef.ListListFloat"
    " expression=17:|bytes",
    "AttrDef.ListValue": "s=2:*bytes i=3:*int64 f=4:*float b=5:*bool bt=7:*bytes"
    " td=8:*TensorDescriptor t=9:*TensorDef g=10:*GraphDef na=11:*NamedAttrs dt=12:*int64"
    " val_type=20:AttrDef.ListValue.ListValueType",
    "AttrDef.ListListInt": "list_list_i=1:*AttrDef.ListListInt.ListInt",
    "AttrDef.ListListInt.ListInt": "list_i=1:*int64",
    "AttrDef.ListListFloat": "list_list_f=1:*AttrDef.ListListFloat.ListFloat",
    "AttrDef.ListListFloat.ListFloat": "list_f=1:*float",
}
_ENUMS: Mapping[str, tuple[str, str]] = {
    "DataType": (
        "DT_",
        "UNDEFINED FLOAT FLOAT16 INT8 UINT8 INT16 UINT16 INT32 INT64 UINT32 UINT64 BOOL DOUBLE"
        " STRING DUAL_SUB_INT8 DUAL_SUB_UINT8 COMPLEX64 COMPLEX128 QINT8 QINT16 QINT32 QUINT8"
        " QUINT16 RESOURCE STRING_REF DUAL VARIANT BF16 INT4 UINT1 INT2 UINT2 COMPLEX32 HIFLOAT8"
        " FLOAT8_E5M2 FLOAT8_E4M3FN FLOAT8_E8M0 FLOAT6_E3M2 FLOAT6_E2M3 FLOAT4_E2M1 FLOAT4_E1M2"
        " HIFLOAT4",
    ),
    "AttrDef.ListValue.ListValueType": (
        "VT_LIST_",
        "NONE STRING INT FLOAT BOOL BYTES TENSOR_DESC TENSOR GRAPH NAMED_ATTRS DATA_TYPE",
    ),
}

#: Dtype -> its number in a tensor descriptor (``ge.proto.DataType``).
DATA_TYPES: Mapping[str, int] = {
    "float32": 1, "float16": 2, "int8": 3, "uint8": 4, "int16": 5, "uint16": 6, "int32": 7,
    "int64": 8, "uint32": 9, "uint64": 10, "bool": 11, "float64": 12, "complex64": 16,
    "complex128": 17, "bfloat16": 27, "int4": 28, "float8_e5m2": 34, "float8_e4m3fn": 35,
}  # fmt: skip
#: Dtype -> its number in attributes and in the interface block of an OM: another enum.
TYPE_NUMBERS: Mapping[str, int] = {
    "float32": 0, "float16": 1, "int8": 2, "int32": 3, "uint8": 4, "int16": 6, "uint16": 7,
    "uint32": 8, "int64": 9, "uint64": 10, "float64": 11, "bool": 12, "complex64": 16,
    "complex128": 17, "bfloat16": 27, "int4": 29, "float8_e5m2": 35, "float8_e4m3fn": 36,
}  # fmt: skip
DTYPES: Mapping[int, str] = {code: name for name, code in DATA_TYPES.items()}
TYPE_NAMES: Mapping[int, str] = {code: name for name, code in TYPE_NUMBERS.items()}
#: Layout -> its number in attributes and in the interface block of an OM.
FORMATS: Mapping[str, int] = {"NCHW": 0, "NHWC": 1, "ND": 2, "NDHWC": 27, "NCDHW": 30}

#: Kind of an attribute in a prototype -> member of AttrDef, or of ListValue with its val_type.
MEMBERS: Mapping[str, str] = {
    "Int": "i", "Float": "f", "Bool": "b", "String": "s", "Type": "dt", "Tensor": "t",
    "Bytes": "bt", "NamedAttrs": "func", "ListListInt": "list_list_int",
    "ListListFloat": "list_list_float",
}  # fmt: skip
LIST_MEMBERS: Mapping[str, tuple[str, int]] = {
    "ListString": ("s", 1), "ListInt": ("i", 2), "ListFloat": ("f", 3), "ListBool": ("b", 4),
    "ListBytes": ("bt", 5), "ListTensor": ("t", 7), "ListType": ("dt", 10),
}  # fmt: skip
_OF_LIST = {number: member for member, number in LIST_MEMBERS.values()}


@cache
def message(name: str) -> Any:
    """Class of a message, e.g. ``ModelDef``. Raises CirError E901 without protobuf."""
    factory = require("google.protobuf.message_factory", "cann")
    return factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


@cache
def _pool() -> Any:
    pb = require("google.protobuf.descriptor_pb2", "cann")
    pool = require("google.protobuf.descriptor_pool", "cann").DescriptorPool()
    file = pb.FileDescriptorProto(name="ge.proto", package=_PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for name, text in _MESSAGES.items():
        outer, _, short = name.rpartition(".")
        made[name] = (made[outer].nested_type if outer else file.message_type).add(name=short)
        for item in text.split():
            _add_field(pb, made[name], name, item)
    for name, (prefix, values) in _ENUMS.items():
        outer, _, short = name.rpartition(".")
        enum = (made[outer].enum_type if outer else file.enum_type).add(name=short)
        for number, value in enumerate(values.split()):
            enum.value.add(name=prefix + value, number=number)
    pool.Add(file)
    return pool


def _add_field(pb: Any, owner: Any, path: str, item: str) -> None:
    name, _, rest = item.partition("=")
    number, _, kind = rest.partition(":")
    field = owner.field.add(name=name, number=int(number), label=1)
    if kind.startswith("|"):
        if not owner.oneof_decl:
            owner.oneof_decl.add(name="value")
        field.oneof_index = 0
    if kind.startswith("*") or kind == "map":
        field.label = 3
    kind = kind.lstrip("*|")
    if kind == "map":
        entry = owner.nested_type.add(name="AttrEntry")
        entry.options.map_entry = True
        for part in ("key=1:string", "value=2:AttrDef"):
            _add_field(pb, entry, f"{path}.AttrEntry", part)
        kind = f"{path}.AttrEntry"
    scalar = pb.FieldDescriptorProto.Type.items()
    code = dict(scalar).get(f"TYPE_{kind.upper()}")
    if code is not None:
        field.type = code
        return
    field.type = pb.FieldDescriptorProto.TYPE_ENUM if kind in _ENUMS else 11
    field.type_name = f".{_PACKAGE}.{kind}"


def serialise(m: Any) -> bytes:
    """The message's bytes, maps in order of their keys."""
    return bytes(m.SerializeToString(deterministic=True))


def set_attr(out: Any, kind: str, value: Any) -> None:
    """Store a Python value in an AttrDef as a prototype's kind demands, e.g. ``ListInt``.

    A list states its ``val_type``, without which GE drops it, even when empty.
    """
    if kind in LIST_MEMBERS:
        member, number = LIST_MEMBERS[kind]
        out.list.val_type = number
        items: Iterable[Any] = value
        getattr(out.list, member).extend(map(_plain, items))
    elif kind == "ListListInt":
        out.list_list_int.SetInParent()
        for row in value:
            out.list_list_int.list_list_i.add().list_i.extend(row)
    else:
        setattr(out, MEMBERS[kind], _plain(value))


def _plain(v: Any) -> Any:
    return v.encode() if isinstance(v, str) else v


def value_of(attr: Any) -> Any:
    """The Python value of an AttrDef: number, bool, text, tuple, or the message it holds.

    Bytes that are not text stay bytes. Floats are the shortest decimals that stand for them.
    """
    member = attr.WhichOneof("value")
    if member is None:
        return None
    if member == "list":
        found = _OF_LIST.get(attr.list.val_type)
        lists = (attr.list.s, attr.list.i, attr.list.f, attr.list.b, attr.list.dt)
        # Lists of names that GE reads raw have no val_type.
        values: Sequence[Any] = (
            getattr(attr.list, found) if found else next((v for v in lists if len(v)), ())
        )
        return tuple(_python(v) for v in values)
    if member == "list_list_int":
        return tuple(tuple(row.list_i) for row in attr.list_list_int.list_list_i)
    if member == "list_list_float":
        return tuple(tuple(map(_python, r.list_f)) for r in attr.list_list_float.list_list_f)
    return _python(getattr(attr, member))


def _python(v: Any) -> Any:
    if isinstance(v, bytes):
        try:
            return v.decode()
        except UnicodeDecodeError:
            return v
    if isinstance(v, float):
        import numpy as np

        return float(str(np.float32(v)))
    return v
