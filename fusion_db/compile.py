"""From the lines of a strategy file to a Pattern, with every mistake named."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cir import expr as ex
from cir import spec
from cir import statement as st
from fusion_db.attributes import AttrConst, AttrExpr, AttrName, AttrPat, AttrTuple
from fusion_db.kinds import Kind
from fusion_db.pattern import Line, Lit, Many, Op, Or, Pat, Pattern, Ref, Var, Wild
from fusion_db.predicates import FUNCTIONS

Report = Callable[[str], None]


def nearest(name: str, known: Iterable[str]) -> str:
    """``; nearest: x`` for messages, or "" when nothing comes close."""
    found = difflib.get_close_matches(name, list(known), 1)
    return f"; nearest: {found[0]}" if found else ""


class Compiler:
    """Compiles the match lines of one strategy; mistakes go to ``report``."""

    def __init__(self, inputs: Mapping[str, Kind], rtol: float, report: Report) -> None:
        self.inputs, self.rtol, self.report = inputs, rtol, report
        self.rests: dict[str, None] = {}
        self.used: set[str] = set()
        self.attr_names: dict[str, None] = {}
        self.targets: set[str] = set()
        for kind in inputs.values():
            self.attr_names.update(dict.fromkeys(sorted(kind.names())))

    def pattern(self, lines: Sequence[str], replace: Sequence[st.Statement]) -> Pattern | None:
        """The compiled pattern, or None after reporting what is wrong."""
        statements, keep = self._parse(lines)
        self.targets = {t for s in statements for t in s.targets}
        for name in sorted(self.targets & set(self.inputs)):
            self.report(f"{name!r} is both an input and a line of match")
        compiled: dict[str, Line] = {}
        for s in statements:
            line = Line(s.targets, self.pat(s.value, s.source))
            if len(s.targets) > 1 and not isinstance(line.pat, Op):
                self.report(f"several targets need one op in {s.source!r}")
            compiled.update(dict.fromkeys(s.targets, line))
        outputs = tuple(dict.fromkeys(t for s in replace for t in s.targets if t in self.targets))
        if not outputs:
            self.report("replace must define a name that has a line in match, such as the last one")
            return None
        for name in keep - self.targets:
            self.report(f"keep({name!r}) names no line of match")
        if not self._reachable(compiled, outputs):
            return None
        pattern = Pattern(compiled, outputs, frozenset(keep))
        try:
            for name in outputs:
                pattern.heads(name)
        except ValueError:
            self.report(f"each alternative of {name!r}, which is replaced, must be an op")
            return None
        return pattern

    def _parse(self, lines: Sequence[str]) -> tuple[list[st.Statement], set[str]]:
        out: list[st.Statement] = []
        keep: set[str] = set()
        seen: set[str] = set()
        for text in lines:
            try:
                s = st.parse(text)
            except st.StatementError as exc:
                self.report(str(exc))
                continue
            match s.value:
                case st.Call(op="keep", args=args):
                    keep |= {str(a.value) for a in args if isinstance(a, st.Literal)}
                    continue
            for t in s.targets:
                if t in seen:
                    self.report(f"{t!r} has two lines: use | for alternatives")
                seen.add(t)
            out.append(s)
        return out, keep

    def _reachable(self, lines: Mapping[str, Line], outputs: Sequence[str]) -> bool:
        seen: set[str] = set()
        ok = True

        def visit(pat: Pat, path: tuple[str, ...]) -> None:
            nonlocal ok
            match pat:
                case Ref(name=name):
                    if name in path:
                        self.report(f"line {name!r} describes itself")
                        ok = False
                    elif name not in seen:
                        seen.update(lines[name].targets)
                        visit(lines[name].pat, (*path, name))
                case Op(args=args):
                    for a in args:
                        visit(a, path)
                case Or(options=options):
                    for o in options:
                        visit(o, path)
                case Many(arg=arg):
                    visit(arg, path)

        for name in outputs:
            visit(Ref(name), ())
        for name in sorted(set(lines) - seen):
            self.report(f"line {name!r} is not part of what is replaced")
            ok = False
        for name in sorted(set(self.inputs) - self.used):
            self.report(f"input {name!r} does not occur in match")
            ok = False
        return ok

    # -- values ------------------------------------------------------------------------------------
    def pat(self, e: st.Expr, line: str) -> Pat:
        """The pattern of one expression in a line."""
        match e:
            case st.Name(id="_"):
                return Wild()
            case st.Name(id=name) if name in self.inputs:
                self.used.add(name)
                return Var(name, self.inputs[name])
            case st.Name(id=name) if name in self.targets:
                return Ref(name)
            case st.Name(id=name):
                known = [*self.inputs, *self.targets]
                self.report(f"unknown name {name!r} in {line!r}{nearest(name, known)}")
            case st.Literal(value=v) if isinstance(v, str):
                self.report(f"text {v!r} is no tensor in {line!r}")
            case st.Literal(value=v):
                return Lit(v, self.rtol)
            case st.Alt(options=options):
                return Or(tuple(self.pat(o, line) for o in options))
            case st.Call(op="many"):
                return self._many(e, line)
            case st.Call():
                return self._op(e, line)
            case _:
                self.report(f"{line!r}: write alternatives with |")
        return Wild()

    def _many(self, e: st.Call, line: str) -> Pat:
        if len(e.args) != 2 or e.attrs:
            self.report(f"many takes ops and a value, as in many(cast|reshape, x): {line!r}")
            return Wild()
        names = e.args[0].options if isinstance(e.args[0], st.Alt) else (e.args[0],)
        ops = frozenset(n.id for n in names if isinstance(n, st.Name))
        for name in sorted(ops):
            if spec.find(name) is None:
                self.report(f"unknown op {name!r} in {line!r}{nearest(name, spec.all_ops())}")
        return Many(ops, self.pat(e.args[1], line), st.parse(line).targets[0])

    def _op(self, e: st.Call, line: str) -> Pat:
        s = spec.find(e.op)
        if s is None:
            self.report(f"unknown op {e.op!r} in {line!r}{nearest(e.op, spec.all_ops())}")
            return Wild()
        args: list[Pat] = []
        rest: str | None = None
        for i, a in enumerate(e.args):
            if i not in e.starred:
                args.append(self.pat(a, line))
            elif i == len(e.args) - 1 and isinstance(a, st.Name):
                rest = a.id
                if rest in self.inputs:
                    self.used.add(rest)
                if rest != "_":
                    self.rests[rest] = None
            else:
                self.report(f"only the last operand may be *name: {line!r}")
        if not any(p.variadic for p in s.inputs):
            required = sum(not p.optional for p in s.inputs)
            if not (rest is None and required <= len(args) <= len(s.inputs)):
                self.report(f"{s.signature} does not take these operands: {line!r}")
                return Wild()
        attrs: list[tuple[str, AttrPat]] = []
        for name, node in e.attrs:
            if name not in s.attr_map:
                near = nearest(name, s.attr_map)
                self.report(f"{e.op} has no attribute {name!r}{near}: {line!r}")
            else:
                attrs.append((name, self.attr(node, s.attr_map[name].kind, line)))
        named = {name for name, _ in e.attrs}
        defaults: list[tuple[str, Any]] = []
        for known in s.attrs:
            if known.name in named:
                continue
            if known.required:
                self.report(f"{e.op} needs {known.name}= in {line!r} (_ for any value)")
            one_axis = known.kind == "axes" and type(known.default) is int
            defaults.append((known.name, (known.default,) if one_axis else known.default))
        return Op(s, tuple(args), tuple(attrs), tuple(defaults), rest)

    # -- attributes --------------------------------------------------------------------------------
    def attr(self, node: ast.expr, kind: str, line: str) -> AttrPat:
        """The pattern of an attribute."""
        match node:
            case ast.Name(id=name):
                if name in self.inputs or name in self.targets:
                    self.report(f"{name!r} is a value, not an attribute, in {line!r}")
                elif name != "_":
                    self.attr_names[name] = None
                return AttrName(name)
            case ast.Tuple(elts=elts) | ast.List(elts=elts) if _names(node):
                stars = [i for i, x in enumerate(elts) if isinstance(x, ast.Starred)]
                if len(stars) > 1:
                    self.report(f"more than one * in an attribute of {line!r}")
                items = (x.value if isinstance(x, ast.Starred) else x for x in elts)
                pats = tuple(self.attr(x, "", line) for x in items)
                return AttrTuple(pats, stars[0] if stars else None)
        if _names(node):
            return AttrExpr(node)
        try:
            value = ex.evaluate(node, {}, FUNCTIONS)
        except ex.ExprError as exc:
            self.report(f"{exc} in {line!r}")
            value = None
        return AttrConst((value,) if kind == "axes" and type(value) is int else value)


def _names(node: ast.expr) -> set[str]:
    """Names an expression reads, functions left out."""
    called = {
        n.func.id
        for n in ast.walk(node)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - called


def check_expr(node: ast.expr, names: set[str], where: str, report: Report) -> None:
    """Report unknown names and functions of an expression."""
    for name in sorted(_names(node) - names):
        report(f"unknown name {name!r} in {where!r}{nearest(name, names)}")
    known = {*ex.FUNCTIONS, *FUNCTIONS}
    for n in ast.walk(node):
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id not in known:
            report(f"unknown predicate {n.func.id!r} in {where!r}{nearest(n.func.id, known)}")


def check_replace(lines: Sequence[st.Statement], names: set[str], report: Report) -> None:
    """Report unknown names, ops and attributes of replacement lines."""
    known = set(names)

    def visit(e: st.Expr, line: str) -> None:
        match e:
            case st.Name(id=name) if name not in known:
                report(f"unknown name {name!r} in {line!r}{nearest(name, known)}")
            case st.Alt():
                report(f"alternatives are for match only: {line!r}")
            case st.Choice(test=test, then=then, other=other):
                check_expr(test, known, line, report)
                visit(then, line)
                visit(other, line)
            case st.Call(op=op, args=args, attrs=attrs):
                for a in args:
                    visit(a, line)
                s = spec.find(op)
                if s is None and op not in ("coalesce", "again"):
                    report(f"unknown op {op!r} in {line!r}{nearest(op, spec.all_ops())}")
                for name, node in attrs:
                    if s is not None and name not in s.attr_map:
                        report(
                            f"{op} has no attribute {name!r}{nearest(name, s.attr_map)}: {line!r}"
                        )
                    check_expr(node, known, line, report)

    for s in lines:
        visit(s.value, s.source)
        known |= set(s.targets)
