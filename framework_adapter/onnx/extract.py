"""ONNX to a source graph. Reads the file only: nothing in it is executed.

Opsets 13 to 25 of the standard domain. An op of another domain is called ``domain.Op``. ``If`` and
``Loop`` get isolated bodies: what a body reads from outside becomes an operand, a constant is
copied in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cir import dim as dm
from cir.diagnostics import CirError, error
from cir.dim import Dim
from cir.graph import Const, TensorType
from framework_adapter.onnx.proto import DTYPES
from framework_adapter.onnx.tensors import constant
from framework_adapter.registry import require
from framework_adapter.source import InputSpec, Ref, SourceGraph, SourceNode

OPSETS = range(13, 26)
#: Attributes that hold a TensorProto.DataType.
_TYPE_ATTRS = ("to", "dtype", "output_dtype")
_STANDARD = ("", "ai.onnx")


def extract(
    model: Any, inputs: Sequence[InputSpec] | None = None, *, outputs: Sequence[str] | None = None
) -> SourceGraph:
    """The graph of an ONNX model.

    Args:
        model: path of a file, or a ModelProto.
        inputs: shapes to take instead of the file's, by name or in order.
        outputs: values to compute instead of the model's outputs.

    Raises:
        CirError: E101 for a missing file; E103 for inputs that do not fit; E105 for a file that is
        broken, of
            an unsupported opset, or whose external data leave its folder; E901 without the onnx
            package.
    """
    onnx = require("onnx", "onnx")
    folder = None
    if isinstance(model, (str, Path)):
        path = Path(model)
        folder = path.parent
        model = _load(onnx, path)
    try:
        if model.functions:
            from onnx.inliner import inline_local_functions

            model = inline_local_functions(model)
        return _Reader(model, folder).graph(inputs, outputs)
    except CirError:
        raise
    except Exception as exc:  # protobuf fields may hold anything at all
        raise error(
            "E105",
            f"the ONNX model is malformed: {exc}",
            fix="check it with onnx.checker.check_model",
        ) from exc


def _load(onnx: Any, path: Path) -> Any:
    if not path.is_file():
        raise error("E101", f"there is no file {path.name}", where=str(path))
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except Exception as exc:  # protobuf's own exception types
        raise error("E105", f"{path.name} is not an ONNX file: {exc}", where=str(path)) from exc
    if not model.graph.node and not model.graph.output:
        raise error("E105", f"{path.name} holds no graph", where=str(path))
    return model


def run_source(model: Any, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Results of an ONNX model in ONNX Runtime, its optimisers off. Raises CirError E103, E504,
    E901.
    """
    import tempfile

    from framework_adapter.onnx.emit import run

    if isinstance(model, (str, Path)):
        return run(model, feeds, optimise=False)
    with tempfile.TemporaryDirectory() as tmp:
        path = Path(tmp) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return run(path, feeds, optimise=False)


class _Reader:
    """Reads one model."""

    def __init__(self, model: Any, folder: Path | None) -> None:
        self.model, self.folder = model, folder
        opsets = {e.domain: e.version for e in model.opset_import}
        opset = next((opsets[d] for d in _STANDARD if d in opsets), None)
        if opset is not None and opset not in OPSETS:
            raise error(
                "E105",
                f"opset {opset} is not supported",
                nearest=f"{OPSETS[0]} to {OPSETS[-1]}",
                fix="convert the file with onnx.version_converter.convert_version(model, 20)",
            )
        self.opset = opset
        self.consts: dict[str, Const] = {}
        self.types: dict[str, TensorType | None] = {}
        self.fresh = 0

    def graph(
        self, specs: Sequence[InputSpec] | None, outputs: Sequence[str] | None
    ) -> SourceGraph:
        """The main graph."""
        g = self.model.graph
        self.consts = {t.name: constant(t, self.folder) for t in g.initializer}
        if g.sparse_initializer:
            raise error("E105", "sparse initialisers are not supported", fix="store them dense")
        given = [i for i in g.input if i.name not in self.consts]
        inputs = self._inputs(given, list(specs or []))
        self._note_types(g)
        known = {*inputs, *self.consts}
        nodes = self._nodes(g, known)
        wanted = list(outputs or [o.name for o in g.output])
        for name in wanted:
            if name not in known:
                raise error(
                    "E103" if outputs else "E105",
                    f"output {name!r} is no value of the model",
                    nearest=", ".join(sorted(known)[:5]),
                )
        version = next((p.value for p in self.model.metadata_props if p.key == "state"), "[]")
        state = [(str(i), str(o)) for i, o in json.loads(version)]
        return SourceGraph(
            "onnx",
            inputs,
            tuple(wanted),
            tuple(nodes),
            self.consts,
            tuple(wanted),
            state=tuple(p for p in state if p[0] in inputs and p[1] in wanted),
            versions={"onnx_opset": str(self.opset), "producer": self._producer()},
        )

    def _producer(self) -> str:
        return f"{self.model.producer_name} {self.model.producer_version}".strip()

    # -- inputs and types --------------------------------------------------------------------------
    def _inputs(self, given: Sequence[Any], specs: list[InputSpec]) -> dict[str, TensorType]:
        names = [i.name for i in given]
        by_name = {s.name: s for s in specs if s.name}
        if unknown := [n for n in by_name if n not in names]:
            raise error("E103", f"the model has no input {unknown[0]!r}", nearest=", ".join(names))
        if len(specs) > len(given):
            raise error(
                "E103",
                f"{len(specs)} inputs are given, the model has {len(given)}",
                nearest=", ".join(names),
            )
        out: dict[str, TensorType] = {}
        for i, info in enumerate(given):
            spec = by_name.get(info.name) or (
                specs[i] if i < len(specs) and not specs[i].name else None
            )
            t = self._type(info, spec)
            if spec is not None:
                if spec.dtype != t.dtype:
                    raise error(
                        "E103",
                        f"input {info.name!r} is {t.dtype} in the model, not {spec.dtype}",
                        fix=f"pass {t.dtype}",
                    )
                t = TensorType(t.dtype, spec.shape)
            out[info.name] = t
        return out

    def _type(self, info: Any, spec: InputSpec | None) -> TensorType:
        tensor = info.type.tensor_type
        if info.type.WhichOneof("value") != "tensor_type" or tensor.elem_type not in DTYPES:
            raise error(
                "E105", f"input {info.name!r} is no tensor of a supported dtype", where=info.name
            )
        if not tensor.HasField("shape"):
            if spec is None:
                raise error(
                    "E103",
                    f"input {info.name!r} has no shape in the model",
                    fix="pass inputs= with an InputSpec for it",
                )
            return TensorType(DTYPES[tensor.elem_type], spec.shape)
        shape = tuple(self._dim(d, f"{info.name}_{i}") for i, d in enumerate(tensor.shape.dim))
        return TensorType(DTYPES[tensor.elem_type], shape)

    @staticmethod
    def _dim(d: Any, name: str) -> Dim:
        if d.WhichOneof("value") == "dim_value" and d.dim_value >= 0:
            return int(d.dim_value)
        try:
            return dm.canonical(d.dim_param)
        except dm.DimError:
            label = re.sub(r"\W+", "_", d.dim_param or name).strip("_")
            return label if re.match(r"[A-Za-z_]", label) else f"d_{label}"

    def _note_types(self, g: Any) -> None:
        for info in (*g.value_info, *g.output):
            tensor = info.type.tensor_type
            dims = [d for d in tensor.shape.dim if d.WhichOneof("value")]
            whole = tensor.HasField("shape") and len(dims) == len(tensor.shape.dim)
            if whole and tensor.elem_type in DTYPES:
                shape = tuple(self._dim(d, info.name) for d in dims)
                self.types[info.name] = TensorType(DTYPES[tensor.elem_type], shape)

    # -- nodes -------------------------------------------------------------------------------------
    def _nodes(self, g: Any, known: set[str]) -> list[SourceNode]:
        out: list[SourceNode] = []
        for n in g.node:
            for name in n.input:
                if name and name not in known:
                    raise error(
                        "E105", f"node {n.name or n.op_type!r} reads {name!r} before it is computed"
                    )
            if twice := [o for o in n.output if o and o in known]:
                raise error("E105", f"value {twice[0]!r} is computed twice")
            known.update(o for o in n.output if o)
            if n.op_type == "Constant" and n.domain in _STANDARD:
                self.consts[n.output[0]] = self._constant(n)
            elif n.op_type in ("If", "Loop") and n.domain in _STANDARD:
                out.append(self._control(n, known))
            else:
                out.append(self._node(n))
        return out

    def _node(self, n: Any) -> SourceNode:
        op = n.op_type if n.domain in _STANDARD else f"{n.domain}.{n.op_type}"
        attrs = {a.name: self._attribute(a, n) for a in n.attribute}
        return SourceNode(
            op,
            tuple(Ref(i) if i else None for i in n.input),
            attrs,
            tuple(n.output),
            tuple(self.types.get(o) for o in n.output),
            n.name,
        )

    def _constant(self, n: Any) -> Const:
        a = n.attribute[0]
        if a.name == "value":
            return constant(a.t, self.folder)
        value = self._attribute(a, n)
        if a.name not in ("value_int", "value_ints", "value_float", "value_floats"):
            raise error("E105", f"Constant {n.output[0]!r} holds {a.name}, which is not supported")
        return Const.of(np.asarray(value, np.int64 if "int" in a.name else np.float32))

    def _attribute(self, a: Any, n: Any) -> Any:
        kind = a.type
        if kind == a.INT:
            return DTYPES.get(a.i, f"type {a.i}") if a.name in _TYPE_ATTRS else int(a.i)
        if kind == a.FLOAT:
            return _short(a.f)
        if kind == a.STRING:
            return a.s.decode("utf-8")
        if kind == a.INTS:
            return tuple(int(i) for i in a.ints)
        if kind == a.FLOATS:
            return tuple(map(_short, a.floats))
        if kind == a.STRINGS:
            return tuple(s.decode("utf-8") for s in a.strings)
        if kind == a.TENSOR:
            name = f"{n.output[0]}.{a.name}"
            self.consts[name] = constant(a.t, self.folder)
            return Ref(name)
        raise error(
            "E105", f"attribute {a.name!r} of {n.op_type} {n.name!r} is of a kind not supported"
        )

    # -- control flow ------------------------------------------------------------------------------
    def _control(self, n: Any, known: set[str]) -> SourceNode:
        """If and Loop with isolated bodies; a Loop as what ``while_loop`` takes."""
        outer = dict(self.consts)
        bodies = {a.name: a.g for a in n.attribute}
        order = ("then_branch", "else_branch") if n.op_type == "If" else ("body",)
        inner = [self._body(bodies[name], known) for name in order]
        self.consts = outer
        operands = [Ref(i) if i else None for i in n.input]
        op = n.op_type
        attrs: dict[str, Any] = {}
        if op == "Loop":
            if len(n.output) != len(operands) - 2:
                op = "Loop with scan outputs"
            inner, operands, attrs = self._loop(n, inner[0], operands)
        reads = dict.fromkeys(r for g in inner for r in _free(g))
        captured = [r for r in reads if r not in outer]
        added = dict.fromkeys(captured, _UNKNOWN)
        regions = tuple(
            replace(
                g,
                inputs={**g.inputs, **added},
                consts={**{r: outer[r] for r in _free(g) if r in outer}, **g.consts},
            )
            for g in inner
        )
        inputs = (*operands, *map(Ref, captured))
        types = tuple(self.types.get(o) for o in n.output)
        return SourceNode(op, inputs, attrs, tuple(n.output), types, n.name, "", regions)

    def _body(self, g: Any, known: set[str]) -> SourceGraph:
        """A body with its own inputs; what it reads from outside is left free."""
        outer, self.consts = self.consts, {t.name: constant(t, self.folder) for t in g.initializer}
        own = dict.fromkeys((i.name for i in g.input), _UNKNOWN)
        self._note_types(g)
        nodes = self._nodes(g, {*known, *own, *self.consts})
        consts, self.consts = self.consts, outer
        return SourceGraph("onnx", own, tuple(o.name for o in g.output), tuple(nodes), consts)

    def _loop(
        self, n: Any, body: SourceGraph, operands: list[Ref | None]
    ) -> tuple[list[SourceGraph], list[Ref | None], dict[str, Any]]:
        """(test and body, operands, attributes): the turn counter is carried only where it is
        read.
        """
        limit, go_on, *start = [*operands, None, None][: max(2, len(operands))]
        turn, again, *formals = body.inputs
        name = n.output[0]
        test_nodes: list[SourceNode] = []
        consts: dict[str, Const] = {}
        if go_on is None:
            go_on = Ref(f"{name}.true")
            self.consts[go_on.name] = Const.of(np.asarray(True))
        carried, results = [again, *formals], list(body.outputs)
        values: list[Ref | None] = [go_on, *start]
        verdict = again
        extra = [] if limit is None else [f"{name}.limit"]
        if limit is not None:
            verdict = f"{name}.verdict"
            test_nodes = [
                SourceNode("Less", (Ref(turn), Ref(extra[0])), {}, (f"{name}.more",)),
                SourceNode("And", (Ref(f"{name}.more"), Ref(again)), {}, (verdict,)),
            ]
        if limit is not None or any(turn in _refs(x) for x in body.nodes) or turn in body.outputs:
            zero, one, following = f"{name}.zero", f"{name}.one", f"{name}.next"
            self.consts[zero] = Const.of(np.int64(0))
            consts = {one: Const.of(np.int64(1))}
            add = SourceNode("Add", (Ref(turn), Ref(one)), {}, (following,))
            body = replace(body, nodes=(*body.nodes, add), consts={**body.consts, **consts})
            carried, results, values = [turn, *carried], [following, *results], [Ref(zero), *values]
        inputs = dict.fromkeys((*carried, *extra), _UNKNOWN)
        test = SourceGraph("onnx", inputs, (verdict,), tuple(test_nodes), {})
        body = replace(body, inputs=inputs, outputs=tuple(results))
        return [test, body], [*values, *([limit] if extra else [])], {
            "carried": len(carried), "limited": bool(extra),
        }  # fmt: skip


#: Stands for types that only the operands tell.
_UNKNOWN = TensorType("float32", ())


def _refs(n: SourceNode) -> list[str]:
    return [x.name for x in (*n.inputs, *n.attrs.values()) if isinstance(x, Ref)]


def _free(g: SourceGraph) -> list[str]:
    """Names that a body reads and neither defines nor holds."""
    own = {*g.inputs, *g.consts, *(o for n in g.nodes for o in n.outputs)}
    reads = [r for n in g.nodes for r in _refs(n)]
    return list(dict.fromkeys(r for r in (*reads, *g.outputs) if r not in own))


def _short(value: float) -> float:
    """A float32 attribute as the shortest decimal that stands for it: 1e-05, not 9.99999974e-06."""
    return float(str(np.float32(value)))
