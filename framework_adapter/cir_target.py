"""Target ``cir``: the canonical, fused program as JSON and weights, for later tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cir.graph import Model
from framework_adapter.emission import EmitResult


class CirBackend:
    """Saves the program itself, and runs what was saved in the reference interpreter."""

    name = "cir"
    extra = ""
    folder = False
    checked_by = "the reference interpreter"
    options: Mapping[str, str] = {}
    runnable = True

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
        """Write ``path`` and its weights file."""
        from cir.serde import save

        save(model, path)
        mapping = {n.name: (n.name,) for n in model.graph.nodes}
        files = tuple(sorted(path.parent.iterdir(), key=lambda p: p != path))
        return EmitResult(path, files, len(model.graph.nodes), mapping)

    def run(self, path: Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results of a saved program in order, computed in float64, of the program's dtypes."""
        from cir import dtype as dt
        from cir.interpret import run
        from cir.serde import load

        model = load(path)
        values = run(model, feeds)
        types = model.graph.types
        return [
            np.asarray(values[name]).astype(dt.to_numpy(types[name].dtype))
            for name in model.graph.outputs
        ]


BACKEND = CirBackend()
