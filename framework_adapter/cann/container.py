"""The OM container: a header of 256 bytes, tables of partitions, the partitions.

Written is one model in the 64-bit form; read are both forms of table and files of several models.
All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cir.diagnostics import CirError, error

MAGIC = b"IMOD"
_HEADER = struct.Struct("<4sII64sIBBBB32sI32sII20sB3xQBB62s")
_VERSION, _IR_VERSION = 0x20000000, 2
_TINY, _WIDE = struct.Struct("<III"), struct.Struct("<IIQQ")
MODEL_DEF, WEIGHTS, INTERFACE = 0, 1, 8
#: Partitions that only a compiler writes: launch descriptors and kernels.
TASKS, KERNELS = 2, 3
#: More partitions than any compiler writes into one model.
_MOST = 4096
_BUNDLE = 5


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: its type, and its place in the file."""

    kind: int
    offset: int
    size: int


def padded(n: int, to: int = 512) -> int:
    """``n`` rounded up."""
    return -(-n // to) * to


def write_header(out: BinaryIO, name: str, sizes: Sequence[tuple[int, int]], dynamic: bool) -> None:
    """Header and table of a model whose partitions (type, size) follow each other."""
    table = 8 + _WIDE.size * len(sizes)
    total = table + sum(size for _, size in sizes)
    short = name.encode()[:31].decode(errors="ignore").encode()
    out.write(
        _HEADER.pack(
            MAGIC, _HEADER.size, _VERSION, b"", 0, 0, 0, 0, 0, short, 0, b"", _IR_VERSION, 1, b"",
            0, total, 0, dynamic, b"",
        )
    )  # fmt: skip
    out.write(struct.pack("<II", len(sizes), 0))
    offset = 0
    for kind, size in sizes:
        out.write(_WIDE.pack(kind, 0, offset, size))
        offset += size


def read(path: Path) -> list[list[Partition]]:
    """Partitions of each model of a file.

    Raises:
        CirError E105: the file is not an OM, is damaged, encrypted, or of a kind that is not read.
    """
    size = path.stat().st_size
    with open(path, "rb") as f:
        head = f.read(_HEADER.size)
        if head[:2] == b"PK":
            raise _bad(path, "is an OM2 archive (zip)", "OM2 holds code instead of a graph",
                       "compile again without GEN_OM2, or read the AIR or ONNX file")  # fmt: skip
        if head[:4] != MAGIC:
            raise _bad(path, "is not an OM file", f"it starts with {head[:4]!r}")
        if len(head) < _HEADER.size:
            raise _bad(path, "is cut off", f"{size} bytes are less than the header")
        _, _, version, _, short, encrypted, _, kind, *rest = _HEADER.unpack(head)
        model_num, long = rest[5], rest[8]
        if encrypted:
            raise _bad(path, "is encrypted", fix="ask for the file that it was made from")
        if kind == _BUNDLE:
            raise _bad(path, "is a bundle of models", fix="unpack it with CANN first")
        length = long or short
        if length != size - _HEADER.size:
            raise _bad(path, "is damaged",
                       f"{size - _HEADER.size} bytes follow its header, not {length}")  # fmt: skip
        count = model_num if version >= _VERSION else 1
        return list(_models(f, path, size, max(count, 1), wide=bool(long)))


def _models(f: BinaryIO, path: Path, end: int, count: int, wide: bool) -> Iterable[list[Partition]]:
    entry, lead = (_WIDE, 8) if wide else (_TINY, 4)
    at = _HEADER.size
    for _ in range(count):
        if at >= end:
            raise _bad(path, "is damaged", f"it holds fewer than the {count} models it claims")
        f.seek(at)
        number = int.from_bytes(f.read(4), "little")
        start = at + lead + entry.size * number
        if not 0 < number <= _MOST or start > end:
            raise _bad(path, "is damaged", f"a table of {number} partitions at byte {at}")
        f.seek(at + lead)
        table = f.read(entry.size * number)
        found = []
        for i in range(number):
            kind, *_, offset, size = entry.unpack_from(table, entry.size * i)
            if start + offset + size > end:
                raise _bad(path, "is damaged",
                           f"partition {i} (type {kind}) ends behind the file")  # fmt: skip
            found.append(Partition(kind, start + offset, size))
        yield found
        at = start + sum(p.size for p in found)
    if at != end:
        raise _bad(path, "is damaged", f"its partitions miss its end by {abs(end - at)} bytes")


def _bad(path: Path, what: str, why: str = "", fix: str = "") -> CirError:
    fix = fix or "copy the file again, or export the model again"
    return error("E105", f"{path.name} {what}", where=str(path), why=why, fix=fix)
