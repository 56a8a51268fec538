"""Control flow and tensor lists: a list of n tensors of one shape is one tensor with n rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cir.dim import Dim
from cir.graph import Graph, TensorType
from framework_adapter.context import Context, Value
from framework_adapter.source import SourceNode

#: Name of the region that is lowered only to see what a loop puts into its lists.
_TRIAL = "trial"


@dataclass(frozen=True)
class EmptyList:
    """A reserved tensor list; ``shape`` is that of an element, with None where nobody said."""

    size: Dim
    dtype: str
    shape: tuple[Dim | None, ...] | None

    def type(self) -> TensorType | None:
        """Its type, None when it is not known."""
        if self.shape is None or None in self.shape:
            return None
        return TensorType(self.dtype, (self.size, *self.shape))  # type: ignore[arg-type]


def _zeros(c: Context, t: TensorType) -> Value:
    return c.op("expand", c.tensor(0, t.dtype), shape=t.shape)


def if_(c: Context, node: SourceNode, pred: Value, xs: Sequence[Value]) -> Any:
    """If: a number as predicate means "not zero"."""
    if c.rank(pred):
        raise c.refuse("a condition that is no scalar", "reduce the condition to one bool")
    if c.dtype(pred) != "bool":
        pred = c.op("not_equal", pred, 0)
    types = [c.b.types[x] for x in xs]
    regions = [c.region(g, n, types) for g, n in zip(node.regions, ("then", "else"))]
    return _emit(c, "cond", [pred, *xs], regions, {})


def while_(c: Context, node: SourceNode, xs: Sequence[Any], *, carried: int) -> Any:
    """While: the first ``carried`` operands change, the others stay."""
    known = [x.type() if isinstance(x, EmptyList) else c.b.types[x] for x in xs]
    types = [t or TensorType(x.dtype, (x.size,)) for x, t in zip(xs, known)]
    if None in known:
        body = c.region(node.regions[1], _TRIAL, types)
        types = [t or body.types[body.outputs[i]] for i, t in enumerate(known)]
    regions = [c.region(g, n, types) for g, n in zip(node.regions, ("cond", "body"))]
    values = [_zeros(c, t) if isinstance(x, EmptyList) else x for x, t in zip(xs, types)]
    return _emit(c, "while_loop", values, regions, {"carried": carried})


def _emit(
    c: Context, op: str, values: Sequence[str], regions: Sequence[Graph], attrs: dict[str, Any]
) -> Any:
    out = c.b.emit(op, list(values), attrs, names=c.node.outputs, regions=regions)
    return Value(out[0]) if len(out) == 1 else tuple(map(Value, out))


def list_reserve(
    c: Context, node: SourceNode, element_shape: Any, num_elements: Any, *, element_dtype: str
) -> EmptyList:
    """TensorListReserve."""
    shape = None
    if c.rank(element_shape):
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
        items = _zeros(c, TensorType(items.dtype, (items.size, *shape)))
    elif c.b.name == _TRIAL:
        items = _zeros(c, TensorType(c.dtype(items), (c.shape(items)[0], *shape)))
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
