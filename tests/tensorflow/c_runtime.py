"""Runs SavedModels in a process without Python: compiles and calls ``run_saved_model.c``."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_name("run_saved_model.c")


class CRuntimeError(RuntimeError):
    """The C program failed; ``code`` is 3 when the model does not load, 4 when it does not run."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"exit code {code}: {text}")
        self.code = code


@cache
def program() -> Path:
    """The compiled program."""
    spec = find_spec("tensorflow")
    assert spec is not None and spec.submodule_search_locations
    wheel = Path(spec.submodule_search_locations[0])
    out = Path(tempfile.mkdtemp(prefix="run_saved_model.")) / "run_saved_model"
    command = [
        "gcc", "-O1", "-Wall", "-Werror", f"-I{wheel / 'include'}", str(SOURCE), "-o", str(out), f"-L{wheel}",
        "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{wheel}",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    return out


def signature(folder: Path, key: str = "serving_default") -> Any:
    """A SignatureDef of a SavedModel."""
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    message.ParseFromString((folder / "saved_model.pb").read_bytes())
    return message.meta_graphs[0].signature_def[key]


def run(
    folder: Path, feeds: dict[str, np.ndarray], outputs: Sequence[str] = (), runs: int = 0
) -> tuple[list[np.ndarray], float]:
    """(results, seconds of the fastest of ``runs`` further runs) of the signature ``serving_default``.

    Args:
        folder: the SavedModel.
        feeds: arrays by input name.
        outputs: names of results; default: all, in alphabetical order.
        runs: how often to repeat.

    Raises:
        CRuntimeError: the program failed.
    """
    import tensorflow as tf

    ends = signature(folder)
    names = list(outputs or sorted(ends.outputs))
    with tempfile.TemporaryDirectory() as work:
        command = [str(program()), str(folder)]
        for i, (name, array) in enumerate(feeds.items()):
            path = Path(work, f"in{i}")
            path.write_bytes(np.ascontiguousarray(array).tobytes())
            dtype = tf.as_dtype(array.dtype).as_datatype_enum
            dims = ",".join(map(str, array.shape)) or "-"
            command += ["-i", ends.inputs[name].name, str(dtype), dims, str(path)]
        for i, name in enumerate(names):
            command += ["-o", ends.outputs[name].name, str(Path(work, f"out{i}"))]
        if runs:
            command += ["-t", str(runs)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise CRuntimeError(done.returncode, done.stderr[-2000:])
        lines = done.stdout.split("\n")
        results = []
        for i in range(len(names)):
            dtype, dims = lines[i].split()
            shape = [] if dims == "-" else [int(d) for d in dims.split(",")]
            data = Path(work, f"out{i}").read_bytes()
            results.append(
                np.frombuffer(data, tf.as_dtype(int(dtype)).as_numpy_dtype).reshape(shape)
            )
    return results, float(lines[len(names)]) if runs else 0.0
