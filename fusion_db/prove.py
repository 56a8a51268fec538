"""Proof of a strategy, generated from its own lines: nobody writes it.

Positive: every alternative (all combinations, or every pair when they are many), with several
sizes and dtypes, is built as a graph, must be rewritten exactly once, and must compute the same in
float64 before and after, within the declared class. Negative: with a literal 5 % off, with another
attribute value, or with an interior value that leaves the graph, the strategy must not fire, or
what it makes of it must still be right; on the ``counter`` examples it must not fire at all.

``python -m fusion_db.prove FILE...`` proves files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cir import expr as ex
from cir.diagnostics import CirError, Diagnostic
from cir.graph import Graph
from cir.interpret import run
from fusion_db.instances import VARIANTS, Instance, Maker, Unbuildable, sites
from fusion_db.matcher import Binding, Match
from fusion_db.predicates import FUNCTIONS
from fusion_db.rewrite import apply, explain
from fusion_db.selections import Selection, selections
from fusion_db.strategy import Strategy, load
from fusion_db.work import Work

#: Largest scaled error of a strategy that only reassociates, in float64.
REASSOCIATE = 1e-9
#: Combinations of alternatives proven per strategy.
SELECTIONS = 40
#: Combinations tried with one thing made wrong.
_NEGATIVES = 6


@dataclass(frozen=True)
class ProofReport:
    """What the proof of one strategy found.

    Attributes:
        id: the strategy.
        instances: graphs on which it had to fire, and did.
        negatives: graphs on which it must not fire, or stay right.
        error: largest scaled error between pattern and replacement, in float64.
        problems: what is wrong with it, E402; empty when it is proven.
    """

    id: str
    instances: int
    negatives: int
    error: float
    problems: tuple[Diagnostic, ...]

    @property
    def ok(self) -> bool:
        """Whether the strategy is proven."""
        return not self.problems

    def raise_errors(self) -> None:
        """Raise CirError with the problems, if any."""
        if self.problems:
            raise CirError(self.problems)


def prove(strategy: Strategy) -> ProofReport:
    """Generate and run the proof of a strategy (see the module's docstring)."""
    with np.errstate(all="ignore"):
        return _Proof(strategy).run()


def prove_all(strategies: Iterable[Strategy]) -> list[ProofReport]:
    """Proofs of several strategies."""
    return [prove(s) for s in strategies]


class _Proof:
    def __init__(self, strategy: Strategy) -> None:
        self.s = strategy
        self.instances = self.negatives = 0
        self.error = 0.0
        self.problems: dict[str, Diagnostic] = {}
        self.selections = selections(strategy, SELECTIONS)

    def fail(self, what: str, why: str = "") -> None:
        d = Diagnostic("E402", f"strategy {self.s.id!r}: {what}", why=why)
        self.problems.setdefault(what, d)

    def run(self) -> ProofReport:
        reasons: list[str] = []
        proven: set[tuple[int, int]] = set()
        idle: list[tuple[Selection, str]] = []
        for selection in self.selections:
            reasons = []
            fires = [self.positive(selection, v, "float64", reasons) for v in range(VARIANTS)]
            if any(fires):
                proven |= set(selection.items())
            else:
                idle.append((selection, "; ".join(dict.fromkeys(reasons))[:600]))
        for selection, why in idle:
            if not proven or not proven.issuperset(selection.items()):
                self.fail(f"never fires on alternative {self.describe(selection)}", why)
        for selection in self.selections[:: max(1, len(self.selections) // 8)]:
            for dtype in ("float32", "float16"):
                self.positive(selection, 0, dtype, reasons)
        if not self.problems:
            self.wrong()
            self.escaping()
        self.counters()
        return ProofReport(
            self.s.id, self.instances, self.negatives, self.error, tuple(self.problems.values())
        )

    def describe(self, selection: Selection) -> str:
        """The alternative as the listing of its graph."""
        try:
            graph = Maker(self.s, selection, 0).make().graph
        except (Unbuildable, ex.ExprError):
            return "(unbuildable)"
        return "; ".join(f"{n.name} = {n.op}({', '.join(map(str, n.inputs))})" for n in graph.nodes)

    # -- positive ----------------------------------------------------------------------------------
    def positive(self, selection: Selection, variant: int, dtype: str, reasons: list[str]) -> bool:
        """Whether an instance was meant to fire, and did; failures are recorded."""
        try:
            inst = Maker(self.s, selection, variant, dtype).make()
        except (Unbuildable, ex.ExprError) as exc:
            reasons.append(str(exc))
            return False
        why = self._inapplicable(inst)
        if why:
            reasons.append(why)
            return False
        out, times = self._apply(inst.graph)
        where = f"{self.describe(selection)} in {dtype}, sizes {_sizes(inst)}"
        if times != 1 and not (times and self.s.grows):
            self.fail(f"fires {times} times instead of once on {where}", self._why(inst))
            return False
        self.instances += 1
        if dtype == "float64":
            self._compare(inst, inst.graph, out, where)
        return True

    def _inapplicable(self, inst: Instance) -> str:
        """Why ``where`` or a kind excludes an instance; "" when the strategy must fire."""
        s = self.s
        work = Work(inst.graph)
        values: dict[str, Any] = dict.fromkeys([*s.inputs, *s.pattern.lines, *s.rests])
        values.update(inst.values)
        attrs = {**dict.fromkeys(s.attr_names), **inst.attrs}
        match = Match(s, work)
        match.attrs = dict(inst.attrs)
        for name, kind in s.inputs.items():
            if values[name] is not None and not kind.accepts(match, values[name]):
                return f"{name} is {work.types[values[name]]}, not {kind.text}"
        env = Binding(values, attrs, (), ()).env(work)
        for expr in s.where:
            try:
                if ex.evaluate(expr, env, FUNCTIONS) is not True:
                    return f"{ex.ast.unparse(expr)} does not hold"
            except ex.ExprError as exc:
                return f"{ex.ast.unparse(expr)}: {exc}"
        return ""

    def _why(self, inst: Instance) -> str:
        return explain(inst.graph, self.s, inst.graph.outputs[0])

    def _compare(self, inst: Instance, before: Graph, after: Graph, where: str) -> bool:
        """Whether both graphs compute the same within the class; records what does not."""
        a, b = run(before, inst.feeds), run(after, inst.feeds)
        error, exact = difference(a, b)
        self.error = max(self.error, error)
        if self.s.numerics == "exact":
            good = exact
        else:
            good = error <= (REASSOCIATE if self.s.numerics == "reassociate" else self.s.rtol)
        if not good:
            self.fail(f"wrong by {error:.1e} ({self.s.numerics}) on {where}")
        return good

    # -- negative ----------------------------------------------------------------------------------
    def _still_right(self, inst: Instance, what: str) -> None:
        """A graph that is not the pattern: not firing is fine, firing must be right."""
        self.negatives += 1
        out, times = self._apply(inst.graph)
        if not times:
            return
        a, b = run(inst.graph, inst.feeds), run(out, inst.feeds)
        error, exact = difference(a, b)
        bound = self.s.rtol if self.s.numerics == "approximate" else REASSOCIATE
        if not (exact or error <= bound):
            self.fail(f"fires with {what}, and is then wrong by {error:.1e}")

    def wrong(self) -> None:
        """One literal or attribute at a time is made wrong."""
        for site in sites(self.s):
            for selection in self.selections[: _NEGATIVES * 4]:
                try:
                    right = Maker(self.s, selection, 2).make()
                    inst = Maker(self.s, selection, 2, tweak=site).make()
                except (Unbuildable, ex.ExprError):
                    continue
                if _listing(right.graph) == _listing(inst.graph):
                    continue  # the site is not part of this alternative
                self._still_right(inst, f"{site[1] or 'a literal'} perturbed")
                break

    def escaping(self) -> None:
        """Interior values leave the graph, one at a time."""
        for selection in self.selections[:_NEGATIVES]:
            try:
                inst = Maker(self.s, selection, 0).make()
            except (Unbuildable, ex.ExprError):
                continue
            for value in inst.interior:
                graph = inst.graph.with_(outputs=(*inst.graph.outputs, value))
                self._still_right(
                    Instance(graph, inst.values, inst.attrs, inst.feeds), f"{value} also an output"
                )

    def _apply(self, graph: Graph, roots: set[str] | None = None) -> tuple[Graph, int]:
        """The rewritten graph, how often the strategy fired, and in ``roots`` what it replaced."""
        found = set() if roots is None else roots
        try:
            out, fired = apply(graph, [self.s], trace=lambda _, root, __: found.add(root))
        except CirError as exc:
            self.fail("rewrites its own result without end", str(exc))
            return graph, 0
        return out, fired.get(self.s.id, 0)

    def counters(self) -> None:
        """The strategy's own counter-examples."""
        for lines in self.s.counter:
            shown = "; ".join(lines)
            try:
                maker = Maker(self.s, {}, 0)
                graph = maker.counter(lines)
            except (Unbuildable, ex.ExprError) as exc:
                self.fail(f"the counter-example {shown} cannot be built", str(exc))
                continue
            roots: set[str] = set()
            self._apply(graph, roots)
            if roots & set(graph.outputs):
                self.fail(f"fires on the counter-example {shown}")
            self._still_right(Instance(graph, {}, {}, maker.feeds), f"counter-example {shown}")


def difference(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> tuple[float, bool]:
    """(largest scaled error, whether bitwise equal) of two runs, output by output."""
    worst, exact = 0.0, True
    for x, y in zip(a.values(), b.values()):
        if x.shape != y.shape or x.dtype != y.dtype:
            return float("inf"), False
        if np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
            continue
        exact = False
        x, y = x.astype(np.float64), y.astype(np.float64)
        if not np.array_equal(np.isnan(x), np.isnan(y)):
            return float("inf"), False
        finite = np.isfinite(x) & np.isfinite(y)
        if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
            return float("inf"), False
        if finite.any():
            scale = max(float(np.max(np.abs(x[finite]))), 1e-6)
            worst = max(worst, float(np.max(np.abs(x[finite] - y[finite]))) / scale)
    return worst, exact


def _sizes(inst: Instance) -> dict[str, Any]:
    return {k: v for k, v in sorted(inst.attrs.items()) if isinstance(v, (int, str, tuple))}


def _listing(graph: Graph) -> list[Any]:
    consts = {k: c.numpy().tobytes() for k, c in graph.consts.items()}
    return [
        *((n.op, n.inputs, n.outputs, sorted(n.attrs.items(), key=str)) for n in graph.nodes),
        sorted(consts.items()),
    ]


def main(paths: Sequence[str]) -> int:
    """Prove strategy files, or folders of them; the process's exit code."""
    if not paths:
        print("usage: python -m fusion_db.prove FILE...", file=sys.stderr)
        return 2
    found: list[Diagnostic] = []
    for path in paths:
        try:
            for s in load(Path(path)).values():
                r = prove(s)
                print(
                    f"{s.id}: fires on {r.instances} graphs, error {r.error:.1e} in float64; "
                    f"{r.negatives} near misses, {len(r.problems)} problems"
                )
                found += [replace(d, where=path) for d in r.problems]
        except CirError as exc:
            found += exc.diagnostics
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return CirError(found).exit_code if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
