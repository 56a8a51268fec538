"""The error functions against the C library's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cir.special import erf, erfc

GRID = np.concatenate([np.linspace(-6, 6, 20011), np.linspace(-27, 27, 4001), [0.46875, 4.0]])


@pytest.mark.parametrize("ours, exact", [(erf, math.erf), (erfc, math.erfc)])
@pytest.mark.parametrize("dtype, bound", [(np.float64, 1.2e-15), (np.float32, 1e-6)])
def test_relative_error(ours, exact, dtype, bound) -> None:  # type: ignore[no-untyped-def]
    x = GRID.astype(dtype)
    want = np.array([exact(v) for v in x.astype(np.float64)])
    normal = np.abs(want) > np.finfo(dtype).tiny
    with np.errstate(under="ignore", over="ignore"):
        got = ours(x)
    assert got.dtype == dtype
    wanted = np.where(normal, want, 1)
    assert (
        np.max(np.where(normal, np.abs(got.astype(np.float64) - want) / np.abs(wanted), 0)) < bound
    )


def test_limits() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-310])
    np.testing.assert_array_equal(erf(x)[:5], [1, -1, np.nan, 0, -0.0])
    np.testing.assert_array_equal(erfc(x)[:4], [0, 2, np.nan, 1])
    assert np.signbit(erf(x)[4]) and erf(x)[5] > 0
    assert erf(np.float64(0.5)).shape == () and erf(np.zeros((0, 3))).shape == (0, 3)
