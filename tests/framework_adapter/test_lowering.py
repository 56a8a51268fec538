"""Lowering: binding, values, collected problems, names, constants, regions, samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cir import interpret
from cir.diagnostics import CirError, Collector
from cir.dim import SymInt
from cir.graph import Const, Graph, Model, TensorType
from framework_adapter import samples
from framework_adapter.context import Context, Value
from framework_adapter.lowering import lower
from framework_adapter.mapping import MappingTable
from framework_adapter.source import Ref, SourceGraph, SourceNode

F = TensorType("float32", (2, 3))


def table(**rows: Any) -> MappingTable:
    return MappingTable("pytorch", {}).extended(rows)


def node(
    op: str, *inputs: Any, out: str | tuple[str, ...] = "y", types: Any = (), **attrs: Any
) -> SourceNode:
    outputs = (out,) if isinstance(out, str) else out
    return SourceNode(op, inputs, attrs, outputs, types, "net.layer", "net.py:7")


def graph(*nodes: SourceNode, outputs: tuple[str, ...] = ("y",), **fields: Any) -> SourceGraph:
    fields = {"inputs": {"x": F}, "consts": {}, **fields}
    return SourceGraph("pytorch", outputs=outputs, nodes=nodes, **fields)


def run(model: Model, *feeds: Any) -> list[np.ndarray]:
    return samples.interpret(model, [np.asarray(f, np.float32) for f in feeds])


X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
RELU = {"args": "x", "emit": "relu(x)"}


def test_arguments_bind_by_name_then_place_then_default() -> None:
    rows = table(lin={"args": "x, k=2, b=1", "emit": "add(mul(x, k), b)"})
    for inputs, attrs, want in (
        ((Ref("x"),), {}, X * 2 + 1),
        ((Ref("x"), 3), {}, X * 3 + 1),
        ((Ref("x"), 3), {"b": 5}, X * 3 + 5),
        ((), {"x": Ref("x"), "k": 4}, X * 4 + 1),
    ):
        (got,) = run(lower(graph(node("lin", *inputs, **attrs)), rows), X)
        assert np.allclose(got, want)


def test_too_few_and_too_many_operands_are_errors_of_the_row() -> None:
    for inputs, says in (((), "no operand or attribute 'x'"), ((Ref("x"), 1, 2), "has 3 operands")):
        with pytest.raises(CirError, match=says) as info:
            lower(graph(node("one", *inputs)), table(one={"args": "x, k=2", "emit": "mul(x, k)"}))
        assert info.value.code == "E203"


def test_cases_refusals_and_reported_type() -> None:
    rows = table(
        act={
            "args": "x, mode='relu'; hard=False",
            "refuse": {"hard": "use hard=False", "mode == 'odd'": "pick another mode"},
            "cases": [
                {"when": "mode == 'relu'", "emit": "relu(x)"},
                {"when": "mode == 'flat'", "emit": "reshape(x, shape=out.shape)"},
            ],
        }
    )
    flat = TensorType("float32", (6,))
    model = lower(graph(node("act", Ref("x"), "flat", types=(flat,))), rows)
    assert model.graph.types[model.graph.outputs[0]] == flat
    for attrs, says in (
        ({"hard": True}, "hard=True is not supported"),
        ({"mode": "odd"}, "mode == 'odd' is not supported"),
        ({"mode": "other"}, "no case"),
    ):
        with pytest.raises(CirError, match=says) as info:
            lower(graph(node("act", Ref("x"), **attrs)), rows)
        assert info.value.code == "E202"
        assert info.value.diagnostics[0].where == "net.layer (net.py:7)"


def test_all_problems_are_reported_at_once_and_only_reachable_ones() -> None:
    nodes = [
        node("relo", Ref("x"), out="a", types=(F,)),
        node("relo", Ref("a"), out="b", types=(F,)),
        node("no", Ref("b"), True, out="c", types=(F,)),
        node("mystery", Ref("c"), out="y", types=(F,)),
        node("unused", Ref("x"), out="z", types=(F,)),
    ]
    collector = Collector()
    rows = table(relu=RELU, no={"args": "x, t", "refuse": {"t": "do not"}, "emit": "x"})
    with pytest.raises(CirError) as info:
        lower(graph(*nodes), rows, collector=collector)
    first, second, third = info.value.diagnostics
    assert (first.code, first.what, first.nearest) == (
        "E201",
        "unsupported operator relo (×2)",
        "relu",
    )
    assert "custom_ops_mapping" in first.fix
    assert (second.code, second.fix) == ("E202", "do not")
    assert third.what == "unsupported operator mystery"
    assert collector.errors == info.value.diagnostics
    assert info.value.exit_code == 3


def test_problem_places_are_shortened() -> None:
    nodes = [
        node("bad", Ref("x" if i == 0 else f"v{i - 1}"), out=f"v{i}", types=(F,)) for i in range(9)
    ]
    with pytest.raises(CirError) as info:
        lower(graph(*nodes, outputs=("v8",)), table(relu=RELU))
    (d,) = info.value.diagnostics
    assert d.what.endswith("(×9)") and d.where.endswith("and 5 more")


def test_operands_that_do_not_fit_the_op_are_refused() -> None:
    with pytest.raises(CirError, match="matmul") as info:
        lower(graph(node("mm", Ref("x"))), table(mm={"args": "x", "emit": "matmul(x, x)"}))
    assert info.value.code == "E202"


def test_data_dependent_shape() -> None:
    shape = TensorType("int64", (1,))
    g = graph(node("view", Ref("x"), Ref("s")), inputs={"x": F, "s": shape})
    rows = table(view={"args": "x, s", "emit": "reshape(x, shape=dims(s))"})
    with pytest.raises(CirError, match="depends on the input data") as info:
        lower(g, rows)
    assert info.value.code == "E207"
    known = graph(node("view", Ref("x"), Ref("s")), consts={"s": Const.of(np.array([6]))})
    assert lower(known, rows).graph.types["y"].shape == (6,)


def test_a_bug_in_a_handler_is_an_error_of_the_row() -> None:
    with pytest.raises(CirError, match="IndexError") as info:
        lower(graph(node("f", Ref("x"))), table(f=lambda c, n, x: c.shape(x)[7]))
    assert info.value.code == "E203"


def test_constants_are_lazy_and_tied_ones_are_one() -> None:
    weight = Const.of(np.ones((4, 3), np.float32))
    unused = Const.of(np.zeros(5, np.float32))
    rows = table(
        lin={"args": "x, w", "emit": "linear(x, w)"},
        cat={"args": "a, b", "emit": "concat(a, b, axis=-1)"},
    )
    g = graph(
        node("lin", Ref("x"), Ref("w1"), out="a"),
        node("lin", Ref("x"), Ref("w2"), out="b"),
        node("cat", Ref("a"), Ref("b")),
        consts={"w1": weight, "w2": weight, "w3": unused},
    )
    model = lower(g, rows)
    assert list(model.graph.consts) == ["w1"]
    assert model.graph.consts["w1"] is weight
    assert "w3" not in model.graph.types


def test_names_provenance_and_output_names() -> None:
    g = graph(
        node("relu", Ref("x"), out="h"), node("relu", Ref("h"), out="y"), output_names=("scores",)
    )
    model = lower(g, table(relu=RELU))
    assert [n.name for n in model.graph.nodes] == ["h", "scores"]
    (src,) = model.graph.nodes[0].meta.src
    assert (src.op, src.module, src.place) == ("torch:relu", "net.layer", "net.py:7")
    assert model.meta["framework"] == "pytorch"


def test_outputs_get_values_of_their_own() -> None:
    g = graph(
        node("relu", Ref("x"), out="y"),
        outputs=("y", "y", "x", "k"),
        consts={"k": Const.of(np.float32(3))},
        output_names=("a", "b", "c", "d"),
    )
    model = lower(g, table(relu=RELU))
    assert model.graph.outputs == ("a", "b", "c", "d")
    assert [n.op for n in model.graph.nodes] == ["relu", "identity", "identity", "identity"]
    assert [v.shape for v in run(model, X)] == [(2, 3), (2, 3), (2, 3), ()]


def test_an_unused_output_may_be_unproduced_a_used_one_not() -> None:
    rows = table(two={"args": "x", "emit": "a = relu(x)", "results": ["a", None]}, relu=RELU)
    two = node("two", Ref("x"), out=("a", "b"))
    assert lower(graph(two, outputs=("a",)), rows)
    for g in (graph(two, outputs=("b",)), graph(two, node("relu", Ref("b")))):
        with pytest.raises(CirError, match="not produced") as info:
            lower(g, rows)
        assert info.value.code == "E202"


def test_promotion() -> None:
    rows = table(
        add={"args": "x, y; k=1", "adverbs": ["promote"], "emit": "add(x, y)"},
        div={"args": "x, y", "adverbs": ["promote_float"], "emit": "div(x, y)"},
    )

    def dtype(op: str, *types: TensorType | float) -> str:
        inputs = {f"i{n}": t for n, t in enumerate(types) if isinstance(t, TensorType)}
        refs = [Ref(f"i{n}") if isinstance(t, TensorType) else t for n, t in enumerate(types)]
        model = lower(graph(node(op, *refs), inputs=inputs), rows)
        return model.graph.types[model.graph.outputs[0]].dtype

    def t(name: str, *shape: int) -> TensorType:
        return TensorType(name, shape)

    assert dtype("add", t("int32", 3), t("float16", 3)) == "float16"
    assert dtype("add", t("float16", 3), t("float32")) == "float16"  # rank 0 decides the kind only
    assert dtype("add", t("int64", 3), t("float64")) == "float64"
    assert dtype("add", t("int32", 3), 2) == "int32"
    assert dtype("add", t("int32", 3), 2.5) == "float32"
    assert dtype("add", t("float16", 3), 2.5) == "float16"
    assert dtype("add", t("bfloat16", 3), t("float16", 3)) == "float32"
    assert dtype("div", t("int64", 3), 2) == "float32"
    assert dtype("div", t("float64", 3), 2) == "float64"


def test_symbolic_numbers_are_dims_in_expressions_and_tensors_as_values() -> None:
    x = TensorType("float32", ("n", 3))
    rows = table(
        scale={"args": "x, k", "emit": "mul(x, cast(k, dtype=x.dtype))"},
        view={"args": "x, k", "emit": "reshape(x, shape=[k * 3])"},
        double=lambda c, n, k: SymInt(k.dim) * 2,
    )
    g = graph(
        node("double", SymInt("n"), out="m"),
        node("scale", Ref("x"), Ref("m"), out="a"),
        node("view", Ref("a"), SymInt("n")),
        inputs={"x": x},
    )
    model = lower(g, rows)
    assert model.graph.types["y"].shape == ("3*n",)
    (got,) = run(model, np.ones((5, 3)))
    assert np.allclose(got, 10.0)


def test_a_dim_of_no_tensor_is_data_dependent() -> None:
    rows = table(scale={"args": "x, k", "emit": "mul(x, cast(k, dtype=x.dtype))"})
    with pytest.raises(CirError, match="u0 is a size") as info:
        lower(graph(node("scale", Ref("x"), SymInt("u0"))), rows)
    assert info.value.code == "E207"


def test_reported_dims_take_the_spelling_of_inference() -> None:
    """nonzero makes a new symbol; the framework's own name for it means the same from then on."""
    t = TensorType("int64", ("u7", 2))
    rows = table(
        nonzero={"args": "x", "emit": "nonzero(x)"},
        view={"args": "x", "emit": "reshape(x, shape=out.shape)"},
        add={"args": "x, y", "emit": "add(x, y)"},
    )
    g = graph(
        node("nonzero", Ref("x"), out="i", types=(t,)),
        node("view", Ref("i"), out="v", types=(TensorType("int64", ("u7", 1, 2)),)),
        node("view", Ref("v"), out="w", types=(t,)),
        node("add", Ref("i"), Ref("w"), types=(t,)),
    )
    model = lower(g, rows)
    assert len(model.graph.symbols()) == 1


def test_lists_of_tensors_and_absent_ones() -> None:
    rows = table(
        cat={"args": "xs, axis=0", "emit": "concat(xs, axis=axis)"},
        bias={"args": "x, b=None", "emit": "add(x, b)"},
        split=lambda c, n, x: c.op("split", x, axis=0, sizes=(1, 1)),
    )
    g = graph(
        node("split", Ref("x"), out=("a", "b")),
        node("cat", (Ref("b"), Ref("a")), out="c"),
        node("bias", Ref("c"), None),
    )
    (got,) = run(lower(g, rows), X)
    assert np.allclose(got, X[::-1])
    whole = graph(node("split", Ref("x"), out="parts"), node("cat", Ref("parts")))
    (got,) = run(lower(whole, rows), X)
    assert np.allclose(got, X)


def test_regions() -> None:
    def cond(c: Context, n: SourceNode, p: Value, x: Value) -> Any:
        then, other = (c.region(g, f"r{i}", [c.b.types[x]]) for i, g in enumerate(n.regions))
        return c.b.emit("cond", [p, x], regions=(then, other))

    def body(op: str) -> SourceGraph:
        return SourceGraph("pytorch", {"i": F}, ("o",), (node(op, Ref("i"), out="o"),), {})

    branches = (body("relu"), body("neg"))
    call = SourceNode("cond", (Ref("p"), Ref("x")), {}, ("y",), regions=branches)
    rows = table(cond=cond, relu=RELU, neg={"args": "x", "emit": "neg(x)"})
    g = graph(call, inputs={"x": F, "p": TensorType("bool", ())})
    model = lower(g, rows)
    for flag, want in ((True, np.maximum(X, 0)), (False, -X)):
        got = interpret.run(model, [X, np.asarray(flag)])
        assert np.allclose(next(iter(got.values())), want)
    with pytest.raises(CirError) as info:  # problems inside a region count too
        lower(g, table(cond=cond, relu=RELU))
    assert info.value.diagnostics[0].what == "unsupported operator neg"


def test_state_pairs_follow_renaming() -> None:
    g = graph(
        node("relu", Ref("s"), out="t"),
        node("relu", Ref("x"), out="y"),
        inputs={"x": F, "s": F},
        outputs=("y", "t"),
        output_names=("out",),
        state=(("s", "t"),),
    )
    model = lower(g, table(relu=RELU))
    assert model.graph.outputs == ("out", "t")
    assert model.state == (("s", "t"),)


def test_lowering_is_deterministic() -> None:
    rows = table(relu=RELU, add={"args": "x, y", "emit": "add(x, y) * 2"})
    g = graph(node("relu", Ref("x"), out="a"), node("add", Ref("a"), Ref("x")))

    def shape(graph: Graph) -> Any:
        return [(n.op, n.inputs, n.outputs, n.attrs) for n in graph.nodes], list(graph.types)

    assert shape(lower(g, rows).graph) == shape(lower(g, rows).graph)


def test_layout_macros() -> None:
    rows = table(
        conv={
            "args": "x, w",
            "emit": "nhwc(conv(nchw(x), oihw(w), strides=[1, 1], pads=[0, 0, 0, 0], dilations=[1, 1]))",
        },
        last={"args": "x", "emit": "nchw(x)"},
    )
    inputs = {"x": TensorType("float32", (1, 5, 4, 3)), "w": TensorType("float32", (2, 2, 3, 6))}
    model = lower(graph(node("conv", Ref("x"), Ref("w")), inputs=inputs), rows)
    assert model.graph.types[model.graph.outputs[0]].shape == (1, 4, 3, 6)
    with pytest.raises(CirError, match="rank 3 to 5"):
        lower(graph(node("last", Ref("x"))), rows)


def test_samples_are_deterministic_and_tell_a_wrong_row() -> None:
    (a, b), attrs = samples.operands(["float32[2,3]", "float32[2,3]", {"k": [1, 2]}])
    again = samples.operands(["float32[2,3]"])[0][0]
    assert np.array_equal(a, again) and not np.array_equal(a, b)
    assert attrs == {"k": (1, 2)}
    assert samples.tensor("int64[50]<5").max() == 4 and samples.tensor("+float32[9]").min() > 0
    assert samples.tensor("float32") is None and samples.tensor("same") is None
    wrong = table(neg={"args": "x", "emit": "abs(x)"})
    got = samples.run(wrong, "neg", ["float32[2,3]"], [F])
    for want in (-a, (-a).astype(np.float64), -a[0], np.zeros((2, 3), np.float32)):
        with pytest.raises(CirError) as info:
            samples.check(wrong.find("neg"), ["float32[2,3]"], got, [want])
        assert info.value.code == "E204"
    with pytest.raises(CirError, match="2 results"):
        samples.check(wrong.find("neg"), [], [a, a], [a])


@pytest.mark.parametrize(
    ("size", "k", "s", "d", "pads"),
    [
        (6, 3, 1, 1, (1, 1)),
        (6, 3, 2, 1, (0, 1)),
        (7, 3, 2, 1, (1, 1)),
        (5, 2, 1, 2, (1, 1)),
        (4, 1, 2, 1, (0, 0)),
    ],
)
def test_same_pads(size: int, k: int, s: int, d: int, pads: tuple[int, int]) -> None:
    from framework_adapter.functions import same_pads, same_pads_lower

    assert same_pads([size], [k], [s], [d]) == pads
    assert same_pads_lower([size], [k], [s], [d]) == pads[::-1]
    assert same_pads(["n"], [3], [1], [1]) == (1, 1)
    assert same_pads(["2*n"], [3], [2], [1]) == (0, 1)
    with pytest.raises(CirError, match="E207"):
        same_pads(["n"], [3], [2], [1])


def test_shape_functions() -> None:
    from framework_adapter import functions as f

    assert f.resolve(["b", -1], ["b", 4, 3]) == ("b", 12)
    assert f.resolve([-1, 4], ["b", "s", 4]) == ("b*s", 4)
    assert f.squeezed([1, "b", 1, 3]) == ("b", 3)
    assert f.squeezed([1, "b", 1, 3], -2) == (1, "b", 3)
    assert f.unsqueezed(["b", 3], (0, -1)) == (1, "b", 3, 1)
    assert f.flattened(["b", 2, "s", 4], 1, -1) == ("b", "8*s")
    assert f.flattened([], 0, -1) == (1,)
    assert f.swap(3, 0, -1) == (2, 1, 0)
    with pytest.raises(ValueError, match="more than one -1"):
        f.resolve([-1, -1], [4])
    with pytest.raises(ValueError, match="out of range"):
        f.axis(3, 2)
