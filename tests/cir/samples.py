"""Models that several test files use: each shows one side of the format."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from cir.builder import Builder
from cir.graph import Const, Graph, Meta, Model, Range, Source


def mlp() -> Model:
    """Two linear layers with large, small and tied constants, ranges and provenance."""
    rng = np.random.default_rng(0)
    b = Builder("mlp")
    x = b.input("x", "float32", ("batch", 8))
    w = rng.standard_normal((8, 8)).astype(np.float32)
    w1 = b.const(w, name="fc1.weight")
    b1 = b.const(np.linspace(-1, 1, 8, dtype=np.float32), name="fc1.bias")
    w2 = b.const(w.copy(), name="fc2.weight")
    b.meta = Meta((Source("aten.linear.default", "fc1", "model.py:7"),))
    (h,) = b.emit("linear", [x, w1, b1], name="fc1")
    b.meta = Meta(by=("gelu_erf",))
    (h,) = b.emit("gelu", [h], name="act")
    (h,) = b.emit("layer_norm", [h, None, b1], {"epsilon": float(np.float32(1e-5))}, name="norm")
    (y,) = b.emit("linear", [h, w2], name="fc2")
    (y,) = b.emit("mul", [y, b.const(0.1)], name="y")
    meta = {"made": "by a test", "n": [1, 2.5, None]}
    return Model(b.finish([y]), {"batch": Range(1, 64, (1, 8))}, meta=meta)


def dynamic() -> Model:
    """Symbolic and data-dependent dims, several outputs, attributes of every kind."""
    b = Builder("dynamic")
    x = b.input("x", "float32", ("n", "2*m + 1"))
    m = b.input("mask", "bool", ("n",))
    (where,) = b.emit("nonzero", [m], name="where")
    k = b.shape(where)[0]
    (rows,) = b.emit("reshape", [where], {"shape": (k,)}, name="rows")
    (picked,) = b.emit("gather", [x, rows], {"axis": 0}, name="picked")
    values, indices = b.emit("topk", [picked], {"k": 1}, names=["best", "best.index"])
    (low,) = b.emit("clip", [values], {"min": float("-inf"), "max": 3.0}, name="low")
    (flat,) = b.emit("reshape", [x], {"shape": ("2*m*n + n",)}, name="flat")
    return Model(b.finish([low, indices, flat]), {"n": Range(0, None)})


def cond() -> Graph:
    """y = p ? x + 10 : x * big, with constants of the regions' own."""
    b = Builder("choice")
    p, x = b.input("p", "bool", ()), b.input("x", "float32", (20,))
    then = b.region("then")
    a = then.input("a", "float32", (20,))
    t = then.finish(then.emit("add", [a, then.const(10.0, name="ten")], name="t"))
    other = b.region("else")
    c = other.input("c", "float32", (20,))
    big = other.const(np.arange(20, dtype=np.float32), name="big")
    e = other.finish(other.emit("mul", [c, big], name="e"))
    return b.finish(b.emit("cond", [p, x], regions=[t, e], name="y"))


def loop() -> Model:
    """while i < n: i, acc = i + 1, acc * k; acc is the model's state."""
    b = Builder("loop")
    i, n = b.input("i", "int64", ()), b.input("n", "int64", ())
    acc, k = b.input("acc", "float32", (2,)), b.input("k", "float32", ())
    c = b.region("cond")
    sig = [("li", "int64", ()), ("la", "float32", (2,)), ("ln", "int64", ()), ("lk", "float32", ())]
    ci, _, cn, _ = (c.input(*s) for s in sig)
    test = c.finish(c.emit("less", [ci, cn], name="go"))
    y = b.region("body")
    yi, ya, _, yk = (y.input(*s) for s in sig)
    step = y.emit("add", [yi, y.const(np.int64(1))], name="next_i")
    body = y.finish([*step, *y.emit("mul", [ya, yk], name="next_acc")])
    outs = b.emit("while_loop", [i, acc, n, k], {"carried": 2}, regions=[test, body], name="loop")
    return Model(b.finish(outs), state=(("acc", outs[1]),))


def storage() -> Model:
    """Constants of every dtype, inline and as blobs."""
    import ml_dtypes

    b = Builder("storage")
    x = b.input("x", "int4", (3,))
    rng = np.random.default_rng(1)
    floats = np.array([0.1, -0.0, np.inf, -np.inf, np.nan, 1e-3], np.float32)
    outs = [x]
    for name in "float16 bfloat16 float32 float64 float8_e4m3fn float8_e5m2".split():
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        outs.append(b.const(Const.of(floats.astype(dtype)), name=f"{name}.small"))
        outs.append(b.const(Const.of(rng.standard_normal(33).astype(dtype)), name=f"{name}.big"))
    for name in "int4 uint4".split():
        dtype = np.dtype(getattr(ml_dtypes, name))
        low = -8 if name == "int4" else 0
        values = rng.integers(low, low + 16, (3, 7)).astype(np.int8)
        outs.append(b.const(Const.of(values[:, :5].astype(dtype)), name=f"{name}.small"))
        outs.append(b.const(Const.of(values.astype(dtype)), name=f"{name}.big"))
    for name in "int8 int16 int32 int64 uint8 uint16 uint32 uint64".split():
        info = np.iinfo(name)
        ends = np.array([info.min, 0, info.max], name)
        outs.append(b.const(Const.of(ends), name=f"{name}.small"))
        outs.append(b.const(Const.of(np.resize(ends, (2, 9))), name=f"{name}.big"))
    outs.append(b.const(Const.of(np.array([True, False])), name="bool.small"))
    outs.append(b.const(Const.of(rng.random(17) < 0.5), name="bool.big"))
    z = (rng.standard_normal(17) + 1j).astype(np.complex64)
    outs.append(b.const(Const.of(z[:2]), name="complex64.small"))
    outs.append(b.const(Const.of(z), name="complex64.big"))
    outs.append(b.const(Const.of(z[:2].astype(np.complex128)), name="complex128.small"))
    outs.append(b.const(Const.of(np.zeros((0, 4), np.float32)), name="empty"))
    return Model(b.finish(outs))


def all_models() -> dict[str, Model]:
    """Every sample by name."""
    return {
        "mlp": mlp(),
        "dynamic": dynamic(),
        "cond": Model(cond()),
        "loop": loop(),
        "storage": storage(),
    }


_UNARY = ["neg", "abs", "relu", "exp", "sigmoid", "floor"]
_BINARY = ["add", "sub", "mul", "div", "maximum", "pow"]


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Random models over [n, 3]-shaped values: elementwise ops, reductions, constants, attributes."""
    b = Builder(draw(st.sampled_from(["main", "net", "a b"])))
    dims: tuple = ("n", 3)
    pool = [b.input(f"x{i}", "float32", dims) for i in range(draw(st.integers(1, 3)))]
    number = st.floats(width=32, allow_subnormal=False)
    for _ in range(draw(st.integers(0, 12))):
        a = draw(st.sampled_from(pool))
        match draw(st.integers(0, 6)):
            case 0:
                out = b.emit(draw(st.sampled_from(_UNARY)), [a])
            case 1:
                out = b.emit(draw(st.sampled_from(_BINARY)), [a, draw(st.sampled_from(pool))])
            case 2:
                out = b.emit(draw(st.sampled_from(_BINARY)), [a, b.const(draw(number))])
            case 3:
                w = draw(st.lists(number, min_size=3, max_size=3))
                out = b.emit("mul", [a, b.const(np.array(w, np.float32), name="w")])
            case 4:
                w = np.full((3, 7), draw(number), np.float32)
                (wide,) = b.emit("matmul", [a, b.const(w)])
                out = b.emit(
                    "slice", [wide], {"axes": -1, "starts": [1], "ends": [4], "steps": [1]}
                )
            case 5:
                low = draw(st.none() | number.filter(lambda v: v <= 0))
                high = draw(st.none() | number.filter(lambda v: v >= 0))
                out = b.emit("clip", [a], {"min": low, "max": high})
            case _:
                (mean,) = b.emit("mean", [a], {"axis": draw(st.sampled_from([[0], [1], [0, 1]]))})
                out = b.emit("add", [a, mean])
        pool.extend(out)
    outputs = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique=True))
    return Model(b.finish(outputs), {"n": Range(draw(st.integers(0, 3)))})
