"""Recurrent layers: one layer, one direction; stacks and directions are graphs of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cir import dim as dims
from cir.graph import TensorType
from cir.infer import Attrs, Types, need_rank, optional, same_dim, same_dtype, typed
from cir.kernel import Array, kernel
from cir.spec import InferContext, InferError, op
from cir.special import sigmoid

if TYPE_CHECKING:
    from cir.builder import Builder


def _infer_lstm(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    x, w, r = (typed(types, i) for i in range(3))
    for t, name, rank in ((x, "x", 3), (w, "w", 2), (r, "r", 2)):
        same_dtype(x, t)
        need_rank(t, rank, name)
    steps, batch, features = x.shape
    gates, hidden = r.shape
    if gates != dims.mul(4, hidden):
        raise InferError(f"r is {r}, must be [4*H, H]: one square matrix for each of four gates")
    same_dim(w.shape[0], gates, f"axis 0 of w {w} and of r {r}")
    same_dim(w.shape[1], features, f"axis 1 of w {w} and the features (axis 2) of x {x}")
    b = optional(types, 3)
    if b is not None:
        same_dtype(x, b)
        need_rank(b, 1, "b")
        same_dim(b.shape[0], gates, f"b {b} and axis 0 of r {r}")
    for i, name in ((4, "h"), (5, "c")):
        given = optional(types, i)
        if given is not None:
            same_dtype(x, given)
            need_rank(given, 2, name)
            same_dim(given.shape[0], batch, f"axis 0 of {name} {given} and axis 1 of x {x}")
            same_dim(given.shape[1], hidden, f"axis 1 of {name} {given} and of r {r}")
    state = TensorType(x.dtype, (batch, hidden))
    return [TensorType(x.dtype, (steps, batch, hidden)), state, state]


def _steps(
    b: Builder, inputs: Sequence[str | None], attrs: Mapping[str, Any], name: str
) -> Sequence[str]:
    """The recurrence step by step; over a symbolic number of steps as a loop."""
    x, w, r = (str(i) for i in inputs[:3])
    bias, h, c = (inputs[i] if i < len(inputs) else None for i in (3, 4, 5))
    length, batch = b.shape(x)[:2]
    hidden = b.shape(r)[1]
    if h is None or c is None:
        zero = b.const(0.0, dtype=b.types[x].dtype)
        zeros = b.emit("expand", [zero], {"shape": (batch, hidden)}, name=f"{name}.zeros")[0]
        h, c = h or zeros, c or zeros
    gates = b.emit("linear", [x, w, bias], name=f"{name}.gates")[0]
    run = _unrolled if isinstance(length, int) else _looped
    return run(b, gates, r, h, c, attrs["reverse"], name)


def _cell(b: Builder, gates: str, r: str, h: str, c: str, name: str) -> tuple[str, str]:
    """One step: what x gives to the gates [N, 4*H], state h and c -> the next h and c."""
    n = b.shape(r)[1]
    total = b.emit("add", [gates, b.emit("linear", [h, r], name=name)[0]], name=name)[0]
    parts = b.emit("split", [total], {"axis": -1, "sizes": (n,) * 4}, name=name)
    i, o, f = (b.emit("sigmoid", [p], name=name)[0] for p in parts[:3])
    fresh = b.emit("mul", [i, b.emit("tanh", [parts[3]], name=name)[0]], name=name)[0]
    c = b.emit("add", [b.emit("mul", [f, c], name=name)[0], fresh], name=f"{name}.c")[0]
    return b.emit("mul", [o, b.emit("tanh", [c], name=name)[0]], name=f"{name}.h")[0], c


def _unrolled(
    b: Builder, gates: str, r: str, h: str, c: str, reverse: bool, name: str
) -> list[str]:
    batch, hidden = b.shape(h)
    length, step = int(b.shape(gates)[0]), f"{name}.step"
    turns = b.emit("split", [gates], {"axis": 0, "sizes": (1,) * length}, name=step)
    states: dict[int, str] = {}
    for t in range(length)[:: -1 if reverse else 1]:
        shape = {"shape": (batch, dims.mul(4, hidden))}
        turn = b.emit("reshape", [turns[t]], shape, name=step)[0]
        h, c = _cell(b, turn, r, h, c, step)
        states[t] = b.emit("reshape", [h], {"shape": (1, batch, hidden)}, name=step)[0]
    y = b.emit("concat", [states[t] for t in range(length)], {"axis": 0}, name=name)[0]
    return [y, h, c]


def _looped(b: Builder, gates: str, r: str, h: str, c: str, reverse: bool, name: str) -> list[str]:
    length, batch, _ = b.shape(gates)
    hidden, step = b.shape(r)[1], f"{name}.step"
    zero = b.const(0, dtype="int64")
    sizes = b.emit("shape", [gates], name=f"{name}.shape")[0]
    limit = b.emit("gather", [sizes, zero], {"axis": 0}, name=f"{name}.length")[0]
    nothing = b.const(0.0, dtype=b.types[gates].dtype)
    whole = {"shape": (length, batch, hidden)}
    y = b.emit("expand", [nothing], whole, name=f"{name}.zeros")[0]
    operands = [zero, h, c, y, limit, gates, r]

    def region(label: str) -> tuple[Builder, list[str]]:
        inner = b.region(label)
        types = [b.types[v] for v in operands]
        return inner, [inner.input(f"{name}.{label}", t.dtype, t.shape) for t in types]

    test, (t, *_, n, _, _) = region("test")
    go_on = test.finish(test.emit("less", [t, n], name=f"{name}.go_on"))
    body, (t, hb, cb, yb, n, g, rb) = region("body")
    place, unit = t, body.const(1, dtype="int64")
    if reverse:
        last = body.emit("sub", [n, unit], name=step)[0]
        place = body.emit("sub", [last, t], name=step)[0]
    turn = body.emit("gather", [g, place], {"axis": 0}, name=step)[0]
    hb, cb = _cell(body, turn, rb, hb, cb, step)
    index = body.emit("reshape", [place], {"shape": (1, 1)}, name=step)[0]
    row = body.emit("reshape", [hb], {"shape": (1, batch, hidden)}, name=step)[0]
    yb = body.emit("scatter_nd", [yb, index, row], name=step)[0]
    following = body.emit("add", [t, unit], name=step)[0]
    turned = body.finish([following, hb, cb, yb])
    names = [f"{name}.turns", f"{name}.h", f"{name}.c", name]
    out = b.emit("while_loop", operands, {"carried": 4}, regions=[go_on, turned], names=names)
    return [out[3], out[1], out[2]]


@op("lstm(x, w, r, b?, h?, c?; reverse: bool = False) -> y, h_n, c_n", domain="float",
    infer=_infer_lstm, decomposition=_steps,
    samples=[{"inputs": ["float32[5,2,3]", "float32[16,3]", "float32[16,4]", "float32[16]"]},
             {"inputs": ["float32[5,2,3]", "float32[16,3]", "float32[16,4]", "float32[16]",
                         "float32[2,4]", "float32[2,4]"], "reverse": True},
             {"inputs": ["float32[1,3,2]", "float32[20,2]", "float32[20,5]", None, None,
                         "float32[3,5]"]}])  # fmt: skip
@kernel
def lstm(
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    h: Array | None = None,
    c: Array | None = None,
    *,
    reverse: bool,
) -> tuple[Array, Array, Array]:
    """Long short-term memory: x [T, N, I] -> y [T, N, H], last states h_n and c_n [N, H].

    w is [4H, I], r [4H, H], b [4H], with the gates i, o, f, g one after the other along 4H; h and c
    [N, H] are the first states, zeros when absent. For each step, with a = x_t w' + h r' + b:
    ``c = sigmoid(a_f) * c + sigmoid(a_i) * tanh(a_g); h = y_t = sigmoid(a_o) * tanh(c)``. With
    ``reverse`` from the last step to the first; y keeps the order of x. (S. Hochreiter, J.
    Schmidhuber, Long Short-Term Memory, 1997, with F. Gers' forget gate, 2000; the gate order is
    that of ONNX.)
    """
    steps, batch, _ = x.shape
    hidden = r.shape[1]
    gates = (x.reshape(steps * batch, -1) @ w.T).reshape(steps, batch, 4 * hidden)
    if b is not None:
        gates = gates + b
    h = np.zeros((batch, hidden), x.dtype) if h is None else h
    c = np.zeros((batch, hidden), x.dtype) if c is None else c
    y = np.empty((steps, batch, hidden), x.dtype)
    for t in range(steps)[:: -1 if reverse else 1]:
        i, o, f, g = np.split(gates[t] + h @ r.T, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        y[t] = h
    return y, h, c
