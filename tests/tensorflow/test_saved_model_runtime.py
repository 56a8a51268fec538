"""Every model of the measured nine, in TensorFlow's C runtime without Python, and what fails there."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework_adapter.api import build, write
from framework_adapter.registry import backend, frontend
from framework_adapter.samples import scaled_error
from framework_adapter.tensorflow import saved_model as sm
from tests.models import PAIRS, example_inputs
from tests.tensorflow import c_runtime

F = np.float32
#: Transposes of each network as the SavedModel computes it: the image's and those of attention's heads.
TRANSPOSES = {
    ("resnet50", "pytorch"): 1,
    ("resnet50", "tensorflow"): 0,
    ("resnet50", "mindspore"): 1,
    ("digits_unet", "tensorflow"): 8,
    ("digits_unet", "pytorch"): 8,
    ("digits_unet", "mindspore"): 8,
    ("mobilenet_v2", "pytorch"): 1,
}


def computation(folder: Path) -> Counter[str]:
    """How often each op occurs in the function that computes."""
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    message.ParseFromString((folder / "saved_model.pb").read_bytes())
    library = message.meta_graphs[0].graph_def.library
    (serve,) = (f for f in library.function if f.signature.name.startswith("__inference_serve"))
    return Counter(n.op for n in serve.node_def)


@pytest.mark.parametrize("network,framework", list(PAIRS), ids=lambda v: v)
def test_models_without_python(network: str, framework: str, tmp_path: Path) -> None:
    """At batch 1 and 5 of one file as the source; read back it is the same program."""
    pair = PAIRS[network, framework]()
    room = frontend(pair.framework)
    program = build(pair.model, room, inputs=pair.inputs, dynamic_shapes=pair.dynamic_shapes)
    out = tmp_path / "m"
    write(program, room, pair.model, backend("saved_model"), out, validate=False)
    extra = sm.description(out)
    assert extra is not None
    for batch in (1, 5):
        feeds = example_inputs(network, batch, seed=3, framework=framework)
        want = _source(network, framework, pair, feeds)
        got, _ = c_runtime.run(out, dict(zip(extra["inputs"], feeds)), extra["outputs"])
        for g, w in zip(got, want, strict=True):
            assert scaled_error(g, w) <= 1e-4
    assert build(str(out), frontend("tensorflow")).digest == program.digest
    if (network, framework) in TRANSPOSES:
        assert computation(out)["Transpose"] == TRANSPOSES[network, framework]


def _source(network: str, framework: str, pair: Any, feeds: Any) -> list[np.ndarray]:
    """The source's results; of MindSpore's ResNet-50, which is slow, those of PyTorch's twin."""
    if (network, framework) == ("resnet50", "mindspore"):
        framework, pair = "pytorch", PAIRS[network, "pytorch"]()
    return frontend(framework).run(pair.model, feeds)


# -- negative controls -----------------------------------------------------------------------------
def _with_python(kind: str) -> Any:
    import tensorflow as tf

    def double(x: Any) -> Any:
        return np.asarray(x) * np.float32(2)

    module = tf.Module()
    wrap = tf.py_function if kind == "py_function" else tf.numpy_function
    module.serve = tf.function(
        lambda x: {"y": tf.ensure_shape(wrap(double, [x], tf.float32), [None, 3])},
        input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")],
    )
    return module


@pytest.mark.parametrize("kind", ["py_function", "numpy_function"])
def test_python_ops_fail_there(kind: str, tmp_path: Path) -> None:
    """Python runs such a model; the C runtime, like TensorFlow Serving, does not."""
    import tensorflow as tf

    module = _with_python(kind)
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.serve)
    x = np.ones((2, 3), F)
    here = tf.saved_model.load(str(tmp_path / "m")).signatures["serving_default"](x=tf.constant(x))
    assert np.array_equal(here["y"].numpy(), 2 * x)
    with pytest.raises(c_runtime.CRuntimeError, match="PyFunc") as info:
        c_runtime.run(tmp_path / "m", {"x": x})
    assert info.value.code == 4


def test_damage_fails_there(tmp_path: Path) -> None:
    """Weights that are missing are found when the model is loaded."""
    from tests.tensorflow.test_saved_model import mlp

    model, feeds = mlp()
    sm.BACKEND.emit(model, tmp_path / "m")
    (tmp_path / "m" / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(c_runtime.CRuntimeError) as info:
        c_runtime.run(tmp_path / "m", dict(zip(("z", "a"), feeds)))
    assert info.value.code == 3


def test_saved_model_cli(tmp_path: Path) -> None:
    """TensorFlow's own tool prints the signature."""
    from tests.tensorflow.test_saved_model import mlp

    sm.BACKEND.emit(mlp()[0], tmp_path / "m")
    tool = Path(sys.executable).with_name("saved_model_cli")
    command = [str(tool), "show", "--dir", str(tmp_path / "m"), "--all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "signature_def['serving_default']" in text
    assert "inputs['z'] tensor_info: dtype: DT_FLOAT shape: (-1, 4)" in text
    assert "outputs['norm'] tensor_info: dtype: DT_FLOAT shape: (-1, 5)" in text
    assert "Method name is: tensorflow/serving/predict" in text
