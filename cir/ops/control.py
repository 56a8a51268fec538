"""Control flow. Regions are isolated: every outer value they read is an operand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cir.dim import Dim
from cir.graph import Graph, TensorType
from cir.infer import Attrs, Types, typed
from cir.spec import InferContext, InferError, op


def _regions(
    ctx: InferContext, names: tuple[str, str], operands: Sequence[TensorType]
) -> list[Graph]:
    """The two regions, whose inputs must have the operands' types."""
    if len(ctx.regions) != 2:
        raise InferError(f"needs the regions {names[0]} and {names[1]}, got {len(ctx.regions)}")
    for name, region in zip(names, ctx.regions):
        given = [region.types[i] for i in region.inputs]
        if len(given) != len(operands):
            raise InferError(
                f"region {name} takes {len(given)} inputs, got {len(operands)} operands"
            )
        for i, (a, b) in enumerate(zip(given, operands)):
            if a != b:
                raise InferError(f"region {name} takes {a} as input {i}, the operand is {b}")
    return list(ctx.regions)


def _results(region: Graph) -> list[TensorType]:
    return [region.types[o] for o in region.outputs]


def _refuse(name: str) -> TypeError:
    return TypeError(f"{name} has regions: the interpreter runs it, not a reference function")


def _infer_cond(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    pred = typed(types, 0)
    if pred.dtype != "bool" or pred.shape:
        raise InferError(f"pred must be bool[], is {pred}")
    operands = [typed(types, i) for i in range(1, len(types))]
    then, other = (_results(r) for r in _regions(ctx, ("then", "else"), operands))
    if len(then) != len(other):
        raise InferError(f"then gives {len(then)} results, else {len(other)}: must be as many")
    out = []
    for i, (a, b) in enumerate(zip(then, other)):
        if a.dtype != b.dtype or a.rank != b.rank:
            raise InferError(
                f"result {i} is {a} in then, {b} in else: dtype and rank must be equal"
            )
        shape: tuple[Dim, ...] = tuple(
            m if m == n else ctx.fresh() for m, n in zip(a.shape, b.shape)
        )
        out.append(TensorType(a.dtype, shape))
    return out


@op("cond(pred, *xs) -> *ys", infer=_infer_cond, regions=("then", "else"))
def cond(pred: Any, *xs: Any) -> Any:
    """The results of region then if pred (bool[]) holds, else those of region else.

    Both regions take xs. Dims in which the two results differ become new symbols.
    """
    raise _refuse("cond")


def _infer_while(types: Types, attrs: Attrs, ctx: InferContext) -> list[TensorType]:
    operands = [typed(types, i) for i in range(len(types))]
    carried = attrs["carried"]
    if not 0 <= carried <= len(operands):
        raise InferError(f"carried is {carried}, must be from 0 to {len(operands)}, the operands")
    test, body = _regions(ctx, ("cond", "body"), operands)
    if _results(test) != [TensorType("bool", ())]:
        shown = ", ".join(map(str, _results(test)))
        raise InferError(f"region cond gives {shown}, must give one bool[]")
    results = _results(body)
    if len(results) != carried:
        raise InferError(
            f"region body gives {len(results)} results, must give the {carried} carried"
        )
    for i, (a, b) in enumerate(zip(operands, results)):
        if a != b:
            raise InferError(
                f"carried value {i} enters as {a}, region body gives {b}: must be equal"
            )
    return results


@op("while_loop(*xs; carried: int) -> *ys", infer=_infer_while, regions=("cond", "body"))
def while_loop(*xs: Any, carried: int) -> Any:
    """Repeat region body while region cond gives True.

    The first ``carried`` operands change from turn to turn and are the results; the others stay.
    Both regions take all operands.
    """
    raise _refuse("while_loop")
