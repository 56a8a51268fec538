"""The PyTorch room: torch.export programs in, op tables in ``ops/``. Imports torch on use only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from cir.diagnostics import error
from framework_adapter.pytorch.files import is_model_path, load_program
from framework_adapter.registry import require
from framework_adapter.source import InputSpec, SourceGraph


class PyTorchFrontend:
    """Frontend for torch.nn.Module, torch.export.ExportedProgram and ``.pt2`` files."""

    name = "pytorch"

    def __init__(self) -> None:
        # How a model was last extracted: run() calls it the same way.
        self._calls: WeakKeyDictionary[Any, _Call] = WeakKeyDictionary()

    def accepts(self, model: object) -> bool:
        """Whether this is a module, a program, or a path to a .pt2, .pt or .pth file."""
        return is_model_path(model) or _is_a(model, "Module") or _is_a(model, "ExportedProgram")

    def extract(
        self,
        model: object,
        inputs: Sequence[InputSpec] | None,
        *,
        outputs: Sequence[str] | None = None,
        custom: Collection[str] = (),
    ) -> SourceGraph:
        """The model's graph.

        Args:
            model: see ``accepts``.
            inputs: a module needs them; a program has its own and takes symbol names from them.
            outputs: names of the results to keep (``logits``, ``output_0``, ...), None for all.
            custom: op ids that the user has rows for: they are not decomposed.

        Raises:
            CirError: E101, E102, E103, E105, E901.
        """
        require("torch", "torch")
        from framework_adapter.pytorch.export import check_symbolic, export_module, flat_order
        from framework_adapter.pytorch.extract import read_program

        is_module = _is_a(model, "Module")
        if is_module:
            program = export_module(model, inputs)
        else:
            program = _program(model)
        reader = read_program(program, outputs, custom)
        order = None
        if inputs is not None:
            spec = program.call_spec.in_spec
            order = flat_order(inputs, spec) if is_module else list(range(len(inputs)))
            shapes = reader.shapes()
            if len(order) != len(shapes):
                raise error(
                    "E103",
                    f"{len(order)} inputs are given, the program has {len(shapes)}",
                    fix=f"give {', '.join(reader.user_inputs)}, or none",
                )
            check_symbolic(inputs, [shapes[i] for i in order])
            for i, s in zip(order, inputs):
                reader.name_symbols(i, s.shape)
        graph = reader.graph(order)
        if not isinstance(model, (str, Path)):
            self._calls[model] = _Call(tuple(inputs or ()), tuple(i for i, _ in graph.state))
        return graph

    def run(self, model: object, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The model's own results for inputs in the order of the extracted graph.

        Buffers that ``forward`` changes are further feeds and results; without feeds for them the
        stored values are used. The model itself is not changed.

        Attention layers run as they are exported: their fast path, which writes zeros where a
        padding mask hides a place, is off.

        Returns:
            Flattened tensor results; None, strings and the like are left out.
        """
        torch = require("torch", "torch")
        from torch.utils import _pytree as pytree

        from framework_adapter.pytorch.export import arguments
        from framework_adapter.pytorch.tensors import to_numpy, to_torch

        tensors = [to_torch(np.asarray(x)) for x in feeds]
        made = None if isinstance(model, (str, Path)) else self._calls.get(model)
        state = made.state if made else ()
        program = None if _is_a(model, "Module") else _program(model)
        call: Any = model if program is None else program.module()
        stored = dict(call.named_buffers()) if state else {}
        n = len(tensors) - len(state) if made and len(tensors) > len(made.specs) else len(tensors)
        given = tensors[n:] or [stored[name].clone() for name in state]
        if program is None:
            specs = made.specs if made else [InputSpec(None, "", ())] * n
            args, kwargs = arguments(specs, tensors[:n])
        else:
            args, kwargs = pytree.tree_unflatten(tensors[:n], program.call_spec.in_spec)
        with torch.inference_mode(), _no_fast_path():
            buffers = dict(zip(state, given))
            result = torch.func.functional_call(call, buffers, args, kwargs)
            found, _ = pytree.tree_flatten(result)
        return [
            to_numpy(x) if isinstance(x, torch.Tensor) else np.asarray(x)
            for x in (*found, *given)
            if isinstance(x, (torch.Tensor, bool, int, float))
        ]


@contextmanager
def _no_fast_path() -> Iterator[None]:
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@dataclass(frozen=True)
class _Call:
    """How a model is called: its inputs, and the buffers it changes."""

    specs: tuple[InputSpec, ...]
    state: tuple[str, ...]


def _is_a(model: object, kind: str) -> bool:
    """Whether a torch class of this name is among the model's classes; imports nothing."""
    return any(
        c.__name__ == kind and c.__module__.startswith(("torch.nn.modules", "torch.export"))
        for c in type(model).__mro__
    )


def _program(model: object) -> Any:
    return load_program(model) if isinstance(model, (str, Path)) else model


FRONTEND = PyTorchFrontend()
