"""Verification: each kind of damage is found, and its cost."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Const, Graph, Model, Node, Range, TensorType
from cir.verify import Checked, verify
from tests.cir import samples


def chain(n: int) -> Graph:
    """n nodes in one chain over [batch, 8]: linear, relu, mean, sub, ..."""
    b = Builder()
    h = b.input("x", "float32", ("batch", 8))
    w = b.const(np.eye(8, dtype=np.float32)[0], name="w")
    for i in range(n // 4):
        (a,) = b.emit("mul", [h, w], name=f"blocks.{i}.mul")
        (r,) = b.emit("relu", [a], name=f"blocks.{i}.act")
        (m,) = b.emit("mean", [r], {"axis": -1}, name=f"blocks.{i}.mean")
        (h,) = b.emit("sub", [r, m], name=f"blocks.{i}.sub")
    return b.finish([h])


def codes(model: Graph | Model) -> list[str]:
    with pytest.raises(CirError) as info:
        verify(model)
    return [d.code for d in info.value.diagnostics]


def message(model: Graph | Model) -> str:
    with pytest.raises(CirError) as info:
        verify(model)
    return str(info.value)


def graph(**changes: Any) -> Graph:
    """x -> mul(x, w) = h -> softmax(h) = y, with some fields changed."""
    b = Builder("g")
    x = b.input("x", "float32", ("n", 3))
    (h,) = b.emit("mul", [x, b.const(np.ones(3, np.float32), name="w")], name="h")
    return b.finish(b.emit("softmax", [h], name="y")).with_(**changes)


def node(g: Graph, index: int, **changes: Any) -> Graph:
    nodes = list(g.nodes)
    nodes[index] = nodes[index].with_(**changes)
    return g.with_(nodes=tuple(nodes))


@pytest.mark.parametrize("name", samples.all_models())
def test_sound_models_verify(name: str) -> None:
    verify(samples.all_models()[name])


G = graph()
F = TensorType("float32", ("n", 3))
BROKEN: dict[str, tuple[Graph, str, str]] = {
    "dangling input": (node(G, 1, inputs=("z",)), "E303", "reads 'z'"),
    "used before computed": (G.with_(nodes=G.nodes[::-1]), "E303", "computed later"),
    "dangling output": (graph(outputs=("z",)), "E303", "output 'z'"),
    "defined twice": (node(G, 1, outputs=("h",)), "E303", "'h' is defined twice"),
    "input twice": (graph(inputs=("x", "x")), "E303", "'x' is defined twice"),
    "constant named as a node": (
        graph(consts={**G.consts, "h": G.consts["w"]}), "E303", "'h' is defined twice",
    ),
    "no outputs": (node(G, 1, outputs=()), "E303", "no outputs"),
    "not a name": (
        node(G, 1, outputs=("a b",)).with_(types={**G.types, "a b": F}), "E303", "not a value name",
    ),
    "no type": (graph(types={k: t for k, t in G.types.items() if k != "y"}), "E304", "no type"),
    "wrong shape": (
        graph(types={**G.types, "y": TensorType("float32", ("n", 4))}), "E304", "gives float32[n, 3]",
    ),
    "wrong dtype": (
        graph(types={**G.types, "y": TensorType("float16", ("n", 3))}), "E304", "declared float16",
    ),
    "not a dtype": (graph(types={**G.types, "x": TensorType("f32", ())}), "E304", "not a dtype"),
    "dim not canonical": (
        graph(types={**G.types, "x": TensorType("float32", ("n + 0", 3))}), "E304", "not canonical",
    ),
    "dim not an expression": (
        graph(types={**G.types, "x": TensorType("float32", ("n n", 3))}), "E304", "not a dimension",
    ),
    "dim negative": (graph(types={**G.types, "x": TensorType("float32", (-1,))}), "E304", "negative"),
    "unknown op": (node(G, 1, op="sofmax"), "E304", "nearest: softmax"),
    "too many inputs": (node(G, 1, inputs=("h", "h")), "E304", "got 2 inputs"),
    "absent input": (node(G, 0, inputs=(None, "w")), "E304", "must not be absent"),
    "absent last input": (node(G, 1, inputs=("h", None)), "E304", "absent"),
    "attribute missing": (node(G, 1, attrs={}), "E304", "not canonical"),
    "attribute unknown": (node(G, 1, attrs={"axis": -1, "b": 1}), "E304", "no attribute 'b'"),
    "attribute not canonical": (node(G, 1, attrs={"axis": 1}), "E304", "store axis=-1"),
    "attribute of another type": (node(G, 1, attrs={"axis": -1.0}), "E304", "not canonical"),
    "region too many": (node(G, 1, regions=(Graph("r", (), (), (), {}),)), "E304", "has 1 regions, needs none"),
    "constant of another type": (
        graph(types={**G.types, "w": TensorType("float32", (1,))}), "E304", "'w' is float32[3]",
    ),
    "constant with other data": (
        graph(consts={"w": Const(TensorType("float32", (3,)), np.ones(4, np.float32))}),
        "E304", "holds float32[4]",
    ),
    "constant with symbols": (
        graph(consts={"w": Const(TensorType("float32", ("n",)), np.ones(3, np.float32))},
              types={**G.types, "w": TensorType("float32", ("n",))}),
        "E304", "must be numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_damage_is_found(case: str) -> None:
    broken, code, what = BROKEN[case]
    assert code in codes(broken)
    assert what in message(broken)


def test_regions_are_isolated_and_checked() -> None:
    g = samples.cond()
    then, other = g.nodes[0].regions
    leak = node(then, 0, inputs=("x", "ten"))
    assert codes(node(g, 0, regions=(leak, other))) == ["E303"]
    same = node(then, 0, outputs=("y",)).with_(outputs=("y",), types={**then.types, "y": F})
    assert "E303" in codes(node(g, 0, regions=(same, other)))
    assert codes(node(g, 0, regions=(then,))) == ["E304"]
    narrow = other.with_(types={**other.types, "c": TensorType("float32", (3,))})
    assert "E304" in codes(node(g, 0, regions=(then, narrow)))


def test_state_and_ranges() -> None:
    m = samples.loop()
    for state, code in (
        ((("z", "loop.1"),), "E303"),
        ((("acc", "z"),), "E303"),
        ((("acc", "loop.1"), ("k", "loop.1")), "E303"),
        ((("i", "loop.1"),), "E304"),
    ):
        assert code in codes(m.with_(state=state))
    for name, r in (("n", Range(3, 2)), ("n", Range(0, 5, (6,))), ("2n", Range())):
        assert codes(m.with_(symbols={name: r})) == ["E304"]


def test_a_made_up_symbol_may_have_any_name_and_later_knowledge_is_no_error() -> None:
    b = Builder()
    m = b.input("m", "bool", (4,))
    (w,) = b.emit("nonzero", [m], name="w")
    g = b.finish([w])
    verify(g.with_(types={**g.types, "w": TensorType("int64", ("count", 1))}))
    assert codes(g.with_(types={**g.types, "w": TensorType("int64", ("count", 2))})) == ["E304"]
    # arange over values that became constants: both the made-up symbol and the number are right.
    ends = [b.const(v, dtype="int64") for v in (0, 5, 1)]
    (a,) = b.emit("arange", ends, name="a")
    g = b.finish([a])
    verify(g)
    verify(g.with_(types={**g.types, "a": TensorType("int64", ("u7",))}))
    assert codes(g.with_(types={**g.types, "a": TensorType("int32", ("u7",))})) == ["E304"]


def test_findings_are_collected_to_a_limit() -> None:
    g = chain(400)
    bad = tuple(n.with_(attrs={"made": "up"}) for n in g.nodes)
    assert len(codes(g.with_(nodes=bad))) == 50
    two = node(node(G, 0, op="mull"), 1, op="sofmax")
    assert codes(two) == ["E304", "E304"]


def test_memory_skips_only_what_is_the_same() -> None:
    seen = Checked()
    verify(G, seen=seen)
    assert set(seen.nodes) == set(G.nodes)
    wrong = {**G.types, "x": TensorType("float32", ("n", 4)), "h": TensorType("float32", ("n", 4))}
    for _ in range(2):
        with pytest.raises(CirError):
            verify(G.with_(types=wrong), seen=seen)
        with pytest.raises(CirError, match="not canonical"):
            verify(BROKEN["dim not canonical"][0], seen=seen)
    more = G.with_(
        nodes=(*G.nodes, Node("relu", ("y",), ("z",))), types={**G.types, "z": F}, outputs=("z",)
    )
    verify(more, seen=seen)
    assert set(seen.nodes) == set(more.nodes)
    with pytest.raises(CirError):  # names are checked each time
        verify(more.with_(inputs=()), seen=seen)


def test_verification_of_14000_nodes_is_quick() -> None:
    g = chain(14_000)
    seen = Checked()
    cold = warm = 9.0
    for _ in range(3):
        start = time.process_time()
        verify(g)
        cold = min(cold, time.process_time() - start)
    verify(g, seen=seen)
    for _ in range(5):
        start = time.process_time()
        verify(g, seen=seen)
        warm = min(warm, time.process_time() - start)
    print(f"14,000 nodes: {cold:.3f} s cold, {warm:.3f} s unchanged")
    assert cold < 0.6 and warm < 0.15
