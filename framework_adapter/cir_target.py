"""Target ``cir``: the canonical, fused program as JSON and weights, for later tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cir.diagnostics import error
from cir.graph import Model
from framework_adapter.emission import EmitResult


class CirBackend:
    """Saves the program itself, and runs what was saved in the reference interpreter."""

    name = "cir"
    runnable = True

    def emit(
        self,
        model: Model,
        path: Path,
        *,
        opset: int | None = None,
        profile: str | None = None,
        **about: Any,
    ) -> EmitResult:
        """Write ``path`` and its weights file. Raises CirError E100 for ONNX's options."""
        from cir.serde import save

        if opset is not None or profile is not None:
            raise error("E100", "target 'cir' has no opset and no profile", fix="leave them out")
        save(model, path)
        mapping = {n.name: (n.name,) for n in model.graph.nodes}
        files = tuple(sorted(path.parent.iterdir(), key=lambda p: p != path))
        return EmitResult(path, files, len(model.graph.nodes), mapping)

    def run(self, path: Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results of a saved program in order, computed in float64."""
        from cir.interpret import run
        from cir.serde import load

        model = load(path)
        values = run(model, feeds)
        return [values[name] for name in model.graph.outputs]


BACKEND = CirBackend()
