"""Digits drawn by the source network and by its converted twin, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from demos.models import digits

#: Runs a network: inputs in the framework's own layout -> outputs.
Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]

#: Two pictures count as equal when no pixel differs by more than one of 256 grey levels.
PIXEL_LIMIT = 1 / 255


def converted(target: str, path: Path, threads: int) -> Run:
    """The converted network, run as its format is; in ONNX Runtime on a fixed number of threads."""
    if target == "saved_model":
        from framework_adapter import registry

        backend = registry.backend(target)
        return lambda feeds: backend.run(path, feeds)
    from framework_adapter import CANNInferenceSession

    session = CANNInferenceSession(path, providers=["CPUExecutionProvider"], threads=threads)
    return lambda feeds: session.run(list(feeds))


def denoiser(run: Run, channels_last: bool) -> digits.Denoise:
    """A network as the sampler calls it: channels first."""

    def denoise(x: np.ndarray, t: np.ndarray, y: np.ndarray) -> np.ndarray:
        if channels_last:
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        eps = np.asarray(run([x, t, y])[0])
        return eps.transpose(0, 3, 1, 2) if channels_last else eps

    return denoise


def draw(denoise: digits.Denoise, path: Path, count: int, steps: int) -> np.ndarray:
    """Sample digits 0 to 9 and on from seeded noise into a PNG; float32[count,1,8,8]."""
    images = digits.ddim_sample(denoise, np.arange(count) % 10, steps=steps, seed=0)
    digits.save_grid_png(images, path)
    return images


def pixel_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference of two pictures in [-1, 1], on a scale where black is 0 and white is 1."""
    return float(np.abs(a.clip(-1, 1).astype(np.float64) - b.clip(-1, 1)).max() / 2)
