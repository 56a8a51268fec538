"""AIR files: a bare ``ge.proto.ModelDef``, what ``atc --framework=1`` compiles."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cir.graph import Const, Model
from cir.weights import byte_count, storage_bytes
from framework_adapter.cann import modeldef
from framework_adapter.cann.modeldef import Place
from framework_adapter.cann.proto import serialise
from framework_adapter.emission import EmitResult
from framework_adapter.output import staged

#: Weights above this many bytes go to files of their own: a protobuf message ends at 2 GB.
EXTERNAL_LIMIT = 1_500_000_000
#: Constants below this many bytes stay in the message.
_INLINE = 1024
#: Option that both formats take.
SOC = "chip to write the graph for, e.g. Ascend310P3; default: what the Atlas A2 generation has"


class AirBackend:
    """Writes AIR files. They are run by reading them back: no runtime takes them uncompiled."""

    name = "air"
    extra = "cann"
    folder = False
    checked_by = "ONNX Runtime, from the graph read back"
    options: Mapping[str, str] = {"soc": SOC}

    @property
    def runnable(self) -> bool:
        """Whether protobuf and ONNX Runtime are installed."""
        return all(importlib.util.find_spec(m) for m in ("google.protobuf", "onnxruntime"))

    def emit(
        self,
        model: Model,
        path: Path,
        *,
        digest: str = "",
        versions: Mapping[str, str] | None = None,
        ctx: Any = None,
        soc: str | None = None,
        external_limit: int = EXTERNAL_LIMIT,
    ) -> EmitResult:
        """Legalise a program for a chip and write it.

        Weights of more than ``external_limit`` bytes go to files in a folder ``path`` + ".weights".

        Raises:
            CirError: E501 for what the chip does not take; E502 when the file cannot be written;
                E503 for an unknown chip; E901 without protobuf.
        """
        from framework_adapter.cann.emit import program

        graph = program(model, soc, ctx)
        path = Path(path)
        places = _places(graph.consts, f"{path.name}.weights", external_limit)
        texts = modeldef.text_attrs(versions, digest)
        out = modeldef.build(graph, model, places=places, texts=texts)
        for name, tensor in modeldef.const_ops(out):
            if name not in places:
                tensor.data = storage_bytes(graph.consts[name]).tobytes()
        with staged(path) as tmp:
            files = [path]
            for name, place in places.items():
                file = tmp.parent / place.file
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(storage_bytes(graph.consts[name]).data)
                files.append(path.parent / place.file)
            tmp.write_bytes(serialise(out))
        count = len(out.graph[0].op)
        return EmitResult(path, tuple(files), count, modeldef.mapping(graph.nodes))

    def run(self, path: Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results of the file read back; see ``readback.run``."""
        from framework_adapter import readback

        return readback.run(path, feeds)


def _places(consts: Mapping[str, Const], folder: str, limit: int) -> dict[str, Place]:
    """Files for the large constants when all together are above the limit."""
    if sum(byte_count(c.type) for c in consts.values()) <= limit:
        return {}
    large = [n for n, c in consts.items() if byte_count(c.type) >= _INLINE]
    return {name: Place(file=f"{folder}/{i}") for i, name in enumerate(large)}


BACKEND = AirBackend()
