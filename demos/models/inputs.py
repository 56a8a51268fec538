"""Seeded example inputs of the demo networks, channels first."""

import numpy as np

from . import digits, resnet50

Inputs = tuple[np.ndarray, ...]


def example_inputs(name: str, batch: int = 1, seed: int = 0) -> Inputs:
    """Inputs of network ``name`` in call order, images laid out as NCHW.

    ``"digits_unet"`` -> (x float32[N,1,8,8], t int64[N], y int64[N]);
    ``"resnet50"`` -> (x float32[N,3,224,224],).
    """
    rng = np.random.default_rng(seed)
    if name == "digits_unet":
        cfg = digits.CONFIG
        x = rng.standard_normal((batch, cfg.channels, cfg.size, cfg.size), dtype=np.float32)
        t = rng.integers(cfg.timesteps, size=batch, dtype=np.int64)
        return x, t, rng.integers(cfg.classes, size=batch, dtype=np.int64)
    if name == "resnet50":
        size = resnet50.IMAGE_SIZE
        return (rng.standard_normal((batch, 3, size, size), dtype=np.float32),)
    raise ValueError(f"unknown network {name!r}; expected 'digits_unet' or 'resnet50'")
