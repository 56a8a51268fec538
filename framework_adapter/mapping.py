"""Op tables: how a framework's op becomes IR ops. This page is the manual for row authors.

A table is the set of files ``framework_adapter/<room>/ops/<family>.json``::

    {"framework": "pytorch", "family": "activation", "rows": [
      {"op": "aten.softplus.default", "args": "self, beta=1, threshold=20",
       "refuse": {"beta != 1": "use softplus with beta=1"},
       "emit": "softplus(self)",
       "samples": [["float32[2,3]"]]}]}

A pure row is allowed iff it has the op's inputs and results in order and each attribute is a name,
a constant or an expression of arguments, ranks, dtypes and shapes. What needs a loop is a handler.

Keys of a row (no others):

``op``       id or list of ids.
``args``     the op's parameters: ``"self, other, alpha=1"``; after ``;`` those given by name only:
             ``"x, scale; epsilon=1e-4"``; ``*xs`` takes all remaining operands. A parameter takes
             the node's attribute of that name, else the positional operand, else its default.
``emit``     statement or list of statements (``cir.statement``): positional arguments are
             values, keyword arguments are expressions (``cir.expr``). ``"emit": "self"`` passes an
             operand through.
``cases``    ``[{"when": expr, "emit": ...}, ..., {"emit": ...}]``: the first whose ``when`` holds.
``handler``  name of a function in ``framework_adapter/<room>/handlers``:
             ``def index_tensor(c: Context, node: SourceNode, self, indices)`` -> value(s).
             A row has exactly one of ``emit``, ``cases``, ``handler``.
``refuse``   ``{expression: remedy}``: when the expression (often just an argument) is truthy the
             op is refused and the user reads the remedy.
``results``  names of the source op's results among the statements' targets, null for one that is
             not produced. Default: the targets of the last statement.
``adverbs``  ``promote``: tensors and numbers among the operands come to their common dtype first
             (PyTorch's rule: kind first, and numbers and rank-0 tensors only decide the kind;
             parameters after ``;`` do not count); ``promote_float``: the same, then integers and
             bools become float32.
``note``     for the generated documentation.
``samples``  at least one. Each is a list of operands (see ``framework_adapter.samples``); the
             row's test runs it in the framework and through the IR.

What expressions see: an argument that is a tensor has ``.rank .dtype .shape``; another is its
Python value, a symbolic dim included. ``out`` is the type the framework reports for the op's first
result (``out.shape``, ``out.dtype``, ``out.rank``); None when it reports none. Functions and
macros: ``framework_adapter.functions``.

A number used as a positional argument becomes a constant of the dtype of the first tensor beside
it.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from cir import expr, spec
from cir import statement as st
from cir.diagnostics import CirError, Collector, error
from framework_adapter import functions

#: Keys a row may have; ``op`` and, in table files, ``samples`` are required.
ROW_KEYS = (
    "op",
    "args",
    "emit",
    "cases",
    "handler",
    "refuse",
    "results",
    "adverbs",
    "note",
    "samples",
)
ADVERBS = ("promote", "promote_float")
_REQUIRED = object()


@dataclass(frozen=True, slots=True)
class Arg:
    """One parameter of a row. ``kind`` is ``positional``, ``variadic`` or ``named``."""

    name: str
    kind: str
    default: Any = _REQUIRED

    @property
    def required(self) -> bool:
        """True when the node must supply it."""
        return self.default is _REQUIRED


@dataclass(frozen=True, slots=True)
class Case:
    """Statements for when a condition holds (None: always)."""

    when: ast.expr | None
    emit: tuple[st.Statement, ...]


@dataclass(frozen=True, eq=False)
class Row:
    """One row, parsed on first use. Properties raise CirError E203 when the text is wrong."""

    ops: tuple[str, ...]
    raw: Mapping[str, Any]
    origin: str = ""
    room: str = ""

    def wrong(self, what: str) -> Exception:
        """The E203 error for this row."""
        return error("E203", f"row {self.ops[0]}: {what}", where=self.origin)

    @cached_property
    def args(self) -> tuple[Arg, ...]:
        """Parameters in order."""
        text = self.raw.get("args", "")
        if ";" in text:
            head, tail = text.split(";", 1)
            if not tail.strip():
                text = head
            elif not head.strip():
                text = f"*, {tail}"
            else:
                text = f"{head}, {tail}" if "*" in head else f"{head}, *, {tail}"
        try:
            parsed = ast.parse(f"def f({text}): 0").body[0].args  # type: ignore[attr-defined]
            out = []
            first_default = len(parsed.args) - len(parsed.defaults)
            for i, a in enumerate(parsed.args):
                node = parsed.defaults[i - first_default] if i >= first_default else None
                out.append(Arg(a.arg, "positional", _literal(node)))
            if parsed.vararg:
                out.append(Arg(parsed.vararg.arg, "variadic", ()))
            for a, node in zip(parsed.kwonlyargs, parsed.kw_defaults):
                out.append(Arg(a.arg, "named", _literal(node)))
            return tuple(out)
        except (SyntaxError, ValueError, AttributeError) as exc:
            raise self.wrong(f"args {self.raw.get('args')!r}: {exc}") from exc

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """Cases in order; one without condition for a plain ``emit``; none for a handler."""
        given = self.raw.get("cases")
        if given is None:
            given = [{"emit": self.raw["emit"]}] if "emit" in self.raw else []
        try:
            return tuple(
                Case(
                    expr.parse(c["when"]) if "when" in c else None,
                    tuple(st.parse(s) for s in _listed(c["emit"])),
                )
                for c in given
            )
        except (st.StatementError, expr.ExprError, KeyError, TypeError) as exc:
            raise self.wrong(str(exc)) from exc

    @cached_property
    def refusals(self) -> tuple[tuple[str, ast.expr, str], ...]:
        """(text, condition, remedy) of each refusal."""
        try:
            return tuple((k, expr.parse(k), v) for k, v in self.raw.get("refuse", {}).items())
        except (expr.ExprError, AttributeError) as exc:
            raise self.wrong(f"refuse: {exc}") from exc

    @cached_property
    def handler(self) -> Callable[..., Any] | None:
        """The handler function, when the row has one."""
        name = self.raw.get("handler")
        if name is None or callable(name):
            return name
        package = self.room.replace("/", ".")
        module = importlib.import_module(f"framework_adapter.{package}.handlers")
        fn = getattr(module, name, None)
        if fn is None:
            near = difflib.get_close_matches(name, dir(module), 1)
            raise self.wrong(f"no handler {name!r}{f'; nearest: {near[0]}' if near else ''}")
        return fn

    @property
    def adverbs(self) -> tuple[str, ...]:
        """Adverbs, as written."""
        return tuple(self.raw.get("adverbs", ()))

    @property
    def results(self) -> tuple[str | None, ...] | None:
        """Result names, None when the row does not list them."""
        r = self.raw.get("results")
        return None if r is None else tuple(r)

    @property
    def samples(self) -> tuple[Any, ...]:
        """Samples, as written."""
        return tuple(self.raw.get("samples", ()))

    def check(self) -> None:
        """Parse every part and check names. Raises CirError E203 naming the first problem."""
        unknown = [k for k in self.raw if k not in ROW_KEYS]
        if unknown:
            raise self.wrong(f"unknown key {unknown[0]!r}; keys are {', '.join(ROW_KEYS)}")
        if sum(k in self.raw for k in ("emit", "cases", "handler")) != 1:
            raise self.wrong("needs exactly one of emit, cases, handler")
        for adverb in self.adverbs:
            if adverb not in ADVERBS:
                raise self.wrong(f"unknown adverb {adverb!r}; known: {', '.join(ADVERBS)}")
        names = {a.name for a in self.args} | {"out"}
        for _, condition, _ in self.refusals:
            self._check_names(condition, names)
        for case in self.cases:
            if case.when is not None:
                self._check_names(case.when, names)
            seen = set(names)
            for s in case.emit:
                self._check_value(s.value, seen)
                seen.update(s.targets)
            for r in self.results or ():
                if r is not None and r not in seen:
                    raise self.wrong(f"result {r!r} is not a target of the statements")
        _ = self.handler

    def _check_names(self, node: ast.expr, names: set[str]) -> None:
        called = {
            n.func.id
            for n in ast.walk(node)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        for fn in sorted(called):
            if fn not in expr.FUNCTIONS and fn not in functions.NAMES:
                raise self.wrong(f"unknown function {fn!r} in {ast.unparse(node)!r}")
        for n in ast.walk(node):
            if isinstance(n, ast.Name) and n.id not in names and n.id not in called:
                raise self.wrong(f"unknown name {n.id!r} in {ast.unparse(node)!r}")

    def _check_value(self, e: st.Expr, names: set[str]) -> None:
        if isinstance(e, st.Name) and e.id not in names:
            raise self.wrong(f"unknown name {e.id!r}")
        if isinstance(e, st.Call):
            if e.op not in functions.MACROS and spec.find(e.op) is None:
                near = difflib.get_close_matches(e.op, [*spec.all_ops(), *functions.MACROS], 1)
                raise self.wrong(f"unknown op {e.op!r}{f'; nearest: {near[0]}' if near else ''}")
            for a in e.args:
                self._check_value(a, names)
            for _, node in e.attrs:
                self._check_names(node, names)


@dataclass(frozen=True)
class MappingTable:
    """Rows by op id."""

    room: str
    rows: Mapping[str, Row]

    def find(self, op: str) -> Row | None:
        """The row of an op, or None."""
        return self.rows.get(op)

    def nearest(self, op: str) -> str:
        """The most similar op id that has a row, or ""."""
        found = difflib.get_close_matches(op, self.rows, 1, 0.6)
        return found[0] if found else ""

    def unique_rows(self) -> tuple[Row, ...]:
        """Each row once, in table order."""
        return tuple(dict.fromkeys(self.rows.values()))

    def check(self) -> None:
        """Check every row; raises one CirError with all problems."""
        found = Collector()
        for row in self.unique_rows():
            try:
                row.check()
            except CirError as exc:
                found.add("E203", exc.diagnostics[0].what, where=row.origin)
        found.raise_errors()

    def extended(self, custom: Mapping[str, Any] | None) -> MappingTable:
        """A table in which user rows come first.

        Args:
            custom: op id -> row fields (``{"args": ..., "emit": ...}``; samples optional) or a
                function
                ``(c: Context, node: SourceNode, *operands, **attributes) -> value(s)``.

        Raises:
            CirError E203: a row is wrong.
        """
        if not custom:
            return self
        rows = dict(self.rows)
        for op, given in custom.items():
            raw = {"handler": given} if callable(given) else given
            if not isinstance(raw, Mapping):
                what = f"row {op}: needs fields such as args and emit, or a function"
                raise error("E203", what, where="custom_ops_mapping")
            row = Row((op,), {"op": op, **raw}, "custom_ops_mapping", self.room)
            row.check()
            rows[op] = row
        return MappingTable(self.room, rows)


def load(
    room: str, paths: Sequence[str | Path] = (), custom: Mapping[str, Any] | None = None
) -> MappingTable:
    """The table of a room; rows of further files come before its own, user rows before both.

    Args:
        room: framework or format whose folder holds the table.
        paths: further table files of the same form.
        custom: see ``MappingTable.extended``.

    Raises:
        CirError E203 (E101 for a missing file): all malformed files and rows.
    """
    mine = _rows([Path(p) for p in paths], room, checked=True)
    return MappingTable(room, {**_own(room), **mine}).extended(custom)


@lru_cache(maxsize=8)
def _own(room: str) -> Mapping[str, Row]:
    folder = Path(__file__).parent / room / "ops"
    return _rows(sorted(folder.glob("*.json")), room, checked=False)


def _rows(paths: Sequence[Path], room: str, checked: bool) -> dict[str, Row]:
    found = Collector()
    rows: dict[str, Row] = {}
    for row in (r for path in paths for r in _file_rows(path, room, found)):
        if checked:
            try:
                row.check()
            except CirError as exc:
                found.items.extend(exc.diagnostics)
        for op in row.ops:
            first = rows.setdefault(op, row)
            if first is not row:
                where = f"{first.origin}, {row.origin}"
                found.add("E203", f"op {op!r} has two rows", where=where)
    found.raise_errors()
    return rows


def _file_rows(path: Path, room: str, found: Collector) -> Iterable[Row]:
    if not path.is_file():
        found.add("E101", f"no mapping file {path.name}", where=str(path))
        return
    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_duplicates)
        if not isinstance(data, dict) or set(data) != {"framework", "family", "rows"}:
            raise ValueError("a table file has the keys framework, family, rows")
        if data["framework"] != room:
            raise ValueError(f"framework is {data['framework']!r}, {room!r} is wanted")
        if not isinstance(data["rows"], list):
            raise ValueError("rows is not a list")
    except (ValueError, UnicodeDecodeError, RecursionError) as exc:
        found.add("E203", f"{path.name}: {exc}", where=str(path))
        return
    for raw in data["rows"]:
        ops = _listed(raw.get("op")) if isinstance(raw, dict) else []
        if not ops or not all(isinstance(o, str) and o for o in ops):
            found.add("E203", f"{path.name}: a row without op: {str(raw)[:60]}", where=str(path))
        elif not raw.get("samples"):
            found.add("E203", f"row {ops[0]} has no samples", where=str(path))
        else:
            yield Row(tuple(ops), raw, str(path), room)


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ValueError(f"key {key!r} occurs twice in one object")
        out[key] = value
    return out


def _listed(x: Any) -> list[Any]:
    return x if isinstance(x, list) else [x]


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return _REQUIRED
    value = ast.literal_eval(node)
    return tuple(value) if isinstance(value, list) else value
