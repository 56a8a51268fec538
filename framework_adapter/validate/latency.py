"""Measured run times of source and artefact, interleaved so that the machine's drift cancels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

MAX_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Latency:
    """Measured times of one call on the same input.

    Attributes:
        source_ms: median time of the source framework, milliseconds.
        artifact_ms: median time of the artefact, milliseconds.
        speedup: median over rounds of source time / artefact time.
        control: median over rounds of artefact time / artefact time: what is not 1 here is noise.
        rounds: rounds measured, each artefact - source - artefact.
        threads: thread counts in words.
        input: what was fed, in words.
    """

    source_ms: float
    artifact_ms: float
    speedup: float
    control: float
    rounds: int
    threads: str
    input: str

    @property
    def noisy(self) -> bool:
        """Not to be relied on: few rounds, or the artefact differs from itself by over 15 %."""
        return self.rounds < 3 or abs(self.control - 1) > 0.15

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping, labelled as measured."""
        out: dict[str, Any] = {"kind": "measured"}
        out.update({k: getattr(self, k) for k in self.__slots__})
        out["noisy"] = self.noisy
        return out


def compare_latency(
    source: Callable[[], Any],
    artifact: Callable[[], Any],
    *,
    budget: float = 3.0,
    threads: str = "",
    input: str = "",
) -> Latency:
    """Time both sides in rounds of artefact, source, artefact.

    Both must have run on such inputs before: first calls compile, allocate and page in weights.

    Args:
        source: runs one inference in the source framework.
        artifact: runs one inference of the artefact.
        budget: seconds after which no further round starts; one always runs.
        threads: thread counts, kept in the result.
        input: what is fed, kept in the result.
    """
    end = time.perf_counter() + budget
    rounds: list[tuple[float, float, float]] = []
    while not rounds or (len(rounds) < MAX_ROUNDS and time.perf_counter() < end):
        rounds.append((_seconds(artifact), _seconds(source), _seconds(artifact)))
    return Latency(
        source_ms=1e3 * median(s for _, s, _ in rounds),
        artifact_ms=1e3 * median(t for a, _, b in rounds for t in (a, b)),
        speedup=median(2 * s / (a + b) for a, s, b in rounds),
        control=median(b / a for a, _, b in rounds),
        rounds=len(rounds),
        threads=threads,
        input=input,
    )


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return max(time.perf_counter() - start, 1e-9)
