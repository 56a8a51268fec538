"""The reference convolution stays on BLAS: a rate, not a time, so that slow machines pass too."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cir.convolution import conv


def best(fn, runs: int = 7) -> float:  # type: ignore[no-untyped-def]
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return min(times)


def rate(xshape: tuple[int, ...], wshape: tuple[int, ...], stride: int, pad: int) -> float:
    """Best rate of several runs in GFLOP/s, float32."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(xshape, dtype=np.float32)
    w = rng.standard_normal(wshape, dtype=np.float32)
    kwargs = {"strides": (stride,) * 2, "pads": (pad,) * 4, "dilations": (1, 1), "groups": 1}
    y = conv(x, w, **kwargs)  # type: ignore[arg-type]
    flops = 2 * y.size * int(np.prod(wshape[1:]))
    return flops / best(lambda: conv(x, w, **kwargs)) / 1e9  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def blas_rate() -> float:
    """What a plain matrix product reaches here and now, GFLOP/s."""
    a = np.random.default_rng(0).standard_normal((768, 768), dtype=np.float32)
    return 2 * 768**3 / best(lambda: a @ a) / 1e9


@pytest.mark.parametrize(
    "x, w, stride, pad",
    [
        ((1, 64, 56, 56), (64, 64, 3, 3), 1, 1),
        ((1, 256, 14, 14), (256, 256, 3, 3), 1, 1),
        ((1, 128, 56, 56), (128, 128, 3, 3), 2, 1),
        ((1, 256, 14, 14), (1024, 256, 1, 1), 1, 0),
        ((1, 3, 224, 224), (64, 3, 7, 7), 2, 3),
    ],
)
def test_convolution_rate(
    x: tuple[int, ...], w: tuple[int, ...], stride: int, pad: int, blas_rate: float
) -> None:
    """At least 20 GFLOP/s, or a tenth of the matrix product where that itself is slow."""
    assert rate(x, w, stride, pad) > min(20.0, blas_rate / 10)


def test_memory_is_bounded() -> None:
    """Columns of a large image are made block by block: 1.2 GB if they were made at once."""
    import tracemalloc

    x = np.zeros((1, 128, 256, 256), np.float32)
    w = np.zeros((8, 128, 3, 3), np.float32)
    tracemalloc.start()
    conv(x, w, strides=(1, 1), pads=(1,) * 4, dilations=(1, 1), groups=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * x.nbytes
