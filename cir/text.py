"""The text form of a model: for reading, for diffs of passes, and for fixtures of tests.

    cir 1.0

    graph main
    symbol batch: 1..64 sizes 1, 8
    input x: float32[batch, 3]
    const w: float32[2, 3] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    y = linear(x, w)  # float32[batch, 2]
    return y

Node lines are statements; an attribute at its default is left out, and so is the type when a
person writes the line: it is then inferred. Regions stand below their node, indented by two more
spaces. Large constants are written ``= sha256:...``. ``state in -> out`` lines pair state.
Provenance is not written.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cir import dim as dims
from cir import spec
from cir.builder import Builder
from cir.diagnostics import CirError, Diagnostic
from cir.graph import Const, Graph, Model, Node, Range, TensorType
from cir.migrate import VERSION
from cir.values import const_of_elements, is_inline, plain_attr, plain_elements
from cir.verify import verify

_LITERALS = ("None", "True", "False")
_NAME = r"[A-Za-z_][A-Za-z0-9_./]*"


# -- printing --------------------------------------------------------------------------------------
def print_text(model: Model | Graph, *, digests: bool = True) -> str:
    """The text of a model; ``digests=False`` writes ``...`` instead of hashing large constants."""
    m = model if isinstance(model, Model) else Model(model)
    symbols = [f"symbol {name}: {_range(r)}" for name, r in sorted(m.symbols.items())]
    lines = [f"cir {VERSION}", "", *_graph_lines(m.graph, "", digests, symbols)]
    lines += [f"state {a} -> {b}" for a, b in m.state]
    return "\n".join(lines) + "\n"


def _graph_lines(
    g: Graph, indent: str, digests: bool, symbols: list[str] | None = None
) -> Iterator[str]:
    name = g.name if re.fullmatch(_NAME, g.name) else json.dumps(g.name)
    yield f"{indent}graph {name}"
    for line in symbols or ():
        yield indent + line
    for i in g.inputs:
        yield f"{indent}input {i}: {g.types[i]}"
    for i, c in g.consts.items():
        yield f"{indent}const {i}: {c.type} = {_const_text(c, digests)}"
    for node in g.nodes:
        yield indent + print_node(g, node)
        for region in node.regions:
            yield from _graph_lines(region, indent + "  ", digests)
    yield f"{indent}return {', '.join(g.outputs)}".rstrip()


def print_node(g: Graph, node: Node) -> str:
    """One node as a statement line with its types, without its regions."""
    args = [_argument(i) for i in node.inputs]
    args += [f"{k}={_literal(plain_attr(v))}" for k, v in _shown_attrs(g, node)]
    types = ", ".join(str(g.types[o]) for o in node.outputs)
    return f"{', '.join(node.outputs)} = {node.op}({', '.join(args)})  # {types}"


def _argument(name: str | None) -> str:
    # A value may be called None; quotes tell it from an absent input.
    return f'"{name}"' if name in _LITERALS else str(name)


def _shown_attrs(g: Graph, node: Node) -> Iterator[tuple[str, Any]]:
    s = spec.find(node.op)
    first = g.types.get(node.inputs[0] or "") if node.inputs else None
    for name, value in node.attrs.items():
        a = s.attr_map.get(name) if s else None
        if a is not None and not a.required:
            default = a.default
            if default is not None:
                default = a.coerce(default, first.rank if first else 0)
            if repr(plain_attr(default)) == repr(plain_attr(value)):
                continue
        yield name, value


def _literal(v: Any) -> str:
    if isinstance(v, list):
        return f"({', '.join(map(_literal, v))}{',' if len(v) == 1 else ''})"
    return repr(v)


def _const_text(c: Const, digests: bool) -> str:
    if is_inline(c.type):
        text = json.dumps(plain_elements(c))
        return text[1:-1] if c.type.rank == 0 and len(plain_elements(c)) == 1 else text
    return f"sha256:{c.digest}" if digests else "..."


def _range(r: Range) -> str:
    sizes = f" sizes {', '.join(map(str, r.sizes))}" if r.sizes else ""
    return f"{r.min}..{'' if r.max is None else r.max}{sizes}"


# -- parsing ---------------------------------------------------------------------------------------
def parse_text(text: str, weights: Mapping[str, Const | np.ndarray] | None = None) -> Model:
    """The verified model of a text.

    Args:
        text: the text form.
        weights: sha256 (hex) -> constant or array, for constants written as ``sha256:...``.

    Raises:
        CirError: E301 for a line that is not understood, E302 for another version, E303 and E304
            for a wrong graph, E305 for a digest that ``weights`` does not hold; with the line
            where one is at fault.
    """
    model = _Parser(text, weights or {}).model()
    verify(model)
    return model


class _Syntax(ValueError):
    pass


class _Parser:
    def __init__(self, text: str, weights: Mapping[str, Const | np.ndarray]) -> None:
        self.lines = [
            (i, line.rstrip())
            for i, line in enumerate(text.splitlines(), 1)
            if line.strip() and not line.lstrip().startswith("#")
        ]
        self.at = 0
        self.weights = weights
        self.symbols: dict[str, Range] = {}

    def model(self) -> Model:
        try:
            self.header()
            graph = self.graph("", None)
            state = []
            while self.at < len(self.lines):
                m = self.expect(rf"state ({_NAME}) -> ({_NAME})", "a state line or the end")
                state.append((m[1], m[2]))
        except (ValueError, ArithmeticError, LookupError, RecursionError) as exc:
            raise CirError(self.located("E301", str(exc))) from exc
        return Model(graph, self.symbols, tuple(state))

    def located(self, code: str, what: str, **fields: str) -> Diagnostic:
        number, line = self.lines[min(self.at, len(self.lines) - 1)] if self.lines else (1, "")
        return Diagnostic(code, what, where=f"line {number}: {line.strip()[:200]}", **fields)

    def line(self) -> str:
        return self.lines[self.at][1] if self.at < len(self.lines) else ""

    def expect(self, pattern: str, what: str) -> re.Match[str]:
        m = re.fullmatch(pattern, self.line())
        if m is None:
            raise _Syntax(f"expected {what}")
        self.at += 1
        return m

    def header(self) -> None:
        m = re.fullmatch(r"cir (\S+)", self.line())
        if m is None:
            raise _Syntax(f"expected the header 'cir {VERSION}'")
        if m[1] != VERSION:
            what = f"CIR version {m[1]} is not known; text is read in version {VERSION} only"
            raise CirError(self.located("E302", what, fix="upgrade, or save it as JSON"))
        self.at += 1

    def graph(self, indent: str, parent: Builder | None) -> Graph:
        m = self.expect(rf'{indent}graph ({_NAME}|".*")', "'graph NAME'")
        name = json.loads(m[1]) if m[1].startswith('"') else m[1]
        b = Builder(name) if parent is None else parent.region(name)
        while True:
            line = self.line()
            if not line.startswith(indent) or line[len(indent) : len(indent) + 1] in ("", " "):
                raise _Syntax(f"expected 'return' at the end of graph {name!r}")
            body = line[len(indent) :]
            if hit := re.fullmatch(rf"return(?: ({_NAME}(?:, {_NAME})*))?", body):
                self.at += 1
                return b.finish(hit[1].split(", ") if hit[1] else [])
            if hit := re.fullmatch(rf"input ({_NAME}): (.*)", body):
                t = _type(hit[2])
                self.defined([hit[1]], [b.input(hit[1], t.dtype, t.shape)])
            elif hit := re.fullmatch(rf"const ({_NAME}): (.*?) = (.*)", body):
                c = self.const(_type(hit[2]), hit[3])
                self.defined([hit[1]], [b.const(c, name=hit[1])])
            elif hit := re.fullmatch(r"symbol (\w+): (\d+)\.\.(\d*)(?: sizes (.*))?", body):
                sizes = tuple(int(n) for n in hit[4].split(",")) if hit[4] else ()
                self.symbols[hit[1]] = Range(int(hit[2]), int(hit[3]) if hit[3] else None, sizes)
            else:
                self.node(b, body, indent)
                continue
            self.at += 1

    def defined(self, wanted: list[str], got: Sequence[str]) -> None:
        """A builder that gives another name than the one wanted has that one already."""
        for name, other in zip(wanted, got):
            if name != other:
                raise CirError(self.located("E303", f"value {name!r} is defined twice"))

    def const(self, t: TensorType, text: str) -> Const:
        if text.startswith("sha256:"):
            key = text.removeprefix("sha256:")
            if key not in self.weights:
                raise CirError(
                    self.located("E305", f"no weights are given for {t} {text[:19]}…",
                                 fix="pass weights={sha256 hex: array}")
                )  # fmt: skip
            value = self.weights[key]
            return value if isinstance(value, Const) else Const.of(value, t.dtype)
        return const_of_elements(_flat(json.loads(text)), t)

    def node(self, b: Builder, body: str, indent: str) -> None:
        targets, op, args, types = _statement(body)
        inputs: list[str | None] = []
        attrs: dict[str, Any] = {}
        for arg in args:
            if hit := re.fullmatch(r"([A-Za-z_]\w*)=(.*)", arg, re.DOTALL):
                attrs[hit[1]] = _value(hit[2])
            elif attrs:
                raise _Syntax("values come before attributes")
            else:
                inputs.append(None if arg == "None" else arg.strip('"'))
        for name in inputs:
            if name is not None and name not in b.types:
                raise CirError(self.located("E303", f"there is no value {name!r} here"))
        for t in types or ():  # symbols that inference makes must differ from those written
            b._symbols |= {s for d in t.shape for s in dims.symbols_of(d)}
        start = self.at
        self.at += 1
        regions = []
        while self.line().startswith(f"{indent}  graph "):
            regions.append(self.graph(indent + "  ", b))
        end, self.at = self.at, start
        try:
            outs = b.emit(op, inputs, attrs, names=targets, regions=regions)
        except CirError as exc:
            raise CirError(
                [self.located(d.code, d.what, why=d.why) for d in exc.diagnostics]
            ) from exc
        if types is not None and len(types) != len(outs):
            raise _Syntax(f"{op} gives {len(outs)} results, not {len(types)}")
        self.defined(targets, outs)
        b.types.update(zip(outs, types or ()))
        self.at = end


def _statement(body: str) -> tuple[list[str], str, list[str], list[TensorType] | None]:
    """Targets, op, arguments and written types of a node line."""
    m = re.match(rf"({_NAME}(?:, {_NAME})*) = ([a-z][a-z0-9_]*)\(", body)
    if m is None:
        raise _Syntax("not a statement: write 'y = op(x, attribute=value)'")
    parts = _split(body[m.end() :], closing=True)
    args, rest = [p for p in parts[:-1] if p], parts[-1]
    types = None
    if rest.strip():
        if not rest.strip().startswith("#"):
            raise _Syntax(f"unexpected {rest.strip()!r}")
        types = [_type(t) for t in _split(rest.strip()[1:])]
    return m[1].split(", "), m[2], args, types


def _split(text: str, *, closing: bool = False) -> list[str]:
    """Pieces between top-level commas; ``closing``: up to a closing bracket, then the rest."""
    out: list[str] = []
    start, depth, quote, skip = 0, 0, "", False
    for i, ch in enumerate(text):
        if skip:
            skip = False
        elif quote:
            skip = ch == "\\"
            quote = "" if ch == quote else quote
        elif ch in "\"'":
            quote = ch
        elif ch in "([":
            depth += 1
        elif ch in ")]":
            depth -= 1
            if depth < 0 and closing:
                return [*out, text[start:i].strip(), text[i + 1 :]]
        elif ch == "," and depth == 0:
            out.append(text[start:i].strip())
            start = i + 1
    if closing or quote or depth:
        raise _Syntax("a bracket or quote is not closed")
    return [*out, text[start:].strip()]


def _type(text: str) -> TensorType:
    m = re.fullmatch(r"(\w+)\[(.*)\]", text.strip())
    if m is None:
        raise _Syntax(f"{text!r} is not a type: write one such as float32[batch, 3]")
    parts = [p for p in _split(m[2]) if p]
    return TensorType(m[1], tuple(dims.canonical(int(p) if p.isdigit() else p) for p in parts))


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError) as exc:
        raise _Syntax(f"{text.strip()!r} is not a number, string or tuple") from exc


def _flat(v: Any) -> list[Any]:
    return [x for item in v for x in _flat(item)] if isinstance(v, list) else [v]
