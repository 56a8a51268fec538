"""Geometry of the report's drawings: where a number lands on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import Any

from framework_adapter.validate.localize import NodeError
from framework_adapter.validate.report import OutputCheck

WIDTH, HEIGHT = 1060, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 36
GAUGE_WIDTH = 200
#: Height of one leg's row, pixels: the dots stand beside the rows.
LEG_HEIGHT = 27
#: Errors below this are drawn at the edge of the axis.
SMALLEST = 1e-10


@dataclass(frozen=True, slots=True)
class Axis:
    """A log10 axis from ``low`` to ``high`` (exponents) over ``start`` to ``end`` (pixels)."""

    low: int
    high: int
    start: float
    end: float

    def at(self, value: float) -> float:
        """Pixel of a value; one outside the axis lands on its nearer end, a NaN on the far one."""
        if not isfinite(value):
            return self.end
        e = min(max(log10(max(value, 1e-300)), self.low), self.high)
        return round(
            self.start + (e - self.low) / (self.high - self.low) * (self.end - self.start), 1
        )

    @property
    def ticks(self) -> list[tuple[int, float]]:
        """Exponents and their pixels, no closer together than a label is wide."""
        room = abs(self.end - self.start) / (self.high - self.low)
        step = 1 if room >= 34 or self.start > self.end and room >= 20 else 2
        return [(e, self.at(10.0**e)) for e in range(self.low, self.high + 1, step)]


def axis_for(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis of whole decades that holds the values."""
    known = [max(v, SMALLEST) for v in values if isfinite(v) and v > 0] or [SMALLEST]
    low, high = floor(log10(min(known))), ceil(log10(max(known)))
    return Axis(low, max(high, low + 1), start, end)


def gauges(checks: Sequence[OutputCheck]) -> tuple[Axis, list[dict[str, float]]]:
    """A shared axis and, for each check, pixels of its floor, bound and three errors."""
    values = [
        v for c in checks for v in (c.bound, c.floor, *(m.scaled for m in _legs(c))) if isfinite(v)
    ]
    axis = axis_for([*values, 1e-8, 1e-4], 6, GAUGE_WIDTH - 6)
    rows = [
        {
            "floor": axis.at(c.floor),
            "bound": axis.at(c.bound),
            **{k: axis.at(m.scaled) for k, m in zip(("source", "artifact", "total"), _legs(c))},
        }
        for c in checks
    ]
    return axis, rows


def _legs(c: OutputCheck) -> tuple[Any, Any, Any]:
    return c.source, c.artifact, c.total


def node_plot(nodes: Sequence[NodeError], tolerance: float) -> dict[str, Any]:
    """Lines and dots of the error of each node over the graph's order."""
    values = [v for n in nodes for v in (n.scaled, n.floor, n.isolated or 0.0)]
    axis = axis_for([*values, 1e-8, tolerance * 10], HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / max(len(nodes), 2)

    def x(i: int) -> float:
        return round(LEFT + (i + 0.5) * step, 1)

    dots = [
        {
            "x": x(i),
            "y": axis.at(n.scaled),
            "own": axis.at(n.isolated) if n.isolated is not None else None,
            "bad": n.suspicious,
            "node": n,
        }
        for i, n in enumerate(nodes)
    ]
    points = " ".join(f"{d['x']},{d['y']}" for d in dots)
    edge = " ".join(f"{x(i)},{axis.at(n.floor)}" for i, n in enumerate(nodes))
    ground = HEIGHT - BOTTOM
    first = next((d for d in dots if d["bad"]), None)
    return {
        "axis": axis,
        "dots": dots,
        "line": points,
        "floor": f"{x(0)},{ground} {edge} {x(len(nodes) - 1)},{ground}" if nodes else "",
        "tolerance": axis.at(tolerance),
        "radius": 3 if len(nodes) <= 150 else 2 if len(nodes) <= 500 else 1.4,
        "first": first,
        "size": {"w": WIDTH, "h": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "ground": ground},
        "xticks": [(i, x(i)) for i in _ticks(len(nodes))],
    }


def _ticks(n: int) -> list[int]:
    """About six round positions from 0 to n."""
    step = next(
        (s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if n / s <= 8), n
    )
    return list(range(0, n, step))
