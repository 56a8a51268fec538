"""What a session costs over raw ONNX Runtime: a call on a tiny model, and asynchronous throughput.

    python -m tests.bench.session [--model m.onnx] [--threads 2] [--rounds 20]

Rounds run raw, session, raw in turn, on one and the same runtime session; figures are medians of the
rounds' own figures. Raw against raw is the control: how far it is from 1 widens what the figures can
say. Throughput is that of one worker against a loop of one thread, with the same threads within an
op; ``--model`` measures it on another ONNX file than the network of 12 layers made here. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np

import cir
from framework_adapter import registry
from framework_adapter.cann.session import CANNInferenceSession

THREADS = min(os.cpu_count() or 1, 2)
OVERHEAD_BOUND, ASYNC_BOUND = 50.0, 0.97


def layers(path: Path, width: int, count: int) -> Path:
    """An ONNX file of fully connected layers on float32[batch, width]."""
    rng = np.random.default_rng(0)
    b = cir.Builder("layers")
    value = b.input("x", "float32", ("batch", width))
    for i in range(count):
        w = (rng.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
        (value,) = b.emit("linear", [value, b.const(w, name=f"w{i}")])
        (value,) = b.emit("relu", [value])
    registry.backend("onnx").emit(cir.Model(b.finish([value])), path)
    return path


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(
    raw: Callable[[], Any], ours: Callable[[], Any], rounds: int
) -> list[tuple[float, float, float]]:
    """Seconds of raw, ours, raw in each round."""
    for call in (raw, ours, raw, ours):
        call()
    return [(seconds(raw), seconds(ours), seconds(raw)) for _ in range(rounds)]


def control(rounds: list[tuple[float, float, float]]) -> float:
    """How far raw against raw is from 1."""
    return abs(statistics.median(a / b for a, _, b in rounds) - 1)


def overhead(path: Path, threads: int, rounds: int, calls: int = 50) -> tuple[float, float]:
    """(microseconds that a session adds to a call, control).

    A round is short, so that most of them pass without the system taking the CPU away.
    """
    with CANNInferenceSession(path, providers="CPUExecutionProvider", threads=threads) as session:
        raw = session._engine._session  # type: ignore[union-attr]
        feeds = {"x": np.ones((1, session.inputs[0].shape[1]), np.float32)}

        def loop(run: Callable[[], Any]) -> Callable[[], None]:
            def calling() -> None:
                for _ in range(calls):
                    run()

            return calling

        found = interleaved(
            loop(lambda: raw.run(None, feeds)), loop(lambda: session.run(feeds)), rounds
        )
    return 1e6 * statistics.median(s - (a + b) / 2 for a, s, b in found) / calls, control(found)


def throughput(
    path: Path, threads: int, rounds: int, feeds: dict[str, np.ndarray] | None, budget: float
) -> tuple[float, float, float]:
    """(throughput of run_async over that of a raw loop, control, milliseconds of a raw call)."""
    with CANNInferenceSession(
        path, providers="CPUExecutionProvider", threads=threads, enable_async=True, workers=1
    ) as session:
        raw = session._engine._session  # type: ignore[union-attr]
        if feeds is None:
            feeds = {p.name: a for p, a in zip(session.inputs, session._feeds.zeros())}
        once = min(seconds(lambda: raw.run(None, feeds)) for _ in range(5))
        calls = max(10, int(budget / once))

        def loop() -> None:
            for _ in range(calls):
                raw.run(None, feeds)

        def queued() -> None:
            queue = [session.run_async(feeds) for _ in range(calls)]
            wait(queue)
            for future in queue:
                future.result()

        found = interleaved(loop, queued, rounds)
    ratio = statistics.median((a + b) / 2 / s for a, s, b in found)
    return ratio, control(found), 1e3 * statistics.median(a for a, _, _ in found) / calls


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--model", type=Path, help="ONNX file for the throughput; fed with zeros")
    p.add_argument("--threads", type=int, default=THREADS)
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--budget", type=float, default=0.5, help="seconds of a throughput run")
    args = p.parse_args()
    print(f"{args.threads} threads, {args.rounds} rounds of raw, session, raw")
    with tempfile.TemporaryDirectory() as folder:
        tiny = layers(Path(folder) / "tiny.onnx", 4, 1)
        added, drift = overhead(tiny, args.threads, 20 * args.rounds)
        print(f"overhead    {added:6.1f} us a call            control {drift:.3f}")
        path = args.model or layers(Path(folder) / "layers.onnx", 512, 12)
        feeds = None if args.model else {"x": np.ones((128, 512), np.float32)}
        ratio, other, ms = throughput(path, args.threads, args.rounds, feeds, args.budget)
        print(f"run_async   {ratio:6.3f} of raw, {ms:7.2f} ms a call  control {other:.3f}")
    print(
        json.dumps(
            {
                "overhead_us": round(added, 2),
                "overhead_bound_us": OVERHEAD_BOUND,
                "async_ratio": round(ratio, 4),
                "async_bound": ASYNC_BOUND,
                "control_deviation": round(max(drift, other), 4),
                "threads": args.threads,
            }
        )
    )


if __name__ == "__main__":
    main()
