"""Target ``cir``: the canonical, fused program as JSON and weights, for later tools to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cir.graph import Model
from framework_adapter.emission import EmitResult


class CirBackend:
    """Saves the program itself; there is nothing to run that validation has not run already."""

    name = "cir"
    runnable = False

    def emit(self, model: Model, path: Path, **options: Any) -> EmitResult:
        """Write ``path`` and the weights file beside it."""
        from cir.serde import save

        files = save(model, path)
        mapping = {n.name: (n.name,) for n in model.graph.nodes}
        return EmitResult(path, tuple(files), len(model.graph.nodes), mapping)


BACKEND = CirBackend()
