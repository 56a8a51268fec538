"""torch.cond and while_loop as regions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from torch_support import check, floats, spec  # noqa: E402


def test_cond_with_weights_in_its_branches() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return torch.cond(
                x.sum() > 0, lambda t: self.a(t).relu(), lambda t: self.b(t) - 1, (x,)
            )

    x = np.abs(floats(2, 4))
    _, program = check(Net().eval(), [spec("x", x, "n", 4)], [-x], [floats(5, 4)])
    (node,) = [n for n in program.graph.nodes if n.op == "cond"]
    assert len(node.regions) == 2


def test_cond_with_several_results() -> None:
    class Net(nn.Module):
        def forward(self, x, flag):
            return torch.cond(flag, lambda t: (t + 1, t.sum()), lambda t: (t * 2, t.max()), (x,))

    specs = [spec("x", floats(2, 4)), spec("flag", np.array(True))]
    check(Net().eval(), specs, [floats(2, 4), np.array(False)])


def test_while_loop() -> None:
    from torch._higher_order_ops.while_loop import while_loop

    class Net(nn.Module):
        def forward(self, x, n):
            def more(i, t):
                return i < n

            def step(i, t):
                return i + 1, t * 1.5 + x

            return while_loop(more, step, (torch.zeros((), dtype=torch.int64), x))

    specs = [spec("x", floats(3, 4)), spec("n", np.array(3))]
    _, program = check(
        Net().eval(), specs, [floats(3, 4), np.array(0)], [floats(3, 4), np.array(5)]
    )
    assert [n.op for n in program.graph.nodes] == ["while_loop"]
