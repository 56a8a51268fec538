"""From an nn.Module and input specs to a torch.export program: mode, examples, symbolic dims."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from cir import dim as dm
from cir import dtype as dt
from cir.diagnostics import CirError, Collector, error
from framework_adapter.pytorch.recurrent import is_packed, whole_layers
from framework_adapter.pytorch.tensors import to_torch
from framework_adapter.source import InputSpec

#: Factors tried for symbolic dims without an example: networks often need multiples of 8 or 32.
_FACTORS = (1, 8, 32)


def export_module(model: Any, specs: Sequence[InputSpec] | None) -> Any:
    """The torch.export program of a module, symbolic dims included.

    Raises:
        CirError: E102 training mode; E103 missing or wrong inputs; E105 torch.export refuses.
    """
    check_mode(model)
    if specs is None:
        raise error(
            "E103",
            "a PyTorch module needs example inputs",
            fix="pass inputs=(tensor, ...) or inputs={'name': tensor, ...}",
        )
    free = any(isinstance(d, str) for s in specs if s.example is None for d in s.shape)
    first: Exception | None = None
    for factor in _FACTORS if free else _FACTORS[:1]:
        try:
            return _export(model, specs, sizes(specs, factor))
        except CirError:
            raise
        except Exception as exc:
            first = first or exc
    assert first is not None
    fix = (
        "control flow on tensor values needs torch.cond or torch.where; "
        "see what torch.export.export(model.eval(), args) says"
    )
    if is_packed(first):
        fix = (
            "packed sequences cannot be exported: give the padded batch to the layer, and select "
            "or mask its steps by length, e.g. y.gather(1, last) or y * mask"
        )
    raise error(
        "E105",
        f"torch.export refuses the model: {_first_line(first)}",
        where=type(model).__name__,
        why=type(first).__name__,
        fix=fix,
    ) from first


def check_mode(model: Any) -> None:
    """Raise CirError E102 when the model or one of its submodules is in training mode."""
    training = [name or type(model).__name__ for name, m in model.named_modules() if m.training]
    if training:
        raise error(
            "E102",
            "the model is in training mode",
            where=", ".join(training[:3]) + (", ..." if len(training) > 3 else ""),
            why="dropout and batch normalisation compute something else in training",
            fix="call model.eval() first",
        )


def sizes(specs: Sequence[InputSpec], factor: int = 1) -> dict[str, int]:
    """A size of at least 2 for each symbol: the exporter would specialise on 0 and 1."""
    env: dict[str, int] = {}
    for s in specs:
        for axis, d in enumerate(s.shape):
            if isinstance(d, str) and d.isidentifier() and s.example is not None:
                env[d] = max(int(s.example.shape[axis]), 2)
    for s in specs:
        for axis, d in enumerate(s.shape):
            for symbol in sorted(dm.symbols_of(d)):
                env.setdefault(symbol, 2 if axis == 0 else (2 + len(env)) * factor)
    return env


def arguments(
    specs: Sequence[InputSpec], values: Sequence[Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(args, kwargs) of a call: unnamed in order, named by name; ``a.b`` is key b of dict a."""
    args = tuple(v for s, v in zip(specs, values) if s.name is None)
    kwargs: dict[str, Any] = {}
    for s, v in zip(specs, values):
        if s.name is not None:
            *path, last = s.name.split(".")
            place = kwargs
            for part in path:
                place = place.setdefault(part, {})
            place[last] = v
    return args, kwargs


def flat_order(specs: Sequence[InputSpec], in_spec: Any) -> list[int]:
    """For each spec, the index of its tensor among the program's flattened inputs."""
    from torch.utils import _pytree as pytree

    args, kwargs = pytree.tree_unflatten(range(in_spec.num_leaves), in_spec)
    positional = iter(args)
    order = []
    for s in specs:
        if s.name is None:
            order.append(next(positional))
            continue
        found: Any = kwargs
        for part in s.name.split("."):
            found = found[part]
        order.append(found)
    return order


def check_symbolic(specs: Sequence[InputSpec], shapes: Sequence[Sequence[int | None]]) -> None:
    """Raise CirError E105 when the exporter fixed a dim that was asked to be symbolic."""
    found = Collector()
    for i, (s, shape) in enumerate(zip(specs, shapes)):
        for axis, (want, got) in enumerate(zip(s.shape, shape)):
            if isinstance(want, str) and got is not None:
                found.add(
                    "E105",
                    f"the model fixes the symbolic dim {want!r} to {got}",
                    where=f"input {s.name or i}, axis {axis}",
                    why="its code uses the size as a number, or the size must equal a fixed one",
                    fix=f"give {got} instead of {want!r}, or do not fix the size in the model",
                )
    found.raise_errors()


def _export(model: Any, specs: Sequence[InputSpec], env: Mapping[str, int]) -> Any:
    import torch

    args, kwargs = arguments(specs, [_example(s, env) for s in specs])
    marks = [
        {a: torch.export.Dim.AUTO for a, d in enumerate(s.shape) if isinstance(d, str)} or None
        for s in specs
    ]
    signature = inspect.signature(model.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as exc:
        raise error(
            "E103",
            f"the inputs do not fit the model: {exc}",
            where=f"{type(model).__name__}.forward{signature}",
            fix="name the inputs as forward does, or give them in its order",
        ) from exc
    shapes: dict[str, Any] | None = None
    if any(marks):
        dynamic_args, dynamic_kwargs = arguments(specs, marks)
        shapes = dict(signature.bind(*dynamic_args, **dynamic_kwargs).arguments)
        for name, p in signature.parameters.items():
            if p.kind is p.VAR_KEYWORD and name in shapes:
                shapes.update(shapes.pop(name))
    with torch.no_grad(), _quiet(), whole_layers():
        return torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging a traceback for an error that is raised, and reported, anyway."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _example(s: InputSpec, env: Mapping[str, int]) -> Any:
    shape = tuple(dm.evaluate(d, env) for d in s.shape)
    if s.example is None:
        return to_torch(np.zeros(shape, dt.to_numpy(s.dtype)))
    return to_torch(s.example if s.example.shape == shape else np.resize(s.example, shape))


def _first_line(exc: Exception) -> str:
    text = str(exc).strip()
    return text.split("\n")[0][:300] if text else type(exc).__name__
