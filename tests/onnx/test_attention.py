"""Attention is one node, whichever way heads and masks come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cir.builder import Builder
from cir.graph import Const, Model
from framework_adapter.onnx import emit as em
from tests.onnx.support import check, ops

B, H, S, T, D, E = 2, 3, 4, 5, 8, 6
RNG = np.random.default_rng(0)


def _array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


MASKS: dict[str, np.ndarray | None] = {
    "none": None, "BHST": _array(B, H, S, T), "B1ST": _array(B, 1, S, T), "ST": _array(S, T),
    "B11T": _array(B, 1, 1, T), "bool ST": RNG.random((S, T)) < 0.6,
    "bool B11T": RNG.random((B, 1, 1, T)) < 0.6, "bool none kept": np.zeros((S, T), bool),
}  # fmt: skip


def _heads(b: Builder, x: str, heads: int, split: bool) -> str:
    """[B, S, H*D] to [B, H, S, D]; without ``split`` the input has four axes already."""
    if split:
        n, s, c = b.shape(x)
        x = b.emit("reshape", [x], {"shape": [n, s, heads, c // heads]})[0]
    return b.emit("transpose", [x], {"perm": [0, 2, 1, 3]})[0]


def _block(
    mask: Any,
    constant: bool,
    causal: bool = False,
    batch: Any = B,
    split: bool = True,
    keys: int = T,
) -> tuple[Model, list[np.ndarray]]:
    """Projection layout in and out: split heads, attend, join heads."""
    b = Builder()
    feeds, names = [], []
    for name, n, d in (("q", S, D), ("k", keys, D), ("v", keys, E)):
        shape = (n, H * d) if split else (n, H, d)
        feeds.append(_array(B, *shape))
        names.append(_heads(b, b.input(name, "float32", [batch, *shape]), H, split))
    if mask is not None and constant:
        names.append(b.const(Const.of(mask), "mask"))
    elif mask is not None:
        feeds.append(mask)
        shape = [batch if d == B and mask.ndim == 4 else d for d in mask.shape]
        names.append(b.input("mask", str(mask.dtype), shape))
    y = b.emit("scaled_dot_product_attention", names, {"scale": 0.35, "causal": causal})[0]
    t = b.emit("transpose", [y], {"perm": [0, 2, 1, 3]})[0]
    out = b.emit("reshape", [t], {"shape": [batch, S, H * E]}, name="out")[0]
    return Model(b.finish([b.emit("relu", [out], name="y")[0]])), feeds


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("batch", [B, "batch"])
@pytest.mark.parametrize("mask", MASKS)
def test_heads_are_taken_in(mask: str, batch: Any, constant: bool, tmp_path: Path) -> None:
    """No transpose is left around attention, and it is one node."""
    data = MASKS[mask]
    if constant and data is not None and data.shape[0] == B:
        batch = B  # a constant mask with a row for each batch row fixes the batch
    model, feeds = _block(data, constant, batch=batch)
    check(model, feeds, tmp_path / "m.onnx")
    found = ops(tmp_path / "m.onnx")
    assert "Transpose" not in found and "Softmax" not in found
    assert found.count("MultiHeadAttention") + found.count("Attention") == 1
    if mask in ("none", "BHST", "B1ST"):
        assert found == ["MultiHeadAttention", "Relu"]


def test_heads_without_reshape(tmp_path: Path) -> None:
    """Inputs that come as [B, S, H, D] are joined by a view."""
    model, feeds = _block(None, True, split=False)
    check(model, feeds, tmp_path / "m.onnx")
    assert ops(tmp_path / "m.onnx") == ["Reshape"] * 3 + ["MultiHeadAttention", "Relu"]


@pytest.mark.parametrize("keys", [S, T])
def test_causal(keys: int, tmp_path: Path) -> None:
    """The runtime aligns MultiHeadAttention's mask at the end, so it serves equal lengths only."""
    model, feeds = _block(None, True, causal=True, keys=keys)
    check(model, feeds, tmp_path / "m.onnx")
    found = ops(tmp_path / "m.onnx")
    assert ("MultiHeadAttention" in found) == (keys == S) and "Softmax" not in found


@pytest.mark.parametrize("opset", [None, 20])
@pytest.mark.parametrize("mask", ["none", "B1ST", "BHST", "ST"])
def test_plain_heads(mask: str, opset: int | None, tmp_path: Path) -> None:
    """[B, H, S, D] as it is: ONNX's Attention, or before opset 23 heads as batch rows."""
    b = Builder()
    feeds = [_array(B, H, S, D), _array(B, H, T, D), _array(B, H, T, E)]
    names = [b.input(n, "float32", ["batch", *f.shape[1:]]) for n, f in zip("qkv", feeds)]
    if (data := MASKS[mask]) is not None:
        feeds.append(data)
        shape = ["batch", *data.shape[1:]] if data.ndim == 4 else data.shape
        names.append(b.input("mask", "float32", shape))
    y = b.emit("scaled_dot_product_attention", names, {"scale": 0.35}, name="y")[0]
    check(Model(b.finish([y])), feeds, tmp_path / "m.onnx", opset=opset)
    found = ops(tmp_path / "m.onnx")
    assert (
        "Attention" if opset is None else "MultiHeadAttention"
    ) in found and "MatMul" not in found


def test_shared_transposes_stay(tmp_path: Path) -> None:
    """A key that something else reads keeps its transpose; a second reader of the result is served."""
    b = Builder()
    feeds = [_array(B, S, H * D), _array(B, S, H * D)]
    q = _heads(b, b.input("q", "float32", feeds[0].shape), H, True)
    k = _heads(b, b.input("k", "float32", feeds[1].shape), H, True)
    y = b.emit("scaled_dot_product_attention", [q, k, k], {"scale": 0.5})[0]
    t = b.emit("transpose", [y], {"perm": [0, 2, 1, 3]}, name="t")[0]
    joined = b.emit("reshape", [t], {"shape": [B, S, H * D]}, name="joined")[0]
    relu = b.emit("relu", [t], name="relu")[0]
    check(
        Model(b.finish([joined, relu, b.emit("exp", [k], name="e")[0]])), feeds, tmp_path / "m.onnx"
    )
    assert ops(tmp_path / "m.onnx").count("Transpose") == 1


def test_result_that_is_an_output(tmp_path: Path) -> None:
    """With the [B, H, S, D] result itself asked for, nothing is taken in."""
    b = Builder()
    feed = _array(B, S, H * D)
    q = _heads(b, b.input("q", "float32", feed.shape), H, True)
    y = b.emit("scaled_dot_product_attention", [q, q, q], {"scale": 0.5}, name="y")[0]
    t = b.emit("transpose", [y], {"perm": [0, 2, 1, 3]}, name="t")[0]
    check(Model(b.finish([y, t])), [feed], tmp_path / "m.onnx")


def test_boolean_mask_needs_attention_23() -> None:
    """Before it, a run-time boolean mask is decomposed."""
    b = Builder()
    names = [b.input(n, "float32", [1, 2, S, D]) for n in "qkv"]
    names.append(b.input("mask", "bool", [S, S]))
    b.emit("scaled_dot_product_attention", names, {"scale": 0.35}, name="y")
    graph = b.finish(["y"])
    assert em.legal(graph.nodes[0], graph) and not em.legal(graph.nodes[0], graph, opset=20)


@pytest.mark.parametrize("masked", [False, True])
def test_bfloat16_heads_are_widened_before_they_are_joined(masked: bool, tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", "float32", [B, S, H * D])
    (half,) = b.emit("cast", [x], {"dtype": "bfloat16"})
    names = [_heads(b, half, H, True)] * 3
    feeds = [_array(B, S, H * D)]
    if masked:
        names.append(b.input("mask", "bool", [B, 1, 1, S]))
        feeds.append(np.arange(S) < np.array([S, 2]).reshape(B, 1, 1, 1))
    (y,) = b.emit("scaled_dot_product_attention", names, {"scale": 0.35})
    (y,) = b.emit("transpose", [y], {"perm": [0, 2, 1, 3]})
    (y,) = b.emit("reshape", [y], {"shape": [B, S, H * D]})
    (y,) = b.emit("cast", [y], {"dtype": "float32"})
    check(Model(b.finish([y])), feeds, tmp_path / "m.onnx", "bfloat16")
