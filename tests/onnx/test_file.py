"""The file itself: bytes, names, metadata, external data, failures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cir import spec
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Const, Model
from framework_adapter.onnx import emit as em
from tests.onnx.support import check, program


def _mlp(seed: int = 0) -> tuple[Model, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    b = Builder()
    x = b.input("x", "float32", ["batch", 16])
    w = b.const(rng.standard_normal((32, 16)).astype(np.float32), "fc.weight")
    bias = b.const(rng.standard_normal(32).astype(np.float32), "fc.bias")
    h = b.emit("linear", [x, w, bias], name="fc")[0]
    y = b.emit("gelu", [h], name="y")[0]
    return Model(b.finish([y])), [rng.standard_normal((3, 16)).astype(np.float32)]


_EMIT = """
import sys
sys.path.insert(0, ".")
from tests.onnx.test_file import _mlp
from framework_adapter.onnx import emit
emit.emit(_mlp()[0], sys.argv[1], metadata={"b": "2", "a": "1"})
"""


def test_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Hash seeds and repetition do not change a byte."""
    files = []
    for seed in ("0", "1"):
        path = tmp_path / f"{seed}.onnx"
        env = {"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"}
        subprocess.run([sys.executable, "-c", _EMIT, str(path)], check=True, env=env)
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_names_types_and_metadata(tmp_path: Path) -> None:
    """Values keep the program's names; symbolic dims are dim_params; metadata is stored sorted."""
    import onnx

    model, _ = _mlp()
    path = tmp_path / "m.onnx"
    result = em.emit(model, path, metadata={"cir_digest": "abc", "a": "b"})
    p = onnx.load(path)
    assert [i.name for i in p.graph.input] == ["x"] and [o.name for o in p.graph.output] == ["y"]
    assert p.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {i.name for i in p.graph.initializer} == {"fc.weight", "fc.bias"}
    assert [(m.key, m.value) for m in p.metadata_props] == [("a", "b"), ("cir_digest", "abc")]
    assert p.producer_name == "framework-adapter" and p.opset_import[0].version == 20
    assert result.mapping == {"fc": ("fc",), "y": ("y",)}
    assert result.node_count == 2 and result.files == (path,) and result.version == 20


def test_external_data(tmp_path: Path) -> None:
    """Above the limit weights go to a side file, aligned; small ones stay; results are the same."""
    import onnx

    model, feeds = _mlp()
    result = check(model, feeds, tmp_path / "m.onnx", external_limit=1000)
    assert [f.name for f in result.files] == ["m.onnx", "m.onnx.data"]
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    entries = {t.name: {e.key: e.value for e in t.external_data} for t in proto.graph.initializer}
    assert entries["fc.bias"] == {}
    assert entries["fc.weight"] == {"location": "m.onnx.data", "offset": "0", "length": "2048"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]


def test_tied_weight_is_stored_once(tmp_path: Path) -> None:
    """One Const under two names is one tensor."""
    import onnx

    w = Const.of(np.ones((4, 4), np.float32))
    b = Builder()
    x = b.input("x", "float32", [2, 4])
    h = b.emit("linear", [x, b.const(w, "first")])[0]
    y = b.emit("linear", [h, b.const(w, "second")], name="y")[0]
    em.emit(Model(b.finish([y])), tmp_path / "m.onnx")
    assert [t.name for t in onnx.load(tmp_path / "m.onnx").graph.initializer] == ["first"]


def test_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be made, or a write that fails half-way, is E502 and leaves nothing."""
    model, _ = _mlp()
    (tmp_path / "file").write_text("")
    with pytest.raises(CirError) as info:
        em.emit(model, tmp_path / "file" / "m.onnx")
    assert info.value.code == "E502"

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CirError, match="No space left") as info:
        em.emit(model, tmp_path / "out" / "m.onnx", external_limit=1000)
    assert info.value.code == "E502"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    """An emission that is refused does not touch what is there."""
    path = tmp_path / "m.onnx"
    path.write_text("old")
    model, _ = program("tan", {"inputs": ["float64[2]"]})
    with pytest.raises(CirError):
        em.emit(model, path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "options", [{"opset": 12}, {"opset": 99}, {"profile": "no-such"}, {"profile": "../x"}]
)
def test_unknown_opset_or_profile(options: dict, tmp_path: Path) -> None:
    """E503 names what there is."""
    model, _ = _mlp()
    with pytest.raises(CirError) as info:
        em.emit(model, tmp_path / "m.onnx", **options)
    assert info.value.code == "E503" and info.value.diagnostics[0].nearest


def test_opset_is_the_lowest_that_serves(tmp_path: Path) -> None:
    """20, unless an op has its kernel only later."""
    for op, want in (("gelu", 20), ("rms_norm", 23), ("softmax", 20)):
        model, _ = program(op, spec.get(op).samples[0])
        assert em.emit(model, tmp_path / "m.onnx").version == want


def test_run_checks_its_feeds(tmp_path: Path) -> None:
    """Another number or dtype of feeds is E103; a file that does not load is E504."""
    model, feeds = _mlp()
    path = tmp_path / "m.onnx"
    em.emit(model, path)
    assert em.run(path, {"x": feeds[0]}, threads=1)[0].shape == (3, 32)
    for wrong in ([], [feeds[0].astype(np.float64)], {"z": feeds[0]}):
        with pytest.raises(CirError) as info:
            em.run(path, wrong)
        assert info.value.code == "E103"
    path.write_bytes(b"no model")
    with pytest.raises(CirError) as info:
        em.run(path, feeds)
    assert info.value.code == "E504"


def test_importing_the_room_imports_no_framework() -> None:
    """The room is importable on a machine without onnx."""
    code = (
        "import sys, framework_adapter.onnx.emit, framework_adapter.onnx.extract;"
        "sys.exit(any(m in sys.modules for m in ('onnx', 'onnxruntime')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_outputs_keep_their_names(tmp_path: Path) -> None:
    """An output that is an input, a constant, another output or a view of an input has its own name."""
    torch = pytest.importorskip("torch")
    import onnx

    from framework_adapter import convert, readback

    class Ends(torch.nn.Module):
        def forward(self, x):
            y = x + 1
            return {"a": x, "b": x, "c": torch.ones(2), "d": y, "e": y, "f": x.view(2, 4)}

    result = convert(Ends().eval(), "onnx", tmp_path / "m.onnx", inputs=(torch.ones(2, 4),))
    assert result.report.verdict == "PASS" and result.model.graph.outputs == tuple("abcdef")
    assert [o.name for o in onnx.load(tmp_path / "m.onnx").graph.output] == list("abcdef")
    assert readback.program(tmp_path / "m.onnx").digest == result.digest
