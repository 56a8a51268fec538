"""The networks that all targets are measured with: out as AIR and OM, and back to the same digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework_adapter import api, convert, readback, registry
from framework_adapter.cann import emit
from tests import netron
from tests.cann import official
from tests.cann.support import BACKENDS
from tests.models import PAIRS

#: Chips whose lack of operators changes how these networks are written.
CHIPS = ("Ascend310P3", "Ascend910A")


@pytest.mark.parametrize(("network", "framework"), PAIRS)
def test_out_and_back(network: str, framework: str, tmp_path: Path) -> None:
    """Every node fits the prototypes, netron opens the OM, the digest is that of what was written."""
    pair = PAIRS[network, framework]()
    program = api.build(
        pair.model, registry.frontend(pair.framework), inputs=pair.inputs,
        dynamic_shapes=pair.dynamic_shapes,
    )  # fmt: skip
    for target, backend in BACKENDS.items():
        path = tmp_path / f"m.{target}"
        backend.emit(program.model, path)
        found = official.check(path)
        assert found["problems"] == [] and found["nodes_valid"] == found["nodes_checked"] > 30
        back = readback.program(path)
        assert back.digest == program.digest
        assert back.model.graph.outputs == program.model.graph.outputs
    seen = netron.read(tmp_path / "m.om")
    kinds = sorted(n["type"] for n in seen["graphs"][0]["nodes"])
    written = sorted(n.op for n in emit.program(program.model, None).nodes)
    inputs = ["Data"] * len(program.model.graph.inputs)
    assert kinds == sorted([*written, *inputs, "NetOutput"])


@pytest.mark.parametrize("network", ["digits_unet", "bert", "mobilenet_v2", "lstm_classifier"])
def test_other_chips(network: str, tmp_path: Path) -> None:
    """What a chip lacks is decomposed, and reading it back finds the whole again."""
    pair = PAIRS[network, "pytorch"]()
    frontend = registry.frontend(pair.framework)
    program = api.build(pair.model, frontend, inputs=pair.inputs)
    for chip in CHIPS:
        path = tmp_path / "m.air"
        BACKENDS["air"].emit(program.model, path, soc=chip)
        assert official.check(path)["problems"] == []
        assert readback.program(path).digest == program.digest


@pytest.mark.parametrize("target", BACKENDS)
@pytest.mark.parametrize("network", ["digits_unet", "bert", "lstm_classifier"])
def test_numbers(network: str, target: str, tmp_path: Path) -> None:
    """Converted and validated: the file read back computes what PyTorch does."""
    pair = PAIRS[network, "pytorch"]()
    result = convert(
        pair.model, target, tmp_path / f"m.{target}", inputs=pair.inputs,
        dynamic_shapes=pair.dynamic_shapes, soc="Ascend310P3",
    )  # fmt: skip
    assert result.report is not None and result.report.verdict == "PASS"
    assert result.report.scaled_error <= 1e-5
