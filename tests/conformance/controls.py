"""Wrong artefacts, one thing wrong with each: the checks of ``exits`` must catch every one.

``CONTROLS[target]`` maps a name to a function that makes the artefact in a folder and says whether it was caught.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cir.builder import Builder
from cir.graph import Const, Model

Control = Callable[[Path], bool]


@cache
def network() -> Model:
    """A convolution, a relu and a linear: small, and of all that the controls change."""
    b, rng = Builder(), np.random.default_rng(0)

    def weight(name: str, *shape: int) -> str:
        return b.const(rng.standard_normal(shape).astype(np.float32), name)

    x = b.input("x", "float32", (1, 3, 6, 8))
    attrs = {"strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1]}
    (h,) = b.emit("conv", [x, weight("kernel", 4, 3, 3, 3), weight("bias", 4)], attrs, name="conv")
    (h,) = b.emit("relu", [h], name="relu")
    (h,) = b.emit("mean", [h], {"axis": [-2, -1], "keepdims": False}, name="mean")
    return Model(b.finish(b.emit("linear", [h, weight("matrix", 5, 4)], name="y")))


def written(target: str, folder: Path, model: Model | None = None) -> Path:
    """An artefact of the network, or of another model."""
    from framework_adapter.registry import backend
    from tests.conformance.exits import TARGETS

    path = folder / f"model{TARGETS[target]}"
    backend(target).emit(model or network(), path)
    return path


def fails(check: Callable[[], Any], *errors: type[Exception]) -> bool:
    """Whether a check raises one of these errors."""
    try:
        check()
    except errors:
        return True
    return False


def changed_weight(target: str) -> Control:
    """One number of one weight is another: the results differ beyond the tolerance."""

    def control(folder: Path) -> bool:
        from cir.interpret import run as interpret
        from framework_adapter.samples import scaled_error
        from tests.conformance.exits import OTHERWISE, TOLERANCE, run

        graph = network().graph
        kernel = graph.consts["kernel"].numpy().copy()
        kernel[2, 1, 1, 1] += 0.02
        other = network().with_graph(
            graph.with_(consts={**graph.consts, "kernel": Const.of(kernel)})
        )
        x = np.random.default_rng(1).standard_normal((1, 3, 6, 8)).astype(np.float32)
        (wanted,) = interpret(network(), {"x": x}).values()
        limit = TOLERANCE.get(target, OTHERWISE)
        errors = []
        for name, model in (("right", network()), ("wrong", other)):
            (folder / name).mkdir()
            (found,) = run(target, written(target, folder / name, model), [x])
            errors.append(scaled_error(found, wanted))
        return errors[0] <= limit < errors[1]

    return control


# -- ONNX ------------------------------------------------------------------------------------------
def unknown_onnx_op(folder: Path) -> bool:
    """A node of an op that the standard lacks."""
    import onnx

    from tests.conformance.exits import onnx_accepts

    path = written("onnx", folder)
    onnx_accepts(path)
    model = onnx.load(path)
    next(n for n in model.graph.node if n.op_type == "Relu").op_type = "Rely"
    onnx.save(model, path)
    return fails(lambda: onnx_accepts(path), onnx.checker.ValidationError)


# -- SavedModel ------------------------------------------------------------------------------------
def python_in_saved_model(function: str) -> Control:
    """A model that calls back into Python loads here, and must not where there is no Python."""

    def control(folder: Path) -> bool:
        import tensorflow as tf

        from tests.tensorflow import c_runtime

        call = getattr(tf, function)

        class Calls(tf.Module):
            @tf.function(input_signature=[tf.TensorSpec([2], tf.float32, name="x")])
            def serve(self, x: Any) -> dict[str, Any]:
                return {"y": tf.reshape(call(lambda v: v * np.float32(2), [x], tf.float32), [2])}

        path = folder / "model"
        module = Calls()
        tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
        x = np.ones(2, np.float32)
        here = tf.saved_model.load(str(path)).signatures["serving_default"](x=tf.constant(x))
        assert np.allclose(here["y"], 2)
        return fails(lambda: c_runtime.run(path, {"x": x}), c_runtime.CRuntimeError)

    return control


# -- MindSpore Lite --------------------------------------------------------------------------------
def channels_first_conv(folder: Path) -> bool:
    """A convolution that is fed [N, C, H, W]."""
    from framework_adapter.mindspore.lite import flat
    from tests.mindspore.lite import nnacl

    path = written("mslite", folder)
    model = flat.unpack(path.read_bytes())
    right = nnacl.check_model(model)
    assert right["agree"] == right["checkable"] and not right["problems"]
    conv = next(n for n in model["nodes"] if n["primitive"]["value"][0].startswith("Conv2D"))
    inputs = np.array(conv["inputIndex"])
    inputs[0] = model["inputIndex"][0]  # past the transpose
    conv["inputIndex"] = inputs
    found = nnacl.check_model(model)
    return any(p["node"] == conv["name"] for p in found["problems"])


# -- AIR and OM ------------------------------------------------------------------------------------
def spoilt(target: str, change: Callable[[Any], None]) -> Control:
    """The ModelDef of a file with one change, through the official descriptor and prototypes."""

    def control(folder: Path) -> bool:
        from tests.cann import official

        data = official.graph_bytes(written(target, folder))
        right = official.check_bytes(data)
        assert right["nodes_valid"] == right["nodes_checked"] and not right["problems"]
        model = official.model_def()()
        model.ParseFromString(data)
        change(next(op for op in model.graph[0].op if op.type.startswith("Conv2D")))
        found = official.check_bytes(model.SerializeToString(deterministic=True))
        return found["nodes_valid"] < found["nodes_checked"] and bool(found["problems"])

    return control


def wrong_attribute(op: Any) -> None:
    """Strides as a string."""
    op.attr["strides"].Clear()
    op.attr["strides"].s = b"1,1,1,1"


def missing_input(op: Any) -> None:
    """A convolution without its weight."""
    del op.input[1:]
    del op.input_desc[1:]


def unknown_op(op: Any) -> None:
    """An op that GE does not have."""
    op.type = "Conv2DOfNobody"


def _ascend(target: str) -> dict[str, Control]:
    changes = (wrong_attribute, missing_input, unknown_op)
    return {c.__name__.replace("_", " "): spoilt(target, c) for c in changes}


CONTROLS: Mapping[str, Mapping[str, Control]] = {
    target: {"changed weight": changed_weight(target), **own}
    for target, own in {
        "onnx": {"unknown op": unknown_onnx_op},
        "saved_model": {f: python_in_saved_model(f) for f in ("py_function", "numpy_function")},
        "mslite": {"channels-first convolution": channels_first_conv},
        "air": _ascend("air"),
        "om": _ascend("om"),
    }.items()
}
