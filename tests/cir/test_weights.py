"""The weights container: format, laziness, and what it refuses."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from cir import weights
from cir.diagnostics import CirError
from cir.graph import Const, TensorType
from cir.weights import WeightsFile, blob_digest, read_blob, read_header, write


def container(header: object, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def entry(tag: str, shape: list, start: int, end: int) -> dict:
    return {"dtype": tag, "shape": shape, "data_offsets": [start, end]}


def written(*consts: Const) -> bytes:
    out = io.BytesIO()
    write(out, consts)
    return out.getvalue()


SOME = [
    Const.of(np.arange(7, dtype=np.int8)),
    Const.of(np.arange(5, dtype=np.float64)),
    Const.of(np.arange(3, dtype=np.float16)),
    Const.of(np.arange(6, dtype=np.float32).reshape(2, 3)),
]


def test_the_official_library_reads_the_file(tmp_path: Path) -> None:
    from safetensors.numpy import load

    loaded = load(written(*SOME))
    assert set(loaded) == {c.digest for c in SOME}
    for c in SOME:
        np.testing.assert_array_equal(loaded[c.digest], c.numpy())


def test_the_official_library_reads_the_other_dtypes() -> None:
    from safetensors import deserialize

    names = ["bfloat16", "float8_e4m3fn", "float8_e5m2"]
    consts = [Const.of(np.ones((3, 5), getattr(ml_dtypes, n))) for n in names]
    consts.append(Const.of(np.ones(9, np.complex64)))
    consts.append(Const.of(np.arange(5).astype(ml_dtypes.int4)))
    found = {key: (t["dtype"], t["shape"]) for key, t in deserialize(written(*consts))}
    assert [found[c.digest] for c in consts] == [
        ("BF16", [3, 5]), ("F8_E4M3", [3, 5]), ("F8_E5M2", [3, 5]), ("C64", [9]), ("U8", [3]),
    ]  # fmt: skip


def test_layout_is_canonical(tmp_path: Path) -> None:
    data = written(*SOME)
    assert data == written(*reversed(SOME))
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert size % 8 == 0 and "__metadata__" not in header
    assert list(header) == sorted(header)
    for t in header.values():
        width = {"F64": 8, "F32": 4, "F16": 2, "I8": 1}[t["dtype"]]
        assert (8 + size + t["data_offsets"][0]) % width == 0


def test_equal_weights_are_stored_once() -> None:
    twin = Const.of(SOME[3].numpy().copy())
    assert written(SOME[3], twin) == written(SOME[3])


def test_digest_tells_dtype_shape_and_bytes_apart() -> None:
    zero = [np.zeros((2, 3), "float32"), np.zeros((3, 2), "float32"), np.zeros((2, 3), "int32"),
            np.zeros(6, "float32"), np.ones((2, 3), "float32")]  # fmt: skip
    assert len({blob_digest(Const.of(z)) for z in zero}) == len(zero)


@pytest.mark.parametrize(
    ("dtype", "values", "stored"),
    [("int4", [-8, 7, -1, 3, 5], [0x78, 0x3F, 0x05]), ("uint4", [0, 15, 8], [0xF0, 0x08])],
)
def test_nibbles_lie_low_half_first(dtype: str, values: list, stored: list, tmp_path: Path) -> None:
    c = Const.of(np.array(values, np.int8).astype(getattr(ml_dtypes, dtype)))
    assert weights.storage_bytes(c).tolist() == stored
    path = tmp_path / "w.safetensors"
    path.write_bytes(written(c))
    back = WeightsFile(path).const(c.digest, c.type)
    assert back.numpy().dtype == c.numpy().dtype and back.digest == blob_digest(back)
    np.testing.assert_array_equal(back.numpy().astype(int), values)


def test_constants_are_mapped_and_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(written(*SOME))
    c = WeightsFile(path).const(SOME[1].digest, SOME[1].type)
    path.unlink()
    np.testing.assert_array_equal(c.numpy(), SOME[1].numpy())
    with pytest.raises(ValueError, match="read-only"):
        c.numpy()[0] = 1


def test_read_blob_maps_any_offset(tmp_path: Path) -> None:
    path = tmp_path / "raw.bin"
    path.write_bytes(b"abc" + np.arange(4, dtype=np.float32).tobytes())
    t = TensorType("float32", (2, 2))
    np.testing.assert_array_equal(Const(t, path=path, offset=3).numpy(), [[0, 1], [2, 3]])
    assert read_blob(path, 3, TensorType("float32", (0,))).size == 0
    for bad, offset in ((path, 4), (tmp_path / "none", 0)):
        with pytest.raises(CirError) as info:
            read_blob(bad, offset, t)
        assert info.value.code == "E305"


def test_complex128_has_no_place() -> None:
    with pytest.raises(CirError, match="E305 safetensors cannot hold complex128"):
        written(Const.of(np.zeros(3, np.complex128)))


KEY = "k"
BAD = {
    "empty": b"",
    "short": b"\x01\x00",
    "header larger than the file": container({}, size=99),
    "header above the limit": container({}, size=1 << 40),
    "not JSON": container(b"{"),
    "not an object": container([]),
    "not UTF-8": container(b'{"\xff": 1}'),
    "nested": container(b"[" * 100_000),
    "duplicate key": container(
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{}}', b"x"
    ),
    "entry not an object": container({KEY: 1}),
    "missing field": container({KEY: {"dtype": "U8", "shape": [1]}}, b"x"),
    "further field": container({KEY: {**entry("U8", [1], 0, 1), "x": 1}}, b"x"),
    "unknown dtype": container({KEY: entry("F7", [1], 0, 1)}, b"x"),
    "dtype not a string": container({KEY: entry([], [1], 0, 1)}, b"x"),  # type: ignore[arg-type]
    "shape negative": container({KEY: entry("U8", [-1], 0, 1)}, b"x"),
    "shape bool": container({KEY: entry("U8", [True], 0, 1)}, b"x"),
    "shape not a list": container({KEY: entry("U8", 1, 0, 1)}, b"x"),  # type: ignore[arg-type]
    "shape too long": container({KEY: entry("U8", [1] * 33, 0, 1)}, b"x"),
    "one offset": container({KEY: {**entry("U8", [1], 0, 1), "data_offsets": [0]}}, b"x"),
    "product differs": container({KEY: entry("F32", [2], 0, 4)}, b"xxxx"),
    "huge product": container({KEY: entry("F32", [1 << 62, 1 << 62], 0, 4)}, b"xxxx"),
    "outside the file": container({KEY: entry("U8", [9], 0, 9)}, b"x"),
    "gap": container({KEY: entry("U8", [1], 1, 2)}, b"xy"),
    "bytes behind": container({KEY: entry("U8", [1], 0, 1)}, b"xy"),
    "overlap": container({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"xyz"),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed_files_are_e305(case: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(BAD[case])
    with pytest.raises(CirError) as info:
        read_header(path)
    assert info.value.code == "E305"


def test_metadata_of_other_writers_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(container({"__metadata__": {"a": "b"}, KEY: entry("U8", [1], 0, 1)}, b"x"))
    assert list(read_header(path)) == [KEY]


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    outside = tmp_path / "secret.safetensors"
    outside.write_bytes(written(*SOME))
    link = tmp_path / "in" / "w.safetensors"
    link.symlink_to(outside)
    with pytest.raises(CirError, match="link to another folder"):
        WeightsFile(link)
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(CirError, match="not a regular file"):
        WeightsFile(link)
    link.unlink()
    with pytest.raises(CirError, match="is missing"):
        WeightsFile(link)
    link.symlink_to(link)
    with pytest.raises(CirError, match="E305"):
        WeightsFile(link)


def test_content_is_checked_against_the_key(tmp_path: Path) -> None:
    data = bytearray(written(*SOME))
    data[-1] ^= 1
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    last = SOME[0]  # int8 comes last
    with pytest.raises(CirError, match="differs from its sha256"):
        WeightsFile(path).const(last.digest, last.type)
    assert WeightsFile(path).const(last.digest, last.type, check=False).numpy()[-1] == 7
    with pytest.raises(CirError, match="has no tensor"):
        WeightsFile(path).const("0" * 64, last.type)
    with pytest.raises(CirError, match=r"holds I8\[7\]"):
        WeightsFile(path).const(last.digest, TensorType("uint8", (7,)))
