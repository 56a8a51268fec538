"""Equal networks have equal digests, whatever framework or spelling; different networks do not.

The whole table is printed by ``python -m tests.conformance.frameworks``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from cir.builder import Builder
from cir.digest import constants_match, structure_digest
from cir.graph import Graph, Model
from framework_adapter.api import digest_of
from framework_adapter.pipeline import front
from fusion_db import select
from tests.conformance import networks
from tests.conformance.frameworks import WEIGHTS, comparable, program
from tests.conformance.listing import difference

#: Networks and batch sizes that together hold every ingredient; the rest is run by conformance.
FAST = (("attention", 2), ("masked", 1), ("film", 1), ("convnext", 2), ("mobilenet", 1), ("gated", 2))
MODULES = {"pytorch": "torch", "tensorflow": "tensorflow", "mindspore": "mindspore"}


@pytest.mark.parametrize(("name", "batch"), FAST)
def test_one_program_from_three_frameworks(name: str, batch: int) -> None:
    first: tuple[str, Graph] | None = None
    for cell in networks.cells(name)[:3]:
        pytest.importorskip(MODULES[cell.framework])
        graph = comparable(program(cell, batch)[2].model.graph)
        if first is None:
            first = (cell.name, graph)
        a, b = structure_digest(first[1]), structure_digest(graph)
        assert a.hex == b.hex, difference(first[1], graph, (first[0], cell.name))
        assert constants_match(a, b, WEIGHTS), cell.name


# -- spellings, without a framework ----------------------------------------------------------------
class G:
    """A graph under construction: ``g.op(inputs, **attrs)`` gives the first result."""

    def __init__(self) -> None:
        self.b = Builder()
        self.rng = np.random.default_rng(5)

    def __getattr__(self, op: str) -> Callable[..., Any]:
        def emit(*inputs: str, **attrs: Any) -> Any:
            out = self.b.emit(op, inputs, attrs)
            return out[0] if len(out) == 1 else out

        return emit

    def x(self, *shape: Any, dtype: str = "float32") -> str:
        return self.b.input("x", dtype, shape)

    def w(self, *shape: int) -> str:
        return self.b.const(self.rng.standard_normal(shape).astype(np.float32), "w")

    def k(self, value: Any, dtype: str = "float32") -> str:
        return self.b.const(np.asarray(value, dtype), "k")


def digest(build: Callable[[G], Any]) -> str:
    g = G()
    made = build(g)
    model = Model(g.b.finish([made] if isinstance(made, str) else made))
    return digest_of(front(select("canonicalise"), select("fuse")).run(model))


def linear_rows(g: G) -> str:
    return g.linear(g.x(2, 6, 8), g.w(5, 8))


def linear_flat(g: G) -> str:
    x = g.reshape(g.x(2, 6, 8), shape=[12, 8])
    return g.reshape(g.linear(x, g.w(5, 8)), shape=[2, 6, 5])


def linear_sequence_first(g: G) -> str:
    x = g.transpose(g.x(2, 6, 8), perm=[1, 0, 2])
    return g.transpose(g.linear(x, g.w(5, 8)), perm=[1, 0, 2])


def linear_matmul(g: G) -> str:
    return g.matmul(g.x(2, 6, 8), g.transpose(g.w(5, 8), perm=[1, 0]))


def heads_merged_2d(g: G) -> str:
    x = g.transpose(g.x(2, 4, 6, 3), perm=[0, 2, 1, 3])
    return g.reshape(g.linear(g.reshape(x, shape=[12, 12]), g.w(5, 12)), shape=[2, 6, 5])


def heads_merged_3d(g: G) -> str:
    x = g.transpose(g.x(2, 4, 6, 3), perm=[0, 2, 1, 3])
    return g.linear(g.reshape(x, shape=[2, 6, 12]), g.w(5, 12))


def heads_merged_swapped(g: G) -> str:
    x = g.transpose(g.x(2, 4, 6, 3), perm=[2, 0, 1, 3])
    y = g.linear(g.reshape(x, shape=[12, 12]), g.w(5, 12))
    return g.transpose(g.reshape(y, shape=[6, 2, 5]), perm=[1, 0, 2])


def qkv(g: G) -> list[str]:
    """Three projections of one input: [weights, biases]."""
    return [g.w(24, 8), g.w(24)]


def project_apart(g: G) -> list[str]:
    x, (w, b) = g.x(2, 6, 8), qkv(g)
    ws = g.split(w, axis=0, sizes=[8, 8, 8])
    bs = g.split(b, axis=0, sizes=[8, 8, 8])
    return [g.linear(x, wi, bi) for wi, bi in zip(ws, bs)]


def project_split(g: G) -> list[str]:
    x, (w, b) = g.x(2, 6, 8), qkv(g)
    return list(g.split(g.linear(x, w, b), axis=-1, sizes=[8, 8, 8]))


def project_sliced(g: G) -> list[str]:
    x, (w, b) = g.x(2, 6, 8), qkv(g)
    h = g.linear(x, w, b)
    cuts = ((0, 8), (8, 16), (16, 24))
    return [g.slice(h, axes=[2], starts=[i], ends=[j], steps=[1]) for i, j in cuts]


def project_indexed(g: G) -> list[str]:
    x, (w, b) = g.x(2, 6, 8), qkv(g)
    h = g.transpose(g.reshape(g.linear(x, w, b), shape=[2, 6, 3, 8]), perm=[2, 0, 1, 3])
    return [g.gather(h, g.k(i, "int64"), axis=0) for i in range(3)]


def attend(g: G, q: str, k: str, v: str) -> str:
    s = g.mul(g.matmul(q, k), g.k(0.5))
    return g.matmul(g.softmax(s, axis=-1), v)


def attention_heads(g: G) -> str:
    h = g.reshape(g.linear(g.x(2, 6, 8), g.w(8, 8)), shape=[2, 6, 2, 4])
    q, kt = g.transpose(h, perm=[0, 2, 1, 3]), g.transpose(h, perm=[0, 2, 3, 1])
    y = g.transpose(attend(g, q, kt, q), perm=[0, 2, 1, 3])
    return g.reshape(y, shape=[2, 6, 8])


def attention_merged(g: G) -> str:
    h = g.reshape(g.linear(g.x(2, 6, 8), g.w(8, 8)), shape=[2, 6, 2, 4])
    q = g.reshape(g.transpose(h, perm=[0, 2, 1, 3]), shape=[4, 6, 4])
    y = g.reshape(attend(g, q, g.transpose(q, perm=[0, 2, 1]), q), shape=[2, 2, 6, 4])
    return g.reshape(g.transpose(y, perm=[0, 2, 1, 3]), shape=[2, 6, 8])


def attention_op(g: G) -> str:
    h = g.reshape(g.linear(g.x(2, 6, 8), g.w(8, 8)), shape=[2, 6, 2, 4])
    q = g.transpose(h, perm=[0, 2, 1, 3])
    y = g.scaled_dot_product_attention(q, q, q, scale=0.5)
    return g.reshape(g.transpose(y, perm=[0, 2, 1, 3]), shape=[2, 6, 8])


def masked(g: G, mask: Callable[[str], str]) -> str:
    keep = g.b.input("keep", "bool", (2, 6))
    q = g.reshape(g.x(2, 6, 8), shape=[2, 1, 6, 8])
    return g.scaled_dot_product_attention(q, q, q, mask(keep), scale=0.5)


def mask_plain(g: G) -> str:
    return masked(g, lambda m: g.reshape(m, shape=[2, 1, 1, 6]))


def mask_expanded(g: G) -> str:
    def mask(m: str) -> str:
        return g.expand(g.reshape(m, shape=[2, 1, 1, 6]), shape=[2, 1, 6, 6])

    return masked(g, mask)


def mask_and_true(g: G) -> str:
    def mask(m: str) -> str:
        return g.logical_and(g.k(np.ones((2, 1, 6, 6)), "bool"), g.reshape(m, shape=[2, 1, 1, 6]))

    return masked(g, mask)


def mask_not_not(g: G) -> str:
    def mask(m: str) -> str:
        drop = g.logical_not(g.reshape(m, shape=[2, 1, 1, 6]))
        return g.logical_not(g.expand(drop, shape=[2, 1, 6, 6]))

    return masked(g, mask)


def pool(g: G, **attrs: Any) -> str:
    given = {"kernel": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0], **attrs}
    return g.avg_pool(g.x(1, 3, 8, 8), **given)


def gate_conv(g: G) -> str:
    x = g.x(2, 4, 5, 5)
    m = g.mean(x, axis=[-2, -1], keepdims=True)
    attrs = {"strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1]}
    y = g.conv(m, g.reshape(g.w(4, 4), shape=[4, 4, 1, 1]), **attrs)
    return g.mul(x, g.sigmoid(y))


def gate_linear(g: G) -> str:
    x = g.x(2, 4, 5, 5)
    m = g.mean(x, axis=[-2, -1], keepdims=False)
    return g.mul(x, g.reshape(g.sigmoid(g.linear(m, g.w(4, 4))), shape=[2, 4, 1, 1]))


def gate_channels_last(g: G) -> str:
    x = g.x(2, 4, 5, 5)
    m = g.mean(g.transpose(x, perm=[0, 2, 3, 1]), axis=[1, 2], keepdims=True)
    y = g.sigmoid(g.linear(m, g.w(4, 4)))
    return g.mul(x, g.transpose(y, perm=[0, 3, 1, 2]))


def residual_first(g: G) -> str:
    x = g.relu(image(g))
    h = g.linear(g.transpose(x, perm=[0, 2, 3, 1]), g.w(4, 4))
    return g.add(x, g.transpose(h, perm=[0, 3, 1, 2]))


def residual_last(g: G) -> str:
    x = g.transpose(g.relu(image(g)), perm=[0, 2, 3, 1])
    h = g.linear(x, g.w(4, 4))
    return g.transpose(g.add(x, h), perm=[0, 3, 1, 2])


def image(g: G) -> str:
    attrs = {"strides": [1, 1], "pads": [1] * 4, "dilations": [1, 1]}
    return g.conv(g.x(2, 4, 6, 6), g.w(4, 4, 3, 3), **attrs)


def added_vector(shape: tuple[int, ...]) -> Callable[[G], str]:
    def build(g: G) -> str:
        x = g.x(1, 8)
        return g.add(x, g.reshape(g.tanh(g.relu(x)), shape=shape))

    return build


SPELLINGS: dict[str, tuple[Callable[[G], Any], ...]] = {
    "linear": (linear_rows, linear_flat, linear_sequence_first, linear_matmul),
    "merged heads": (heads_merged_3d, heads_merged_2d, heads_merged_swapped),
    "projections": (project_apart, project_split, project_sliced, project_indexed),
    "attention": (attention_op, attention_heads, attention_merged),
    "mask": (mask_plain, mask_expanded, mask_and_true, mask_not_not),
    "pooling": (
        pool,
        lambda g: pool(g, ceil_mode=True),
        lambda g: pool(g, count_include_pad=True),
    ),
    "gate": (gate_conv, gate_linear, gate_channels_last),
    "image residual": (residual_first, residual_last),
    "added vector": (added_vector((1, 8)), added_vector((8,))),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_one_thing(name: str) -> None:
    digests = [digest(build) for build in SPELLINGS[name]]
    assert digests == digests[:1] * len(digests)


# -- different networks ----------------------------------------------------------------------------
def network(
    g: G,
    *,
    stride: int = 1,
    pad: int = 1,
    epsilon: float = 1e-5,
    groups: int = 2,
    axis: int = -1,
    skip: str = "early",
    swapped: bool = False,
    shared: bool = False,
    activation: str = "relu",
    scale: float = 0.5,
    width: int = 4,
) -> str:
    """A little of everything; each argument changes one thing."""
    attrs = {"strides": [stride] * 2, "pads": [pad] * 4, "dilations": [1, 1]}
    h = g.conv(g.x(2, 4, 8, 8), g.w(4, 4, 3, 3), **attrs)
    h = getattr(g, activation)(g.group_norm(h, g.w(4), g.w(4), num_groups=groups, epsilon=epsilon))
    p = g.softmax(h, axis=axis)
    first, second = g.w(4, 4), g.w(width, 4)
    tokens = g.transpose(p, perm=[0, 2, 3, 1])
    a = g.linear(tokens, first)
    b = g.linear(a, first if shared else second)
    d = g.sub(b, a) if swapped else g.sub(a, b)
    e = g.exp(g.mul(d, g.k(scale)))
    return g.add(e, {"early": tokens, "late": a}[skip])


CHANGES = {
    "stride": {"stride": 2},
    "padding": {"pad": 0},
    "epsilon": {"epsilon": 1e-3},
    "groups": {"groups": 4},
    "axis": {"axis": -2},
    "edge": {"skip": "late"},
    "swapped operands of sub": {"swapped": True},
    "one weight used twice": {"shared": True},
    "activation": {"activation": "elu"},
    "literal": {"scale": 0.25},
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_change_is_another_network(name: str) -> None:
    assert digest(network) == digest(network)
    assert digest(network) != digest(lambda g: network(g, **CHANGES[name]))


def test_order_of_commutative_operands_does_not_matter() -> None:
    def build(g: G, flip: bool) -> str:
        x = g.x(2, 3)
        a, b = g.relu(x), g.tanh(x)
        return g.mul(g.add(b, a), a) if flip else g.mul(a, g.add(a, b))

    assert digest(lambda g: build(g, False)) == digest(lambda g: build(g, True))


def test_weights_are_compared_apart_from_structure() -> None:
    def build(shift: float) -> Graph:
        g = G()
        w = g.b.const(np.full((3, 8), 1 + shift, np.float32), "w")
        return g.b.finish([g.linear(g.x(2, 8), w)])

    same, near, far = (structure_digest(build(s)) for s in (0.0, 1e-7, 1e-3))
    assert same.hex == near.hex == far.hex
    assert constants_match(same, near, WEIGHTS)
    assert not constants_match(same, far, WEIGHTS)
