"""The shipped kernel table is what ONNX Runtime says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from framework_adapter.onnx import kernels

PATH = Path(kernels.__file__).parent / "profiles" / "ort-cpu.json"


def test_table_is_current() -> None:
    """Equal to a fresh reading of the installed runtime, when that is the version it was made from."""
    ort = pytest.importorskip("onnxruntime")
    text = PATH.read_text(encoding="utf-8")
    if json.loads(text)["runtime"] != f"onnxruntime {ort.__version__}":
        pytest.skip("another version of ONNX Runtime is installed")
    assert kernels.render(kernels.read_runtime()) == text


def test_function_bodied_ops_have_no_kernel() -> None:
    """Ops that the runtime would expand are not offered to the emitter."""
    profile = kernels.load("ort-cpu")
    for op in ("GroupNormalization", "HardSwish", "Mish", "Swish", "CastLike"):
        assert profile.slots(op, profile.highest) is None, op


def test_versions_and_domains() -> None:
    """A kernel counts from the opset that brought it; contributed ops are not in the portable profile."""
    profile = kernels.load("ort-cpu")
    assert profile.slots("Gelu", 19) is None and profile.slots("Gelu", 20)
    assert profile.domain("QuickGelu") == "com.microsoft" and profile.domain("Relu") == ""
    assert kernels.load("portable").slots("QuickGelu", 20) is None
    assert profile.dtypes("Gather", 1, 20) == {"int32", "int64"}
