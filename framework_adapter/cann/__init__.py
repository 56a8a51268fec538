"""Ascend: AIR and OM files, both ways, the compiler driver and the inference session."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework_adapter.source import InputSpec, SourceGraph


class CannFrontend:
    """Reads ``.air`` and ``.om`` files."""

    name = "cann"

    def accepts(self, model: object) -> bool:
        """A path that ends in .air or .om."""
        return isinstance(model, (str, Path)) and str(model).endswith((".air", ".om"))

    def extract(
        self,
        model: Any,
        inputs: Sequence[InputSpec] | None,
        *,
        outputs: Sequence[str] | None = None,
        custom: Collection[str] = (),
    ) -> SourceGraph:
        """The model's graph; see ``extract.extract``. Raises CirError E1xx."""
        from framework_adapter.cann.extract import extract

        return extract(model, inputs, outputs=outputs)

    def run(self, model: Any, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results by the IR's reference interpreter: no runtime of the formats is at hand."""
        from framework_adapter.cann.extract import run_source

        return run_source(model, feeds)


FRONTEND = CannFrontend()
