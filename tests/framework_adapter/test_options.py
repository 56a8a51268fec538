"""User options: inputs in every accepted form, choices, feeds."""

from __future__ import annotations

import numpy as np
import pytest

from cir.diagnostics import CirError
from framework_adapter.options import check_choices, feeds_for, normalise_inputs
from framework_adapter.source import InputSpec

X = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    "given", [X, (X,), [X], {"x": X}, (InputSpec("x", "float32", (2, 3)),), [[[0.0] * 3] * 2]]
)
def test_forms_of_inputs(given) -> None:
    specs, names = normalise_inputs(given)
    assert names is None and specs[0].dtype == "float32" and specs[0].shape == (2, 3)


def test_names_of_graph_files() -> None:
    assert normalise_inputs(["a:0", "b:0"]) == (None, ["a:0", "b:0"])
    assert normalise_inputs(None) == (None, None)


def test_framework_tensors() -> None:
    import torch

    specs, _ = normalise_inputs((torch.zeros(2, 3, dtype=torch.int64),))
    assert specs[0].dtype == "int64" and isinstance(specs[0].example, np.ndarray)


def test_dynamic_shapes_by_name_position_and_order() -> None:
    for given, dynamic in (
        ({"x": X, "y": X}, {"y": {0: "batch"}}),
        ((X, X), {1: {0: "batch"}}),
        ((X, X), (None, {-2: "batch"})),
    ):
        specs, _ = normalise_inputs(given, dynamic)
        assert specs[0].shape == (2, 3) and specs[1].shape == ("batch", 3)
    anonymous, _ = normalise_inputs((X,), {0: {0: None}})
    assert anonymous[0].shape == ("d0_0", 3)


@pytest.mark.parametrize(
    ("given", "dynamic"),
    [
        ((InputSpec("x", "float31", (2,)),), None),
        ((InputSpec("x", "float32", ("not a dim",)),), None),
        ((np.array(["text"]),), None),
        ((X,), {"z": {0: "n"}}),
        ((X,), {0: {5: "n"}}),
    ],
)
def test_wrong_inputs(given, dynamic) -> None:
    with pytest.raises(CirError) as e:
        normalise_inputs(given, dynamic)
    assert e.value.code == "E103"


@pytest.mark.parametrize(
    "wrong", [{"precision": "int3"}, {"input_layout": "nhwc"}, {"validate": "maybe"}]
)
def test_wrong_choices(wrong) -> None:
    choices = {"precision": "fp32", "input_layout": "source", "validate": "auto"} | wrong
    with pytest.raises(CirError) as e:
        check_choices(**choices)
    assert e.value.code == "E100" and e.value.exit_code == 2


def test_feeds_keep_indices_inside_the_examples_range_and_follow_sizes() -> None:
    ids = np.array([3, 7], np.int64)
    specs, _ = normalise_inputs({"x": X, "ids": ids}, {"x": {0: "n"}, "ids": {0: "n"}})
    first = feeds_for(specs, 0)
    assert first[1] is ids
    for seed in (1, 2):
        x, i = feeds_for(specs, seed, {"n": 50})
        assert x.shape == (50, 3) and i.shape == (50,) and i.min() >= 3 and i.max() <= 7
    again = feeds_for(specs, 1, {"n": 50})
    assert np.array_equal(again[0], feeds_for(specs, 1, {"n": 50})[0])
