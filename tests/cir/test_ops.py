"""Every registered op against its own samples: inference, reference, decomposition, precision."""

from __future__ import annotations

import itertools
import re
import zlib
from typing import Any

import numpy as np
import pytest

from cir import dim as dims
from cir import dtype as dt
from cir import spec
from cir.builder import Builder, infer
from cir.diagnostics import CirError
from cir.graph import TensorType
from cir.interpret import run
from cir.passes.decompose import expand
from cir.statement import instantiate

_SAMPLE = re.compile(r"(?P<plus>\+?)(?P<dtype>\w+)\[(?P<shape>[\d,]*)\](?:<(?P<below>\d+))?\Z")
SAMPLES = [
    pytest.param(s, sample, id=f"{name}-{i}")
    for name, s in spec.all_ops().items()
    for i, sample in enumerate(s.samples)
]
FLOATING = [p for p in SAMPLES if any("float" in (text or "") for text in p.values[1]["inputs"])]
COMPOSITES = [p for p in SAMPLES if p.values[0].is_composite]


class Context:
    """Inference context over known arrays."""

    def __init__(self, values: list[Any] = (), regions: Any = ()) -> None:  # type: ignore[assignment]
        self.values, self.regions = list(values), regions
        self._fresh = itertools.count()

    def fresh(self) -> str:
        return f"u{next(self._fresh)}"

    def value(self, index: int) -> Any:
        return self.values[index] if index < len(self.values) else None


def attrs_of(sample: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in sample.items() if k != "inputs"}


def array(text: str | None, rng: np.random.Generator) -> np.ndarray | None:
    """Random data of a sample's input: ``+`` positive, ``<n`` integers in [0, n)."""
    if text is None:
        return None
    m = _SAMPLE.match(text)
    assert m, text
    shape = tuple(int(d) for d in m["shape"].split(",") if d)
    dtype = m["dtype"]
    if dtype == "bool":
        return rng.random(shape) < 0.6
    if dt.is_float(dtype):
        x = rng.standard_normal(shape)
        return np.asarray(np.abs(x) + 0.1 if m["plus"] else x).astype(dt.to_numpy(dtype))
    low, high = (0, int(m["below"])) if m["below"] else (-9, 10)
    return rng.integers(1 if m["plus"] else low, high, shape).astype(dt.to_numpy(dtype))


def arrays(s: spec.OpSpec, sample: dict[str, Any], wide: bool = True) -> list[Any]:
    """The same random inputs on each call; floats as float64 unless told otherwise."""
    rng = np.random.default_rng(zlib.crc32(f"{s.name}{sample}".encode()))
    out = [array(t, rng) for t in sample["inputs"]]
    return [x.astype(np.float64) if wide and is_float(x) else x for x in out]


def is_float(x: Any) -> bool:
    return x is not None and x.dtype.name in dt.FLOATS


def types_of(xs: list[Any]) -> list[TensorType | None]:
    return [None if x is None else TensorType(x.dtype.name, x.shape) for x in xs]


def reference(s: spec.OpSpec, xs: list[Any], attrs: dict[str, Any]) -> list[np.ndarray]:
    out = s.reference(*xs, **attrs)
    return [np.asarray(y) for y in (out if isinstance(out, (tuple, list)) else (out,))]


def scaled_error(a: np.ndarray, b: np.ndarray) -> float:
    """max|a - b| / max(max|b|, 1e-6) in float64; equal infinities and nans do not count."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.abs(b[np.isfinite(b)])
    scale = max(float(finite.max(initial=0)), 1e-6)
    gap = np.where(same, 0.0, np.abs(np.where(same, 0, a) - np.where(same, 0, b)))
    assert not np.isnan(gap).any(), "nan on one side only"
    return float(gap.max(initial=0) / scale)


def test_vocabulary() -> None:
    ops = spec.all_ops()
    assert len(ops) >= 120
    for name, s in ops.items():
        assert s.doc, f"{name} has no docstring"
        assert len(s.samples) >= 2 or s.regions, f"{name} needs two samples"
        assert s.layout in ("elementwise", "axis", "view", "opaque") or s.layout.startswith(
            "per_axis:"
        )
        assert not s.commutative or len(s.inputs) == 2


@pytest.mark.parametrize("wide", [False, True], ids=["as-written", "float64"])
@pytest.mark.parametrize("s, sample", SAMPLES)
def test_inferred_type_is_the_result_type(
    s: spec.OpSpec, sample: dict[str, Any], wide: bool
) -> None:
    xs = arrays(s, sample, wide)
    attrs, types = infer(s.name, types_of(xs), attrs_of(sample), Context(xs))
    results = reference(s, xs, attrs)
    assert len(results) == len(types)
    for y, t in zip(results, types):
        assert y.dtype.name == t.dtype
        assert y.ndim == t.rank
        assert all(isinstance(d, str) or d == n for d, n in zip(t.shape, y.shape)), (y.shape, t)


@pytest.mark.parametrize("s, sample", FLOATING)
def test_float32_follows_float64(s: spec.OpSpec, sample: dict[str, Any]) -> None:
    narrow = arrays(s, sample, wide=False)
    attrs = infer(s.name, types_of(narrow), attrs_of(sample), Context(narrow))[0]
    wide = [x.astype(np.float64) if is_float(x) else x for x in narrow]
    for a, b in zip(reference(s, narrow, attrs), reference(s, wide, attrs)):
        k = 2**16 if a.dtype.name == "bfloat16" else 2**13 if a.dtype == np.float16 else 1
        assert scaled_error(a, b) <= 16 * k * np.finfo(np.float32).eps


#: Not arithmetic: cast rounds by itself, scattering adds in the dtype given.
_NO_WIDENING = ("cast", "scatter_nd", "scatter_elements")


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("s, sample", [p for p in FLOATING if p.values[0].name not in _NO_WIDENING])
def test_half_floats(s: spec.OpSpec, sample: dict[str, Any], half: str) -> None:
    """Half floats compute in float32: the result is the float32 result, rounded once."""
    full = arrays(s, sample, wide=False)
    xs = [x.astype(dt.to_numpy(half)) if is_float(x) else x for x in full]
    attrs, types = infer(s.name, types_of(xs), attrs_of(sample), Context(xs))
    wide = [x.astype(np.float32) if is_float(x) else x for x in xs]
    for y, z, t in zip(reference(s, xs, attrs), reference(s, wide, attrs), types):
        assert y.dtype.name == t.dtype
        want = z.astype(y.dtype).astype(np.float64)
        np.testing.assert_array_equal(y.astype(np.float64), want)


@pytest.mark.parametrize("s, sample", COMPOSITES)
def test_decomposition_is_the_reference(s: spec.OpSpec, sample: dict[str, Any]) -> None:
    xs = arrays(s, sample)
    attrs, types = infer(s.name, types_of(xs), attrs_of(sample), Context(xs))
    b = Builder()
    feeds = {p.name: x for p, x in zip(s.inputs, xs) if x is not None}
    inputs = [x if x is None else b.input(p.name, x.dtype.name, x.shape) for p, x in zip(s.inputs, xs)]
    outputs = expand(b, s.name, inputs, attrs)
    assert [b.type(o) for o in outputs] == types
    assert s.name not in {n.op for n in b.nodes}
    got = run(b.finish(outputs), feeds)
    for o, want in zip(outputs, reference(s, xs, attrs)):
        assert scaled_error(got[o], want) <= 1e-10


@pytest.mark.parametrize("s, sample", COMPOSITES)
def test_decomposition_with_symbolic_dims(s: spec.OpSpec, sample: dict[str, Any]) -> None:
    """With the first axis symbolic the decomposition has the type that inference gives the composite."""
    xs = arrays(s, sample)
    n = xs[0].shape[0] if xs[0].ndim else 1
    types = symbolised(types_of(xs), {n: "n"}) if n > 1 else types_of(xs)
    try:
        attrs, want = infer(s.name, types, attrs_of(sample), Context())
    except spec.InferError:
        pytest.skip("the first axis must be known")
    b = Builder()
    inputs = [t if t is None else b.input(p.name, t.dtype, t.shape) for p, t in zip(s.inputs, types)]
    assert [b.type(o) for o in expand(b, s.name, inputs, attrs)] == want


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, "bool", "float64"])
def test_attention_decomposes_over_a_symbolic_sequence(causal: bool, mask: str | None) -> None:
    name = "scaled_dot_product_attention"
    s, rng = spec.get(name), np.random.default_rng(1)
    b = Builder()
    values: dict[str, Any] = {"mask": mask and b.input("mask", mask, ["s", "t"])}
    for p, axis in (("q", "s"), ("k", "t"), ("v", "t")):
        values[p] = b.input(p, "float64", ["n", 2, axis, 8])
    attrs = {"scale": 0.3, "causal": causal}
    y = instantiate(s.decomposition, b, values, attrs)["y"]
    assert b.shape(y) == ("n", 2, "s", 8)
    feeds = {p: rng.standard_normal((3, 2, 4 if p == "q" else 5, 8)) for p in "qkv"}
    if mask:
        feeds["mask"] = rng.standard_normal((4, 5))
    if mask == "bool":
        feeds["mask"] = feeds["mask"] > 0
        feeds["mask"][1] = False
    got = run(b.finish([y]), feeds)[y]
    want = s.reference(*(feeds[p] for p in "qkv"), feeds.get("mask"), **attrs)
    assert scaled_error(got, want) < 1e-12


def symbolised(types: Any, names: dict[int, str]) -> list[TensorType | None]:
    """Types with each dim of a listed size replaced by a symbol."""
    return [t and TensorType(t.dtype, tuple(names.get(d, d) for d in t.shape)) for t in types]


#: Ops whose result's shape comes from values, or that have no axis a symbol can stand for.
_VALUE_SHAPED = {"arange", "nonzero"}


@pytest.mark.parametrize(
    "s", [s for s in spec.all_ops().values() if s.samples], ids=lambda s: s.name
)
def test_symbolic_inference_agrees_with_concrete(s: spec.OpSpec) -> None:
    """Infer with symbols for sizes, substitute the sizes: the same type as inferring with the sizes."""
    tried = 0
    for sample in s.samples:
        types = types_of(arrays(s, dict(sample), wide=False))
        given = attrs_of(dict(sample))
        attrs, concrete = infer(s.name, types, given, Context())
        for n in sorted({d for t in types if t for d in t.shape if d > 1}):
            sym = symbolised(types, {n: "n"})
            for candidate in (given, symbolic_attrs(s, attrs, n)):
                try:
                    _, out = infer(s.name, sym, candidate, Context())
                except spec.InferError:
                    continue
                tried += 1
                for a, b in zip(out, concrete):
                    shape = tuple(dims.substitute(d, {"n": n}) for d in a.shape)
                    assert TensorType(a.dtype, shape) == b
                    assert all(dims.canonical(d) == d for d in a.shape), a
    assert tried or s.name in _VALUE_SHAPED


def symbolic_attrs(s: spec.OpSpec, attrs: dict[str, Any], n: int) -> dict[str, Any]:
    """Attributes whose dims that equal n are the symbol n."""
    out = dict(attrs)
    for a in s.attrs:
        if a.kind == "dims" and s.name != "tile":
            out[a.name] = tuple("n" if d == n else d for d in attrs[a.name])
    return out


def T(text: str) -> TensorType:
    dtype, _, rest = text.partition("[")
    parts = [p.strip() for p in rest.rstrip("]").split(",") if p.strip()]
    return TensorType(dtype, tuple(int(p) if p.isdigit() else dims.canonical(p) for p in parts))


F = "float32"
CONV = {"strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1]}
POOL = {"kernel": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    "op, inputs, attrs, want",
    [
        ("conv", [f"{F}[n,3,h,w]", f"{F}[8,3,3,3]"], CONV,
         [f"{F}[n,8,(h - 1)//2 + 1,(w - 1)//2 + 1]"]),
        ("max_pool", [f"{F}[n,3,2*h,8]"], {**POOL, "dilations": [1, 1]}, [f"{F}[n,3,h,4]"]),
        ("conv_transpose", [f"{F}[1,4,h,w]", f"{F}[4,2,4,4]"],
         {**CONV, "output_padding": [0, 0]}, [f"{F}[1,2,2*h,2*w]"]),
        ("concat", [f"{F}[n,past]", f"{F}[n,s]"], {"axis": 1}, [f"{F}[n,past + s]"]),
        ("slice", [f"{F}[n,s]"], {"axes": [1], "starts": [1], "ends": ["s"], "steps": [2]},
         [f"{F}[n,s//2]"]),
        ("reshape", [f"{F}[n,s,8]"], {"shape": ["n", "s", 2, 4]}, [f"{F}[n,s,2,4]"]),
        ("reshape", [f"{F}[n,4]"], {"shape": ["4*n"]}, [f"{F}[4*n]"]),
        ("split", [f"{F}[2*n]"], {"axis": 0, "sizes": ["n", "n"]}, [f"{F}[n]", f"{F}[n]"]),
        ("add", [f"{F}[n,1,s]", f"{F}[8,1]"], {}, [f"{F}[n,8,s]"]),
        ("matmul", [f"{F}[b,1,s,8]", f"{F}[4,8,t]"], {}, [f"{F}[b,4,s,t]"]),
        ("einsum", [f"{F}[b,q,8]", f"{F}[b,k,8]"], {"equation": "bqd,bkd->bqk"}, [f"{F}[b,q,k]"]),
        ("geglu", [f"{F}[n,2*s]"], {}, [f"{F}[n,s]"]),
        ("pad", [f"{F}[n,s]"], {"pads": [0, 1, 0, "p"]}, [f"{F}[n,p + s + 1]"]),
        ("tile", [f"{F}[n,3]"], {"repeats": [1, "r"]}, [f"{F}[n,3*r]"]),
        ("gather", [f"{F}[v,8]", "int64[b,s]"], {}, [f"{F}[b,s,8]"]),
        ("topk", [f"{F}[b,s]"], {"k": "k"}, [f"{F}[b,k]", "int64[b,k]"]),
        ("resize", [f"{F}[b,3,h,w]"], {"sizes": ["2*h", "2*w"]}, [f"{F}[b,3,2*h,2*w]"]),
    ],
)  # fmt: skip
def test_symbolic_shapes(
    op: str, inputs: list[str], attrs: dict[str, Any], want: list[str]
) -> None:
    assert infer(op, [T(i) for i in inputs], attrs, Context())[1] == [T(w) for w in want]


@pytest.mark.parametrize(
    "op, inputs, attrs, says",
    [
        ("add", [f"{F}[2,3]", f"{F}[4]"], {}, "dims 3 and 4 differ"),
        ("add", [f"{F}[n]", f"{F}[m]"], {}, "not known to be equal"),
        ("add", [f"{F}[2]", "int64[2]"], {}, "cast one"),
        ("div", ["int64[2]", "int64[2]"], {}, "must be float"),
        ("reshape", [f"{F}[2,3]"], {"shape": [-1]}, "not -1"),
        ("reshape", [f"{F}[2,3]"], {"shape": [5]}, "must be equal"),
        ("reshape", [f"{F}[n,3]"], {"shape": ["2*n"]}, "must be equal"),
        ("transpose", [f"{F}[2,3]"], {"perm": [0, 0]}, "permutation of 0..1"),
        ("concat", [f"{F}[2,3]", f"{F}[3,3]"], {"axis": 1}, "axis 0 of inputs 0 and 1"),
        ("split", [f"{F}[5]"], {"axis": 0, "sizes": [2, 2]}, "sum to 4"),
        ("slice", [f"{F}[5]"], {"axes": [0], "starts": [0], "ends": [6], "steps": [1]}, "needs 0 <="),
        ("slice", [f"{F}[5]"], {"axes": [0], "starts": [0], "ends": [2], "steps": [0]}, "step of 0"),
        ("expand", [f"{F}[3]"], {"shape": [2, 4]}, "3 is neither 4 nor 1"),
        ("expand", [f"{F}[1]"], {"shape": [-1]}, "not -1"),
        ("pad", [f"{F}[3]"], {"pads": [1]}, "needs 2"),
        ("pad", [f"{F}[3]"], {"pads": [3, 0], "mode": "reflect"}, "below its size 3"),
        ("pad", [f"{F}[3]"], {"pads": [-1, 0]}, "use slice"),
        ("clip", [f"{F}[3]"], {"min": 2.0, "max": 1.0}, "swap them"),
        ("topk", [f"{F}[3]"], {"k": 4}, "from 0 to 3"),
        ("conv", [f"{F}[1,3,8,8]", f"{F}[4,2,3,3]"], CONV, "channels"),
        ("conv", [f"{F}[1,3,1,1]", f"{F}[4,3,5,5]"], CONV, "does not fit"),
        ("conv", [f"{F}[1,3,8,8]", f"{F}[4,3,3,3]"], {**CONV, "strides": [1]}, "needs 2"),
        ("conv", [f"{F}[1,3,8]", f"{F}[4,3,3,3]"], CONV, "rank 3"),
        ("conv_transpose", [f"{F}[1,3,8,8]", f"{F}[3,3,3,3]"],
         {**CONV, "output_padding": [2, 0]}, "output_padding"),
        ("max_pool", [f"{F}[1,3,8,8]"], {**POOL, "pads": [3, 0, 0, 0], "dilations": [1, 1]}, "pads"),
        ("resize", [f"{F}[1,3,8,8]"], {"sizes": [4, 4], "mode": "area"}, "nearest, linear, cubic"),
        ("resize", ["int64[1,3,8]"], {"sizes": [4], "mode": "linear"}, "cast first"),
        ("matmul", [f"{F}[2,3]", f"{F}[2,3]"], {}, "contracted axes"),
        ("linear", [f"{F}[2,3]", f"{F}[3,4]"], {}, "w is [out, in]"),
        ("einsum", [f"{F}[2,3]"], {"equation": "ij,jk"}, "2 operands"),
        ("einsum", [f"{F}[2,3]"], {"equation": "ijk->i"}, "does not label 2 axes"),
        ("layer_norm", [f"{F}[2,3]", f"{F}[4]"], {}, "scale"),
        ("group_norm", [f"{F}[2,6,4]"], {"num_groups": 4}, "do not divide"),
        ("batch_norm", [f"{F}[2,6,4]", *[f"{F}[5]"] * 4], {}, "channels (axis 1)"),
        ("gelu", [f"{F}[2]"], {"approximate": "fast"}, "none, tanh"),
        ("prelu", [f"{F}[2]", f"{F}[3,2]"], {}, "must broadcast to x"),
        ("geglu", [f"{F}[3]"], {}, "must be even"),
        ("scaled_dot_product_attention", [f"{F}[2,4]", f"{F}[3,5]", f"{F}[3,5]"], {"scale": 1.0},
         "last axes of q"),
        ("scaled_dot_product_attention", [*[f"{F}[3,5]"] * 3, f"{F}[2,2]"], {"scale": 1.0}, "broadcast"),
        ("scaled_dot_product_attention", [*[f"{F}[3,5]"] * 3, "int64[3,3]"], {"scale": 1.0}, "bool"),
        ("quantize", [f"{F}[2]", f"{F}[]", "int64[]"], {}, "one of: int4"),
        ("quantize", [f"{F}[2]", f"{F}[]", "int8[2]"], {}, "shapes must be equal"),
        ("dequantize", ["int8[2,3]", f"{F}[2]", "int8[2]"], {}, "scale and axis -1"),
        ("gather_nd", [f"{F}[2,3]", "int64[4,3]"], {}, "exceed the rank"),
        ("scatter_nd", [f"{F}[2,3]", "int64[4,1]", f"{F}[4,2]"], {}, "must be float32[4, 3]"),
        ("scatter_elements", [f"{F}[2,3]", "int64[3,1]", f"{F}[3,1]"], {"axis": 1}, "2 at most"),
        ("arange", ["int64[1]", "int64[]", "int64[]"], {}, "rank 0"),
        ("cond", [f"{F}[]"], {}, "bool[]"),
        ("while_loop", [f"{F}[]"], {"carried": 1}, "regions cond and body"),
    ],
)  # fmt: skip
def test_refusals(op: str, inputs: list[str], attrs: dict[str, Any], says: str) -> None:
    with pytest.raises(spec.InferError, match=re.escape(says)):
        infer(op, [T(i) for i in inputs], attrs, Context())


def test_shape_arithmetic_on_symbols() -> None:
    """The Builder follows shapes through the references: the typical dynamic reshape chain."""
    b = Builder()
    x = b.input("x", F, ["n", 3, "2*h", 8])
    (s,) = b.emit("shape", [x])
    (first,) = b.emit("slice", [s], {"axes": [0], "starts": [0], "ends": [1], "steps": [1]})
    (hw,) = b.emit("slice", [s], {"axes": [0], "starts": [2], "ends": [4], "steps": [1]})
    (p,) = b.emit("prod", [hw], {"axis": [0]})
    (half,) = b.emit("floordiv", [p, b.const(4)])
    (whole,) = b.emit("concat", [first, half], {"axis": 0})
    assert b.dims(whole) == ("n", "4*h")
    (total,) = b.emit("sum", [whole], {"axis": [0], "keepdims": False})
    (more,) = b.emit("sub", [total, b.const(1)])
    assert b.dims(more) == (dims.canonical("n + 4*h - 1"),)
    (top,) = b.emit("maximum", [more, total])
    assert b.dims(top) == b.dims(total)
    (kept,) = b.emit("where", [b.const(np.array(True)), total, more])
    assert b.dims(kept) == b.dims(total)
    (wide,) = b.emit("cast", [total], {"dtype": "int32"})
    assert b.dims(wide) == b.dims(total)
    (less,) = b.emit("less", [more, total])
    assert b.value(less) == np.array(True)
    (unknown,) = b.emit("less", [more, b.const(7)])
    assert b.value(unknown) is None
    (n,) = b.emit("gather", [s, b.const(0)])
    (r,) = b.emit("arange", [b.const(0), n, b.const(1)])
    assert b.shape(r) == ("n",)
    (u,) = b.emit("expand", [b.emit("reshape", [n], {"shape": [1]})[0]], {"shape": [2]})
    (v,) = b.emit("tile", [u], {"repeats": [2]})
    (w,) = b.emit("transpose", [b.emit("reshape", [v], {"shape": [2, 2]})[0]], {"perm": [1, 0]})
    assert b.dims(w) == ("n",) * 4


def test_shape_vectors_reduce_and_compare() -> None:
    b = Builder()
    x = b.input("x", F, ["n", "n", "2*n"])
    (s,) = b.emit("shape", [x])
    (top,) = b.emit("amax", [s], {"axis": [0], "keepdims": False})
    assert b.dims(top) == (dims.canonical("max(n, 2*n)"),)
    (low,) = b.emit("clip", [s], {"min": 1.0})
    assert b.dims(low)[0] == dims.canonical("max(n, 1)")
    parts = b.emit("split", [s], {"axis": 0, "sizes": [1, 1, 1]})
    (same,) = b.emit("equal", [parts[0], parts[1]])
    (other,) = b.emit("equal", [parts[0], parts[2]])
    assert b.value(same) == np.array([True])
    assert b.value(other) is None  # equal when n is 0


def test_data_dependent_shapes_get_fresh_symbols() -> None:
    assert infer("nonzero", [T("bool[n,4]")], {}, Context())[1] == [T("int64[u0,2]")]
    assert infer("arange", [T("int64[]")] * 3, {}, Context())[1] == [T("int64[u0]")]


def test_control_flow_types() -> None:
    def region(name: str, out_shape: list[Any]) -> Any:
        b = Builder(name)
        x = b.input("x", F, [4])
        return b.finish([b.emit("expand", [x], {"shape": out_shape})[0]])

    def predicate() -> Any:
        b = Builder("cond")
        x = b.input("x", F, [4])
        (t,) = b.emit("sum", [x], {"axis": [0], "keepdims": False})
        return b.finish([b.emit("less", [t, b.const(np.float32(1))])[0]])

    pred, x = T("bool[]"), T(f"{F}[4]")
    same, grown = region("a", [4]), region("b", [2, 4])
    assert infer("cond", [pred, x], {}, Context(regions=(same, same)))[1] == [x]
    three = region("c", [3, 4])
    assert infer("cond", [pred, x], {}, Context(regions=(grown, three)))[1] == [T(f"{F}[u0,4]")]
    with pytest.raises(spec.InferError, match="dtype and rank must be equal"):
        infer("cond", [pred, x], {}, Context(regions=(same, grown)))
    with pytest.raises(spec.InferError, match="the operand is"):
        infer("cond", [pred, T(f"{F}[5]")], {}, Context(regions=(same, same)))
    loop = {"carried": 1}
    assert infer("while_loop", [x], loop, Context(regions=(predicate(), same)))[1] == [x]
    with pytest.raises(spec.InferError, match="region body gives"):
        infer("while_loop", [x], loop, Context(regions=(predicate(), grown)))
    with pytest.raises(spec.InferError, match="must give one bool"):
        infer("while_loop", [x], loop, Context(regions=(same, same)))
    for call in (
        lambda: spec.get("cond").reference(True),
        lambda: spec.get("while_loop").reference(carried=0),
    ):
        with pytest.raises(TypeError, match="the interpreter runs it"):
            call()


def test_builder_reports_an_op_misuse() -> None:
    b = Builder()
    x = b.input("x", F, [2, 3])
    with pytest.raises(CirError, match="dims 3 and 2 differ") as caught:
        b.emit("add", [x, b.const(np.zeros(2, np.float32))])
    assert caught.value.code == "E304"


def test_infer_takes_microseconds() -> None:
    """Inference runs for each node of graphs with tens of thousands of nodes."""
    import timeit

    x, w = T(f"{F}[8,64,56,56]"), T(f"{F}[64,64,3,3]")
    ctx = Context()
    cases = [
        ("add", [x, x], {}),
        ("reshape", [x], {"shape": (8, 64, 3136)}),
        ("conv", [x, w], {"strides": (1, 1), "pads": (1,) * 4, "dilations": (1, 1), "groups": 1}),
        ("softmax", [x], {"axis": -1}),
        ("matmul", [x, x], {}),
    ]
    for name, types, attrs in cases:
        fn = spec.get(name).infer
        best = min(timeit.repeat(lambda: fn(types, attrs, ctx), number=200, repeat=5)) / 200
        assert best < 50e-6, f"{name}: {best * 1e6:.1f} us"
