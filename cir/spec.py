"""OpSpec: one place per op. Signature, inference, numpy reference, layout trait, decomposition.

    @op("softmax(x; axis: axis = -1)", domain="float", infer=same_as(0), layout="axis")
    def softmax(x, *, axis): ...          # the body is the reference, float64-capable numpy

Signature grammar: tensor inputs before ``;`` (``x?`` optional, ``*xs`` variadic), typed attributes
with defaults after it, results after ``->`` (default one; ``*ys`` when attributes set their
number). Attribute kinds: ``int float bool str dtype ints floats dims dim axis axes`` and
``float?`` (may be None).
``axis`` and ``axes`` count from the end of the first input (negative) in canonical form; ``axes``
is sorted. ``dims`` are ints or symbolic expressions.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from cir import dim as dims
from cir import dtype as dt
from cir.graph import Attr, Graph, TensorType


class InferError(ValueError):
    """Inputs or attributes that an op does not take; the message says why."""


class InferContext(Protocol):
    """What inference may ask beyond types and attributes."""

    def fresh(self) -> str:
        """A new symbol for a data-dependent dim."""

    def value(self, index: int) -> np.ndarray | None:
        """Known value of input ``index``: numbers, or SymInt objects for shape arithmetic."""

    @property
    def regions(self) -> Sequence[Graph]:
        """Regions of the node."""


Infer = Callable[[Sequence[TensorType | None], Mapping[str, Any], InferContext], list[TensorType]]
#: A decomposition that statements cannot say: (builder, inputs, canonical attributes, wanted name)
#: -> names of the results. It emits into the builder.
Expansion = Callable[[Any, Sequence["str | None"], Mapping[str, Any], str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Param:
    """One tensor input of a signature."""

    name: str
    optional: bool = False
    variadic: bool = False


@dataclass(frozen=True, slots=True)
class AttrSpec:
    """One attribute of a signature."""

    name: str
    kind: str
    default: Any = None
    required: bool = True
    nullable: bool = False

    def coerce(self, value: Any, rank: int) -> Attr | None:
        """The canonical value. Raises InferError when the value is not of this kind."""
        if value is None:
            if self.nullable:
                return None
            raise InferError(f"attribute {self.name!r} must not be None")
        try:
            return _COERCE[self.kind](value, rank)
        except (TypeError, ValueError) as exc:
            msg = f"attribute {self.name!r} is {value!r}: not a valid {self.kind} ({exc})"
            raise InferError(msg) from exc


def _int(v: Any, _: int) -> int:
    if isinstance(v, (bool, str)) or int(v) != v:
        raise ValueError("not an integer")
    return int(v)


def _axis(v: Any, rank: int) -> int:
    v = _int(v, rank)
    if not -rank <= v < rank:
        raise ValueError(f"out of range for rank {rank}")
    return v - rank if v >= 0 else v


def _axes(v: Any, rank: int) -> tuple[int, ...]:
    seq = [v] if isinstance(v, (int, np.integer)) else list(v)
    out = sorted(_axis(a, rank) for a in seq)
    if len(set(out)) != len(out):
        raise ValueError("an axis is listed twice")
    return tuple(out)


def _dim(v: Any, _: int) -> dims.Dim:
    if isinstance(v, dims.SymInt):
        return v.dim
    return dims.canonical(v) if isinstance(v, str) else _int(v, 0)


def _dims(v: Any, rank: int) -> tuple[dims.Dim, ...]:
    if isinstance(v, str):
        raise ValueError("one dim instead of a sequence")
    return tuple(_dim(x, rank) for x in v)


def _bool(v: Any, _: int) -> bool:
    if v not in (True, False):
        raise ValueError("not a bool")
    return bool(v)


def _float(v: Any, _: int) -> float:
    if isinstance(v, str) and v not in ("inf", "-inf", "nan"):
        raise ValueError("not a number")
    return float(v)


def _str(v: Any, _: int) -> str:
    if not isinstance(v, str):
        raise ValueError("not a string")
    return v


def _dtype(v: Any, _: int) -> str:
    if v not in dt.ALL:
        raise ValueError(f"known dtypes: {', '.join(dt.ALL)}")
    return str(v)


_COERCE: dict[str, Callable[[Any, int], Any]] = {
    "int": _int,
    "float": _float,
    "bool": _bool,
    "str": _str,
    "dtype": _dtype,
    "dim": _dim,
    "axis": _axis,
    "axes": _axes,
    "ints": lambda v, r: tuple(_int(x, r) for x in v),
    "floats": lambda v, r: tuple(_float(x, r) for x in v),
    "dims": _dims,
}


@dataclass(frozen=True)
class OpSpec:
    """Everything the IR knows about one op."""

    name: str
    inputs: tuple[Param, ...]
    attrs: tuple[AttrSpec, ...]
    outputs: tuple[str, ...]
    variadic_outputs: bool
    reference: Callable[..., Any]
    infer: Infer
    domain: Mapping[str, str]
    layout: str = "opaque"
    commutative: bool = False
    decomposition: tuple[str, ...] = ()
    expansion: Expansion | None = None
    regions: tuple[str, ...] = ()
    samples: tuple[Mapping[str, Any], ...] = ()
    signature: str = ""
    doc: str = ""
    attr_map: Mapping[str, AttrSpec] = field(default_factory=dict)

    @property
    def is_composite(self) -> bool:
        """True when the op is defined by other ops."""
        return bool(self.decomposition) or self.expansion is not None

    @property
    def is_elementwise(self) -> bool:
        """True when each output element depends on the broadcast input elements at its place."""
        return self.layout == "elementwise"

    def arity(self, n: int) -> bool:
        """Whether n inputs (absent optional ones counted) fit the signature."""
        if any(p.variadic for p in self.inputs):
            return n >= len(self.inputs) - 1
        return sum(not p.optional for p in self.inputs) <= n <= len(self.inputs)

    def param(self, index: int) -> Param:
        """The parameter that input ``index`` binds to."""
        return self.inputs[min(index, len(self.inputs) - 1)]

    def canonical_attrs(self, given: Mapping[str, Any], rank: int) -> dict[str, Any]:
        """All attributes, defaults filled, values coerced; ``rank`` is that of the first input.

        Raises InferError for an unknown, missing or ill-typed attribute.
        """
        unknown = given.keys() - self.attr_map.keys()
        if unknown:
            known = ", ".join(a.name for a in self.attrs) or "none"
            wrong = sorted(unknown)[0]
            raise InferError(f"{self.name} has no attribute {wrong!r}; it has: {known}")
        out: dict[str, Any] = {}
        for spec in self.attrs:
            if spec.name in given:
                out[spec.name] = spec.coerce(given[spec.name], rank)
            elif spec.required:
                raise InferError(f"{self.name} needs attribute {spec.name!r}")
            elif spec.default is None:
                out[spec.name] = None
            else:
                out[spec.name] = spec.coerce(spec.default, rank)
        return out


_REGISTRY: dict[str, OpSpec] = {}


def op(
    signature: str,
    *,
    infer: Infer,
    domain: str | Mapping[str, str] = "any",
    layout: str = "opaque",
    commutative: bool = False,
    decomposition: str | Sequence[str] | Expansion = (),
    regions: Sequence[str] = (),
    samples: Sequence[Mapping[str, Any]] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register an op; the decorated function is its numpy reference.

    Args:
        signature: see the module docstring.
        infer: (input types, canonical attributes, context) -> output types; raises InferError.
        domain: dtype class (``cir.dtype.CLASSES`` or a dtype) of all inputs, or by input name.
        layout: ``elementwise`` | ``axis`` (attributes of kind axis/axes move with the data, the
            rank stays) | ``per_axis:ATTR`` (ATTR holds k entries for each axis, in k runs) |
            ``view`` | ``opaque``.
        commutative: the two inputs may be swapped.
        decomposition: statements over the signature's names; the last one's target is the result.
            What needs a loop is a function (see ``Expansion``).
        regions: names of the op's regions.
        samples: ``{"inputs": ["float32[2,3]", ...], attr: value, ...}``: the op's own tests.
    """

    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        name, inputs, attrs, outputs, variadic = parse_signature(signature)
        if name in _REGISTRY:
            raise ValueError(f"op {name!r} is registered twice")
        expansion = decomposition if callable(decomposition) else None
        given = () if callable(decomposition) else decomposition
        lines = (given,) if isinstance(given, str) else tuple(given)
        by_name = domain if not isinstance(domain, str) else {p.name: domain for p in inputs}
        _REGISTRY[name] = OpSpec(
            name=name,
            inputs=inputs,
            attrs=attrs,
            outputs=outputs,
            variadic_outputs=variadic,
            reference=fn,
            infer=infer,
            domain=by_name,
            layout=layout,
            commutative=commutative,
            decomposition=lines,
            expansion=expansion,
            regions=tuple(regions),
            samples=tuple(samples),
            signature=signature,
            doc=(fn.__doc__ or "").strip(),
            attr_map={a.name: a for a in attrs},
        )
        return fn

    return register


def parse_signature(
    signature: str,
) -> tuple[str, tuple[Param, ...], tuple[AttrSpec, ...], tuple[str, ...], bool]:
    """Split a signature into (name, inputs, attributes, output names, variadic outputs?)."""
    head, _, result = signature.partition("->")
    name, _, rest = head.strip().partition("(")
    rest = rest.rstrip()
    if not rest.endswith(")"):
        raise ValueError(f"bad signature {signature!r}")
    tensors, _, attr_text = rest[:-1].partition(";")
    params = []
    for item in filter(None, (t.strip() for t in tensors.split(","))):
        params.append(Param(item.strip("*?"), item.endswith("?"), item.startswith("*")))
    attrs = []
    if attr_text.strip():
        args = ast.parse(f"def f(*, {attr_text.replace('?', '_nullable')}): 0").body[0].args  # type: ignore[attr-defined]
        for arg, default in zip(args.kwonlyargs, args.kw_defaults):
            kind = arg.annotation.id
            nullable = kind.endswith("_nullable")
            value = None if default is None else ast.literal_eval(default)
            kind = kind.removesuffix("_nullable")
            if kind not in _COERCE:
                raise ValueError(f"unknown attribute kind {kind!r} in {signature!r}")
            attrs.append(AttrSpec(arg.arg, kind, value, default is None, nullable))
    outs = tuple(o.strip() for o in result.split(",")) if result.strip() else ("y",)
    variadic = outs[0].startswith("*")
    return name.strip(), tuple(params), tuple(attrs), tuple(o.strip("*") for o in outs), variadic


def get(name: str) -> OpSpec:
    """The spec of an op. Raises KeyError when there is none."""
    _load()
    return _REGISTRY[name]


def find(name: str) -> OpSpec | None:
    """The spec of an op, or None."""
    _load()
    return _REGISTRY.get(name)


def all_ops() -> dict[str, OpSpec]:
    """Name -> spec, sorted by name."""
    _load()
    return dict(sorted(_REGISTRY.items()))


def _load() -> None:
    import cir.ops  # noqa: F401  (registers all families)
