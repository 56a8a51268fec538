"""Frontends and backends by name; each room is imported on use. Other packages add theirs by entry point."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from cir.diagnostics import error
from framework_adapter.source import Frontend

#: framework -> (module, extra to install, module that must be importable).
FRAMEWORKS: dict[str, tuple[str, str, str]] = {
    "pytorch": ("framework_adapter.pytorch", "torch", "torch"),
    "tensorflow": ("framework_adapter.tensorflow", "tensorflow", "tensorflow"),
    "mindspore": ("framework_adapter.mindspore", "mindspore", "mindspore"),
    "onnx": ("framework_adapter.onnx", "onnx", "onnx"),
}
_ALIASES = {"torch": "pytorch", "tf": "tensorflow", "keras": "tensorflow", "ms": "mindspore"}
TARGETS: dict[str, str] = {"onnx": "framework_adapter.onnx", "cir": "framework_adapter.cir_target"}
#: Formats that the design names and a later version brings.
PLANNED = ("saved_model", "mslite", "air", "om")
FRONTEND_GROUP = "framework_adapter.frontends"
BACKEND_GROUP = "framework_adapter.backends"


def frontend(name: str) -> Frontend:
    """The frontend of a framework. Raises CirError E104 for an unknown name, E901 when not installed."""
    name = _ALIASES.get(name, name)
    if name in FRAMEWORKS:
        module, extra, needs = FRAMEWORKS[name]
        found: Frontend = import_module(module).FRONTEND
        return found
    for point in entry_points(group=FRONTEND_GROUP):
        if point.name == name:
            return _loaded(point)
    raise error(
        "E104",
        f"unknown framework {name!r}",
        nearest=", ".join(FRAMEWORKS),
        fix="pass framework= with one of these names",
    )


def frontends() -> Iterator[Frontend]:
    """All frontends, ours first."""
    for name in FRAMEWORKS:
        yield frontend(name)
    for point in entry_points(group=FRONTEND_GROUP):
        yield _loaded(point)


def _loaded(point: Any) -> Any:
    try:
        return point.load()
    except Exception as exc:  # a plugin's failure must name the plugin
        raise error(
            "E902",
            f"plugin {point.name!r} ({point.value}) failed to load: {exc}",
            fix="update or uninstall the package that provides it",
        ) from exc


def detect(model: object) -> Frontend:
    """The frontend that accepts a model or path. Raises CirError E104 when none does."""
    for f in frontends():
        if f.accepts(model):
            return f
    kind = type(model)
    what = repr(model) if isinstance(model, str) else f"{kind.__module__}.{kind.__qualname__}"
    raise error(
        "E104",
        f"cannot tell which framework {what} belongs to",
        nearest="torch.nn.Module, keras.Model, tf.Module, mindspore.nn.Cell, or a path ending in "
        ".pt2 .keras .pb .mindir .onnx or a SavedModel folder",
        fix="pass framework='pytorch' | 'tensorflow' | 'mindspore' | 'onnx'",
    )


def backend(target: str) -> Any:
    """The backend of a target format. Raises CirError E503."""
    if target in TARGETS:
        return import_module(TARGETS[target]).BACKEND
    for point in entry_points(group=BACKEND_GROUP):
        if point.name == target:
            return _loaded(point)
    if target in PLANNED:
        raise error(
            "E503",
            f"target {target!r} is planned but not in this version",
            nearest=", ".join(TARGETS),
            fix="convert to 'onnx' now; the CIR file stays valid input for later versions",
        )
    raise error(
        "E503",
        f"unknown target {target!r}",
        nearest=", ".join(TARGETS),
        fix=f"use one of: {', '.join(TARGETS)}",
    )


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


