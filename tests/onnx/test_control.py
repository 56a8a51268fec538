"""Control flow, state, data-dependent shapes and storage dtypes: hand-written programs in ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cir.builder import Builder
from cir.graph import Const, Model
from framework_adapter.onnx import emit as em
from tests.onnx.support import check, ops

F = np.float32


def _cond() -> Model:
    """y = x*2 + w if sum(x) > 0 else x - 1, and a second result that is an operand in one branch."""
    b = Builder()
    x = b.input("x", "float32", ["n", 3])
    w = b.const(np.arange(3, dtype=F), "w")
    total = b.emit("sum", [x], {"axis": [0, 1], "keepdims": False})[0]
    pred = b.emit("greater", [total, b.const(F(0))], name="pred")[0]
    regions = []
    for name in ("then", "else"):
        r = b.region(name)
        rx, rw = r.input("rx", "float32", ["n", 3]), r.input("rw", "float32", [3])
        if name == "then":
            y = r.emit("add", [r.emit("mul", [rx, r.const(F(2))])[0], rw])[0]
            z = rx
        else:
            y = r.emit("sub", [rx, r.const(F(1))])[0]
            z = r.emit("neg", [rx])[0]
        regions.append(r.finish([y, z]))
    outs = b.emit("cond", [pred, x, w], regions=regions, names=["y", "z"])
    return Model(b.finish(outs))


def test_cond(tmp_path: Path) -> None:
    """Operands of regions become captures; a branch that returns an operand copies it."""
    model = _cond()
    for sign in (1, -1):
        check(model, [np.full((2, 3), sign * 0.5, F)], tmp_path / "m.onnx")
    assert "If" in ops(tmp_path / "m.onnx")


def _loop(first: int) -> Model:
    """while i < limit: i, s = i + 1, s * 0.5 + w."""
    b = Builder()
    x = b.input("x", "float32", [2, 3])
    w = b.input("w", "float32", [3])
    i = b.const(np.int64(first), "i")
    regions = []
    for name in ("cond", "body"):
        r = b.region(name)
        ri, rs = r.input("ri", "int64", []), r.input("rs", "float32", [2, 3])
        rw = r.input("rw", "float32", [3])
        if name == "cond":
            outs = [r.emit("less", [ri, r.const(np.int64(4))])[0]]
        else:
            half = r.emit("mul", [rs, r.const(F(0.5))])[0]
            outs = [r.emit("add", [ri, r.const(np.int64(1))])[0], r.emit("add", [half, rw])[0]]
        regions.append(r.finish(outs))
    outs = b.emit("while_loop", [i, x, w], {"carried": 2}, regions=regions, names=["k", "y"])
    return Model(b.finish(outs))


@pytest.mark.parametrize("first", [0, 3, 9])
def test_while_loop(first: int, tmp_path: Path) -> None:
    """The test runs before the first turn, so a loop may run 4, 1 or 0 times."""
    feeds = [np.arange(6, dtype=F).reshape(2, 3), np.ones(3, F)]
    check(_loop(first), feeds, tmp_path / "m.onnx")


def test_nested(tmp_path: Path) -> None:
    """A cond in a loop reads values of both graphs around it."""
    b = Builder()
    x = b.input("x", "float32", [4])
    i = b.const(np.int64(0), "i")
    test = b.region("cond")
    ti, _ = test.input("ti", "int64", []), test.input("tx", "float32", [4])
    test_graph = test.finish([test.emit("less", [ti, test.const(np.int64(5))])[0]])
    body = b.region("body")
    bi, bx = body.input("bi", "int64", []), body.input("bx", "float32", [4])
    odd = body.emit(
        "equal", [body.emit("mod", [bi, body.const(np.int64(2))])[0], body.const(np.int64(1))]
    )
    branches = []
    for name, op in (("then", "add"), ("else", "mul")):
        r = body.region(name)
        rx = r.input("rx", "float32", [4])
        branches.append(r.finish([r.emit(op, [rx, r.const(F(1.5))])[0]]))
    y = body.emit("cond", [odd[0], bx], regions=branches)[0]
    nxt = body.emit("add", [bi, body.const(np.int64(1))])[0]
    loop = b.emit("while_loop", [i, x], {"carried": 2}, names=["k", "y"],
                  regions=[test_graph, body.finish([nxt, y])])  # fmt: skip
    check(Model(b.finish(loop[1:])), [np.arange(4, dtype=F)], tmp_path / "m.onnx")


def test_state(tmp_path: Path) -> None:
    """State is an input and an output each; the pairs are in the file's metadata."""
    import onnx

    b = Builder()
    x, count = b.input("x", "float32", [2]), b.input("count", "int64", [])
    more = b.emit("add", [count, b.const(np.int64(1))], name="count_out")[0]
    y = b.emit("mul", [x, b.emit("cast", [more], {"dtype": "float32"})[0]], name="y")[0]
    model = Model(b.finish([y, more]), state=(("count", "count_out"),))
    path = tmp_path / "m.onnx"
    em.emit(model, path)
    n = np.int64(0)
    for turn in (1, 2, 3):
        out, n = em.run(path, [np.ones(2, F), n], threads=1)
        assert n == turn and np.array_equal(out, np.full(2, turn, F))
    props = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert json.loads(props["state"]) == [["count", "count_out"]]


def test_nonzero_feeds_shape_arithmetic(tmp_path: Path) -> None:
    """A dim that depends on data is read off the value that has it."""
    b = Builder()
    x = b.input("x", "float32", [3, 4])
    mask = b.emit("greater", [x, b.const(F(0))])[0]
    where = b.emit("nonzero", [mask])[0]
    n = b.shape(where)[0]
    picked = b.emit("gather_nd", [x, where])[0]
    grid = b.emit("expand", [picked], {"shape": [2, n]})[0]
    flat = b.emit("reshape", [grid], {"shape": [f"2*{n}"]}, name="y")[0]
    data = np.arange(12, dtype=F).reshape(3, 4) - 5
    check(Model(b.finish([flat])), [data], tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int4", "uint4", "float8_e4m3fn", "float8_e5m2"]
)
def test_quantised_linear(dtype: str, tmp_path: Path) -> None:
    """A weight in a storage dtype, dequantized by channel, next to a quantised activation."""
    from cir import dtype as dt

    rng = np.random.default_rng(0)
    low = -7 if not dtype.startswith("u") else 0
    data = rng.integers(low, 8, (5, 4)).astype(np.int8).astype(dt.to_numpy(dtype))
    b = Builder()
    x = b.input("x", "float32", [3, 4])
    w = b.const(Const.of(data), "w")
    scale = b.const((rng.random(5) / 4 + 0.1).astype(F), "scale")
    zero = b.const(Const.of(np.zeros(5, np.int8).astype(dt.to_numpy(dtype))), "zero")
    s8, z8 = b.const(F(0.05)), b.const(Const.of(np.int8(3)))
    xq = b.emit("quantize", [x, s8, z8])[0]
    xd = b.emit("dequantize", [xq, s8, z8])[0]
    wd = b.emit("dequantize", [w, scale, zero], {"axis": 0})[0]
    y = b.emit("linear", [xd, wd], name="y")[0]
    result = check(
        Model(b.finish([y])), [rng.standard_normal((3, 4)).astype(F)], tmp_path / "m.onnx"
    )
    assert result.version == (21 if "4" == dtype[-1] else 20)


def test_bfloat16_weight(tmp_path: Path) -> None:
    """A bfloat16 constant is stored as such and cast where it is used."""
    import ml_dtypes

    w = np.arange(8, dtype=F).reshape(2, 4).astype(ml_dtypes.bfloat16)
    b = Builder()
    x = b.input("x", "float32", [3, 4])
    wf = b.emit("cast", [b.const(Const.of(w), "w")], {"dtype": "float32"})[0]
    y = b.emit("linear", [x, wf], name="y")[0]
    check(Model(b.finish([y])), [np.ones((3, 4), F)], tmp_path / "m.onnx")


def test_outputs_that_are_inputs_constants_or_twice(tmp_path: Path) -> None:
    """Each output is a value of its own in the file."""
    b = Builder()
    x = b.input("x", "float32", [2])
    c = b.const(np.ones(3, F), "c")
    y = b.emit("relu", [x], name="y")[0]
    same = b.emit("identity", [y], name="same")[0]
    model = Model(b.finish([x, c, y, same]))
    em.emit(model, tmp_path / "m.onnx")
    got = em.run(tmp_path / "m.onnx", [np.array([-1, 2], F)], threads=1)
    assert [g.tolist() for g in got] == [[-1, 2], [1, 1, 1], [0, 2], [0, 2]]
