"""Models in files: SavedModel folders and frozen graphs, read without executing them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cir.diagnostics import error
from framework_adapter.source import InputSpec
from framework_adapter.tensorflow.library import Library
from framework_adapter.tensorflow.load import Loaded, Traced, Variable, failed
from framework_adapter.tensorflow.saved_model import description

#: Stateful ops that change nothing outside the model; no others are executed from a file.
_HARMLESS = frozenset(
    {
        "VarHandleOp",
        "VariableV2",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "Placeholder",
        "Assert",
        "Print",
        "PrintV2",
        "If",
        "While",
        "StatefulPartitionedCall",
        "TensorListReserve",
        "EmptyTensorList",
    }
)
_NO_OUTPUT = ("NoOp", "Assert", "Const", "Placeholder", "CheckNumerics", "Print", "PrintV2")


@dataclass
class Stored:
    """A GraphDef with named ends.

    Attributes:
        graph_def: the graph and its function library.
        ends: (input tensor names, (output name, tensor name) pairs).
        variables: variable op name -> variable.
    """

    graph_def: Any
    inputs: list[InputSpec]
    input_tensors: Sequence[str]
    outputs: Sequence[tuple[str, str]]
    variables: Mapping[str, Variable] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def trace(self, specs: Sequence[InputSpec]) -> Traced:
        """The graph with these input shapes. CirError E105 for ops TensorFlow does not know."""
        import tensorflow as tf

        graph = tf.Graph()
        with graph.as_default():
            feeds = [
                tf.compat.v1.placeholder(
                    s.dtype, [d if isinstance(d, int) else None for d in s.shape], f"in{i}"
                )
                for i, s in enumerate(specs)
            ]
            try:
                ends = tf.graph_util.import_graph_def(
                    self.graph_def,
                    input_map=dict(zip(self.input_tensors, feeds)),
                    return_elements=[t for _, t in self.outputs],
                    name="",
                )
            except Exception as exc:
                raise failed("TensorFlow could not import the graph", exc) from exc
        outputs = [(name, t) for (name, _), t in zip(self.outputs, ends)]
        return Traced(graph, feeds, outputs, self.variables)

    def run(self, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run only the part of the graph that leads to the outputs.

        Raises CirError E105 when that part does more than compute, such as writing a file.
        """
        import tensorflow as tf

        specs = [InputSpec(s.name, s.dtype, tuple(a.shape)) for s, a in zip(self.inputs, feeds)]
        traced = self.trace(specs)
        _check_harmless(traced)
        with traced.graph.as_default(), tf.compat.v1.Session(graph=traced.graph) as session:
            for op_name, variable in self.variables.items():
                handle = traced.graph.get_operation_by_name(op_name).outputs[0]
                value = tf.compat.v1.placeholder(variable.read().dtype)
                by_handle = handle.dtype.name == "resource"
                assign = (
                    tf.raw_ops.AssignVariableOp(resource=handle, value=value)
                    if by_handle
                    else tf.raw_ops.Assign(ref=handle, value=value, validate_shape=False).op
                )
                session.run(assign, {value: variable.read()})
            out: list[np.ndarray] = session.run(
                [t for _, t in traced.outputs], dict(zip(traced.inputs, feeds))
            )
        return out


def _check_harmless(traced: Traced) -> None:
    from tensorflow.python.framework import op_def_registry

    seen: dict[str, Any] = {}
    stack = [t.op for _, t in traced.outputs]
    while stack:
        op = stack.pop()
        if op.name not in seen:
            seen[op.name] = op.node_def
            stack.extend((*(t.op for t in op.inputs), *op.control_inputs))
    nodes = list(seen.values())
    for function in Library(traced.graph).closure(nodes):
        nodes.extend(function.node_def)
    for node in nodes:
        definition = op_def_registry.get(node.op)
        if definition is not None and definition.is_stateful and node.op not in _HARMLESS:
            raise error(
                "E105",
                f"the model was not run: it holds {node.op} ({node.name})",
                why="of a file only ops without side effects are executed",
                fix="load the model in Python and pass the object, if you trust the file",
            )


def frozen_graph(path: Path) -> Loaded:
    """A GraphDef file without variables: placeholders are inputs, unread results outputs."""
    from tensorflow.core.framework import graph_pb2

    graph_def = _parse(path, graph_pb2.GraphDef())
    placeholders = [n for n in graph_def.node if n.op == "Placeholder"]
    read = {_node(ref)[0] for n in graph_def.node for ref in n.input}
    ends = [n.name for n in graph_def.node if n.name not in read and n.op not in _NO_OUTPUT]
    variables = [n.name for n in graph_def.node if n.op in ("VarHandleOp", "VariableV2")]
    if variables or not ends:
        raise error(
            "E105",
            f"{path.name} is not a frozen graph",
            why=f"it has {len(variables)} variables and {len(ends)} outputs",
            fix="freeze the variables into constants, or save the model as a SavedModel folder",
        )
    inputs = [InputSpec(n.name, *_placeholder_type(n)) for n in placeholders]
    tensors = [f"{n.name}:0" for n in placeholders]
    return Stored(graph_def, inputs, tensors, [(n, f"{n}:0") for n in ends])


def saved_model(folder: Path) -> Loaded:
    """A SavedModel folder: its signature ``serving_default``, or its only one."""
    from tensorflow.core.protobuf import saved_model_pb2

    metas = _parse(folder / "saved_model.pb", saved_model_pb2.SavedModel()).meta_graphs
    meta = next((m for m in metas if "serve" in m.meta_info_def.tags), metas[0] if metas else None)
    signatures = {} if meta is None else {k: s for k, s in meta.signature_def.items() if s.outputs}
    signatures = {k: s for k, s in signatures.items() if not k.startswith("__")}
    key = "serving_default" if "serving_default" in signatures else min(signatures, default="")
    if meta is None or not key:
        raise error(
            "E105",
            f"{folder.name} holds no signature",
            fix="save with tf.saved_model.save(..., signatures=...) or model.export(folder)",
        )
    signature, graph_def = signatures[key], meta.graph_def
    functions = {f.signature.name: f for f in graph_def.library.function}
    names = _input_order(signature, graph_def, functions)
    outputs = sorted(signature.outputs, key=_natural)
    own = [str(o) for o in (description(folder) or {}).get("outputs", ())]
    if sorted(own) == sorted(outputs):  # one of ours: in the order in which it was written
        outputs = own
    return Stored(
        graph_def,
        [InputSpec(n, *_info_type(signature.inputs[n])) for n in names],
        [signature.inputs[n].name for n in names],
        [(n, signature.outputs[n].name) for n in outputs],
        _variables(folder, meta, functions),
        () if len(signatures) == 1 else (f"signature {key!r} of {', '.join(sorted(signatures))}",),
    )


def _parse(path: Path, message: Any) -> Any:
    try:
        message.ParseFromString(path.read_bytes())
    except OSError as exc:
        raise error("E101", f"cannot read {path}", why=str(exc)) from exc
    except Exception as exc:  # protobuf's DecodeError
        what = f"{path.name} is not a valid {type(message).__name__}"
        fix = "save the model again, as a SavedModel folder or a .keras file"
        raise error("E105", what, where=str(path), why=str(exc), fix=fix) from exc
    return message


def _node(ref: str) -> tuple[str, int]:
    """("node", output index) of a reference in a graph or in a function body."""
    parts = ref.lstrip("^").split(":")
    return parts[0], int(parts[-1]) if len(parts) > 1 else 0


def _natural(name: str) -> list[Any]:
    return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)]


def _dtype(enum: int) -> str:
    import tensorflow as tf

    return str(tf.dtypes.as_dtype(enum).name)


def _dims(shape: Any) -> Any:
    return None if shape.unknown_rank else tuple(int(d.size) for d in shape.dim)


def _placeholder_type(node: Any) -> tuple[str, Any]:
    shape = _dims(node.attr["shape"].shape) if "shape" in node.attr else None
    return _dtype(node.attr["dtype"].type), shape


def _info_type(info: Any) -> tuple[str, Any]:
    return _dtype(info.dtype), _dims(info.tensor_shape)


def _input_order(signature: Any, graph_def: Any, functions: Mapping[str, Any]) -> list[str]:
    """Signature inputs in the order of the innermost function that takes them all.

    A signature is alphabetical in the file; the function behind it has the real order.
    """
    names = sorted(signature.inputs, key=_natural)
    alias = {_node(signature.inputs[n].name)[0]: n for n in names}
    nodes: Iterable[Any] = graph_def.node
    order = names
    while alias:
        call = next(
            (
                n
                for n in nodes
                if n.op in ("PartitionedCall", "StatefulPartitionedCall")
                and {_node(r)[0] for r in n.input} >= alias.keys()
            ),
            None,
        )
        body = functions.get(call.attr["f"].func.name) if call is not None else None
        if call is None or body is None:
            break
        refs = [_node(r)[0] for r in call.input]
        order = sorted(names, key=lambda n: min(i for i, r in enumerate(refs) if alias.get(r) == n))
        args = [a.name for a in body.signature.input_arg]
        alias = {args[i]: alias[r] for i, r in enumerate(refs) if r in alias}
        nodes = body.node_def
    return order


def _variables(folder: Path, meta: Any, functions: Mapping[str, Any]) -> dict[str, Variable]:
    """Variable op name -> its value in the checkpoint, as the restore function would assign."""
    import tensorflow as tf

    restore = meta.saver_def.restore_op_name
    nodes = {n.name: n for n in meta.graph_def.node}
    if restore not in nodes or not (folder / "variables").is_dir():
        return {}
    owner: Callable[[str], str] = str
    call = nodes[restore]
    if call.op.endswith("PartitionedCall"):
        body = functions[call.attr["f"].func.name]
        args = dict(zip((a.name for a in body.signature.input_arg), call.input))
        nodes = {n.name: n for n in body.node_def}
        owner = lambda arg: _node(args.get(arg, arg))[0]  # noqa: E731
    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    found = {}
    for node in nodes.values():
        if node.op not in ("AssignVariableOp", "Assign"):
            continue
        source, index = _node(node.input[1])
        while source in nodes and nodes[source].op == "Identity":
            source, index = _node(nodes[source].input[0])
        if source in nodes and nodes[source].op == "RestoreV2":
            keys = tf.make_ndarray(nodes[_node(nodes[source].input[1])[0]].attr["value"].tensor)
            name = owner(_node(node.input[0])[0])
            found[name] = Variable(name, _reading(reader, keys.reshape(-1)[index].decode()))
    return found


def _reading(reader: Any, key: str) -> Callable[[], np.ndarray]:
    return lambda: np.asarray(reader.get_tensor(key))
