"""The class-style API: convert once, save in several formats, write the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.diagnostics import CirError
from framework_adapter import (
    ConvertedModel,
    MindSporeConverter,
    TFConverter,
    TorchConverter,
    convert,
)

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

ROW = {"args": "self, lambd=0.5", "emit": "where(greater(abs(self), lambd), self, 0.0)"}


def block() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, padding=1),
        torch.nn.GroupNorm(2, 8),
        torch.nn.SiLU(),
        torch.nn.Hardshrink(),
    ).eval()


@pytest.fixture(scope="module")
def converted() -> ConvertedModel:
    converter = TorchConverter(
        target="Ascend310P3",
        enable_aigc_opt=True,
        custom_ops_mapping={"aten.hardshrink.default": ROW},
    )
    return converter.convert(block(), input_shape=(1, 4, 8, 8), fusion_config="sd_optimized")


def test_saves_in_several_formats(converted: ConvertedModel, tmp_path: Path) -> None:
    import cir

    assert converted.target == "Ascend310P3"
    first = converted.save(tmp_path / "m.onnx", validate=False)
    again = converted.save(str(tmp_path / "again.onnx"), validate=False)
    assert first.artifact.read_bytes() == again.artifact.read_bytes()
    assert first.trace == again.trace  # writing twice leaves nothing behind in the program
    result = converted.save(tmp_path / "m.cir.json")
    assert result.report is not None and result.report.verdict == "PASS"
    model = cir.load(tmp_path / "m.cir.json")
    assert cir.structure_digest(model).hex == converted.digest == result.digest
    assert "group_norm_silu" in result.stats["strategies"]


def test_validation_report(converted: ConvertedModel, tmp_path: Path) -> None:
    report = converted.generate_validation_report(tmp_path / "new" / "report.html")
    assert report.verdict == "PASS" and report.mode == "full"
    assert "PASS" in (tmp_path / "new" / "report.html").read_text()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["report.html"]


def test_agrees_with_convert(tmp_path: Path) -> None:
    x = np.ones((1, 4, 8, 8), np.float32)
    model = block()[:3].eval()
    made = TorchConverter(enable_aigc_opt=True).convert(model, inputs=(x,))
    result = convert(
        model, "onnx", tmp_path / "b.onnx", inputs=(x,), fusion="sd_optimized", validate=False
    )
    made.save(tmp_path / "a.onnx", validate=False)
    assert made.digest == result.digest
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_shapes_and_symbols(tmp_path: Path) -> None:
    class Add(torch.nn.Module):
        def forward(self, a, b):
            return a + b

    two = TorchConverter().convert(Add().eval(), input_shape=[(2, 3), (3,)])
    assert [s.shape for s in two.program.specs] == [(2, 3), (3,)]
    named = TorchConverter().convert(torch.nn.ReLU().eval(), input_shape=("n", 3))
    assert named.program.specs[0].shape == ("n", 3)
    scalar = TorchConverter().convert(torch.nn.ReLU().eval(), input_shape=())
    assert scalar.program.specs[0].shape == ()


@pytest.mark.parametrize("name", ["m.om", "m.air", "m.ms", "saved_model"])
def test_every_format(converted: ConvertedModel, name: str, tmp_path: Path) -> None:
    result = converted.save(tmp_path / name)
    assert result.report is not None and result.report.verdict == "PASS"
    assert result.report.scaled_error <= 1e-4
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_the_converters_device_is_the_soc(tmp_path: Path) -> None:
    made = TorchConverter(target="Ascend9999").convert(block(), input_shape=(1, 4, 8, 8))
    with pytest.raises(CirError) as e:
        made.save(tmp_path / "m.om")
    assert "Ascend9999" in str(e.value) and not list(tmp_path.iterdir())


def test_options_are_the_targets_own(tmp_path: Path) -> None:
    for target, options in (("cir", {"opset": 18}), ("onnx", {"weights": "fp16"})):
        with pytest.raises(CirError) as e:
            convert(block(), target, tmp_path / "m", inputs=(np.ones((1, 4, 8, 8), "f4"),), **options)
        assert e.value.code == "E100" and next(iter(options)) in str(e.value)


def test_unknown_suffix(converted: ConvertedModel, tmp_path: Path) -> None:
    with pytest.raises(CirError) as e:
        converted.save(tmp_path / "m.tflite")
    assert e.value.code == "E503" and ".onnx" in e.value.diagnostics[0].nearest


def test_a_converter_takes_its_own_framework() -> None:
    with pytest.raises(CirError) as e:
        TFConverter().convert(torch.nn.ReLU().eval(), input_shape=(2,))
    assert e.value.code == "E104" and "pytorch" in str(e.value)


def test_tensorflow_and_mindspore(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    ms = pytest.importorskip("mindspore")
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu")])
    cell = ms.nn.SequentialCell(ms.nn.Dense(4, 3), ms.nn.ReLU()).set_train(False)
    for converter, model in ((TFConverter(), net), (MindSporeConverter(), cell)):
        made = converter.convert(model, input_shape=(2, 4))
        result = made.save(tmp_path / "m.onnx")
        assert result.report is not None and result.report.verdict == "PASS"
        assert result.stats["nodes_emitted"] == 2
