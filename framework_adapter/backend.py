"""What a target format offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cir.graph import Model
from framework_adapter.emission import EmitResult


class Backend(Protocol):
    """A target format. Its module imports what it needs inside functions only.

    Attributes:
        name: the target's name in ``convert``.
        extra: extra of the package that brings what it needs.
        folder: whether the artefact is a folder.
        options: what ``emit`` takes beside the model: option -> what it is.
        checked_by: whose code ``run`` has the results from, in words.
    """

    name: str
    extra: str
    folder: bool
    options: Mapping[str, str]
    checked_by: str

    @property
    def runnable(self) -> bool:
        """Whether what runs the format is installed."""

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
        """Legalise a canonical program and write it; nothing is written on failure.

        Args:
            model: the program.
            path: file or folder.
            digest: the program's structure digest, stored where the format has a place for it.
            versions: library -> version of the source framework, stored likewise.
            ctx: ``cir.passes.Context`` that passes report to.
            options: see ``options``.

        Raises:
            CirError: E5xx.
        """

    def run(self, path: Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results in order of the outputs, for arrays in order of the inputs."""
