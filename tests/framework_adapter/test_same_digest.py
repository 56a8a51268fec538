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

from cir.digest import constants_match, structure_digest
from cir.graph import Graph, Model
from framework_adapter.api import digest_of
from framework_adapter.pipeline import front
from fusion_db import select
from tests.conformance import networks
from tests.conformance.frameworks import WEIGHTS, comparable, program
from tests.conformance.listing import difference
from tests.conformance.spellings import SPELLINGS, G, flatten_first, flatten_last, image

#: Networks and batch sizes that together hold every ingredient; the rest is run by conformance.
FAST = (
    ("attention", 2),
    ("masked", 1),
    ("film", 1),
    ("convnext", 2),
    ("mobilenet", 1),
    ("gated", 2),
    ("lenet", 1),
    ("wavenet", 2),
    ("score", 1),
)
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
def digest(build: Callable[[G], Any]) -> str:
    g = G()
    made = build(g)
    model = Model(g.b.finish([made] if isinstance(made, str) else made))
    return digest_of(front(select("canonicalise"), select("fuse")).run(model))


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


def test_flattening_in_another_order_is_another_network() -> None:
    def canonical(build: Callable[[G], str]) -> Any:
        g = G()
        model = Model(g.b.finish([build(g)]))
        return structure_digest(front(select("canonicalise"), ()).run(model))

    def unported(g: G) -> str:
        h = g.reshape(g.transpose(image(g), perm=[0, 2, 3, 1]), shape=[2, 144])
        return g.linear(h, g.w(5, 144))

    first, ported, other = map(canonical, (flatten_first, flatten_last, unported))
    assert first.hex == ported.hex == other.hex  # a permutation goes into the weight
    assert constants_match(first, ported, WEIGHTS)
    assert not constants_match(first, other, WEIGHTS)


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
