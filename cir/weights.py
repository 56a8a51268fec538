"""Weight files: a strict safetensors container whose tensors are named by their content.

The key of a tensor is the sha256 of its dtype, shape and bytes, so equal weights are stored once
and a changed byte is found out. The container is the published safetensors format without
``__metadata__``: 8 bytes of header length, a JSON header padded with spaces to 8 bytes, then the
data without gaps. Tensors lie in the order of falling element size, then key, so each one is
aligned.

int4 and uint4 have no code in the format: they are stored as a row of U8, two elements a byte, the
first in the low half; the CIR file holds the true dtype and shape.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cir import dtype as dt
from cir.diagnostics import CirError, error
from cir.graph import Const, TensorType

#: Header sizes above this are refused, as the reference implementation does.
MAX_HEADER = 100_000_000

_TAGS = {
    "bool": "BOOL",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "complex64": "C64",
    **{n: n.replace("float", "F") for n in ("float16", "float32", "float64")},
    **{n: n.replace("uint", "U") for n in dt.UNSIGNED},
    **{n: n.replace("int", "I") for n in dt.SIGNED},
}
_SIZES = {tag: dt.bits(name) // 8 for name, tag in _TAGS.items()}
_NIBBLES = ("int4", "uint4")


def blob_digest(const: Const) -> str:
    """sha256 (hex) over dtype, shape and stored bytes of a constant."""
    return _hash(const.type, storage_bytes(const))


def _hash(t: TensorType, data: np.ndarray) -> str:
    h = hashlib.sha256(f"{t.dtype}[{','.join(map(str, t.shape))}]\n".encode())
    h.update(data.data)
    return h.hexdigest()


def storage_bytes(const: Const) -> np.ndarray:
    """The bytes of a constant as they lie in a file: uint8 [n], without a copy where possible."""
    arr = np.ascontiguousarray(const.numpy()).reshape(-1)
    if const.type.dtype not in _NIBBLES:
        return arr.view(np.uint8)
    half = arr.astype(np.int8).view(np.uint8) & 15
    if half.size % 2:
        half = np.append(half, np.uint8(0))
    return half[0::2] | (half[1::2] << 4)


def _unpack(data: np.ndarray, t: TensorType) -> np.ndarray:
    """Inverse of storage_bytes; ``data`` is uint8 [n]."""
    shape = tuple(int(d) for d in t.shape)
    if t.dtype not in _NIBBLES:
        return data.view(dt.to_numpy(t.dtype)).reshape(shape)
    half = np.stack([data & 15, data >> 4], axis=-1).reshape(-1)[: Const(t).size]
    if t.dtype == "int4":
        half = (half ^ 8).view(np.int8) - 8
    return half.astype(dt.to_numpy(t.dtype)).reshape(shape)


def byte_count(t: TensorType) -> int:
    """Bytes a constant of a type takes in a file."""
    return (Const(t).size * dt.bits(t.dtype) + 7) // 8


def _stored_as(t: TensorType) -> tuple[str, tuple[int, ...]]:
    """Dtype code and shape a type is stored as. Raises CirError E305 when it has no code."""
    if t.dtype in _NIBBLES:
        return "U8", (byte_count(t),)
    if t.dtype not in _TAGS:
        raise error(
            "E305",
            f"safetensors cannot hold {t.dtype}",
            fix="cast the constant, to complex64 for instance",
        )
    return _TAGS[t.dtype], tuple(int(d) for d in t.shape)


# -- writing ---------------------------------------------------------------------------------------
def write(file: BinaryIO, consts: Iterable[Const]) -> None:
    """Write constants, equal ones once, to an open binary file; one constant in memory at a time.

    Raises:
        CirError: E305 for a dtype that the format cannot hold.
    """
    by_key = {c.digest: c for c in consts}
    stored = {key: _stored_as(c.type) for key, c in by_key.items()}
    order = sorted(by_key, key=lambda k: (-_SIZES[stored[k][0]], k))
    header: dict[str, Any] = {}
    end = 0
    for key in order:
        tag, shape = stored[key]
        start, end = end, end + byte_count(by_key[key].type)
        header[key] = {"data_offsets": [start, end], "dtype": tag, "shape": list(shape)}
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for key in order:
        file.write(storage_bytes(by_key[key]).data)


# -- reading ---------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file: its dtype code, shape, and place as an absolute byte range."""

    tag: str
    shape: tuple[int, ...]
    start: int
    end: int


class WeightsFile:
    """A mapped weights file. Constants taken from it keep the map, whatever becomes of the file.

    Args:
        path: the file; it must be a regular file whose real place is in its own folder.

    Raises:
        CirError: E305 when the file is missing, elsewhere, or not a valid container.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _contained(path)
        self.entries = read_header(path)
        self._map: np.ndarray = np.memmap(path, dtype=np.uint8, mode="r")

    def const(self, key: str, t: TensorType, *, check: bool = True) -> Const:
        """The constant of a key. ``check`` compares its sha256; every other check is always made.

        Raises:
            CirError: E305 for a key that is missing, of another type, or whose content differs.
        """
        entry = self.entries.get(key)
        if entry is None:
            raise _bad(self.path, f"has no tensor {key[:12]}…", fix="copy the file that was saved")
        if (entry.tag, entry.shape) != _stored_as(t):
            raise _bad(self.path, f"holds {entry.tag}{list(entry.shape)} for {key[:12]}…, not {t}")
        data: np.ndarray = np.ndarray(
            entry.end - entry.start, np.uint8, self._map.data, entry.start
        )
        if check and _hash(t, data) != key:
            raise _bad(
                self.path, f"tensor {key[:12]}… differs from its sha256", fix="copy the file again"
            )
        const = Const(t, _unpack(data, t))
        const.__dict__["digest"] = key  # fills the cached property: the key is the digest
        return const


def read_blob(path: Path, offset: int, t: TensorType) -> np.ndarray:
    """Map a tensor at a byte offset of a file, read-only.

    Raises:
        CirError: E305 when the file is missing or too short.
    """
    count = byte_count(t)
    try:
        if path.stat().st_size < offset + count:
            raise _bad(path, f"ends before byte {offset + count}")
        if not count:
            return np.empty(tuple(int(d) for d in t.shape), dt.to_numpy(t.dtype))
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=(count,))
    except OSError as exc:
        raise _bad(path, f"cannot be read: {exc.strerror or exc}") from exc
    return _unpack(data.view(np.ndarray), t)


def read_header(path: Path) -> dict[str, Entry]:
    """Tensors of a safetensors file by key, every claim of the header checked against the file.

    Raises:
        CirError: E305 when the file cannot be read or is not a valid container.
    """
    try:
        with open(path, "rb") as file:
            total = os.fstat(file.fileno()).st_size
            size = int.from_bytes(file.read(8), "little")
            if total < 8 or size > min(MAX_HEADER, total - 8):
                raise _bad(path, "is not a safetensors file: wrong header size")
            text = file.read(size)
    except OSError as exc:
        raise _bad(path, f"cannot be read: {exc.strerror or exc}") from exc
    try:
        header = json.loads(text, object_pairs_hook=_no_duplicates)
        if not isinstance(header, dict):
            raise ValueError("the header is not an object")
        header.pop("__metadata__", None)
        entries = {key: _entry(raw, 8 + size) for key, raw in header.items()}
        _no_gaps(entries, 8 + size, total)
    except (ValueError, RecursionError) as exc:  # JSON and Unicode errors are ValueErrors
        raise _bad(path, f"is not a valid safetensors file: {exc}") from exc
    return entries


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return out


def _entry(raw: Any, base: int) -> Entry:
    if not isinstance(raw, Mapping) or raw.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError("an entry must have dtype, shape and data_offsets")
    tag, shape, offsets = raw["dtype"], raw["shape"], raw["data_offsets"]
    if not isinstance(tag, str) or tag not in _SIZES:
        raise ValueError(f"unknown dtype {str(tag)[:20]!r}")
    for seq in (shape, offsets):
        if not isinstance(seq, list) or any(type(n) is not int or n < 0 for n in seq):
            raise ValueError("shape and data_offsets must be lists of integers >= 0")
    if len(offsets) != 2 or len(shape) > 32:
        raise ValueError("data_offsets must be a pair, and shape of at most 32 dims")
    count = _SIZES[tag]
    for n in shape:
        count *= n
    if offsets[1] - offsets[0] != count:
        raise ValueError(f"{tag}{shape} does not take {offsets[1] - offsets[0]} bytes")
    return Entry(tag, tuple(shape), base + offsets[0], base + offsets[1])


def _no_gaps(entries: Mapping[str, Entry], base: int, total: int) -> None:
    at = base
    for entry in sorted(entries.values(), key=lambda e: (e.start, e.end)):
        if entry.start != at:
            raise ValueError(f"gap or overlap at byte {min(at, entry.start)}")
        at = entry.end
    if at != total:
        raise ValueError(f"the tensors end at byte {at}, the file at {total}")


def _contained(path: Path) -> None:
    """Refuse what a planted link could make of the sibling's name: another folder, a device."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _bad(path, "is not a regular file")
        if path.resolve().parent != path.parent.resolve():
            raise _bad(path, "is a link to another folder", fix="put the file itself there")
    except FileNotFoundError as exc:
        raise _bad(path, "is missing", fix="keep it beside the .cir.json file") from exc
    except (OSError, RuntimeError) as exc:
        raise _bad(path, f"cannot be read: {exc}") from exc


def _bad(path: Path, what: str, fix: str = "") -> CirError:
    return error("E305", f"weights file {path.name} {what}", where=str(path), fix=fix)
