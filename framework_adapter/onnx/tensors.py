"""Tensors of ONNX files as constants. External data stay in their file until they are read.

A model file is untrusted: the place of external data must be a plain file inside the model's own
folder, named without ``..``, absolute paths or links, and long enough for what the tensor claims.
"""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cir.diagnostics import CirError, error
from cir.graph import Const, TensorType
from cir.weights import byte_count
from framework_adapter.onnx.proto import DTYPES


def constant(tensor: Any, folder: Path | None) -> Const:
    """A TensorProto as a constant.

    Args:
        tensor: the message.
        folder: the model file's folder; None when the model did not come from a file.

    Raises:
        CirError: E105 for a dtype without a counterpart, broken data, or external data outside the
        folder.
    """
    from onnx import numpy_helper

    dtype = DTYPES.get(tensor.data_type)
    if dtype is None:
        raise _bad(tensor, f"has data type {tensor.data_type}, which is not supported")
    if any(d < 0 for d in tensor.dims):
        raise _bad(tensor, "has a negative size")
    t = TensorType(dtype, tuple(int(d) for d in tensor.dims))
    if tensor.data_location == 1:
        return _external(tensor, t, folder)
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
        if array.shape != t.shape:
            raise ValueError(f"the data are {list(array.shape)}, the shape says {list(t.shape)}")
        return Const.of(array)
    except (ValueError, TypeError, RuntimeError) as exc:
        raise _bad(tensor, f"cannot be decoded: {exc}") from exc


def _external(tensor: Any, t: TensorType, folder: Path | None) -> Const:
    entries = {e.key: e.value for e in tensor.external_data}
    if folder is None:
        raise _bad(
            tensor, "has external data, and the model is not a file", "pass the path of the file"
        )
    path = _contained(tensor, entries.get("location", ""), folder)
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or byte_count(t))
        size = path.stat().st_size
    except (ValueError, OSError) as exc:
        raise _bad(tensor, f"has external data that cannot be read: {exc}") from exc
    if offset < 0 or length != byte_count(t) or offset + length > size:
        raise _bad(
            tensor,
            f"claims {byte_count(t)} bytes at {offset} of {path.name}, which has {size}",
            "copy the data file again",
        )
    return Const(t, path=path, offset=offset)


def _contained(tensor: Any, location: str, folder: Path) -> Path:
    place = PurePosixPath(location)
    unsafe = place.is_absolute() or ".." in place.parts or "\\" in location or ":" in location
    if not location or unsafe:
        raise _bad(tensor, f"has external data at {location!r}, outside the model's folder")
    path = folder
    try:
        for part in place.parts:
            path = path / part
            if stat.S_ISLNK(path.lstat().st_mode):
                raise _bad(
                    tensor,
                    f"has external data behind a link: {location!r}",
                    "put the file itself there",
                )
        if not stat.S_ISREG(path.stat().st_mode):
            raise _bad(tensor, f"has external data in {location!r}, which is not a file")
    except (OSError, ValueError) as exc:
        raise _bad(tensor, f"has external data that cannot be read: {exc}") from exc
    return path


def _bad(tensor: Any, what: str, fix: str = "") -> CirError:
    return error(
        "E105", f"tensor {tensor.name or '(unnamed)'!r} {what}", where=tensor.name, fix=fix
    )
