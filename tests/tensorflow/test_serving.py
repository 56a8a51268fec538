"""Exports for TensorFlow Serving: versions, the warm-up file, and requests that real stubs send."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Model
from framework_adapter import convert
from framework_adapter.tensorflow import saved_model as sm
from framework_adapter.tensorflow.serving import export_for_serving, requests_for
from tests.tensorflow.test_saved_model import mlp

F = np.float32


def keras_model() -> Any:
    import keras

    inputs = keras.Input((4,), name="pixels")
    return keras.Model(inputs, keras.layers.Dense(3, name="scores")(inputs))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_for_serving(mlp()[0], tmp_path_factory.mktemp("models"), "mlp")


# -- folders ---------------------------------------------------------------------------------------
def test_versions(tmp_path: Path) -> None:
    """The next free number unless one is given; earlier versions stay as they are."""
    model = keras_model()
    first = export_for_serving(model, tmp_path / "all", "scores", validate=False)
    assert first == tmp_path / "all" / "scores" / "1"
    result = convert(model, "saved_model", tmp_path / "m")
    seventh = export_for_serving(result, tmp_path / "all", "scores", 7)
    eighth = export_for_serving(result.model, tmp_path / "all", "scores")
    assert (seventh.name, eighth.name) == ("7", "8")
    names = sorted(p.name for p in (tmp_path / "all" / "scores").iterdir())
    assert names == ["1", "7", "8", "README.md"]
    assert {p.name for p in first.iterdir()} == {
        "saved_model.pb", "variables", "assets", "assets.extra",
    }  # fmt: skip
    same = {(p / "saved_model.pb").read_bytes() for p in (first, seventh, eighth, tmp_path / "m")}
    assert len(same) == 1
    assert sm.description(seventh)["digest"] == result.digest


@pytest.mark.parametrize(
    ("name", "version", "options", "code"),
    [
        ("../up", None, {}, "E100"),
        ("", None, {}, "E100"),
        ("m", -1, {}, "E100"),
        ("m", "2", {}, "E100"),
        ("m", True, {}, "E100"),
        ("m", 1, {}, "E502"),
        ("m", None, {"fusion": "none"}, "E100"),
    ],
)
def test_wrong_arguments(name: str, version: Any, options: Any, code: str, tmp_path: Path) -> None:
    """Names that no URL holds, versions that are none or taken, options of a finished conversion."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    with pytest.raises(CirError) as info:
        export_for_serving(mlp()[0], tmp_path, name, version, **options)
    assert info.value.code == code
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["1", "m"]


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that watches the folder never sees a part of a version."""
    import tensorflow as tf

    seen: list[str] = []
    real = tf.saved_model.save

    def watching(*args: Any, **kw: Any) -> None:
        real(*args, **kw)
        folder = tmp_path / "mlp"
        seen.extend(p.name for p in folder.iterdir())
        if fail:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", watching)
    fail = True
    with pytest.raises(CirError) as info:
        export_for_serving(mlp()[0], tmp_path, "mlp")
    assert info.value.code == "E502" and list(tmp_path.iterdir()) == []
    fail = False
    export_for_serving(mlp()[0], tmp_path, "mlp")
    assert seen and not [n for n in seen if n.isdigit()]


# -- the warm-up file ------------------------------------------------------------------------------
def _records(path: Path) -> list[bytes]:
    import tensorflow as tf

    return [r.numpy() for r in tf.data.TFRecordDataset(str(path))]


def test_warm_up(exported: Path) -> None:
    """TensorFlow Serving's own messages read it, and the model answers it."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    (record,) = _records(exported / "assets.extra" / "tf_serving_warmup_requests")
    log = prediction_log_pb2.PredictionLog.FromString(record)
    assert log.WhichOneof("log_type") == "predict_log"
    request = log.predict_log.request
    assert (request.model_spec.name, request.model_spec.signature_name) == (
        "mlp",
        "serving_default",
    )
    assert set(request.inputs) == {"z", "a"}
    feeds = [tf.make_ndarray(request.inputs[k]) for k in ("z", "a")]
    assert [f.shape for f in feeds] == [(1, 4), (1, 5)]
    assert len(sm.run(exported, feeds)) == 2
    assert (
        log.SerializeToString(deterministic=True) == record
    )  # no field that the stubs do not know


def test_warm_up_where_one_is_too_small(tmp_path: Path) -> None:
    """Symbolic sizes grow until the model runs; integers are 0, an index of every table."""
    from tensorflow_serving.apis import prediction_log_pb2

    b = Builder()
    x, i = b.input("x", "float32", ["n", "s"]), b.input("i", "int32", ["n"])
    attrs = {"axes": [1], "starts": [0], "ends": [6], "steps": [1]}
    cut = b.emit("slice", [x], attrs)[0]
    row = b.emit("linear", [cut, b.const(np.ones((2, 6), F), "w")])[0]
    y = b.emit("gather", [row, i], {"axis": 0}, name="y")[0]
    folder = export_for_serving(Model(b.finish([y])), tmp_path, "grows")
    (record,) = _records(folder / "assets.extra" / "tf_serving_warmup_requests")
    request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
    assert [d.size for d in request.inputs["x"].tensor_shape.dim] == [8, 8]


# -- requests --------------------------------------------------------------------------------------
def test_page(exported: Path) -> None:
    """The generated page has the exact command, for the folder as it is."""
    found = requests_for(exported)
    page = (exported.parent / "README.md").read_text()
    assert page == found.markdown() == requests_for(exported.parent).markdown()
    assert found.server.split() == [
        "tensorflow_model_server", "--port=8500", "--rest_api_port=8501", "--model_name=mlp", "\\",
        f"--model_base_path={exported.parent.resolve()}",
    ]  # fmt: skip
    assert "| input | `z` | float32 | [any, 4] |" in page
    for part in (found.server, found.docker, found.rest, found.grpc.rstrip()):
        assert part in page
    with pytest.raises(CirError) as info:
        requests_for(exported.parent.parent)
    assert info.value.code == "E101"


@pytest.fixture(scope="module")
def server(exported: Path) -> Any:
    """gRPC and REST as TensorFlow Serving speaks them, answered by the exported model."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
            assert request.model_spec.name == "mlp"
            feeds = [tf.make_ndarray(request.inputs[k]) for k in ("z", "a")]
            response = predict_pb2.PredictResponse()
            for name, y in zip(("y", "norm"), sm.run(exported, feeds)):
                response.outputs[name].CopyFrom(tf.make_tensor_proto(y))
            return response

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802
            assert self.path == "/v1/models/mlp:predict"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            feeds = [np.array(body["inputs"][k], F) for k in ("z", "a")]
            found = dict(zip(("y", "norm"), (y.tolist() for y in sm.run(exported, feeds))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"outputs": found}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    speaking = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), speaking)
    port = speaking.add_insecure_port("localhost:0")
    speaking.start()
    web = HTTPServer(("localhost", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield port, web.server_port
    speaking.stop(None)
    web.shutdown()


def test_grpc_request(exported: Path, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The program as printed, with the real stubs, over a real channel."""
    program = requests_for(exported).grpc
    assert "localhost:8500" in program
    exec(compile(program.replace("localhost:8500", f"localhost:{server[0]}"), "page", "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"^y \[\[", printed, re.M) and "norm [[" in printed


@pytest.mark.parametrize("shown", [True, False])
def test_rest_request(
    shown: bool, exported: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command as printed, written out and made by a line of Python, in a shell with curl."""
    from framework_adapter.tensorflow import requests

    if not shown:
        monkeypatch.setattr(requests, "_SHOWN", 0)
    command = requests_for(exported).rest
    assert ("python3 -c" in command) is not shown and "localhost:8501" in command
    command = command.replace("localhost:8501", f"localhost:{server[1]}")
    command = command.replace("python3", sys.executable)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    answer = json.loads(done.stdout)
    want = sm.run(exported, [np.zeros((1, 4), F), np.zeros((1, 5), F)])
    for name, w in zip(("y", "norm"), want):
        np.testing.assert_allclose(answer["outputs"][name], w, rtol=1e-6)


def test_body_of_every_kind(tmp_path: Path) -> None:
    """Numbers, whole numbers and truth values, of rank 0 and more."""
    b = Builder()
    inputs = [
        b.input("f", "float32", ["n", 2]),
        b.input("i", "int64", []),
        b.input("b", "bool", [2]),
    ]
    outs = [b.emit("identity", [v], name=f"{v}_out")[0] for v in inputs]
    folder = export_for_serving(Model(b.finish(outs)), tmp_path, "kinds")
    found = requests_for(folder)
    assert found.body == {"inputs": {"f": [[0.0, 0.0]], "i": 0, "b": [False, False]}}
    assert [row[0] for row in found.table] == ["f", "i", "b", "f_out", "i_out", "b_out"]


def test_command_line(tmp_path: Path) -> None:
    """``cir serve`` exports a file and prints what to type; its errors are coded."""
    from typer.testing import CliRunner

    from framework_adapter.cli import app

    keras_model().save(tmp_path / "scores.keras")
    base = ["serve", str(tmp_path / "scores.keras"), str(tmp_path / "all"), "scores"]
    done = CliRunner().invoke(app(), base)
    assert done.exit_code == 0, done.output
    assert f"--model_base_path={(tmp_path / 'all' / 'scores').resolve()}" in done.output
    done = CliRunner().invoke(app(), [*base, "--version", "9", "--validate", "no", "--json"])
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["folder"] == str(tmp_path / "all" / "scores" / "9")
    assert found["body"] == {"inputs": {"pixels": [[0.0] * 4]}}
    done = CliRunner().invoke(app(), [*base, "--version", "9"])
    assert done.exit_code == 3 and "E502" in done.output
