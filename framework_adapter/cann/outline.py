"""The outline of a serialised ModelDef, found without building it.

A node, a descriptor or an attribute takes two bytes in a file and a hundred times that in memory:
a file that claims too many is refused before it is parsed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cir.diagnostics import error

#: Nodes, descriptors and attributes that a model may have in all.
MOST = 3_000_000
#: Field numbers: ModelDef.graph, GraphDef.op.
_GRAPH, _OP = 7, 6
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check(data: bytes, path: Path) -> None:
    """Raises CirError E105 when a file's message is broken, or holds more than ``MOST`` parts."""
    count = 0
    try:
        for number, lo, hi in _fields(data, 0, len(data)):
            if number != _GRAPH:
                continue
            for inner, start, end in _fields(data, lo, hi):
                count += 1
                for _ in _fields(data, start, end) if inner == _OP else ():
                    count += 1
                if count > MOST:
                    raise error(
                        "E105",
                        f"{path.name} has more than {MOST} nodes and descriptors",
                        where=str(path),
                        fix="export the model in parts",
                    )
    except (IndexError, ValueError) as exc:
        raise error(
            "E105",
            f"{path.name} holds no graph of GE",
            where=str(path),
            why=str(exc),
            fix="export the model again",
        ) from exc


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, first byte, end) of each field that has a length."""
    while at < end:
        tag, at = _varint(data, at)
        kind = tag & 7
        size = {_VARINT: 0, _FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind == _VARINT:
            _, at = _varint(data, at)
        if size is None or at + size > end:
            raise ValueError("a field runs past its end")
        if kind == _BYTES:
            yield tag >> 3, at, at + size
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for shift in range(7, 70, 7):
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
    raise ValueError("a number without end")
