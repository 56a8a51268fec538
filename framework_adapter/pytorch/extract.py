"""A torch.export program as a source graph, read as exported wherever that is possible."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cir.diagnostics import error
from cir.dim import SymInt
from cir.graph import Const, TensorType
from framework_adapter.mapping import load
from framework_adapter.pytorch import alias, fx
from framework_adapter.pytorch.recurrent import whole_layers
from framework_adapter.pytorch.symbols import Symbols
from framework_adapter.pytorch.tensors import dtype_name, to_numpy
from framework_adapter.source import Operand, Ref, SourceGraph, SourceNode

#: Arguments that say where and how memory lies; they never change a value.
_PLACEMENT = frozenset(("device", "layout", "memory_format", "pin_memory", "non_blocking"))


def read_program(
    program: Any, wanted: Sequence[str] | None = None, custom: Collection[str] = ()
) -> Reader:
    """A reader over a program, decomposed only where its graph cannot be read as it is.

    In-place ops that write to memory other values show make the whole graph functional; ops
    without a row that PyTorch can decompose are decomposed, those only.

    Args:
        program: torch.export.ExportedProgram.
        wanted: names of the outputs to keep (see ``SourceGraph.output_names``), None for all.
        custom: op ids with rows of the user's own.
    """
    notes: list[str] = []
    rules, names = _decompositions(program, custom)
    shared = alias.needs_functionalising(program.graph)
    if shared:
        notes.append("in-place operators write to memory that views share: made functional")
    if names:
        notes.append(f"decomposed by PyTorch, having no row of their own: {', '.join(names)}")
    if notes:
        try:
            with whole_layers():
                program = program.run_decompositions(rules)
        except Exception as exc:
            if shared:
                raise error(
                    "E105",
                    "PyTorch cannot make the model's in-place writes functional",
                    why=str(exc).split("\n")[0][:300],
                    fix="write to new tensors instead of views",
                ) from exc
            notes = []  # the ops without a row are then reported as unsupported
    return Reader(program, notes, wanted)


def _decompositions(program: Any, custom: Collection[str]) -> tuple[dict[Any, Any], list[str]]:
    """PyTorch's decompositions of the graph's ops without a row, and the ids of these ops."""
    import torch

    table = load("pytorch")

    def has_row(op: str) -> bool:
        return op in custom or table.find(op) is not None

    calls = {n.target for n in program.graph.nodes if n.op == "call_function"}
    missing = sorted(
        (t for t in calls if fx.gives_tensors(t) and not has_row(fx.source_op(t))), key=str
    )
    if not missing:
        return {}, []
    known = {**torch._decomp.decomposition_table, **torch.export.default_decompositions()}
    names = [str(t) for t in missing if t in known]
    if not names:
        return {}, []
    return {t: f for t, f in known.items() if not has_row(fx.op_id(t))}, names


class Reader:
    """Turns one program into a SourceGraph; ``name_symbols`` may be called first."""

    def __init__(self, program: Any, notes: list[str], wanted: Sequence[str] | None) -> None:
        self.program = program
        self.notes = notes
        self.wanted = wanted
        self.symbols = Symbols()
        self.symbols.learn(fx.guards(program))
        kinds = {s.arg.name: s for s in program.graph_signature.input_specs}
        self.placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
        self.stored = {
            name: str(spec.target) for name, spec in kinds.items() if spec.kind.name != "USER_INPUT"
        }
        self.user_inputs = [n for n in self.placeholders if n not in self.stored]

    def shapes(self) -> list[tuple[int | None, ...]]:
        """Shapes of the flattened user inputs, None for a symbolic size."""
        found = [self.placeholders[n].meta["val"] for n in self.user_inputs]
        return [tuple(map(fx.fixed_size, getattr(v, "shape", ()))) for v in found]

    def name_symbols(self, index: int, names: Sequence[Any]) -> None:
        """Name the symbolic dims of a user input; a dim that is no plain symbol keeps its own."""
        node = self.placeholders[self.user_inputs[index]]
        for axis, size in enumerate(getattr(node.meta["val"], "shape", ())):
            expr = None if isinstance(size, int) else size.node.expr
            if getattr(expr, "is_Symbol", False):
                given = names[axis] if axis < len(names) else None
                wanted = given if isinstance(given, str) else f"{node.name}_{axis}"
                self.symbols.name(str(expr), wanted, same=wanted is given)

    def graph(self, order: Sequence[int] | None = None) -> SourceGraph:
        """The source graph; ``order`` permutes the inputs. Raises CirError E105."""
        for i in range(len(self.user_inputs)):
            self.name_symbols(i, ())
        module = self.program.graph_module
        walk = _Walk(self.symbols, module)
        consts = self._constants(walk)
        inputs: dict[str, TensorType] = {}
        names = [self.user_inputs[i] for i in order] if order else self.user_inputs
        for name in names:
            value = self.placeholders[name].meta["val"]
            if hasattr(value, "shape"):
                inputs[name] = walk.type(value)
            else:
                walk.env[name] = value
        walk.nodes_of(self.program.graph)
        results = walk.results(self.program.graph)
        labels = self._labels()
        first = len(results) - len(labels)  # functionalised state comes first
        kept = [(n, r) for n, r in zip(labels, results[first:]) if r is not None]
        if self.wanted:
            kept = [(n, r) for n, r in kept if n in self.wanted]
        state = self._state(walk, results, consts, inputs)
        outputs = [walk.as_value(r) for _, r in kept]
        self.symbols.add_ranges(self.program.range_constraints)
        return SourceGraph(
            framework="pytorch",
            inputs=inputs,
            outputs=(*outputs, *(o for _, o in state)),
            nodes=tuple(walk.nodes),
            consts={**consts, **walk.consts},
            output_names=(*(n for n, _ in kept), *(f"{i}_out" for i, _ in state)),
            symbols=dict(self.symbols.ranges),
            state=tuple(state),
            notes=(*self.notes, *self.symbols.notes),
            versions={"torch": _version()},
        )

    def _constants(self, walk: _Walk) -> dict[str, Const]:
        """Parameters, buffers and constants by name; tensors that share memory share one Const."""
        out: dict[str, Const] = {}
        seen: dict[Any, Const] = {}
        sources: tuple[Mapping[str, Any], ...] = (self.program.state_dict, self.program.constants)
        for placeholder, target in self.stored.items():
            tensor = next((s[target] for s in sources if target in s), None)
            if tensor is None or not hasattr(tensor, "data_ptr"):
                walk.env[placeholder] = tensor
                continue
            key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
            if tensor.numel() == 0 or key not in seen:
                seen[key] = Const.of(to_numpy(tensor))
            out[target] = seen[key]
            walk.env[placeholder] = Ref(target)
        return out

    def _labels(self) -> list[str]:
        """A name for each flattened result, from the structure of what the model returns."""
        paths = fx.leaf_paths(self.program.call_spec.out_spec)
        named = [".".join(p) or "output" for p in paths]
        return [f"output_{n}" if n[0].isdigit() else n for n in named]

    def _state(
        self,
        walk: _Walk,
        results: Sequence[Operand],
        consts: dict[str, Const],
        inputs: dict[str, TensorType],
    ) -> list[tuple[str, str]]:
        """Buffers that forward changes become inputs, their new values outputs."""
        changed: dict[str, Operand] = {}
        for name, target in self.stored.items():
            latest = walk.env[name]
            if isinstance(latest, Ref) and latest.name != target:
                changed[target] = latest
        to_mutate = self.program.graph_signature.buffers_to_mutate
        for spec, result in zip(self.program.graph_signature.output_specs, results):
            if spec.kind.name == "BUFFER_MUTATION":
                changed[to_mutate[spec.arg.name]] = result
        out = []
        for target, value in changed.items():
            inputs[target] = consts.pop(target).type
            out.append((target, walk.as_value(value)))
            self.notes.append(
                f"buffer {target} is changed by forward: it is an input and an output; feed its "
                "value from call to call, starting from the stored one"
            )
        return out


class _Walk:
    """Nodes of one FX graph."""

    def __init__(self, symbols: Symbols, module: Any) -> None:
        self.symbols, self.module = symbols, module
        self.env: dict[str, Operand] = {}  #: FX name -> operand, where it is not Ref(FX name)
        self.nodes: list[SourceNode] = []
        self.consts: dict[str, Const] = {}

    def type(self, value: Any) -> TensorType:
        """Type of a (fake) tensor."""
        return TensorType(dtype_name(value.dtype), self.symbols.shape(value.shape))

    def nodes_of(self, graph: Any) -> None:
        """Read every call of a graph."""
        for n in graph.nodes:
            if n.op == "get_attr":
                self._attribute(n)
            elif n.op == "call_function" and not fx.is_check(n.target):
                self._call(n)

    def results(self, graph: Any) -> list[Operand]:
        """Operands that a graph returns, flattened."""
        (node,) = (n for n in graph.nodes if n.op == "output")
        returned = node.args[0]
        items = returned if isinstance(returned, (list, tuple)) else (returned,)
        return [self.operand(x) for x in items]

    def as_value(self, x: Operand) -> str:
        """Name of a value for a result; a number becomes a constant."""
        if isinstance(x, Ref):
            return x.name
        name = f"host#{len(self.consts) + len(self.nodes)}"
        if isinstance(x, SymInt):
            self.nodes.append(
                SourceNode("aten.scalar_tensor.default", (x,), {"dtype": "int64"}, (name,))
            )
        else:
            self.consts[name] = Const.of(x)
        return name

    def _attribute(self, n: Any) -> None:
        value: Any = self.module
        for part in str(n.target).split("."):
            value = getattr(value, part)
        if hasattr(value, "data_ptr"):
            self.consts[n.name] = Const.of(to_numpy(value))
        else:
            self.env[n.name] = value  # a submodule: the body of a control-flow op

    def _call(self, n: Any) -> None:
        value = n.meta.get("val")
        op = fx.source_op(n.target)
        if op == "operator.getitem":
            base = self.env.get(n.args[0].name, n.args[0])
            if isinstance(base, tuple):
                self.env[n.name] = base[n.args[1]]
                return
        kind = type(value).__name__
        if isinstance(value, (bool, int, float)):
            self.env[n.name] = value
            return
        if kind in ("SymInt", "SymBool") and not op.startswith("aten.item"):
            if kind == "SymInt" and "_local_scalar_dense" not in op:
                self.env[n.name] = self.symbols.operand(value)
                return
            if kind == "SymBool":
                return  # feeds assertions only
        many = isinstance(value, (list, tuple))
        values = list(value) if many else [value]
        outputs = tuple(f"{n.name}#{i}" for i in range(len(values))) if many else (n.name,)
        types = tuple(self.type(v) if hasattr(v, "dtype") else None for v in values)
        written = alias.mutated(n)
        module, place = fx.origin(n)
        args, kwargs = fx.arguments(n)
        self.nodes.append(
            SourceNode(
                op,
                tuple(self.operand(x) for x in args),
                {k: self.operand(x) for k, x in kwargs.items() if k not in _PLACEMENT},
                outputs,
                types,
                module,
                place,
                self._regions(n),
            )
        )
        self.env[n.name] = tuple(map(Ref, outputs)) if many else Ref(n.name)
        for target in written:
            self._replace(target, self.env[n.name])

    def _replace(self, target: Any, value: Operand) -> None:
        """After an in-place op, what read its operand reads the result."""
        old = self.operand(target)
        self.env[target.name] = value
        for name, operand in list(self.env.items()):
            if isinstance(operand, Ref) and operand == old:
                self.env[name] = value

    def _regions(self, n: Any) -> tuple[SourceGraph, ...]:
        out = []
        for x in n.args:
            body = self.env.get(getattr(x, "name", ""))
            if hasattr(body, "graph") and hasattr(body, "forward"):
                out.append(self._region(body, x.name))
        return tuple(out)

    def _region(self, body: Any, name: str) -> SourceGraph:
        walk = _Walk(self.symbols, body)
        inputs = {}
        for p in (p for p in body.graph.nodes if p.op == "placeholder"):
            if not hasattr(p.meta["val"], "dtype"):
                walk.env[p.name] = self.symbols.operand(p.meta["val"])
                continue
            inner = f"{name}.{p.name}"
            walk.env[p.name] = Ref(inner)
            inputs[inner] = walk.type(p.meta["val"])
        walk.nodes_of(body.graph)
        outputs = tuple(walk.as_value(r) for r in walk.results(body.graph))
        return SourceGraph("pytorch", inputs, outputs, tuple(walk.nodes), walk.consts)

    def operand(self, x: Any) -> Operand:
        """An FX argument as an operand."""
        if hasattr(x, "op") and hasattr(x, "users"):
            found = self.env.get(x.name, Ref(x.name))
            return None if hasattr(found, "forward") else found
        if isinstance(x, (list, tuple)):
            return tuple(self.operand(i) for i in x)
        kind = type(x).__name__
        if kind == "dtype":
            return dtype_name(x)
        if kind in ("device", "layout", "memory_format"):
            return None
        if kind == "SymInt":
            return self.symbols.operand(x)
        if isinstance(x, slice):
            return (self.operand(x.start), self.operand(x.stop), self.operand(x.step))
        return x


def _version() -> str:
    import torch

    return str(torch.__version__)
