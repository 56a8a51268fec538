"""Tensors and dtypes between torch and NumPy, without copies where memory can be shared."""

from __future__ import annotations

from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import error


def dtype_name(dtype: Any) -> dt.DType:
    """Dtype name of a torch.dtype. Raises CirError E105 when the IR has no such dtype."""
    name = str(dtype).removeprefix("torch.")
    if name not in dt.ALL:
        raise error("E105", f"dtype {name} has no counterpart", fix="cast the model to float32")
    return name


def to_numpy(tensor: Any) -> np.ndarray:
    """The tensor's data as an array that shares its memory (a copy when it is not contiguous)."""
    import torch

    t = tensor.detach()
    if t.device.type != "cpu":
        t = t.cpu()
    if t.is_conj() or t.is_neg():
        t = t.resolve_conj().resolve_neg()
    t = t.contiguous()
    want = dt.to_numpy(dtype_name(t.dtype))
    if want.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):  # NumPy itself lacks these
        raw = t.view(torch.int16 if want.itemsize == 2 else torch.int8)
        return np.asarray(raw.numpy()).view(want)
    return np.asarray(t.numpy())


def to_torch(array: np.ndarray) -> Any:
    """A torch tensor with a copy of the array's data."""
    import torch

    array = np.array(array, order="C")
    name = dt.from_numpy(array.dtype)
    if name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        raw = array.view(np.int16 if array.dtype.itemsize == 2 else np.int8)
        return torch.from_numpy(raw).view(getattr(torch, name))
    return torch.from_numpy(array)
