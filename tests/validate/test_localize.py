from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from cir import interpret
from cir.builder import Builder
from cir.graph import Graph
from framework_adapter.validate.conversion import localize_artifact
from framework_adapter.validate.localize import localize, walk

from .nets import W2, mlp, write_onnx

X = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)


def chain(n: int = 12) -> Graph:
    """A network with a long skip connection and symbolic sizes."""
    b = Builder()
    x = b.input("x", "float32", ("n", 8))
    h = first = b.emit("tanh", [x], name="h")[0]
    for i in range(n):
        (h,) = b.emit("add", [b.emit("atan", [h], name=f"s{i}")[0], h], name=f"a{i}")
    (flat,) = b.emit("reshape", [h], {"shape": ("8*n",)}, name="flat")
    (back,) = b.emit("reshape", [flat], {"shape": ("n", 8)}, name="back")
    (y,) = b.emit("mul", [back, first], name="y")
    return b.finish([y])


def test_walking_in_pieces_gives_the_values_of_one_run() -> None:
    graph = chain()
    names = [o for n in graph.nodes for o in n.outputs]
    whole = interpret.run(graph, {"x": X}, watch=names)
    pieces = list(walk(graph, {"x": X}, "float64", piece_bytes=8 * 24 * 3))
    assert len(pieces) > 5
    assert [n.name for nodes, _ in pieces for n in nodes] == [n.name for n in graph.nodes]
    for _, values in pieces:
        for name, value in values.items():
            np.testing.assert_array_equal(value, whole[name])


@pytest.mark.parametrize("piece_bytes", [1, 1 << 20])
def test_the_culprit_is_told_from_its_victims(piece_bytes: int) -> None:
    graph = chain()
    names = [o for n in graph.nodes for o in n.outputs]
    sound = interpret.run(graph, {"x": X}, compute="float32", watch=names)

    def actual(asked: Sequence[str]) -> Mapping[str, np.ndarray]:
        """As if the kernel of s5 were off by 1 %; what follows is computed from that."""
        out: dict[str, np.ndarray] = {"x": X}
        for n in graph.nodes:
            alone = graph.with_(inputs=tuple(i for i in n.inputs if i), nodes=(n,), outputs=())
            feeds = {i: out[i] for i in alone.inputs}
            y = interpret.run(alone, feeds, compute="float32", watch=n.outputs)[n.name]
            out[n.name] = y * np.float32(1.01) if n.name == "s5" else y
        return {k: v for k, v in out.items() if k in asked and k != "a2"}

    found = localize(graph, [X], actual, piece_bytes=piece_bytes)
    assert found.first is not None
    assert found.first.name == "s5"
    by_name = {n.name: n for n in found.nodes}
    assert "a2" not in by_name  # the other side does not have it
    assert by_name["s5"].isolated == pytest.approx(0.01, rel=0.01)
    assert by_name["y"].suspicious
    assert by_name["y"].isolated is not None
    assert by_name["y"].isolated < 1e-6  # a victim
    assert by_name["s3"].isolated is None or by_name["s3"].isolated < 1e-6
    assert found.total == len(graph.nodes)
    assert sound["y"].shape == (3, 8)


def test_intermediates_of_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    graph = mlp().graph
    found = localize_artifact(graph, write_onnx(tmp_path / "m.onnx"), [X])
    assert [n.name for n in found.nodes] == ["h", "a", "y"]  # the output by position
    assert found.first is None
    assert all(n.scaled < 1e-6 and n.isolated is not None for n in found.nodes)

    found = localize_artifact(graph, write_onnx(tmp_path / "m.onnx", act="Sigmoid"), [X])
    assert found.first is not None
    assert (found.first.name, found.first.place) == ("a", "net.py:11")
    assert found.nodes[2].isolated is not None
    assert found.nodes[2].isolated < 1e-6

    found = localize_artifact(
        graph, write_onnx(tmp_path / "m.onnx", w2=W2 * np.float32(1.001)), [X]
    )
    assert found.first is not None
    assert found.first.name == "y"
    assert found.as_dict()["first_divergence"] == "y"
