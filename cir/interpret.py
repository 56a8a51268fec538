"""The reference interpreter: runs a graph with each op's numpy reference, in float64 by default.

It is the judge of strategies, of targets and of the precision report, not a way to serve a model.
Values are freed after their last use, and constants are read when a node needs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cir import dim as dims
from cir import dtype as dt
from cir import spec
from cir.diagnostics import CirError, Collector, error
from cir.graph import Const, Graph, Model, Node, Range, TensorType

Env = dict[str, int]
Values = dict[str, np.ndarray]

#: Converted constants up to this many elements are kept until their last use, larger ones only for
#: the node at hand: a float64 copy of all weights would not fit.
_KEEP_CONVERTED = 1 << 16
_STORAGE_CASTS = ("float16", "bfloat16")


def run(
    model: Graph | Model,
    feeds: Mapping[str, Any] | Sequence[Any],
    *,
    compute: str | None = "float64",
    watch: Iterable[str] = (),
) -> Values:
    """Compute the outputs of a graph.

    Args:
        model: the graph, or a model, whose symbol ranges are then checked too.
        feeds: arrays by input name, or in the order of the inputs. An array must have the input's
            dtype (any width of float for a float input); plain numbers and lists are converted.
        compute: ``"float64"`` or ``"float32"`` runs all floating arithmetic in that dtype,
            whatever the graph says, save that casts to float16 and bfloat16 still round. None
            keeps the dtypes as written.
        watch: further values to return. One inside a region is the region's last run's.

    Returns:
        Value name -> array: outputs in order, then watched values.

    Raises:
        CirError: E103 for wrong feeds; E303 for a watched name that does not exist; E304 when an
            op's reference refuses its operands or gives another shape than declared.
    """
    graph, ranges = (model.graph, model.symbols) if isinstance(model, Model) else (model, {})
    if compute not in (None, "float32", "float64"):
        raise error("E100", f"compute is {compute!r}", fix='use "float64", "float32" or None')
    wanted = tuple(watch)
    known = {n for g in _graphs(graph) for n in g.types}
    for name in wanted:
        if name not in known:
            raise error("E303", f"there is no value {name!r} to watch", where=graph.name)
    values = _named(graph, feeds)
    env: Env = {}
    args = _check_feeds(graph, values, ranges, env)
    runner = _Runner(compute, frozenset(wanted))
    with np.errstate(all="ignore"):
        outputs = runner.graph(graph, args, env)
    out = dict(zip(graph.outputs, outputs))
    out.update((name, runner.watched[name]) for name in wanted if name in runner.watched)
    return out


def bind_symbols(
    declared: Sequence[dims.Dim], actual: Sequence[int], env: Env, *, rebind: bool = False
) -> str:
    """Bind the symbols of a declared shape to an actual one.

    Args:
        declared: dims of a type.
        actual: sizes of an array.
        env: symbol -> size; extended in place. A dim such as ``2*n + 1`` binds ``n`` when it is the
            only unknown and occurs linearly.
        rebind: a dim that is one symbol takes the new size whatever it was bound to before.

    Returns:
        What does not fit, "" when all does.
    """
    if len(declared) != len(actual):
        return f"rank {len(actual)} instead of {len(declared)}"
    for axis, (d, n) in enumerate(zip(declared, actual)):
        if type(d) is int:
            if d != n:
                return f"axis {axis} has size {n} instead of {d}"
            continue
        if d in env and not rebind:
            have = env[d]
        elif str(d).isidentifier():
            env[str(d)] = n
            continue
        else:
            unknown = sorted(dims.symbols_of(d) - env.keys())
            if len(unknown) == 1:
                _solve(d, n, unknown[0], env)
            if dims.symbols_of(d) - env.keys():
                continue
            have = dims.evaluate(d, env)
        if have != n:
            return f"axis {axis} has size {n} instead of {d} = {have}"
    return ""


def _solve(d: dims.Dim, n: int, name: str, env: Env) -> None:
    """Bind the one unknown of a dim that is linear in it."""

    def at(x: int) -> int | None:
        try:
            return dims.evaluate(d, {**env, name: x})
        except dims.DimError:
            return None

    zero, one, many = at(0), at(1), at(1000)
    if zero is None or one is None or many is None or one == zero:
        return
    step = one - zero
    if many == zero + 1000 * step and (n - zero) % step == 0 and (n - zero) // step >= 0:
        env[name] = (n - zero) // step


def _graphs(graph: Graph) -> Iterable[Graph]:
    yield graph
    for node in graph.nodes:
        for region in node.regions:
            yield from _graphs(region)


# -- feeds -----------------------------------------------------------------------------------------
def _named(graph: Graph, feeds: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    if isinstance(feeds, Mapping):
        return dict(feeds)
    if len(feeds) != len(graph.inputs):
        raise error(
            "E103",
            f"{len(feeds)} values are given, {graph.name} has {len(graph.inputs)} inputs",
            fix=f"give {', '.join(graph.inputs) or 'none'}",
        )
    return dict(zip(graph.inputs, feeds))


def _check_feeds(
    graph: Graph, feeds: dict[str, Any], ranges: Mapping[str, Range], env: Env
) -> list[np.ndarray]:
    problems = Collector()
    for name in feeds:
        if name not in graph.inputs:
            problems.add(
                "E103", f"{name!r} is not an input", fix=f"inputs: {', '.join(graph.inputs)}"
            )
    args: list[np.ndarray] = []
    for name in graph.inputs:
        if name not in feeds:
            problems.add("E103", f"input {name!r} is missing", where=f"{name}: {graph.types[name]}")
            continue
        try:
            args.append(_as_array(feeds[name], graph.types[name]))
        except (TypeError, ValueError) as exc:
            problems.add("E103", f"input {name!r} {exc}", where=f"{name}: {graph.types[name]}")
    problems.raise_errors()
    for _ in range(2):  # the second round sees symbols that later inputs bind
        for name, arg in zip(graph.inputs, args):
            if wrong := bind_symbols(graph.types[name].shape, arg.shape, env):
                problems.add(
                    "E103", f"input {name!r} has {wrong}", where=f"{name}: {graph.types[name]}"
                )
    for symbol, r in ranges.items():
        n = env.get(symbol, r.min)
        if n < r.min or (r.max is not None and n > r.max):
            problems.add("E103", f"symbol {symbol!r} is {n}, must be {r.min} to {r.max or 'any'}")
    problems.raise_errors()
    return args


def _as_array(value: Any, t: TensorType) -> np.ndarray:
    want = dt.to_numpy(t.dtype)
    if not isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value, dtype=want)
    arr = np.asarray(value)
    if arr.dtype == want or (dt.is_float(t.dtype) and arr.dtype.name in dt.FLOATS):
        return arr
    raise TypeError(f"has dtype {arr.dtype.name} instead of {t.dtype}")


# -- execution -------------------------------------------------------------------------------------
class _Runner:
    """One run: the compute dtype and what is watched."""

    def __init__(self, compute: str | None, watch: frozenset[str]) -> None:
        self.compute = None if compute is None else np.dtype(compute)
        self.watch = watch
        self.watched: Values = {}

    def graph(
        self, g: Graph, args: Sequence[np.ndarray], env: Env, *, rebind: bool = False
    ) -> list[np.ndarray]:
        """Outputs of a graph or region. ``env`` is extended with the symbols it binds."""
        values: Values = {}
        for name, arg in zip(g.inputs, args):
            if wrong := bind_symbols(g.types[name].shape, arg.shape, env, rebind=rebind):
                raise error("E304", f"{g.name}: operand {name!r} has {wrong}", where=name)
            values[name] = self._widen(arg, g.types[name].dtype)
        last = _last_uses(g)
        for name in (*g.inputs, *g.consts):
            if name in self.watch:
                self.watched[name] = values[name] if name in values else self._const(g.consts[name])
        for i, node in enumerate(g.nodes):
            operands = [None if n is None else self._read(g, n, values) for n in node.inputs]
            results = self.node(node, operands, env)
            del operands
            for name, y in zip(node.outputs, results):
                t = g.types[name]
                if wrong := bind_symbols(t.shape, y.shape, env):
                    raise error("E304", f"{node.op}: result {name!r} has {wrong}", where=str(t))
                values[name] = y
                if name in self.watch:
                    self.watched[name] = y
            for done in (*node.inputs, *node.outputs):
                if done is not None and last.get(done, -1) <= i:
                    values.pop(done, None)
        return [self._read(g, name, values) for name in g.outputs]

    def _read(self, g: Graph, name: str, values: Values) -> np.ndarray:
        if name in values:
            return values[name]
        c = g.consts[name]
        value = self._const(c)
        if c.size <= _KEEP_CONVERTED:
            values[name] = value
        return value

    def _const(self, c: Const) -> np.ndarray:
        return self._widen(c.numpy(), c.type.dtype)

    def _widen(self, x: np.ndarray, dtype: str) -> np.ndarray:
        """A value as arithmetic takes it."""
        if not dt.is_float(dtype):
            return x
        want = self.compute if self.compute is not None else dt.to_numpy(dtype)
        return x if x.dtype == want else x.astype(want)

    def node(self, node: Node, operands: list[np.ndarray | None], env: Env) -> Sequence[np.ndarray]:
        """Results of one node."""
        match node.op:
            case "cond":
                taken = node.regions[0 if bool(operands[0]) else 1]
                return self._region(taken, operands[1:], env)
            case "while_loop":
                carried = int(str(node.attrs["carried"]))
                state, rest = operands[:carried], operands[carried:]
                while bool(self._region(node.regions[0], [*state, *rest], env)[0]):
                    state = list(self._region(node.regions[1], [*state, *rest], env))
                return state  # type: ignore[return-value]
        s = spec.get(node.op)
        if not any(p.variadic for p in s.inputs):
            operands = operands + [None] * (len(s.inputs) - len(operands))
        try:
            if node.op == "cast":
                return [self._cast(operands[0], str(node.attrs["dtype"]))]
            result = s.reference(*operands, **_attrs(s, node, env))
        except (CirError, MemoryError):
            raise
        except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as exc:
            shown = ", ".join(
                "None" if x is None else f"{x.dtype}{list(x.shape)}" for x in operands
            )
            raise error(
                "E304", f"{node.op} does not run: {exc}", where=node.name, why=f"operands: {shown}"
            ) from exc
        results = result if isinstance(result, (tuple, list)) else (result,)
        return [np.asarray(y) for y in results]

    def _region(
        self, region: Graph, args: Sequence[np.ndarray | None], env: Env
    ) -> list[np.ndarray]:
        # A symbol that a region makes is new in each run, so each run has its own copy.
        return self.graph(region, [a for a in args if a is not None], dict(env), rebind=True)

    def _cast(self, x: np.ndarray | None, dtype: str) -> np.ndarray:
        assert x is not None
        if self.compute is None or not dt.is_float(dtype):
            return np.asarray(spec.get("cast").reference(x, dtype=dtype))
        if dtype in _STORAGE_CASTS:
            x = x.astype(dt.to_numpy(dtype))
        return x.astype(self.compute)


def _attrs(s: spec.OpSpec, node: Node, env: Env) -> Mapping[str, Any]:
    """Attributes with symbolic dims evaluated."""
    changed: dict[str, Any] = {}
    for a in s.attrs:
        value: Any = node.attrs.get(a.name)
        if a.kind == "dims" and any(isinstance(d, str) for d in value or ()):
            changed[a.name] = tuple(dims.evaluate(d, env) for d in value)
        elif a.kind == "dim" and isinstance(value, str):
            changed[a.name] = dims.evaluate(value, env)
    return {**node.attrs, **changed} if changed else node.attrs


def _last_uses(g: Graph) -> dict[str, int]:
    """Value name -> index of the last node that reads it; outputs live to the end."""
    last: dict[str, int] = {}
    for i, node in enumerate(g.nodes):
        for name in node.inputs:
            if name is not None:
                last[name] = i
    last.update(dict.fromkeys(g.outputs, len(g.nodes)))
    return last
