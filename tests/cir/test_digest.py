"""The structure digest: what must not change it, what must, and the comparison of constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cir.builder import Builder
from cir.digest import StructureDigest, constants_match, content_digest, structure_digest
from cir.graph import Graph, Model
from cir.text import parse_text, print_text
from tests.cir import samples
from tests.cir.test_verify import chain


def graph(body: str, inputs: str = "x: float32[n, 8]", outs: str = "y") -> Graph:
    """A graph of statements over x, and 8-element constants w and v and scalars c and d."""
    consts = (
        "const w: float32[8] = [1, 2, 3, 4, 5, 6, 7, 8]\nconst v: float32[8] = [8, 7, 6, 5, 4, 3, 2, 1]\n"
        "const c: float32[] = 0.1\nconst d: float32[] = 0.2\n"
    )
    head = "".join(f"input {i}\n" for i in inputs.split("; "))
    lines = "\n".join(line.strip() for line in body.split("; "))
    return parse_text(f"cir 1.0\ngraph g\n{head}{consts}{lines}\nreturn {outs}").graph


def digest(body: str, **parts: str) -> str:
    return structure_digest(graph(body, **parts)).hex


def rename(g: Graph, fn: Callable[[str], str]) -> Graph:
    """Every value renamed."""
    nodes = tuple(
        n.with_(
            inputs=tuple(None if i is None else fn(i) for i in n.inputs),
            outputs=tuple(fn(o) for o in n.outputs),
        )
        for n in g.nodes
    )
    return Graph(
        "other", tuple(map(fn, g.inputs)), tuple(map(fn, g.outputs)), nodes,
        {fn(k): t for k, t in g.types.items()}, {fn(k): c for k, c in reversed(g.consts.items())},
    )  # fmt: skip


TWO = "x: float32[n, 8]; z: float32[n, 8]"
SAME = {
    "commutative operands": ("y = add(x, w)", "y = add(w, x)", {}),
    "commutative over subtrees": (
        "a = relu(x); b = exp(x); y = mul(a, b)", "b = exp(x); a = relu(x); y = mul(b, a)", {},
    ),
    "order of independent nodes": (
        "a = relu(x); b = exp(x); y = sub(a, b)", "b = exp(x); a = relu(x); y = sub(a, b)", {},
    ),
    "dead nodes": ("y = relu(x)", "q = exp(x); y = relu(x)", {}),
    "float32 spelling of an attribute": (
        "y = leaky_relu(x, alpha=0.1)", f"y = leaky_relu(x, alpha={float(np.float32(0.1))!r})", {},
    ),
    "axis from the front": ("y = softmax(x, axis=-1)", "y = softmax(x, axis=1)", {}),
}  # fmt: skip
DIFFERENT = {
    "op": ("y = relu(x)", "y = exp(x)", {}),
    "attribute": ("y = leaky_relu(x, alpha=0.1)", "y = leaky_relu(x, alpha=0.2)", {}),
    "epsilon": ("y = layer_norm(x, w, v)", "y = layer_norm(x, w, v, epsilon=1.1e-5)", {}),
    "axis": ("y = softmax(x, axis=-1)", "y = softmax(x, axis=0)", {}),
    "operands of sub": ("y = sub(x, w)", "y = sub(w, x)", {}),
    "scalar": ("y = mul(x, c)", "y = mul(x, d)", {}),
    "edge": (
        "a = relu(x); b = exp(a); y = sub(b, a)", "a = relu(x); b = exp(a); y = sub(b, x)", {},
    ),
    "absent input": ("y = layer_norm(x, w)", "y = layer_norm(x, None, w)", {}),
    "shared weight": (
        "a = mul(x, w); y = sub(a, w)", "a = mul(x, w); y = sub(a, v)", {},
    ),
    "shared value": (
        "a = relu(x); y = sub(a, a)", "a = relu(x); b = relu(x); y = sub(a, b)", {},
    ),
    "input order": ("y = sub(x, z)", "y = sub(z, x)", {"inputs": TWO}),
    "output order": (
        "y = relu(x); h = exp(x)", "h = relu(x); y = exp(x)", {"outs": "y, h"},
    ),
    "which result": (
        "a, b = topk(x, k=8); y = relu(a); i = identity(b)",
        "a, b = topk(x, k=8); y = relu(x); i = identity(b)", {"outs": "y, i"},
    ),
    "dims of attributes": (
        'y = reshape(x, shape=("2*n", 4))', 'y = reshape(x, shape=(4, "2*n"))', {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_equal(case: str) -> None:
    a, b, parts = SAME[case]
    assert digest(a, **parts) == digest(b, **parts)


@pytest.mark.parametrize("case", DIFFERENT)
def test_different(case: str) -> None:
    a, b, parts = DIFFERENT[case]
    assert digest(a, **parts) != digest(b, **parts)


def test_names_of_values_and_graphs_do_not_count() -> None:
    g = graph("a = relu(x); b, i = topk(a, k=3); y = mul(b, c)", outs="y, i")
    other = rename(g, lambda n: f"zz.{n}")
    assert structure_digest(other) == structure_digest(other)
    assert structure_digest(other).hex == structure_digest(g).hex


def test_symbol_names_do_not_count_but_their_places_do() -> None:
    def shaped(a: str, b: str) -> str:
        body = f'y = reshape(x, shape=("{a}*{b}", 2)); z = nonzero(m)'
        return digest(body, inputs=f"x: float32[{b}, 2, {a}]; m: bool[{b}, {a}]", outs="y, z")

    assert shaped("batch", "seq") == shaped("seq", "batch") == shaped("a", "b")
    assert digest("y = relu(x)", inputs="x: float32[n, n]") != digest(
        "y = relu(x)", inputs="x: float32[n, m]"
    )
    assert digest("y = relu(x)", inputs="x: float32[2*n + 1]") == digest(
        "y = relu(x)", inputs="x: float32[2*k + 1]"
    )


def test_stride_and_shapes_count() -> None:
    def conv(stride: int, size: int = 9) -> str:
        b = Builder()
        x = b.input("x", "float32", (1, 2, size, size))
        w = b.const(np.ones((3, 2, 3, 3), np.float32))
        attrs = {"strides": (stride, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
        return structure_digest(b.finish(b.emit("conv", [x, w], attrs))).hex

    assert conv(1) == conv(1)
    assert len({conv(1), conv(2), conv(1, 10)}) == 3


def test_equal_content_is_one_weight_whatever_its_names() -> None:
    def net(*weights: np.ndarray) -> StructureDigest:
        b = Builder()
        h = b.input("x", "float32", (4, 64))
        for w in weights:
            (h,) = b.emit("mul", [h, b.const(w, name="w")])
        return structure_digest(b.finish([h]))

    one, two = np.arange(64, dtype=np.float32), np.arange(1, 65, dtype=np.float32)
    late = one.copy()
    late[-1] = 9
    assert net(one, one).hex == net(two, two.copy()).hex != net(one, two).hex
    assert net(one, two).hex == net(two, one).hex == net(one, late).hex
    # Beyond the first elements, content still decides.
    big = [np.zeros((2, 5000), np.float32) for _ in range(2)]
    big[1][1, -1] = 1
    b = Builder()
    names = [b.const(w, name="w") for w in (big[0], big[1], big[0].copy())]
    g = b.finish(b.emit("concat", names, {"axis": 0}))
    assert len(structure_digest(g).consts) == 2


def test_constants_come_in_visit_order_and_scalars_do_not() -> None:
    d = structure_digest(graph("a = mul(x, v); b = mul(a, c); y = sub(b, w)"))
    assert [c[0] for c in d.consts] == [8, 1]  # depth-first from the output


def test_regions_count() -> None:
    g = samples.cond()
    base = structure_digest(g)
    assert [c.shape for c in base.consts] == [(20,)]
    then, other = g.nodes[0].regions
    swapped = g.with_(nodes=(g.nodes[0].with_(regions=(other, then)),))
    changed = then.with_(nodes=(then.nodes[0].with_(op="maximum"),))
    edited = g.with_(nodes=(g.nodes[0].with_(regions=(changed, other)),))
    assert len({structure_digest(x).hex for x in (g, swapped, edited)}) == 3
    assert structure_digest(parse_text(print_text(samples.loop()))) == structure_digest(
        samples.loop()
    )


def test_long_chains_are_no_recursion() -> None:
    assert len(structure_digest(chain(14_000)).hex) == 64


def test_constants_match() -> None:
    a = np.array([1.0, -4.0, np.nan, np.inf], np.float32)
    ok, off = a.copy(), a.copy()
    ok[0] += 2e-6
    off[0] += 8e-6
    assert constants_match([a], [ok]) and not constants_match([a], [off])
    assert constants_match([a], [off], tol=1e-5)
    assert not constants_match([a], [a, a]) and not constants_match([a], [a.astype(np.float64)])
    assert not constants_match([a], [a[:2]]) and constants_match([], [])
    for other in (np.array([1, -4, 0, np.inf]), np.array([1, -4, np.nan, -np.inf])):
        assert not constants_match([a], [other.astype(np.float32)])
    big = np.array([10**9, 5])
    assert constants_match([big], [big.copy()]) and not constants_match([big], [big + [0, 1]])
    zero = np.zeros(3, np.float32)
    assert constants_match([zero], [zero]) and not constants_match([zero], [zero + 1e-30])
    z = np.array([1 + 1j], np.complex64)
    assert constants_match([z], [z + np.complex64(1e-7)]) and not constants_match([z], [z + 1])
    d = structure_digest(graph("y = mul(x, w)"))
    assert constants_match(d, structure_digest(graph("y = mul(w, x)")))
    assert not constants_match(d, structure_digest(graph("y = mul(x, v)")))


def test_content_digest_covers_all_but_provenance() -> None:
    m = samples.mlp()
    base = content_digest(m)
    assert base == content_digest(m.with_(meta={}))
    nodes = tuple(n.with_(meta=n.meta.merge(n.meta, "rule")) for n in m.graph.nodes)
    assert base == content_digest(m.with_graph(m.graph.with_(nodes=nodes)))
    assert base != content_digest(m.with_graph(m.graph.with_(name="n")))
    assert base != content_digest(m.with_(symbols={}))
    consts = {**m.graph.consts, "fc2.weight": m.graph.consts["fc1.weight"].of(np.eye(8, dtype="f"))}
    assert base != content_digest(m.with_graph(m.graph.with_(consts=consts)))
    assert base != content_digest(Model(m.graph))
