"""Control flow and tensor lists: a list of n tensors of one shape is one tensor with n rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cir.dim import Dim
from cir.graph import Graph, TensorType
from framework_adapter.context import Context, Value
from framework_adapter.source import SourceNode


@dataclass(frozen=True)
class EmptyList:
    """A reserved tensor list; a dim of ``shape`` is None until something is put in."""

    size: Dim
    dtype: str
    shape: tuple[Dim | None, ...]

    def type(self, c: Context) -> TensorType:
        """Its type, with fresh symbols for what is not known."""
        return TensorType(
            self.dtype, (self.size, *(c.b.fresh() if d is None else d for d in self.shape))
        )

    def value(self, c: Context, t: TensorType) -> Value:
        """A tensor of zeros of type t."""
        return c.op("expand", c.tensor(0, self.dtype), shape=t.shape)


def if_(c: Context, node: SourceNode, pred: Value, xs: Sequence[Value]) -> tuple[Value, ...]:
    """If: a number as predicate means "not zero"."""
    if c.rank(pred):
        raise c.refuse("a condition that is no scalar", "reduce the condition to one bool")
    if c.dtype(pred) != "bool":
        pred = c.op("not_equal", pred, 0)
    types = [c.b.types[x] for x in xs]
    regions = [c.region(g, n, types) for g, n in zip(node.regions, ("then", "else"))]
    return _emit(c, "cond", [pred, *xs], regions, {})


def while_(c: Context, node: SourceNode, xs: Sequence[Any], *, carried: int) -> tuple[Value, ...]:
    """While: the first ``carried`` operands change, the others stay."""
    types = [x.type(c) if isinstance(x, EmptyList) else c.b.types[x] for x in xs]
    if any(isinstance(x, EmptyList) and None in x.shape for x in xs):
        # What the body puts into a list tells its shape; then the body is lowered with that.
        trial = c.region(node.regions[1], "trial", types)
        types = [
            _learned(trial, i, t) if isinstance(x, EmptyList) else t
            for i, (x, t) in enumerate(zip(xs, types))
        ]
    regions = [c.region(g, n, types) for g, n in zip(node.regions, ("cond", "body"))]
    values = [x.value(c, t) if isinstance(x, EmptyList) else x for x, t in zip(xs, types)]
    return _emit(c, "while_loop", values, regions, {"carried": carried})


def _learned(body: Graph, i: int, guess: TensorType) -> TensorType:
    for n in body.nodes:
        if n.op == "scatter_nd" and n.inputs[0] == body.inputs[i]:
            item = body.types[str(n.inputs[2])]
            return TensorType(guess.dtype, (guess.shape[0], *item.shape[1:]))
    return guess


def _emit(
    c: Context, op: str, values: Sequence[str], regions: Sequence[Graph], attrs: dict[str, Any]
) -> tuple[Value, ...]:
    names = [n or op for n in c.node.outputs]
    out = c.b.emit(op, list(values), attrs, names=names, regions=regions)
    return tuple(map(Value, out))


def list_reserve(
    c: Context, node: SourceNode, element_shape: Any, num_elements: Any, *, element_dtype: str
) -> EmptyList:
    """TensorListReserve."""
    if c.rank(element_shape) == 0:
        raise c.refuse("a TensorArray of unknown rank", "pass element_shape= to tf.TensorArray")
    shape = tuple(None if d == -1 else d for d in c.dims(element_shape))
    return EmptyList(c.dims(num_elements)[0], element_dtype, shape)


def list_from_tensor(c: Context, node: SourceNode, tensor: Value, element_shape: Any) -> Value:
    """TensorListFromTensor: the rows of a tensor."""
    return tensor


def list_get(c: Context, node: SourceNode, items: Value, index: Value, element_shape: Any) -> Value:
    """TensorListGetItem."""
    return c.op("gather", items, index, axis=0)


def list_set(c: Context, node: SourceNode, items: Any, index: Value, item: Value) -> Value:
    """TensorListSetItem."""
    shape = c.shape(item)
    if isinstance(items, EmptyList):
        items = items.value(c, TensorType(items.dtype, (items.size, *shape)))
    place = c.op("reshape", index, shape=(1, 1))
    return c.op("scatter_nd", items, place, c.op("reshape", item, shape=(1, *shape)))


def list_stack(c: Context, node: SourceNode, items: Value, element_shape: Any) -> Value:
    """TensorListStack: all rows as one tensor."""
    return items


def list_length(c: Context, node: SourceNode, items: Any) -> Value:
    """TensorListLength, int32."""
    n = items.size if isinstance(items, EmptyList) else c.shape(items)[0]
    if not isinstance(n, int):
        raise c.refuse("the length of a list of symbolic size", "use the size of the tensor itself")
    return c.tensor(n, "int32")
