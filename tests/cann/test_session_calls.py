"""Many calls of a session: threads, futures, a full queue, figures, and its end."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.diagnostics import CirError
from framework_adapter import CANNInferenceSession
from framework_adapter.samples import scaled_error
from tests.cann.sessions import CPU, STAND_INS, code_of, expected, feeds


# -- futures ---------------------------------------------------------------------------------------
class Gate:
    """An engine that waits inside each run until it is let through."""

    def __init__(self, session: CANNInferenceSession, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        assert session._engine is not None
        real = session._engine.run

        def run(arrays: Any) -> Any:
            self.begun.release()
            assert self.go.acquire(timeout=20)
            return real(arrays)

        monkeypatch.setattr(session._engine, "run", run)

    def wait(self) -> None:
        assert self.begun.acquire(timeout=20)


def open_async(formats: dict[str, Path], **more: Any) -> CANNInferenceSession:
    return CANNInferenceSession(
        formats[".onnx"], providers=CPU, enable_async=True, threads=1, **{"workers": 1, **more}
    )


def test_futures(formats: dict[str, Path]) -> None:
    with open_async(formats, workers=2) as s:
        given = [feeds(n, n) for n in range(1, 30)]
        queued = [s.run_async(g) for g in given]
        assert not wait(queued, 20).not_done
        for g, future in zip(given, queued):
            assert isinstance(future, Future)
            assert scaled_error(future.result()["p"], expected(g)["p"]) < 1e-6
        assert code_of(lambda: s.run_async({"x": feeds()["x"]})) == "E103", "at once, in the caller"
    with CANNInferenceSession(formats["lookup"], 0, CPU, True) as s:
        bad = s.run_async([np.array([9])])
        assert isinstance(bad.exception(10), CirError) and bad.exception().code == "E704"  # type: ignore[union-attr]
        np.testing.assert_array_equal(s.run_async([np.array([0])]).result(10)[0], [[0, 1]])


def test_futures_must_be_asked_for(session: CANNInferenceSession) -> None:
    assert code_of(lambda: session.run_async(feeds())) == "E100"


def test_a_full_queue_raises(formats: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with open_async(formats, queue_size=2, when_full="raise") as s:
        gate = Gate(s, monkeypatch)
        queued = [s.run_async(feeds())]
        gate.wait()
        queued += [s.run_async(feeds()) for _ in range(2)]
        assert code_of(lambda: s.run_async(feeds())) == "E702"
        gate.go.release(3)
        assert not wait(queued, 20).not_done
        gate.go.release()
        s.run_async(feeds()).result(20)


def test_a_full_queue_holds_the_caller(
    formats: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_async(formats, queue_size=2) as s:
        gate = Gate(s, monkeypatch)
        queued: list[Future[Any]] = []
        caller = threading.Thread(
            target=lambda: queued.extend(s.run_async(feeds()) for _ in range(9))
        )
        caller.start()
        gate.wait()
        time.sleep(0.1)
        assert len(queued) == 3 and caller.is_alive(), "one runs, two wait, the fourth is held"
        gate.go.release(9)
        caller.join(20)
        assert len(queued) == 9 and not wait(queued, 20).not_done


def test_a_callback_cannot_wait_for_its_own_thread(
    formats: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_async(formats, queue_size=1) as s:
        gate = Gate(s, monkeypatch)
        found: list[Any] = []

        def again(_: Future[Any]) -> None:
            try:
                found.append(s.run_async(feeds()))
            except CirError as exc:
                found.append(exc.code)

        first = s.run_async(feeds())
        first.add_done_callback(again)
        gate.wait()
        second = s.run_async(feeds())
        gate.go.release(3)
        second.result(20)
        assert found == ["E702"]


def test_close_cancels_what_waits(
    formats: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    s = open_async(formats, queue_size=4)
    gate = Gate(s, monkeypatch)
    running = s.run_async(feeds())
    gate.wait()
    waiting = [s.run_async(feeds()) for _ in range(4)]
    held: list[str] = []
    caller = threading.Thread(target=lambda: held.append(code_of(lambda: s.run_async(feeds()))))
    caller.start()
    closer = threading.Thread(target=s.close)
    closer.start()
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(20)
    caller.join(20)
    assert held == ["E701"], "who waited for a place is told"
    assert closer.is_alive(), "what runs is waited for"
    gate.go.release()
    closer.join(20)
    assert running.result(0)["p"].shape == (2, 3)
    assert code_of(lambda: s.run_async(feeds())) == "E701"


def test_a_callback_may_close_the_session(formats: dict[str, Path]) -> None:
    s = open_async(formats)
    closed = threading.Event()

    def close(_: Future[Any]) -> None:
        s.close()
        closed.set()

    s.run_async(feeds()).add_done_callback(close)
    assert closed.wait(20)
    assert code_of(lambda: s.run(feeds())) == "E701"


def test_a_future_can_be_cancelled(
    formats: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_async(formats) as s:
        gate = Gate(s, monkeypatch)
        running, dropped, kept = (s.run_async(feeds()) for _ in range(3))
        gate.wait()
        assert dropped.cancel() and not running.cancel()
        gate.go.release(2)
        assert kept.result(20)["p"].shape == (2, 3)
        assert s.profile()["runs"] == 2


# -- its end ---------------------------------------------------------------------------------------
def test_used_after_close(formats: dict[str, Path]) -> None:
    with open_async(formats) as s:
        s.run(feeds())
    s.close()
    for call in (
        lambda: s.run(feeds()),
        lambda: s.run_async(feeds()),
        s.warmup,
        lambda: s.profile(operators=True),
    ):
        assert code_of(call) == "E701"
    assert s.profile()["runs"] == 1 and s.providers == [CPU] and "closed" in repr(s)


def test_a_session_that_nobody_closed(formats: dict[str, Path]) -> None:
    s = open_async(formats)
    s.run_async(feeds()).result(20)
    assert s._workers is not None
    threads = s._workers._threads
    del s
    gc.collect()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_the_process_ends_with_an_open_session(formats: dict[str, Path]) -> None:
    code = (
        "import sys, numpy as np; from framework_adapter import CANNInferenceSession as S; "
        f"s = S({str(formats['.onnx'])!r}, 0, {CPU!r}, True, queue_size=1000); "
        "f = [s.run_async([np.zeros((2, 4), 'f4'), np.zeros((2, 3), 'f4')]) for _ in range(1000)]; "
        "print(f[0].result()[0].shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(STAND_INS.parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "(2, 3)\n", "")


# -- figures ---------------------------------------------------------------------------------------
def test_profile(session: CANNInferenceSession) -> None:
    assert session.warmup(2) > 0
    empty = session.profile()
    assert empty["runs"] == 0 and empty["p50_ms"] is None and empty["load_seconds"] > 0
    for _ in range(20):
        session.run(feeds())
    found = session.profile(operators=True, runs=3)
    assert found["runs"] == 20 and found["providers"] == [CPU]
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    rows = found["operators"]
    assert {r["op"] for r in rows} >= {"Softmax"} and {r["provider"] for r in rows} == {CPU}
    assert abs(sum(r["share"] for r in rows) - 1) < 0.01
    assert rows == sorted(rows, key=lambda r: -r["median_us"])
    assert session.profile(operators=True, feeds=feeds(64))["operators"]
    assert not list(Path.cwd().glob("onnxruntime_profile*"))


def test_a_call_costs_little_more_than_the_runtime(tmp_path: Path) -> None:
    from tests.bench.session import OVERHEAD_BOUND, layers, overhead

    added, control = overhead(layers(tmp_path / "tiny.onnx", 4, 1), 1, 400)
    print(f"{added:.1f} us a call, control {control:.3f}")
    assert added < OVERHEAD_BOUND


def test_mixed_calls_from_many_threads(formats: dict[str, Path]) -> None:
    """10,000 calls of every kind from 8 threads: every answer right, memory stays."""
    import torch

    cases = [(g, expected(g)) for n in range(1, 9) for g in [feeds(n, n)]]
    wrong: list[str] = []

    def work(s: CANNInferenceSession, seed: int, calls: int) -> None:
        rng = np.random.default_rng(seed)
        for i in range(calls):
            given, want = cases[rng.integers(len(cases))]
            match rng.integers(5):
                case 0:
                    found = s.run(given)
                case 1:
                    found = s.run(list(given.values()))
                case 2:
                    found = s.run({k: torch.from_numpy(v) for k, v in given.items()})
                case 3:
                    found = s.run_async(given).result(30)
                case _:
                    if code_of(lambda given=given: s.run([given["x"], given["x"]])) != "E103":
                        wrong.append(f"thread {seed} call {i}: not refused")
                    continue
            for name in ("p", "r"):
                if scaled_error(found[name], want[name]) > 1e-6:
                    wrong.append(f"thread {seed} call {i}: {name}")

    def all_threads(s: CANNInferenceSession, calls: int) -> None:
        threads = [threading.Thread(target=work, args=(s, t, calls // 8)) for t in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
            assert not t.is_alive()

    with open_async(formats, workers=2, queue_size=8) as s:
        all_threads(s, 2000)  # whatever grows once has grown
        before = resident()
        all_threads(s, 10_000)
        grown = resident() - before
        runs = s.profile()["runs"]
    print(f"{runs} runs, memory grew by {grown / 1e6:.1f} MB")
    assert not wrong
    assert runs > 9000
    assert grown < 8e6


def resident() -> int:
    """Bytes of memory that this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_nothing_is_printed(formats: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(RuntimeWarning):
        CANNInferenceSession(formats[".air"]).run(feeds())
    assert capfd.readouterr() == ("", "")
