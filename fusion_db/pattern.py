"""Pattern nodes: a strategy's ``match`` lines, compiled to objects that match by backtracking.

Each node's ``match(m, value)`` is a generator: it binds names in ``m``, yields once for each way
the value fits, and undoes its bindings when resumed. ``value`` is a value name, or None when
absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cir.graph import Node
from cir.spec import OpSpec
from fusion_db.attributes import AttrPat
from fusion_db.kinds import Kind
from fusion_db.numbers import close, same_attr

if TYPE_CHECKING:
    from fusion_db.matcher import Match

#: Longest chain that ``many`` takes.
MANY = 8
#: Suffix of the names that ``chain`` makes; no value name of a strategy ends so.
CHAIN = "()"
#: Producer classes of values that no node computes.
CONST, INPUT = "const", "input"


def chain(line: str) -> str:
    """Name under which a match keeps the nodes that ``many`` took in a line, innermost first."""
    return line + CHAIN


class Pat:
    """A pattern of one value."""

    #: How early an operand is tried: what fails cheaply goes first.
    rank = 1

    def match(self, m: Match, value: str | None) -> Iterator[None]:
        """Yield for each way the value fits."""
        raise NotImplementedError

    def producers(self, lines: Mapping[str, Line]) -> frozenset[str] | None:
        """Ops that may compute a fitting value; None for any."""
        return None


@dataclass(eq=False)
class Wild(Pat):
    """``_``: anything, bound to nothing."""

    rank = 3

    def match(self, m: Match, value: str | None) -> Iterator[None]:  # noqa: D102
        yield


@dataclass(eq=False)
class Var(Pat):
    """An input of the strategy; its kind is checked when it is bound."""

    name: str
    kind: Kind
    rank = 2

    def match(self, m: Match, value: str | None) -> Iterator[None]:  # noqa: D102
        if self.name in m.values:
            if m.values[self.name] == value:
                yield
            else:
                m.miss("{} is {} elsewhere, here {}", self.name, m.values[self.name], value)
            return
        mark = m.mark()
        if self.kind.accepts(m, value):
            m.bind(self.name, value)
            yield
        else:
            m.miss_kind(self.name, self.kind, value)
        m.undo(mark)

    def producers(self, lines: Mapping[str, Line]) -> frozenset[str] | None:  # noqa: D102
        return frozenset((CONST,)) if self.kind.scalar else None


@dataclass(eq=False)
class Lit(Pat):
    """A number: a constant of one element and about this value; or None, an absent operand."""

    value: Any
    rtol: float
    rank = 0

    def match(self, m: Match, value: str | None) -> Iterator[None]:  # noqa: D102
        if self.value is None or value is None:
            if self.value is None and value is None:
                yield
            return
        c = m.const(value)
        if c is None or not c.is_scalar:
            m.miss("{} is not the constant {}", value, self.value)
        elif close(c.numpy().reshape(()).item(), self.value, c.type.dtype, self.rtol):
            yield
        else:
            m.miss("{} is {}, not {}", value, c.numpy().reshape(()), self.value)

    def producers(self, lines: Mapping[str, Line]) -> frozenset[str] | None:  # noqa: D102
        return frozenset((CONST,))


@dataclass(eq=False)
class Ref(Pat):
    """A name that has a line: the value that the line describes."""

    name: str

    def match(self, m: Match, value: str | None) -> Iterator[None]:  # noqa: D102
        if self.name in m.values:
            if m.values[self.name] == value:
                yield
            return
        if value is None:
            return
        line = m.lines[self.name]
        mark = m.mark()
        if len(line.targets) == 1:
            m.bind(self.name, value)
        elif not self._bind_results(m, line, value):
            return
        for _ in line.pat.match(m, m.values[line.targets[0]]):
            yield
        m.undo(mark)

    def _bind_results(self, m: Match, line: Line, value: str) -> bool:
        node = m.producer(value)
        if node is None or len(node.outputs) != len(line.targets):
            return False
        if node.outputs[line.targets.index(self.name)] != value:
            return False
        if any(t in m.values for t in line.targets):
            return False
        for target, out in zip(line.targets, node.outputs):
            m.bind(target, out)
        return True

    def producers(self, lines: Mapping[str, Line]) -> frozenset[str] | None:  # noqa: D102
        return lines[self.name].pat.producers(lines)


@dataclass(eq=False)
class Or(Pat):
    """Alternatives, tried in the order written."""

    options: tuple[Pat, ...]

    def match(self, m: Match, value: str | None) -> Iterator[None]:  # noqa: D102
        for option in self.options:
            yield from option.match(m, value)

    def producers(self, lines: Mapping[str, Line]) -> frozenset[str] | None:  # noqa: D102
        found: set[str] = set()
        for option in self.options:
            ops = option.producers(lines)
            if ops is None:
                return None
            found |= ops
        return frozenset(found)


@dataclass(eq=False)
class Many(Pat):
    """``many(a|b, x)``: up to eight one-operand nodes on top of x, longest chain first.

    ``line`` is the line it stands in; ``again(line, z)`` in replace puts the same nodes on z.
    """

    ops: frozenset[str]
    arg: Pat
    line: str

    def match(self, m: Match, value: str | None) -> Iterator[None]:  # noqa: D102
        yield from self._chain(m, value, ())

    def _chain(self, m: Match, value: str | None, nodes: tuple[Node, ...]) -> Iterator[None]:
        node = m.producer(value)
        mark = m.mark()
        if len(nodes) < MANY and node is not None and node.op in self.ops and len(node.inputs) == 1:
            m.visit(node)
            yield from self._chain(m, node.inputs[0], (node, *nodes))
            m.undo(mark)
        m.bind(chain(self.line), nodes)
        yield from self.arg.match(m, value)
        m.undo(mark)

    def producers(self, lines: Mapping[str, Line]) -> frozenset[str] | None:  # noqa: D102
        inner = self.arg.producers(lines)
        return None if inner is None else inner | self.ops


@dataclass(eq=False)
class Op(Pat):
    """An op application. ``rest`` names the tuple of a variadic op's remaining operands."""

    spec: OpSpec
    args: tuple[Pat, ...]
    attrs: tuple[tuple[str, AttrPat], ...]
    defaults: tuple[tuple[str, Any], ...]
    rest: str | None = None

    def __post_init__(self) -> None:
        self.order = tuple(sorted(range(len(self.args)), key=lambda i: (self.args[i].rank, i)))
        self.scalars = tuple(
            i
            for i, a in enumerate(self.args)
            if (isinstance(a, Lit) and a.value is not None)
            or (isinstance(a, Var) and a.kind.scalar)
        )

    def match(self, m: Match, value: str | None) -> Iterator[None]:  # noqa: D102
        node = m.producer(value)
        if node is None or node.op != self.spec.name or node.outputs[0] != value:
            m.miss_op(self.spec.name, value)
            return
        m.step()
        mark = m.mark()
        m.visit(node)
        if self._attrs(m, node):
            for inputs in self._operands(m, node):
                yield from self._args(m, inputs, 0)
        m.undo(mark)

    def _attrs(self, m: Match, node: Node) -> bool:
        for name, default in self.defaults:
            if not same_attr(node.attrs[name], default):
                m.miss("{}: {} is {}, not {}", node.op, name, node.attrs[name], default)
                return False
        for name, pat in self.attrs:
            if not pat.match(m, node.attrs[name]):
                m.miss("{}: {} is {}", node.op, name, node.attrs[name])
                return False
        return True

    def _operands(self, m: Match, node: Node) -> Iterator[Sequence[str | None]]:
        inputs: tuple[str | None, ...] = node.inputs
        n = len(self.args)
        if self.rest is not None:
            if len(inputs) < n:
                return
            if self.rest != "_" and not m.bind_rest(self.rest, inputs[n:]):
                return
            inputs = inputs[:n]
        elif len(inputs) < n:
            inputs = inputs + (None,) * (n - len(inputs))
        elif any(i is not None for i in inputs[n:]):
            m.miss("{} has more operands than the pattern", node.op)
            return
        if all(self._keeps_rank(m, inputs, i) for i in self.scalars):
            yield inputs
        if self.spec.commutative and inputs[0] != inputs[1]:
            swapped = (inputs[1], inputs[0])
            if all(self._keeps_rank(m, swapped, i) for i in self.scalars):
                yield swapped

    @staticmethod
    def _keeps_rank(m: Match, inputs: Sequence[str | None], i: int) -> bool:
        """A scalar operand must not give the result a rank that the others do not give it."""
        value = inputs[i]
        if value is None:
            return True
        rank = m.type_of(value).rank
        others = (v for k, v in enumerate(inputs) if k != i and v is not None)
        return not rank or rank <= max((m.type_of(v).rank for v in others), default=0)

    def _args(self, m: Match, inputs: Sequence[str | None], k: int) -> Iterator[None]:
        if k == len(self.order):
            yield
            return
        i = self.order[k]
        for _ in self.args[i].match(m, inputs[i]):
            yield from self._args(m, inputs, k + 1)

    def producers(self, lines: Mapping[str, Line]) -> frozenset[str] | None:  # noqa: D102
        return frozenset((self.spec.name,))


@dataclass(frozen=True, eq=False)
class Line:
    """``targets = pat``; several targets name the results of one node."""

    targets: tuple[str, ...]
    pat: Pat


@dataclass(frozen=True, eq=False)
class Head:
    """What a root must look like: its op and, for each operand, the ops that may compute it."""

    spec: OpSpec
    operands: tuple[frozenset[str] | None, ...]
    variadic: bool

    def admits(self, producers: Sequence[str]) -> bool:
        """Whether operands computed by these ops could fit."""

        def fits(order: Sequence[str]) -> bool:
            return all(
                want is None or k >= len(order) or order[k] in want
                for k, want in enumerate(self.operands)
            )

        if self.variadic:
            return True
        return fits(producers) or (self.spec.commutative and fits(producers[::-1]))


@dataclass(frozen=True, eq=False)
class Pattern:
    """All lines of a strategy. ``outputs`` are the names that the replacement defines anew."""

    lines: Mapping[str, Line]
    outputs: tuple[str, ...]
    keep: frozenset[str] = frozenset()

    def heads(self, name: str) -> list[Head]:
        """What the value of a line may look like at its root."""
        return list(self._heads(self.lines[name].pat))

    def _heads(self, pat: Pat) -> Iterator[Head]:
        match pat:
            case Op():
                operands = tuple(a.producers(self.lines) for a in pat.args)
                yield Head(pat.spec, operands, pat.rest is not None)
            case Or():
                for option in pat.options:
                    yield from self._heads(option)
            case Ref():
                yield from self._heads(self.lines[pat.name].pat)
            case _:
                raise ValueError("the root must be an op")

    def walk(self) -> Iterator[Pat]:
        """Every pattern node, line by line."""
        seen: set[int] = set()
        for line in self.lines.values():
            if id(line.pat) not in seen:
                seen.add(id(line.pat))
                yield from _walk(line.pat)

    def size(self) -> int:
        """Ops of the largest alternative: larger patterns are tried first."""
        return sum(_size(line.pat) for line in dict.fromkeys(self.lines.values()))


def _walk(pat: Pat) -> Iterator[Pat]:
    yield pat
    match pat:
        case Op():
            for a in pat.args:
                yield from _walk(a)
        case Or():
            for o in pat.options:
                yield from _walk(o)
        case Many():
            yield from _walk(pat.arg)


def _size(pat: Pat) -> int:
    match pat:
        case Op():
            return 1 + sum(_size(a) for a in pat.args)
        case Or():
            return max(_size(o) for o in pat.options)
        case Many():
            return _size(pat.arg)
    return 0
