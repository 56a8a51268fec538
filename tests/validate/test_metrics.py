from __future__ import annotations

import numpy as np
import pytest

from framework_adapter.validate.metrics import FAIL, PASS, WARN, judge, measure, worst


def f32(*xs: float) -> np.ndarray:
    return np.array(xs, np.float32)


def test_equal_arrays_have_no_error() -> None:
    m = measure(f32(1, -2, 3), f32(1, -2, 3))
    assert (m.max_abs, m.scaled, m.rel_l2, m.cosine) == (0, 0, 0, pytest.approx(1))
    assert m.snr_db == float("inf")
    assert judge(m, 0.0).verdict == PASS


def test_scaled_error_divides_by_the_largest_element() -> None:
    m = measure(f32(0.0, 10.1), f32(0.1, 10.0))
    assert m.max_abs == pytest.approx(0.1, rel=1e-5)
    assert m.scaled == pytest.approx(0.01, rel=1e-5)


def test_tiny_references_do_not_blow_up() -> None:
    assert measure(f32(1e-9), f32(0.0)).scaled == pytest.approx(1e-3, rel=1e-5)


def test_cosine_does_not_see_a_wrong_scale_but_the_rest_does() -> None:
    m = measure(f32(2, 4), f32(1, 2))
    assert m.cosine == pytest.approx(1)
    assert m.scaled == pytest.approx(1)
    assert m.snr_db == pytest.approx(0, abs=1e-6)


def test_large_elements_do_not_overflow() -> None:
    m = measure(np.array([3e200, 1e200]), np.array([3e200, 1.1e200]))
    assert np.isfinite([m.rel_l2, m.cosine, m.snr_db]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_must_be_at_the_same_places(bad: float) -> None:
    same = measure(f32(1, bad), f32(1, bad))
    assert not same.problem
    assert same.scaled == 0
    one = measure(f32(1, 2), f32(1, bad))
    assert "1 places" in one.problem
    assert judge(one, 1.0).verdict == FAIL
    assert measure(f32(1, bad), f32(1, 2)).problem
    assert measure(f32(1, bad), f32(1, -bad if np.isinf(bad) else np.inf)).problem


def test_integers_and_booleans_must_be_equal() -> None:
    a = np.array([1, 2, 3, 4])
    m = measure(a, np.array([1, 2, 3, 5]))
    assert m.exact
    assert m.scaled == 0.25
    assert m.max_abs == 1
    assert judge(m, 0.0).verdict == FAIL
    assert judge(m, 0.25).verdict == WARN  # rounding alone flips as many
    assert measure(a, a).scaled == 0
    assert measure(np.array([True, False]), np.array([True, True])).scaled == 0.5
    big = measure(np.array([2**62]), np.array([-(2**62)]))
    assert big.max_abs == float(2**63)


def test_shapes_and_kinds_must_agree() -> None:
    assert "shape" in measure(f32(1), f32(1, 2)).problem
    assert "dtype" in measure(f32(1), np.array([1])).problem
    assert not measure(f32(), f32()).problem


def test_half_floats_are_compared_in_float64() -> None:
    import ml_dtypes

    x = np.array([1.0, 2.0], ml_dtypes.bfloat16)
    assert measure(x, x.astype(np.float32)).scaled == 0


def test_verdict_depends_on_the_measured_noise() -> None:
    m = measure(f32(1.00005), f32(1.0))
    assert judge(m, 0.0).verdict == WARN  # five times the tolerance
    assert "tolerance" in judge(m, 0.0).reason
    noisy = judge(m, 2e-5)
    assert noisy.verdict == PASS
    assert "noise floor" in noisy.reason
    assert noisy.bound == pytest.approx(8e-5)
    assert judge(measure(f32(1.01), f32(1.0)), 2e-5).verdict == FAIL


def test_worst_verdict() -> None:
    assert worst([PASS, FAIL, WARN]) == FAIL
    assert worst([PASS, WARN]) == WARN
    assert worst([]) == PASS


def test_json_has_no_infinite_numbers() -> None:
    import json

    json.dumps(measure(f32(1), f32(1)).as_dict(), allow_nan=False)
    json.dumps(measure(f32(1), f32(1, 2)).as_dict(), allow_nan=False)
