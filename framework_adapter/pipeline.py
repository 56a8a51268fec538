"""The default pipeline: canonicalise, fuse, legalise. Every pass is verified."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cir.graph import Graph, Model, Node
from cir.passes import (
    Context,
    Pass,
    PassManager,
    Stage,
    channels_last,
    cse,
    dce,
    decompose,
    expand_einsum,
    fold,
    normalize,
    sink_views,
    slices_to_split,
)
from cir.passes.manager import rewired
from framework_adapter.lowering import named_outputs
from fusion_db import Strategy, rewrite

Legal = Callable[[Node, Graph], bool]


def strategies_pass(name: str, strategies: Sequence[Strategy]) -> Pass:
    """A pass that applies strategies to a fixpoint and counts what fired."""

    def run(graph: Graph, ctx: Context) -> Graph:
        out, fired = rewrite.apply(graph, strategies)
        ctx.fired.update(fired)
        return out if fired else graph

    return Pass(name, run, needs=frozenset({"canonical:local"}), breaks=frozenset({"live"}))


def _plain(name: str, fn: Callable[[Graph], Graph], **facts: frozenset[str]) -> Pass:
    return Pass(name, lambda graph, ctx: fn(graph), **facts)


NORMALIZE = _plain("normalize", normalize, gives=frozenset({"canonical:local"}))
FOLD = _plain("fold", fold)
CSE = _plain("cse", cse, gives=frozenset({"shared"}))
VIEWS = _plain("views", sink_views, gives=frozenset({"canonical:views"}))
CHANNELS_LAST_VIEWS = _plain("views", lambda graph: sink_views(graph, channels_last=True))
DCE = _plain("dce", dce, gives=frozenset({"live"}))


def canonicalise(strategies: Sequence[Strategy]) -> Stage:
    """Every spelling of a concept becomes one: the stage that makes frameworks equal."""
    return Stage(
        "canonicalise",
        (
            DCE,
            _plain("einsum", expand_einsum),
            NORMALIZE,
            FOLD,
            CSE,
            VIEWS,
            _plain("slices", slices_to_split),
            strategies_pass("strategies", strategies),
            DCE,
        ),
        fixpoint=True,
    )


def fuse(strategies: Sequence[Strategy]) -> Stage:
    """Concepts become larger concepts, as the preset asks."""
    return Stage("fuse", (strategies_pass("fuse", strategies), NORMALIZE, FOLD, DCE), fixpoint=True)


def to_channels_last() -> Stage:
    """Image ops take channels-last data, and the transposes between them are gone."""
    return Stage(
        "layout",
        (_plain("channels_last", channels_last), CHANNELS_LAST_VIEWS, FOLD, CSE, DCE),
        fixpoint=True,
    )


def legalise(legal: Legal, lower: Sequence[Strategy] = (), views: Sequence[Pass] = ()) -> Stage:
    """Only ops that the target takes: target strategies first, then decompositions."""
    return Stage(
        "legalise",
        (
            strategies_pass("lower", lower),
            _plain("decompose", lambda graph: decompose(graph, legal)),
            *views,
            FOLD,
            CSE,
            DCE,
        ),
        fixpoint=True,
    )


def front(canonical: Sequence[Strategy], fusions: Sequence[Strategy]) -> PassManager:
    """The target-independent part: what the structure digest is taken after."""
    return PassManager((canonicalise(canonical), fuse(fusions)))


class _Back(PassManager):
    """Keeps the names of the graph's outputs, which decompositions may give up."""

    def run(self, model: Model, ctx: Context | None = None) -> Model:
        done = super().run(model, ctx)
        return rewired(done, named_outputs(done.graph, model.graph.outputs))


def back(
    legal: Legal, lower: Sequence[Strategy] = (), layout: str = "channels_first"
) -> PassManager:
    """The target's part; ``layout`` is ``channels_first`` or ``channels_last``."""
    facts = frozenset({"canonical:local"})
    if layout == "channels_first":
        return _Back((legalise(legal, lower),), facts)
    stages = (to_channels_last(), legalise(legal, lower, [CHANNELS_LAST_VIEWS]))
    return _Back(stages, facts)
