"""MindSpore's tests leave the processor as they found it."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _floating_point_mode() -> Iterator[None]:
    """Some kernels of MindSpore (LpNorm) leave subnormal numbers switched off for the thread."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    before = ctypes.create_string_buffer(64)
    libm.fegetenv(before)
    yield
    libm.fesetenv(before)
