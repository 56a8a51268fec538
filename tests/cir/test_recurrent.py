"""lstm: against PyTorch, decomposed over known and symbolic steps, and in its canonical form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cir import dim, spec
from cir.builder import Builder, infer
from cir.graph import Graph, TensorType
from cir.interpret import run
from cir.passes import dce, decompose, normalize
from cir.passes.decompose import expand
from cir.spec import InferError
from cir.verify import verify
from tests.cir.test_ops import Context

STEPS, BATCH, FEATURES, HIDDEN = 5, 3, 4, 6
SHAPES = {
    "x": (STEPS, BATCH, FEATURES),
    "w": (4 * HIDDEN, FEATURES),
    "r": (4 * HIDDEN, HIDDEN),
    "b": (4 * HIDDEN,),
    "h": (BATCH, HIDDEN),
    "c": (BATCH, HIDDEN),
}


def arrays(*absent: str) -> list[np.ndarray | None]:
    rng = np.random.default_rng(0)
    made = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    return [None if name in absent else x for name, x in made.items()]


@pytest.mark.parametrize("absent", [(), ("b",), ("h", "c"), ("c",)])
@pytest.mark.parametrize("reverse", [False, True])
def test_against_pytorch(absent: tuple[str, ...], reverse: bool) -> None:
    torch = pytest.importorskip("torch")
    x, w, r, b, h, c = arrays(*absent)
    layer = torch.nn.LSTM(FEATURES, HIDDEN, bias=b is not None, dtype=torch.float64)
    order = np.r_[:HIDDEN, 2 * HIDDEN : 4 * HIDDEN, HIDDEN : 2 * HIDDEN]  # i, f, g, o

    def put(name: str, value: np.ndarray) -> None:
        getattr(layer, name).data = torch.from_numpy(value[order])

    put("weight_ih_l0", w)
    put("weight_hh_l0", r)
    if b is not None:
        put("bias_ih_l0", 0.25 * b)
        put("bias_hh_l0", 0.75 * b)
    zeros = np.zeros(SHAPES["h"])
    state = tuple(torch.from_numpy(zeros if s is None else s)[None] for s in (h, c))
    with torch.no_grad():
        given = torch.from_numpy(x[::-1].copy() if reverse else x)
        y, (h_n, c_n) = layer(given, state)
    y = y.numpy()[::-1] if reverse else y.numpy()
    found = spec.get("lstm").reference(x, w, r, b, h, c, reverse=reverse)
    for a, want in zip(found, (y, h_n[0].numpy(), c_n[0].numpy())):
        np.testing.assert_allclose(a, want, rtol=0, atol=1e-12)


def lstm(b: Builder, names: dict[str, Any], attrs: dict[str, Any], sizes: dict[int, str]) -> Graph:
    """One lstm over inputs; ``sizes`` makes sizes of x and the states symbols."""
    inputs = [
        None if x is None else b.input(n, "float64", [sizes.get(d, d) for d in x.shape])
        for n, x in names.items()
    ]
    return b.finish(b.emit("lstm", inputs, attrs, name="y"))


@pytest.mark.parametrize(
    "sizes", [{}, {BATCH: "n"}, {STEPS: "t"}, {STEPS: "t", BATCH: "n"}], ids=str
)
@pytest.mark.parametrize("absent", [(), ("b", "h", "c"), ("c",)])
@pytest.mark.parametrize("reverse", [False, True])
def test_decomposition(sizes: dict[int, str], absent: tuple[str, ...], reverse: bool) -> None:
    given = dict(zip(SHAPES, arrays(*absent)))
    graph = lstm(Builder(), given, {"reverse": reverse}, sizes)
    plain = decompose(graph, lambda node, g: False)
    verify(plain)
    found = [n.op for n in plain.nodes]
    assert "lstm" not in found and ("while_loop" in found) == (STEPS in sizes)
    assert [plain.types[o] for o in plain.outputs] == [graph.types[o] for o in graph.outputs]
    feeds = [x for x in given.values() if x is not None]
    for a, b in zip(run(graph, feeds).values(), run(plain, feeds).values()):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


def test_the_decomposed_result_keeps_its_name() -> None:
    graph = lstm(Builder(), dict(zip(SHAPES, arrays())), {}, {})
    assert decompose(graph, lambda node, g: False).nodes[-1].name == graph.nodes[0].name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": (5, 3)}, "rank 3"),
        ({"r": (20, 6)}, "four gates"),
        ({"w": (20, 4)}, "axis 0 of w"),
        ({"w": (24, 5)}, "features"),
        ({"b": (48,)}, "b float64[48]"),
        ({"h": (1, 6)}, "axis 0 of h"),
        ({"c": (3, 5)}, "axis 1 of c"),
    ],
)
def test_what_does_not_fit(change: dict[str, tuple[int, ...]], says: str) -> None:
    types = [TensorType("float64", s) for s in {**SHAPES, **change}.values()]
    with pytest.raises(InferError, match=says.replace("[", r"\[")):
        infer("lstm", types, {}, Context())


# -- canonical form --------------------------------------------------------------------------------
def settled(graph: Graph) -> Graph:
    for _ in range(6):
        graph = dce(normalize(graph))
    assert normalize(graph) is graph
    return graph


def reversal(b: Builder, x: str, axis: int = 0) -> str:
    last = dim.sub(b.shape(x)[axis], 1)
    attrs = {"axes": [axis], "starts": [last], "ends": [-1], "steps": [-1]}
    return b.emit("slice", [x], attrs)[0]


def weights(b: Builder) -> list[str]:
    given = dict(zip(SHAPES, arrays()))
    return [b.const(given[n].astype(np.float32), n) for n in ("w", "r", "b")]


@pytest.mark.parametrize("batch", [3, "n"])
def test_states_of_zeros_are_absent(batch: Any) -> None:
    b = Builder()
    x = b.input("x", "float32", (5, batch, 4))
    zero = b.const(np.zeros(1, np.float32))
    (stack,) = b.emit("expand", [zero], {"shape": [2, batch, 6]})
    h, _ = b.emit("split", [stack], {"axis": 0, "sizes": [1, 1]})
    (h,) = b.emit("reshape", [h], {"shape": [batch, 6]})
    graph = settled(b.finish(b.emit("lstm", [x, *weights(b), h, h])))
    (node,) = [n for n in graph.nodes if n.op == "lstm"]
    assert len(node.inputs) == 4


def test_states_that_are_not_zero_stay() -> None:
    b = Builder()
    x = b.input("x", "float32", (5, 3, 4))
    h = b.const(np.eye(3, 6, dtype=np.float32), "h")
    c = b.const(np.zeros((3, 6), np.float32), "c")
    graph = settled(b.finish(b.emit("lstm", [x, *weights(b), h, c])))
    assert graph.nodes[0].inputs[4:] == ("h",)


@pytest.mark.parametrize("steps", [5, "t"])
def test_a_reversed_sequence_is_an_attribute(steps: Any) -> None:
    b = Builder()
    x = b.input("x", "float32", (steps, 3, 4))
    y, h, _ = b.emit("lstm", [reversal(b, x), *weights(b)])
    graph = b.finish([reversal(b, y), h])
    found = settled(graph)
    assert [n.op for n in found.nodes] == ["lstm"] and found.nodes[0].attrs["reverse"]
    feeds = {"x": np.random.default_rng(1).standard_normal((5, 3, 4))}
    for p, q in zip(run(graph, feeds).values(), run(found, feeds).values()):
        np.testing.assert_array_equal(p, q)


def test_a_sequence_reversed_along_another_axis_is_not() -> None:
    b = Builder()
    x = b.input("x", "float32", (5, 3, 4))
    graph = settled(b.finish(b.emit("lstm", [reversal(b, x, 1), *weights(b)])))
    assert [n.op for n in graph.nodes] == ["slice", "lstm"]


def test_the_expansion_takes_names_and_provenance() -> None:
    b = Builder()
    x = b.input("x", "float32", (2, 3, 4))
    y, *_ = expand(b, "lstm", [x, *weights(b)], {"reverse": False}, "out")
    assert y == "out" and b.nodes[-1].name == "out"
