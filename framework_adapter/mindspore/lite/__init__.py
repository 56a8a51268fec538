"""MindSpore Lite's ``.ms`` files, both ways: a target (``emit``) and a source (``extract``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cir.graph import Model
from framework_adapter.emission import EmitResult
from framework_adapter.source import InputSpec, SourceGraph


class LiteBackend:
    """Writes ``.ms`` files. They are run read back, in ONNX Runtime: no runtime is at hand."""

    name = extra = "mslite"
    folder = False
    checked_by = "ONNX Runtime, from the graph read back"
    options: Mapping[str, str] = {
        "weights": "how constants are stored: fp32 (default), or fp16 in half the space",
        "runtime": "oldest MindSpore Lite that is to load the file; default: 2.7.0",
    }

    @property
    def runnable(self) -> bool:
        """Whether ONNX Runtime is installed, which runs a file that was read back."""
        return importlib.util.find_spec("onnxruntime") is not None

    def emit(
        self,
        model: Model,
        path: Path,
        *,
        digest: str = "",
        versions: Mapping[str, str] | None = None,
        ctx: Any = None,
        **options: Any,
    ) -> EmitResult:
        """Legalise a program and write it; see ``emit.emit``. Raises CirError E5xx."""
        from framework_adapter.mindspore.lite import emit
        from framework_adapter.mindspore.lite.write import rounded
        from framework_adapter.pipeline import back

        emit.check_options(**{"weights": "fp32", "runtime": emit.RUNTIME, **options})
        ready = back(emit.table().legal, layout="channels_last").run(model, ctx)
        result = emit.emit(ready, path, **options)
        half = options.get("weights") == "fp16"
        return replace(result, stored=rounded(model)) if half else result

    def run(self, path: Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results of a file, in ONNX Runtime after reading it back. Raises CirError."""
        from framework_adapter.readback import run

        return run(path, feeds)


class LiteFrontend:
    """Reads ``.ms`` files."""

    name = "mslite"

    def accepts(self, model: object) -> bool:
        """A path that ends in .ms."""
        return isinstance(model, (str, Path)) and str(model).endswith(".ms")

    def extract(
        self,
        model: Any,
        inputs: Sequence[InputSpec] | None,
        *,
        outputs: Sequence[str] | None = None,
        custom: Collection[str] = (),
    ) -> SourceGraph:
        """The file's graph; see ``extract.extract``. Raises CirError E1xx."""
        from framework_adapter.mindspore.lite.extract import extract

        return extract(model, inputs, outputs=outputs)

    def run(self, model: Any, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results in ONNX Runtime after reading the file back."""
        from framework_adapter.mindspore.lite.extract import run_source

        return run_source(model, feeds)


BACKEND = LiteBackend()
FRONTEND = LiteFrontend()
