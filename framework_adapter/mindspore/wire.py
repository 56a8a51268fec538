"""The protobuf wire format of ``mind_ir.proto``: bytes to dicts of the fields we read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

_MAX_DEPTH = 64

#: Fields we read, "number name kind"; kinds: i varint, f float, d double, s text, y bytes, else a
#: message; * marks a repeated field. What is not listed is skipped.
_SCHEMA_TEXT = {
    "Model": "2 producer_name s, 5 model_version s, 7 graph Graph, 8* functions Graph, "
    "10 little_endian i, 12* primitives Primitive",
    "Graph": "1* node Node, 2 name s, 3* parameter Tensor, 5* input Value, 6* output Value, "
    "8* attribute Attribute",
    "Node": "1* input s, 2* output s, 4 op_type s, 5* attribute Attribute, 7 domain s",
    "Primitive": "1 name s, 2 op_type s, 3* attribute Attribute",
    "Value": "1 name s, 2* tensor Tensor, 5 attr_info Attribute",
    "Tensor": "1* dims i, 2 data_type i, 3* float_data f, 4* int32_data i, 6* int64_data i, "
    "7 name s, 9 raw_data y, 10* double_data d, 11* uint64_data i, 12 external_data External, "
    "13 ref_key s, 16 compression_type i",
    "External": "1 location s, 2 offset i, 3 length i",
    "Attribute": "1 name s, 2 f f, 3 i i, 4 d d, 5 s y, 6 t Tensor, 8* floats f, 9* doubles d, "
    "10* ints i, 11* strings y, 12* tensors Tensor, 16 type i, 17* values Attribute, "
    "18 seq_info Sequence",
    "Sequence": "1 is_dyn_len i",
}


class _Field(NamedTuple):
    name: str
    kind: str
    repeated: bool


def _parse_schema(text: str) -> dict[int, _Field]:
    out = {}
    for item in text.split(", "):
        number, name, kind = item.split()
        out[int(number.rstrip("*"))] = _Field(name, kind, number.endswith("*"))
    return out


_SCHEMA = {kind: _parse_schema(text) for kind, text in _SCHEMA_TEXT.items()}
_WIRE = {"i": 0, "f": 5, "d": 1}


class WireError(ValueError):
    """The bytes are not what the schema says."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise WireError("a number runs past its end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, raw value) of one message."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, wire, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise WireError(f"wire type {wire}")
        if at + size > end:
            raise WireError("a field runs past the end of the data")
        yield tag >> 3, wire, data[at : at + size]
        at += size


def _scalar(kind: str, value: Any) -> int | float:
    if kind == "i":
        return value - (1 << 64) if value >> 63 else value
    return struct.unpack("<f" if kind == "f" else "<d", value)[0]


def _packed(kind: str, data: memoryview) -> list[int | float]:
    if kind != "i":
        return list(np.frombuffer(data, "<f4" if kind == "f" else "<f8").tolist())
    out, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        out.append(_scalar(kind, value))
    return out


def decode(data: memoryview, kind: str, depth: int = 0) -> dict[str, Any]:
    """One message as a dict of the fields that are present; bytes are views of the data.

    Raises WireError when the bytes do not follow the schema or nest deeper than 64 messages.
    """
    if depth > _MAX_DEPTH:
        raise WireError("messages nested too deep")
    out: dict[str, Any] = {}
    for number, wire, raw in _fields(data):
        field = _SCHEMA[kind].get(number)
        if field is None:
            continue
        name, what, repeated = field
        values: list[Any]
        if what in _WIRE and wire == 2 and repeated:
            values = _packed(what, raw)
        elif wire != _WIRE.get(what, 2):
            raise WireError(f"field {kind}.{name} has wire type {wire}")
        elif what in _WIRE:
            values = [_scalar(what, raw)]
        elif what == "s":
            values = [str(raw, "utf-8")]
        elif what == "y":
            values = [raw]
        else:
            values = [decode(raw, what, depth + 1)]
        if repeated:
            out.setdefault(name, []).extend(values)
        else:
            out[name] = values[-1]
    return out
