"""What a handler works with: the builder, the node, refusals, known values, regions."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cir import dtype as dt
from cir import statement as st
from cir.builder import Builder
from cir.diagnostics import CirError, error
from cir.dim import Dim, SymInt
from cir.graph import Graph, TensorType
from framework_adapter import functions
from framework_adapter.source import SourceGraph, SourceNode


class Value(str):
    """Name of an IR value, told apart from host strings."""

    __slots__ = ()


class Refusal(Exception):
    """A handler or row declines a node; becomes E202."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


#: lowers a source subgraph: (graph, name, input types) -> region
LowerRegion = Callable[[SourceGraph, str, Sequence[TensorType]], Graph]


class Context:
    """One graph's lowering as handlers see it.

    Bound arguments are: ``Value`` (tensor), Python numbers, bools, strings, None, ``SymInt``
    (symbolic dim), or tuples of these.

    Attributes:
        b: the builder; ``b.types[name]``, ``b.dims(name)``, ``b.value(name)``.
        node: the node being lowered.
        outs: types the framework reports for the node's results, None where it does not.
    """

    def __init__(self, b: Builder, lower_region: LowerRegion | None = None) -> None:
        self.b = b
        self.node: SourceNode = SourceNode("", (), {}, ())
        self.outs: tuple[TensorType | None, ...] = ()
        self.functions = functions.table(b)
        self._lower_region = lower_region
        self._dims: dict[Dim, Value] = {}

    # -- emitting ----------------------------------------------------------------------------------
    def op(self, op: str, *inputs: Any, **attrs: Any) -> Any:
        """Emit one op. Inputs are values, None, or numbers (constants of the first tensor's dtype).

        Returns a Value, or a tuple of Values for an op with several results.
        """
        given = [x for v in inputs for x in (v if isinstance(v, (list, tuple)) else [v])]
        like = next((self.b.types[v].dtype for v in given if isinstance(v, str)), None)
        names = [v if v is None or isinstance(v, str) else self.tensor(v, like) for v in given]
        wanted = self.node.outputs[0] if self.node.outputs and self.node.outputs[0] else op
        out = tuple(map(Value, self.b.emit(op, names, attrs, name=wanted)))
        return out[0] if len(out) == 1 else out

    def run(self, *lines: str, **env: Any) -> Any:
        """Emit statements over the given arguments; the value of the last target(s)."""
        return self.statements([st.parse(s) for s in lines], env, None)

    def statements(
        self,
        lines: Sequence[st.Statement],
        bound: Mapping[str, Any],
        results: Sequence[str | None] | None,
    ) -> Any:
        """As ``run``, of parsed statements; ``results`` picks other targets than the last."""
        wanted = {n for s in lines for n in _positional(s.value)}
        values: dict[str, Any] = {}
        attrs: dict[str, Any] = {"out": self.out}
        for name, v in bound.items():
            if isinstance(v, Value) or isinstance(v, tuple) and _is_tensors(v):
                values[name] = v if isinstance(v, Value) else list(v)
            elif name in wanted and isinstance(v, SymInt):
                values[name], attrs[name] = self.tensor(v), v.dim
            else:
                attrs[name] = self.plain(v)
        env = st.instantiate(
            lines,
            self.b,
            values,
            attrs,
            functions=self.functions,
            macros=functions.MACROS,
            name=self.node.outputs[0] if self.node.outputs else None,
        )
        names = lines[-1].targets if results is None else results
        found = tuple(None if n is None else self._tagged(env[n]) for n in names)
        return found[0] if len(found) == 1 and results is None else found

    def _tagged(self, v: Any) -> Any:
        if isinstance(v, (list, tuple)):
            return tuple(self._tagged(x) for x in v)
        return Value(v) if isinstance(v, str) and v in self.b.types else v

    def plain(self, v: Any) -> Any:
        """A bound argument as expressions see it: a View, a dim, or the host value."""
        if isinstance(v, Value):
            return st.View(self.b, v)
        if isinstance(v, SymInt):
            return v.dim
        return tuple(self.plain(x) for x in v) if isinstance(v, tuple) else v

    def tensor(self, v: Any, dtype: dt.DType | None = None) -> Value:
        """A value for a number, a symbolic dim (int64[]) or a nested tuple of numbers."""
        if isinstance(v, Value):
            return v
        if isinstance(v, SymInt):
            made = self._dim_value(v.dim)
            return Value(functions.cast(self.b, made, dtype)) if dtype else made
        if isinstance(v, float) and dtype is not None and not dt.is_float(dtype):
            dtype = "float32"
        return Value(self.b.const(v, dtype=dtype))

    def cast(self, x: str, dtype: dt.DType) -> Value:
        """The value x in a dtype; x itself when it already has it."""
        return Value(functions.cast(self.b, x, dtype))

    # -- asking ------------------------------------------------------------------------------------
    @property
    def out(self) -> TensorType | None:
        """Type the framework reports for the node's first result."""
        return self.outs[0] if self.outs else None

    def shape(self, x: str) -> tuple[Dim, ...]:
        """Shape of a value."""
        return self.b.types[x].shape

    def rank(self, x: str) -> int:
        """Rank of a value."""
        return self.b.types[x].rank

    def dtype(self, x: str) -> dt.DType:
        """Dtype of a value."""
        return self.b.types[x].dtype

    def dims(self, v: Any) -> tuple[Dim, ...]:
        """Dims of a host value or integer tensor. Raises CirError E207 when data-dependent."""
        return functions.dims(self.b, self.plain(v))

    def scalar(self, v: Any) -> Any:
        """Number of a host value or one-element tensor. Raises CirError E207."""
        return functions.scalar(self.b, self.plain(v))

    def refuse(self, reason: str, remedy: str = "") -> Refusal:
        """The exception to raise when the node cannot be lowered."""
        return Refusal(reason, remedy)

    def region(self, graph: SourceGraph, name: str, types: Sequence[TensorType]) -> Graph:
        """Lower a subgraph to a region whose inputs have these types."""
        assert self._lower_region is not None
        return self._lower_region(graph, name, types)

    # -- symbolic dims as tensors ------------------------------------------------------------------
    def _dim_value(self, d: Dim) -> Value:
        if d not in self._dims:
            self._dims[d] = self._build_dim(ast.parse(str(d), mode="eval").body)
        return self._dims[d]

    def _build_dim(self, node: ast.expr) -> Value:
        emit = self.b.emit
        match node:
            case ast.Constant(value=int(v)):
                return Value(self.b.const(v, dtype="int64"))
            case ast.Name(id=symbol):
                for name, t in list(self.b.types.items()):
                    if symbol in t.shape and name not in self.b.consts:
                        shape = emit("shape", [name])[0]
                        place = self.b.const(t.shape.index(symbol), dtype="int64")
                        return Value(emit("gather", [shape, place], {"axis": 0}, name=symbol)[0])
            case ast.UnaryOp(operand=x):
                return Value(emit("neg", [self._build_dim(x)])[0])
            case ast.BinOp(left=left, op=op, right=right):
                name = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}.get(type(op)) or (
                    "floordiv" if isinstance(op, ast.FloorDiv) else "mod"
                )
                return Value(emit(name, [self._build_dim(left), self._build_dim(right)])[0])
            case ast.Call(func=ast.Name(id=fn), args=args):
                out = self._build_dim(args[0])
                for a in args[1:]:
                    out = Value(emit(f"{fn}imum", [out, self._build_dim(a)])[0])
                return out
        raise error(
            "E207",
            f"{ast.unparse(node)} is a size that depends on the input data",
            fix="compute sizes from shapes, or keep the number in a tensor",
        )


def _positional(e: st.Expr) -> set[str]:
    if isinstance(e, st.Name):
        return {e.id}
    return {n for a in e.args for n in _positional(a)} if isinstance(e, st.Call) else set()


def _is_tensors(v: tuple[Any, ...]) -> bool:
    return any(isinstance(x, Value) for x in v) and all(
        x is None or isinstance(x, Value) for x in v
    )


def reason(exc: Exception) -> str:
    """The text of an exception, without the code when it carries diagnostics."""
    if isinstance(exc, CirError):
        return "; ".join(f"{d.what} ({d.why})" if d.why else d.what for d in exc.diagnostics)
    return str(exc)
