"""Real architectures at tiny sizes, with symbolic dims, against PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from torch_support import check, floats, ids, spec  # noqa: E402

SIZES = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_size": 32,
    "intermediate_size": 64,
}


def test_bert() -> None:
    tr = pytest.importorskip("transformers")
    net = tr.BertModel(tr.BertConfig(vocab_size=50, max_position_embeddings=64, **SIZES)).eval()
    mask = np.ones((2, 7), np.int64)
    partial = np.concatenate([np.ones((3, 6), np.int64), np.zeros((3, 3), np.int64)], 1)
    specs = [
        spec("input_ids", ids(2, 7), "batch", "seq"),
        spec("attention_mask", mask, "batch", "seq"),
    ]
    source, _ = check(net, specs, [ids(3, 9), partial])
    assert source.output_names == ("last_hidden_state", "pooler_output")


def test_vit() -> None:
    tr = pytest.importorskip("transformers")
    net = tr.ViTForImageClassification(tr.ViTConfig(image_size=32, patch_size=8, **SIZES)).eval()
    check(
        net,
        [spec("pixel_values", floats(2, 3, 32, 32), "batch", 3, 32, 32)],
        [floats(5, 3, 32, 32)],
    )


def test_gpt2() -> None:
    tr = pytest.importorskip("transformers")
    config = tr.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=64, use_cache=False
    )
    specs = [spec("input_ids", ids(2, 7), "batch", "seq"),
             spec("attention_mask", np.ones((2, 7), np.int64), "batch", "seq")]  # fmt: skip
    check(tr.GPT2LMHeadModel(config).eval(), specs, [ids(3, 9), np.ones((3, 9), np.int64)])


def test_llama() -> None:
    tr = pytest.importorskip("transformers")
    config = tr.LlamaConfig(
        vocab_size=50, num_key_value_heads=2, max_position_embeddings=64, use_cache=False, **SIZES
    )
    source, _ = check(
        tr.LlamaForCausalLM(config).eval(),
        [spec("input_ids", ids(2, 7), "batch", "seq")],
        [ids(3, 9)],
    )
    assert not source.notes


def test_stable_diffusion_unet() -> None:
    df = pytest.importorskip("diffusers")
    net = df.UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=32, attention_head_dim=8,
        norm_num_groups=8, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()  # fmt: skip
    specs = [
        spec("sample", floats(2, 4, 8, 8), "batch", 4, "h", "w"),
        spec("timestep", np.array([5.0, 5.0], np.float32), "batch"),
        spec("encoder_hidden_states", floats(2, 6, 32), "batch", "seq", 32),
    ]
    other = [floats(3, 4, 16, 8), np.array([7.0, 7.0, 9.0], np.float32), floats(3, 5, 32)]
    source, program = check(net, specs, other)
    assert source.inputs["sample"].shape == ("batch", 4, "2*h_by_2", "2*w_by_2")
    ops = [n.op for n in program.graph.nodes]
    assert ops.count("scaled_dot_product_attention") == 8 and "group_norm" in ops and "gelu" in ops


@pytest.mark.parametrize("mask", [False, True])
def test_attention_modules(mask: bool) -> None:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = nn.MultiheadAttention(32, 4, batch_first=True)

        def forward(self, x: Any, y: Any) -> Any:
            causal = torch.ones(5, 7, dtype=torch.bool).triu(3) if mask else None
            return self.attend(x, y, y, attn_mask=causal)

    specs = [
        spec("x", floats(2, 5, 32), "batch", 5, 32),
        spec("y", floats(2, 7, 32), "batch", 7, 32),
    ]
    check(Attend().eval(), specs, [floats(3, 5, 32), floats(3, 7, 32)])


#: Ops of the canonical program, beyond linear algebra and views.
EXPECTED = {
    "bert": {
        "gather",
        "cast",
        "add",
        "layer_norm",
        "scaled_dot_product_attention",
        "gelu",
        "slice",
        "tanh",
    },
    "mobilenet_v2": {"conv", "clip", "add", "mean"},
    "lstm_classifier": {"gather", "lstm", "concat", "mean"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_symbolic_batch_changes_nothing_else(name: str) -> None:
    """No index tensors, no shape arithmetic: the program is that of a fixed batch."""
    pytest.importorskip("transformers")
    from framework_adapter.api import build
    from framework_adapter.pytorch import FRONTEND
    from tests.models import PAIRS

    pair = PAIRS[name, "pytorch"]()
    programs = [
        build(pair.model, FRONTEND, inputs=pair.inputs, dynamic_shapes=d)
        for d in (None, pair.dynamic_shapes)
    ]
    ops = [[n.op for n in p.model.graph.nodes] for p in programs]
    assert ops[0] == ops[1]
    assert set(ops[0]) - {"linear", "reshape", "transpose"} == EXPECTED[name]
    assert set(programs[1].model.graph.symbols()) == {"batch"}


def test_a_padding_mask_in_a_transformer_encoder() -> None:
    """PyTorch's fast path, which the exporter does not see, is off when the model is run."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)

        def forward(self, x: Any, hidden: Any) -> Any:
            return self.encoder(x, src_key_padding_mask=hidden)

    def hidden(batch: int, steps: int) -> np.ndarray:
        return np.arange(steps) >= np.linspace(2, steps, batch).round()[:, None]

    specs = [
        spec(None, floats(2, 5, 32), "batch", "seq", 32),
        spec(None, hidden(2, 5), "batch", "seq"),
    ]
    check(Padded().eval(), specs, [floats(3, 7, 32), hidden(3, 7)])
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("kind", ["distilbert", "roberta", "bert with types"])
def test_relatives_of_bert(kind: str) -> None:
    tr = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "max_position_embeddings": 64}
    names = ["input_ids", "attention_mask"]
    match kind:
        case "distilbert":
            config = tr.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64, **sizes)
            net = tr.DistilBertForSequenceClassification(config)
        case "roberta":
            net = tr.RobertaForSequenceClassification(
                tr.RobertaConfig(pad_token_id=0, **sizes, **SIZES)
            )
        case _:
            net = tr.BertForSequenceClassification(tr.BertConfig(num_labels=3, **sizes, **SIZES))
            names.append("token_type_ids")

    def inputs(batch: int, seq: int) -> list[np.ndarray]:
        mask = (np.arange(seq) < np.linspace(2, seq, batch).round()[:, None]).astype(np.int64)
        return [ids(batch, seq), mask, ids(batch, seq, below=2)][: len(names)]

    specs = [spec(n, x, "batch", "seq") for n, x in zip(names, inputs(2, 7))]
    check(net.eval(), specs, inputs(3, 9))


def test_transformer_encoder() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    net = nn.TransformerEncoder(layer, 2).eval()
    check(net, [spec(None, floats(2, 5, 32), "batch", "seq", 32)], [floats(3, 7, 32)])


def test_demo_networks() -> None:
    from demos.models.inputs import example_inputs
    from demos.models.pytorch import digits_unet

    first, more = example_inputs("digits_unet"), example_inputs("digits_unet", 3, seed=1)
    source, _ = check(
        digits_unet(), [spec(None, x, "batch", *x.shape[1:]) for x in first], list(more)
    )
    assert not source.notes
