"""If and While while walking a graph: their bodies become isolated regions.

Variables and constants that a body reads go into the body; what a loop hands on unchanged becomes a
loop invariant behind the carried values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cir import dtype as dt
from cir.diagnostics import error
from cir.graph import TensorType
from framework_adapter.source import Ref, SourceGraph
from framework_adapter.tensorflow.library import FunctionBody
from framework_adapter.tensorflow.load import Variable

if TYPE_CHECKING:
    from framework_adapter.tensorflow.walk import Region


def branch(region: Region, op: Any, env: dict[str, Any], scope: str) -> None:
    """If: both branches take the same operands."""
    bodies = [region.function(op, attr) for attr in ("then_branch", "else_branch")]
    operands = [env[t.name] for t in op.inputs[1:]]
    open_ = [i for i, x in enumerate(operands) if not _fixed(region, x)]
    graphs = tuple(_body(region, op, body, operands, open_, body.outputs, scope) for body in bodies)
    inputs = (region.value(env[op.inputs[0].name]), tuple(operands[i] for i in open_))
    outputs = region.names(op, scope)
    region.add(op, "If", inputs, {}, outputs, scope, graphs)
    env.update(zip((t.name for t in op.outputs), map(Ref, outputs)))


def loop(region: Region, op: Any, env: dict[str, Any], scope: str) -> None:
    """While: operands are the carried values, then the invariants that are not constants."""
    test, body = region.function(op, "cond"), region.function(op, "body")
    operands = [env[t.name] for t in op.inputs]
    same = [_handed_on(body, i) for i in range(len(operands))]
    for i, x in enumerate(operands):
        if isinstance(x, Variable) and not same[i]:
            raise error("E105", f"the loop {op.name!r} swaps variable {x.name!r} for another")
    carried = [i for i in range(len(operands)) if not same[i]]
    rest = [i for i, x in enumerate(operands) if same[i] and not _fixed(region, x)]
    open_ = [*carried, *rest]
    graphs = (
        _body(region, op, test, operands, open_, test.outputs, scope),
        _body(region, op, body, operands, open_, [body.outputs[i] for i in carried], scope),
    )
    base = region.names(op, scope)
    outputs = tuple(base[: len(carried)])
    values = tuple(region.value(operands[i]) for i in open_)
    region.add(op, "While", (values,), {"carried": len(carried)}, outputs, scope, graphs)
    for i, x in enumerate(operands):
        env[op.outputs[i].name] = Ref(outputs[carried.index(i)]) if i in carried else x


def _fixed(region: Region, x: Any) -> bool:
    return isinstance(x, Variable) or (isinstance(x, Ref) and x.name in region.consts)


def _handed_on(body: FunctionBody, i: int) -> bool:
    t = body.outputs[i]
    while t.op.type == "Identity":
        t = t.op.inputs[0]
    return bool(t is body.inputs[i])


def _body(
    region: Region,
    op: Any,
    body: FunctionBody,
    operands: list[Any],
    open_: list[int],
    ends: Sequence[Any],
    scope: str,
) -> SourceGraph:
    child = type(region)(region.shared)
    env: dict[str, Any] = {}
    names = {}
    for i, (argument, operand) in enumerate(zip(body.inputs, operands)):
        if isinstance(operand, Variable):
            env[argument.name] = operand
            continue
        # Not by the argument's own name, which holds a counter of the whole process.
        name = region.shared.unique(f"{op.name}/x{i}")
        env[argument.name] = Ref(name)
        names[i] = (name, _loose_type(argument, name))
        if i not in open_:
            child.consts[name] = region.consts[operand.name]
    child.run(body.graph, ends, env, scope)
    outputs = tuple(child.value(env[t.name]).name for t in ends)
    nodes, consts = child.live(outputs)
    inputs = dict(names[i] for i in open_)
    return SourceGraph("tensorflow", inputs, outputs, nodes, consts, layout="channels_last")


def _loose_type(t: Any, name: str) -> TensorType:
    """What is known of an argument's type; lowering takes the operand's own."""
    dtype = t.dtype.base_dtype.name
    dims = t.shape.as_list() if t.shape.rank is not None else []
    text = "".join(c if c.isalnum() else "_" for c in name)
    shape = tuple(f"d_{text}_{i}" if d is None else int(d) for i, d in enumerate(dims))
    return TensorType(dtype if dtype in dt.ALL else "float32", shape)
