"""The folder: its parts, names, order, determinism, and what happens when it cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir import interpret, spec
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Model
from framework_adapter import emission, samples
from framework_adapter.tensorflow import program as tf_program
from framework_adapter.tensorflow import saved_model as sm
from tests.cir import samples as models
from tests.onnx.support import program
from tests.tensorflow import c_runtime

F = np.float32
ROOT = Path(__file__).parents[2]


def mlp() -> tuple[Model, list[np.ndarray]]:
    """Inputs and outputs whose order is not that of the alphabet."""
    rng, b = np.random.default_rng(0), Builder("mlp")
    z, a = b.input("z", "float32", ["batch", 4]), b.input("a", "float32", ["batch", 5])
    w = b.const(rng.standard_normal((5, 4)).astype(F), "fc.weight")
    bias = b.const(rng.standard_normal(5).astype(F), "fc.bias")
    y = b.emit("linear", [z, w, bias], name="y")[0]
    n = b.emit("layer_norm", [b.emit("add", [y, a])[0]], name="norm")[0]
    feeds = [rng.standard_normal((3, n)).astype(F) for n in (4, 5)]
    return Model(b.finish([y, n])), feeds


def graph_ops(folder: Path) -> set[str]:
    """Ops of the whole file."""
    from tensorflow.core.protobuf import saved_model_pb2

    from framework_adapter.tensorflow.canonical import nodes

    message = saved_model_pb2.SavedModel()
    message.ParseFromString((folder / "saved_model.pb").read_bytes())
    return {n.op for meta in message.meta_graphs for n in nodes(meta)}


def agrees(model: Model, folder: Path, feeds: list[np.ndarray]) -> None:
    """In TensorFlow, and in its C runtime without Python, with the reference."""
    want = interpret.run(model, feeds)
    extra = sm.description(folder)
    assert extra is not None
    named = dict(zip(extra["inputs"], feeds))
    for got in (sm.run(folder, feeds), c_runtime.run(folder, named, extra["outputs"])[0]):
        assert len(got) == len(model.graph.outputs)
        for name, g in zip(model.graph.outputs, got):
            assert samples.scaled_error(g, np.asarray(want[name])) <= 1e-5


def test_folder(tmp_path: Path) -> None:
    """SavedModel, variables by name, signature with a free batch, the order of inputs and outputs."""
    import tensorflow as tf

    model, feeds = mlp()
    result = sm.BACKEND.emit(model, tmp_path / "m", digest="d1", versions={"torch": "2"})
    files = [str(f.relative_to(tmp_path / "m")) for f in result.files]
    assert files == [
        "saved_model.pb",
        "assets.extra/cir.json",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert all(f.is_file() for f in result.files) and result.path == tmp_path / "m"
    assert result.mapping["y"] == ("y.matmul", "y") and result.node_count > 5
    ends = c_runtime.signature(tmp_path / "m")
    assert ends.method_name == "tensorflow/serving/predict"
    sizes = {k: [d.size for d in v.tensor_shape.dim] for k, v in ends.inputs.items()}
    assert sizes == {"a": [-1, 5], "z": [-1, 4]}
    assert [d.size for d in ends.outputs["norm"].tensor_shape.dim] == [-1, 5]
    extra = json.loads((tmp_path / "m" / "assets.extra" / "cir.json").read_text())
    assert list(extra["inputs"]) == ["z", "a"] and extra["outputs"] == ["y", "norm"]
    assert extra["inputs"]["z"] == ["batch", 4]
    assert extra["digest"] == "d1" and extra["versions"] == {"torch": "2"}
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    weights = {k: v.numpy() for k, v in loaded.weights.items()}
    assert set(weights) == {"fc.weight.T", "fc.bias"} and weights["fc.weight.T"].shape == (4, 5)
    agrees(model, tmp_path / "m", feeds)
    agrees(model, tmp_path / "m", [f[:1] for f in feeds])


def test_read_back(tmp_path: Path) -> None:
    """The frontend finds inputs and outputs in the order of the program, which a signature loses."""
    from framework_adapter.tensorflow import FRONTEND

    model, _ = mlp()
    sm.BACKEND.emit(model, tmp_path / "m")
    source = FRONTEND.extract(tmp_path / "m", None)
    assert list(source.inputs) == ["z", "a"] and source.output_names == ("y", "norm")
    for text in (
        "{",
        "[]",
        '{"inputs": {}, "outputs": ["y", "y"]}',
        '{"inputs": 1, "outputs": []}',
    ):
        (tmp_path / "m" / "assets.extra" / "cir.json").write_text(text)
        assert FRONTEND.extract(tmp_path / "m", None).output_names == ("norm", "y")


def test_ops_are_tensorflows_own(tmp_path: Path) -> None:
    """Nothing is read from Python; weights are variables, numbers are constants."""
    model, _ = mlp()
    sm.BACKEND.emit(model, tmp_path / "m")
    found = graph_ops(tmp_path / "m")
    assert {"MatMul", "BiasAdd", "VarHandleOp", "ReadVariableOp"} <= found
    assert not {o for o in found if "Py" in o}


def test_names(tmp_path: Path) -> None:
    """Inputs keep their names, different ones also as Python names; an output is one value each."""
    b = Builder()
    inputs = [b.input(n, "float32", [2]) for n in ("x.1", "x/1", "b")]
    outs = [b.emit("relu", [x], name=f"{x}.out")[0] for x in inputs]
    c = b.const(np.ones(3, F), "c")
    model = Model(b.finish([*outs, inputs[0], c, outs[1]]))
    sm.BACKEND.emit(model, tmp_path / "m")
    extra = sm.description(tmp_path / "m")
    assert extra is not None
    assert list(extra["inputs"]) == ["x.1", "x/1_1", "b"]
    assert extra["outputs"][:3] == ["x.1.out", "x/1.out", "b.out"]
    assert len(set(extra["outputs"])) == 6
    got = sm.run(tmp_path / "m", [np.array([-i, i], F) for i in range(3)])
    assert [g.tolist() for g in got] == [[0, 0], [0, 1], [0, 2], [0, 0], [1, 1, 1], [0, 1]]


def test_control_flow_without_python(tmp_path: Path) -> None:
    """Branches and loops, with their functions, in the C runtime."""
    agrees_with = [
        (Model(models.cond()), [np.array(False), np.arange(20, dtype=F)]),
        (models.loop(), [np.array(0), np.array(3), np.ones(2, F), np.array(1.5, F)]),
        (models.dynamic(), [np.arange(15, dtype=F).reshape(3, 5), np.array([True, False, True])]),
    ]
    for i, (model, feeds) in enumerate(agrees_with):
        sm.BACKEND.emit(model, tmp_path / str(i))
        agrees(model, tmp_path / str(i), feeds)
    extra = sm.description(tmp_path / "1")
    assert extra is not None and extra["state"] == [["acc", "loop.1"]]


@pytest.mark.parametrize("op", ["conv", "lstm", "scaled_dot_product_attention", "resize", "topk"])
def test_samples_without_python(op: str, tmp_path: Path) -> None:
    """Some ops of each kind, written and run in the C runtime."""
    for i, sample in enumerate(spec.get(op).samples[:2]):
        model, feeds = program(op, sample)
        sm.BACKEND.emit(model, tmp_path / str(i))
        agrees(model, tmp_path / str(i), feeds)


CODE = """
import sys
from pathlib import Path
from framework_adapter.tensorflow import saved_model as sm
from tests.cir import samples
from tests.tensorflow.test_saved_model import mlp

made = {"mlp": mlp()[0], "loop": samples.loop(), "dynamic": samples.dynamic()}
for name in sys.argv[1:]:
    sm.BACKEND.emit(made[name], Path(name))
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Under another hash seed, and after other work."""
    found = []
    for seed, order in (("1", ["mlp", "loop", "dynamic"]), ("2", ["dynamic", "loop", "mlp"])):
        work = tmp_path / seed
        work.mkdir()
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", CODE, *order]
        done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        files = sorted(p for p in work.rglob("*") if p.is_file())
        found.append({str(p.relative_to(work)): p.read_bytes() for p in files})
    assert len(found[0]) == 12
    assert found[0] == found[1]


# -- what cannot be written ------------------------------------------------------------------------
def test_earlier_results_are_replaced_and_others_are_not(tmp_path: Path) -> None:
    """An earlier SavedModel goes; a folder of other files, or a file, is left alone (E502)."""
    model, feeds = mlp()
    for _ in range(2):
        sm.BACKEND.emit(model, tmp_path / "m")
    agrees(model, tmp_path / "m", feeds)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("kept")
    for name in ("work", "file"):
        with pytest.raises(CirError) as info:
            sm.BACKEND.emit(model, tmp_path / name)
        assert info.value.code == "E502"
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "m", "work"]


@pytest.mark.parametrize("how", ["path", "system", "tensorflow"])
def test_nothing_half_written(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path through a file, a full disk as Python and as TensorFlow report it: E502, no traces."""
    import tensorflow as tf

    model, _ = mlp()
    out = tmp_path / "new" / "m"
    if how == "path":
        (tmp_path / "new").write_text("a file")
    elif how == "system":
        real = Path.write_bytes

        def full(self: Path, data: bytes) -> int:
            real(self, data[:10])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
    else:

        def save(module: Any, path: str, **_: Any) -> None:
            Path(path).mkdir()
            Path(path, "saved_model.pb").write_bytes(b"half")
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

        monkeypatch.setattr(tf.saved_model, "save", save)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CirError) as info:
        sm.BACKEND.emit(model, out)
    assert info.value.code == "E502"
    assert how == "path" or "No space left" in str(info.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_size_limit(tmp_path: Path) -> None:
    """The system itself refuses to let the weights grow: E502 and nothing left, in a process."""
    code = (
        "import resource, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "import tensorflow\n"
        "from pathlib import Path\n"
        "from cir.diagnostics import CirError\n"
        "from framework_adapter.tensorflow import saved_model as sm\n"
        "from tests.tensorflow.test_saved_model import mlp\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "model, _ = mlp(); sm.table()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))\n"
        "try: sm.BACKEND.emit(model, Path('m'))\n"
        "except CirError as exc: print(exc.code)\n"
    )
    command = [sys.executable, "-c", code, str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["E502"], done.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []


def test_unsupported_ops(tmp_path: Path) -> None:
    """All of them are named at once (E501), before anything is written."""
    b = Builder()
    x = b.input("x", "uint64", [3, 4])
    y = b.emit("abs", [b.emit("neg", [x], name="first")[0]], name="second")[0]
    with pytest.raises(CirError) as info:
        sm.BACKEND.emit(Model(b.finish([y])), tmp_path / "m")
    assert [d.code for d in info.value.diagnostics] == ["E501", "E501"]
    assert list(tmp_path.iterdir()) == []


def test_python_ops_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row cannot name one, and one that a handler made is found in the graph (E504)."""
    import tensorflow as tf

    rows = sm.table()
    assert rows.target.takes("EagerPyFunc", 0) is None and rows.target.takes("MyOp", 0) is None
    build = tf_program.build

    def with_python(*args: Any) -> Any:
        module = build(*args)
        serve = module.serve.python_function

        def wrapped(x: Any) -> Any:
            (name, y), *_ = serve(x).items()
            return {name: tf.numpy_function(lambda v: v, [y], tf.float32)}

        module.serve = tf.function(wrapped, input_signature=module.serve.input_signature)
        return module

    monkeypatch.setattr(tf_program, "build", with_python)
    model, _ = program("relu", spec.get("relu").samples[0])
    with pytest.raises(CirError, match="PyFunc") as info:
        sm.BACKEND.emit(model, tmp_path / "m")
    assert info.value.code == "E504" and list(tmp_path.iterdir()) == []


def test_without_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E901 names the extra to install."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    sm.table.cache_clear()
    model, feeds = mlp()
    for call in (lambda: sm.BACKEND.emit(model, tmp_path / "m"), lambda: sm.run(tmp_path, feeds)):
        with pytest.raises(CirError, match=r"framework-adapter\[tensorflow\]") as info:
            call()
        assert info.value.code == "E901"


def test_wrong_feeds(tmp_path: Path) -> None:
    """Number and dtype of the values (E103), shapes that TensorFlow refuses, no model (E504)."""
    model, feeds = mlp()
    sm.BACKEND.emit(model, tmp_path / "m")
    for wrong, code in (
        (feeds[:1], "E103"),
        ([feeds[0].astype(np.float64), feeds[1]], "E103"),
        ([feeds[0][:, :3], feeds[1]], "E504"),
    ):
        with pytest.raises(CirError) as info:
            sm.run(tmp_path / "m", wrong)
        assert info.value.code == code
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no message")
    for path in (tmp_path / "missing", broken):
        with pytest.raises(CirError) as info:
            sm.run(path, feeds)
        assert info.value.code == "E504"


def test_rows_of_another_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for an op that TensorFlow lacks makes its IR op illegal: it is decomposed."""
    real = sm.table()
    raw = {"op": "softmax", "emit": "FastSoftmax(x)"}
    rows = {**real.rows, "softmax": emission.Row("softmax", raw)}
    monkeypatch.setattr(sm, "table", lambda: emission.Emission(rows, real.target))
    model, feeds = program("softmax", spec.get("softmax").samples[0])
    sm.BACKEND.emit(model, tmp_path / "m")
    agrees(model, tmp_path / "m", feeds)
    assert "Softmax" not in graph_ops(tmp_path / "m")
