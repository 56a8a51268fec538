"""Model files read back: any format that a frontend takes, as a program and as an ONNX file to run.

No runtime of AIR, OM or ``.ms`` is at hand on a plain machine, so such a file is run by reading its
graph into the IR and handing that to ONNX Runtime.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from cir.graph import Model
    from framework_adapter.api import Program

#: Files whose ONNX form is kept.
_KEPT = 8


def program(path: str | Path) -> Program:
    """A model file as a canonical program; its digest is that of the program it was written from.

    Raises:
        CirError: E1xx to E3xx.
    """
    from framework_adapter import api, registry

    return api.build(str(path), registry.detect(str(path)))


def model(path: str | Path) -> Model:
    """A model file as IR; a ``.cir.json`` as it stands. Raises CirError E1xx to E3xx."""
    from cir.serde import load

    return load(path) if Path(path).suffix == ".json" else program(path).model


def onnx_file(path: str | Path) -> Path:
    """An ONNX file that computes what a model file does: itself, or a temporary one.

    Raises:
        CirError: E1xx to E5xx.
    """
    path = Path(path)
    if path.suffix == ".onnx" or not path.exists():
        return path
    stat = path.stat()
    return _translated(path.resolve(), stat.st_mtime_ns, stat.st_size)


def run(path: str | Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Results of a model file, in order, in ONNX Runtime on the CPU. Raises CirError."""
    from framework_adapter.onnx.emit import run as run_onnx

    return run_onnx(onnx_file(path), feeds)


@lru_cache(maxsize=_KEPT)
def _translated(path: Path, modified: int, size: int) -> Path:
    from framework_adapter import registry

    out = Path(tempfile.mkdtemp(dir=_folder())) / "model.onnx"
    registry.backend("onnx").emit(model(path), out)
    return out


@cache
def _folder() -> str:
    folder = tempfile.mkdtemp(prefix="framework_adapter.")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
