"""The same model, the same ``saved_model.pb``.

TensorFlow numbers its functions by what the process traced before, and lists them in the order of a
hash table. Here they get numbers of their own and an order; what was derived from the old file
(``fingerprint.pb``, which holds a random id as well) goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NUMBERED = re.compile(r"(.*)_(\d+)\Z")


def canonicalise(folder: Path) -> Any:
    """Rewrite a SavedModel folder; returns its SavedModel message."""
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    message = saved_model_pb2.SavedModel()
    message.ParseFromString(path.read_bytes())
    for meta in message.meta_graphs:
        _rename(meta)
    path.write_bytes(message.SerializeToString(deterministic=True))
    (folder / "fingerprint.pb").unlink(missing_ok=True)
    return message


def nodes(meta: Any) -> Iterator[Any]:
    """All NodeDefs of a MetaGraphDef, those of its functions included."""
    yield from meta.graph_def.node
    for function in meta.graph_def.library.function:
        yield from function.node_def


def _rename(meta: Any) -> None:
    from tensorflow.core.framework import types_pb2

    library = meta.graph_def.library
    names = _numbers(f.signature.name for f in library.function)
    for function in library.function:
        function.signature.name = names[function.signature.name]
        for i, arg in enumerate(function.signature.input_arg):
            if arg.type == types_pb2.DT_RESOURCE and i in function.arg_attr:  # a number too
                function.arg_attr[i].attr.pop("_user_specified_name", None)
            # An argument that nothing reads, called after the function that would.
            arg.name = re.sub(r".*___(redundant_placeholder\d+)\Z", r"\1", arg.name)
    for node in nodes(meta):
        node.attr.pop("_gradient_op_type", None)  # numbered as well, and of no use in serving
        for value in node.attr.values():
            single = [value.func] if value.HasField("func") else []
            for func in (*single, *value.list.func):
                func.name = names.get(func.name, func.name)
    ordered = sorted(library.function, key=lambda f: f.signature.name)
    del library.function[:]
    library.function.extend(ordered)
    objects = meta.object_graph_def
    concrete = {names[k]: v for k, v in objects.concrete_functions.items()}
    objects.concrete_functions.clear()
    for name, value in concrete.items():
        objects.concrete_functions[name].CopyFrom(value)
    for node in objects.nodes:
        if node.HasField("function"):
            found = [names[n] for n in node.function.concrete_functions]
            node.function.concrete_functions[:] = found
        if node.HasField("bare_concrete_function"):
            bare = node.bare_concrete_function
            bare.concrete_function_name = names[bare.concrete_function_name]


def _numbers(given: Iterator[str]) -> dict[str, str]:
    """Names with the numbers at their ends counted from 0 again, in the same order."""
    found: dict[str, list[int]] = {}
    out = {}
    for name in given:
        m = _NUMBERED.match(name)
        out[name] = name
        if m:
            found.setdefault(m[1], []).append(int(m[2]))
    for stem, numbers in found.items():
        for i, n in enumerate(sorted(numbers)):
            out[f"{stem}_{n}"] = f"{stem}_{i}"
    return out
