"""Strategies: one fusion in one JSON file, loaded strictly and compiled for the matcher."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cir import expr as ex
from cir import spec
from cir import statement as st
from cir.diagnostics import CirError, Collector
from fusion_db.compile import Compiler, check_expr, check_replace, nearest
from fusion_db.kinds import Kind, KindError
from fusion_db.kinds import parse as parse_kind
from fusion_db.pattern import Pattern

STAGES = ("canonicalise", "fuse", "lower")
NUMERICS = ("exact", "reassociate", "approximate")
FOLDER = Path(__file__).parent / "strategies"
#: Field -> (types it may have, required).
FIELDS: dict[str, tuple[tuple[type, ...], bool]] = {
    "id": ((str,), True),
    "schema": ((int,), True),
    "summary": ((str,), True),
    "stage": ((str,), True),
    "tags": ((list,), False),
    "inputs": ((dict,), True),
    "match": ((list,), False),
    "where": ((list,), False),
    "replace": ((list,), True),
    "numerics": ((str,), True),
    "rtol": ((float,), False),
    "const_rtol": ((float,), False),
    "targets": ((dict,), False),
    "requires_input": ((str,), False),
    "proof": ((dict,), False),
    "counter": ((list,), False),
    "origin": ((str,), False),
    "invert": ((bool,), False),
    "grows": ((bool,), False),
    "note": ((str,), False),
}


@dataclass(frozen=True, eq=False)
class Strategy:
    """A loaded strategy; the fields of the file, parsed and compiled."""

    id: str
    summary: str
    stage: str
    inputs: Mapping[str, Kind]
    match: tuple[str, ...]
    pattern: Pattern
    where: tuple[ast.expr, ...]
    conditions: tuple[str, ...]
    replace: tuple[st.Statement, ...]
    numerics: str
    tags: tuple[str, ...] = ()
    rtol: float = 0.0
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    requires_input: str = ""
    proof: Mapping[str, Any] = ()  # type: ignore[assignment]
    counter: tuple[tuple[str, ...], ...] = ()
    origin: str = ""
    grows: bool = False
    note: str = ""
    attr_names: tuple[str, ...] = ()
    rests: tuple[str, ...] = ()
    deferred_kinds: tuple[str, ...] = ()
    size: int = 0

    def applies_to(self, target: str) -> bool:
        """Whether the strategy is on for a target."""
        return ("*" in self.include or target in self.include) and target not in self.exclude


def load_text(text: str, where: str = "strategy", *, name: str | None = None) -> Strategy:
    """Load one strategy from JSON text.

    Args:
        text: the file's text.
        where: what messages call the file.
        name: the id that the file must hold, when given.

    Raises:
        CirError: E401 for each mistake.
    """
    found = Collector()

    def report(what: str) -> None:
        found.add("E401", what, where=where)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [k for k, _ in items]
        for k in dict.fromkeys(keys):
            if keys.count(k) > 1:
                report(f"key {k!r} occurs twice")
        return dict(items)

    try:
        data = json.loads(text, object_pairs_hook=pairs)
    except ValueError as exc:
        report(f"not JSON: {exc}")
        data = None
    if data is not None and not isinstance(data, dict):
        report("must be a JSON object")
    found.raise_errors()
    strategy = _build(data, name, report)
    found.raise_errors()
    assert strategy is not None
    return strategy


def _fields(data: Mapping[str, Any], report: Any) -> bool:
    ok = True
    for key, value in data.items():
        if key not in FIELDS:
            report(f"unknown field {key!r}{nearest(key, FIELDS)}")
            ok = False
        elif not isinstance(value, FIELDS[key][0]) or (
            isinstance(value, bool) and bool not in FIELDS[key][0]
        ):
            want = " or ".join(t.__name__ for t in FIELDS[key][0])
            report(f"field {key!r} must be of type {want}")
            ok = False
    for key, (_, required) in FIELDS.items():
        if required and key not in data:
            report(f"field {key!r} is missing")
            ok = False
    return ok


def _strings(data: Mapping[str, Any], key: str, report: Any) -> tuple[str, ...]:
    items = data.get(key, [])
    if not all(isinstance(x, str) for x in items):
        report(f"field {key!r} must hold strings")
        return ()
    return tuple(items)


def _build(data: dict[str, Any], name: str | None, report: Any) -> Strategy | None:
    if not _fields(data, report):
        return None
    if data["schema"] != 1:
        report(f"schema is {data['schema']}, this version reads 1")
    if not data["id"].isidentifier() or (name is not None and data["id"] != name):
        report(f"id {data['id']!r} must be an identifier and the file's name")
    for key, allowed in (("stage", STAGES), ("numerics", NUMERICS)):
        if data[key] not in allowed:
            report(f"{key} is {data[key]!r}, must be one of {', '.join(allowed)}")
    if data["numerics"] == "approximate" and "rtol" not in data:
        report("numerics 'approximate' needs rtol, the relative error to expect")
    inputs: dict[str, Kind] = {}
    for key, text in data["inputs"].items():
        try:
            inputs[key] = parse_kind(str(text))
        except KindError as exc:
            report(f"input {key!r}: {exc}")
    replace = _statements(_strings(data, "replace", report), report)
    lines = _strings(data, "match", report)
    if data.get("invert"):
        lines = lines or _decomposition(replace, report)
    if not lines:
        report("match has no lines (only invert: true goes without)")
        return None
    compiler = Compiler(inputs, data.get("const_rtol", 1e-6), report)
    pattern = compiler.pattern(lines, replace)
    names = {*inputs, *compiler.targets, *compiler.attr_names, *compiler.rests}
    where = []
    conditions = _strings(data, "where", report)
    for text in conditions:
        try:
            where.append(ex.parse(text))
            check_expr(where[-1], names, text, report)
        except ex.ExprError as exc:
            report(str(exc))
    check_replace(replace, names, report)
    _check_proof(data.get("proof", {}), names, inputs, report)
    counter = tuple(tuple(map(str, c)) for c in data.get("counter", []))
    for c in counter:
        _statements(c, report)
    targets = data.get("targets", {})
    for key in targets:
        if key not in ("include", "exclude"):
            report(f"targets has no {key!r}{nearest(key, ('include', 'exclude'))}")
    if pattern is None:
        return None
    return Strategy(
        id=data["id"],
        summary=data["summary"],
        stage=data["stage"],
        inputs=inputs,
        match=tuple(lines),
        pattern=pattern,
        where=tuple(where),
        conditions=tuple(conditions),
        replace=tuple(replace),
        numerics=data["numerics"],
        tags=_strings(data, "tags", report),
        rtol=data.get("rtol", 0.0),
        include=tuple(targets.get("include", ("*",))),
        exclude=tuple(targets.get("exclude", ())),
        requires_input=data.get("requires_input", ""),
        proof=data.get("proof", {}),
        counter=counter,
        origin=data.get("origin", ""),
        grows=data.get("grows", False),
        note=data.get("note", ""),
        attr_names=tuple(compiler.attr_names),
        rests=tuple(compiler.rests),
        deferred_kinds=tuple(k for k, kind in inputs.items() if kind.deferred),
        size=pattern.size(),
    )


def _check_proof(
    proof: Mapping[str, Any], names: set[str], inputs: Mapping[str, Kind], report: Any
) -> None:
    """Candidates are lists; kinds among them may introduce further sizes."""
    known = set(names)
    for key, options in proof.items():
        if not isinstance(options, list) or not options:
            report(f"proof of {key!r} must be a list of candidates")
            continue
        for text in options if key in inputs else ():
            if isinstance(text, str):
                try:
                    known |= parse_kind(text).names()
                except KindError as exc:
                    report(f"proof of {key!r}: {exc}")
    for key in proof:
        if key not in known:
            report(f"proof names {key!r}, which match does not{nearest(key, known)}")


def _statements(lines: Iterable[str], report: Any) -> list[st.Statement]:
    out = []
    for text in lines:
        try:
            out.append(st.parse(text))
        except st.StatementError as exc:
            report(str(exc))
    return out


def _decomposition(replace: Sequence[st.Statement], report: Any) -> tuple[str, ...]:
    """The lines that define the op which replace calls: the strategy reads them backwards."""
    match replace[0].value if len(replace) == 1 else None:
        case st.Call(op=op) if (s := spec.find(op)) is not None and s.decomposition:
            return s.decomposition
    report("invert needs a replacement that is one call of an op with a decomposition")
    return ()


# -- the database ----------------------------------------------------------------------------------
def load(path: Path = FOLDER) -> dict[str, Strategy]:
    """The strategy of a file, or all of a folder, by id in order of path.

    Raises:
        CirError: E401 with every mistake of every file.
    """
    found = Collector()
    out: dict[str, Strategy] = {}
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    for file in files:
        where = file.relative_to(path).as_posix() if path.is_dir() else str(path)
        try:
            s = load_text(file.read_text(encoding="utf-8"), where, name=file.stem)
        except OSError as exc:
            found.add("E401", f"cannot read strategy: {exc.strerror}", where=where)
            continue
        except CirError as exc:
            found.items.extend(exc.diagnostics)
            continue
        if s.id in out:
            found.add("E401", f"id {s.id!r} occurs twice", where=where)
        out[s.id] = s
    found.raise_errors()
    return out


@lru_cache(maxsize=1)
def database() -> Mapping[str, Strategy]:
    """The strategies that come with the package, by id."""
    return load()


@lru_cache(maxsize=1)
def presets() -> Mapping[str, tuple[str, ...]]:
    """Preset name -> the ids and tags of fuse-stage strategies it switches on."""
    path = Path(__file__).parent / "presets.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    return {k: tuple(v) for k, v in data.items()}


def select(
    stage: str,
    preset: str | Sequence[str] = "default",
    *,
    target: str = "*",
    extra: Sequence[Path] = (),
    disable: Iterable[str] = (),
    approximate: bool = False,
) -> list[Strategy]:
    """Strategies of a stage.

    Args:
        stage: canonicalise (always complete), fuse (chosen by preset) or lower (by target).
        preset: a name of presets.json, or ids and tags of fuse-stage strategies.
        target: the target that strategies may exclude themselves from.
        extra: further strategy files, or folders of them; each must prove itself, and those of the
            fuse stage are on whatever the preset.
        disable: ids to leave out.
        approximate: whether strategies that change results visibly may run.

    Raises:
        CirError: E401 for an unknown preset or id, or a malformed extra file; E402 for an extra
            strategy that fails its proof.
    """
    db = dict(database())
    off = set(disable)
    on: set[str] = set()
    found = Collector()
    for path in extra:
        for s in load(path).values():
            _must_prove(s, path)
            db[s.id] = s
            on.add(s.id)
    if isinstance(preset, str):
        on |= set(presets().get(preset, ()))
        if preset not in presets():
            what = f"unknown preset {preset!r}{nearest(preset, presets())}"
            found.add("E401", what, fix=f"use one of: {', '.join(presets())}")
    else:
        tags = {t for s in db.values() for t in s.tags}
        for name in sorted(set(preset) - set(db) - tags):
            what = f"no strategy or tag {name!r}{nearest(name, {*db, *tags})}"
            found.add("E401", what, fix="fusion_db/CATALOG.md lists all strategies")
        on |= set(preset)
    for name in sorted(off - set(db)):
        found.add("E401", f"no strategy {name!r} to disable{nearest(name, db)}")
    found.raise_errors()
    return [
        s
        for s in db.values()
        if s.stage == stage
        and s.id not in off
        and (approximate or s.numerics != "approximate")
        and s.applies_to(target)
        and (stage != "fuse" or s.id in on or on & set(s.tags))
    ]


def _must_prove(strategy: Strategy, path: Path) -> None:
    """Raise E402 unless an outside strategy proves itself."""
    from fusion_db.prove import prove

    fix = f"correct it until it proves itself: python -m fusion_db.prove {path}"
    problems = [replace(d, where=str(path), fix=fix) for d in prove(strategy).problems]
    if problems:
        raise CirError(problems)
