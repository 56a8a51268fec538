"""Broken and hostile ``.ms`` files: only our errors, soon and in little memory; outputs are whole or absent."""

from __future__ import annotations

import errno
import os
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir import spec
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Const, Model
from framework_adapter import api, convert
from framework_adapter.mindspore.lite import BACKEND, FRONTEND, flat
from tests.onnx.support import program

#: Mutations of a run; raise it for a long one.
MUTATIONS = 3000


def diverse() -> Model:
    """A small network with most of what a file can hold: windows, views, integers, recurrence."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> str:
        return b.const(Const.of(rng.standard_normal(shape).astype(np.float32)))

    b = Builder()
    x = b.input("x", "float32", ["batch", 2, 6, 5])
    ids = b.input("ids", "int64", ["batch", 4])
    attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    h = b.emit("relu", [b.emit("conv", [x, weight(3, 2, 3, 3), weight(3)], attrs)[0]])[0]
    h = b.emit(
        "max_pool",
        [h],
        {"kernel": (2, 2), "strides": (2, 2), "pads": (0,) * 4, "dilations": (1, 1)},
    )[0]
    h = b.emit("resize", [h], {"sizes": (6, 4), "mode": "linear", "coordinates": "half_pixel"})[0]
    h = b.emit("reshape", [h], {"shape": ["batch", 72]})[0]
    h = b.emit("gelu", [b.emit("linear", [h, weight(8, 72), weight(8)])[0]])[0]
    h = b.emit("layer_norm", [h, weight(8), weight(8)])[0]
    e = b.emit("gather", [weight(7, 8), ids])[0]
    s = b.emit("transpose", [e], {"perm": (1, 0, 2)})[0]
    r, *_ = b.emit("lstm", [s, weight(12, 8), weight(12, 3), weight(12)])
    r = b.emit("sum", [r], {"axis": (0,), "keepdims": False})[0]
    parts = b.emit("split", [h], {"axis": -1, "sizes": (3, 5)})
    y = b.emit("concat", [b.emit("mul", [parts[0], r])[0], parts[1]], {"axis": -1})[0]
    y = b.emit("softmax", [b.emit("pad", [y], {"pads": (0, 1, 0, 0)})[0]], name="y")[0]
    best = b.emit("argmax", [y], {"axis": -1}, name="best")[0]
    return Model(b.finish([y, best]))


def mutated(data: bytes, seed: int) -> bytes:
    """The file cut short, or with bits flipped, or bytes and words replaced."""
    rng = random.Random(seed)
    out = bytearray(data)
    kind = rng.random()
    if kind < 0.15:
        return bytes(out[: rng.randrange(len(out))])
    tables = len(out) if kind < 0.4 else 6000  # what is not weights is more often hit
    start = len(out) - tables if rng.random() < 0.5 else 0
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = start + rng.randrange(min(tables, len(out)))
        if kind < 0.7:
            out[at] ^= 1 << rng.randrange(8)
        elif kind < 0.85:
            out[at] = rng.choice((0, 1, 127, 128, 255))
        else:
            word = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(out), rng.randrange(2**32)))
            out[at - at % 4 : at - at % 4 + 4] = word.to_bytes(4, "little")
    return bytes(out)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("ms") / "m.ms"
    BACKEND.emit(diverse(), path)
    return path.read_bytes()


def test_mutations(data: bytes, tmp_path: Path) -> None:
    """Each gives a program or a coded error, in less than ten seconds; memory does not grow."""
    path = tmp_path / "m.ms"
    path.write_bytes(data)
    api.build(str(path), FRONTEND)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for seed in range(MUTATIONS):
        path.write_bytes(mutated(data, seed))
        start = time.monotonic()
        try:
            api.build(str(path), FRONTEND)
        except CirError as exc:
            assert exc.code in ("E103", "E105", "E201", "E202", "E203", "E207", "E304"), exc
            refused += 1
        assert time.monotonic() - start < 10, f"mutation {seed}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert refused > MUTATIONS // 4 and grown < 200, f"{refused} refused, {grown:.0f} MB more"


def _refused(data: bytes, path: Path, what: str, code: str = "E105") -> None:
    path.write_bytes(data)
    with pytest.raises(CirError) as info:
        api.build(str(path), FRONTEND)
    assert info.value.code == code and what in str(info.value), info.value


def test_prefixes(data: bytes, tmp_path: Path) -> None:
    """No beginning of a file is a file."""
    for size in [*range(0, len(data) - 4, 97), len(data) - 5]:
        path = tmp_path / "m.ms"
        path.write_bytes(data[:size])
        with pytest.raises(CirError) as info:
            api.build(str(path), FRONTEND)
        assert info.value.code == "E105"


@pytest.mark.parametrize(
    "head", [b"", b"PK\x03\x04", b"MSL2", b"\x00" * 8, b"\x10\0\0\0MSL1", b"\x10\0\0\0MSLX"]
)
def test_other_files(head: bytes, tmp_path: Path) -> None:
    """Wrong identifiers, encrypted files among them."""
    _refused(
        head + os.urandom(200) if head else b"", tmp_path / "m.ms", "not a MindSpore Lite model"
    )


def _word(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + value.to_bytes(4, "little") + data[at + 4 :]


def _root(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")


def _field(data: bytes, table: int, slot: int) -> int:
    """Place of a field of a table."""
    index = table - int.from_bytes(data[table : table + 4], "little", signed=True)
    offset = int.from_bytes(data[index + 4 + 2 * slot : index + 6 + 2 * slot], "little")
    return table + offset


def _vector(data: bytes, table: int, slot: int) -> int:
    at = _field(data, table, slot)
    return at + int.from_bytes(data[at : at + 4], "little")


@pytest.mark.parametrize("slot", [3, 6, 7])
def test_four_billion_claimed(slot: int, data: bytes, tmp_path: Path) -> None:
    """Lengths beyond the file: of inputs, nodes, tensors."""
    at = _vector(data, _root(data), slot)
    for count in (2**32 - 1, 2**31, len(data)):
        _refused(_word(data, at, count), tmp_path / "m.ms", "claims")


def test_offsets_beyond_the_file(data: bytes, tmp_path: Path) -> None:
    """The root, and a vector, out of range or on themselves."""
    root = _root(data)
    for value in (0, 2, len(data), 2**32 - 4, 2**31):
        _refused(_word(data, 0, value), tmp_path / "m.ms", "malformed")
    for value in (0, len(data), 2**32 - 8):
        _refused(_word(data, _field(data, root, 6), value), tmp_path / "m.ms", "malformed")


def test_tables_shared_without_end(tmp_path: Path) -> None:
    """A small file that would unfold to millions of tables."""
    import flatbuffers

    b = flatbuffers.Builder(0)

    def vector(items: list[int]) -> int:
        b.StartVector(4, len(items), 4)
        for i in items:
            b.PrependUOffsetTRelative(i)
        return b.EndVector()

    def table(slots: int, at: int, value: int) -> int:
        b.StartObject(slots)
        b.PrependUOffsetTRelativeSlot(at, value, 0)
        return b.EndObject()

    empty = vector([])
    one = table(1, 0, empty)  # Vec
    pads = table(1, 0, vector([one] * 3000))  # Vec2D
    op = table(3, 0, pads)  # PadFusion
    b.StartObject(2)
    b.PrependUint8Slot(0, flat.schema().ops["PadFusion"][0], 0)
    b.PrependUOffsetTRelativeSlot(1, op, 0)
    primitive = b.EndObject()
    node = table(7, 2, primitive)
    nodes = vector([node] * 3000)
    b.StartObject(11)
    b.PrependUOffsetTRelativeSlot(6, nodes, 0)
    b.Finish(b.EndObject(), b"MSL2")
    start = time.monotonic()
    _refused(bytes(b.Output()), tmp_path / "m.ms", "malformed")
    assert time.monotonic() - start < 5


def _tables(data: bytes) -> dict[str, Any]:
    return flat.unpack(data)


def _tensor(m: dict[str, Any], name: str) -> dict[str, Any]:
    return next(t for t in m["allTensors"] if name in t["name"])


def _weight(m: dict[str, Any]) -> dict[str, Any]:
    return next(t for t in m["allTensors"] if t["data"] is not None and len(t["data"]) > 64)


def _swap_nodes(m: dict[str, Any]) -> None:
    m["subGraph"][0]["nodeIndices"] = m["subGraph"][0]["nodeIndices"][::-1]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "order": (_swap_nodes, "nothing computes before it"),
    "no nodes": (lambda m: m.update(nodes=[]), "no nodes"),
    "no outputs": (lambda m: m.update(outputIndex=[]), "no outputs"),
    "no inputs listed": (lambda m: m.update(inputIndex=None), "inputs are missing"),
    "id": (lambda m: m["nodes"][0].update(inputIndex=[999]), "point beyond"),
    "graph ids": (lambda m: m["subGraph"][0].update(nodeIndices=[0, 0]), "lists a node twice"),
    "graph edge": (lambda m: m["subGraph"][0].update(inputIndices=[0]), "differ from the model's"),
    "two graphs": (lambda m: m.update(subGraph=m["subGraph"] * 2), "several sub-graphs"),
    "twice": (lambda m: m["nodes"][1].update(outputIndex=m["nodes"][0]["outputIndex"]), "computed twice"),
    "constant made": (lambda m: m["nodes"][0].update(outputIndex=[m["nodes"][0]["inputIndex"][-1]]), "computed twice"),
    "no op": (lambda m: m["nodes"][0].update(primitive=None), "has no op"),
    "no result": (lambda m: m["nodes"][0].update(outputIndex=[]), "has no outputs"),
    "weights": (lambda m: _weight(m).update(data=_weight(m)["data"][:-4]), "bytes for"),
    "dims": (lambda m: _weight(m).update(dims=[2**30, 2**30]), "bytes for"),
    "negative dims": (lambda m: _weight(m).update(dims=[-5]), "dims are"),
    "rank": (lambda m: _weight(m).update(dims=[1] * 9), "dims are"),
    "data type": (lambda m: _weight(m).update(dataType=17), "data type 17"),
    "input with data": (lambda m: _tensor(m, "ids").update(data=np.zeros(64, np.uint8), nodeType=0, dims=[1, 4]), "input has data"),
    "external": (lambda m: _weight(m).update(externalData=[{"location": "/etc/passwd"}]), "external data"),
    "compressed": (lambda m: _weight(m).update(weightQuantCompressType="FSE"), "compressed"),
    "huffman": (lambda m: _weight(m).update(enableHuffmanCode=True), "compressed"),
    "quantised": (lambda m: m["nodes"][0].update(quantType="QUANT_ALL"), "quantised"),
    "quantised weight": (lambda m: _weight(m).update(quantParams=[{"inited": True}]), "quantised"),
    "obfuscated": (lambda m: m.update(obfuscate=True), "obfuscated"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_contents(change: str, data: bytes, tmp_path: Path) -> None:
    """What the runtime refuses at load time, and what is not read."""
    m = _tables(data)
    edit, what = CHANGES[change]
    edit(m)
    _refused(flat.pack(m), tmp_path / "m.ms", what)


def test_unknown_ops_at_once(data: bytes, tmp_path: Path) -> None:
    """All ops that are not read are named (E201)."""
    at = [i for i in range(len(data)) if data[i] == flat.schema().ops["Softmax"][0]]
    for i in at:
        changed = data[:i] + bytes([190]) + data[i + 1 :]
        try:
            api.build(_written(tmp_path, changed), FRONTEND)
        except CirError as exc:
            if exc.code == "E201":
                assert "op 190" in str(exc)
                return
    raise AssertionError("no byte of the file is the op's number")


def _written(folder: Path, data: bytes) -> str:
    path = folder / "m.ms"
    path.write_bytes(data)
    return str(path)


def test_missing_file_and_wrong_inputs(data: bytes, tmp_path: Path) -> None:
    """E101, and E103 for inputs and outputs that are not the model's."""
    from framework_adapter.source import InputSpec

    with pytest.raises(CirError) as info:
        FRONTEND.extract(tmp_path / "none.ms", None)
    assert info.value.code == "E101"
    path = _written(tmp_path, data)
    for specs in (
        [InputSpec("nope", "float32", (1,))],
        [InputSpec("x", "float64", (1, 2, 6, 5))],
        [InputSpec("x", "float32", (1, 3, 6, 5))],
        [InputSpec(None, "float32", (1, 2, 6, 5))] * 3,
    ):
        with pytest.raises(CirError) as info:
            FRONTEND.extract(path, specs)
        assert info.value.code == "E103"
    with pytest.raises(CirError) as info:
        FRONTEND.extract(path, None, outputs=["nope"])
    assert info.value.code == "E103"
    fixed = FRONTEND.extract(path, [InputSpec(None, "float32", (3, 2, 6, 5))])
    assert fixed.inputs["x"].shape == (3, 2, 6, 5)
    cut = FRONTEND.extract(path, None, outputs=["y"])
    assert cut.outputs == ("y",)


# -- writing ---------------------------------------------------------------------------------------
def test_path_is_not_writable(tmp_path: Path) -> None:
    """A folder in the way (E502)."""
    model, _ = program("relu", spec.get("relu").samples[0])
    (tmp_path / "m.ms").mkdir()
    for path in (tmp_path / "m.ms", Path("/proc/none/m.ms")):
        with pytest.raises(CirError) as info:
            BACKEND.emit(model, path)
        assert info.value.code == "E502"
    assert list(tmp_path.iterdir()) == [tmp_path / "m.ms"]


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays, and nothing half-written does."""
    model, _ = program("relu", spec.get("relu").samples[0])
    path = tmp_path / "m.ms"
    BACKEND.emit(model, path)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as f:
            f.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CirError, match="No space left") as info:
        BACKEND.emit(model, path)
    monkeypatch.undo()
    assert info.value.code == "E502" and path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a file can hold (E504)."""
    from framework_adapter.mindspore.lite import write

    monkeypatch.setattr(write, "_LIMIT", (1 << 20) + 100)
    with pytest.raises(CirError, match="2 GiB") as info:
        BACKEND.emit(diverse(), tmp_path / "m.ms")
    assert info.value.code == "E504" and not list(tmp_path.iterdir())


def test_unknown_option(tmp_path: Path) -> None:
    """An option that the target does not have (E100)."""
    import torch

    with pytest.raises(CirError) as info:
        convert(torch.nn.ReLU(), "mslite", tmp_path / "m.ms", inputs=(torch.ones(2),), bits=4)
    assert info.value.code == "E100" and "weights" in str(info.value)
