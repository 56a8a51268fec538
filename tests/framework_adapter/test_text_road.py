"""What is hard to add later, in hand-written text: text -> JSON -> text -> ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cir
from cir.digest import structure_digest
from framework_adapter.onnx import BACKEND

TEXTS = {
    "cond": """
cir 1.0
graph choice
input p: bool[]
input x: float32[n, 2]
y = cond(p, x)
  graph then
  input a: float32[n, 2]
  const ten: float32[] = 10.0
  t = add(a, ten)
  return t
  graph else
  input c: float32[n, 2]
  e = neg(c)
  return e
z = relu(y)
return z
""",
    "while_loop": """
cir 1.0
graph power
input count: int64[]
input x: float32[3]
input k: float32[3]
const zero: int64[] = 0
i, y = while_loop(zero, x, count, k, carried=2)
  graph cond
  input ci: int64[]
  input cx: float32[3]
  input cn: int64[]
  input ck: float32[3]
  go = less(ci, cn)
  return go
  graph body
  input bi: int64[]
  input bx: float32[3]
  input bn: int64[]
  input bk: float32[3]
  const one: int64[] = 1
  ni = add(bi, one)
  nx = mul(bx, bk)
  return ni, nx
return y, i
""",
    "stateful_counter": """
cir 1.0
graph counter
input step: int64[]
input seen: int64[]
total = add(seen, step)
return total
state seen -> total
""",
    "nonzero": """
cir 1.0
graph pick
input mask: bool[n]
input x: float32[n, 3]
where = nonzero(mask)
rows = reshape(where, shape=('u0',))
y = gather(x, rows, axis=0)
return y, where
""",
    "qdq_linear": """
cir 1.0
graph quantised
symbol batch: 1..64
input x: float32[batch, 4]
const sx: float32[] = 0.05
const zx: uint8[] = 128
const w: int8[2, 4] = [1, -2, 3, -4, 50, 60, -70, 127]
const sw: float32[2] = [0.01, 0.02]
const zw: int8[2] = [0, 0]
const b: float32[2] = [0.5, -0.5]
q = quantize(x, sx, zx)
d = dequantize(q, sx, zx)
k = dequantize(w, sw, zw, axis=0)
y = linear(d, k, b)
return y
""",
}
FEEDS = {
    "cond": [
        [np.array(True), np.float32([[1, -2], [3, -4]])],
        [np.array(False), np.float32([[1, -2]])],
    ],
    "while_loop": [
        [np.int64(n), np.float32([1, 2, 3]), np.float32([0.5, 2, -1])] for n in (0, 1, 5)
    ],
    "stateful_counter": [[np.int64(2), np.int64(40)]],
    "nonzero": [
        [np.array(m), np.arange(9, dtype=np.float32).reshape(3, 3)]
        for m in ([True, False, True], [False] * 3)
    ],
    "qdq_linear": [[np.linspace(-7, 7, 4 * n, dtype=np.float32).reshape(n, 4)] for n in (1, 5)],
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_json_text_onnxruntime(name: str, tmp_path: Path) -> None:
    model = cir.parse_text(TEXTS[name])
    cir.save(model, tmp_path / "m.cir.json")
    loaded = cir.load(tmp_path / "m.cir.json")
    printed = cir.print_text(loaded)
    again = cir.parse_text(printed)
    assert cir.print_text(again) == printed
    assert structure_digest(again).hex == structure_digest(model).hex
    assert again.state == model.state
    emitted = BACKEND.emit(again, tmp_path / "m.onnx")
    for feeds in FEEDS[name]:
        want = list(cir.run(model, feeds).values())
        got = BACKEND.run(emitted.path, feeds)
        assert len(got) == len(want)
        for g, w in zip(got, want):
            assert np.asarray(g).shape == w.shape
            np.testing.assert_allclose(g, w, rtol=1e-6, atol=1e-6)


def test_state_reaches_the_onnx_file(tmp_path: Path) -> None:
    import onnx

    model = cir.parse_text(TEXTS["stateful_counter"])
    path = BACKEND.emit(model, tmp_path / "m.onnx").path
    props = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert any("seen" in v and "total" in v for v in props.values()), props
