"""Emission tables: how IR ops become a target's nodes. This page is the manual for row authors.

A table is the set of files ``framework_adapter/<room>/emission/<family>.json``::

    {"target": "onnx", "family": "activation", "rows": [
      {"op": "gelu", "emit": "Gelu(x, approximate=approximate)", "since": 20},
      {"op": "swish", "cases": [{"emit": "QuickGelu(x, alpha=beta)"},
                                {"when": "beta == 1", "emit": "Mul(x, Sigmoid(x))"}]}]}

A row makes its op legal. What has no row, or no case that applies, is decomposed; what is still
left then is reported, all of it at once, as E501.

Keys of a row; those of a case are the same without ``op`` and ``cases``:

``op``       IR op, or a list of them (then statements may use ``Op``: the op's name in CamelCase).
``emit``     statement or list of statements (``cir.statement``), calls being the target's ops.
             Positional arguments are the IR op's inputs and earlier targets; a number takes the
             dtype of the first tensor beside it that is not boolean (float32 without one); an
             attribute does too when it is a float, while ints and dims become an int64 constant
             (symbolic ones are computed); an attribute that is None leaves the operand out.
             ``ints(value=expr)`` and ``number(value=expr)`` make such operands of an expression.
             Keyword arguments are expressions (``cir.expr``) over the IR op's attributes, ``.rank
             .dtype .shape`` of its inputs, and the functions of the target. The last statement
             gives the op's results. ``"emit": "x"`` passes an input on.
``cases``    the first case that applies is taken.
``handler``  name of a function in ``framework_adapter/<room>/emitters.py``:
             ``def reshape(s: Scope, x, *, shape)`` -> value(s). Exactly one of ``emit``, ``cases``,
             ``handler``.
``when``     expression that must hold.
``since``    target version that the statements need.
``needs``    target ops that must exist (of a handler; those of statements are known).
``dtypes``   ``{input: "float32 float64"}``: dtypes the statements take; others are widened by
             casts, or make the case not apply. Default: what the target's ops take where the input
             is an operand.
``note``     for the generated documentation.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

from cir import dtype as dt
from cir import expr, spec
from cir import statement as st
from cir.diagnostics import CirError, Collector, error
from cir.graph import Graph, Model, Node

_CASE_KEYS = ("emit", "handler", "when", "since", "needs", "dtypes", "note")
MACROS = ("ints", "number")


class Target(Protocol):
    """What choosing and emitting ask of a target."""

    version: int
    functions: expr.Functions
    copy: str  #: op whose result is its operand

    def takes(self, op: str, slot: int) -> frozenset[str] | None:
        """Dtypes that an input of a target op takes; None when the target has no such op."""

    def result_dtypes(
        self, op: str, dtypes: Sequence[str], attrs: Mapping[str, Any]
    ) -> Sequence[str]:
        """Dtypes of an op's results from those of its operands; the last one repeats."""

    def cast(self, scope: Any, value: str, dtype: str) -> str:
        """Emit a cast."""

    def dims(self, scope: Any, dims: Sequence[Any]) -> str:
        """Emit dims, symbolic ones too, as an int64 vector."""


@dataclass(frozen=True)
class EmitResult:
    """What an emitter wrote.

    Attributes:
        path: the main file or folder.
        files: all files, the main one first.
        node_count: nodes of the target's graph, those of its regions included.
        mapping: IR node name -> names of the target nodes made for it.
        version: target version (opset) that the file declares; 0 where there is none.
        notes: what a user must know of the artefact, e.g. that it is not compiled.
        stored: the program with its weights as the artefact stores them, where it was asked to
            store them in less precision.
    """

    path: Path
    files: tuple[Path, ...]
    node_count: int
    mapping: Mapping[str, tuple[str, ...]]
    version: int = 0
    notes: tuple[str, ...] = ()
    stored: Model | None = None


@dataclass(frozen=True)
class Case:
    """One way to emit an op, parsed."""

    when: Any
    since: int
    emit: tuple[st.Statement, ...]
    handler: Callable[..., Any] | None
    needs: tuple[str, ...]
    dtypes: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Row:
    """One op's row, parsed on first use. Properties raise CirError E203 when the text is wrong."""

    op: str
    raw: Mapping[str, Any]
    origin: str = ""
    room: str = ""

    def wrong(self, what: str) -> Exception:
        """The E203 error for this row."""
        return error("E203", f"emission row {self.op}: {what}", where=self.origin)

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """Cases in order."""
        plain = {k: v for k, v in self.raw.items() if k in _CASE_KEYS}
        if "cases" in self.raw and set(plain) - {"note"}:
            raise self.wrong("with cases, every key but note stands in a case")
        return tuple(self._case(c) for c in self.raw.get("cases") or [plain])

    def _case(self, raw: Mapping[str, Any]) -> Case:
        if any(k not in _CASE_KEYS for k in raw) or ("emit" in raw) == ("handler" in raw):
            raise self.wrong(f"a case has emit or handler, and keys of: {', '.join(_CASE_KEYS)}")
        lines = raw.get("emit", ())
        camel = "".join(part.capitalize() for part in self.op.split("_"))
        try:
            emit = tuple(
                st.parse(line.replace("Op(", f"{camel}("))
                for line in ([lines] if isinstance(lines, str) else lines)
            )
            when = expr.parse(raw["when"]) if "when" in raw else None
        except (st.StatementError, expr.ExprError, TypeError) as exc:
            raise self.wrong(str(exc)) from exc
        dtypes = {
            name: frozenset(d for t in text.split() for d in dt.CLASSES.get(t, (t,)))
            for name, text in raw.get("dtypes", {}).items()
        }
        needs = (
            *raw.get("needs", ()),
            *(c.op for s in emit for c in calls(s.value) if c.op[0].isupper()),
        )
        return Case(
            when, raw.get("since", 0), emit, self._handler(raw.get("handler")), needs, dtypes
        )

    def _handler(self, name: Any) -> Callable[..., Any] | None:
        if name is None or callable(name):
            return name
        package = self.room.replace("/", ".")
        module = importlib.import_module(f"framework_adapter.{package}.emitters")
        fn = getattr(module, name, None)
        if fn is None:
            near = difflib.get_close_matches(name, dir(module), 1)
            raise self.wrong(f"no handler {name!r}{f'; nearest: {near[0]}' if near else ''}")
        return fn

    def check(self, target: Target) -> None:
        """Parse every part and check names. Raises CirError E203 naming the first problem."""
        s = spec.find(self.op)
        if s is None:
            raise self.wrong("no such IR op")
        inputs = {p.name for p in s.inputs}
        known = inputs | set(s.attr_map)
        for case in self.cases:
            if unknown := sorted(set(case.dtypes) - inputs):
                raise self.wrong(f"dtypes names {unknown[0]!r}, which is not an input")
            if case.when is not None:
                self._check_names(case.when, known, target)
            names = set(known)
            for line in case.emit:
                self._check_value(line.value, names, target)
                names.update(line.targets)

    def _check_value(self, e: st.Expr, names: set[str], target: Target) -> None:
        match e:
            case st.Name(id=name) if name not in names:
                raise self.wrong(f"unknown name {name!r}")
            case st.Choice(test=test, then=then, other=other):
                self._check_names(test, names, target)
                self._check_value(then, names, target)
                self._check_value(other, names, target)
            case st.Call(op=op, args=args, attrs=attrs):
                if not op[0].isupper() and op not in MACROS:
                    raise self.wrong(f"{op!r} is neither an op of the target nor one of {MACROS}")
                for a in args:
                    self._check_value(a, names, target)
                for _, node in attrs:
                    self._check_names(node, names, target)

    def _check_names(self, node: Any, names: set[str], target: Target) -> None:
        called = {
            n.func.id
            for n in ast.walk(node)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - called
        for name in sorted(used - names):
            raise self.wrong(f"unknown name {name!r}")
        for name in sorted(called):
            if name not in expr.FUNCTIONS and name not in target.functions:
                raise self.wrong(f"unknown function {name!r}")


def calls(e: st.Expr) -> Iterable[st.Call]:
    """All calls in an expression of a statement."""
    if isinstance(e, st.Call):
        yield e
        for a in e.args:
            yield from calls(a)
    elif isinstance(e, st.Choice):
        yield from calls(e.then)
        yield from calls(e.other)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The case taken for a node, and the dtypes that its inputs are cast to (by position)."""

    case: Case
    casts: Mapping[int, str]


@dataclass(frozen=True)
class Emission:
    """A table for one target: decides what is legal, and how it is emitted."""

    rows: Mapping[str, Row]
    target: Target
    _derived: dict[tuple[str, int], Mapping[str, frozenset[str]]] = field(default_factory=dict)

    def legal(self, node: Node, graph: Graph) -> bool:
        """Whether the target takes this node as it stands."""
        return isinstance(self.choose(node, graph), Chosen)

    def choose(self, node: Node, graph: Graph) -> Chosen | str:
        """The case for a node, or the reason why there is none."""
        row = self.rows.get(node.op)
        if row is None:
            return "the target has no such op and no row for it"
        s = spec.get(node.op)
        env: dict[str, Any] = {p.name: None for p in s.inputs}
        env.update(node.attrs)
        for i, name in enumerate(node.inputs):
            if name is not None and not s.param(i).variadic:
                env[s.param(i).name] = graph.types[name]
        reasons: list[str] = []
        for index, case in enumerate(row.cases):
            missing = [op for op in case.needs if self.target.takes(op, 0) is None]
            if missing:
                reasons.append(f"no kernel for {missing[0]}")
            elif case.since > self.target.version:
                reasons.append(f"needs version {case.since}, the target is {self.target.version}")
            elif case.when is not None and not expr.evaluate(case.when, env, self.target.functions):
                reasons.append("its attributes or shapes")
            else:
                casts = self._casts(self._allowed(node.op, index, case), node, graph)
                if isinstance(casts, dict):
                    return Chosen(case, casts)
                reasons.append(casts)
        return "; ".join(dict.fromkeys(reasons))

    @staticmethod
    def _casts(
        allowed: Mapping[str, frozenset[str]], node: Node, graph: Graph
    ) -> dict[int, str] | str:
        s = spec.get(node.op)
        out: dict[int, str] = {}
        for i, name in enumerate(node.inputs):
            takes = None if name is None else allowed.get(s.param(i).name)
            if name is None or takes is None:
                continue
            have = graph.types[name].dtype
            want = widened(have, takes)
            if want is None:
                return f"no kernel for {have} input {s.param(i).name}"
            if want != have:
                out[i] = want
        return out

    def _allowed(self, op: str, index: int, case: Case) -> Mapping[str, frozenset[str]]:
        """Dtypes by input: as the row says, else what the target's ops take where they read it."""
        key = (op, index)
        if key not in self._derived:
            found: dict[str, frozenset[str]] = {}
            for call in (c for line in case.emit for c in calls(line.value) if c.op not in MACROS):
                for slot, a in enumerate(call.args):
                    takes = self.target.takes(call.op, slot)
                    if isinstance(a, st.Name) and takes is not None:
                        found[a.id] = found.get(a.id, takes) & takes
            self._derived[key] = {**found, **case.dtypes}
        return self._derived[key]

    def check_legal(
        self, graph: Graph, found: Collector, name: str, remedy: str = "compute it in float32"
    ) -> None:
        """Record E501 for every op, regions included, that cannot be emitted."""
        groups: dict[tuple[str, str], list[str]] = {}
        for owner, node in graph.walk():
            chosen = self.choose(node, owner)
            if isinstance(chosen, str):
                source = node.meta.src[0] if node.meta.src else None
                place = (source.place or source.module) if source else ""
                groups.setdefault((node.op, chosen), []).append(
                    f"{node.name} ({place})" if place else node.name
                )
        for (op, why), places in groups.items():
            shown = ", ".join(places[:4])
            shown += f", and {len(places) - 4} more" if len(places) > 4 else ""
            times = f" (×{len(places)})" if len(places) > 1 else ""
            near = difflib.get_close_matches(op, self.rows, 1)
            found.add(
                "E501",
                f"target {name} does not take {op}{times}",
                where=shown,
                why=why,
                nearest=near[0] if near and near[0] != op else "",
                fix=f"{remedy}, use other ops, or add a row to the target's emission table",
            )

    def check(self) -> None:
        """Check every row; raises one CirError E203 with all problems."""
        found = Collector()
        for row in self.rows.values():
            try:
                row.check(self.target)
            except CirError as exc:
                found.add("E203", exc.diagnostics[0].what, where=row.origin)
        found.raise_errors()


#: Dtypes to try for one that an op does not take: wider ones of the same kind, nearest first.
_WIDER: Mapping[str, tuple[str, ...]] = {
    "bool": ("uint8", "int32", "int64"),
    "int8": ("int16", "int32", "int64"),
    "int16": ("int32", "int64"),
    "int32": ("int64",),
    "uint8": ("uint16", "int16", "int32", "uint32", "int64", "uint64"),
    "uint16": ("int32", "uint32", "int64", "uint64"),
    "uint32": ("int64", "uint64"),
    "float16": ("float32", "float64"),
    "bfloat16": ("float32", "float64"),
}


def widened(have: str, takes: frozenset[str]) -> str | None:
    """The dtype itself, else the nearest wider one among ``takes``, else None."""
    return have if have in takes else next((d for d in _WIDER.get(have, ()) if d in takes), None)


@cache
def load(room: str) -> Mapping[str, Row]:
    """Rows of a room's table by op. Raises CirError E203 with all malformed files and rows."""
    rows: dict[str, Row] = {}
    found = Collector()
    for path in sorted((Path(__file__).parent / room / "emission").glob("*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_duplicates)
            if set(data) != {"target", "family", "rows"} or data["target"] != room:
                raise ValueError(f"a table file has the keys target ({room}), family, rows")
            for raw in data["rows"]:
                if unknown := [k for k in raw if k not in (*_CASE_KEYS, "op", "cases")]:
                    raise ValueError(f"row {raw.get('op')}: unknown key {unknown[0]!r}")
                for op in [raw["op"]] if isinstance(raw["op"], str) else raw["op"]:
                    if op in rows:
                        raise ValueError(f"op {op!r} has two rows")
                    rows[op] = Row(op, raw, str(path), room)
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            found.add("E203", f"{path.name}: {exc}", where=str(path))
    found.raise_errors()
    return rows


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return out
