"""A target graph as a ``tf.Module``: its weights are variables, its nodes a ``tf.function``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cir import dtype as dt
from cir.graph import Const, TensorType
from framework_adapter.target import TargetGraph, TargetNode
from framework_adapter.tensorflow import kernels

#: Constants of other dtypes than float become variables above this many elements.
_LARGE = 64


def legal_name(name: str) -> str:
    """A name as TensorFlow takes it: what is not a letter, digit or one of ``_ . / -`` is ``_``."""
    out = re.sub(r"[^A-Za-z0-9_./-]", "_", name)
    return out if re.match(r"[A-Za-z0-9]", out) else f"v{out}"


def is_variable(const: Const) -> bool:
    """Whether a constant is a weight rather than a number, an axis or a shape."""
    return const.size > (1 if dt.is_float(const.type.dtype) else _LARGE)


def build(graph: TargetGraph, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Any:
    """A tf.Module with ``weights`` (name -> tf.Variable) and ``serve``, the graph as a function.

    Args:
        graph: the target graph.
        inputs: its inputs and the names they get, in order.
        outputs: its outputs and the names they get.

    Returns:
        The module. ``serve`` takes its inputs in order and returns a dict of its outputs.
    """
    import tensorflow as tf

    module = tf.Module(name="model")
    module.weights = {
        name: tf.Variable(const.numpy(), name=legal_name(name))
        for name, const in graph.consts.items()
        if is_variable(const)
    }

    def serve(*args: Any) -> dict[str, Any]:
        values = dict(zip(graph.inputs, args))
        values.update((k, v.read_value()) for k, v in module.weights.items())
        results = _Body(graph.consts, values).run(graph)
        return dict(zip(outputs.values(), results))

    specs = [
        tf.TensorSpec(_shape(graph.types[k]), graph.types[k].dtype, name)
        for k, name in inputs.items()
    ]
    module.serve = tf.function(serve, input_signature=specs, autograph=False)
    return module


def _shape(t: TensorType) -> list[int | None]:
    return [d if isinstance(d, int) else None for d in t.shape]


class _Body:
    """Makes a graph's nodes in the tf.Graph that is being traced."""

    def __init__(self, consts: Mapping[str, Const], outer: Mapping[str, Any]) -> None:
        import tensorflow as tf

        self.tf, self.consts = tf, consts
        self.values = dict(outer)
        self.numbers: dict[str, Any] = {}
        self.graph = tf.compat.v1.get_default_graph()

    def run(self, graph: TargetGraph) -> list[Any]:
        """Tensors of the graph's outputs."""
        for node in graph.nodes:
            results = self.node(node)
            for name, tensor in zip(node.outputs, results):
                if name in graph.types:
                    tensor.set_shape(_shape(graph.types[name]))
                self.values[name] = tensor
        return [self.value(o) for o in graph.outputs]

    def value(self, name: str) -> Any:
        """A tensor; small constants are made in the body that reads them, as shapes must be."""
        if name in self.values:
            return self.values[name]
        if name not in self.numbers:
            array = self.consts[name].numpy()
            self.numbers[name] = self.tf.constant(array, name=legal_name(name))
        return self.numbers[name]

    def node(self, node: TargetNode) -> Sequence[Any]:
        """Tensors of one node's results."""
        inputs = [self.value(i) for i in node.inputs]
        if node.op == "StatelessIf":
            return self._cond(node, *inputs)
        if node.op == "StatelessWhile":
            return self._loop(node, inputs)
        spec = kernels.definition(node.op)
        kinds = {a.name: a.type for a in spec.attr}
        attrs = {k: self._attr(kinds[k], v) for k, v in node.attrs.items()}
        for arg, n in zip(spec.input_arg, kernels.counts(spec, len(inputs))):
            if arg.number_attr:
                attrs[arg.number_attr] = self._attr("int", n)
        name = legal_name(node.outputs[0])
        return self.graph.create_op(node.op, inputs, None, name=name, attrs=attrs).outputs

    def _attr(self, kind: str, value: Any) -> Any:
        out = self.tf.compat.v1.AttrValue()
        match kind:
            case "type":
                out.type = self.tf.dtypes.as_dtype(value).as_datatype_enum
            case "int":
                out.i = value
            case "float":
                out.f = value
            case "bool":
                out.b = value
            case "string":
                out.s = value.encode()
            case "list(int)":
                out.list.i.extend(value)
                out.list.SetInParent()
            case _:
                raise TypeError(f"attributes of kind {kind} are not written")
        return out

    def _inner(self, graph: TargetGraph, args: Sequence[Any] = ()) -> list[Any]:
        return _Body(self.consts, {**self.values, **dict(zip(graph.inputs, args))}).run(graph)

    def _cond(self, node: TargetNode, pred: Any) -> Sequence[Any]:
        branches = (node.attrs["then_branch"], node.attrs["else_branch"])
        then, other = ((lambda b=b: self._inner(b)) for b in branches)
        return self.tf.nest.flatten(
            self.tf.cond(pred, then, other, name=legal_name(node.outputs[0]))
        )

    def _loop(self, node: TargetNode, inputs: Sequence[Any]) -> Sequence[Any]:
        test, body = node.attrs["cond"], node.attrs["body"]
        shapes = [self.tf.TensorShape(_shape(test.types[i])) for i in test.inputs]
        return self.tf.while_loop(
            lambda *xs: self._inner(test, xs)[0],
            lambda *xs: self._inner(body, xs),
            list(inputs),
            shape_invariants=shapes,
            name=legal_name(node.outputs[0]),
        )
