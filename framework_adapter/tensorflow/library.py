"""Bodies of graph functions as graphs of their own, without touching TensorFlow's global state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cir.diagnostics import error
from framework_adapter.tensorflow.load import failed


@dataclass(frozen=True)
class FunctionBody:
    """A function's graph, its argument placeholders, its results, and the ops it must run."""

    graph: Any
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    control_outputs: Sequence[Any]


class Library:
    """The functions of one model's graph."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    @cached_property
    def _functions(self) -> Mapping[str, Any]:
        return {f.signature.name: f for f in self._graph.as_graph_def().library.function}

    def body(self, name: str, shapes: Sequence[Any]) -> FunctionBody:
        """The body for arguments of these shapes (TensorShape, or None). Raises CirError E105."""
        import tensorflow as tf

        function = self._functions.get(name)
        if function is None:
            raise error("E105", f"the graph calls the function {name!r}, which it does not hold")
        graph_def, flat = self._as_graph(function, shapes)
        graph = tf.Graph()
        try:
            with graph.as_default():
                tf.graph_util.import_graph_def(graph_def, name="")
        except Exception as exc:
            raise failed(f"TensorFlow could not read the body of {name!r}", exc) from exc
        signature = function.signature
        return FunctionBody(
            graph,
            [graph.get_tensor_by_name(f"{a.name}:0") for a in signature.input_arg],
            [graph.get_tensor_by_name(flat[function.ret[a.name]]) for a in signature.output_arg],
            [graph.get_operation_by_name(n) for n in function.control_ret.values()],
        )

    def _as_graph(self, function: Any, shapes: Sequence[Any]) -> tuple[Any, dict[str, str]]:
        """A GraphDef, and function-style tensor names (node:result:i) -> graph names (node:k)."""
        import tensorflow as tf
        from tensorflow.python.framework import op_def_registry

        graph_def = tf.compat.v1.GraphDef()
        graph_def.versions.producer = tf.version.GRAPH_DEF_VERSION
        flat: dict[str, str] = {}
        for arg, shape in zip(function.signature.input_arg, shapes):
            node = graph_def.node.add(name=arg.name, op="Placeholder")
            node.attr["dtype"].type = arg.type
            node.attr["shape"].shape.CopyFrom((shape or tf.TensorShape(None)).as_proto())
            flat[arg.name] = f"{arg.name}:0"
        for node in function.node_def:
            definition = op_def_registry.get(node.op)
            if definition is None:
                called = self._functions.get(node.op)
                definition = called.signature if called is not None else None
            if definition is None:
                raise error("E105", f"TensorFlow does not know the op {node.op} of {node.name!r}")
            k = 0
            for result in definition.output_arg:
                for i in range(arity(result, node)):
                    flat[f"{node.name}:{result.name}:{i}"] = f"{node.name}:{k}"
                    k += 1
        graph_def.node.extend(function.node_def)
        for node in graph_def.node:
            for i, ref in enumerate(node.input):
                node.input[i] = ref if ref.startswith("^") else flat[ref]
        for called in self.closure(function.node_def):
            graph_def.library.function.add().CopyFrom(called)
        return graph_def, flat

    def closure(self, nodes: Iterable[Any]) -> list[Any]:
        """FunctionDefs that nodes call, directly or through others, in the order of the library."""
        needed: set[str] = set()
        stack = list(nodes)
        while stack:
            node = stack.pop()
            names = [node.op]
            for attr in node.attr.values():
                names += [attr.func.name, *(f.name for f in attr.list.func)]
            for name in names:
                if name in self._functions and name not in needed:
                    needed.add(name)
                    stack.extend(self._functions[name].node_def)
        return [f for name, f in self._functions.items() if name in needed]


def arity(arg: Any, node: Any) -> int:
    """How many tensors a parameter or result of an op definition stands for in a node."""
    if arg.number_attr:
        return int(node.attr[arg.number_attr].i)
    return len(node.attr[arg.type_list_attr].list.type) if arg.type_list_attr else 1
