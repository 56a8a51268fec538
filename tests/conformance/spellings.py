"""One thing written in many ways, without a framework: each entry must become one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cir.builder import Builder


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


def flatten_first(g: G) -> str:
    return g.linear(g.reshape(image(g), shape=[2, 144]), g.w(5, 144))


def flatten_last(g: G) -> str:
    h = g.reshape(g.transpose(image(g), perm=[0, 2, 3, 1]), shape=[2, 144])
    w = g.transpose(g.reshape(g.w(5, 144), shape=[5, 4, 6, 6]), perm=[0, 2, 3, 1])
    return g.linear(h, g.reshape(w, shape=[5, 144]))


def unfold_first(g: G) -> str:
    h = g.relu(g.linear(g.x(2, 5), g.w(24, 5)))
    return onward(g, g.reshape(h, shape=[2, 4, 2, 3]))


def unfold_last(g: G) -> str:
    x = g.x(2, 5)
    w = g.transpose(g.reshape(g.w(24, 5), shape=[4, 2, 3, 5]), perm=[1, 2, 0, 3])
    h = g.relu(g.linear(x, g.reshape(w, shape=[24, 5])))
    h = g.transpose(g.reshape(h, shape=[2, 2, 3, 4]), perm=[0, 3, 1, 2])
    return onward(g, h)


def onward(g: G, x: str) -> str:
    return g.conv(x, g.w(3, 4, 2, 2), strides=[1, 1], pads=[0] * 4, dilations=[1, 1])


def conv_along_one(g: G) -> str:
    x, w = g.x(2, 4, 9), g.w(3, 4, 2)
    return g.conv(x, w, strides=[1], pads=[1, 0], dilations=[2])


def conv_along_two(g: G) -> str:
    x, w = g.reshape(g.x(2, 4, 9), shape=[2, 4, 1, 9]), g.reshape(g.w(3, 4, 2), shape=[3, 4, 1, 2])
    y = g.conv(x, w, strides=[1, 1], pads=[0, 1, 0, 0], dilations=[1, 2])
    return g.reshape(y, shape=[2, 3, 8])


def pooled(g: G, flat: bool) -> str:
    x = image(g)
    parts = [g.mean(x, axis=[-2, -1]), g.amax(x, axis=[-2, -1])]
    if flat:
        return g.concat(*[g.reshape(p, shape=[2, 4]) for p in parts], axis=-1)
    return g.reshape(g.concat(*parts, axis=1), shape=[2, 8])


def every_second(g: G, at_once: bool) -> str:
    x = image(g)
    cut = {"starts": [0], "ends": [6], "steps": [2]}
    if at_once:
        return g.slice(x, axes=[2, 3], **{k: v * 2 for k, v in cut.items()})
    return g.slice(g.slice(x, axes=[2], **cut), axes=[3], **cut)


def fourier(g: G, build: Callable[[str, str, str], str]) -> str:
    return g.sin(build(g.x(3), g.w(5), g.k(2 * np.pi)))


def column(g: G, x: str) -> str:
    return g.reshape(x, shape=[3, 1])


def maps_attention(g: G, values_first: bool) -> str:
    h = g.reshape(image(g), shape=[2, 4, 36])
    t = g.transpose(h, perm=[0, 2, 1])
    p = g.softmax(g.mul(g.matmul(t, h), g.k(0.5)), axis=-1)
    if values_first:
        return g.matmul(h, g.transpose(p, perm=[0, 2, 1]))
    return g.transpose(g.matmul(p, t), perm=[0, 2, 1])


def normalised_places(g: G, flat: bool) -> str:
    x = image(g)
    if flat:
        y = g.group_norm(g.reshape(x, shape=[2, 4, 36]), g.w(4), g.w(4), num_groups=2)
        return g.reshape(y, shape=[2, 4, 36])
    return g.reshape(g.group_norm(x, g.w(4), g.w(4), num_groups=2), shape=[2, 4, 36])


def idle_operands(g: G, given: bool) -> str:
    zeros, ones = (g.k(np.zeros(8)), g.k(np.ones(8))) if given else (None, None)
    return g.layer_norm(g.linear(g.x(2, 8), g.w(8, 8), zeros), ones, zeros)


def sum_and_filled(g: G, filled: bool) -> str:
    s = g.sum(g.x(2, 6), axis=[-2, -1], keepdims=False)
    if filled:
        return g.add(g.expand(g.k(2), shape=[2, 3]), s)
    return g.expand(g.add(s, g.k(2)), shape=[2, 3])


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
    "flatten": (flatten_first, flatten_last),
    "unfold": (unfold_first, unfold_last),
    "one-dimensional convolution": (conv_along_one, conv_along_two),
    "pooled features": (lambda g: pooled(g, True), lambda g: pooled(g, False)),
    "every second pixel": (lambda g: every_second(g, True), lambda g: every_second(g, False)),
    "Fourier features": (
        lambda g: fourier(g, lambda x, w, k: g.mul(g.mul(column(g, x), w), k)),
        lambda g: fourier(g, lambda x, w, k: g.mul(column(g, g.mul(k, x)), w)),
        lambda g: fourier(g, lambda x, w, k: g.mul(g.mul(w, k), column(g, x))),
    ),
    "attention over maps": (lambda g: maps_attention(g, True), lambda g: maps_attention(g, False)),
    "normalised places": (
        lambda g: normalised_places(g, True),
        lambda g: normalised_places(g, False),
    ),
    "bias of zeros, scale of ones": (
        lambda g: idle_operands(g, True),
        lambda g: idle_operands(g, False),
    ),
    "a sum beside a fill": (lambda g: sum_and_filled(g, True), lambda g: sum_and_filled(g, False)),
    "division by a number": (
        lambda g: g.div(g.x(2, 3), g.k(np.sqrt(2))),
        lambda g: g.mul(g.x(2, 3), g.k(1 / np.sqrt(2))),
    ),
}
