"""Matching one strategy at one node: all bindings, by backtracking, within a budget of steps."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cir import expr as ex
from cir.graph import Const, Node, TensorType
from fusion_db.kinds import Kind
from fusion_db.numbers import same_attr
from fusion_db.pattern import CONST, INPUT, Line, Op, Or, Pat, Ref, Var
from fusion_db.predicates import FUNCTIONS, Value
from fusion_db.strategy import Strategy
from fusion_db.work import Work

#: Node visits after which an attempt is given up.
BUDGET = 10_000


class _OutOfSteps(Exception):
    """The budget of an attempt is used up."""


@dataclass(frozen=True, eq=False)
class Binding:
    """One way a strategy matches.

    Attributes:
        values: name -> value name, None when absent, a tuple for ``*xs``.
        attrs: names of attributes and of axis sizes -> their values.
        nodes: the matched nodes, in graph order.
        roots: the values that the replacement defines anew.
    """

    values: Mapping[str, Any]
    attrs: Mapping[str, Any]
    nodes: tuple[Node, ...]
    roots: tuple[str, ...]
    _env: dict[str, Any] = field(default_factory=dict)

    def env(self, work: Work) -> dict[str, Any]:
        """What expressions see: attributes, sizes, and values with their types."""
        if not self._env:
            self._env.update(self.attrs)
            for name, v in self.values.items():
                self._env[name] = Value(v, work) if isinstance(v, str) else v
        return self._env


class Match:
    """A match in progress: bindings with an undo trail, visited nodes, and the nearest miss."""

    def __init__(self, strategy: Strategy, work: Work, *, budget: int = BUDGET, log: bool = False):
        self.strategy, self.work = strategy, work
        self.lines: Mapping[str, Line] = strategy.pattern.lines
        self.values: dict[str, Any] = {}
        self.attrs: dict[str, Any] = {}
        self.nodes: list[Node] = []
        self.deferred: list[tuple[ast.expr, Any]] = []
        self.left = budget
        self.log = log
        self.nearest: tuple[int, str] = (-1, "")
        self._trail: list[tuple[Any, Any]] = []

    # -- what pattern nodes use --------------------------------------------------------------------
    def mark(self) -> int:
        """The state to undo to."""
        return len(self._trail)

    def undo(self, mark: int) -> None:
        """Forget everything bound since the mark."""
        while len(self._trail) > mark:
            where, key = self._trail.pop()
            if key is None:
                where.pop()
            else:
                del where[key]

    def bind(self, name: str, value: Any) -> None:
        """Bind a value name."""
        self.values[name] = value
        self._trail.append((self.values, name))

    def bind_attr(self, name: str, value: Any) -> None:
        """Bind an attribute or size name."""
        self.attrs[name] = value
        self._trail.append((self.attrs, name))

    def bind_rest(self, name: str, values: tuple[str | None, ...]) -> bool:
        """Bind the operands of ``*name``, or compare with an earlier use."""
        if name in self.values:
            return bool(self.values[name] == values)
        self.bind(name, values)
        return True

    def visit(self, node: Node) -> None:
        """Count a node as part of the match."""
        self.nodes.append(node)
        self._trail.append((self.nodes, None))

    def defer(self, expr: ast.expr, value: Any) -> None:
        """Compare an attribute with an expression once all names are bound."""
        self.deferred.append((expr, value))
        self._trail.append((self.deferred, None))

    def step(self) -> None:
        """Spend one step of the budget."""
        self.left -= 1
        if self.left < 0:
            raise _OutOfSteps

    def miss(self, why: str, *details: object) -> None:
        """Note why an attempt failed, when it got further than the ones before."""
        if self.log and len(self.nodes) > self.nearest[0]:
            self.nearest = (len(self.nodes), why.format(*details))

    def miss_kind(self, name: str, kind: Kind, value: str | None) -> None:
        """Note that a value is not of the kind that an input asks for."""
        if self.log:
            shown = "absent" if value is None else f"{self.describe(value)}, {self.type_of(value)}"
            self.miss("{} is {}, which is not {}", name, shown, kind.text)

    def miss_op(self, op: str, value: str | None) -> None:
        """Note that another op computes a value."""
        if self.log:
            self.miss("{} is {}, not of {}", value, self.describe(value), op)

    def producer(self, value: str | None) -> Node | None:
        """The node that computes a value."""
        return self.work.producers.get(value) if value is not None else None

    def describe(self, value: str | None) -> str:
        """What a value is, for messages."""
        node = self.producer(value)
        if node is not None:
            return f"a result of {node.op}"
        return "absent" if value is None else CONST if value in self.work.consts else INPUT

    def type_of(self, value: str) -> TensorType:
        """Type of a value."""
        return self.work.types[value]

    def const(self, value: str) -> Const | None:
        """The constant of that name."""
        return self.work.consts.get(value)

    def is_const(self, value: str) -> bool:
        """Whether a value is computed from constants alone."""
        return self.work.is_const(value)

    # -- the search --------------------------------------------------------------------------------
    def run(self, root: str) -> Iterator[Binding]:
        """All accepted bindings with the first output at ``root``."""
        try:
            for _ in self._outputs(0, root):
                binding = self._accept()
                if binding is not None:
                    yield binding
        except _OutOfSteps:
            self.miss("the budget of steps is used up")

    def _outputs(self, k: int, value: str) -> Iterator[None]:
        outputs = self.strategy.pattern.outputs
        for _ in Ref(outputs[k]).match(self, value):
            if k + 1 == len(outputs):
                yield
                continue
            for candidate in self._candidates(outputs[k + 1]):
                yield from self._outputs(k + 1, candidate)

    def _candidates(self, name: str) -> list[str]:
        """Values that a further output may be: results of the users of what is bound already."""
        if name in self.values:  # another result of a node that is matched already
            return [self.values[name]]
        wanted = {h.spec.name for h in self.strategy.pattern.heads(name)}
        found: dict[str, None] = {}
        for operand in _operand_names(self.lines[name].pat, self.lines):
            bound = self.values.get(operand)
            if isinstance(bound, str):
                for user in self.work.users.get(bound, {}).values():
                    if user.op in wanted and all(user is not n for n in self.nodes):
                        found[user.outputs[0]] = None
        return list(found)

    def _accept(self) -> Binding | None:
        """The binding when everything that needs all names holds too."""
        s = self.strategy
        values: dict[str, Any] = dict.fromkeys([*s.inputs, *s.pattern.lines, *s.rests])
        values.update(self.values)
        mark = self.mark()
        for name in s.deferred_kinds:
            if not s.inputs[name].accepts(self, values[name]):
                self.miss_kind(name, s.inputs[name], values[name])
                self.undo(mark)
                return None
        attrs: dict[str, Any] = dict.fromkeys(s.attr_names)
        attrs.update(self.attrs)
        self.undo(mark)
        nodes = {n.name: n for n in self.nodes}
        order = sorted(nodes.values(), key=lambda n: self.work.slot[n.name])
        roots = tuple(values[o] for o in s.pattern.outputs)
        binding = Binding(values, attrs, tuple(order), roots)
        if not self._closed(binding, nodes):
            return None
        env = binding.env(self.work)
        for expr, value in self.deferred:
            if not same_attr(self._evaluate(expr, env), value):
                self.miss("an attribute is {}, not {}", value, _text(self, expr))
                return None
        for expr in s.where:
            if self._evaluate(expr, env) is not True:
                self.miss("{} does not hold", _text(self, expr))
                return None
        return binding

    @staticmethod
    def _evaluate(expr: ast.expr, env: Mapping[str, Any]) -> Any:
        try:
            return ex.evaluate(expr, env, FUNCTIONS)
        except ex.ExprError:
            return None  # an unknown never matches

    def _closed(self, binding: Binding, nodes: Mapping[str, Node]) -> bool:
        """No interior value is read outside the match or leaves the graph."""
        free = {*binding.roots, *(binding.values[k] for k in self.strategy.pattern.keep)}
        for node in nodes.values():
            if any(o in free for o in node.outputs):
                continue
            for out in node.outputs:
                if out in self.work.is_output:
                    self.miss("interior value {} is a graph output", out)
                    return False
                for user in self.work.users.get(out, ()):
                    if user not in nodes:
                        self.miss("interior value {} is also read by {}", out, user)
                        return False
        return True


def _text(m: Match, expr: ast.expr) -> str:
    return ast.unparse(expr) if m.log else ""


def _operand_names(pat: Pat, lines: Mapping[str, Line]) -> Iterator[str]:
    match pat:
        case Op():
            for a in pat.args:
                if isinstance(a, (Var, Ref)):
                    yield a.name
        case Or():
            for o in pat.options:
                yield from _operand_names(o, lines)
        case Ref():
            yield from _operand_names(lines[pat.name].pat, lines)


def matches(
    strategy: Strategy, work: Work, root: str, *, budget: int = BUDGET
) -> Iterator[Binding]:
    """Ways a strategy matches with its (first) output at value ``root``, best alternative first."""
    return Match(strategy, work, budget=budget).run(root)
