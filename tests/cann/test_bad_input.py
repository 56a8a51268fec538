"""Damaged, hostile and foreign AIR and OM files: coded errors, no hang, memory in bounds."""

from __future__ import annotations

import os
import random
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cir.diagnostics import CirError
from framework_adapter import convert
from framework_adapter.cann import FRONTEND, outline
from tests.cann import official
from tests.cann.support import BACKENDS, array, canonical, network, read, refused

#: Damaged files to read; ``MUTATIONS=10000`` for the long run.
MUTATIONS = int(os.environ.get("MUTATIONS", "600"))
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def watch() -> Iterator[None]:
    """A test that hangs is ended."""

    def stop(*_: Any) -> None:
        raise TimeoutError("it hangs")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(60 + MUTATIONS // 10)
    yield
    signal.alarm(0)


# -- damage ----------------------------------------------------------------------------------------
def damaged(data: bytes, rng: random.Random) -> bytes:
    """A prefix, or the whole with some bits turned."""
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data))]
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 40))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def test_damaged_files(files: dict[str, bytes], tmp_path: Path) -> None:
    """Cut off or with bits turned: read, or refused with a code; nothing else, in little memory."""
    rng = random.Random(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    codes: dict[str, int] = {}
    for i in range(MUTATIONS):
        target = ("air", "om")[i % 2]
        path = tmp_path / f"m.{target}"
        path.write_bytes(damaged(files[target], rng))
        try:
            read(path)
            code = "read"
        except CirError as exc:
            code = exc.code
        codes[code] = codes.get(code, 0) + 1
    assert set(codes) <= {"read", "E105", "E201", "E202", "E203", "E207"}, codes
    assert codes["E105"] > MUTATIONS // 4
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000, f"{grown} kB"


def _fields(message: Any, out: list[Any]) -> None:
    for field, value in message.ListFields():
        repeated = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
        if field.message_type is None:
            out.append((message, field, repeated))
            continue
        entries = field.message_type.GetOptions().map_entry
        children = list(value.values() if entries else value) if repeated else [value]
        for child in children:
            _fields(child, out)


_NUMBERS = (0, -1, -2, 1, 2, 7, 2**31 - 1, -(2**31), 2**62, -(2**63), 2**63 - 1)
_TEXTS = ("", "Conv2D", "image:0", "image:9", ":", "a:-1", "é" * 99)


def test_nonsense_in_any_field(files: dict[str, bytes], tmp_path: Path) -> None:
    """Well-formed messages whose numbers, texts and bytes are nonsense."""
    rng = random.Random(2)
    whole = official.model_def().FromString(files["air"])
    path = tmp_path / "m.air"
    for _ in range(MUTATIONS // 2):
        model = official.model_def()()
        model.CopyFrom(whole)
        places: list[Any] = []
        _fields(model, places)
        for message, field, repeated in rng.sample(places, 2):
            value = getattr(message, field.name)
            item = value[0] if repeated else value
            new: Any
            if isinstance(item, bool):
                new = not item
            elif isinstance(item, int):
                new = rng.choice(_NUMBERS)
            elif isinstance(item, float):
                new = rng.choice((float("nan"), float("inf"), -1.0, 1e38))
            else:
                new = rng.choice(_TEXTS)
                new = new.encode() if isinstance(item, bytes) else new
            try:
                if repeated:
                    value[rng.randrange(len(value))] = new
                else:
                    setattr(message, field.name, new)
            except ValueError:
                continue  # a number that does not fit the field
        path.write_bytes(model.SerializeToString())
        try:
            read(path)
        except CirError as exc:
            assert exc.code[:2] in ("E1", "E2")


# -- claims ----------------------------------------------------------------------------------------
def om(files: dict[str, bytes], *patches: tuple[str, int, int]) -> bytes:
    """The valid OM with numbers written over it: (format, offset, value)."""
    out = bytearray(files["om"])
    for layout, offset, value in patches:
        struct.pack_into(layout, out, offset, value)
    return bytes(out)


@pytest.mark.parametrize(
    ("patches", "what"),
    [
        ([("<I", 0, 0x444F4D4A)], "not an OM file"),
        ([("<Q", 184, 5)], "damaged"),
        ([("<Q", 184, 2**63)], "damaged"),
        ([("<B", 80, 1)], "encrypted"),
        ([("<B", 82, 5)], "bundle"),
        ([("<I", 256, 0xFFFFFFFF)], "4294967295 partitions"),
        ([("<I", 256, 0)], "0 partitions"),
        ([("<I", 156, 0xFFFFFFFF)], "fewer than the 4294967295 models"),
        ([("<Q", 264 + 8, 2**40)], "ends behind the file"),
        ([("<Q", 264 + 16, 2**63)], "ends behind the file"),
        ([("<Q", 264 + 24 + 16, 3)], "misses|miss"),
        ([("<I", 264 + 24, 7)], "holds no graph"),
    ],
)
def test_containers_that_lie(
    patches: list[tuple[str, int, int]], what: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    """Wrong magic, lengths, flags and tables: each is refused before anything is allocated."""
    path = tmp_path / "m.om"
    path.write_bytes(om(files, *patches))
    refused(path, what)


@pytest.mark.parametrize("size", [0, 3, 4, 100, 255, 256, 260, 300])
def test_short_files(size: int, files: dict[str, bytes], tmp_path: Path) -> None:
    """Files that end inside the header or the table."""
    for target, data in files.items():
        path = tmp_path / f"m.{target}"
        path.write_bytes(data[:size])
        refused(path, "")


def test_om2_archives_are_named(tmp_path: Path) -> None:
    """The zip form that newer compilers can write is told apart from a damaged file."""
    import zipfile

    path = tmp_path / "m.om"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("model.json", "{}")
    refused(path, "OM2")


def test_a_missing_file(tmp_path: Path) -> None:
    """E101."""
    for name in ("no.air", "no.om"):
        refused(tmp_path / name, "is not there", "E101")
        with pytest.raises(CirError) as info:
            convert(tmp_path / name, "onnx", tmp_path / "m.onnx")
        assert info.value.code == "E101"
    (tmp_path / "folder.om").mkdir()
    refused(tmp_path / "folder.om", "is a folder", "E101")


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def test_millions_of_nodes_claimed(tmp_path: Path) -> None:
    """A node takes two bytes in a file and a hundred times that in memory: counted before parsing."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = tmp_path / "m.air"
    path.write_bytes(field(7, b"\x32\x00" * (outline.MOST + 1)))
    refused(path, "nodes and descriptors")
    path.write_bytes(field(7, field(6, b"\x8a\x02\x00" * (outline.MOST + 1))))
    refused(path, "nodes and descriptors")
    path.write_bytes(field(7, varint(6 << 3 | 2) + varint(2**32 * 100)))  # 4 billion and more bytes
    refused(path, "holds no graph")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} kB"


def test_deep_nesting(tmp_path: Path) -> None:
    """Attributes within attributes, a thousand deep."""
    inner = b""
    for _ in range(1000):
        inner = field(10, field(2, field(1, b"k") + field(2, inner)))
    path = tmp_path / "m.air"
    path.write_bytes(field(7, field(6, field(10, field(1, b"a") + field(2, inner)))))
    refused(path, "holds no graph")


# -- writing ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", BACKENDS)
def test_output_path_that_cannot_be_written(target: str, tmp_path: Path) -> None:
    """A file where a folder should be, a folder where the file should be: E502, nothing touched."""
    model = canonical(network())
    blocker = tmp_path / "file"
    blocker.write_text("here")
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (blocker / f"m.{target}", folder):
        with pytest.raises(CirError) as info:
            BACKENDS[target].emit(model, path)
        assert info.value.code == "E502"
    assert blocker.read_text() == "here" and not list(folder.iterdir())


CODE = """
import resource, sys
from pathlib import Path
from cir.diagnostics import CirError
from tests.cann.support import canonical, network, write
model = canonical(network())
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    write(model, Path(sys.argv[1]), sys.argv[2])
except CirError as exc:
    print(exc.code, exc.exit_code)
"""


@pytest.mark.parametrize("target", BACKENDS)
def test_disk_full(target: str, tmp_path: Path) -> None:
    """When the system takes no more bytes: E502, what was there stays, nothing half-written."""
    old = tmp_path / f"m.{target}"
    old.write_text("old")
    command = [sys.executable, "-c", CODE, str(tmp_path), target]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.split() == ["E502", "3"], run.stderr
    assert old.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == [old.name]


def test_wrong_feeds(files: dict[str, bytes], tmp_path: Path) -> None:
    """Too few arrays, or of another dtype: E103."""
    path = tmp_path / "m.air"
    path.write_bytes(files["air"])
    for feeds in ([], [array(2, 3, 6, 6)], [array(2, 3, 6, 6), array(2, 5)]):
        with pytest.raises(CirError) as info:
            BACKENDS["air"].run(path, feeds)
        assert info.value.code == "E103"
    assert FRONTEND.accepts(path)
