"""Class-conditional diffusion of 8x8 handwritten digits: everything but the network, in numpy.

The network predicts the noise ``eps`` in ``x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps``, where
``a_t`` is ``alphas_cumprod[t]``. Images are float32[N,1,8,8] in [-1, 1], channels first.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

DEFAULT_PATH = Path(__file__).with_name("digits_unet.safetensors")

# denoise(x float32[N,1,8,8], t int64[N], y int64[N]) -> eps float32[N,1,8,8]
Denoise = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class DigitsConfig:
    """Sizes shared by the three implementations of the network."""

    size: int = 8  # image height and width
    channels: int = 1
    classes: int = 10
    timesteps: int = 1000
    width: int = 32  # feature channels at full resolution
    inner: int = 64  # feature channels at half resolution
    time_features: int = 64  # sinusoidal features of the timestep
    time_width: int = 128  # width of the timestep embedding
    tokens: int = 4  # context tokens per label, each `inner` wide
    groups: int = 8
    heads: int = 4
    epsilon: float = 1e-5  # of every normalisation: the frameworks' defaults differ


CONFIG = DigitsConfig()


def frequencies(features: int = CONFIG.time_features) -> np.ndarray:
    """Angular frequencies float32[features / 2] of the timestep embedding, from 1 to 1e-4.

    They are constants rather than an exponential in each framework: at t = 999 an exponential
    rounded differently in its last bit moves the angle by 6e-5.
    """
    half = features // 2
    return (1e4 ** (-np.arange(half) / half)).astype(np.float32)


def betas(timesteps: int = CONFIG.timesteps) -> np.ndarray:
    """Noise variance added at each step, float64[timesteps] (cosine schedule)."""
    edges = np.arange(timesteps + 1) / timesteps
    signal = np.cos((edges + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - signal[1:] / signal[:-1], 0.999)


def alphas_cumprod(timesteps: int = CONFIG.timesteps) -> np.ndarray:
    """Share of the signal's variance left after each step, float64[timesteps]."""
    return np.cumprod(1 - betas(timesteps))


def ddim_sample(denoise: Denoise, labels: np.ndarray, steps: int = 20, seed: int = 0) -> np.ndarray:
    """Draw one image per label (int[N]) by deterministic DDIM -> float32[N,1,8,8] in [-1, 1]."""
    labels = np.asarray(labels, np.int64)
    rng = np.random.default_rng(seed)
    shape = (len(labels), CONFIG.channels, CONFIG.size, CONFIG.size)
    x = rng.standard_normal(shape, dtype=np.float32)
    signal = alphas_cumprod()
    schedule = np.linspace(CONFIG.timesteps - 1, 0, steps).round().astype(np.int64)
    for i, t in enumerate(schedule):
        eps = denoise(x, np.full(len(labels), t), labels)
        now = signal[t]
        after = signal[schedule[i + 1]] if i + 1 < steps else 1.0
        # Pixels are bounded, so bound the estimate too, and keep the noise consistent with it.
        x0 = np.clip((x - np.sqrt(1 - now) * eps) / np.sqrt(now), -1, 1)
        eps = (x - np.sqrt(now) * x0) / np.sqrt(1 - now)
        x = (np.sqrt(after) * x0 + np.sqrt(1 - after) * eps).astype(np.float32)
    return x


def load_weights(path: str | Path = DEFAULT_PATH) -> dict[str, np.ndarray]:
    """The trained weights, float32, under their PyTorch ``state_dict`` names and layouts."""
    return load_file(path)


def save_grid_png(images: np.ndarray, path: str | Path, columns: int = 10, scale: int = 8) -> None:
    """Write images float[N,1,H,W] in [-1, 1] as an 8-bit grey PNG, ``columns`` to a row.

    Each pixel becomes ``scale`` x ``scale``, with one black pixel (before scaling) around images.
    """
    n, _, h, w = images.shape
    rows = -(-n // columns)
    grey = ((images[:, 0].clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    cells = np.zeros((rows * columns, h + 2, w + 2), np.uint8)
    cells[:n, 1:-1, 1:-1] = grey
    grid = cells.reshape(rows, columns, h + 2, w + 2).transpose(0, 2, 1, 3)
    grid = grid.reshape(rows * (h + 2), columns * (w + 2)).repeat(scale, 0).repeat(scale, 1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    height, width = grid.shape
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)  # 8 bits, grey, not interlaced
    lines = np.pad(grid, ((0, 0), (1, 0)))  # each line starts with its filter: 0, none
    Path(path).write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
        + chunk(b"IEND", b"")
    )
