"""Fusions as data: strategies in JSON, a matcher, a rewriter, and a prover for each strategy."""

from fusion_db.rewrite import apply, explain
from fusion_db.strategy import Strategy, database, load, load_text, presets, select

__all__ = [
    "Strategy",
    "apply",
    "database",
    "explain",
    "load",
    "load_text",
    "presets",
    "select",
]
