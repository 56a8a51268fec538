"""nn.LSTM in its forms: one lstm op for each layer and direction, steps and batch symbolic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cir.diagnostics import CirError
from framework_adapter.api import build
from framework_adapter.pytorch import FRONTEND

sys.path.insert(0, str(Path(__file__).parent))
from torch_support import check, floats, lowered, spec  # noqa: E402


class Recurrent(nn.Module):
    """A layer and what networks take from it."""

    def __init__(self, take: str = "all", **kwargs: Any) -> None:
        super().__init__()
        self.layer, self.take = nn.LSTM(4, 5, **kwargs), take
        self.steps = 1 if kwargs.get("batch_first") else 0

    def forward(self, x: Any, *state: Any) -> Any:
        y, (h, c) = self.layer(x, state or None)
        match self.take:
            case "last":
                return y.select(self.steps, -1)
            case "mean":
                return y.mean(self.steps)
            case "max":
                return y.amax(self.steps)
            case "state":
                return torch.cat([h[-2], h[-1]], 1)
        return y, h, c


def made(**kwargs: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(**kwargs).eval()


def sequences(batch_first: bool, steps: int = 3, batch: int = 2) -> np.ndarray:
    return floats(*((batch, steps, 4) if batch_first else (steps, batch, 4)))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_layers_and_directions(layers: int, bidirectional: bool, batch_first: bool) -> None:
    net = made(num_layers=layers, bidirectional=bidirectional, batch_first=batch_first)
    names = ("batch", "steps") if batch_first else ("steps", "batch")
    source, program = check(
        net,
        [spec(None, sequences(batch_first), *names, 4)],
        [sequences(batch_first, 6, 3)],
        [sequences(batch_first, 1, 1)],
    )
    ops = [n.op for n in program.graph.nodes]
    assert ops.count("lstm") == layers * (2 if bidirectional else 1)
    assert source.inputs["x"].shape[:2] == names


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_states_of_ones_own(bias: bool, bidirectional: bool) -> None:
    n = 4 if bidirectional else 2
    net = made(num_layers=2, bias=bias, bidirectional=bidirectional)
    h, c = floats(n, 2, 5, seed=1), floats(n, 2, 5, seed=2)
    check(
        net,
        [
            spec(None, sequences(False), 3, "batch", 4),
            spec(None, h, n, "batch", 5),
            spec(None, c, n, "batch", 5),
        ],
    )


@pytest.mark.parametrize("take", ["last", "mean", "max", "state"])
def test_what_is_taken(take: str) -> None:
    net = made(take=take, num_layers=2, bidirectional=True, batch_first=True, dropout=0.5)
    check(net, [spec(None, sequences(True), "batch", "steps", 4)], [sequences(True, 5, 3)])


def test_a_sequence_without_batch() -> None:
    check(made(), [spec(None, floats(3, 4), "steps", 4)], [floats(7, 4)])


def test_without_a_state_there_is_nothing_but_the_layer() -> None:
    """Zero states, their shapes and what a caller does not read are gone from the program."""
    net = made(take="mean", num_layers=2, bidirectional=True, batch_first=True)
    for dims in (None, {0: {0: "batch", 1: "steps"}}):
        program = build(net, FRONTEND, inputs=(sequences(True),), dynamic_shapes=dims)
        ops = [n.op for n in program.model.graph.nodes]
        assert ops == [
            "transpose",
            "lstm",
            "lstm",
            "concat",
            "lstm",
            "lstm",
            "concat",
            "mean",
            "reshape",
        ]


def test_cells_are_decomposed() -> None:
    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTMCell(4, 5)

        def forward(self, x: Any) -> Any:
            h = c = x.new_zeros(x.shape[0], 5)
            for t in range(x.shape[1]):
                h, c = self.cell(x[:, t], (h, c))
            return h

    check(Cells().eval(), [spec(None, sequences(True), "batch", 3, 4)], [sequences(True, 3, 5)])


@pytest.mark.parametrize("layer", [nn.GRU, nn.RNN])
def test_other_layers_are_unrolled(layer: Any) -> None:
    net = layer(4, 5, 2, batch_first=True, bidirectional=True).eval()
    check(net, [spec(None, sequences(True), "batch", 3, 4)], [sequences(True, 3, 5)])


def test_a_projection_is_refused() -> None:
    with pytest.raises(CirError, match=r"E202(.|\n)*without proj_size"):
        lowered(made(proj_size=3), [spec(None, sequences(False))])


def test_a_packed_sequence_is_refused() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(4, 5, batch_first=True)

        def forward(self, x: Any, lengths: Any) -> Any:
            packed = nn.utils.rnn.pack_padded_sequence(
                x, lengths, batch_first=True, enforce_sorted=False
            )
            y, _ = self.layer(packed)
            return nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0]

    specs = [spec(None, sequences(True)), spec(None, np.array([3, 2]))]
    with pytest.raises(CirError, match=r"E105(.|\n)*packed sequences(.|\n)*padded batch"):
        lowered(Packed().eval(), specs)


def test_exporting_leaves_pytorch_as_it_was() -> None:
    kernels = dict(torch.ops.aten.lstm.input.py_kernels)
    lowered(made(), [spec(None, sequences(False), "steps", 2, 4)])
    assert torch.ops.aten.lstm.input.py_kernels == kernels
    y, _ = nn.LSTM(4, 5)(torch.zeros(2, 1, 4))
    assert y.shape == (2, 1, 5)


def test_mindspore_writes_the_same_program() -> None:
    """Its layer reverses the sequence for the second direction, here that is an attribute."""
    mindspore = pytest.importorskip("mindspore")
    from framework_adapter.registry import frontend
    from tests.mindspore.cells import Recurrent as Cell

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)

        def forward(self, x: Any) -> Any:
            return self.layer(x)[0]

    x = floats(2, 5, 8)
    cell = Cell(mindspore.nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)).set_train(False)
    ours = build(Net().eval(), FRONTEND, inputs=(x,))
    assert build(cell, frontend("mindspore"), inputs=(x,)).digest == ours.digest
