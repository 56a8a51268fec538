"""What a comparison feeds: examples first, then seeded numbers, at several symbolic sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cir import dim as dims
from cir import interpret
from cir.graph import Range
from framework_adapter.options import feeds_for
from framework_adapter.source import InputSpec

Arrays = list[np.ndarray]

#: Sizes that symbols are tried at beyond their first: primes, so no two dims agree by accident.
SIZES = (5, 3, 7, 2, 1)


def first_sizes(specs: Sequence[InputSpec]) -> dict[str, int]:
    """Sizes of the symbols in the first run: the examples', 2 where there is no example."""
    env: dict[str, int] = {}
    for s in specs:
        if s.example is not None:
            interpret.bind_symbols(s.shape, s.example.shape, env)
    for s in specs:
        for d in s.shape:
            for name in sorted(dims.symbols_of(d)) if isinstance(d, str) else ():
                env.setdefault(name, 2)
    return env


def feeds_at(specs: Sequence[InputSpec], seed: int, env: Mapping[str, int]) -> Arrays:
    """Inputs of one run: the examples for seed 0 where their shapes fit, else seeded numbers."""
    fixed = []
    for s in specs:
        shape = tuple(d if isinstance(d, int) else dims.evaluate(d, env) for d in s.shape)
        fixed.append(replace(s, shape=shape))
    same = all(s.example is None or s.example.shape == s.shape for s in fixed)
    return feeds_for(fixed, seed, None if same else {"": 0})


def other_sizes(
    env: Mapping[str, int], ranges: Mapping[str, Range], mode: str
) -> list[list[dict[str, int]]]:
    """Further sizes: for each further run, candidates of which the first that works counts."""
    if not env:
        return []
    wanted = [SIZES] if mode == "auto" else [SIZES, SIZES[::-1]]
    out = []
    for sizes in wanted:
        mixed = {
            name: _pick(ranges.get(name, Range()), sizes[i % len(sizes) :] + sizes, env[name])
            for i, name in enumerate(env)
        }
        equal = {name: _pick(ranges.get(name, Range()), sizes, env[name]) for name in env}
        candidates = [c for c in (mixed, equal) if c != dict(env)]
        if candidates and candidates not in out:
            out.append(candidates[: 1 if mixed == equal else 2])
    return out


def _pick(r: Range, sizes: Sequence[int], have: int) -> int:
    fitting = [n for n in r.sizes or sizes if n >= r.min and (r.max is None or n <= r.max)]
    fitting += [n for n in (r.min, r.max) if n]  # a narrow range: its ends
    return next((n for n in fitting if n != have), have)


def nudged(feeds: Sequence[np.ndarray]) -> Arrays:
    """Inputs moved by one rounding, up and down in turn."""
    out = []
    for x in feeds:
        if x.dtype.kind == "f":
            eps = np.finfo(x.dtype).eps
            sign = np.where(np.arange(x.size).reshape(x.shape) % 2, 1 + eps, 1 - eps)
            x = (x * sign).astype(x.dtype)
        out.append(x)
    return out


def provenance(specs: Sequence[InputSpec], first: Sequence[np.ndarray]) -> tuple[str, ...]:
    """Where each input came from, in words; ``first`` are the inputs of the first run."""
    out = []
    for i, (s, x) in enumerate(zip(specs, first)):
        span = f"{x.min().item():.4g} to {x.max().item():.4g}" if x.size else "empty"
        kind = "given example" if s.example is not None else "drawn, seed 0"
        out.append(
            f"{s.name or i}: {x.dtype.name}{list(x.shape)}, {span} ({kind}); other seeds drawn"
        )
    return tuple(out)
