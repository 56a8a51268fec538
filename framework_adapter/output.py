"""Writing without half-written results: work in a temporary name beside the target, then rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cir.diagnostics import error

#: What TensorFlow and Keras write into the folder of a SavedModel.
_SAVED_MODEL = {
    *("saved_model.pb", "variables", "assets", "assets.extra"),
    *("fingerprint.pb", "keras_metadata.pb"),
}

#: Temporary folder -> the folder that its content goes to, of outputs that are being written.
_stages: dict[Path, Path] = {}


def refuse_folder(out: Path) -> None:
    """Raise CirError E502 when a file is to be written where a folder is."""
    if out.is_dir():
        raise error(
            "E502", f"{out} is a folder", fix=f"name the file to write, e.g. {out / 'model.onnx'}"
        )


def check_writable(out: Path, *, folder: bool = False) -> None:
    """Raise CirError E502 when a file, or a folder, cannot be written, before the work is done."""
    if not folder:
        refuse_folder(out)
    elif out.is_file():
        raise error("E502", f"{out} is a file", fix="name the folder to write")
    elif out.is_dir():
        # What stands there is replaced: all that is not of an earlier result is someone's work.
        found = {p.name for p in out.iterdir()}
        other = sorted(found if "saved_model.pb" not in found else found - _SAVED_MODEL)
        if other:
            raise error(
                "E502",
                f"{out} holds other files",
                why=", ".join(other[:5]),
                fix="name a new folder, or empty this one",
            )
    parent = out.resolve().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise error("E502", f"cannot write to {parent}", fix="choose a writable output path")


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A path to write ``out`` (a file with its side files, or a folder) to.

    Everything that the body writes into the yielded path's folder is moved beside ``out`` at the
    end. When the body raises, nothing stays behind.

    Raises:
        CirError: E502 when the folder cannot be written.
    """
    folder = out.resolve().parent
    made: list[Path] = []
    probe = folder
    while not probe.exists():
        made.append(probe)
        probe = probe.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=folder))
    except OSError as exc:
        raise error(
            "E502",
            f"cannot write to {_meant(folder)}: {exc.strerror or exc}",
            fix="choose a writable output path",
        ) from exc
    _stages[work] = folder
    try:
        yield work / out.name
        for item in sorted(work.iterdir()):
            final = folder / item.name
            if not item.is_dir():
                refuse_folder(final)
            elif final.is_dir() and not final.is_symlink():
                os.replace(final, work.with_name(f"{work.name}.old"))
            os.replace(item, final)
            shutil.rmtree(work.with_name(f"{work.name}.old"), ignore_errors=True)
    except OSError as exc:
        _clean(work, made)
        raise error(
            "E502",
            f"cannot write {_meant(out)}: {exc.strerror or exc}",
            fix="free space or change the path",
        ) from exc
    except BaseException:
        _clean(work, made)
        raise
    finally:
        del _stages[work]
    shutil.rmtree(work, ignore_errors=True)


def _meant(path: Path) -> Path:
    """Where a path within temporary folders, which nobody asked for, ends up."""
    for folder in path.parents:
        if folder in _stages:
            return _meant(_stages[folder] / path.relative_to(folder))
    return path


def _clean(work: Path, made: list[Path]) -> None:
    shutil.rmtree(work, ignore_errors=True)
    for folder in made:  # deepest first; only folders that this call created and left empty
        try:
            folder.rmdir()
        except OSError:
            return
