"""Fixtures of several files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from framework_adapter import CANNInferenceSession, registry
from tests.cann.sessions import CPU, TARGETS, lookup
from tests.cann.sessions import network as session_network
from tests.cann.support import BACKENDS, canonical, network, write


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A valid file of each format."""
    folder = tmp_path_factory.mktemp("files")
    model = canonical(network())
    return {t: write(model, folder, t).read_bytes() for t in BACKENDS}


@pytest.fixture(scope="session")
def formats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network in every format, and the lookup as ONNX."""
    folder = tmp_path_factory.mktemp("formats")
    model = session_network()
    out = {s: folder / f"net{s}" for s in TARGETS}
    for suffix, target in TARGETS.items():
        registry.backend(target).emit(model, out[suffix])
    out["lookup"] = folder / "lookup.onnx"
    registry.backend("onnx").emit(lookup(), out["lookup"])
    return out


@pytest.fixture
def session(formats: dict[str, Path]) -> Iterator[CANNInferenceSession]:
    with CANNInferenceSession(formats[".onnx"], providers=CPU, threads=1) as s:
        yield s
