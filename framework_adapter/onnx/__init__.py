"""ONNX, both ways: a target (``emit``) and a source (``extract``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cir.graph import Model
from framework_adapter.emission import EmitResult
from framework_adapter.source import InputSpec, SourceGraph


class OnnxBackend:
    """Writes ONNX files and runs them in ONNX Runtime."""

    name = extra = "onnx"
    folder = False
    checked_by = "ONNX Runtime"
    options: Mapping[str, str] = {
        "opset": "opset of the file; default: the profile's usual one, or the first that suffices",
        "profile": "kernels to rely on: ort-cpu (default), portable, ge-safe",
    }

    @property
    def runnable(self) -> bool:
        """Whether ONNX Runtime is installed."""
        return importlib.util.find_spec("onnxruntime") is not None

    def emit(
        self,
        model: Model,
        path: Path,
        *,
        digest: str = "",
        versions: Mapping[str, str] | None = None,
        ctx: Any = None,
        opset: int | None = None,
        profile: str | None = None,
    ) -> EmitResult:
        """Legalise a program and write it; see ``emit.emit``. Raises CirError E5xx."""
        from framework_adapter.onnx import emit
        from framework_adapter.pipeline import back

        rows = emit.table(profile or "ort-cpu", opset)
        model = back(rows.legal).run(model, ctx)
        metadata = {f"version.{k}": v for k, v in sorted((versions or {}).items())}
        if digest:
            metadata["cir_digest"] = digest
        return emit.emit(model, path, opset=opset, profile=profile, metadata=metadata)

    def run(self, path: Path, feeds: Sequence[Any], **options: Any) -> list[np.ndarray]:
        """Results of a file; see ``emit.run``."""
        from framework_adapter.onnx.emit import run

        return run(path, feeds, **options)


class OnnxFrontend:
    """Reads ONNX files and ModelProto objects."""

    name = "onnx"

    def accepts(self, model: object) -> bool:
        """A path that ends in .onnx, or a ModelProto."""
        if isinstance(model, (str, Path)):
            return str(model).endswith(".onnx")
        return type(model).__name__ == "ModelProto" and type(model).__module__.startswith("onnx")

    def extract(
        self,
        model: Any,
        inputs: Sequence[InputSpec] | None,
        *,
        outputs: Sequence[str] | None = None,
        custom: Collection[str] = (),
    ) -> SourceGraph:
        """The model's graph; see ``extract.extract``. Raises CirError E1xx."""
        from framework_adapter.onnx.extract import extract

        return extract(model, inputs, outputs=outputs)

    def run(self, model: Any, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results in ONNX Runtime with its optimisers off."""
        from framework_adapter.onnx.extract import run_source

        return run_source(model, feeds)


BACKEND = OnnxBackend()
FRONTEND = OnnxFrontend()
