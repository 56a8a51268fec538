"""How fast a converted model is, as a ratio to the framework it comes from.

    python -m tests.bench.latency [--model digits_unet resnet50] [--framework pytorch] [--rounds 20]

Rounds run source, artefact, source in turn; the figure is the median of the rounds' ratios. The
artefact against itself is the control: how far it is from 1 widens what the figure can say. Threads
are pinned and printed. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

THREADS = min(os.cpu_count() or 1, 2)


def artefact(path: Path, feeds: list[np.ndarray]) -> Callable[[], Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    named = {i.name: f for i, f in zip(session.get_inputs(), feeds)}
    return lambda: session.run(None, named)


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio(source: Callable[[], Any], made: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """(source time over artefact time, artefact over itself), medians over rounds."""
    for call in (source, made, source, made):
        call()
    ratios, control = [], []
    for _ in range(rounds):
        a, m1, m2, b = seconds(source), seconds(made), seconds(made), seconds(source)
        ratios.append((a + b) / (m1 + m2))
        control.append(m1 / m2)
    return statistics.median(ratios), statistics.median(control)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--model", nargs="+", default=["digits_unet", "resnet50"])
    p.add_argument("--framework", nargs="+", default=["pytorch", "tensorflow", "mindspore"])
    p.add_argument("--rounds", type=int, default=20)
    args = p.parse_args()
    import torch

    from framework_adapter import convert
    from framework_adapter.registry import frontend

    torch.set_num_threads(THREADS)
    print(f"{THREADS} threads, {args.rounds} rounds, float32, batch 1")
    print(f"{'model':12} {'framework':11} {'speed-up':>8} {'control':>8}")
    out: dict[str, Any] = {"threads": THREADS, "rounds": args.rounds, "ratios": {}}
    for model in args.model:
        for name in args.framework:
            room = importlib.import_module(f"demos.models.{name}")
            net, feeds = getattr(room, model)(), list(room.example_inputs(model))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "m.onnx"
                convert(net, "onnx", path, inputs=tuple(feeds), framework=name, validate=False)
                made = artefact(path, feeds)
                source = frontend(name)
                speed, control = ratio(lambda: source.run(net, feeds), made, args.rounds)
            print(f"{model:12} {name:11} {speed:8.2f} {control:8.3f}", flush=True)
            out["ratios"][f"{model}/{name}"] = {"speedup": round(speed, 3), "control": round(control, 3)}
    print(json.dumps(out))


if __name__ == "__main__":
    main()
