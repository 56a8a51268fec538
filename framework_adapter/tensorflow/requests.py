"""What to type for a served model, made from its signature: the server, REST, gRPC."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cir import dtype as dt
from cir.diagnostics import error
from framework_adapter.registry import require
from framework_adapter.tensorflow.saved_model import SIGNATURE, description

#: Numbers that a request shows; more are made by a line of Python.
_SHOWN = 64


@dataclass(frozen=True)
class Requests:
    """Commands and requests for one model.

    Attributes:
        name: the model's name in requests.
        server, docker: commands that start a server, with TensorFlow Serving or its image.
        status: command that asks whether the model is loaded.
        body: a request's JSON.
        rest: command that sends it.
        grpc: Python program that sends the same by gRPC; it needs ``tensorflow-serving-api``.
        table: (name, dtype, shape, "input" or "output"), -1 being a size that is free.
    """

    name: str
    server: str
    docker: str
    status: str
    body: Mapping[str, Any]
    rest: str
    grpc: str
    table: Sequence[tuple[str, str, Sequence[int], str]]

    def markdown(self) -> str:
        """An operator's page."""
        lines = [f"# {self.name}", "", "| | name | dtype | shape |", "|---|---|---|---|"]
        for name, dtype, shape, kind in self.table:
            sizes = ", ".join("any" if d < 0 else str(d) for d in shape)
            lines.append(f"| {kind} | `{name}` | {dtype} | [{sizes}] |")
        for title, language, text in (
            ("Start the server", "bash", self.server),
            ("or with Docker", "bash", self.docker),
            ("Is it there", "bash", self.status),
            ("REST", "bash", self.rest),
            ("gRPC (`pip install tensorflow-serving-api grpcio`)", "python", self.grpc),
        ):
            lines += ["", f"## {title}", "", f"```{language}", text.rstrip(), "```"]
        return "\n".join(lines) + "\n"


def signature(folder: Path) -> Any:
    """The SignatureDef ``serving_default`` of a SavedModel folder.

    Raises CirError E101 when there is no SavedModel, E105 when it cannot be read or has none.
    """
    require("tensorflow", "tensorflow")
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString((folder / "saved_model.pb").read_bytes())
    except OSError as exc:
        fix = "name a SavedModel folder, or a model's folder with numbered versions"
        raise error("E101", f"no SavedModel in {folder}", why=str(exc), fix=fix) from exc
    except DecodeError as exc:
        raise error(
            "E105", f"{folder / 'saved_model.pb'} is broken", fix="export it again"
        ) from exc
    for meta in message.meta_graphs:
        if SIGNATURE in meta.signature_def and "serve" in meta.meta_info_def.tags:
            return meta.signature_def[SIGNATURE]
    fix = "save it with signatures={'serving_default': ...}"
    raise error("E105", f"{folder} has no signature {SIGNATURE}", fix=fix)


def versions(folder: Path) -> list[int]:
    """Numbers of the versions in a model's folder, in order; other entries do not count."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(p.name) for p in found if p.name.isascii() and p.name.isdigit())


def requests_for(
    saved_model_dir: str | Path, name: str = "", base: str | Path | None = None
) -> Requests:
    """Commands and requests for a SavedModel.

    Args:
        saved_model_dir: a version's folder, or a model's folder, whose highest version is taken.
        name: the model's name; default: the name of the folder that holds the version.
        base: the model's folder on the server; default: where the version is.

    Raises:
        CirError: E101 without a SavedModel there; E105 for one without ``serving_default``.
    """
    import tensorflow as tf

    folder = Path(saved_model_dir)
    numbers = versions(folder)
    if numbers and not (folder / "saved_model.pb").exists():
        folder = folder / str(numbers[-1])
    ends = signature(folder)
    home = folder.resolve().parent if folder.name.isdigit() else folder.resolve()
    name, base = name or home.name, str(base or home)
    extra = description(folder) or {"inputs": sorted(ends.inputs), "outputs": sorted(ends.outputs)}
    table = []
    for kind, infos, names in (
        ("input", ends.inputs, extra["inputs"]),
        ("output", ends.outputs, extra["outputs"]),
    ):
        for key in names:
            info = infos[key]
            shape = [int(d.size) for d in info.tensor_shape.dim]
            table.append((key, tf.dtypes.as_dtype(info.dtype).name, shape, kind))
    inputs = {
        n: (dtype, [abs(d) for d in shape]) for n, dtype, shape, kind in table if kind == "input"
    }
    outputs = [n for n, _, _, kind in table if kind == "output"]
    body = {"inputs": {n: _zeros(*spec) for n, spec in inputs.items()}}
    url = f"http://localhost:8501/v1/models/{name}"
    return Requests(
        name,
        f"tensorflow_model_server --port=8500 --rest_api_port=8501 --model_name={name} \\\n"
        f"  --model_base_path={shlex.quote(base)}",
        f"docker run --rm -p 8500:8500 -p 8501:8501 -e MODEL_NAME={name} \\\n"
        f"  -v {shlex.quote(base + ':/models/' + name)} tensorflow/serving",
        f"curl -s {url}",
        body,
        _rest(url, inputs, body),
        _grpc(name, inputs, outputs),
        table,
    )


def _zeros(dtype: str, shape: Sequence[int]) -> Any:
    zero: Any = False if dtype == "bool" else 0.0 if dt.is_float(dtype) else 0
    for d in reversed(shape):
        zero = [zero] * d
    return zero


def _rest(url: str, inputs: Mapping[str, tuple[str, Sequence[int]]], body: Any) -> str:
    post = f"curl -s -X POST {url}:predict -d"
    if sum(math.prod(shape) for _, shape in inputs.values()) <= _SHOWN:
        return f"{post} {shlex.quote(json.dumps(body))}"
    program = [
        "import json",
        "def many(v, n, *rest):",
        "    return [many(v, *rest) if rest else v] * n",
    ]
    program.append('print(json.dumps({"inputs": {')
    for name, (dtype, shape) in inputs.items():
        zero = _zeros(dtype, ())
        value = f"many({', '.join(map(str, (zero, *shape)))})" if shape else f"{zero}"
        program.append(f"    {json.dumps(name)}: {value},")
    program.append("}}))")
    return f"python3 -c {shlex.quote(chr(10).join(program))} |\n  {post} @-"


def _grpc(
    name: str, inputs: Mapping[str, tuple[str, Sequence[int]]], outputs: Sequence[str]
) -> str:
    lines = [
        "import grpc",
        "import numpy as np",
        "import tensorflow as tf",
        "from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc",
        "",
        "request = predict_pb2.PredictRequest()",
        f"request.model_spec.name = {name!r}",
        f"request.model_spec.signature_name = {SIGNATURE!r}",
    ]
    for key, (dtype, shape) in inputs.items():
        array = f"np.zeros({tuple(shape)}, tf.{dtype}.as_numpy_dtype)"
        lines.append(f"request.inputs[{key!r}].CopyFrom(tf.make_tensor_proto({array}))")
    return "\n".join([
        *lines,
        "",
        'channel = grpc.insecure_channel("localhost:8500")',
        "stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)",
        "response = stub.Predict(request, timeout=60.0)",
        f"for name in {list(outputs)!r}:",
        "    print(name, tf.make_ndarray(response.outputs[name]))",
    ]) + "\n"  # fmt: skip
