"""Laws of the view algebra: a spelling computes the view, equal views are spelled equally."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cir import dim
from cir.views import View


def apply(x: np.ndarray, steps: list) -> np.ndarray:
    for op, arg in steps:
        x = x.reshape(arg) if op == "reshape" else x.transpose(arg)
    return x


def through(view: View, steps: list) -> View | None:
    for op, arg in steps:
        assert view is not None
        view = view.reshape(tuple(arg)) if op == "reshape" else view.transpose(arg)
    return view


@st.composite
def chains(draw) -> tuple[tuple[int, ...], list]:
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)))
    steps, now = [], shape
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            perm = draw(st.permutations(range(len(now))))
            steps.append(("transpose", tuple(perm)))
            now = tuple(now[p] for p in perm)
        else:
            left, sizes = int(np.prod(now)), []
            while left > 1 and len(sizes) < 4:
                d = draw(st.sampled_from([k for k in range(1, left + 1) if left % k == 0]))
                sizes.append(d)
                left //= d
            now = (*sizes, left)
            steps.append(("reshape", now))
    return shape, steps


@settings(max_examples=300, deadline=None)
@given(chains())
def test_spelling_computes_the_view_and_is_a_fixpoint(chain) -> None:
    shape, steps = chain
    x = np.arange(np.prod(shape)).reshape(shape)
    view, y = View.identity(shape), x
    for step in steps:
        after = through(view, [step])
        if after is None:  # sizes that do not line up; the pass starts a new base there
            break
        view, y = after, apply(y, [step])
    z = apply(x, view.spelling())
    assert z.shape == y.shape and np.array_equal(z, y)
    assert len(view.spelling()) <= 3
    again = through(View.identity(shape), view.spelling())
    assert again is not None and again.spelling() == view.spelling()
    back = view.inverse()
    if back is not None:
        assert np.array_equal(apply(y, back.spelling()), x)


def test_flatten_is_spelled_alike_channels_first_and_last() -> None:
    shape = ("n", 8, "h", "w")
    hw = dim.mul("h", "w")
    first = View.identity(shape).reshape(("n", 8, hw)).transpose((0, 2, 1))
    last = View.identity(shape).transpose((0, 2, 3, 1)).reshape(("n", hw, 8))
    assert first.spelling() == last.spelling() == [
        ("reshape", ("n", 8, "h*w")),
        ("transpose", (0, 2, 1)),
    ]


def test_head_split_through_a_flattened_batch() -> None:
    bt = dim.mul("b", "t")
    view = View.identity(("b", "t", 64)).reshape((bt, 64)).reshape(("b", "t", 4, 16))
    assert view.transpose((0, 2, 1, 3)).spelling() == [
        ("reshape", ("b", "t", 4, 16)),
        ("transpose", (0, 2, 1, 3)),
    ]


def test_sizes_that_cannot_be_proven_to_line_up_end_the_chain() -> None:
    assert View.identity(("a", "b")).reshape(("b", "a")) is None
