"""CIR to a TensorFlow SavedModel of TensorFlow's own ops, which any TensorFlow runtime loads.

Written by ``tf.saved_model.save`` from a ``tf.Module``: weights are variables, the one signature
is ``serving_default``. ``assets.extra/cir.json`` keeps what a signature cannot say (the order of
inputs and outputs, symbolic dims) with the program's digest and where it came from.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cir.diagnostics import Collector, error
from cir.graph import Graph, Model
from framework_adapter import emission
from framework_adapter.emission import Emission, EmitResult
from framework_adapter.output import check_writable, staged
from framework_adapter.registry import require
from framework_adapter.target import Scope, TargetGraph

SIGNATURE = "serving_default"
#: Beside the model, where TensorFlow keeps what it does not read itself.
EXTRA = "assets.extra"


class SavedModelBackend:
    """Writes SavedModel folders and runs them in TensorFlow."""

    name = "saved_model"
    extra = "tensorflow"
    folder = True
    checked_by = "TensorFlow"
    options: Mapping[str, str] = {}

    @property
    def runnable(self) -> bool:
        """Whether TensorFlow is installed."""
        return importlib.util.find_spec("tensorflow") is not None

    def emit(
        self,
        model: Model,
        path: Path,
        *,
        digest: str = "",
        versions: Mapping[str, str] | None = None,
        ctx: Any = None,
    ) -> EmitResult:
        """Legalise a program towards channels-last data and write it; see ``write``."""
        from framework_adapter.pipeline import back

        rows = table()
        legal = back(rows.legal, layout="channels_last").run(model, ctx)
        return write(legal, path, model.graph.outputs, digest=digest, versions=versions)

    def run(self, path: Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results of the signature in TensorFlow; see ``run``."""
        return run(path, feeds)


BACKEND = SavedModelBackend()


@cache
def table() -> Emission:
    """The emission table. Raises CirError E901 without TensorFlow, which says what it takes."""
    require("tensorflow", "tensorflow")
    from framework_adapter.tensorflow.kernels import TensorFlowTarget

    return Emission(emission.load("tensorflow"), TensorFlowTarget())


def lowered(graph: Graph) -> TargetGraph:
    """The TensorFlow graph of a program of legal ops. Raises CirError E501 for all that are not."""
    rows = table()
    found = Collector()
    rows.check_legal(graph, found, "saved_model")
    found.raise_errors()
    return Scope(rows, graph).main()


def write(
    model: Model,
    path: Path | str,
    outputs: Sequence[str] = (),
    *,
    digest: str = "",
    versions: Mapping[str, str] | None = None,
) -> EmitResult:
    """Write a program as a SavedModel folder.

    Args:
        model: a program of legal ops (see ``table``).
        path: the folder; what an earlier conversion wrote there is replaced.
        outputs: names of the results; default: those of the program. Inputs keep their names but
            for characters that TensorFlow does not allow, which become ``_``.
        digest: of the program, kept beside the model.
        versions: library -> version of the source, kept likewise.

    Raises:
        CirError: E501 for all ops that cannot be emitted; E502 when the folder cannot be written;
            E504 when it holds an op that only this process can run; E901 without TensorFlow.
    """
    tf = require("tensorflow", "tensorflow")
    from framework_adapter.tensorflow import program
    from framework_adapter.tensorflow.canonical import canonicalise

    path = Path(path)
    check_writable(path, folder=True)
    graph = lowered(model.graph)
    inputs = _argument_names(graph.inputs)
    results: dict[str, str] = {}
    for own, name in zip(graph.outputs, outputs or model.graph.outputs):
        results[own] = own if name in results.values() else name
    extra = {
        "digest": digest,
        "inputs": {new: list(graph.types[old].shape) for old, new in inputs.items()},
        "outputs": list(results.values()),
        "state": [[inputs[i], o] for i, o in model.state],
        "versions": dict(sorted((versions or {}).items())),
    }
    with staged(path) as tmp:
        module = program.build(graph, inputs, results)
        try:
            tf.saved_model.save(module, str(tmp), signatures={SIGNATURE: module.serve})
        except tf.errors.OpError as exc:
            why = str(exc.message).splitlines()[0]
            fix = "free space or change the path"
            raise error("E502", f"cannot write {path}: {why}", fix=fix) from exc
        check(canonicalise(tmp))
        (tmp / EXTRA).mkdir()
        lines = (f" {json.dumps(k)}: {json.dumps(v)}" for k, v in extra.items())
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        (tmp / EXTRA / "cir.json").write_text(text, encoding="utf-8")
        files = sorted(f.relative_to(tmp) for f in tmp.rglob("*") if f.is_file())
    files.sort(key=lambda f: f.name != "saved_model.pb")
    mapping: dict[str, list[str]] = {}
    made = list(graph.walk())
    for node in made:
        mapping.setdefault(node.origin, []).append(program.legal_name(node.outputs[0]))
    names = {k: tuple(v) for k, v in mapping.items()}
    return EmitResult(path, tuple(path / f for f in files), len(made), names)


def _argument_names(given: Sequence[str]) -> dict[str, str]:
    """Names of inputs as TensorFlow takes them, which differ also when read as Python names."""
    from framework_adapter.tensorflow.program import legal_name

    taken: set[str] = set()
    out = {}
    for name in given:
        legal = candidate = legal_name(name)
        n = 0
        while re.sub(r"\W", "_", candidate) in taken:
            n += 1
            candidate = f"{legal}_{n}"
        taken.add(re.sub(r"\W", "_", candidate))
        out[name] = candidate
    return out


def check(message: Any) -> None:
    """Raise CirError E504 for ops that stock TensorFlow cannot run: Python and custom ones."""
    from framework_adapter.tensorflow.canonical import nodes
    from framework_adapter.tensorflow.kernels import slots

    found = Collector()
    for meta in message.meta_graphs:
        for node in nodes(meta):
            if slots(node.op) is None:
                found.add(
                    "E504",
                    f"a TensorFlow runtime without Python has no kernel for {node.op}",
                    where=node.name,
                    fix="emit the op by others in its emission row",
                )
    found.raise_errors()


def run(path: Path | str, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Results of a SavedModel's signature, by TensorFlow on the CPU.

    Args:
        path: the folder.
        feeds: arrays in the order of the inputs, of their own dtypes.

    Returns:
        Arrays in the order of the outputs.

    Raises:
        CirError: E103 for feeds of another number or dtype; E504 when TensorFlow does not load the
            folder or refuses the feeds; E901 without TensorFlow.
    """
    tf = require("tensorflow", "tensorflow")
    path = Path(path)
    try:
        stat = (path / "saved_model.pb").stat()
        signature, inputs, outputs = _loaded(path.resolve(), stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError, LookupError, TypeError, tf.errors.OpError) as exc:
        raise error("E504", f"TensorFlow does not load {path.name}", why=str(exc)[:400]) from exc
    if len(feeds) != len(inputs):
        names = ", ".join(inputs) or "none"
        raise error("E103", f"{len(feeds)} values are given", why=f"the inputs are {names}")
    given = {}
    for (key, spec), array in zip(inputs.items(), map(np.asarray, feeds)):
        if array.dtype.name != spec.dtype.name:
            have, want = array.dtype.name, spec.dtype.name
            raise error("E103", f"input {spec.name!r} has dtype {have} instead of {want}")
        given[key] = tf.constant(array)
    try:
        results = signature(**given)
    except (TypeError, ValueError, tf.errors.OpError) as exc:
        raise error("E504", f"TensorFlow does not run {path.name}", why=str(exc)[:400]) from exc
    return [results[name].numpy() for name in outputs]


@lru_cache(maxsize=2)
def _loaded(folder: Path, modified: int, size: int) -> tuple[Any, dict[str, Any], list[str]]:
    """(signature, argument -> TensorSpec in order, names of outputs in order) of a SavedModel."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))
    signature = model.signatures[SIGNATURE]
    signature.model = model  # its variables live as long as the model does
    specs = signature.structured_input_signature[1]
    extra = description(folder)
    known = {spec.name: key for key, spec in specs.items()}
    keys = [known[n] for n in extra["inputs"]] if extra else sorted(specs)
    outputs = extra["outputs"] if extra else sorted(signature.structured_outputs)
    return signature, {k: specs[k] for k in keys}, outputs


def description(folder: Path) -> dict[str, Any] | None:
    """What ``cir.json`` beside the model says; None without one, or for a broken one."""
    try:
        found = json.loads((folder / EXTRA / "cir.json").read_text(encoding="utf-8"))
        whole = isinstance(found["inputs"], dict) and isinstance(found["outputs"], list)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return found if whole else None
