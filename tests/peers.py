"""Files of wheels that are fetched but not installed (see the Makefile)."""

from __future__ import annotations

import sys
import zipfile
from functools import cache
from pathlib import Path


@cache
def torch_npu(name: str) -> bytes:
    """One file of torch-npu's wheel, by the end of its path."""
    (wheel,) = (Path(sys.prefix) / "peers").glob("torch_npu-*.whl")
    with zipfile.ZipFile(wheel) as z:
        (path,) = (n for n in z.namelist() if n.endswith(name))
        return z.read(path)
