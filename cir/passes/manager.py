"""The pass manager: stages of passes with declared needs, verified and traced after each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cir.diagnostics import error
from cir.digest import structure_digest
from cir.graph import Graph, Model
from cir.verify import Checked, verify

#: A pass: graph in, graph out (the same object when nothing changed).
Run = Callable[[Graph, "Context"], Graph]


@dataclass(frozen=True)
class Pass:
    """One graph transformation.

    Attributes:
        name: what the trace calls it.
        run: the transformation; returns its argument unchanged when there is nothing to do.
        needs: facts that must hold before it runs.
        gives: facts that hold after it.
        breaks: facts that may no longer hold after it.
    """

    name: str
    run: Run
    needs: frozenset[str] = frozenset()
    gives: frozenset[str] = frozenset()
    breaks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Stage:
    """Passes run in order, once or in rounds until none changes the graph."""

    name: str
    passes: tuple[Pass, ...]
    fixpoint: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What one pass did: nodes before and after, strategies that fired, milliseconds."""

    stage: str
    name: str
    before: int
    after: int
    fired: tuple[tuple[str, int], ...]
    ms: float


@dataclass
class Context:
    """What passes and backends share during one run; ``say`` tells the user what goes on."""

    fired: Counter[str] = field(default_factory=Counter)
    trace: list[Record] = field(default_factory=list)
    verified: Checked = field(default_factory=Checked)
    say: Callable[[str], None] = lambda text: None


#: Rounds after which a stage that still changes is taken to be a loop.
MAX_ROUNDS = 32
#: Rounds after which a stage that only goes round in a circle of equal forms is looked for.
PATIENCE = 8


class PassManager:
    """Runs stages; the order is checked when the manager is made, not when it fails.

    Raises:
        ValueError: at construction, when a pass needs a fact that no pass before it gives, or
            that a pass in between breaks.
    """

    def __init__(self, stages: Sequence[Stage], facts: frozenset[str] = frozenset()) -> None:
        self.stages = tuple(stages)
        have = set(facts)
        for stage in self.stages:
            # In a fixpoint stage a fact that a later pass gives holds from the second round on.
            later = {f for p in stage.passes for f in p.gives} if stage.fixpoint else set()
            for p in stage.passes:
                missing = p.needs - have - later
                if missing:
                    names = ", ".join(sorted(missing))
                    raise ValueError(f"pass {p.name!r} in stage {stage.name!r} needs {names}")
                have -= p.breaks
                have |= p.gives
        self.facts = frozenset(have)

    def run(self, model: Model, ctx: Context | None = None) -> Model:
        """Apply all stages.

        Raises:
            CirError: E403 when a stage does not settle; E303/E304 when a pass broke the graph.
        """
        ctx = ctx or Context()
        for stage in self.stages:
            seen: dict[str, Model] = {}
            for turn in range(MAX_ROUNDS):
                before = model.graph
                for p in stage.passes:
                    model = self._apply(stage, p, model, ctx)
                if not stage.fixpoint or model.graph is before:
                    break
                if turn >= PATIENCE:
                    key = structure_digest(model.graph).hex
                    if key in seen:
                        model = _least(seen, key)
                        break
                    seen[key] = model
            else:
                last = [r.name for r in ctx.trace[-len(stage.passes) :] if r.stage == stage.name]
                raise error(
                    "E403",
                    f"stage {stage.name!r} still changes after {MAX_ROUNDS} rounds",
                    why=f"passes at work: {', '.join(dict.fromkeys(last))}; "
                    f"strategies: {dict(ctx.fired)}",
                    fix="disable the strategies named, one by one: fusion=... in convert()",
                )
        return model

    def _apply(self, stage: Stage, p: Pass, model: Model, ctx: Context) -> Model:

        start = time.perf_counter()
        fired_before = Counter(ctx.fired)
        graph = p.run(model.graph, ctx)
        if graph is model.graph:
            return model
        before = len(model.graph.nodes)
        model = rewired(model, graph)
        verify(model, seen=ctx.verified)
        ms = (time.perf_counter() - start) * 1e3
        fired = tuple(sorted((ctx.fired - fired_before).items()))
        ctx.trace.append(Record(stage.name, p.name, before, len(graph.nodes), fired, ms))
        return model


def _least(seen: dict[str, Model], again: str) -> Model:
    """Of the forms that a stage runs through in a circle, the one that is canonical by its digest.

    Views that cost nothing on either side of an op can go round so; any of the forms is right.
    """
    keys = list(seen)
    return seen[min(keys[keys.index(again) :])]


def rewired(model: Model, graph: Graph) -> Model:
    """The model around a new version of its graph; state pairs follow the outputs' positions."""
    old = model.graph.outputs
    state = tuple((i, graph.outputs[old.index(o)]) for i, o in model.state)
    return model.with_(graph=graph, state=state)
