"""netron as a reader of model files that is not ours: ``read(path)``."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any


def read(path: Path | str, *, timeout: float = 120) -> dict[str, Any]:
    """What netron reads in a ``.ms``, ``.om`` or ``.onnx`` file.

    Returns:
        ``format``, and ``graphs``, each with ``name``, ``inputs`` and ``outputs`` (name, dtype, shape), ``nodes`` (type,
        name, inputs and outputs as [{name, values}], attributes), ``types`` (value name -> dtype and shape) and
        ``weights`` (name, dtype, shape, sha256 of the stored bytes). ``error`` when netron refuses the file.
    """
    (one,) = read_all([path], timeout=timeout)
    return one


def read_all(paths: list[Path | str], *, timeout: float = 120) -> list[dict[str, Any]]:
    """``read`` of several files in one process."""
    folder = metadata.distribution("netron").locate_file("netron")
    script = Path(__file__).with_name("netron_read.mjs")
    command = ["node", str(script), str(folder), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
