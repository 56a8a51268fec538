from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cir import interpret
from cir.builder import Builder
from cir.diagnostics import CirError
from cir.graph import Model, Range
from framework_adapter.source import InputSpec
from framework_adapter.validate import Edges, compare, flops, inputs, runner
from framework_adapter.validate.metrics import FAIL, PASS, WARN

from .nets import W2, mlp, numpy_mlp

SPECS = [InputSpec("x", "float32", (3, 8))]
DYNAMIC = [InputSpec("x", "float32", ("batch", 8))]


def wrong(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    return numpy_mlp(feeds, W2 * 1.02)


def test_agreement_passes_with_three_seeds() -> None:
    said: list[str] = []
    report = compare(numpy_mlp, mlp(), numpy_mlp, SPECS, progress=said.append)
    assert report.verdict == PASS
    assert report.fault == ""
    assert [c.run for c in report.outputs] == ["seed 0", "seed 1", "seed 2"]
    assert report.scaled_error == 0
    assert 0 < max(c.source.scaled for c in report.outputs) < 1e-6
    assert all(c.floor > 0 for c in report.outputs)
    assert said == [
        "validate: source framework",
        "validate: reference",
        "validate: artefact",
    ]
    report.raise_on_failure()


def test_a_wrong_artefact_is_the_backends_fault() -> None:
    report = compare(numpy_mlp, mlp(), wrong, SPECS)
    assert (report.verdict, report.fault) == (FAIL, "backend")
    with pytest.raises(CirError) as caught:
        report.raise_on_failure()
    assert caught.value.code == "E601"
    assert caught.value.exit_code == 1
    assert "backend" in str(caught.value)


def test_a_wrong_program_is_the_frontends_fault_unless_it_was_right_before_fusion() -> None:
    fused = mlp(w2=W2 * np.float32(1.02))
    report = compare(numpy_mlp, fused, wrong, SPECS, lowered=fused)
    assert (report.verdict, report.fault) == (FAIL, "frontend")
    report = compare(numpy_mlp, fused, wrong, SPECS, lowered=mlp())
    assert (report.verdict, report.fault) == (FAIL, "fusion")


def test_a_wrong_reference_is_a_warning() -> None:
    report = compare(numpy_mlp, mlp(w2=W2 * np.float32(1.02)), numpy_mlp, SPECS)
    assert (report.verdict, report.fault) == (WARN, "reference")
    assert report.findings()[0].code == "W601"
    report.raise_on_failure()


def test_an_artefact_that_does_not_run_fails_with_its_message() -> None:
    def broken(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        raise RuntimeError("no kernel for Foo\ndetails")

    report = compare(numpy_mlp, mlp(), broken, SPECS)
    assert (report.verdict, report.fault) == (FAIL, "backend")
    assert "RuntimeError: no kernel for Foo" in report.headline


def test_a_source_that_does_not_run_is_the_users_to_fix() -> None:
    def broken(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        raise IndexError("index out of range")

    with pytest.raises(CirError) as caught:
        compare(broken, mlp(), numpy_mlp, SPECS)
    assert caught.value.code == "E103"
    assert "index out of range" in str(caught.value)

    def only_first(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        assert np.array_equal(feeds[0], inputs.feeds_at(SPECS, 0, {})[0])
        return numpy_mlp(feeds)

    report = compare(only_first, mlp(), numpy_mlp, SPECS)
    assert [c.run for c in report.outputs] == ["seed 0"]
    assert len(report.notes) == 2


def test_a_missing_output_fails() -> None:
    report = compare(numpy_mlp, mlp(), lambda feeds: [], SPECS)
    assert report.verdict == FAIL


def test_symbolic_sizes_are_tried() -> None:
    shapes = []

    def source(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        shapes.append(feeds[0].shape[0])
        return numpy_mlp(feeds)

    report = compare(source, mlp("batch"), numpy_mlp, DYNAMIC)
    assert report.outputs[-1].run == "seed 0, batch=5"
    assert report.verdict == PASS
    assert shapes == [2, 2, 2, 5]
    shapes.clear()
    compare(source, mlp("batch"), numpy_mlp, DYNAMIC, "full")
    assert shapes == [2, 2, 2, 5, 1]


def test_an_artefact_that_only_takes_one_size_fails() -> None:
    def fixed(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        return numpy_mlp(feeds) if len(feeds[0]) == 2 else [np.zeros((2, 4), np.float32)]

    report = compare(numpy_mlp, mlp("batch"), fixed, DYNAMIC)
    assert report.verdict == FAIL
    assert "batch=5" in report.headline


def test_a_source_that_only_takes_one_size_is_a_note() -> None:
    def fixed(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        assert len(feeds[0]) == 2
        return numpy_mlp(feeds)

    report = compare(fixed, mlp("batch"), numpy_mlp, DYNAMIC)
    assert report.verdict == PASS
    assert "not checked" in report.notes[0]


def test_other_sizes_keep_to_the_ranges() -> None:
    env = {"n": 2, "m": 4}
    ranges = {"n": Range(1, 4), "m": Range(0, None, (4, 8))}
    assert inputs.other_sizes(env, ranges, "auto") == [[{"n": 3, "m": 8}]]
    assert inputs.other_sizes({}, {}, "full") == []
    assert inputs.other_sizes({"n": 2}, {"n": Range(2, 2)}, "full") == []


def test_derived_dims_follow_their_symbol() -> None:
    specs = [InputSpec("x", "float32", ("n", 2)), InputSpec("y", "int64", ("2*n + 1",))]
    x, y = inputs.feeds_at(specs, 0, {"n": 5})
    assert (x.shape, y.shape) == ((5, 2), (11,))
    specs[0] = InputSpec("x", "float32", ("n", 2), np.zeros((3, 2), np.float32))
    assert inputs.first_sizes(specs) == {"n": 3}


def test_examples_are_used_first_and_bound_integers() -> None:
    example = np.array([3, 9, 5])
    specs = [InputSpec("ids", "int64", ("n",), example)]
    assert inputs.feeds_at(specs, 0, {"n": 3})[0] is example
    drawn = inputs.feeds_at(specs, 0, {"n": 100})[0]
    assert drawn.shape == (100,)
    assert drawn.min() >= 3
    assert drawn.max() <= 9


def test_programs_with_another_layout_at_the_edges() -> None:
    b = Builder()
    x = b.input("x", "float32", (1, 3, 4, 5))
    (y,) = b.emit("relu", [x], name="y")
    model = Model(b.finish([y]))
    perm = (0, 3, 1, 2)
    relu = lambda feeds: [np.maximum(feeds[0], 0)]  # noqa: E731
    report = compare(
        relu,
        model,
        relu,
        [InputSpec("x", "float32", (1, 4, 5, 3))],
        edges=Edges((perm,), (perm,)),
    )
    assert report.verdict == PASS
    assert report.outputs[0].type == "float32[1, 4, 5, 3]"


def test_overflow_in_float32_is_judged_in_float32() -> None:
    b = Builder()
    x = b.input("x", "float32", (2,))
    (y,) = b.emit("exp", [x], name="y")
    example = np.array([1.0, 200.0], np.float32)
    exp = lambda feeds: [np.exp(feeds[0])]  # noqa: E731
    with np.errstate(over="ignore"):
        report = compare(exp, Model(b.finish([y])), exp, [InputSpec("x", "float32", (2,), example)])
    assert report.verdict == PASS
    assert "float32's range" in report.notes[0]


def test_noise_of_a_cancellation_is_measured_not_guessed() -> None:
    """(x + 4096) - 4096 loses digits in any float32 engine: far above 1e-5, yet nobody's fault."""
    b = Builder()
    x = b.input("x", "float32", (256,))
    (big,) = b.emit("add", [x, b.const(4096.0)])
    (y,) = b.emit("sub", [big, b.const(4096.0)], name="y")

    def source(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        c = np.float32(4096)
        return [(feeds[0] + c) - c]

    report = compare(source, Model(b.finish([y])), source, [InputSpec("x", "float32", (256,))])
    assert report.verdict == PASS
    assert report.outputs[0].source.scaled > 1e-5
    assert report.outputs[0].bound > 1e-5


def test_large_networks_use_a_cheaper_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FLOAT64_GFLOP", 0.0)
    report = compare(numpy_mlp, mlp(), numpy_mlp, SPECS)
    assert "float32" in report.reference
    assert report.outputs[0].floor > 0  # from inputs moved by one rounding
    monkeypatch.setattr(runner, "NUMPY_GFLOP", 0.0)
    monkeypatch.setattr(runner, "LARGE_GFLOP", 0.0)
    report = compare(numpy_mlp, mlp(), numpy_mlp, SPECS, plain_run=numpy_mlp)
    assert "op by op" in report.reference
    assert len(report.outputs) == 1
    assert report.verdict == PASS


def test_flop_estimates() -> None:
    assert flops.estimate(mlp().graph) == 2 * 3 * 8 * 16 + 3 * 16 + 2 * 3 * 16 * 4
    assert flops.estimate(mlp("n").graph, {"n": 3}) == flops.estimate(mlp().graph)
    b = Builder()
    x = b.input("x", "float32", (2, 8, 10, 10))
    w = b.const(np.zeros((16, 4, 3, 3), np.float32), "w")
    attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 2}
    (y,) = b.emit("conv", [x, w], attrs)
    assert flops.estimate(b.finish([y])) == 2 * (2 * 16 * 100) * (4 * 9)


def test_interpreter_feeds_of_a_model_with_ranges() -> None:
    model = mlp("batch").with_(symbols={"batch": Range(1, 4)})
    report = compare(numpy_mlp, model, numpy_mlp, DYNAMIC)
    assert report.outputs[-1].run == "seed 0, batch=3"
    assert report.verdict == PASS
    assert interpret.run(model, [np.zeros((4, 8), np.float32)])["y"].shape == (4, 4)


def test_weights_stored_in_less_precision_are_measured() -> None:
    """What rounding the weights alone changes is noise; anything beyond it is not."""
    rounded = mlp(w2=W2.astype(np.float16).astype(np.float32))

    def stored(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(interpret.run(rounded, feeds, compute="float32").values())

    assert compare(numpy_mlp, mlp(), stored, SPECS).verdict != PASS
    report = compare(numpy_mlp, mlp(), stored, SPECS, stored=rounded)
    assert report.verdict == PASS and report.scaled_error > report.tolerance
    assert "less precision" in " ".join(report.notes)

    def far(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [y * 1.1 for y in stored(feeds)]

    assert compare(numpy_mlp, mlp(), far, SPECS, stored=rounded).verdict == FAIL


def test_an_artefact_of_another_dtype_fails() -> None:
    def wide(feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [y.astype(np.float64) for y in numpy_mlp(feeds)]

    report = compare(numpy_mlp, mlp(), wide, SPECS)
    assert (report.verdict, report.fault) == (FAIL, "backend")
    assert "float64 instead of float32" in report.worst.artifact.problem
