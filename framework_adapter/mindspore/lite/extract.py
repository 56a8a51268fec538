"""A ``.ms`` file to a source graph. Files are untrusted: nothing is run, everything is checked.

A file computes with int32 where our programs have int64: an int64 input is cast to int32 first, and
results go back at the end. Reading undoes that: such casts are left out, and what follows from an
int64 value, or is an index by nature, is int64. A constant takes the dtype of what it meets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cir import dim as dm
from cir.diagnostics import error
from cir.dim import Dim
from cir.graph import Const, Range, TensorType
from framework_adapter.mindspore.lite import flat
from framework_adapter.mindspore.lite.check import DTYPES, checked, dims_of, has_data
from framework_adapter.mindspore.lite.write import stated_dims
from framework_adapter.source import InputSpec, Ref, SourceGraph, SourceNode

_LIMIT = 2**31 - 1
_MAX_DIM_TEXT = 200
#: Inputs whose dtype the results have, where it is not the first alone.
_FOLLOWS: Mapping[str, tuple[int, ...]] = {
    "Where": (1, 2), "Select": (1, 2), "Range": (0, 1, 2), "ScatterNdUpdate": (0, 2),
    "TensorScatterAdd": (0, 2),
}  # fmt: skip
_TOGETHER = frozenset(
    [
        "AddFusion",
        "AddN",
        "Concat",
        "Eltwise",
        "Equal",
        "FloorDiv",
        "FloorMod",
        "Greater",
        "GreaterEqual",
        "Less",
        "LessEqual",
        "Maximum",
        "Minimum",
        "Mod",
        "MulFusion",
        "NotEqual",
        "SquaredDifference",
        "Stack",
        "SubFusion",
    ]
)
#: Ops whose integer results are indices or sizes.
_INDICES = frozenset(["Shape", "ArgMaxFusion", "ArgMinFusion"])


def extract(
    model: Any, inputs: Sequence[InputSpec] | None = None, *, outputs: Sequence[str] | None = None
) -> SourceGraph:
    """The graph of a file.

    Args:
        model: path of a ``.ms`` file.
        inputs: shapes to take instead of the file's, by name or in order.
        outputs: values to compute instead of the model's outputs.

    Raises:
        CirError: E101 for a missing file; E103 for inputs or outputs that do not fit; E105 for a
            file that is broken or holds what is not read.
    """
    path = Path(model)
    if not path.is_file():
        raise error("E101", f"there is no file {path.name}", where=str(path))
    if path.stat().st_size > _LIMIT:
        raise error("E105", f"{path.name} is larger than 2 GiB", fix="such files do not exist")
    return _Reader(flat.unpack(path.read_bytes())).graph(list(inputs or []), outputs)


def run_source(model: Any, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Results of a file, read back and run in ONNX Runtime. Raises CirError."""
    from framework_adapter.readback import run

    return run(model, feeds)


class _Reader:
    def __init__(self, model: Mapping[str, Any]) -> None:
        self.model = model
        self.tensors = model["allTensors"]
        self.order = checked(model)
        self.ins = [int(i) for i in model["inputIndex"]]
        self.outs = [int(i) for i in model["outputIndex"]]
        self.names = self._names()
        #: IR dtype of each value that is known by now
        self.dtypes: dict[int, str] = {}
        #: value -> the one it stands for: casts between int64 and int32
        self.alias: dict[int, int] = {}
        self.consts: dict[str, Const] = {}
        made = {DTYPES[self.tensors[i]["dataType"]] for i in self.ins}
        #: dtype of integers that nothing decides
        self.index = "int32" if "int32" in made and "int64" not in made else "int64"

    def _names(self) -> list[str]:
        found: list[str] = []
        used: set[str] = set()
        for i, t in enumerate(self.tensors):
            name = t["name"] or f"t{i}"
            while name in used:
                name += "_"
            used.add(name)
            found.append(name)
        return found

    # -- the graph ---------------------------------------------------------------------------------
    def graph(self, specs: list[InputSpec], outputs: Sequence[str] | None) -> SourceGraph:
        """The graph with these shapes of inputs and these outputs."""
        inputs = self._inputs(specs)
        for i in self.ins:
            self.dtypes[i] = inputs[self.names[i]].dtype
        nodes = [n for at in self.order for n in self._node(self.model["nodes"][at])]
        if outputs:
            places = {n: i for i, n in enumerate(self.names) if i in self.dtypes}
            if unknown := [o for o in outputs if o not in places]:
                near = ", ".join(sorted(places)[:5])
                raise error("E103", f"output {unknown[0]!r} is no value of the model", nearest=near)
            wanted = [places[o] for o in outputs]
        else:
            wanted = self.outs
        results = tuple(self._result(o, nodes) for o in wanted)
        symbols = {s for t in inputs.values() for d in t.shape for s in dm.symbols_of(d)}
        return SourceGraph(
            "mslite",
            inputs,
            results,
            tuple(nodes),
            self.consts,
            tuple(self.names[o] for o in wanted),
            symbols={s: Range(1) for s in sorted(symbols)},
            versions={"mslite": self.model["version"] or ""},
        )

    def _result(self, o: int, nodes: list[SourceNode]) -> str:
        """An output's value: an int64 one has a Cast in the file, so another integer is int32."""
        found = self._ref(o, None).name
        inside = self.dtypes.get(self.alias.get(o, o))
        if inside != "int64" or DTYPES[self.tensors[o]["dataType"]] != "int32":
            return found
        name = f"{self.names[o]}:int32"
        nodes.append(SourceNode("Cast", (Ref(found),), {"dtype": "int32"}, (name,)))
        return name

    def _inputs(self, specs: list[InputSpec]) -> dict[str, TensorType]:
        names = [self.names[i] for i in self.ins]
        by_name = {s.name: s for s in specs if s.name}
        if unknown := [n for n in by_name if n not in names]:
            raise error("E103", f"the model has no input {unknown[0]!r}", nearest=", ".join(names))
        if len(specs) > len(names):
            raise error(
                "E103", f"{len(specs)} inputs are given, the model has {len(names)}",
                nearest=", ".join(names),
            )  # fmt: skip
        out = {}
        for at, (i, shape) in enumerate(zip(self.ins, self._shapes())):
            t = TensorType(DTYPES[self.tensors[i]["dataType"]], shape)
            given = by_name.get(names[at])
            if given is None and at < len(specs) and specs[at].name is None:
                given = specs[at]
            out[names[at]] = t if given is None else _fitted(names[at], t, given)
        return out

    def _shapes(self) -> list[tuple[Dim, ...]]:
        """Shapes of inputs; an unknown size has the name that the graph's own name states."""
        stored = [tuple(dims_of(self.tensors[i])) for i in self.ins]
        stated = stated_dims(self.model["name"] or "")
        if stated is not None and len(stated) == len(stored):
            if all(map(_states, stated, stored)):
                return stated
        return [
            tuple(
                d if d >= 0 else "batch" if not axis else f"d{at}_{axis}"
                for axis, d in enumerate(shape)
            )
            for at, shape in enumerate(stored)
        ]

    # -- nodes -------------------------------------------------------------------------------------
    def _node(self, node: Mapping[str, Any]) -> list[SourceNode]:
        op, fields = node["primitive"]["value"]
        ins = [self.alias.get(int(i), int(i)) for i in node["inputIndex"]]
        outs = [int(o) for o in node["outputIndex"]]
        if op == "Cast" and self._same_integer(ins, outs):
            self.alias[outs[0]] = ins[0]
            self.dtypes[outs[0]] = self.dtypes[ins[0]]
            return []
        follows = range(len(ins)) if op in _TOGETHER else _FOLLOWS.get(op, (0,))
        decided = [self.dtypes[ins[i]] for i in follows if i < len(ins) and ins[i] in self.dtypes]
        integers = [d for d in decided if d in ("int32", "int64")]
        meets = "int64" if "int64" in integers else integers[0] if integers else self.index
        operands = [self._ref(i, meets if at in follows else None, op) for at, i in enumerate(ins)]
        for o in outs:
            dtype = DTYPES[self.tensors[o]["dataType"]]
            if dtype == "int32":
                indices = op in _INDICES or op == "TopKFusion" and o != outs[0]
                indices = indices or op == "Where" and len(ins) == 1
                made = "int32" if o in self.outs else self.index
                dtype = "int64" if indices else made if op == "Cast" else meets
            self.dtypes[o] = dtype
        attrs = {
            f"{k}_" if k == "global" else k: _plain(v) for k, v in fields.items() if v is not None
        }
        if op == "Cast":
            attrs, operands = {"dtype": self.dtypes[outs[0]]}, operands[:1]
        names = tuple(self.names[o] for o in outs)
        return [SourceNode(op, tuple(operands), attrs, names, module=node["name"] or "")]

    def _same_integer(self, ins: list[int], outs: list[int]) -> bool:
        """Whether a Cast is between int32 and int64, or changes nothing, and its operand is no
        constant.
        """
        if len(outs) != 1 or not ins or ins[0] not in self.dtypes:
            return False
        have, want = (DTYPES[self.tensors[i]["dataType"]] for i in (ins[0], outs[0]))
        if have == want:
            return True
        inside = self.dtypes[ins[0]]
        return (have, want) == ("int64", "int32") or (want == "int64" and inside == "int64")

    def _ref(self, i: int, dtype: str | None, op: str = "") -> Ref:
        """A reference to a value; a constant of integers in a dtype, by default that of indices."""
        i = self.alias.get(i, i)
        t = self.tensors[i]
        if i in self.dtypes or not has_data(t):
            return Ref(self.names[i])
        have = DTYPES[t["dataType"]]
        want = have
        if have == "int32":
            want = dtype or "int64"
        elif have == "float16" and op != "Cast":
            want = "float32"  # half precision is how it is stored, not how it is computed with
        name = self.names[i] if want == have else f"{self.names[i]}:{want}"
        if name not in self.consts:
            dims = dims_of(t)
            count = math.prod(dims)
            array = np.frombuffer(t["data"].data, np.dtype(have).newbyteorder("<"), count)
            self.consts[name] = Const.of(array.reshape(dims).astype(want, copy=False))
        return Ref(name)


def _states(stated: Sequence[Dim], stored: Sequence[int]) -> bool:
    """Whether named dims are those of a file's shape, an unknown one for each -1."""
    if len(stated) != len(stored):
        return False
    for a, b in zip(stated, stored):
        if isinstance(a, int) or b >= 0:
            if a != b:
                return False
            continue
        try:
            if len(a) > _MAX_DIM_TEXT or dm.canonical(a) != a:
                return False
        except (ValueError, SyntaxError, RecursionError):
            return False
    return True


def _fitted(name: str, have: TensorType, given: InputSpec) -> TensorType:
    """A file's type with the sizes that the user gives. Raises CirError E103."""
    fixed = any(
        isinstance(a, int) and isinstance(b, int) and a != b
        for a, b in zip(have.shape, given.shape)
    )
    if given.dtype != have.dtype or len(given.shape) != have.rank or fixed:
        shown = TensorType(given.dtype, tuple(given.shape))
        raise error("E103", f"input {name!r} is {have}, {shown} was given")
    return TensorType(
        have.dtype,
        tuple(a if isinstance(a, int) else b for a, b in zip(have.shape, given.shape)),
    )


def _plain(v: Any) -> Any:
    """An attribute as numbers, strings and tuples."""
    if isinstance(v, np.ndarray):
        return tuple(v.tolist())
    if isinstance(v, Mapping):
        return tuple(_plain(x) for x in v.values())
    return tuple(_plain(x) for x in v) if isinstance(v, list) else v
