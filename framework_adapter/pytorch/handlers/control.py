"""Control flow: torch.cond and torch's while_loop."""
# ruff: noqa: D103  (the row that names a handler describes it)

from __future__ import annotations

from typing import Any

from framework_adapter.context import Context, Value
from framework_adapter.source import SourceNode


def cond(c: Context, node: SourceNode, pred: Any, operands: Any, **unused: Any) -> Any:
    values = [x for x in operands if isinstance(x, Value)]
    then, other = _regions(c, node, values)
    test = c.cast(c.tensor(pred, "bool"), "bool")
    if c.rank(test):
        test = c.op("reshape", test, shape=())
    return tuple(map(Value, c.b.emit("cond", [test, *values], regions=(then, other))))


def while_loop(c: Context, node: SourceNode, carried: Any, extra: Any, **unused: Any) -> Any:
    if not all(isinstance(x, Value) for x in carried):
        raise c.refuse("a loop that carries Python numbers", "carry tensors: torch.tensor(i)")
    values = [*carried, *(x for x in extra if isinstance(x, Value))]
    regions = _regions(c, node, values)
    attrs = {"carried": len(carried)}
    return tuple(map(Value, c.b.emit("while_loop", values, attrs, regions=regions)))


def _regions(c: Context, node: SourceNode, values: list[Value]) -> tuple[Any, Any]:
    types = [c.b.types[v] for v in values]
    first, second = (
        c.region(g, f"{node.outputs[0]}.{i}", types) for i, g in enumerate(node.regions)
    )
    return first, second
