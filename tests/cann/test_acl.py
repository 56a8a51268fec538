"""The seam to CANN's binding against a stand-in that records calls and finds faults."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.diagnostics import CirError

STAND_INS = Path(__file__).parent / "stand_ins"
X, Y = ("x", 0, [2, 3]), ("node:0:y", 0, [2, 3])


@pytest.fixture
def acl(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in as the module ``acl``, and a seam that has not started it."""
    from framework_adapter.cann import acl as seam

    monkeypatch.syspath_prepend(STAND_INS)
    monkeypatch.delitem(sys.modules, "acl", raising=False)
    import acl as module

    monkeypatch.setattr(seam, "_started", False)
    monkeypatch.setattr(seam.atexit, "register", lambda *a: None)
    module.reset(module.Model([X], [Y], lambda x: [2 * x]))
    yield module
    sys.modules.pop("acl")


def opened(device: int = 0) -> Any:
    from framework_adapter.cann.acl import CompiledModel

    return CompiledModel(Path("m.om"), device)


def test_calls_are_in_order_and_everything_is_freed(acl: Any) -> None:
    model = opened()
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (y,) = model.run([x])
    np.testing.assert_array_equal(y, 2 * x)
    assert [p.name for p in (*model.inputs, *model.outputs)] == ["x", "y"]
    assert (model.inputs[0].dtype, model.inputs[0].shape) == ("float32", (2, 3))
    model.close()
    model.close()
    first = [acl.CALLS.index(c) for c in (
        "init", "rt.set_device", "rt.create_context", "mdl.load_from_file", "mdl.create_desc",
        "mdl.get_desc", "mdl.create_dataset", "rt.malloc", "create_data_buffer",
        "mdl.add_dataset_buffer", "rt.set_context", "rt.memcpy", "mdl.execute",
        "destroy_data_buffer", "rt.free", "mdl.destroy_dataset", "mdl.destroy_desc", "mdl.unload",
        "rt.destroy_context", "rt.reset_device",
    )]  # fmt: skip
    assert first == sorted(first)
    assert not acl.FAULTS
    assert dict(acl.ALIVE) == {("acl", 0): 1}, "only the process-wide start outlives the model"
    with pytest.raises(CirError) as exc:
        model.run([x])
    assert exc.value.code == "E701"


@pytest.mark.parametrize(
    "call",
    "init rt.set_device rt.create_context rt.get_run_mode mdl.load_from_file mdl.get_desc "
    "mdl.get_input_dims mdl.get_output_dims rt.malloc mdl.add_dataset_buffer".split(),
)
def test_a_call_that_fails_while_loading_leaves_nothing(acl: Any, call: str) -> None:
    from framework_adapter.cann.acl import AclError

    acl.FAIL[call] = 500002
    with pytest.raises(AclError, match=rf"acl\.{call} returned 500002: the stand-in was told"):
        opened()
    assert not acl.FAULTS
    assert not [kind for kind, _ in acl.ALIVE if kind != "acl"]


@pytest.mark.parametrize("call", ["rt.set_context", "rt.memcpy", "mdl.execute"])
def test_a_call_that_fails_while_running(acl: Any, call: str) -> None:
    from framework_adapter.cann.acl import AclError

    model = opened()
    x = np.ones((2, 3), np.float32)
    acl.FAIL[call] = 507011
    with pytest.raises(AclError, match="507011"):
        model.run([x])
    acl.FAIL.clear()
    np.testing.assert_array_equal(model.run([x])[0], 2 * x)
    model.close()
    assert not acl.FAULTS


def test_threads_each_get_the_context(acl: Any) -> None:
    model = opened()
    wrong: list[int] = []

    def work(k: int) -> None:
        x = np.full((2, 3), k, np.float32)
        for _ in range(50):
            if not np.array_equal(model.run([x])[0], 2 * x):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    model.close()
    assert not wrong and not acl.FAULTS


def test_the_device_is_given_back_with_its_last_model(acl: Any) -> None:
    a, b, other = opened(), opened(), opened(1)
    a.close()
    assert "rt.reset_device" not in acl.CALLS
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(b.run([x])[0], 2 * x)
    other.close()
    b.close()
    assert acl.CALLS.count("rt.reset_device") == 2
    assert acl.CALLS.count("init") == 1
    assert not acl.FAULTS


def test_a_binding_that_somebody_else_started(acl: Any) -> None:
    acl.init()
    model = opened()
    model.close()
    assert not acl.FAULTS and "finalize" not in acl.CALLS


def test_on_the_device_itself_memory_is_copied_within_it(acl: Any) -> None:
    acl.RUN_MODE = 0
    model = opened()
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(model.run([x.T.copy().T])[0], 2 * x)  # not contiguous
    model.close()
    assert not acl.FAULTS


def test_batch_gears(acl: Any) -> None:
    gear = ("ascend_mbatch_shape_data", 3, [1])
    acl.reset(
        acl.Model(
            [("x", 0, [-1, 3]), gear], [("y", 0, [-1, 3])], lambda x: [x + 1], batches=[1, 2, 4]
        )
    )
    model = opened()
    assert [str(p) for p in model.inputs] == ["x: float32[?, 3]"]
    for n in (1, 4, 2):
        x = np.full((n, 3), n, np.float32)
        np.testing.assert_array_equal(model.run([x])[0], x + 1)
    with pytest.raises(CirError) as exc:
        model.run([np.ones((3, 3), np.float32)])
    assert exc.value.code == "E103" and "[1]; [2]; [4]" in str(exc.value)
    model.close()
    assert not acl.FAULTS


def test_dims_gears(acl: Any) -> None:
    gear = ("ascend_mbatch_shape_data", 3, [2])
    acl.reset(
        acl.Model(
            [("x", 0, [-1, -1]), gear], [("y", 0, [-1, -1])], lambda x: [-x], gears=[[1, 2], [3, 4]]
        )
    )
    model = opened()
    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(model.run([x])[0], -x)
    model.close()
    assert not acl.FAULTS


def test_what_the_seam_does_not_run(acl: Any) -> None:
    from framework_adapter.cann.acl import AclError

    acl.reset(acl.Model([("x", 0, [-1, 3])], [("y", 0, [-1, 3])], lambda x: [x]))
    with pytest.raises(AclError, match="ranges"):
        opened()
    gear = ("ascend_mbatch_shape_data", 3, [2])
    acl.reset(acl.Model([("x", 0, [1, 3, -1, -1]), gear], [Y], lambda x: [x]))
    with pytest.raises(AclError, match="image sizes"):
        opened()
    acl.reset(acl.Model([("x", 99, [1])], [Y], lambda x: [x]))
    with pytest.raises(AclError, match="data type 99"):
        opened()
    assert not acl.FAULTS and not [kind for kind, _ in acl.ALIVE if kind != "acl"]


def test_the_process_ends_cleanly_with_an_open_model() -> None:
    code = """
import atexit, sys
import acl
acl.reset(acl.Model([("x", 0, [2])], [("y", 0, [2])], lambda x: [x]))
def check():
    assert acl.CALLS[-1] == "finalize", acl.CALLS
    assert not acl.FAULTS and not acl.ALIVE, (acl.FAULTS, acl.ALIVE)
    print("clean")
atexit.register(check)
from pathlib import Path
from framework_adapter.cann.acl import CompiledModel
kept = CompiledModel(Path("m.om"), 0)
"""
    path = [str(STAND_INS), str(STAND_INS.parents[2])]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "clean\n", done.stderr


def test_missing_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from framework_adapter.cann.acl import missing

    assert "No module named 'acl'" in missing()
    (tmp_path / "acl.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert "not CANN's" in missing()
    sys.modules.pop("acl")
