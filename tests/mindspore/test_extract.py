"""Cells extracted, lowered and compared with MindSpore; what the extraction says about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mindspore")

from cir.diagnostics import CirError  # noqa: E402
from framework_adapter import mapping, samples  # noqa: E402
from framework_adapter.lowering import lower  # noqa: E402
from framework_adapter.mindspore import FRONTEND  # noqa: E402
from framework_adapter.source import InputSpec  # noqa: E402
from tests.mindspore import cells  # noqa: E402

ROOT = Path(__file__).parents[2]
TABLE = mapping.load("mindspore")


def arrays(case: cells.Case) -> list[np.ndarray]:
    return [samples.tensor(text, i) for i, text in enumerate(case.inputs)]  # type: ignore[misc]


def specs(feeds: list[np.ndarray], *, batch: bool = False) -> list[InputSpec]:
    n = feeds[0].shape[:1]
    return [
        InputSpec(
            None,
            f.dtype.name,
            ("batch", *f.shape[1:]) if batch and f.shape[:1] == n else f.shape,
            f,
        )
        for f in feeds
    ]


def make(name: str) -> Any:
    import mindspore as ms

    ms.set_seed(1)
    return cells.CASES[name].make().set_train(False)


def compare(model: Any, net: Any, feeds: list[np.ndarray]) -> None:
    got = samples.interpret(model, feeds)
    want = FRONTEND.run(net, feeds)
    assert len(got) == len(want)
    for g, w in zip(got, want):
        assert (g.dtype, g.shape) == (w.dtype, w.shape)
        assert samples.scaled_error(g, w) <= (1e-5 if w.dtype != np.float16 else 2e-3)


@pytest.mark.parametrize("name", cells.CASES)
def test_cell_matches_mindspore(name: str) -> None:
    net, feeds = make(name), arrays(cells.CASES[name])
    model = lower(FRONTEND.extract(net, specs(feeds)), TABLE)
    compare(model, net, feeds)


@pytest.mark.parametrize("name", [n for n, c in cells.CASES.items() if c.batch])
def test_symbolic_batch_matches_mindspore(name: str) -> None:
    net, feeds = make(name), arrays(cells.CASES[name])
    dynamic = specs(feeds, batch=True)
    source = FRONTEND.extract(net, dynamic)
    assert list(source.symbols) == ["batch"]
    model = lower(source, TABLE)
    for n in (1, 5):
        compare(
            model,
            net,
            [
                np.concatenate([f] * 5)[:n] if s.shape and s.shape[0] == "batch" else f
                for f, s in zip(feeds, dynamic)
            ],
        )


@pytest.mark.parametrize("name", ["if", "early_return", "while"])
@pytest.mark.parametrize("scale", [1.0, -1.0, 0.1])
def test_every_branch_matches(name: str, scale: float) -> None:
    net, feeds = make(name), arrays(cells.CASES[name])
    model = lower(FRONTEND.extract(net, specs(feeds)), TABLE)
    for turns in (0, 3):
        x = np.full(feeds[0].shape, scale, np.float32)
        compare(model, net, [x, np.int32(turns) * np.ones((), np.int32)][: len(feeds)])


def test_names_places_and_ties() -> None:
    source = FRONTEND.extract(make("tied"), specs(arrays(cells.CASES["tied"])))
    assert list(source.inputs) == ["x"]
    assert source.output_names == ("output_0", "output_1.0", "output_1.1")
    weights = [i.name for n in source.nodes if n.op == "MatMulExt" for i in n.inputs][1::2]
    assert weights == ["w", "w"]
    conv = FRONTEND.extract(make("decoder"), specs(arrays(cells.CASES["decoder"]))).nodes[0]
    assert (conv.op, conv.module, conv.outputs) == (
        "Conv2DTranspose",
        "up",
        ("up.Conv2DTranspose",),
    )


def test_outputs_can_be_chosen() -> None:
    net, feeds = make("tied"), arrays(cells.CASES["tied"])
    source = FRONTEND.extract(net, specs(feeds), outputs=["output_1.1"])
    got = samples.interpret(lower(source, TABLE), feeds)
    assert len(got) == 1 and np.array_equal(got[0], feeds[0] - 3)
    with pytest.raises(CirError) as info:
        FRONTEND.extract(net, specs(feeds), outputs=["logits"])
    assert info.value.code == "E103"


def test_inputs_go_by_name() -> None:
    net, (x, c, s) = make("rope"), arrays(cells.CASES["rope"])
    by_name = [InputSpec(n, "float32", v.shape) for n, v in (("s", s), ("x", x), ("c", c))]
    assert list(FRONTEND.extract(net, by_name).inputs) == ["x", "c", "s"]
    for wrong in (by_name[:2], [*by_name, InputSpec("y", "float32", (1,))]):
        with pytest.raises(CirError) as info:
            FRONTEND.extract(net, wrong)
        assert info.value.code in ("E103", "E105")


@pytest.mark.parametrize(
    ("make_cell", "inputs", "code"),
    [
        (lambda: cells.Unrolled().set_train(True), ["float32[2,8]"], "E102"),
        (lambda: cells.Unrolled().set_train(False), [], "E103"),
        (lambda: cells.Unrolled().set_train(False), ["float32[2,7]"], "E105"),
        (lambda: cells.Counter().set_train(False), ["float32[2,3]"], "E201"),
        (lambda: cells.Break().set_train(False), ["float32[2,3]", "int32[]<5"], "E201"),
    ],
)
def test_refusals_name_a_remedy(make_cell: Any, inputs: list[str], code: str) -> None:
    feeds = [samples.tensor(t) for t in inputs]
    with pytest.raises(CirError) as info:
        FRONTEND.extract(make_cell(), specs(feeds) if feeds else None)  # type: ignore[arg-type]
    assert info.value.code == code
    assert all(d.fix for d in info.value.diagnostics)


def test_prints_are_left_out_with_a_note() -> None:
    x = samples.tensor("float32[2,3]")
    source = FRONTEND.extract(cells.Talking().set_train(False), specs([x]))  # type: ignore[list-item]
    assert [n.op for n in source.nodes] == ["Muls"]
    assert "Print" in source.notes[0]


def test_nothing_visible_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mindspore as ms

    monkeypatch.chdir(tmp_path)
    before = ms.context.get_context("jit_syntax_level")
    for feeds in (["float32[2,8]"], ["float32[2,7]"]):
        try:
            FRONTEND.extract(make("unrolled"), specs([samples.tensor(t) for t in feeds]))  # type: ignore[misc]
        except CirError:
            pass
    assert ms.context.get_context("jit_syntax_level") == before
    assert list(tmp_path.iterdir()) == []


def test_running_keeps_the_training_flags() -> None:
    net = cells.Classifier().set_train(True)
    net.bn.set_train(False)
    x = samples.tensor("float32[2,3,16,16]")
    first, again = FRONTEND.run(net, [x]), FRONTEND.run(net.set_train(True), [x])  # type: ignore[list-item]
    assert np.array_equal(first[0], again[0])
    net.bn.set_train(False)
    FRONTEND.run(net, [x])  # type: ignore[list-item]
    assert (net.training, net.conv.training, net.bn.training) == (True, True, False)


DIGEST = """
import sys, json, hashlib
from framework_adapter.mindspore import FRONTEND
from tests.mindspore import test_extract as t
def text(g):
    return [[(n, str(v)) for n, v in g.inputs.items()], g.outputs, g.output_names,
            [(n, hashlib.sha256(c.numpy().tobytes()).hexdigest()) for n, c in g.consts.items()],
            [[n.op, repr(n.inputs), repr(dict(n.attrs)), n.outputs, str(n.types), n.module,
              [text(r) for r in n.regions]] for n in g.nodes], g.notes]
order = t.cells.CASES if len(sys.argv) < 2 else reversed(t.cells.CASES)
out = {n: text(FRONTEND.extract(t.make(n), t.specs(t.arrays(t.cells.CASES[n])))) for n in order}
print(json.dumps(out, sort_keys=True))
"""


def test_two_processes_give_the_same_graphs() -> None:
    """Also when the cells are exported in another order: the counters in a file do not matter."""
    found = []
    for seed, args in (("1", []), ("2", ["reversed"])):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", DIGEST, *args], env=env, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr[-2000:]
        found.append(json.loads(run.stdout.splitlines()[-1]))
    for name in found[0]:
        assert found[0][name] == found[1][name], name
