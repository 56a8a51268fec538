"""The command that measures every exit, on the shortest one."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from tests.conformance import controls, exits

SMALL = ["--model", "lstm_classifier", "--target", "onnx"]


def last_line(capsys: pytest.CaptureFixture[str]) -> tuple[dict, str]:
    out = capsys.readouterr().out
    return json.loads(out.splitlines()[-1]), out


@pytest.mark.parametrize("shapes", exits.SHAPES)
def test_a_cell_and_its_controls(shapes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exits.main([*SMALL, "--shapes", shapes]) == 0
    found, out = last_line(capsys)
    assert (found["cells_pass"], found["cells_total"], found["digest_equal"]) == (1, 1, 1)
    assert found["negative_controls_caught"] == found["negative_controls_total"] == 2
    assert found["worst_scaled_error_onnx"] <= 1e-5
    for key in ("nnacl_agree", "nnacl_checkable", "ge_nodes_valid", "ge_nodes_checked"):
        assert found[key] == 0
    assert "lstm_classifier" in out and "pass" in out and "caught" in out


def test_a_failure_is_loud(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(path):
        raise exits.Failed("the checker does not like it")

    monkeypatch.setitem(exits.CHECKS, "onnx", {"onnx.checker": refuses})
    monkeypatch.setitem(controls.CONTROLS, "onnx", {"blind": lambda folder: False})
    assert exits.main(SMALL) == 1
    found, out = last_line(capsys)
    assert found["cells_pass"] == 0 and found["failed"] == ["lstm_classifier pytorch onnx"]
    assert found["negative_controls_caught"] == 0
    assert "the checker does not like it" in out and "was not noticed" in out


def test_results_beyond_the_tolerance_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = exits.run
    monkeypatch.setattr(exits, "run", lambda *args: [y * 1.0001 for y in run(*args)])
    assert exits.main(SMALL) == 1
    assert "scaled error 1.0e-04, at most 1e-05 is allowed" in capsys.readouterr().out


def test_there_are_nine_pairs_and_five_targets() -> None:
    from tests import models

    assert len(models.PAIRS) == 9 and len(exits.TARGETS) == len(controls.CONTROLS) == 5
    assert set(exits.CHECKS) == set(exits.TARGETS)
