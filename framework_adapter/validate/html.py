"""The report as one HTML page: gathers what the template shows."""

from __future__ import annotations

from collections import Counter
from math import isfinite
from pathlib import Path
from typing import Any

from framework_adapter.registry import require
from framework_adapter.validate import plot
from framework_adapter.validate.metrics import PASS
from framework_adapter.validate.report import FAULTS, OutputCheck, Report

TEMPLATE = Path(__file__).with_name("report.html")
#: Outputs shown; a page of thousands of rows helps nobody.
MAX_CHECKS = 40
MAX_WORST_NODES = 12
LEGS = (
    ("source", "source vs reference"),
    ("artifact", "artefact vs reference"),
    ("total", "artefact vs source"),
)
WORDS = {
    PASS: "The converted model computes what the source computes.",
    "WARN": "The converted model is close to the source, but less precise than expected.",
    "FAIL": "The converted model does not compute what the source computes.",
}


def render(report: Report) -> str:
    """The page as text. Raises CirError E901 when jinja2 is not installed."""
    jinja2 = require("jinja2", "report")
    env = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    env.filters.update(
        sci=sci,
        cosine=cosine,
        db=db,
        ms=milliseconds,
        flop=flop,
        bytes=size,
        commas=lambda n: f"{n:,}",
    )
    template = env.from_string(TEMPLATE.read_text(encoding="utf-8"))
    page: str = template.render(**context(report))
    return page


def context(report: Report) -> dict[str, Any]:
    """What the template reads."""
    checks = _worst_first(report)
    axis, gauges = plot.gauges(checks[:MAX_CHECKS])
    found = report.localization
    nodes = found.nodes if found else ()
    fired: Counter[str] = Counter()
    for r in report.trace:
        fired.update(dict(r.fired))
    counts = list(report.counts.items())
    largest = max(report.counts.values(), default=1)
    return {
        "r": report,
        "words": WORDS[report.verdict],
        "fault": FAULTS.get(report.fault, ""),
        "checks": list(zip(checks, gauges)),
        "hidden_checks": max(0, len(checks) - MAX_CHECKS),
        "axis": axis,
        "gauge_width": plot.GAUGE_WIDTH,
        "leg_height": plot.LEG_HEIGHT,
        "legs": LEGS,
        "counts": [(k, n, round(100 * n / largest, 1)) for k, n in counts],
        "plot": plot.node_plot(nodes, report.tolerance) if nodes else None,
        "worst_nodes": sorted(nodes, key=lambda n: (not n.suspicious, -n.scaled))[:MAX_WORST_NODES],
        "fired": sorted(fired.items(), key=lambda kv: (-kv[1], kv[0])),
        "trace": report.trace,
        "trace_ms": sum(t.ms for t in report.trace),
        "diagnostics": (*report.findings(), *report.diagnostics),
    }


def _worst_first(report: Report) -> list[OutputCheck]:
    rank = {"FAIL": 0, "WARN": 1, PASS: 2}
    return sorted(report.outputs, key=lambda c: rank[c.verdict])  # stable: run order otherwise


def sci(value: float | None) -> str:
    """``3.1e-07``; ``0`` for zero, a dash for nothing."""
    if value is None:
        return "–"
    if not isfinite(value):
        return str(value)
    return f"{value:.1e}" if value else "0"


def cosine(value: float) -> str:
    """Nine digits, so that 0.999999 is not shown as 1."""
    return f"{value:.9f}"


def db(value: float) -> str:
    """Decibels; infinite means equal."""
    return "equal" if value == float("inf") else f"{value:.0f} dB" if isfinite(value) else "–"


def flop(giga: float) -> str:
    """An amount of arithmetic with a fitting unit."""
    if giga >= 1:
        return f"{giga:.3g} GFLOP"
    return f"{giga * 1e3:.3g} MFLOP" if giga >= 1e-3 else f"{giga * 1e6:.3g} kFLOP"


def size(count: int) -> str:
    """A number of bytes with a fitting unit."""
    return f"{count / 1e6:.3g} MB" if count >= 1e6 else f"{count / 1e3:.3g} kB"


def milliseconds(value: float) -> str:
    """Three significant digits, as ms or s."""
    return f"{value / 1e3:.3g} s" if value >= 1e3 else f"{value:.3g} ms"
