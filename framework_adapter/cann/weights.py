"""Constants of AIR and OM files: in the message, in the weights partition, or in files beside it.

A model file is untrusted: every claim about sizes is checked against what is there, and a file
named by an AIR must be a plain file below the folder of the AIR.
"""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import CirError, error
from cir.graph import Const, TensorType
from cir.weights import byte_count
from framework_adapter.cann.container import Partition
from framework_adapter.cann.proto import DTYPES, value_of


class Weights:
    """Where the constants of one model file are."""

    def __init__(self, path: Path, partition: Partition | None) -> None:
        self.path, self.partition = path, partition

    def constant(self, op: Any) -> Const:
        """The constant of a Const or FileConstant node.

        Raises:
            CirError E105: a dtype that is not supported, or data that are not where it says.
        """
        if op.type == "FileConstant":
            return self._filed(op, self._declared(op), "file_path")
        if "value" not in op.attr or op.attr["value"].WhichOneof("value") != "t":
            raise _bad(op, "has no value")
        tensor = op.attr["value"].t
        t = _type(op, tensor.desc.dtype, tensor.desc.shape.dim)
        size = byte_count(t)
        if tensor.data or not size:
            if len(tensor.data) != size:
                raise _bad(op, f"has {len(tensor.data)} bytes of data, {t} takes {size}")
            return _decoded(op, tensor.data, t)
        if "location" in op.attr:
            return self._filed(op, t, "location")
        return self._placed(op, tensor.desc, t)

    def _declared(self, op: Any) -> TensorType:
        """Type of a FileConstant, by its descriptor."""
        if not op.output_desc:
            raise _bad(op, "has no descriptor")
        return _type(op, op.output_desc[0].dtype, op.output_desc[0].shape.dim)

    def _placed(self, op: Any, desc: Any, t: TensorType) -> Const:
        """Data in the weights partition."""
        part, size = self.partition, byte_count(t)
        if part is None:
            raise _bad(op, "has no data, and the file no weights")
        offset = desc.data_offset
        if desc.weight_size not in (0, size) or offset < 0 or offset + size > part.size:
            raise _bad(op, f"claims {size} bytes at {offset} of {part.size} bytes of weights")
        return Const(t, path=self.path, offset=part.offset + offset)

    def _filed(self, op: Any, t: TensorType, attr: str) -> Const:
        """Data in a file beside the model."""
        place = value_of(op.attr[attr]) if attr in op.attr else ""
        path = self._contained(op, str(place))
        offset = op.attr["offset"].i if "offset" in op.attr else 0
        size, have = byte_count(t), path.stat().st_size
        if offset < 0 or offset + size > have:
            raise _bad(op, f"claims {size} bytes at {offset} of {path.name}, which has {have}")
        return Const(t, path=path, offset=offset)

    def _contained(self, op: Any, location: str) -> Path:
        place = PurePosixPath(location)
        unsafe = place.is_absolute() or ".." in place.parts or "\\" in location or ":" in location
        if not location or unsafe or "\0" in location:
            raise _bad(op, f"has data at {location!r}, outside the model's folder")
        path = self.path.parent
        try:
            for part in place.parts:
                path = path / part
                if stat.S_ISLNK(path.lstat().st_mode):
                    raise _bad(op, f"has data behind a link: {location!r}")
            if not stat.S_ISREG(path.stat().st_mode):
                raise _bad(op, f"has data in {location!r}, which is not a file")
        except (OSError, ValueError) as exc:
            raise _bad(op, f"has data that cannot be read: {exc}") from exc
        return path


def _type(op: Any, code: int, dims: Any) -> TensorType:
    dtype = DTYPES.get(code)
    if dtype is None:
        raise _bad(op, f"has data type {code}, which is not supported")
    shape = tuple(int(d) for d in dims)
    if any(d < 0 for d in shape):
        raise _bad(op, f"has the shape {list(shape)}")
    return TensorType(dtype, shape)


def _decoded(op: Any, data: bytes, t: TensorType) -> Const:
    if dt.bits(t.dtype) < 8:
        raise _bad(op, f"has packed {t.dtype} data in the message, which are not supported")
    array = np.frombuffer(data, dt.to_numpy(t.dtype))
    return Const(t, array.reshape([int(d) for d in t.shape]))


def _bad(op: Any, what: str) -> CirError:
    return error(
        "E105", f"constant {op.name!r} {what}", where=op.name, fix="export the model again"
    )
