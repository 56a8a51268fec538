"""Model files: .pt2 programs are loaded without unpickling code; .pt pickles are refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cir.diagnostics import CirError, error
from framework_adapter.registry import require

PROGRAMS = (".pt2",)
PICKLES = (".pt", ".pth")


def is_model_path(model: object) -> bool:
    """Whether this is a path with one of PyTorch's suffixes."""
    return isinstance(model, (str, Path)) and Path(model).suffix.lower() in (*PROGRAMS, *PICKLES)


def load_program(path: str | Path) -> Any:
    """The torch.export.ExportedProgram in a ``.pt2`` file.

    Raises:
        CirError: E101 no such file; E105 a pickle, or not a readable program.
    """
    path = Path(path)
    if not path.is_file():
        raise error("E101", f"no file {path}", fix="check the path")
    if path.suffix.lower() in PICKLES:
        raise error(
            "E105",
            f"{path.name} is a pickle of weights or of a module, not a program",
            why="weights alone are not a model, and unpickling a module would run the file's code",
            fix="build the model, load_state_dict(torch.load(path, weights_only=True)) and convert "
            "the module; or torch.export.save(torch.export.export(model.eval(), args), 'm.pt2')",
        )
    torch = require("torch", "torch")
    try:
        with _no_pickles():
            return torch.export.load(str(path))
    except CirError:
        raise
    except Exception as exc:
        raise error(
            "E105",
            f"{path.name} is not a readable torch.export program",
            why=str(exc).split("\n")[0],
            fix="write it with torch.export.save",
        ) from exc


@contextmanager
def _no_pickles() -> Iterator[None]:
    """Make torch.export.load take tensors only: it falls back to full unpickling otherwise."""
    import torch
    from torch.export import pt2_archive

    key, saved = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    package: Any = getattr(pt2_archive, "_package", None)
    patched: list[tuple[Any, str, Any]] = []
    for owner, name in ((package, "pickle"), (torch._C, "_pickle_load_obj")):
        if owner is not None and hasattr(owner, name):
            patched.append((owner, name, getattr(owner, name)))
            setattr(owner, name, _Refuse())
    os.environ[key] = "1"
    try:
        yield
    finally:
        for owner, name, value in patched:
            setattr(owner, name, value)
        if saved is None:
            del os.environ[key]
        else:
            os.environ[key] = saved


class _Refuse:
    """Stands in for an unpickler."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise error(
            "E105",
            "the program holds pickled Python objects, which are never loaded",
            fix="export the model without custom objects (torch.classes, opaque constants)",
        )

    loads = load = __call__
