"""What exporting recurrent layers needs: their shapes without unrolling, packed sequences named."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

#: Files of torch.nn that only packed sequences make fail under the exporter.
_PACKING = ("nn/modules/rnn.py", "nn/utils/rnn.py")


@contextmanager
def whole_layers() -> Iterator[None]:
    """While exporting, ``aten.lstm`` tells its shapes as one op.

    PyTorch finds them by unrolling the layer, which fixes the number of steps and takes time for
    each.
    """
    import torch

    op = torch.ops.aten.lstm.input
    kernels = dict(op.py_kernels)
    op.py_kernels.update(dict.fromkeys(kernels, _shapes))
    op._dispatch_cache.clear()
    try:
        yield
    finally:
        op.py_kernels.update(kernels)
        op._dispatch_cache.clear()


def _shapes(
    input: Any, hx: Sequence[Any], params: Sequence[Any], has_biases: bool, num_layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Empty results of ``aten.lstm.input``."""
    width = hx[0].shape[2] * (2 if bidirectional else 1)
    y = input.new_empty((input.shape[0], input.shape[1], width))
    return y, hx[0].new_empty(hx[0].shape), hx[1].new_empty(hx[1].shape)


def is_packed(exc: BaseException) -> bool:
    """Whether an error of the exporter comes from a packed sequence."""
    files = (frame.filename.replace("\\", "/") for frame in traceback.extract_tb(exc.__traceback__))
    return any(name.endswith(_PACKING) for name in files)
