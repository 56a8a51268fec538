"""Writing without half-written results: work in a temporary name beside the target, then rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cir.diagnostics import error


def refuse_folder(out: Path) -> None:
    """Raise CirError E502 when a file is to be written where a folder is."""
    if out.is_dir():
        raise error(
            "E502", f"{out} is a folder", fix=f"name the file to write, e.g. {out / 'model.onnx'}"
        )


def check_writable(out: Path) -> None:
    """Raise CirError E502 when a file cannot be written, before the work is done."""
    refuse_folder(out)
    folder = out.resolve().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise error("E502", f"cannot write to {folder}", fix="choose a writable output path")


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
            f"cannot write to {folder}: {exc.strerror or exc}",
            fix="choose a writable output path",
        ) from exc
    try:
        yield work / out.name
        for item in sorted(work.iterdir()):
            final = folder / item.name
            if not item.is_dir():
                refuse_folder(final)
            elif final.is_dir() and not final.is_symlink():
                shutil.rmtree(final)
            os.replace(item, final)
    except OSError as exc:
        _clean(work, made)
        raise error(
            "E502",
            f"cannot write {out}: {exc.strerror or exc}",
            fix="free space or change the path",
        ) from exc
    except BaseException:
        _clean(work, made)
        raise
    shutil.rmtree(work, ignore_errors=True)


def _clean(work: Path, made: list[Path]) -> None:
    shutil.rmtree(work, ignore_errors=True)
    for folder in made:  # deepest first; only folders that this call created and left empty
        try:
            folder.rmdir()
        except OSError:
            return
