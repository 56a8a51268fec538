"""Gathers by counting indices are views; values of one number stay that; pieces of joins are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cir.builder import Builder
from cir.graph import Graph
from cir.interpret import run
from cir.passes import cse, dce, fold, normalize
from cir.verify import verify

SIZES = {"n": 3, "t": 5}


class B(Builder):
    """A builder whose shorthand emits ops of one result."""

    def op(self, op: str, *inputs: str, **attrs: Any) -> str:
        return self.emit(op, inputs, attrs)[0]

    def x(self, *shape: Any, dtype: str = "float32") -> str:
        return self.input("x", dtype, shape)

    def k(self, value: Any, dtype: str = "int64") -> str:
        return self.const(np.asarray(value, dtype), "k")

    def count(self, like: str, axis: int) -> str:
        """arange over an axis of a value, symbolic or not."""
        n = self.op("gather", self.op("shape", like), self.k(axis))
        return self.op("arange", self.k(0), n, self.k(1))


def settled(graph: Graph) -> Graph:
    for _ in range(8):
        before = graph
        for step in (dce, normalize, fold, cse, dce):
            graph = step(graph)
        if graph is before:
            verify(graph)
            return graph
    raise AssertionError("does not settle")


def check(build: Callable[[B], Any], *want: str) -> Graph:
    """The canonical graph has these ops, apart from views, and gives the same numbers."""
    b = B()
    made = build(b)
    graph = b.finish([made] if isinstance(made, str) else made)
    after = settled(graph)
    found = [n.op for n in after.nodes if n.op not in ("reshape", "expand", "transpose")]
    assert found == list(want)
    assert [after.types[o] for o in after.outputs] == [graph.types[o] for o in graph.outputs]
    rng = np.random.default_rng(0)
    feeds = {}
    for name in graph.inputs:
        t = graph.types[name]
        shape = [SIZES[d] if isinstance(d, str) else d for d in t.shape]
        feeds[name] = (
            rng.standard_normal(shape) if "float" in t.dtype else rng.integers(0, 2, shape)
        )
    for a, c in zip(run(graph, feeds).values(), run(after, feeds).values()):
        np.testing.assert_array_equal(a, c)
    return after


def broadcast_mask(n: Any, t: Any) -> Callable[[B], str]:
    """x[arange(n)[:, None, None, None], arange(t)], as transformers makes masks."""

    def build(b: B) -> str:
        x = b.x(n, t)
        rows = b.op(
            "expand", b.op("reshape", b.count(x, 0), shape=[n, 1, 1, 1]), shape=[n, 1, 1, t]
        )
        columns = b.op(
            "expand", b.op("reshape", b.count(x, 1), shape=[1, 1, 1, t]), shape=[n, 1, 1, t]
        )
        parts = [b.op("reshape", v, shape=[n, 1, 1, t, 1]) for v in (rows, columns)]
        return b.op("gather_nd", x, b.op("concat", *parts, axis=-1))

    return build


@pytest.mark.parametrize(("n", "t"), [(3, 5), ("n", 5), (3, "t"), ("n", "t")])
def test_a_broadcast_mask_is_a_view(n: Any, t: Any) -> None:
    check(broadcast_mask(n, t))


def test_a_grid_that_turns_axes() -> None:
    def build(b: B) -> str:
        x = b.x(3, 5, 2)
        rows = np.broadcast_to(np.arange(3)[None, :], (5, 3))
        columns = np.broadcast_to(np.arange(5)[:, None], (5, 3))
        return b.op("gather_nd", x, b.k(np.stack([rows, columns], -1)))

    check(build)


def test_a_grid_over_a_part() -> None:
    def build(b: B) -> str:
        x = b.x(4, 5)
        rows = np.broadcast_to(np.arange(1, 3)[:, None], (2, 5))
        columns = np.broadcast_to(np.arange(5), (2, 5))
        return b.op("gather_nd", x, b.k(np.stack([rows, columns], -1)))

    check(build, "slice")


@pytest.mark.parametrize("index", [[0, 2, 1], [[0, 1], [1, 2]], [1, 0], [-1, 0]])
def test_indices_that_do_not_count_stay(index: Any) -> None:
    check(lambda b: b.op("gather", b.x(4, 3), b.k(index)), "gather")


def test_a_diagonal_stays() -> None:
    pairs = np.stack([np.arange(3), np.arange(3)], -1)
    check(lambda b: b.op("gather_nd", b.x(3, 3), b.k(pairs)), "gather_nd")


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_by_a_range_is_a_slice(axis: int) -> None:
    check(lambda b: b.op("gather", b.x(4, 5, 6), b.k([[1, 2, 3]]), axis=axis), "slice")


def test_gather_of_everything_is_nothing() -> None:
    after = check(lambda b: b.op("gather", b.x(4, 5), b.k(np.arange(4))))
    assert {n.op for n in after.nodes} <= {"reshape", "expand"}


def test_gather_elements_by_a_range() -> None:
    check(lambda b: b.op("gather_elements", b.x(1, 8), b.k([[0, 1, 2, 3, 4]]), axis=-1), "slice")


def test_positions_of_a_symbolic_length() -> None:
    """table[position_ids[:, :t]] with the usual constant position_ids."""

    def build(b: B) -> str:
        ids = b.x("n", "t", dtype="int64")
        positions = b.op(
            "slice", b.k(np.arange(8)[None]), axes=[1], starts=[0], ends=["t"], steps=[1]
        )
        table = b.const(
            np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32), "table"
        )
        return b.op("add", b.op("gather", table, ids), b.op("gather", table, positions))

    check(build, "gather", "slice", "add")


def test_token_types_of_a_symbolic_length() -> None:
    """A slice of a constant of zeros, gathered from a table, is one row of it."""

    def build(b: B) -> str:
        x = b.x("n", "t", 4)
        zeros = b.op("slice", b.k(np.zeros((1, 8))), axes=[1], starts=[0], ends=["t"], steps=[1])
        table = b.const(
            np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32), "table"
        )
        wide = b.op("expand", zeros, shape=["n", "t"])
        return b.op("add", x, b.op("gather", table, wide))

    after = check(build, "add")
    assert len(after.nodes) == 1


def test_places_at_or_after_the_first() -> None:
    """arange(t) >= 0 is true everywhere, and so says nothing in a mask."""

    def build(b: B) -> str:
        x = b.x("n", "t")
        seen = b.op("cast", x, dtype="bool")
        return b.op("logical_and", b.op("greater_equal", b.count(x, 1), b.k(0)), seen)

    check(build, "cast")


def test_places_after_a_later_one_stay() -> None:
    check(
        lambda b: b.op("greater_equal", b.count(b.x("n", "t"), 1), b.k(2)),
        "shape",
        "slice",
        "arange",
        "greater_equal",
    )


@pytest.mark.parametrize("op", ["slice", "split", "transpose", "reshape", "expand"])
def test_moving_one_number(op: str) -> None:
    attrs: dict[str, dict[str, Any]] = {
        "slice": {"axes": [1], "starts": [0], "ends": [2], "steps": [1]},
        "split": {"axis": 1, "sizes": [2, 2]},
        "transpose": {"perm": [1, 0]},
        "reshape": {"shape": ["2*n", 2]},
        "expand": {"shape": [2, "n", 4]},
    }

    def build(b: B) -> list[str]:
        b.x("n", 4)
        filled = b.op("expand", b.const(np.float32([[2.5]]), "k"), shape=["n", 4])
        return list(b.emit(op, [filled], attrs[op]))

    after = check(build, *(["identity"] if op == "split" else []))  # the same twice
    assert [n.op for n in after.nodes][:1] == ["expand"]


@pytest.mark.parametrize("how", ["slice", "split"])
def test_pieces_of_a_concatenation(how: str) -> None:
    def build(b: B) -> list[str]:
        x = b.x("n", 3)
        a, c = b.op("neg", x), b.op("abs", x)
        joined = b.op("concat", a, c, axis=-1)
        if how == "split":
            return list(b.emit("split", [joined], {"axis": -1, "sizes": [3, 3]}))
        return [b.op("slice", joined, axes=[1], starts=[3], ends=[6], steps=[1])]

    check(build, *(["neg", "abs"] if how == "split" else ["abs"]))


def test_a_cut_across_pieces_stays() -> None:
    def build(b: B) -> str:
        x = b.x("n", 3)
        joined = b.op("concat", b.op("neg", x), b.op("abs", x), axis=-1)
        return b.op("slice", joined, axes=[1], starts=[2], ends=[5], steps=[1])

    check(build, "neg", "abs", "concat", "slice")


@pytest.mark.parametrize(("op", "value"), [("add", 0), ("sub", 0), ("mul", 1), ("div", 1)])
def test_neutral_constants(op: str, value: int) -> None:
    k = np.full((3,), value, np.float32)
    after = check(lambda b: b.op("neg", b.op(op, b.x("n", 3), b.const(k, "k"))), "neg")
    assert len(after.nodes) == 1


def test_a_mask_that_hides_nothing() -> None:
    def build(b: B) -> str:
        x = b.x(2, 1, 5, 4)
        mask = b.const(np.ones((1, 1, 5, 5), bool), "mask")
        return b.op("scaled_dot_product_attention", x, x, x, mask, scale=0.5)

    (node,) = check(build, "scaled_dot_product_attention").nodes
    assert len(node.inputs) == 3


def test_a_region_takes_names_that_are_free_in_the_model() -> None:
    """What normalizing makes inside a body must not be called as a value outside it is."""
    b = B()
    x, n = b.x("n", 4), b.input("limit", "int64", ())
    outer = b.op("mul", x, b.const(np.float32(3)))  # the constant is called c
    zero = b.const(np.int64(0))
    operands = [zero, outer, n]

    def region(label: str) -> tuple[Builder, list[str]]:
        inner = b.region(label)
        types = [b.types[v] for v in operands]
        return inner, [inner.input(label, t.dtype, t.shape) for t in types]

    test, (i, _, limit) = region("test")
    go_on = test.finish(test.emit("less", [i, limit]))
    body, (i, y, _) = region("body")
    wide = body.emit("expand", [body.const(np.float32([2.0]), "two")], {"shape": ["n", 2, 4]})[0]
    part = body.emit("slice", [wide], {"axes": [1], "starts": [0], "ends": [1], "steps": [1]})[0]
    part = body.emit("reshape", [part], {"shape": ["n", 4]})[0]
    step = body.finish(
        [body.emit("add", [i, body.const(np.int64(1), "one")])[0], body.emit("add", [y, part])[0]]
    )
    made = b.emit("while_loop", operands, {"carried": 2}, regions=[go_on, step])
    graph = b.finish(made)
    after = settled(graph)
    assert after is not graph
    feeds = {"x": np.ones((3, 4)), "limit": np.int64(3)}
    for p, q in zip(run(graph, feeds).values(), run(after, feeds).values()):
        np.testing.assert_array_equal(p, q)
