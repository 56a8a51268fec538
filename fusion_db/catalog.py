"""CATALOG.md: every strategy as formulae, with its proof (``python -m fusion_db.catalog``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fusion_db.prove import REASSOCIATE, ProofReport, prove
from fusion_db.strategy import STAGES, Strategy, database, presets

PATH = Path(__file__).parent / "CATALOG.md"
_HEAD = """# Catalogue of strategies

Generated from `strategies/` by `python -m fusion_db.catalog`; do not edit. Each entry shows the
pattern, its conditions, the replacement, and what the generated proof found: on how many graphs
the strategy had to fire and did, and the largest error in float64 between the two.
"""
_STAGES = {
    "canonicalise": "Always on: every spelling of a concept becomes one.",
    "fuse": "Chosen by preset: concepts become larger concepts.",
    "lower": "Chosen by target.",
}


def text(strategies: Mapping[str, Strategy], reports: Mapping[str, ProofReport]) -> str:
    """The catalogue as Markdown."""
    out = [_HEAD]
    for stage in STAGES:
        chosen = sorted((s for s in strategies.values() if s.stage == stage), key=lambda s: s.id)
        if not chosen:
            continue
        out.append(f"## {stage.capitalize()} ({len(chosen)})\n\n{_STAGES[stage]}\n")
        out.extend(_entry(s, reports[s.id]) for s in chosen)
    out.append("## Presets\n\n| preset | strategies of the fuse stage |\n| --- | --- |")
    for name, ids in presets().items():
        out.append(f"| {name} | {', '.join(ids) or 'none'} |")
    return "\n".join(out) + "\n"


def _entry(s: Strategy, report: ProofReport) -> str:
    lines = [f"### {s.id}\n", f"{s.summary}\n", "```"]
    lines += s.match
    lines += [f"where {w}" for w in s.conditions]
    lines.append("=>")
    lines += [line.source for line in s.replace]
    lines.append("```\n")
    found = f"{report.instances} graphs, {_error(s, report)}"
    lines.append(f"* numerics: {s.numerics}; proof: {found}")
    if s.requires_input:
        lines.append(f"* requires: {s.requires_input}")
    if s.origin:
        lines.append(f"* seen in: {s.origin}")
    if s.note:
        lines.append(f"* {s.note}")
    return "\n".join(lines) + "\n"


def _error(s: Strategy, report: ProofReport) -> str:
    """The error as a bound, which does not depend on the machine."""
    if s.numerics == "exact":
        return "equal bit for bit"
    bound = next((b for b in (1e-12, REASSOCIATE) if report.error <= b), report.error)
    return f"error below {bound:.0e}"


def generate() -> str:
    """The catalogue of the package's own strategies; runs their proofs."""
    db = database()
    return text(db, {s.id: prove(s) for s in db.values()})


if __name__ == "__main__":
    PATH.write_text(generate(), encoding="utf-8")
