"""User options made uniform: inputs as InputSpec, fusion as strategies, checked before any work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cir import dtype as dt
from cir.diagnostics import error
from cir.dim import DimError, canonical
from framework_adapter.source import InputSpec

#: Option -> values it takes, the default first.
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "precision": ("fp32",),
    "input_layout": ("source", "channels_first"),
    "validate": ("auto", "full", False),
}


def check_choices(**given: object) -> None:
    """Refuse values outside the documented choices with E100."""
    for name, value in given.items():
        allowed = CHOICES[name]
        if not any(value is a or value == a and type(value) is type(a) for a in allowed):
            raise error(
                "E100",
                f"{name}={value!r} is not supported",
                nearest=", ".join(map(repr, allowed)),
                fix=f"pass {name}={allowed[0]!r}",
            )


def to_numpy(value: Any) -> np.ndarray:
    """An array from a NumPy array or a framework's tensor, or from a Python number or list."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):
        from framework_adapter.pytorch.tensors import to_numpy as from_torch

        return from_torch(value)
    for method in ("asnumpy", "numpy"):
        if hasattr(value, method):
            return np.asarray(getattr(value, method)())
    arr = np.asarray(value)
    if arr.dtype == np.float64 and not isinstance(value, np.generic):
        arr = arr.astype(np.float32)
    return arr


def _spec(name: str | None, value: Any) -> InputSpec:
    if isinstance(value, InputSpec):
        try:
            shape = tuple(canonical(d) for d in value.shape)
            dt.to_numpy(value.dtype)
        except (DimError, ValueError) as exc:
            raise error(
                "E103", f"input {value.name!r}: {exc}", fix="shapes hold ints or symbol names"
            ) from exc
        return replace(value, name=value.name or name, shape=shape)
    arr = to_numpy(value)
    try:
        dtype = dt.from_numpy(arr.dtype)
    except ValueError as exc:
        what = f"example input {name!r}" if name else "an example input"
        raise error("E103", f"{what}: {exc}", fix="pass arrays or tensors of numbers") from exc
    return InputSpec(name, dtype, tuple(int(d) for d in arr.shape), arr)


def normalise_inputs(
    inputs: Any, dynamic_shapes: Any = None
) -> tuple[list[InputSpec] | None, list[str] | None]:
    """(specs, names): specs of example tensors or InputSpecs, or the tensor names of a graph file.

    Args:
        inputs: tuple or mapping of tensors or InputSpecs, one tensor, or a list of tensor names.
            Inputs of a mapping in a mapping are called ``outer.inner``.
        dynamic_shapes: {input name or position: {axis: symbol}} or a sequence in input order.

    Raises:
        CirError: E103.
    """
    named = isinstance(inputs, (list, tuple)) and any(isinstance(i, str) for i in inputs)
    if inputs is None or named:
        if dynamic_shapes:
            raise error(
                "E103",
                "dynamic_shapes needs inputs: they say which axes there are",
                fix="pass inputs= as example tensors, or as InputSpecs with symbolic dims",
            )
        return None, None if inputs is None else [str(i) for i in inputs]
    if isinstance(inputs, Mapping):
        specs = [_spec(k, v) for k, v in _leaves(inputs)]
    elif isinstance(inputs, (list, tuple)):
        specs = [_spec(None, v) for v in inputs]
    else:
        specs = [_spec(None, inputs)]
    return _with_symbols(specs, dynamic_shapes), None


def _leaves(inputs: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in inputs.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _with_symbols(specs: list[InputSpec], dynamic: Any) -> list[InputSpec]:
    if dynamic is None:
        return specs
    if isinstance(dynamic, Mapping):
        items = list(dynamic.items())
    else:
        items = list(enumerate(dynamic))
    out = list(specs)
    names = {s.name: i for i, s in enumerate(specs) if s.name}
    for key, axes in items:
        index = key if isinstance(key, int) else names.get(key, -1)
        if not 0 <= index < len(specs):
            raise error(
                "E103",
                f"dynamic_shapes names input {key!r}, which is not among the inputs",
                nearest=", ".join([*names] or map(str, range(len(specs)))),
            )
        shape = list(out[index].shape)
        for axis, symbol in (axes or {}).items():
            if not -len(shape) <= int(axis) < len(shape):
                raise error(
                    "E103",
                    f"dynamic_shapes[{key!r}]: axis {axis} of a rank-{len(shape)} input",
                    fix=f"name an axis from {-len(shape)} to {len(shape) - 1}",
                )
            shape[int(axis)] = symbol if isinstance(symbol, str) else f"d{index}_{axis}"
        out[index] = replace(out[index], shape=tuple(shape))
    return out


def feeds_for(
    specs: Sequence[InputSpec], seed: int, sizes: Mapping[str, int] | None = None
) -> list[np.ndarray]:
    """Inputs for validation: seed 0 uses the examples given, others draw numbers of the same kind.

    Floats are standard normal; integers stay inside the example's range (or 0..1 without one), so
    an index never leaves its table.
    """
    rng = np.random.default_rng(seed)
    out = []
    for s in specs:
        if s.example is not None and seed == 0 and not sizes:
            out.append(s.example)
            continue
        env = dict(sizes or {})
        shape = []
        for axis, d in enumerate(s.shape):
            if isinstance(d, int):
                shape.append(d)
            elif d in env:
                shape.append(env[d])
            else:
                shape.append(int(s.example.shape[axis]) if s.example is not None else 2)
        dtype = dt.to_numpy(s.dtype)
        if s.dtype == "bool":
            out.append(rng.integers(0, 2, shape).astype(bool))
        elif dt.is_int(s.dtype):
            ex = s.example
            lo, hi = (int(ex.min()), int(ex.max())) if ex is not None and ex.size else (0, 1)
            out.append(rng.integers(lo, hi + 1, shape).astype(dtype))
        else:
            out.append(rng.standard_normal(shape).astype(dtype))
    return out
