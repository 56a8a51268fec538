"""ONNX for atc: opset 18, the standard domain, only ops that GE's parser registers."""

from __future__ import annotations

from pathlib import Path

import pytest

from cir import spec
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Model
from framework_adapter import convert
from framework_adapter.onnx import kernels
from framework_adapter.onnx.emit import table
from tests.models import PAIRS
from tests.onnx.support import check, program

PROFILE = kernels.load("ge-safe")
#: Composites of the IR that are written by others, and basic ops that GE's parser has nothing for.
REFUSED = {"quantize": "QuantizeLinear"}


def fits(path: Path) -> list[str]:
    """Ops of a file; all must be in the profile, of its opset and domain."""
    import onnx

    model = onnx.load(path)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    found = [(n.domain, n.op_type) for n in model.graph.node]
    assert not [f for f in found if f[0] or f[1] not in PROFILE.kernels]
    return [op for _, op in found]


def test_the_profile() -> None:
    """Opset 18 and nothing else; nothing contributed; none of what GE has no parser for."""
    assert (PROFILE.lowest, PROFILE.base, PROFILE.highest) == (18, 18, 18)
    assert not PROFILE.domains and len(PROFILE.kernels) > 100
    absent = (
        "Gelu", "GroupNormalization", "RMSNormalization", "Attention", "Loop", "Scan", "RNN",
        "QuantizeLinear", "DequantizeLinear", "MultiHeadAttention", "QuickGelu", "ReduceL1",
    )  # fmt: skip
    assert not set(absent) & set(PROFILE.kernels)
    assert {"Conv", "LSTM", "LayerNormalization", "InstanceNormalization"} <= set(PROFILE.kernels)


@pytest.mark.parametrize(
    ("network", "framework"), [p for p in PAIRS if p[0] != "resnet50" or p[1] == "pytorch"]
)
def test_networks(network: str, framework: str, tmp_path: Path) -> None:
    """Every op of the file is registered, and ONNX Runtime computes what the source does."""
    pair = PAIRS[network, framework]()
    result = convert(
        pair.model, "onnx", tmp_path / "m.onnx", framework=pair.framework, inputs=pair.inputs,
        dynamic_shapes=pair.dynamic_shapes, profile="ge-safe",
    )  # fmt: skip
    assert fits(tmp_path / "m.onnx")
    assert result.report is not None and result.report.verdict == "PASS"
    assert result.report.scaled_error <= 1e-5


@pytest.mark.parametrize("op", sorted(spec.all_ops()))
def test_ops(op: str, tmp_path: Path) -> None:
    """Each op of the IR, decomposed where need be, or refused by name."""
    from cir.passes import decompose

    rows = table("ge-safe")
    for sample in spec.get(op).samples[:2]:
        model, feeds = program(op, sample)
        model = model.with_graph(decompose(model.graph, rows.legal))
        if op in REFUSED:
            with pytest.raises(CirError, match=REFUSED[op]) as info:
                check(model, feeds, tmp_path / "m.onnx", profile="ge-safe")
            assert info.value.code == "E501"
            continue
        check(model, feeds, tmp_path / "m.onnx", profile="ge-safe")
        fits(tmp_path / "m.onnx")


def test_other_opsets_are_refused(tmp_path: Path) -> None:
    """GE registers nothing for a later opset (E503)."""
    b = Builder()
    x = b.input("x", "float32", [2])
    model = Model(b.finish([b.emit("relu", [x])[0]]))
    from framework_adapter.onnx import BACKEND

    with pytest.raises(CirError, match="opset 20") as info:
        BACKEND.emit(model, tmp_path / "m.onnx", profile="ge-safe", opset=20)
    assert info.value.code == "E503"
