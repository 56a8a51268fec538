"""Exports that TensorFlow Serving picks up: numbered folders, each with a warm-up request."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from cir import dim as dims
from cir import dtype as dt
from cir.diagnostics import CirError, error
from cir.graph import Model
from framework_adapter.output import staged
from framework_adapter.registry import require
from framework_adapter.tensorflow.requests import Requests, requests_for, signature, versions
from framework_adapter.tensorflow.saved_model import BACKEND, EXTRA, SIGNATURE, description, run

__all__ = ["Requests", "export_for_serving", "requests_for"]

#: Sizes of symbolic dims that a warm-up request is tried with.
_SIZES = (1, 2, 8, 16, 32, 64, 128, 224)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def export_for_serving(
    model_or_result: Any, dir: str | Path, name: str, version: int | None = None, **options: Any
) -> Path:
    """Write ``dir/name/version``, which a running TensorFlow Serving loads at once.

    The folder holds the SavedModel and, in ``assets.extra``, a warm-up request; it appears complete
    or not at all. Beside it ``README.md`` has the server's command and the requests to send.

    Args:
        model_or_result: what ``convert`` takes (a model of a framework, a file), a ``Result`` of a
            conversion to any target, or a CIR ``Model``.
        dir: folder of all models of the server.
        name: the model's name in requests: letters, digits, ``. _ -``.
        version: number of the version; default: the next free one, 1 at first.
        options: of ``convert``, for a model that is not converted yet.

    Returns:
        The version's folder.

    Raises:
        CirError: E100 for a wrong name, version or option; E502 for a version that exists already
            or a folder that cannot be written; what ``convert`` raises.
    """
    folder = Path(dir) / name
    number = _version(folder, name, version)
    with staged(folder / str(number)) as tmp:
        _write(model_or_result, tmp, options)
        _warm_up(tmp, name)
        page = requests_for(tmp, name, folder.resolve()).markdown()
        (tmp.parent / "README.md").write_text(page, encoding="utf-8")
    return folder / str(number)


def _version(folder: Path, name: str, version: int | None) -> int:
    if not _NAME.match(name):
        fix = "use letters, digits, dots, _ and -"
        raise error("E100", f"{name!r} is not a model name that a URL can hold", fix=fix)
    taken = versions(folder)
    if version is None:
        return max(taken, default=0) + 1
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        fix = "pass a number from 0 on, or none for the next free one"
        raise error("E100", f"version {version!r} is not a number that TF Serving takes", fix=fix)
    if version in taken:
        fix = f"pass version={max(taken) + 1}, or none; a server may be reading the old one"
        raise error("E502", f"{folder / str(version)} exists already", fix=fix)
    return version


def _write(given: Any, path: Path, options: dict[str, Any]) -> None:
    from framework_adapter.api import Result, convert

    if isinstance(given, (Result, Model)):
        if options:
            wrong = ", ".join(options)
            fix = "pass them to convert, which made the result"
            raise error("E100", f"nothing is left to convert with {wrong}", fix=fix)
        model = given if isinstance(given, Model) else given.model
        digest = "" if isinstance(given, Model) else given.digest
        BACKEND.emit(model, path, digest=digest)
    else:
        convert(given, "saved_model", path, **options)


def _warm_up(folder: Path, name: str) -> None:
    """Write a request that the model answers; a server refuses a model that fails its own."""
    tf = require("tensorflow", "tensorflow")
    extra = description(folder)
    assert extra is not None
    specs = _inputs(folder)
    for size in _SIZES:
        feeds = {k: _example(shape, specs[k], size) for k, shape in extra["inputs"].items()}
        try:
            run(folder, list(feeds.values()))
        except CirError:
            continue
        path = folder / EXTRA / "tf_serving_warmup_requests"
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(_log(name, {k: tf.make_tensor_proto(v) for k, v in feeds.items()}))
        return


def _inputs(folder: Path) -> dict[str, str]:
    """Name -> dtype of the inputs of a SavedModel."""
    import tensorflow as tf

    inputs = signature(folder).inputs
    return {k: tf.dtypes.as_dtype(v.dtype).name for k, v in inputs.items()}


def _example(shape: list[Any], dtype: str, size: int) -> np.ndarray:
    symbols = {s for d in shape if isinstance(d, str) for s in dims.symbols_of(d)}
    env = dict.fromkeys(symbols, size)
    sizes = [d if isinstance(d, int) else dims.evaluate(d, env) for d in shape]
    data = (
        np.random.default_rng(0).standard_normal(sizes) if dt.is_float(dtype) else np.zeros(sizes)
    )
    return np.asarray(data).astype(dt.to_numpy(dtype))


def _log(name: str, inputs: dict[str, Any]) -> bytes:
    """A tensorflow.serving.PredictionLog of one PredictRequest, in protobuf's wire format.

    Field numbers are those of prediction_log.proto, predict.proto and model.proto in TensorFlow
    Serving's API, whose package is not needed here.
    """
    spec = _field(1, name.encode()) + _field(3, SIGNATURE.encode())
    entries = (
        _field(2, _field(1, key.encode()) + _field(2, value.SerializeToString(deterministic=True)))
        for key, value in sorted(inputs.items())
    )
    request = _field(1, spec) + b"".join(entries)
    return _field(6, _field(1, request))


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field."""
    out, n = bytearray([number << 3 | 2]), len(data)
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out) + data
