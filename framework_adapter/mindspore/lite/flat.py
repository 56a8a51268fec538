"""FlatBuffers by a schema in text: plain values to bytes, and untrusted bytes to plain values.

``schema.json`` describes the tables of a ``.ms`` file that we use, each as a line of ``name type``
or ``name type=default`` in the order of its fields. A type is a scalar, ``string``, an enum, a
table, ``[type]`` for a vector, or ``Op`` for the union of all ops. As Python values these are
numbers, strings, names of enum members, mappings, sequences (arrays for numbers), and pairs
``(op, fields)``.

Sources: the FlatBuffers format (https://flatbuffers.dev/internals) and MindSpore Lite 2.7's
``schema/*.fbs``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cir.diagnostics import error

#: Scalar type -> (struct format, Builder method, NumPy dtype).
_SCALARS: Mapping[str, tuple[str, str, str]] = {
    "bool": ("<B", "PrependBoolSlot", "u1"),
    "byte": ("<b", "PrependInt8Slot", "i1"),
    "ubyte": ("<B", "PrependUint8Slot", "u1"),
    "int": ("<i", "PrependInt32Slot", "<i4"),
    "uint": ("<I", "PrependUint32Slot", "<u4"),
    "long": ("<q", "PrependInt64Slot", "<i8"),
    "int64": ("<q", "PrependInt64Slot", "<i8"),
    "float": ("<f", "PrependFloat32Slot", "<f4"),
    "double": ("<d", "PrependFloat64Slot", "<f8"),
}
#: Tables may nest this deep; a file of ours has four levels.
_DEPTH = 16


@dataclass(frozen=True)
class Enum:
    """Members of an enum and the scalar that stores it."""

    scalar: str
    members: Mapping[str, int]

    @cached_property
    def names(self) -> Mapping[int, str]:
        """Name of each number."""
        return {v: k for k, v in self.members.items()}


@dataclass(frozen=True)
class Field:
    """One field of a table; a union takes two slots, of which this is the first."""

    name: str
    type: str
    slot: int
    default: Any


@dataclass(frozen=True)
class Schema:
    """Tables and ops by name."""

    identifier: str
    root: str
    enums: Mapping[str, Enum]
    tables: Mapping[str, tuple[Field, ...]]
    ops: Mapping[str, tuple[int, tuple[Field, ...]]]

    @cached_property
    def op_names(self) -> Mapping[int, str]:
        """Name of each op's number in the union."""
        return {number: name for name, (number, _) in self.ops.items()}

    def fields(self, op: str) -> tuple[Field, ...]:
        """Fields of an op's table."""
        return self.ops[op][1]


@lru_cache(maxsize=1)
def schema() -> Schema:
    """The schema of ``schema.json``."""
    raw = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))
    enums = {name: Enum(*value) for name, value in raw["enums"].items()}
    return Schema(
        raw["identifier"],
        raw["root"],
        enums,
        {name: _fields(line, enums) for name, line in raw["tables"].items()},
        {name: (number, _fields(line, enums)) for name, (number, line) in raw["ops"].items()},
    )


def _fields(line: str, enums: Mapping[str, Enum]) -> tuple[Field, ...]:
    out: list[Field] = []
    slot = 0
    for part in line.split(", ") if line else ():
        name, _, kind = part.partition(" ")
        kind, _, default = kind.partition("=")
        value: Any = json.loads(default or "0")
        if kind in enums:
            value = enums[kind].names[value]
        elif kind not in _SCALARS:
            value = None
        out.append(Field(name, kind, slot, bool(value) if kind == "bool" else value))
        slot += 2 if kind == "Op" else 1
    return tuple(out)


# -- writing ---------------------------------------------------------------------------------------
def pack(values: Mapping[str, Any], size: int = 1024) -> bytes:
    """A file: the root table of these values.

    Args:
        values: field -> value; fields that are left out are not stored.
        size: bytes to begin with; the buffer grows as needed.

    Raises:
        KeyError: for a field, enum member or op that the schema lacks.
        CirError: E901 without the flatbuffers package.
    """
    from framework_adapter.registry import require

    s = schema()
    builder = require("flatbuffers", "mslite").Builder(size)
    builder.Finish(
        _Packer(builder, s).table(s.tables[s.root], values), s.identifier.encode("ascii")
    )
    return bytes(builder.Output())


class _Packer:
    def __init__(self, builder: Any, schema: Schema) -> None:
        self.b, self.s = builder, schema

    def table(self, fields: tuple[Field, ...], values: Mapping[str, Any]) -> int:
        if unknown := sorted(set(values) - {f.name for f in fields}):
            raise KeyError(unknown[0])
        # What a table refers to is written before it; its own part holds offsets and scalars.
        refers = {
            f.name: self.refer(f.type, values[f.name])
            for f in fields
            if values.get(f.name) is not None and not self.is_scalar(f.type)
        }
        self.b.StartObject(sum(2 if f.type == "Op" else 1 for f in fields))
        for f in fields:
            value = values.get(f.name)
            if value is None:
                continue
            if f.type == "Op":
                self.b.PrependUint8Slot(f.slot, self.s.ops[value[0]][0], 0)
                self.b.PrependUOffsetTRelativeSlot(f.slot + 1, refers[f.name], 0)
            elif f.name in refers:
                self.b.PrependUOffsetTRelativeSlot(f.slot, refers[f.name], 0)
            else:
                self.scalar(f, value)
        return int(self.b.EndObject())

    def is_scalar(self, kind: str) -> bool:
        return kind in _SCALARS or kind in self.s.enums

    def scalar(self, f: Field, value: Any) -> None:
        default = f.default
        kind = f.type
        if kind in self.s.enums:
            enum = self.s.enums[kind]
            kind, value, default = enum.scalar, enum.members[value], enum.members[default]
        getattr(self.b, _SCALARS[kind][1])(f.slot, value, default)

    def refer(self, kind: str, value: Any) -> int:
        if kind == "string":
            return int(self.b.CreateString(value))
        if kind == "Op":
            return self.table(self.s.fields(value[0]), value[1])
        if not kind.startswith("["):
            return self.table(self.s.tables[kind], value)
        kind = kind[1:-1]
        if kind in _SCALARS:
            return int(self.b.CreateNumpyVector(np.asarray(value, _SCALARS[kind][2])))
        items = [self.table(self.s.tables[kind], v) for v in value]
        self.b.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.b.PrependUOffsetTRelative(item)
        return int(self.b.EndVector())


# -- reading ---------------------------------------------------------------------------------------
def unpack(data: bytes) -> dict[str, Any]:
    """The root table of a file as field -> value; every offset is checked before it is followed.

    Vectors of numbers are arrays that view ``data``. A field that is absent has its default; a
    vector, string or table that is absent is None. An op that the schema lacks is ``op NUMBER``.

    Raises:
        CirError: E105 when the bytes are no such file.
    """
    s = schema()
    if data[4:8] != s.identifier.encode("ascii"):
        raise error(
            "E105",
            "this is not a MindSpore Lite model",
            why=f"bytes 4 to 8 are {data[4:8]!r} instead of {s.identifier!r}",
            fix="convert the source model again; encrypted and older files are not read",
        )
    return _Unpacker(data, s).table(s.tables[s.root], _Unpacker.uint(data, 0), 0)


class _Unpacker:
    def __init__(self, data: bytes, schema: Schema) -> None:
        self.data, self.s, self.size = data, schema, len(data)
        # A table takes four bytes itself and four where it is referred to; a file that claims more
        # of them shares tables, which no writer does and which could unfold without end.
        self.budget = self.size // 8 + 1

    @staticmethod
    def uint(data: bytes, at: int) -> int:
        return int.from_bytes(data[at : at + 4], "little")

    def wrong(self, at: int, what: str) -> Exception:
        return error(
            "E105", f"the MindSpore Lite model is malformed: {what}", where=f"byte {at}",
            fix="copy or convert the file again",
        )  # fmt: skip

    def number(self, at: int, kind: str) -> Any:
        form = _SCALARS[kind][0]
        size = struct.calcsize(form)
        if at % size or not 0 <= at <= self.size - size:
            raise self.wrong(at, f"a {kind} out of place")
        return struct.unpack_from(form, self.data, at)[0]

    def follow(self, at: int) -> int:
        """Target of the offset at a place."""
        return int(at + self.number(at, "uint"))

    def table(self, fields: tuple[Field, ...], at: int, depth: int) -> dict[str, Any]:
        self.budget -= 1
        if self.budget < 0 or depth > _DEPTH:
            raise self.wrong(at, "tables nested or shared without end")
        index = at - self.number(at, "int")
        if index % 2 or not 0 <= index <= self.size - 4:
            raise self.wrong(at, "a table without index")
        length, extent = struct.unpack_from("<HH", self.data, index)
        if length < 4 or length % 2 or index + length > self.size or at + extent > self.size:
            raise self.wrong(index, "a table index out of range")
        slots = struct.unpack_from(f"<{length // 2 - 2}H", self.data, index + 4)
        out: dict[str, Any] = {}
        for f in fields:
            offset = slots[f.slot] if f.slot < len(slots) else 0
            if offset and not 4 <= offset < extent:
                raise self.wrong(index, f"field {f.name} out of range")
            if f.type == "Op":
                body = slots[f.slot + 1] if f.slot + 1 < len(slots) else 0
                out[f.name] = self.op(at + offset, at + body, depth) if offset and body else None
            else:
                out[f.name] = self.value(f, at + offset, depth) if offset else f.default
        return out

    def op(self, kind_at: int, at: int, depth: int) -> tuple[str, dict[str, Any]]:
        number = self.number(kind_at, "ubyte")
        name = self.s.op_names.get(number)
        if name is None:  # lowering reports all of these at once
            return f"op {number}", {}
        return name, self.table(self.s.fields(name), self.follow(at), depth + 1)

    def value(self, f: Field, at: int, depth: int) -> Any:
        if f.type in _SCALARS:
            value = self.number(at, f.type)
            return bool(value) if f.type == "bool" else value
        if f.type in self.s.enums:
            enum = self.s.enums[f.type]
            number = self.number(at, enum.scalar)
            if number not in enum.names:
                raise self.wrong(at, f"{f.name} is {number}, which is no {f.type}")
            return enum.names[number]
        target = self.follow(at)
        if not f.type.startswith("[") and f.type != "string":
            return self.table(self.s.tables[f.type], target, depth + 1)
        count, start = self.number(target, "uint"), target + 4
        kind = "ubyte" if f.type == "string" else f.type[1:-1]
        size = np.dtype(_SCALARS[kind][2]).itemsize if kind in _SCALARS else 4
        if start + count * size > self.size or start % size:
            raise self.wrong(target, f"{f.name} claims {count} elements")
        if f.type == "string":
            return self.text(f, start, count)
        if kind in _SCALARS:
            return np.frombuffer(self.data, _SCALARS[kind][2], count, start)
        if count > self.budget:
            raise self.wrong(target, f"{f.name} claims {count} elements")
        fields = self.s.tables[kind]
        return [self.table(fields, self.follow(start + 4 * i), depth + 1) for i in range(count)]

    def text(self, f: Field, start: int, count: int) -> str:
        try:
            return self.data[start : start + count].decode("utf-8")
        except UnicodeDecodeError as exc:
            raise self.wrong(start, f"{f.name} is no UTF-8 text") from exc
