"""The builder: names, constants, inference, and shape values it keeps track of."""

from __future__ import annotations

import numpy as np
import pytest

from cir.builder import Builder, sanitize
from cir.diagnostics import CirError
from cir.graph import Const, Meta
from cir.verify import verify


def test_names_are_unique_and_deterministic() -> None:
    b = Builder()
    assert [b.unique("a"), b.unique("a"), b.unique("a_1"), b.unique("a")] == [
        "a", "a_1", "a_1_1", "a_2",
    ]  # fmt: skip
    region = b.region("body")
    assert region.unique("a") == "a_3"
    b.release(["a_1"])
    assert b.unique("a_1") == "a_1"


@pytest.mark.parametrize(
    ("text", "want"),
    [("a b", "a_b"), ("1x", "v1x"), ("onnx::MatMul_1", "onnx_MatMul_1"), ("", "v"), ("é", "v"),
     ("blocks.0/attn", "blocks.0/attn"), ("x:0", "x_0"), ("_", "v")],
)  # fmt: skip
def test_sanitize(text: str, want: str) -> None:
    assert sanitize(text) == want


def test_constants_of_every_kind() -> None:
    b = Builder()
    assert str(b.type(b.const(1.5))) == "float32[]"
    assert str(b.type(b.const(1))) == "int64[]"
    assert str(b.type(b.const(True))) == "bool[]"
    assert str(b.type(b.const([1, 2]))) == "int64[2]"
    assert str(b.type(b.const(np.zeros(2)))) == "float64[2]"
    assert str(b.type(b.const(1, dtype="bfloat16"))) == "bfloat16[]"
    assert b.const(1.5) == b.const(1.5) != b.const(1.5, name="named")
    assert b.const(1.5) != b.const(1.5, dtype="float64")
    c = Const.of(np.ones((2, 2)).T, "float16")
    assert str(b.type(b.const(c))) == "float16[2, 2]" and not c.numpy().flags.writeable


def test_emit_fills_attributes_names_types_and_meta() -> None:
    b = Builder()
    x = b.input("x", "float32", ("2*n + 0", 3))
    b.meta = Meta(by=("here",))
    (y,) = b.emit("softmax", [x, None], {"axis": 1})
    values, indices = b.emit("topk", [y], {"k": 2}, name="top")
    g = b.finish([values, indices])
    verify(g)
    assert g.nodes[0].attrs == {"axis": -1} and g.nodes[0].inputs == ("x",)
    assert (values, indices) == ("top.0", "top.1") and b.shape(x) == ("2*n", 3)
    assert g.nodes[1].meta.by == ("here",)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "what"),
    [
        ("sofmax", ["x"], {}, "nearest: softmax"),
        ("softmax", ["x", "x"], {}, "got 2 inputs"),
        ("softmax", [], {}, "got 0 inputs"),
        ("softmax", ["x"], {"axis": 7}, "out of range for rank 2"),
        ("softmax", ["x"], {"axis": "no"}, "not a valid axis"),
        ("softmax", ["x"], {"ax": 1}, "no attribute 'ax'; it has: axis"),
        ("reshape", ["x"], {}, "needs attribute 'shape'"),
        ("reshape", ["x"], {"shape": "mn"}, "one dim instead of a sequence"),
        ("add", ["x", "i"], {}, "the dtypes must be equal"),
        ("add", [None, "x"], {}, "must not be absent"),
        ("exp", ["i"], {}, "must be float"),
        ("add", ["x", "z"], {}, "do not broadcast"),
        ("clip", ["x"], {"min": None, "max": [1]}, "not a valid float"),
    ],
)
def test_misuse_is_e304(op: str, inputs: list, attrs: dict, what: str) -> None:
    b = Builder()
    b.input("x", "float32", (2, 3)), b.input("i", "int64", (2, 3)), b.input("z", "float32", (5,))
    with pytest.raises(CirError) as info:
        b.emit(op, inputs, attrs, name="here")
    assert info.value.code == "E304" and what in str(info.value)
    assert info.value.diagnostics[0].where == "here" and not b.nodes


def test_names_must_be_as_many_as_results() -> None:
    b = Builder()
    x = b.input("x", "float32", (2, 3))
    with pytest.raises(CirError, match="E304 relu gives 1 results, not 2"):
        b.emit("relu", [x], names=["a", "b"])


def test_shape_arithmetic_stays_known() -> None:
    b = Builder()
    x = b.input("x", "float32", ("n", 3))
    (shape,) = b.emit("shape", [x])
    (n,) = b.emit("gather", [shape, b.const(0)], {"axis": 0})
    (double,) = b.emit("mul", [n, b.const(2)])
    (size,) = b.emit("reshape", [double], {"shape": (1,)})
    (both,) = b.emit("concat", [size, b.const([3])], {"axis": 0})
    assert b.dims(both) == ("2*n", 3) and b.dims(double) == ("2*n",)
    assert b.dims(x) is None and b.value(None) is None
    (count,) = b.emit("arange", [b.const(0), n, b.const(1)])
    assert b.shape(count)[0] in ("n", "u0")


def test_made_up_symbols_avoid_those_of_inputs() -> None:
    b = Builder()
    b.input("x", "float32", ("u0",))
    m = b.input("m", "bool", (4,))
    (w,) = b.emit("nonzero", [m])
    assert b.shape(w) == ("u1", 1)
    assert b.region("r").fresh() == "u2"


def test_resume_keeps_names_types_and_symbols() -> None:
    b = Builder()
    x = b.input("x", "float32", ("n",))
    g = b.finish(b.emit("add", [x, b.const(1.0)], name="y"))
    again = Builder.resume(g)
    assert not again.nodes and again.unique("y") == "y_1"
    for node in g.nodes:
        again.add_node(node, [g.types[o] for o in node.outputs])
    verify(again.finish(g.outputs))
