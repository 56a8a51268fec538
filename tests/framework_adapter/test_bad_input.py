"""Whatever is wrong: a coded error with a place and a next step, and nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.diagnostics import CirError
from framework_adapter import InputSpec, convert

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., CirError]:
    """Convert, expect an error of a code, and see that the output folder was not touched."""

    def run(code: str, model: Any, target: str = "onnx", exit_code: int = 4, **kw: Any) -> CirError:
        out = tmp_path / "out" / "new" / "m.onnx"
        with pytest.raises(CirError) as e:
            convert(model, target, out, **kw)
        assert e.value.code == code, e.value
        assert e.value.exit_code == exit_code
        assert not (tmp_path / "out").exists()
        first = e.value.diagnostics[0]
        assert first.what and (first.fix or first.nearest or first.where), f"no next step: {first}"
        return e.value

    return run


def linear() -> Any:
    return torch.nn.Linear(4, 3).eval()


# -- the model -------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize(
    ("name", "framework"),
    [
        ("no.pt2", None),
        ("no.keras", None),
        ("no.pb", None),
        ("no_folder", None),
        ("no_folder", "tensorflow"),
        ("no.mindir", None),
        ("no.onnx", None),
        ("no.bin", "onnx"),
        ("no.bin", None),
    ],
)
def test_missing_file(kind: Any, name: str, framework: str | None, refused: Any, tmp_path: Path) -> None:
    e = refused("E101", kind(tmp_path / name), framework=framework)
    assert name in str(e)


@pytest.mark.parametrize("name", ["junk.pt2", "junk.keras", "junk.pb", "junk.mindir", "junk.onnx"])
def test_unreadable_file(name: str, refused: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow" if name.endswith((".keras", ".pb")) else "torch")
    (tmp_path / name).write_bytes(b"junk")
    e = refused("E105", tmp_path / name)
    assert e.diagnostics[0].why or e.diagnostics[0].where


def test_weights_are_not_a_model(refused: Any, tmp_path: Path) -> None:
    torch.save(linear().state_dict(), tmp_path / "weights.pt")
    assert "load_state_dict" in str(refused("E105", tmp_path / "weights.pt"))
    assert "OrderedDict" in str(refused("E104", linear().state_dict()))


def test_no_model_at_all(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("x")
    refused("E104", tmp_path / "model.txt")
    refused("E104", None)
    refused("E104", 3, framework="pytorch")
    assert "tf.function" in str(refused("E104", lambda x: x, framework="pytorch"))
    assert "Linear(...)" in str(refused("E104", torch.nn.Linear))


def test_unknown_and_wrong_framework(refused: Any) -> None:
    assert "mindspore" in str(refused("E104", linear(), framework="caffe"))
    e = refused("E104", linear(), framework="tensorflow", inputs=(X,))
    assert "framework='pytorch'" in e.diagnostics[0].fix


def test_training_mode(refused: Any) -> None:
    e = refused("E102", torch.nn.Sequential(torch.nn.Dropout()), inputs=(X,))
    assert "model.eval()" in str(e)
    ms = pytest.importorskip("mindspore")
    assert "set_train(False)" in str(refused("E102", ms.nn.Dense(4, 3).set_train(True), inputs=(X,)))


def test_training_step_of_tensorflow(refused: Any) -> None:
    tf = pytest.importorskip("tensorflow")

    class Step(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable(1.0)

        @tf.function(input_signature=[tf.TensorSpec([2], tf.float32)])
        def __call__(self, x):
            self.w.assign_add(1.0)
            return x * self.w

    assert "training" in str(refused("E102", Step()))


def test_the_models_own_bug(refused: Any) -> None:
    class Bad(torch.nn.Module):
        def forward(self, x):
            raise ValueError("my bug")

    assert "ValueError: my bug" in str(refused("E103", Bad().eval(), inputs=(X,)))


def test_no_results(refused: Any) -> None:
    class Silent(torch.nn.Module):
        def forward(self, x):
            return None

    refused("E105", Silent().eval(), inputs=(X,))


def test_control_flow_on_values(refused: Any) -> None:
    class Branch(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    assert "torch.cond" in str(refused("E105", Branch().eval(), inputs=(X,)))


class Odd(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.svd(x)[1], torch.special.bessel_j0(x), torch.special.bessel_j0(x + 1)


def test_unsupported_ops_are_all_listed(refused: Any) -> None:
    e = refused("E201", Odd().eval(), inputs=(X,), exit_code=3)
    found = {d.what.split()[2]: d for d in e.diagnostics}
    assert len(found) == 2 and all(d.code == "E201" for d in e.diagnostics)
    svd = next(d for op, d in found.items() if "svd" in op)
    bessel = next(d for op, d in found.items() if "bessel" in op)
    assert "×2" in bessel.what
    for d in (svd, bessel):
        assert "test_bad_input.py" in d.where and "custom_ops_mapping" in d.fix


# -- inputs ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"inputs": (X, X)},
        {"inputs": (X[:, :3],)},
        {"inputs": (X[0, :3],)},
        {"inputs": (X.astype(np.int64),)},
        {"inputs": (X.astype(np.float64),)},
        {"inputs": {"nope": X}},
        {"inputs": (object(),)},
        {"inputs": ("a name",)},
        {"inputs": (InputSpec(None, "float31", (2, 4)),)},
        {"inputs": (X,), "dynamic_shapes": {"nope": {0: "n"}}},
        {"inputs": (X,), "dynamic_shapes": {0: {7: "n"}}},
        {"dynamic_shapes": [{0: "n"}]},
        {"inputs": (X,), "outputs": ["nope"]},
    ],
)
def test_wrong_inputs_pytorch(given: dict[str, Any], refused: Any) -> None:
    refused("E103", linear(), **given)


WRONG = [(X, X), (X[:, :3],), (X[0],), (X.astype(np.int32),)]


@pytest.mark.parametrize("inputs", WRONG)
def test_wrong_inputs_tensorflow(inputs: Any, refused: Any) -> None:
    keras = pytest.importorskip("keras")
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    refused("E103", net, inputs=inputs)


@pytest.mark.parametrize("inputs", [None, *WRONG[:2], WRONG[3]])
def test_wrong_inputs_mindspore(inputs: Any, refused: Any) -> None:
    ms = pytest.importorskip("mindspore")
    refused("E103", ms.nn.Dense(4, 3).set_train(False), inputs=inputs)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("files") / "linear.onnx"
    return convert(linear(), "onnx", out, inputs=(X,), validate=False).artifact


@pytest.mark.parametrize("inputs", [*WRONG, {"nope": X}, ["nope"]])
def test_wrong_inputs_onnx(inputs: Any, onnx_file: Path, refused: Any) -> None:
    refused("E103", onnx_file, inputs=inputs)


# -- options ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("E100", {"precision": "int3"}),
        ("E100", {"input_layout": "nhwc"}),
        ("E100", {"validate": "maybe"}),
        ("E100", {"validate": 0}),
        ("E401", {"fusion": "fastest"}),
        ("E401", {"fusion": ["group_norm_sillu"]}),
        ("E503", {"target": "tflite"}),
        ("E503", {"target": "om", "soc": "Ascend9999"}),
        ("E503", {"opset": 3}),
        ("E503", {"profile": "gpu"}),
    ],
)
def test_wrong_options(code: str, options: dict[str, Any], refused: Any) -> None:
    exits = {"E100": 2, "E401": 4, "E503": 3}
    refused(code, linear(), inputs=(X,), exit_code=exits[code], **options)


def test_a_report_needs_validation(refused: Any, tmp_path: Path) -> None:
    refused(
        "E100", linear(), inputs=(X,), validate=False, report=tmp_path / "r.html", exit_code=2
    )
    refused("E100", linear(), "cir", inputs=(X,), opset=17, exit_code=2)
    assert not list(tmp_path.iterdir())


# -- rows ------------------------------------------------------------------------------------------
OP = "aten.hardshrink.default"
GOOD = {"op": OP, "args": "self, lambd=0.5", "emit": "where(greater(abs(self), lambd), self, 0.0)"}


@pytest.mark.parametrize(
    "row",
    [
        {"args": "self", "emit": "relu(self)", "bogus": 1},
        {"args": "self, lambd=0.5"},
        {"args": "self, lambd=0.5", "emit": "shrink_hard(self)"},
        {"args": "self, lambd=0.5", "emit": "relu(other)"},
        {"args": "self, lambd=0.5", "emit": "relu(self", "note": "a missing bracket"},
        {"args": "self,, lambd", "emit": "relu(self)"},
        {"args": "self", "handler": "no_such_handler"},
        3,
        lambda c, node, x, lambd=0.5: 1 / 0,
    ],
)
def test_wrong_row(row: Any, refused: Any) -> None:
    e = refused(
        "E203", torch.nn.Hardshrink().eval(), inputs=(X,), custom_ops_mapping={OP: row}, exit_code=3
    )
    assert OP in str(e)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("E101", None),
        ("E203", "junk"),
        ("E203", "[]"),
        ("E203", '{"framework": "pytorch", "family": "mine"}'),
        ("E203", '{"framework": "mindspore", "family": "mine", "rows": []}'),
        ("E203", '{"framework": "pytorch", "family": "a", "family": "b", "rows": []}'),
        ("E203", json.dumps({"framework": "pytorch", "family": "mine", "rows": [GOOD]})),
        ("E203", json.dumps({"framework": "pytorch", "family": "mine", "rows": 3})),
    ],
)
def test_wrong_table(code: str, text: str | None, refused: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text)
    exits = {"E101": 4, "E203": 3}
    e = refused(code, linear(), inputs=(X,), mappings=[path], exit_code=exits[code])
    assert "mine.json" in str(e)


def test_a_row_that_fails_its_sample(refused: Any, tmp_path: Path) -> None:
    row = {**GOOD, "emit": "relu(self)", "samples": [["float32[2,3]"]]}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"framework": "pytorch", "family": "mine", "rows": [row]}))
    e = refused("E204", linear(), inputs=(X,), mappings=[path], exit_code=3)
    assert OP in str(e) and "mine.json" in str(e)


# -- strategies ------------------------------------------------------------------------------------
STRATEGY = {
    "id": "mine",
    "schema": 1,
    "stage": "canonicalise",
    "summary": "the square root of a square is the absolute value",
    "inputs": {"x": "float[*]"},
    "match": ["s = square(x)", "y = sqrt(s)"],
    "replace": ["y = abs(x)"],
    "numerics": "reassociate",
}


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("E401", {"bogus": 1}),
        ("E401", {"stage": "later"}),
        ("E401", {"match": ["y = squrt(x)"]}),
        ("E401", {"id": "yours"}),
        ("E401", {"replace": []}),
        ("E402", {"replace": ["y = identity(x)"]}),
        ("E402", {"numerics": "exact", "match": ["y = sigmoid(x)"], "replace": ["y = tanh(x)"]}),
    ],
)
def test_wrong_strategy(code: str, change: dict[str, Any], refused: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**STRATEGY, **change}))
    e = refused(code, linear(), inputs=(X,), strategies=[path])
    assert "mine" in str(e)


def test_missing_strategy(refused: Any, tmp_path: Path) -> None:
    assert "no.json" in str(refused("E401", linear(), inputs=(X,), strategies=[tmp_path / "no.json"]))


# -- writing ---------------------------------------------------------------------------------------
def test_unwritable_output(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept.txt").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    for out, more in (
        (tmp_path / "file" / "m.onnx", {}),
        (tmp_path / "folder", {}),
        (tmp_path / "m.onnx", {"report": tmp_path / "folder"}),
        (tmp_path / "m.onnx", {"report": tmp_path / "file" / "r.html"}),
    ):
        stages: list[str] = []
        with pytest.raises(CirError) as e:
            convert(linear(), "onnx", out, inputs=(X,), progress=stages.append, **more)
        assert e.value.code == "E502" and e.value.exit_code == 3 and e.value.diagnostics[0].fix
        assert not stages  # found before the work
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("full", ["auto", "full"])
def test_precision_failure(full: str, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()).eval()
    out, report = tmp_path / "out" / "m.onnx", tmp_path / "r.html"
    with pytest.raises(CirError) as e:
        convert(
            model,
            "onnx",
            out,
            inputs=(X,),
            custom_ops_mapping={"aten.relu.default": {"args": "self", "emit": "neg(self)"}},
            validate=full,
            report=report,
        )
    assert e.value.code == "E601" and e.value.exit_code == 1
    assert "FAIL" in report.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_interrupted(tmp_path: Path) -> None:
    def stop(text: str) -> None:
        if text == "validate":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(linear(), "onnx", tmp_path / "new" / "m.onnx", inputs=(X,), progress=stop)
    assert not list(tmp_path.iterdir())


def test_a_failed_conversion_keeps_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    out.write_text("old")
    with pytest.raises(CirError):
        convert(Odd().eval(), "onnx", out, inputs=(X,))
    assert out.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


# -- packages --------------------------------------------------------------------------------------
BLOCK = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {gone!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Gone())
sys.argv = ["cir", "convert", *{argv!r}]
from framework_adapter.cli import main
main()
"""


@pytest.mark.parametrize(
    ("name", "gone", "extra"),
    [
        ("m.pt2", ["torch"], "torch"),
        ("m.keras", ["tensorflow", "keras"], "tensorflow"),
        ("m.onnx", ["onnx"], "onnx"),
        ("code.py:make", ["torch"], "torch"),
        ("code.py:cell", ["mindspore"], "mindspore"),
    ],
)
def test_missing_package(name: str, gone: list[str], extra: str, tmp_path: Path) -> None:
    path = tmp_path / name.partition(":")[0]
    path.write_text("def make(): import torch\ndef cell(): from mindspore import nn\n")
    argv = [str(tmp_path / name), str(tmp_path / "out" / "m.onnx"), "--input", "x:float32[1]"]
    run = [sys.executable, "-c", BLOCK.format(gone=gone, argv=argv)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 5, done.stderr
    assert "E901" in done.stderr and f"framework-adapter[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout
    assert not (tmp_path / "out").exists()
