"""Programs as source graphs: inputs, outputs, constants, in-place ops, symbols, refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cir.diagnostics import CirError
from cir.graph import Range
from framework_adapter import samples
from framework_adapter.lowering import lower
from framework_adapter.mapping import load
from framework_adapter.pytorch import FRONTEND
from framework_adapter.source import InputSpec

sys.path.insert(0, str(Path(__file__).parent))
from torch_support import check, floats, lowered, spec  # noqa: E402


class Mixed(nn.Module):
    """Tied weights, buffers, constants, in-place ops, nested inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.register_buffer("shift", torch.ones(4), persistent=False)
        self.table = torch.arange(3.0)

    def forward(self, x, extra, *, unused=None):
        y = self.one(x)
        y.relu_()
        a, b = y.split(2, -1)
        v = y.view(y.shape[0] * 2, -1)
        m, i = v.max(dim=1)
        n = (y + 1e9).masked_fill(y > 0, float("-inf"))
        h = self.two(y)[:, None, 1:3, ...]
        z = x / x.shape[0] ** 0.5
        return (
            {"sum": a + b + self.shift[:2], "max": (m, i)},
            n,
            None,
            y.shape[0],
            h,
            self.table,
            z,
            extra["q"] * 2,
        )


SPECS = [spec("extra.q", floats(5)), spec("x", floats(3, 4, seed=1), "batch", 4)]


def test_inputs_outputs_and_constants() -> None:
    source, model = check(Mixed().eval(), SPECS, [floats(5, seed=2), floats(7, 4, seed=3)])
    assert [(n, str(t)) for n, t in source.inputs.items()] == [
        ("extra_q", "float32[5]"),
        ("x", "float32[batch, 4]"),
    ]
    assert source.output_names == (
        "output_0.sum", "output_0.max.0", "output_0.max.1", "output_1", "output_3", "output_4", "output_5",
        "output_6", "output_7",
    )  # fmt: skip
    assert model.graph.outputs[0] == "output_0.sum"
    assert source.symbols == {"batch": Range(1, None)}
    assert source.consts["one.weight"] is source.consts["two.weight"]
    assert [n for n in model.graph.consts if "weight" in n] == ["two.weight"]
    assert "torch" in source.versions


def test_constants_share_memory_with_the_module() -> None:
    net = nn.Linear(4, 3).eval()
    source, _ = lowered(net, [spec(None, floats(2, 4))])
    assert np.shares_memory(source.consts["weight"].numpy(), net.weight.detach().numpy())
    half = nn.Linear(4, 3).to(torch.bfloat16).eval()
    source, _ = lowered(half, [InputSpec("input", "bfloat16", (2, 4))])
    assert source.consts["weight"].type.dtype == "bfloat16"


def test_modules_and_places() -> None:
    from demos.models.inputs import example_inputs
    from demos.models.pytorch import digits_unet

    source = FRONTEND.extract(digits_unet(), [spec(None, x) for x in example_inputs("digits_unet")])
    convs = [n for n in source.nodes if n.op == "aten.conv2d.default"]
    assert all(n.module for n in convs)
    assert {n.place.split(":")[0] for n in source.nodes} >= {"pytorch.py"}
    assert not any("/" in n.place for n in source.nodes)


def test_chosen_outputs() -> None:
    source = FRONTEND.extract(Mixed().eval(), SPECS, outputs=["output_5", "output_1"])
    assert source.output_names == ("output_1", "output_5")


def test_default_arguments_and_positional_inputs() -> None:
    class Net(nn.Module):
        def forward(self, x, scale: float = 2.0, *rest):
            return x * scale + sum(rest)

    check(Net().eval(), [spec(None, floats(2, 3))])
    check(Net().eval(), [spec(None, floats(2)), spec(None, floats(2)), spec(None, floats(2))])


def test_inplace_on_shared_memory_is_made_functional() -> None:
    class Net(nn.Module):
        def forward(self, x):
            y = x * 2
            v = y[:, 1]
            v.add_(10)
            y[:, 0] = 5
            return y, v

    source, _ = check(Net().eval(), [spec("x", floats(3, 4), "n", 4)], [floats(6, 4)])
    assert any("in-place" in n for n in source.notes)


def test_inplace_on_own_memory_is_read_as_it_is() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Hardswish(True)
    ).eval()
    source, _ = check(net, [spec(None, floats(2, 3, 6, 6), "n", 3, 6, 6)])
    assert not source.notes
    assert [n.op for n in source.nodes][-2:] == ["aten.relu.default", "aten.hardswish.default"]


def test_ops_without_a_row_are_decomposed_by_pytorch() -> None:
    source, _ = check(
        nn.GRU(4, 5, batch_first=True).eval(),
        [spec(None, floats(2, 3, 4), "n", 3, 4)],
        [floats(4, 3, 4)],
    )
    assert source.notes == ("decomposed by PyTorch, having no row of their own: aten.gru.input",)


def test_changed_buffers_are_state() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(2))

        def forward(self, x):
            self.count.add_(1)
            return x + self.count

    net = Counter().eval()
    source, model = lowered(net, [spec("x", floats(3, 2))])
    assert list(source.inputs) == ["x", "count"]
    assert model.state == ((model.graph.inputs[1], model.graph.outputs[1]),)
    assert model.graph.outputs == ("output", "count_out")
    assert "count" in source.notes[0]
    feeds = [floats(3, 2), np.array([4, 5], np.float32)]
    for got, want in zip(samples.interpret(model, feeds), FRONTEND.run(net, feeds), strict=True):
        assert np.allclose(got, want)
    first, state = FRONTEND.run(net, feeds[:1])
    assert np.allclose(state, 1) and np.allclose(first, feeds[0] + 1)
    assert not net.count.any()


def test_symbolic_sizes() -> None:
    class Net(nn.Module):
        def forward(self, x, y):
            rows, columns = x.shape
            position = torch.arange(columns)[None] + torch.zeros(rows, 1, dtype=torch.long)
            causal = torch.full((columns, columns), float("-inf")).triu(1)
            return (
                F.pad(x, (1, columns)), position, causal, x.repeat(2, 1).reshape(2, -1, columns).mean(0),
                x.view(-1), x[-1], x[:, -2:], x[1:], x.flatten().unflatten(0, (rows, -1)), x.std(), x.var(dim=0),
                F.interpolate(x[None, None], size=(rows * 2, columns)), torch.cat([x[:, 0], y]),
                *torch.chunk(x, 2, dim=1),
            )  # fmt: skip

    specs = [spec("x", floats(4, 6), "a", "b"), spec("y", floats(3), "c")]
    check(Net().eval(), specs, [floats(6, 8), floats(2)], [floats(3, 4), floats(5)])


def test_equal_symbols_at_several_inputs_and_expressions_of_them() -> None:
    class Net(nn.Module):
        def forward(self, x, y):
            return torch.cat([x, y], 1), x.sum(1)

    specs = [spec("x", floats(2, 3), "n", 3), spec("y", floats(2, 5), "n", "m")]
    source, model = check(Net().eval(), specs, [floats(4, 3), floats(4, 2)])
    assert str(model.graph.types["output_0"]) == "float32[n, m + 3]"


def test_divisibility_is_written_into_the_input() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Conv2d(3, 3, 3, stride=2, padding=1)

        def forward(self, x):
            return torch.cat([x, F.interpolate(self.down(x), scale_factor=2.0)], 1)

    specs = [InputSpec("x", "float32", ("n", 3, "h", 8))]
    source = FRONTEND.extract(Net().eval(), specs)
    assert source.inputs["x"].shape == ("n", 3, "2*h_by_2", 8)
    assert source.notes == ("h must be a multiple of 2: it is written 2*h_by_2",)
    check(Net().eval(), [spec("x", floats(1, 3, 4, 8), "n", 3, "h", 8)], [floats(2, 3, 10, 8)])


def test_data_dependent_sizes() -> None:
    class Net(nn.Module):
        def forward(self, x, y):
            return torch.nonzero(x > 0), torch.cat([x[x > 0], y]) * 2, x[:, y > 0]

    check(
        Net().eval(),
        [spec("x", floats(4, 6), "a", 6), spec("y", floats(6))],
        [floats(5, 6), -floats(6)],
    )


def test_numbers_from_data_stay_tensors_but_cannot_be_sizes() -> None:
    class Scale(nn.Module):
        def forward(self, x):
            return x / x.max().item()

    check(Scale().eval(), [spec("x", floats(4, 6), "n", 6)], [floats(5, 6)])

    class Size(nn.Module):
        def forward(self, x, n):
            return x.sum() + torch.zeros(n.item())

    with pytest.raises(CirError) as info:
        lowered(Size().eval(), [spec("x", floats(4)), spec("n", np.array(3))])
    assert info.value.code == "E207"


def test_symbolic_dims_of_inputs_without_examples() -> None:
    class Net(nn.Module):
        def forward(self, x):
            return x.reshape(x.shape[0], -1, 8)

    source = FRONTEND.extract(Net().eval(), [InputSpec("x", "float32", ("n", "s"))])
    assert source.inputs["x"].shape[0] == "n"


def test_a_fixed_size_where_a_symbol_was_asked_for() -> None:
    with pytest.raises(CirError, match="fixes the symbolic dim 'm' to 4") as info:
        FRONTEND.extract(nn.Linear(4, 2).eval(), [spec(None, floats(3, 4), "n", "m")])
    assert info.value.code == "E105"


def test_batch_of_one_as_example_stays_symbolic() -> None:
    source = FRONTEND.extract(nn.Linear(4, 2).eval(), [spec(None, floats(1, 4), "n", 4)])
    assert source.inputs["input"].shape == ("n", 4)


def refusal(model: object, specs: list[InputSpec] | None) -> CirError:
    with pytest.raises(CirError) as info:
        lowered(model, specs)
    return info.value


def test_training_mode_is_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
    net[1].train()
    error = refusal(net, [spec(None, floats(1, 2))])
    assert error.code == "E102" and error.diagnostics[0].where == "1" and "eval()" in str(error)


def test_wrong_inputs() -> None:
    net = nn.Linear(2, 2).eval()
    assert refusal(net, None).code == "E103"
    error = refusal(net, [spec("nonsense", floats(1, 2))])
    assert error.code == "E103" and "forward" in error.diagnostics[0].where
    error = refusal(net, [spec(None, floats(1, 3))])
    assert error.code == "E105" and "torch.export" in str(error)


def test_control_flow_on_values_is_refused_with_a_way_out() -> None:
    class Net(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    error = refusal(Net().eval(), [spec("x", floats(2))])
    assert error.code == "E105" and "torch.cond" in str(error)


def test_functional_dropout_in_training_and_random_numbers_are_refused() -> None:
    class Net(nn.Module):
        def forward(self, x):
            return F.dropout(x) + torch.rand(3)

    error = refusal(Net().eval(), [spec("x", floats(3))])
    assert {d.code for d in error.diagnostics} == {"E202"} and len(error.diagnostics) == 2


def test_unsupported_ops_are_named_with_place() -> None:
    class Net(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x)

    error = refusal(Net().eval(), [spec("x", floats(3, 3))])
    assert error.code in ("E105", "E201")


def test_accepts_without_importing_torch() -> None:
    assert FRONTEND.accepts(nn.Linear(1, 1)) and FRONTEND.accepts("model.pt2")
    assert FRONTEND.accepts(Path("weights.pth"))
    assert not FRONTEND.accepts("model.onnx") and not FRONTEND.accepts(3)


def test_extraction_is_deterministic() -> None:
    def listing() -> list[str]:
        source = FRONTEND.extract(Mixed().eval(), SPECS)
        return [f"{n.op} {n.inputs} {n.outputs} {n.types}" for n in source.nodes]

    assert listing() == listing()


def test_custom_ops_are_mapped_by_the_user() -> None:
    @torch.library.custom_op("adapter_test::scaled", mutates_args=())
    def scaled(x: torch.Tensor, factor: float) -> torch.Tensor:
        return x * factor

    @scaled.register_fake
    def _(x, factor):
        return torch.empty_like(x)

    class Net(nn.Module):
        def forward(self, x):
            return scaled(x, 3.0) + 1

    net, specs = Net().eval(), [spec("x", floats(2, 3), "n", 3)]
    error = refusal(net, specs)
    assert error.code == "E201" and "adapter_test.scaled.default" in str(error)
    source = FRONTEND.extract(net, specs)
    for mapping in (
        {"args": "x, factor", "emit": "mul(x, factor)"},
        lambda c, node, x, factor: c.op("mul", x, factor),
    ):
        table = load("pytorch", custom={"adapter_test.scaled.default": mapping})
        feeds = [floats(4, 3, seed=5)]
        (got,) = samples.interpret(lower(source, table), feeds)
        assert np.allclose(got, FRONTEND.run(net, feeds)[0])


def test_a_users_row_comes_before_pytorchs_decomposition(tmp_path) -> None:
    import numpy as np
    import torch

    from framework_adapter import convert

    class Net(torch.nn.Module):
        def forward(self, x):
            return torch.special.entr(x)

    op = "aten.special_entr.default"
    row = {"args": "self", "emit": "neg(self * log(self))"}
    x = np.linspace(0.1, 2, 6, dtype=np.float32).reshape(2, 3)
    given = {"inputs": (x,), "custom_ops_mapping": {op: row}, "validate": False}
    done = convert(Net().eval(), "onnx", tmp_path / "m.onnx", **given)
    assert [s.op for n in done.model.graph.nodes for s in n.meta.src if "entr" in s.op]
