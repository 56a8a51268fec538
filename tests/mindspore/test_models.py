"""The demo networks: the IR's result is MindSpore's, for fixed and symbolic batch."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("mindspore")

from demos.models import mindspore as models  # noqa: E402
from framework_adapter import mapping, samples  # noqa: E402
from framework_adapter.lowering import lower  # noqa: E402
from framework_adapter.mindspore import FRONTEND  # noqa: E402
from framework_adapter.source import InputSpec  # noqa: E402

TABLE = mapping.load("mindspore")


def lowered(net: Any, name: str, batch: int | str) -> Any:
    inputs = models.example_inputs(name)
    specs = [InputSpec(None, v.dtype.name, (batch, *v.shape[1:])) for v in inputs]
    return lower(FRONTEND.extract(net, specs), TABLE)


def error(net: Any, model: Any, name: str, batch: int) -> float:
    feeds = models.example_inputs(name, batch)
    (got,), (want,) = samples.interpret(model, feeds), FRONTEND.run(net, feeds)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    return samples.scaled_error(got, want)


def test_digits_unet() -> None:
    net = models.digits_unet()
    fixed, symbolic = lowered(net, "digits_unet", 1), lowered(net, "digits_unet", "batch")
    assert [n.op for n in fixed.graph.nodes] == [n.op for n in symbolic.graph.nodes]
    assert error(net, fixed, "digits_unet", 1) <= 1e-5
    for batch in (1, 5):
        assert error(net, symbolic, "digits_unet", batch) <= 1e-5


def test_resnet50() -> None:
    net = models.resnet50()
    model = lowered(net, "resnet50", 1)
    assert error(net, model, "resnet50", 1) <= 1e-5
    pools = [n for n in model.graph.nodes if n.op == "max_pool"]
    assert [p.attrs["kernel"] for p in pools] == [(3, 3)]
