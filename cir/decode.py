"""From JSON to a model, strictly: first the structure, as the JSON Schema has it, then the meaning.

The checks below are the schema ``schema/cir.schema.json`` by hand, because a schema validator
takes seconds for a large graph. A check returns its findings as (path, message) pairs, none when
all is well; paths are only put together for findings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cir import dim as dims
from cir import dtype as dt
from cir import spec
from cir.diagnostics import CirError, Collector
from cir.graph import NO_META, Const, Graph, Meta, Model, Node, Range, Source, TensorType
from cir.migrate import VERSION
from cir.values import WORDS, const_of_elements

#: Regions may nest this deep.
MAX_DEPTH = 32
_MAX_FINDINGS = 50

Findings = Sequence[tuple[str, str]]
Check = Callable[[Any], Findings]
_OK: Findings = ()


# -- structure -------------------------------------------------------------------------------------
def _text(pattern: str, what: str) -> Check:
    match = re.compile(pattern).fullmatch

    def check(v: Any) -> Findings:
        return _OK if type(v) is str and match(v) else [("", f"must be {what}")]

    return check


def _object(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    fields = {**required, **(optional or {})}

    def check(v: Any) -> Findings:
        if type(v) is not dict:
            return [("", "must be an object")]
        out: list[tuple[str, str]] = []
        for name in required:
            if name not in v:
                out.append(("", f"lacks the field {name!r}"))
        for name, x in v.items():
            field = fields.get(name)
            if field is None:
                known = ", ".join(sorted(fields))
                out.append(("", f"has an unknown field {name!r}; known: {known}"))
            elif found := field(x):
                out.extend((f".{name}{path}", what) for path, what in found)
        return out or _OK

    return check


def _array(item: Check, low: int = 0, high: int | None = None) -> Check:
    def check(v: Any) -> Findings:
        if type(v) is not list:
            return [("", "must be an array")]
        if len(v) < low or (high is not None and len(v) > high):
            return [("", f"must have {low} to {'any number of' if high is None else high} entries")]
        out: list[tuple[str, str]] = []
        for i, x in enumerate(v):
            if found := item(x):
                out.extend((f"[{i}]{path}", what) for path, what in found)
        return out or _OK

    return check


def _table(key: Check, item: Check) -> Check:
    def check(v: Any) -> Findings:
        if type(v) is not dict:
            return [("", "must be an object")]
        out: list[tuple[str, str]] = []
        for name, x in v.items():
            out.extend((f".{name}", f"name {what}") for _, what in key(name))
            out.extend((f".{name}{path}", what) for path, what in item(x))
        return out or _OK

    return check


def _size(v: Any) -> Findings:
    # JSON has one kind of number: 2.0 is the integer 2.
    if (type(v) is int or (type(v) is float and v.is_integer())) and v >= 0:
        return _OK
    return [("", "must be an integer >= 0")]


def _dim(v: Any) -> Findings:
    if type(v) is str and 0 < len(v) <= 1000:
        return _OK
    return [("", "must be an integer >= 0 or an expression")] if _size(v) else _OK


def _attr(v: Any) -> Findings:
    if v is None or type(v) in (bool, int, float, str):
        return _OK
    return _attrs(v) if type(v) is list else [("", "must be a plain value or an array")]


def _element(v: Any) -> Findings:
    if type(v) in (bool, int, float) or (type(v) is str and v in WORDS):
        return _OK
    return [("", f"must be a number, a bool, or one of {', '.join(WORDS)}")]


def _dtype(v: Any) -> Findings:
    if type(v) is str and v in dt.ALL:
        return _OK
    return [("", f"must be a dtype: {', '.join(dt.ALL)}")]


def _version(v: Any) -> Findings:
    return _OK if v == VERSION else [("", f"must be {VERSION!r}")]


def _anything(v: Any) -> Findings:
    return _OK


def _mapping(v: Any) -> Findings:
    return _OK if type(v) is dict else [("", "must be an object")]


def _const(v: Any) -> Findings:
    found = _const_fields(v)
    if not found and ("value" in v) == ("blob" in v):
        return [("", "must have either value or blob")]
    return found


def _node_meta(v: Any) -> Findings:
    # Unknown fields of metadata are permitted.
    known = {k: x for k, x in v.items() if k in ("src", "by")} if type(v) is dict else v
    return _meta_fields(known)


def _region(v: Any) -> Findings:
    return _graph(v)


def _null_or(check: Check) -> Check:
    return lambda v: _OK if v is None else check(v)


_attrs = _array(_attr)
_string = _text(r"(?s).*", "a string")
_name = _text(r"[A-Za-z_][A-Za-z0-9_./]*", "a name of letters, digits, _ . /")
_symbol = _text(r"[A-Za-z_][A-Za-z0-9_]*", "a symbol of letters, digits, _")
_value = _object({"name": _name, "dtype": _dtype, "shape": _array(_dim, high=32)})
_const_fields = _object(
    {"dtype": _dtype, "shape": _array(_size, high=32)},
    {
        "value": _array(_element, high=32),
        "blob": _text(r"sha256:[0-9a-f]{64}", '"sha256:" and 64 hex digits'),
    },
)
_meta_fields = _object({}, {"src": _array(_array(_string, 3, 3)), "by": _array(_string)})
_node = _object(
    {
        "op": _text(r"[a-z][a-z0-9_]*", "an op name"),
        "inputs": _array(_null_or(_name)),
        "outputs": _array(_value, low=1),
    },
    {"attrs": _table(_string, _attr), "regions": _array(_region), "meta": _node_meta},
)
_GRAPH_FIELDS = {
    "name": _string,
    "inputs": _array(_value),
    "consts": _table(_name, _const),
    "nodes": _array(_node),
    "outputs": _array(_name),
}
_graph = _object(_GRAPH_FIELDS)
_range = _object({"min": _size, "max": _null_or(_size), "sizes": _array(_size)})
_model = _object(
    {"cir": _version, **_GRAPH_FIELDS},
    {
        "symbols": _table(_symbol, _range),
        "state": _array(_array(_name, 2, 2)),
        "meta": _mapping,
    },
)


def check_structure(doc: Any) -> None:
    """Check a parsed document of the current version against the format's structure.

    Raises:
        CirError: E301 with all findings, at most 50.
    """
    problems = Collector()
    for path, what in _model(doc)[:_MAX_FINDINGS]:
        problems.add("E301", f"{path.lstrip('.') or 'the document'} {what}", where=path.lstrip("."))
    problems.raise_errors()


# -- meaning ---------------------------------------------------------------------------------------
#: Constant of a sha256 key and a type; raises CirError E305.
Blobs = Callable[[str, TensorType], Const]


def build_model(doc: Mapping[str, Any], blobs: Blobs) -> Model:
    """The model of a document whose structure was checked. Verification is a further step.

    Raises:
        CirError: E301 for constants whose elements do not fit their type or regions nested too
            deeply; E304 for dims and attributes that are not valid; E305 from ``blobs``.
    """
    work = _Build(blobs)
    graph = work.graph(doc, 0)
    symbols = {}
    for name, r in doc.get("symbols", {}).items():
        top = None if r["max"] is None else int(r["max"])
        symbols[name] = Range(int(r["min"]), top, tuple(int(n) for n in r["sizes"]))
    work.problems.raise_errors()
    state = tuple((a, b) for a, b in doc.get("state", ()))
    return Model(graph, symbols, state, doc.get("meta", {}))


class _Build:
    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self.problems = Collector()
        self._types: dict[Any, TensorType] = {}

    def graph(self, raw: Mapping[str, Any], depth: int) -> Graph:
        types = {v["name"]: self.type(v) for v in raw["inputs"]}
        inputs = tuple([v["name"] for v in raw["inputs"]])
        consts: dict[str, Const] = {}
        for name, c in raw["consts"].items():
            const = self.const(name, c)
            if const is not None:
                consts[name], types[name] = const, const.type
        nodes = tuple([self.node(n, types, depth) for n in raw["nodes"]])
        return Graph(raw["name"], inputs, tuple(raw["outputs"]), nodes, types, consts)

    def type(self, v: Mapping[str, Any]) -> TensorType:
        key = (v["dtype"], *v["shape"])
        if key not in self._types:
            shape: list[dims.Dim] = []
            for d in v["shape"]:
                try:
                    shape.append(dims.canonical(d))
                except dims.DimError as exc:
                    self.add("E304", f"dim of {v.get('name', 'a constant')!r}: {exc}", d)
                    shape.append(0)
            self._types[key] = TensorType(v["dtype"], tuple(shape))
        return self._types[key]

    def const(self, name: str, raw: Mapping[str, Any]) -> Const | None:
        t = self.type(raw)
        try:
            if "value" in raw:
                return const_of_elements(raw["value"], t)
            return self.blobs(raw["blob"].removeprefix("sha256:"), t)
        except (ValueError, OverflowError) as exc:
            self.add("E301", f"constant {name!r}: {exc}", name)
        except CirError as exc:
            for d in exc.diagnostics:
                self.add(d.code, f"constant {name!r}: {d.what}", d.where, fix=d.fix)
        return None

    def node(self, raw: Mapping[str, Any], types: dict[str, TensorType], depth: int) -> Node:
        outputs = tuple([v["name"] for v in raw["outputs"]])
        regions: tuple[Graph, ...] = ()
        if raw.get("regions"):
            if depth >= MAX_DEPTH:
                self.add("E301", f"regions nest deeper than {MAX_DEPTH}", outputs[0])
            else:
                regions = tuple(self.graph(r, depth + 1) for r in raw["regions"])
        inputs = tuple(raw["inputs"])
        attrs = self.attrs(raw["op"], inputs, raw.get("attrs", {}), types, outputs[0])
        for v in raw["outputs"]:
            types[v["name"]] = self.type(v)
        return Node(raw["op"], inputs, outputs, attrs, regions, _decode_meta(raw.get("meta")))

    def attrs(
        self,
        op: str,
        inputs: Sequence[str | None],
        given: Mapping[str, Any],
        types: Mapping[str, TensorType],
        where: str,
    ) -> dict[str, Any]:
        s = spec.find(op)
        first = types.get(inputs[0]) if inputs and inputs[0] is not None else None
        if s is None or (inputs and inputs[0] is not None and first is None):
            return {}  # verification names the unknown op or value
        try:
            return s.canonical_attrs(given, first.rank if first else 0)
        except (spec.InferError, ArithmeticError) as exc:
            self.add("E304", f"{op}: {exc}", where)
            return {}

    def add(self, code: str, what: str, where: Any, fix: str = "") -> None:
        if len(self.problems.items) < _MAX_FINDINGS:
            self.problems.add(code, what, where=str(where), fix=fix)


def _decode_meta(raw: Mapping[str, Any] | None) -> Meta:
    if not raw:
        return NO_META
    return Meta(tuple(Source(*s) for s in raw.get("src", ())), tuple(raw.get("by", ())))
