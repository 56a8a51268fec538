"""The reference interpreter: feeds, compute dtype, symbols, regions, liveness."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from cir import interpret
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Const, Graph, Model, Range
from cir.interpret import bind_symbols, run


def scale_graph() -> Graph:
    """y = relu(x * w) for x [batch, 3]."""
    b = Builder()
    x = b.input("x", "float32", ("batch", 3))
    w = b.const(np.array([1.0, -1.0, 0.1], dtype=np.float32), name="w")
    y = b.emit("relu", [b.emit("mul", [x, w], name="h")[0]], name="y")
    return b.finish(y)


def test_runs_in_float64_by_default() -> None:
    out = run(scale_graph(), {"x": np.ones((2, 3), np.float32)})
    assert list(out) == ["y"] and out["y"].dtype == np.float64
    assert out["y"][0, 2] == float(np.float32(0.1))


def test_compute_none_keeps_the_dtypes_as_written() -> None:
    out = run(scale_graph(), [np.ones((2, 3), np.float32)], compute=None)
    assert out["y"].dtype == np.float32


def test_compute_float32_narrows_float64() -> None:
    b = Builder()
    x = b.input("x", "float64", (2,))
    g = b.finish(b.emit("exp", [x], name="y"))
    assert run(g, [np.zeros(2)], compute="float32")["y"].dtype == np.float32


def test_watch_returns_inner_values_inputs_and_constants() -> None:
    out = run(scale_graph(), {"x": np.ones((1, 3))}, watch=["h", "x", "w"])
    assert list(out) == ["y", "h", "x", "w"]
    np.testing.assert_array_equal(out["h"], out["x"] * out["w"])


def test_watching_an_unknown_value_is_e303() -> None:
    with pytest.raises(CirError, match="E303.*nowhere"):
        run(scale_graph(), {"x": np.ones((1, 3))}, watch=["nowhere"])


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({}, "missing"),
        ({"x": np.ones((2, 3)), "z": 1}, "'z' is not an input"),
        ({"x": np.ones((2, 4))}, "axis 1 has size 4 instead of 3"),
        ({"x": np.ones(3)}, "rank 1 instead of 2"),
        ({"x": np.ones((2, 3), np.int64)}, "dtype int64 instead of float32"),
        ([], "0 values are given"),
        ({"x": [["a", "b", "c"]]}, "could not convert"),
    ],
)
def test_wrong_feeds_are_e103(feeds: object, text: str) -> None:
    with pytest.raises(CirError, match="E103") as info:
        run(scale_graph(), feeds)  # type: ignore[arg-type]
    assert text in str(info.value)


def test_all_wrong_feeds_are_reported_at_once() -> None:
    b = Builder()
    x, y = b.input("x", "float32", ("n",)), b.input("y", "float32", ("n",))
    g = b.finish(b.emit("add", [x, y]))
    with pytest.raises(CirError) as info:
        run(g, {"a": 1})
    assert len(info.value.diagnostics) == 3
    with pytest.raises(CirError, match="axis 0 has size 3 instead of n = 2"):
        run(g, [np.ones(2), np.ones(3)])


def test_symbol_ranges_of_a_model_are_checked() -> None:
    model = Model(scale_graph(), symbols={"batch": Range(1, 4)})
    run(model, [np.ones((4, 3))])
    with pytest.raises(CirError, match="E103 symbol 'batch' is 5"):
        run(model, [np.ones((5, 3))])


def test_plain_numbers_become_arrays_of_the_declared_dtype() -> None:
    b = Builder()
    n = b.input("n", "int32", ())
    g = b.finish(b.emit("neg", [n], name="y"))
    assert run(g, [3])["y"].dtype == np.int32


def test_unknown_compute_dtype_is_e100() -> None:
    with pytest.raises(CirError, match="E100"):
        run(scale_graph(), [np.ones((1, 3))], compute="float16")


def test_casts_keep_float64_but_storage_casts_round() -> None:
    b = Builder()
    x = b.input("x", "float32", (1,))
    wide = b.emit("cast", [x], {"dtype": "float64"}, name="wide")[0]
    back = b.emit("cast", [wide], {"dtype": "float32"}, name="back")[0]
    half = b.emit("cast", [x], {"dtype": "float16"}, name="half")[0]
    brain = b.emit("cast", [x], {"dtype": "bfloat16"}, name="brain")[0]
    whole = b.emit("cast", [x], {"dtype": "int64"}, name="whole")[0]
    value = 1 + 2.0**-20
    out = run(b.finish([back, half, brain, whole]), [np.array([value])])
    assert out["back"].dtype == np.float64 and out["back"][0] == value
    assert out["half"].dtype == np.float64 and out["half"][0] == 1
    assert out["brain"].dtype == np.float64 and out["brain"][0] == 1
    assert out["whole"].dtype == np.int64
    as_written = run(b.finish([half]), [np.array([value], np.float32)], compute=None)
    assert as_written["half"].dtype == np.float16


def test_symbolic_attributes_take_their_sizes_from_the_inputs() -> None:
    b = Builder()
    x = b.input("x", "float32", ("n", "2*m", 3))
    flat = b.emit("reshape", [x], {"shape": ("2*m*n", 3)}, name="flat")[0]
    rows = b.emit(
        "slice", [flat], {"axes": [0], "starts": [1], "ends": ["2*m*n - 1"], "steps": [2]}
    )
    one = b.emit("expand", [b.const(1.0)], {"shape": ("m",)}, name="one")[0]
    out = run(b.finish([*rows, one]), [np.zeros((4, 10, 3))])
    assert out["slice"].shape == (19, 3) and out["one"].shape == (5,)


def test_data_dependent_dims_take_their_sizes_from_results() -> None:
    b = Builder()
    x = b.input("x", "bool", (6,))
    where = b.emit("nonzero", [x], name="where")[0]
    n = b.shape(where)[0]
    ones = b.emit("expand", [b.const(1.0)], {"shape": (n, 2)}, name="ones")[0]
    out = run(b.finish([where, ones]), [np.array([1, 0, 1, 0, 0, 1], bool)])
    assert out["ones"].shape == (3, 2)


def test_bind_symbols_solves_linear_dims_and_reports_the_rest() -> None:
    env: dict[str, int] = {}
    assert bind_symbols(("2*n + 1", "n"), (7, 3), env) == "" and env == {"n": 3}
    assert "instead of 2*n + 1 = 7" in bind_symbols(("2*n + 1",), (8,), env)
    assert bind_symbols(("a*b",), (6,), env) == "" and "a" not in env
    assert bind_symbols(("(k//2)",), (6,), env) == "" and "k" not in env
    assert bind_symbols(("n",), (9,), env, rebind=True) == "" and env["n"] == 9


def cond_graph() -> Graph:
    """y = p ? x + 10 : -x, the ten being the region's own constant."""
    b = Builder()
    p, x = b.input("p", "bool", ()), b.input("x", "float32", ("n",))
    then = b.region("then")
    a = then.input("a", "float32", ("n",))
    t = then.finish(then.emit("add", [a, then.const(10.0, name="ten")], name="t"))
    other = b.region("else")
    e = other.finish(other.emit("neg", [other.input("c", "float32", ("n",))], name="e"))
    return b.finish(b.emit("cond", [p, x], regions=[t, e], name="y"))


def test_cond_runs_the_region_taken() -> None:
    pytest.importorskip("cir.ops.control")
    g = cond_graph()
    x = np.arange(3.0)
    np.testing.assert_array_equal(run(g, [True, x])["y"], x + 10)
    np.testing.assert_array_equal(run(g, [False, x])["y"], -x)


def loop_graph() -> Graph:
    """while i < n: i, acc = i + 1, acc * k   (n and k are invariants)."""
    b = Builder()
    i, n = b.input("i", "int64", ()), b.input("n", "int64", ())
    acc, k = b.input("acc", "float32", (2,)), b.input("k", "float32", ())
    c = b.region("cond")
    ci, _, cn, _ = (c.input(m, d, s) for m, d, s in _LOOP)
    cond = c.finish(c.emit("less", [ci, cn], name="go"))
    y = b.region("body")
    yi, ya, _, yk = (y.input(m, d, s) for m, d, s in _LOOP)
    step = y.emit("add", [yi, y.const(np.int64(1))], name="next_i")
    body = y.finish([*step, *y.emit("mul", [ya, yk], name="next_acc")])
    outs = b.emit("while_loop", [i, acc, n, k], {"carried": 2}, regions=[cond, body], name="loop")
    return b.finish(outs)


_LOOP = [("li", "int64", ()), ("la", "float32", (2,)), ("ln", "int64", ()), ("lk", "float32", ())]


def test_while_loop_carries_state_and_watches_the_last_run() -> None:
    pytest.importorskip("cir.ops.control")
    out = run(loop_graph(), {"i": 0, "n": 5, "acc": [1.0, 2.0], "k": 2.0}, watch=["next_i"])
    np.testing.assert_array_equal(out["loop.1"], [32.0, 64.0])
    assert out["loop.0"] == 5 and out["next_i"] == 5


def test_values_are_freed_after_their_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Builder()
    v = b.input("x", "float32", (1000,))
    for k in range(8):
        (v,) = b.emit("neg", [v], name=f"v{k}")
    g = b.finish([v])
    alive: list[weakref.ref[np.ndarray]] = []
    most = [0]
    plain = interpret._Runner.node

    def spy(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        results = plain(self, *args, **kwargs)
        alive.extend(weakref.ref(r) for r in results)
        gc.collect()
        most[0] = max(most[0], sum(r() is not None for r in alive))
        return results

    monkeypatch.setattr(interpret._Runner, "node", spy)
    run(g, [np.ones(1000)])
    assert most[0] <= 2


def test_large_constants_are_converted_for_one_node_at_a_time() -> None:
    b = Builder()
    x = b.input("x", "float32", ())
    w = b.const(Const.of(np.ones(1 << 17, np.float32)), name="w")
    (a,) = b.emit("mul", [x, w], name="a")
    (c,) = b.emit("add", [a, w], name="c")
    assert run(b.finish([c]), [2.0])["c"].sum() == 3 * (1 << 17)


def test_a_reference_that_refuses_its_operands_is_e304() -> None:
    b = Builder()
    x = b.input("x", "float32", (3,))
    i = b.input("i", "int64", ())
    g = b.finish(b.emit("gather", [x, i], {"axis": 0}, name="y"))
    with pytest.raises(CirError, match="E304 gather does not run"):
        run(g, [np.ones(3), 7])


def test_a_result_that_is_not_of_its_declared_shape_is_e304() -> None:
    g = scale_graph()
    types = {**g.types, "h": g.types["x"].__class__("float32", ("batch", 4))}
    with pytest.raises(CirError, match="E304 mul: result 'h' has axis 1"):
        run(g.with_(types=types), [np.ones((1, 3))])
