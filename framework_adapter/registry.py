"""Frontends and backends by name, imported on use. Other packages add theirs by entry point."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cir.diagnostics import error

if TYPE_CHECKING:
    from framework_adapter.backend import Backend
    from framework_adapter.source import Frontend

#: framework -> (module, extra to install, module that must be importable).
FRAMEWORKS: dict[str, tuple[str, str, str]] = {
    "pytorch": ("framework_adapter.pytorch", "torch", "torch"),
    "tensorflow": ("framework_adapter.tensorflow", "tensorflow", "tensorflow"),
    "mindspore": ("framework_adapter.mindspore", "mindspore", "mindspore"),
    "onnx": ("framework_adapter.onnx", "onnx", "onnx"),
    "mslite": ("framework_adapter.mindspore.lite", "mslite", "flatbuffers"),
    "cann": ("framework_adapter.cann", "cann", "google.protobuf"),
}
_ALIASES = {"torch": "pytorch", "tf": "tensorflow", "keras": "tensorflow", "ms": "mindspore"}
TARGETS: dict[str, str] = {
    "onnx": "framework_adapter.onnx",
    "cir": "framework_adapter.cir_target",
    "saved_model": "framework_adapter.tensorflow.saved_model",
    "mslite": "framework_adapter.mindspore.lite",
    "air": "framework_adapter.cann.air",
    "om": "framework_adapter.cann.om",
}
#: Suffix of an output -> its format; a folder has none.
SUFFIXES: dict[str, str] = {
    ".onnx": "onnx",
    ".json": "cir",
    ".om": "om",
    ".air": "air",
    ".ms": "mslite",
    "": "saved_model",
}
FRONTEND_GROUP = "framework_adapter.frontends"
BACKEND_GROUP = "framework_adapter.backends"


def frontend(name: str) -> Frontend:
    """The frontend of a framework. Raises CirError E104 for an unknown name."""
    name = _ALIASES.get(name, name)
    if name in FRAMEWORKS:
        found: Frontend = import_module(FRAMEWORKS[name][0]).FRONTEND
        return found
    for point in _plugins(FRONTEND_GROUP):
        if point.name == name:
            return _loaded(point)
    raise error(
        "E104",
        f"unknown framework {name!r}",
        nearest=", ".join(FRAMEWORKS),
        fix="pass framework= with one of these names",
    )


def room(framework: str) -> str:
    """Folder of a framework's op tables, below this package."""
    module = FRAMEWORKS.get(framework, (framework,))[0]
    return module.removeprefix("framework_adapter.").replace(".", "/")


def frontends() -> Iterator[Frontend]:
    """All frontends, ours first."""
    for name in FRAMEWORKS:
        yield frontend(name)
    for point in _plugins(FRONTEND_GROUP):
        yield _loaded(point)


def _plugins(group: str) -> Any:
    from importlib.metadata import entry_points

    return entry_points(group=group)


def _loaded(point: Any) -> Any:
    try:
        return point.load()
    except Exception as exc:  # a plugin's failure must name the plugin
        raise error(
            "E902",
            f"plugin {point.name!r} ({point.value}) failed to load: {exc}",
            fix="update or uninstall the package that provides it",
        ) from exc


def detect(model: object, framework: str | None = None) -> Frontend:
    """The named frontend, or the one that accepts a model or path.

    A path that no frontend recognises goes to the named one.

    Raises:
        CirError: E101 for a path that does not exist; E104 for an unknown name, for a model of
            another framework than the named one, and when nothing accepts the model.
    """
    is_path = isinstance(model, (str, os.PathLike))
    if is_path and not os.path.exists(model):  # type: ignore[arg-type]
        raise error("E101", f"no such file or folder: {model}", fix="check the path")
    named = [frontend(framework)] if framework else []
    owner = next((f for f in chain(named, frontends()) if f.accepts(model)), None)
    if owner is None and named and is_path:
        return named[0]
    if owner is not None and owner in (named or [owner]):
        return owner
    if owner is not None:
        raise error(
            "E104",
            f"framework={framework!r}, but the model is one of {owner.name}",
            fix=f"pass framework={owner.name!r}, or leave it out",
        )
    if isinstance(model, type):
        raise error(
            "E104",
            f"{model.__qualname__} is a class, not a model",
            fix=f"pass an object of it: {model.__qualname__}(...)",
        )
    kind = type(model)
    what = repr(str(model)) if is_path else f"{kind.__module__}.{kind.__qualname__}"
    raise error(
        "E104",
        f"cannot tell which framework {what} belongs to",
        nearest="torch.nn.Module, keras.Model, tf.Module, mindspore.nn.Cell, or a path ending in "
        ".pt2 .keras .pb .mindir .onnx .ms .air .om or a SavedModel folder",
        fix="pass the model object itself; wrap a function in tf.function or in a torch.nn.Module",
    )


def backend(target: str) -> Backend:
    """The backend of a target format. Raises CirError E503."""
    if target in TARGETS:
        found: Backend = import_module(TARGETS[target]).BACKEND
        return found
    for point in _plugins(BACKEND_GROUP):
        if point.name == target:
            return _loaded(point)
    raise error(
        "E503",
        f"unknown target {target!r}",
        nearest=", ".join(TARGETS),
        fix=f"use one of: {', '.join(TARGETS)}",
    )


def format_of(path: Path) -> str:
    """The format that an output's suffix stands for. Raises CirError E503."""
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise error(
            "E503",
            f"no format goes with the suffix {path.suffix!r}",
            nearest=", ".join(s for s in SUFFIXES if s),
            fix="end the file name in one of these, or name a folder for a SavedModel",
        )
    return found


def require(module: str, extra: str) -> Any:
    """Import a framework module. Raises CirError E901 naming the extra to install."""
    try:
        return import_module(module)
    except ImportError as exc:
        raise error(
            "E901",
            f"{module} is not installed",
            why=str(exc),
            fix=f'pip install "framework-adapter[{extra}]"',
        ) from exc
