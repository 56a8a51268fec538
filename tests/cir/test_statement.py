"""Statements: parsing, and the nodes they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cir.builder import Builder
from cir.diagnostics import CirError
from cir.expr import ExprError
from cir.graph import Graph, Meta
from cir.interpret import run
from cir.statement import Alt, Call, Literal, Name, StatementError, instantiate, parse


def graph_of(*lines: str, attrs: dict | None = None, **more: Any) -> Graph:
    """The graph of statements over x, w: float32[2, 3] and p: bool[2, 3]."""
    b = Builder()
    values = {
        "x": b.input("x", "float32", (2, 3)),
        "w": b.input("w", "float32", (2, 3)),
        "p": b.input("p", "bool", (2, 3)),
        "absent": None,
        **more.pop("values", {}),
    }
    env = instantiate(lines, b, values, attrs, **more)
    out = env["y"]
    return b.finish(out if isinstance(out, list) else [out])


def ops(g: Graph) -> list[str]:
    return [n.op for n in g.nodes]


# -- parsing ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "targets", "value"),
    [
        ("y = relu(x)", ("y",), Call("relu", (Name("x"),))),
        ("relu(x)", ("y",), Call("relu", (Name("x"),))),
        ("a, b = split(x)", ("a", "b"), Call("split", (Name("x"),))),
        ("y = -1.5", ("y",), Literal(-1.5)),
        ("y = -x", ("y",), Call("neg", (Name("x"),))),
        ("y = ~x", ("y",), Call("logical_not", (Name("x"),))),
        ("y = x @ w", ("y",), Call("matmul", (Name("x"), Name("w")))),
        ("y = x ** 2", ("y",), Call("pow", (Name("x"), Literal(2)))),
        ("y = x <= w", ("y",), Call("less_equal", (Name("x"), Name("w")))),
        ("y = x | w | 1", ("y",), Alt((Name("x"), Name("w"), Literal(1)))),
        ("y = concat(*x)", ("y",), Call("concat", (Name("x"),), (), frozenset([0]))),
        ("y = f(None)", ("y",), Call("f", (Literal(None),))),
    ],
)
def test_parse(line: str, targets: tuple, value: Any) -> None:
    st_ = parse(line)
    assert (st_.targets, st_.value, st_.source) == (targets, value, line)


def test_attributes_stay_expressions() -> None:
    value = parse("y = softmax(x, axis=k - 1)").value
    assert isinstance(value, Call) and [k for k, _ in value.attrs] == ["axis"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "y = ",
        "y = x; z = x",
        "for i in x: pass",
        "y += x",
        "a.b = x",
        "a = b = x",
        "(a, b.c) = x",
        "y = x.shape",
        "y = x[0]",
        "y = f(**x)",
        "y = a.f(x)",
        "y = x < w < 1",
        "y = x and w",
        "y = lambda: x",
        "y = [x]",
        "import os",
        "y = b'x'",
        "y" * 20_000,
        "y = " + "(" * 500,
        "y = x\0",
    ],
)
def test_refusals(line: str) -> None:
    with pytest.raises(StatementError):
        parse(line)


@settings(max_examples=300, deadline=None)
@given(st.text("xyw =+-*/@|~()<>,.1'", max_size=30))
def test_any_text_parses_or_is_a_statement_error(line: str) -> None:
    try:
        parse(line)
    except StatementError:
        pass


# -- instantiation ---------------------------------------------------------------------------------
def test_infix_and_numbers_give_nodes_and_scalar_constants() -> None:
    g = graph_of("c = x - w", "y = c * 0.5 + 1")
    assert ops(g) == ["sub", "mul", "add"]
    assert [str(c.type) for c in g.consts.values()] == ["float32[]", "float32[]"]
    x, w = np.ones((2, 3)), np.full((2, 3), 3.0)
    out = run(g, {"x": x, "w": w, "p": x > 0})
    np.testing.assert_array_equal(out[g.outputs[0]], np.zeros((2, 3)))


def test_numbers_take_the_dtype_of_the_tensor_beside_them() -> None:
    b = Builder()
    i = b.input("i", "int32", (2,))
    env = instantiate(["y = i + 1", "z = less(i, 3)"], b, {"i": i})
    assert b.types[env["y"]].dtype == "int32" and b.types[env["z"]].dtype == "bool"


def test_absent_operands_leave_the_other_one() -> None:
    assert ops(graph_of("y = relu(x) * absent + absent")) == ["relu"]
    assert ops(graph_of("y = absent + relu(x)")) == ["relu"]
    with pytest.raises(StatementError, match="no left operand"):
        graph_of("y = absent - x")


def test_attributes_see_views_names_and_functions() -> None:
    g = graph_of(
        "y = reshape(x, shape=(x.shape[0], twice(k), x.shape[1] // 3))",
        attrs={"k": 3 // 2},
        functions={"twice": lambda v: 3 * v},
    )
    assert str(g.types[g.outputs[0]]) == "float32[2, 3, 1]"


def test_several_results_and_starred_values() -> None:
    g = graph_of("a, b = split(x, axis=-1, sizes=(1, 2))", "y = concat(b, a, axis=-1)")
    assert ops(g) == ["split", "concat"] and g.nodes[1].inputs == ("split.1", "split.0")
    g = graph_of("xs = split(x, axis=-1, sizes=(1, 2))", "y = concat(*xs, axis=-1)")
    assert g.nodes[1].inputs == ("split.0", "split.1")
    with pytest.raises(StatementError, match="does not give 2"):
        graph_of("a, b = relu(x)")


def test_names_and_provenance_go_to_the_nodes() -> None:
    g = graph_of("h = relu(x)", "y = h * w", name="block", meta=Meta(by=("rule",)))
    assert [n.name for n in g.nodes] == ["block.h", "block"]
    assert all(n.meta.by == ("rule",) for n in g.nodes)


def test_conditions_emit_one_side_only() -> None:
    line = "y = relu(x) if k > 1 else exp(x)"
    assert ops(graph_of(line, attrs={"k": 2})) == ["relu"]
    assert ops(graph_of(line, attrs={"k": 1})) == ["exp"]


def test_macros_are_called_with_the_builder() -> None:
    def double(b: Builder, x: str, *, times: int) -> str:
        for _ in range(times):
            (x,) = b.emit("add", [x, x])
        return x

    assert ops(graph_of("y = double(relu(x), times=2)", macros={"double": double})) == [
        "relu", "add", "add",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("y = relu(z)", StatementError),
        ("y = relu(x) | x", StatementError),
        ("y = softmax(x, axis=q)", ExprError),
        ("y = nothing(x)", CirError),
        ("y = relu(x, w)", CirError),
        ("y = x + p", CirError),
    ],
)
def test_errors(line: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        graph_of(line)
