"""Passes: same numbers, same interface, and the form they promise."""

from __future__ import annotations

import numpy as np
import pytest

from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Graph, Model
from cir.interpret import run
from cir.passes import (
    Pass,
    PassManager,
    Stage,
    channels_first_interface,
    cse,
    dce,
    decompose,
    expand_einsum,
    fold,
    normalize,
    sink_views,
    slices_to_split,
)
from cir.verify import verify

ALL = (dce, expand_einsum, normalize, fold, cse, sink_views, slices_to_split, dce)


class G:
    """A graph under construction: g.op(inputs, **attrs) -> value name."""

    def __init__(self) -> None:
        self.b = Builder()
        self.rng = np.random.default_rng(0)

    def __getattr__(self, op: str):
        return lambda *ins, **attrs: self.b.emit(op, ins, attrs)[0]

    def x(self, *shape, dtype: str = "float32", name: str = "x") -> str:
        return self.b.input(name, dtype, shape)

    def w(self, *shape, name: str = "w") -> str:
        return self.b.const(self.rng.standard_normal(shape).astype(np.float32), name)


def settle(graph: Graph) -> Graph:
    for _ in range(10):
        before = graph
        for p in ALL:
            graph = p(graph)
        if graph is before:
            return graph
    raise AssertionError("passes do not settle")


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def check(graph: Graph, after: Graph, sizes: dict | None = None) -> None:
    verify(after)
    assert [graph.types[i] for i in graph.inputs] == [after.types[i] for i in after.inputs]
    assert [graph.types[o] for o in graph.outputs] == [after.types[o] for o in after.outputs]
    rng = np.random.default_rng(1)
    env = {"n": 2, "t": 3} | (sizes or {})
    feeds = []
    for i in graph.inputs:
        t = graph.types[i]
        shape = [d if isinstance(d, int) else env[d] for d in t.shape]
        feeds.append(
            rng.integers(0, 3, shape).astype(t.dtype)
            if "int" in t.dtype
            else rng.standard_normal(shape).astype(np.float32)
        )
    for a, b in zip(run(graph, feeds).values(), run(after, feeds).values()):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_channels_last_network_becomes_channels_first() -> None:
    g = G()
    x = g.x("n", 8, 8, 3)
    h = g.transpose(x, perm=(0, 3, 1, 2))
    h = g.conv(h, g.w(4, 3, 3, 3), strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
    h = g.transpose(h, perm=(0, 2, 3, 1))
    h = g.add(h, g.w(4, name="bias"))
    h = g.add(g.relu(h), h)
    h = g.concat(h, h, axis=-1)
    h = g.pad(h, pads=(0, 1, 0, 0, 0, 1, 0, 0))
    h = g.mean(h, axis=(1, 2), keepdims=False)
    graph = g.b.finish([h])
    after = settle(graph)
    check(graph, after)
    assert ops(after) == [
        "transpose",
        "conv",
        "add",
        "relu",
        "add",
        "concat",
        "pad",
        "mean",
        "reshape",
    ]
    assert after.nodes[-2].attrs["axis"] == (-2, -1)
    bare = channels_first_interface(after)
    assert bare.types[bare.inputs[0]].shape == ("n", 3, 8, 8)
    assert "transpose" not in ops(bare)


def test_broadcast_operand_follows_the_sinking_transpose() -> None:
    g = G()
    x, e = g.x("n", 4, 5, 6), g.x("n", 4, name="e")
    h = g.transpose(x, perm=(0, 2, 3, 1))
    h = g.add(h, g.reshape(e, shape=("n", 1, 1, 4)))
    graph = g.b.finish([g.transpose(h, perm=(0, 3, 1, 2))])
    after = settle(graph)
    check(graph, after)
    assert ops(after) == ["reshape", "add"]


def test_dense_on_a_flattened_batch_keeps_leading_axes() -> None:
    g = G()
    x = g.x("n", "t", 6)
    w = g.w(8, 6)
    h = g.reshape(x, shape=("n*t", 6))
    h = g.linear(h, w)
    h = g.reshape(h, shape=("n", "t", 2, 4))
    h = g.add(h, g.w(2, 4, name="bias"))  # the bias after the head split
    graph = g.b.finish([g.transpose(h, perm=(0, 2, 1, 3))])
    after = settle(graph)
    check(graph, after)
    assert ops(after) == ["linear", "add", "reshape", "transpose"]
    assert after.consts["bias.v"].type.shape == (8,)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("abc,cde->abde", [(2, 3, 4), (4, 5, 2)]),
        ("abcd,cde->abe", [(2, 3, 4, 5), (4, 5, 6)]),
        ("aecd,abcd->acbe", [(2, 3, 4, 5), (2, 6, 4, 5)]),
        ("acbe,aecd->abcd", [(2, 4, 6, 3), (2, 3, 4, 5)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
        ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 5)]),
        ("i,j->ij", [(2,), (3,)]),
        ("ij->ji", [(2, 3)]),
        ("ijk->k", [(2, 3, 4)]),
        ("bhwc,bkc->bhwk", [(2, 3, 3, 4), (2, 5, 4)]),
        ("ij,ij", [(2, 3), (2, 3)]),
    ],
)
def test_einsum(equation: str, shapes: list) -> None:
    g = G()
    xs = [g.x(*s, name=f"x{i}") for i, s in enumerate(shapes)]
    graph = g.b.finish([g.einsum(*xs, equation=equation)])
    after = expand_einsum(graph)
    assert "einsum" not in ops(after)
    check(graph, after)
    feeds = [g.rng.standard_normal(s) for s in shapes]
    np.testing.assert_allclose(run(after, feeds)[after.outputs[0]], np.einsum(equation, *feeds))


def test_attention_einsum_needs_no_transpose_of_the_scores() -> None:
    g = G()
    k, q = g.x(2, 3, 4, 5, name="k"), g.x(2, 6, 4, 5, name="q")
    after = settle(g.b.finish([g.einsum(k, q, equation="aecd,abcd->acbe")]))
    assert ops(after)[-1] == "matmul"
    assert after.nodes[-1].inputs[0].startswith("einsum") and ops(after).count("transpose") == 2


def test_slices_that_tile_an_axis_are_a_split() -> None:
    g = G()
    x = g.x(2, 6)
    a = g.slice(x, axes=(1,), starts=(0,), ends=(2,), steps=(1,))
    b = g.slice(x, axes=(1,), starts=(2,), ends=(6,), steps=(1,))
    graph = g.b.finish([b, a])
    after = slices_to_split(graph)
    check(graph, after)
    assert ops(after) == ["split"] and after.nodes[0].attrs["sizes"] == (2, 4)
    gap = G()
    x = gap.x(2, 6)
    a = gap.slice(x, axes=(1,), starts=(0,), ends=(2,), steps=(1,))
    b = gap.slice(x, axes=(1,), starts=(3,), ends=(6,), steps=(1,))
    assert ops(slices_to_split(gap.b.finish([a, b]))) == ["slice", "slice"]


def test_unit_depth_pool_is_a_plane_pool() -> None:
    g = G()
    x = g.x(2, 3, 1, 8, 8)
    y = g.max_pool(
        x, kernel=(1, 3, 3), strides=(1, 2, 2), pads=(0, 1, 1, 0, 1, 1), dilations=(1, 1, 1)
    )
    graph = g.b.finish([y])
    after = settle(graph)
    check(graph, after)
    assert ops(after) == ["reshape", "max_pool", "reshape"]
    assert after.nodes[1].attrs["kernel"] == (3, 3)


def test_global_pool_spatial_mean_and_flattened_mean_are_one() -> None:
    forms = []
    for spell in ("pool", "mean", "flat"):
        g = G()
        x = g.x("n", 3, 4, 4)
        if spell == "pool":
            y = g.avg_pool(x, kernel=(4, 4), strides=(4, 4), pads=(0, 0, 0, 0))
            y = g.reshape(y, shape=("n", 3))
        elif spell == "mean":
            y = g.mean(x, axis=(2, 3), keepdims=False)
        else:
            y = g.mean(g.reshape(x, shape=("n", 3, 16)), axis=(-1,), keepdims=False)
        graph = g.b.finish([y])
        after = settle(graph)
        check(graph, after)
        forms.append([(n.op, dict(n.attrs)) for n in after.nodes])
    assert forms[0] == forms[1] == forms[2]


def test_cse_merges_equal_computations_and_equal_constants() -> None:
    g = G()
    x = g.x(2, 3)
    one = g.b.const(np.ones(3, np.float32), "a")
    two = g.b.const(np.ones(3, np.float32), "b")
    y = g.add(g.mul(x, one), g.mul(x, two))
    graph = g.b.finish([y])
    after = dce(cse(graph))
    check(graph, after)
    assert ops(after) == ["mul", "add"] and list(after.consts) == ["a"]


def test_fold_rounds_once() -> None:
    g = G()
    v = g.b.const(np.full(3, 0.1, np.float32), "v")
    k = g.rsqrt(g.add(g.mul(v, g.b.const(3.0)), g.b.const(1e-5)))
    x = g.x(2, 3)
    after = dce(fold(g.b.finish([g.mul(x, k)])))
    folded = after.consts[after.nodes[0].inputs[1]].numpy()
    exact = 1 / np.sqrt(np.float64(np.float32(0.1)) * 3 + np.float64(np.float32(1e-5)))
    assert folded.dtype == np.float32 and np.all(folded == np.float32(exact))


def test_fold_does_not_blow_up_a_small_constant() -> None:
    g = G()
    x = g.x(1024, 1024)
    big = g.expand(g.b.const(1.0), shape=(1024, 1024))
    assert ops(fold(g.b.finish([g.matmul(x, big)])))[0] == "expand"


def test_decompose_leaves_legal_ops() -> None:
    g = G()
    x = g.x(2, 8)
    graph = g.b.finish([g.layer_norm(g.gelu(x), g.w(8), g.w(8, name="b"))])
    after = decompose(graph, lambda node, _: node.op == "gelu")
    check(graph, after)
    assert "gelu" in ops(after) and "layer_norm" not in ops(after)


def test_manager_refuses_an_order_that_cannot_work() -> None:
    needs = Pass("late", lambda g, c: g, needs=frozenset({"fact"}))
    gives = Pass("early", lambda g, c: g, gives=frozenset({"fact"}))
    breaks = Pass("breaker", lambda g, c: g, breaks=frozenset({"fact"}))
    PassManager([Stage("s", (gives, needs))])
    for bad in ((needs, gives), (gives, breaks, needs)):
        with pytest.raises(ValueError, match="needs fact"):
            PassManager([Stage("s", bad)])


def test_manager_stops_a_loop() -> None:
    g = G()
    graph = g.b.finish([g.relu(g.x(2))])

    def longer(gr: Graph, ctx: object) -> Graph:
        b = Builder.resume(gr)
        b.nodes = list(gr.nodes)
        return b.finish(b.emit("neg", [gr.outputs[0]]))

    with pytest.raises(CirError) as e:
        PassManager([Stage("s", (Pass("longer", longer),), fixpoint=True)]).run(Model(graph))
    assert e.value.code == "E403" and "longer" in str(e.value)


def test_manager_ends_a_circle_of_equal_forms_on_the_same_one() -> None:
    """Wherever it is entered: two forms that a pass turns into each other are one program."""
    forms = []
    for op in ("relu", "abs"):
        g = G()
        forms.append(g.b.finish(g.b.emit(op, [g.x(2)])))
    kinds = {"relu": "abs", "abs": "relu"}

    def flip(gr: Graph, ctx: object) -> Graph:
        (node,) = gr.nodes
        return gr.with_(nodes=(node.with_(op=kinds[node.op]),))

    stage = Stage("s", (Pass("flip", flip),), fixpoint=True)
    found = [PassManager([stage]).run(Model(f)).graph for f in forms]
    assert ops(found[0]) == ops(found[1])


def test_manager_catches_a_pass_that_breaks_the_graph() -> None:
    g = G()
    graph = g.b.finish([g.relu(g.exp(g.x(2)))])
    broken = Pass("broken", lambda gr, c: gr.with_(nodes=gr.nodes[1:]))
    with pytest.raises(CirError) as e:
        PassManager([Stage("s", (broken,))]).run(Model(graph))
    assert e.value.code == "E303"


def test_work_on_a_channels_last_input_moves_behind_its_transpose() -> None:
    g = G()
    x = g.x("n", 8, 8, 3)
    h = g.pad(g.mul(x, g.w(3)), pads=(0, 1, 1, 0, 0, 1, 1, 0))
    h = g.transpose(h, perm=(0, 3, 1, 2))
    graph = g.b.finish([g.relu(h)])
    after = settle(graph)
    check(graph, after)
    assert ops(after) == ["transpose", "mul", "pad", "relu"]


# -- outputs keep their names ----------------------------------------------------------------------
def test_an_output_that_becomes_something_else_is_an_identity_of_it() -> None:
    """An input, a constant, another output: each stays an output of its own under its own name."""
    g = G()
    x = g.x("n", 4)
    same = g.b.emit("reshape", [x], {"shape": ["n", 4]}, name="same")[0]
    known = g.b.emit("neg", [g.w(3)], name="known")[0]
    first = g.b.emit("exp", [x], name="first")[0]
    again = g.b.emit("exp", [x], name="again")[0]
    moved = g.b.emit("identity", [g.abs(x)], name="moved")[0]
    graph = g.b.finish([same, known, first, again, moved])
    after = settle(graph)
    assert after.outputs[:4] == ("same", "known", "first", "again")
    assert ops(after) == ["exp", "abs", "identity", "identity", "identity"]
    check(graph, after)


def test_outputs_that_are_the_same_transpose_settle() -> None:
    g = G()
    x = g.x("n", 4, 5)
    turns = [g.transpose(g.exp(x), perm=[0, 2, 1]) for _ in range(2)]
    after = settle(g.b.finish(turns))
    assert sorted(ops(after)) == ["exp", "identity", "transpose"]
