"""A tiny model from each installed framework, converted to ONNX and validated."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from cir.diagnostics import CirError


def _torch() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8)).eval()


def _tensorflow() -> Any:
    import keras

    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="gelu"),
            keras.layers.LayerNormalization(),
        ]
    )


def _mindspore() -> Any:
    from mindspore import nn

    cell = nn.SequentialCell(nn.Dense(4, 8), nn.GELU(approximate=False), nn.LayerNorm((8,)))
    return cell.set_train(False)


MODELS: dict[str, Callable[[], Any]] = {
    "torch": _torch,
    "tensorflow": _tensorflow,
    "mindspore": _mindspore,
}


def selftest(progress: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """Yield (framework, verdict) for each installed framework, told before each."""
    from framework_adapter.api import convert

    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    for name, make in MODELS.items():
        if util.find_spec(name) is None:
            continue
        progress(name)
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = convert(make(), "onnx", Path(folder) / "m.onnx", inputs=(x,))
                yield name, str(result.report.verdict if result.report else "written")
            except CirError as exc:
                yield name, f"FAILED {exc.code}: {exc.diagnostics[0].what}"
