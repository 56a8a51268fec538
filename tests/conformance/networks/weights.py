"""Seeded weights under PyTorch names and layouts, and how each framework takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_TORCH_LEAF = {
    "kernel": "weight",
    "gamma": "weight",
    "scale": "weight",
    "beta": "bias",
    "embeddings": "weight",
    "embedding_table": "weight",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class Weights(dict[str, np.ndarray]):
    """Named float32 arrays; each method adds the parameters of one layer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def normal(self, name: str, *shape: int, std: float = 1.0) -> None:
        self[name] = (std * self.rng.standard_normal(shape)).astype(np.float32)

    def uniform(self, name: str, *shape: int, low: float, high: float) -> None:
        self[name] = self.rng.uniform(low, high, shape).astype(np.float32)

    def conv(self, name: str, outputs: int, inputs: int, kernel: int = 1, bias: bool = True) -> None:
        """weight[outputs, inputs, kernel, kernel], bias[outputs]; ``inputs`` counts one group."""
        std = (inputs * kernel * kernel) ** -0.5
        self.normal(f"{name}.weight", outputs, inputs, kernel, kernel, std=std)
        if bias:
            self.uniform(f"{name}.bias", outputs, low=-0.2, high=0.2)

    def dense(self, name: str, outputs: int, inputs: int, bias: bool = True) -> None:
        self.normal(f"{name}.weight", outputs, inputs, std=inputs**-0.5)
        if bias:
            self.uniform(f"{name}.bias", outputs, low=-0.2, high=0.2)

    def norm(self, name: str, channels: int, bias: bool = True) -> None:
        self.uniform(f"{name}.weight", channels, low=0.7, high=1.3)
        if bias:
            self.uniform(f"{name}.bias", channels, low=-0.2, high=0.2)

    def batch_norm(self, name: str, channels: int) -> None:
        self.norm(name, channels)
        self.uniform(f"{name}.running_mean", channels, low=-0.2, high=0.2)
        self.uniform(f"{name}.running_var", channels, low=0.7, high=1.4)

    def attention(self, name: str, width: int) -> None:
        """query, key, value and out, each dense[width, width]."""
        for part in ("query", "key", "value", "out"):
            self.dense(f"{name}.{part}", width, width)

    def fused(self, name: str, *parts: str) -> tuple[np.ndarray, np.ndarray]:
        """(weight, bias) of one dense layer that computes several side by side."""
        return (
            np.concatenate([self[f"{name}.{p}.weight"] for p in parts]),
            np.concatenate([self[f"{name}.{p}.bias"] for p in parts]),
        )


def with_fused_qkv(weights: Weights, name: str, weight: str, bias: str) -> dict[str, np.ndarray]:
    """The weights with ``name``'s query, key and value replaced by one dense layer."""
    gone = tuple(f"{name}.{p}." for p in ("query", "key", "value"))
    out = {k: v for k, v in weights.items() if not k.startswith(gone)}
    out[weight], out[bias] = weights.fused(name, "query", "key", "value")
    return out


def into_torch(model: Any, weights: Mapping[str, np.ndarray]) -> Any:
    """Names and layouts are PyTorch's own."""
    import torch

    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    return model.eval()


def into_keras(model: Any, weights: Mapping[str, np.ndarray]) -> Any:
    """Layers carry their PyTorch names; kernels are transposed as Keras lays them out.

    Convolution [kh,kw,in,out] for [out,in,kh,kw], depthwise [kh,kw,channels,1] for
    [channels,1,kh,kw], transposed [kh,kw,out,in] for [in,out,kh,kw], dense [in,out] for [out,in];
    attention also splits a width into [heads,key_dim].
    """
    used = set()
    for variable in model.variables:
        if "seed_generator" in variable.path:
            continue
        path = variable.path.removeprefix(f"{model.name}/")
        path = path.replace("attention_output", "out").replace("/", ".")
        module, leaf = path.rsplit(".", 1)
        name = f"{module}.{_TORCH_LEAF.get(leaf, leaf)}"
        if name not in weights:
            name = module if module in weights else path  # a bare parameter
        used.add(name)
        value = weights[name]
        if leaf == "kernel":
            depthwise = value.ndim == 4 and variable.shape[-1] == 1 != value.shape[0]
            order = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0)}[value.ndim]
            value = value.transpose((2, 3, 0, 1) if depthwise else order)
        variable.assign(value.reshape(variable.shape))
    assert used == set(weights), sorted(set(weights) ^ used)
    return model


def into_mindspore(net: Any, weights: Mapping[str, np.ndarray]) -> Any:
    """Layouts are PyTorch's, names too but for the last part."""
    from mindspore import Tensor

    used = set()
    for path, parameter in net.parameters_and_names():
        module, dot, leaf = path.rpartition(".")
        name = f"{module}{dot}{_TORCH_LEAF.get(leaf, leaf)}"
        name = name if name in weights else path
        used.add(name)
        parameter.set_data(Tensor(weights[name].reshape(parameter.shape)))
    assert used == set(weights), sorted(set(weights) ^ used)
    return net.set_train(False)
