"""One session over every format: numbers, feeds that do not fit, and who runs what."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.diagnostics import CirError
from framework_adapter import CANNInferenceSession
from framework_adapter.cann import container
from framework_adapter.samples import scaled_error
from tests.cann.sessions import CPU, STAND_INS, TARGETS, code_of, expected, feeds


# -- numbers ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", TARGETS)
def test_same_numbers_through_every_format(formats: dict[str, Path], suffix: str) -> None:
    with CANNInferenceSession(formats[suffix], providers=CPU) as s:
        assert [str(p) for p in s.inputs] == ["x: float32[batch, 4]", "shift: float32[batch, 3]"]
        assert [str(p) for p in s.outputs] == ["p: float32[batch, 3]", "r: float32[batch, 3]"]
        for n in (1, 5):
            given = feeds(n)
            want = expected(given)
            found = s.run(given)
            for name in ("p", "r"):
                assert scaled_error(found[name], want[name]) < 1e-6
            for a, b in zip(found, s.run(list(given.values()))):
                np.testing.assert_array_equal(a, b)


def test_results_by_place_and_by_name(session: CANNInferenceSession) -> None:
    found = session.run(feeds())
    p, r = found
    assert found["p"] is p and found[1] is r and found[-1] is r
    assert list(dict(found)) == list(found.keys()) == ["p", "r"] and dict(found)["r"] is r
    assert "p" in found and "x" not in found and r in found and r.copy() not in found
    assert [n for n, _ in found.items()] == ["p", "r"] and len(found) == 2
    with pytest.raises(KeyError):
        found["q"]


def test_tensors_of_the_frameworks(session: CANNInferenceSession) -> None:
    import mindspore
    import tensorflow as tf
    import torch

    given = feeds()
    want = session.run(given)
    for tensor in (
        torch.from_numpy,
        lambda a: torch.from_numpy(a).requires_grad_(),
        lambda a: torch.from_numpy(np.ascontiguousarray(a.T)).T,
        tf.constant,
        tf.Variable,
        mindspore.Tensor,
        np.ndarray.tolist,
    ):
        made = {k: tensor(v) for k, v in given.items()}
        for found in (session.run(made), session.run(list(made.values()))):
            for a, b in zip(found, want):
                np.testing.assert_array_equal(a, b)


def test_arrays_in_another_byte_order_and_layout(session: CANNInferenceSession) -> None:
    given = feeds()
    want = session.run(given)
    for change in (
        lambda a: a.astype(">f4"),
        np.asfortranarray,
        lambda a: np.repeat(a, 2, 1)[:, ::2],
    ):
        for a, b in zip(session.run({k: change(v) for k, v in given.items()}), want):
            np.testing.assert_array_equal(a, b)


# -- feeds that do not fit -------------------------------------------------------------------------
X, SHIFT = np.zeros((2, 4), np.float32), np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"x": X}, ["input 'shift' is missing", "x: float32[batch, 4]; shift: float32[batch, 3]"]),
        ({}, ["input 'x' is missing", "input 'shift' is missing"]),
        ({"x": X, "shift": SHIFT, "z": X}, ["the model has no input 'z'"]),
        ({"X": X, "shift": SHIFT}, ["input 'x' is missing", "no input 'X'"]),
        ([X], ["has 2 inputs, 1 were given"]),
        ([X, SHIFT, X], ["has 2 inputs, 3 were given"]),
        (X, ["not a ndarray"]),
        (None, ["not a NoneType"]),
        ({"x": X.astype("f8"), "shift": SHIFT}, ["'x' takes float32, float64", '.astype("float32")']),
        ([X, SHIFT.astype(">i2")], ["'shift' takes float32, >i2"]),
        ([X[0], SHIFT], ["'x' takes 2 axes, 1 were given", "shape [4]"]),
        ([X.T, SHIFT], ["'x' takes size 4 on axis 1, 2 was given"]),
        ([X, SHIFT[:1]], ["'shift' takes size 2 on axis 0, 1 was given"]),
        ([X[0].astype("i8"), SHIFT.T], ["takes float32, int64", "takes 2 axes", "takes size 3 on axis 1"]),
        ([X, "text"], ["'shift' takes float32, <U4"]),
        ([X, [[1, 2], [3]]], ["input 'shift' is no tensor: list"]),
        ([X, object()], ["'shift' takes float32, object"]),
    ],
)  # fmt: skip
def test_wrong_feeds(session: CANNInferenceSession, given: Any, says: list[str]) -> None:
    with pytest.raises(CirError) as exc:
        session.run(given)
    assert {d.code for d in exc.value.diagnostics} == {"E103"}
    for text in says:
        assert text in str(exc.value)


def test_what_only_the_runtime_can_see(formats: dict[str, Path]) -> None:
    with CANNInferenceSession(formats["lookup"], providers=CPU) as s:
        with pytest.raises(CirError) as exc:
            s.run({"i": np.array([1, 9])})
        assert exc.value.code == "E704" and "out of data bounds" in str(exc.value)
        np.testing.assert_array_equal(s.run([np.array([3])])["rows"], [[6, 7]])


def test_ports_that_zeros_cannot_stand_for(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    for name, kind, shape in (
        ("text", TensorProto.STRING, [2]), ("huge", TensorProto.FLOAT, [1 << 40, 1 << 20]),
    ):  # fmt: skip
        ports = [helper.make_tensor_value_info(n, kind, shape) for n in "xy"]
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])], name, *([p] for p in ports)
        )
        path = tmp_path / f"{name}.onnx"
        opset = [helper.make_opsetid("", 18)]
        path.write_bytes(
            helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
        )
        s = CANNInferenceSession(path, providers=CPU)
        assert code_of(s.warmup) == "E103"
    with CANNInferenceSession(tmp_path / "text.onnx", providers=CPU) as s:
        assert s.run([np.array(["a", "b"])])[0].tolist() == ["a", "b"]


# -- providers -------------------------------------------------------------------------------------
def test_a_fallback_is_told(formats: dict[str, Path]) -> None:
    with pytest.warns(RuntimeWarning, match="W701 net.onnx runs on CPUExecutionProvider") as seen:
        s = CANNInferenceSession(formats[".onnx"])
    assert seen[0].filename == __file__
    assert s.providers == [CPU]
    assert s.diagnostics[0].code == "W701" and "built without it" in s.diagnostics[0].why
    with pytest.warns(RuntimeWarning, match="pyACL: this OM holds the graph only"):
        assert CANNInferenceSession(formats[".om"]).providers == [CPU]
    for asked in (CPU, [CPU]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not CANNInferenceSession(formats[".onnx"], providers=asked).diagnostics


def test_strict_forbids_a_fallback(formats: dict[str, Path]) -> None:
    for suffix in TARGETS:
        with pytest.raises(CirError) as exc:
            CANNInferenceSession(formats[suffix], strict=True)
        assert exc.value.code == "E703" and exc.value.exit_code == 5
    assert CANNInferenceSession(formats[".onnx"], providers=CPU, strict=True).providers == [CPU]
    cann = "CANNExecutionProvider"
    assert code_of(lambda: CANNInferenceSession(formats[".onnx"], providers=cann)) == "E703"
    assert code_of(lambda: CANNInferenceSession(formats[".onnx"], providers="pyACL")) == "E703"
    both = [cann, CPU]
    assert code_of(lambda: CANNInferenceSession(formats[".onnx"], 0, both, strict=True)) == "E703"


class FakeRuntime:
    """ONNX Runtime as a build with CANN's provider would be."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, fails: str = "", drops: bool = False
    ) -> None:
        import onnxruntime as ort

        self.given: list[Any] = []
        real = ort.InferenceSession

        def made(path: str, options: Any, providers: list[Any], **more: Any) -> Any:
            self.given.append((options, providers, more))
            if fails and providers != [CPU]:
                raise RuntimeError(fails)
            session = real(path, providers=[CPU])
            if not drops and providers != [CPU]:
                session.get_providers = lambda: [providers[0][0], CPU]
            return session

        monkeypatch.setattr(ort, "get_available_providers", lambda: ["CANNExecutionProvider", CPU])
        monkeypatch.setattr(ort, "InferenceSession", made)


@pytest.mark.parametrize("suffix", [".onnx", ".air", ".om"])
def test_onnx_runtime_with_cann(
    formats: dict[str, Path], monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    fake = FakeRuntime(monkeypatch)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        s = CANNInferenceSession(formats[suffix], device_id=3)
    assert s.providers == ["CANNExecutionProvider", CPU]
    # A graph-only OM is a fallback too: what was asked for is the compiled one.
    assert bool(seen) == bool(s.diagnostics) == (suffix == ".om")
    options, providers, more = fake.given[0]
    assert providers == [("CANNExecutionProvider", {"device_id": 3})]
    assert more == {"enable_fallback": 0}
    given = feeds()
    assert scaled_error(s.run(given)["p"], expected(given)["p"]) < 1e-6


def test_strict_keeps_every_node_on_the_device(
    formats: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRuntime(monkeypatch)
    CANNInferenceSession(formats[".onnx"], strict=True)
    key = "session.disable_cpu_ep_fallback"
    assert fake.given[0][0].get_session_config_entry(key) == "1"


@pytest.mark.parametrize(("fails", "drops"), [("no device 0", False), ("", True)])
def test_a_cann_provider_that_does_not_work(
    formats: dict[str, Path], monkeypatch: pytest.MonkeyPatch, fails: str, drops: bool
) -> None:
    FakeRuntime(monkeypatch, fails, drops)
    with pytest.warns(RuntimeWarning, match=fails or "did not take it"):
        s = CANNInferenceSession(formats[".onnx"])
    assert s.providers == [CPU]
    assert code_of(lambda: CANNInferenceSession(formats[".onnx"], strict=True)) == "E703"


def as_compiled(om: Path, out: Path) -> Path:
    """A graph-only OM with what only a compiler adds: a partition of tasks."""
    (parts,) = container.read(om)
    raw = om.read_bytes()
    blocks = [(p.kind, raw[p.offset : p.offset + p.size]) for p in parts]
    blocks.append((container.TASKS, b"tasks"))
    with open(out, "wb") as f:
        container.write_header(f, "net", [(kind, len(data)) for kind, data in blocks], False)
        for _, data in blocks:
            f.write(data)
    return out


@pytest.fixture
def acl(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from framework_adapter.cann import acl as seam

    monkeypatch.syspath_prepend(STAND_INS)
    monkeypatch.delitem(sys.modules, "acl", raising=False)
    import acl as module

    monkeypatch.setattr(seam, "_started", False)
    monkeypatch.setattr(seam.atexit, "register", lambda *a: None)
    ports = [("x", 0, [2, 4]), ("shift", 0, [2, 3])], [("p:0:p", 0, [2, 3]), ("r:0:r", 0, [2, 3])]

    def compute(x: np.ndarray, shift: np.ndarray) -> list[np.ndarray]:
        want = expected({"x": x, "shift": shift})
        return [want["p"], want["r"]]

    module.reset(module.Model(*ports, compute))
    yield module
    sys.modules.pop("acl")


def test_a_compiled_om_runs_through_pyacl(
    formats: dict[str, Path], acl: Any, tmp_path: Path
) -> None:
    om = as_compiled(formats[".om"], tmp_path / "net.om")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        s = CANNInferenceSession(om, device_id=1, strict=True, enable_async=True)
    assert s.providers == ["pyACL"]
    assert [str(p) for p in s.inputs] == ["x: float32[2, 4]", "shift: float32[2, 3]"]
    given = feeds()
    want = expected(given)
    for found in (s.run(given), s.run_async(given).result(10)):
        assert scaled_error(found["p"], want["p"]) < 1e-6
        assert scaled_error(found["r"], want["r"]) < 1e-6
    assert code_of(lambda: s.run(feeds(3))) == "E103"
    assert code_of(lambda: s.profile(operators=True)) == "E100"
    acl.FAIL["mdl.execute"] = 507011
    assert code_of(lambda: s.run(given)) == "E704"
    s.close()
    assert not acl.FAULTS and not [kind for kind, _ in acl.ALIVE if kind != "acl"]


def test_a_graph_only_om_never_goes_to_pyacl(formats: dict[str, Path], acl: Any) -> None:
    with pytest.warns(RuntimeWarning, match="this OM holds the graph only"):
        assert CANNInferenceSession(formats[".om"]).providers == [CPU]
    assert code_of(lambda: CANNInferenceSession(formats[".om"], providers="pyACL")) == "E703"
    assert acl.CALLS == []


def test_a_device_that_does_not_load_it(formats: dict[str, Path], acl: Any, tmp_path: Path) -> None:
    om = as_compiled(formats[".om"], tmp_path / "net.om")
    acl.FAIL["mdl.load_from_file"] = 500002
    with pytest.warns(RuntimeWarning, match="acl.mdl.load_from_file returned 500002"):
        s = CANNInferenceSession(om)
    assert s.providers == [CPU]
    given = feeds()
    assert scaled_error(s.run(given)["p"], expected(given)["p"]) < 1e-6


def test_a_compiled_om_without_a_device(formats: dict[str, Path], tmp_path: Path) -> None:
    om = as_compiled(formats[".om"], tmp_path / "net.om")
    given = feeds()
    for beside in (False, True):
        if beside:
            (tmp_path / "net.air").write_bytes(formats[".air"].read_bytes())
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            s = CANNInferenceSession(om, providers=CPU)
        assert ["runs net.air, which it was compiled from" in str(w.message) for w in seen] == (
            [True] if beside else []
        )
        assert scaled_error(s.run(given)["p"], expected(given)["p"]) < 1e-6
    assert code_of(lambda: CANNInferenceSession(om, providers=CPU, strict=True)) == "E703"


# -- files and arguments ---------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", TARGETS)
def test_broken_files(formats: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    good = formats[suffix].read_bytes()
    for i, bad in enumerate((b"", b"\0" * 100, b"PK\x03\x04", good[:40], good[: len(good) // 2])):
        path = tmp_path / f"{i}{suffix}"
        path.write_bytes(bad)
        for providers in ("auto", CPU):
            with pytest.raises(CirError) as exc:
                CANNInferenceSession(path, providers=providers)
            assert exc.value.code[:2] in ("E1", "E3", "E5"), exc.value


def test_files_that_are_none(formats: dict[str, Path], tmp_path: Path) -> None:
    assert code_of(lambda: CANNInferenceSession(tmp_path / "none.onnx")) == "E101"
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "net.pb").write_bytes(b"")
    for path in ("folder.onnx", "net.pb", ""):
        assert code_of(lambda path=path: CANNInferenceSession(tmp_path / path)) == "E104"


@pytest.mark.parametrize(
    "wrong",
    [{"device_id": -1}, {"device_id": "0"}, {"device_id": True}, {"threads": 0}, {"workers": 0},
     {"queue_size": 0}, {"queue_size": 1.5}, {"when_full": "drop"}, {"providers": "gpu"},
     {"providers": []}, {"providers": [CPU, "TPU"]}, {"providers": None}],
)  # fmt: skip
def test_wrong_arguments(formats: dict[str, Path], wrong: dict[str, Any]) -> None:
    assert code_of(lambda: CANNInferenceSession(formats[".onnx"], **wrong)) == "E100"
