"""Random graphs must settle and keep their numbers in the canonicalise stage.

    python -m tests.conformance.random_graphs [first seed] [last seed]

The graphs are small and odd on purpose: axes of size 1, views on views, cuts and joins along any axis.
Prints the seeds that fail; the last line is the number of failures.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import numpy as np

from cir.builder import Builder
from cir.graph import Graph, Model
from cir.interpret import run
from framework_adapter.pipeline import front
from fusion_db import select

INPUTS = ((2, 6, 8), (1, 4, 6), (2, 3, 4, 4), (4, 6), (1, 6, 8), (2, 4, 1, 1), (2, 3, 1, 8))
LARGEST = 4000  # elements of a value


class Maker:
    """A random graph under construction: ``v`` is the current value."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.b = Builder()
        self.v = self.b.input("x", "float32", self.rng.choice(INPUTS))

    def graph(self) -> Graph:
        """A chain of views and of everything in ``STEPS``."""
        self.views(3)
        for _ in range(self.rng.randint(1, 6)):
            self.rng.choice(STEPS)(self)
            self.views(2)
        return self.b.finish([self.v])

    @property
    def shape(self) -> list[int]:
        return [int(d) for d in self.b.shape(self.v)]

    def emit(self, op: str, *inputs: str, **attrs: object) -> str:
        return self.b.emit(op, inputs, attrs)[0]

    def w(self, *shape: int) -> str:
        return self.b.const(self.numbers.standard_normal(shape).astype(np.float32), "w")

    def axis(self, least: int = 1) -> int | None:
        found = [i - len(self.shape) for i, d in enumerate(self.shape) if d >= least]
        return self.rng.choice(found) if found else None

    def views(self, most: int) -> None:
        """Up to ``most`` transposes and reshapes that split, merge, add and drop axes."""
        for _ in range(self.rng.randint(0, most)):
            shape = self.shape
            if self.rng.random() < 0.5:
                perm = list(range(len(shape)))
                self.rng.shuffle(perm)
                self.v = self.emit("transpose", self.v, perm=perm)
                continue
            i = 0
            while i < len(shape):
                r = self.rng.random()
                if r < 0.3 and i + 1 < len(shape):
                    shape[i : i + 2] = [shape[i] * shape[i + 1]]
                elif r < 0.6:
                    d = self.rng.choice([d for d in range(1, shape[i] + 1) if shape[i] % d == 0])
                    shape[i : i + 1] = [d, shape[i] // d]
                elif r < 0.65:
                    shape.insert(i, 1)
                i += 1
            if len(shape) <= 6:
                self.v = self.emit("reshape", self.v, shape=shape)


def linear(m: Maker) -> None:
    m.v = m.emit("linear", m.v, m.w(m.rng.choice([3, 4, 8]), m.shape[-1]))


def projections(m: Maker) -> None:
    shape, n, width = m.shape, m.rng.choice([2, 3]), m.rng.choice([2, 4])
    h = m.emit("linear", m.v, m.w(n * width, shape[-1]), m.w(n * width))
    if m.rng.random() < 0.5:
        h = m.emit("reshape", h, shape=[*shape[:-1], n, width])
        parts = m.b.emit("split", [h], {"axis": -2, "sizes": [1] * n})
    else:
        parts = m.b.emit("split", [h], {"axis": -1, "sizes": [width] * n})
    first, last = (m.emit("reshape", p, shape=[*shape[:-1], width]) for p in (parts[0], parts[-1]))
    m.v = m.emit("add", m.emit("tanh", first), m.emit("mul", first, last))


def attention(m: Maker) -> None:
    if len(m.shape) >= 3:
        other = m.emit("relu", m.v)
        m.v = m.emit("scaled_dot_product_attention", m.v, other, other, scale=0.5)


def scores(m: Maker) -> None:
    rank = len(m.shape)
    if rank >= 3:
        perm = [*range(rank - 2), rank - 1, rank - 2]
        m.v = m.emit("matmul", m.v, m.emit("transpose", m.emit("relu", m.v), perm=perm))
        m.v = m.emit("softmax", m.v, axis=-1)


def cut(m: Maker) -> None:
    a = m.axis(2)
    if a is not None:
        n = m.shape[a]
        start = m.rng.randint(0, n - 1)
        step = m.rng.choice([1, 1, 2])
        end = m.rng.randint(start + 1, n)
        m.v = m.emit("slice", m.v, axes=[a], starts=[start], ends=[end], steps=[step])


def halves(m: Maker) -> None:
    a = m.axis(2)
    if a is not None and m.shape[a] % 2 == 0:
        p, q = m.b.emit("split", [m.v], {"axis": a, "sizes": [m.shape[a] // 2] * 2})
        m.v = m.emit("sub", p, m.emit("sigmoid", q))


def doubled(m: Maker) -> None:
    if np.prod(m.shape) <= LARGEST:
        m.v = m.emit("concat", m.v, m.emit("relu", m.v), axis=m.axis() or -1)


def conv(m: Maker) -> None:
    n = len(m.shape) - 2
    if 1 <= n <= 3:
        kernel = [m.rng.choice([1, 3]) if d > 1 else 1 for d in m.shape[2:]]
        w = m.w(m.rng.choice([3, 4]), m.shape[1], *kernel)
        pads = [k // 2 for k in kernel] * 2
        m.v = m.emit("conv", m.v, w, strides=[1] * n, pads=pads, dilations=[1] * n)


def pool(m: Maker) -> None:
    if len(m.shape) == 4 and min(m.shape[2:]) > 1:
        stride = m.rng.choice([1, 2])
        attrs = {"kernel": [2, 2], "strides": [stride] * 2, "pads": [0] * 4}
        flags = {k: m.rng.random() < 0.5 for k in ("ceil_mode", "count_include_pad")}
        m.v = m.emit("avg_pool", m.v, **attrs, **flags)


def shifted(m: Maker) -> None:
    shape = m.shape[m.rng.randrange(len(m.shape)) :]
    m.v = m.emit("add", m.v, m.w(*(d if m.rng.random() < 0.5 else 1 for d in shape)))


def scaled(m: Maker) -> None:
    k = m.b.const(np.float32(1.5), "k")
    m.v = m.emit("mul", m.emit("mul", m.v, k), m.w(m.shape[-1]))


def gated(m: Maker) -> None:
    mean = m.emit("mean", m.v, axis=[m.axis() or -1], keepdims=True)
    m.v = m.emit("mul", m.v, m.emit("sigmoid", m.emit("expand", mean, shape=m.shape)))


def normed(m: Maker) -> None:
    m.v = m.emit("layer_norm", m.v, axis=-1)


STEPS: tuple[Callable[[Maker], None], ...] = (
    linear, projections, attention, scores, cut, halves, doubled, conv, pool, shifted, scaled, gated, normed,
)  # fmt: skip


def failure(seed: int) -> str:
    """What is wrong with the graph of a seed; '' when nothing is."""
    m = Maker(seed)
    graph = m.graph()
    feed = {"x": m.numbers.standard_normal(graph.types["x"].shape).astype(np.float32)}
    try:
        made = front(select("canonicalise"), ()).run(Model(graph)).graph
    except Exception as exc:
        return f"{type(exc).__name__}: {str(exc).splitlines()[0]}"
    before, after = run(graph, feed)[graph.outputs[0]], run(made, feed)[made.outputs[0]]
    if before.shape != after.shape:
        return f"{before.shape} became {after.shape}"
    # Folded weights are rounded to float32 once.
    error = np.abs(before - after).max(initial=0) / max(np.abs(before).max(initial=0), 1)
    return "" if error <= 1e-5 else f"error {error:.1e}"


def main() -> int:
    first, last = map(int, sys.argv[1:3]) if len(sys.argv) == 3 else (0, 2000)
    failures = 0
    for seed in range(first, last):
        problem = failure(seed)
        if problem:
            failures += 1
            print(seed, problem, flush=True)
    print(failures)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
