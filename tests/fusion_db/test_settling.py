"""Canonicalising ends, and keeps the numbers, on graphs where it once did not."""

from __future__ import annotations

import pytest

from tests.conformance.random_graphs import failure

#: Products of two softmaxes; views of axes of size 1 that are free on either side of an op.
ONCE_ENDLESS = (108, 430, 546, 621, 323, 494, 587, 898, 1084)


@pytest.mark.parametrize("seed", ONCE_ENDLESS)
def test_a_graph_that_went_round(seed: int) -> None:
    assert failure(seed) == ""
