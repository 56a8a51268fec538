"""ONNX Runtime as validation needs it: threads pinned, optimisers on or off, values tapped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework_adapter.validate.environment import cpus


class Session:
    """One loaded ONNX model on the CPU.

    Args:
        model: file, or serialised model whose weights files are in ``folder``.
        optimise: whether ONNX Runtime may rewrite the graph.
        threads: threads of one op; default: the CPUs this process may use.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        optimise: bool = True,
        threads: int | None = None,
        folder: Path | None = None,
    ) -> None:
        import onnxruntime as ort

        self.threads = threads or cpus()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that wait actively would slow down the framework that is measured in turn with us.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if folder is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(folder)
            )
        source = model if isinstance(model, bytes) else str(model)
        self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(i.name for i in self._session.get_inputs())
        self.outputs = tuple(o.name for o in self._session.get_outputs())

    def run(
        self, feeds: Sequence[np.ndarray], names: Sequence[str] | None = None
    ) -> list[np.ndarray]:
        """Outputs (all, or those named) for inputs in order."""
        found: list[np.ndarray] = self._session.run(names, dict(zip(self.inputs, feeds)))
        return found


class Taps:
    """Any intermediate value of an ONNX file by its name, computed node by node as emitted.

    ONNX Runtime's optimisers are off: they would fuse away the very values asked for.
    """

    def __init__(self, path: Path, feeds: Sequence[np.ndarray], wanted: Iterable[str]) -> None:
        import onnx

        model = onnx.load(str(path), load_external_data=False)
        produced = {o for node in model.graph.node for o in node.output if o}
        outputs = {o.name for o in model.graph.output}
        self.names = tuple(n for n in dict.fromkeys(wanted) if n in produced)
        for name in self.names:
            if name not in outputs:  # ONNX Runtime infers the type itself
                model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        self._feeds = feeds
        self._session = Session(model.SerializeToString(), optimise=False, folder=path.parent)

    def __call__(self, names: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Arrays by name, for those names that the file has."""
        have = [n for n in names if n in set(self.names)]
        return dict(zip(have, self._session.run(self._feeds, have))) if have else {}


def interface(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of a file's inputs and outputs."""
    graph = _graph(path)
    weights = {i.name for i in graph.initializer}
    inputs = tuple(i.name for i in graph.input if i.name not in weights)
    return inputs, tuple(o.name for o in graph.output)


def emitted_ops(
    path: Path, mapping: Mapping[str, Sequence[str]], program: Collection[str]
) -> dict[str, list[str]]:
    """Program node -> types of the ops made for it, in the file's order.

    A node made for something the program does not have (a part of an op that was decomposed) counts
    to the first program node that its result reaches.

    Args:
        path: the file.
        mapping: node the emitter was given -> names of nodes in the file.
        program: names of the program's nodes.
    """
    graph = _graph(path)
    owner = {e: name for name, made in mapping.items() if name in program for e in made}
    reader = {i: node.name for node in reversed(graph.node) for i in node.input}
    for node in reversed(graph.node):
        if node.name not in owner:
            heirs = (owner.get(reader.get(o, "")) for o in node.output)
            owner[node.name] = next((h for h in heirs if h), "")
    out: dict[str, list[str]] = {}
    for name, op in _types(graph).items():
        out.setdefault(owner.get(name, ""), []).append(op)
    return out


def _types(graph: Any) -> dict[str, str]:
    """Node name -> op type (with its domain when it is not ONNX's own), bodies included."""
    found: dict[str, str] = {}

    def visit(graph: Any) -> None:
        for node in graph.node:
            domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
            found[node.name] = domain + node.op_type
            for attr in node.attribute:
                for body in (*([attr.g] if attr.HasField("g") else ()), *attr.graphs):
                    visit(body)

    visit(graph)
    return found


def _graph(path: Path) -> Any:
    import onnx

    return onnx.load(str(path), load_external_data=False).graph
