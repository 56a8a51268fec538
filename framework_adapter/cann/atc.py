"""The driver of ``atc``, CANN's compiler: finds it, runs it, reads its errors.

The command is a list, never a shell's line; the compiler runs in a process group of its own, in a
temporary folder, and is stopped with all that it started when its time is up.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cir.diagnostics import CirError, Diagnostic, error
from cir.graph import Model
from framework_adapter.cann.atc_command import command, shown
from framework_adapter.output import staged

#: Where CANN keeps atc, below its home.
_PLACES = ("bin/atc", "compiler/bin/atc", "latest/bin/atc", "latest/compiler/bin/atc")
_HOMES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
#: Seconds after which a compilation is given up, and those that a stopped one has for its end.
TIMEOUT, _GRACE = 3600.0, 5.0
#: Lines of the log that are kept for an error, and the length that a line is cut at.
_KEPT_LINES, _LONGEST = 400, 4000
_MOST_ERRORS = 20

#: atc's error codes -> what to do. Families and codes as CANN's user guide has them.
REMEDIES: Mapping[str, str] = {
    "E10001": "a parameter has a value that this atc does not take; see atc --help",
    "E10003": "a parameter has a value that this atc does not take; see atc --help",
    "E10016": "the file has no such input: convert again, so that file and command agree",
    "E10017": "the file has no such input: convert again, so that file and command agree",
    "E10041": "atc cannot read the file; compile from ONNX (profile='ge-safe') on an older CANN",
    "E10055": "this atc does not know the chip; check npu-smi info, or install a newer CANN",
    "E10410": "a file that CANN needs is missing: source its set_env.sh, or install it again",
    "E10501": "this CANN lacks the operator; name the chip with soc= or install a newer CANN",
    "E14001": "the operator does not take this argument on this chip; name the chip with soc=",
    "E14002": "the operator needs an attribute that the file lacks; report this with the model",
    "E16002": "GE's ONNX parser lacks the op: convert with profile='ge-safe'",
    "E16005": "the file mixes opsets: convert with profile='ge-safe'",
    "E18888": "an error inside CANN: set ASCEND_SLOG_PRINT_TO_STDOUT=1 and read its log",
    "E19010": "GE's ONNX parser lacks the op: convert with profile='ge-safe'",
    "E19999": "an error inside CANN: set ASCEND_SLOG_PRINT_TO_STDOUT=1 and read its log",
}
#: ``E16002: text`` starts a line, or, in newer releases, ``[PID: 1] time Name(E16002): text``.
_CODE = re.compile(r"\s*(?:\[.*\()?(E[A-Z0-9]\d{4})\)?:\s*(.*)")
_WORD = re.compile(r"""[^\s\[\]()'"<>,;=]+""")


def find(atc: str | Path | None = None) -> Path | None:
    """The compiler: as given, else by $ATC, the PATH, $ASCEND_HOME_PATH or $ASCEND_TOOLKIT_HOME.

    Returns:
        Its path, or None when there is none.

    Raises:
        CirError: E903 when what is given, or what $ATC names, is no program.
    """
    for named in (atc, os.environ.get("ATC")):
        if named:
            found = shutil.which(named)
            if found is None:
                raise error(
                    "E903", f"{named} is no program that can be run", fix="check atc= or $ATC"
                )
            return Path(found).absolute()
    homes = [Path(os.environ[h]) for h in _HOMES if os.environ.get(h)]
    places = ["atc", *(str(home / place) for home in homes for place in _PLACES)]
    found = next(filter(None, map(shutil.which, places)), None)
    return None if found is None else Path(found).absolute()


def missing(parts: Sequence[str]) -> Diagnostic:
    """E903: there is no compiler here; its fix is the command to run where there is one."""
    return Diagnostic(
        "E903",
        "atc, the compiler of CANN, is not installed here",
        why="it is not named by atc= or $ATC, not on the PATH, nor below $ASCEND_HOME_PATH",
        fix=f"source CANN's set_env.sh, or run on a machine that has it: {shown(parts)}",
    )


def print_atc(
    model: Model, out: Path | str, soc: str, *, source: Path | str | None = None, **how: Any
) -> str:
    """The command to type, as one line.

    Args:
        model: see ``atc_command.command``, also for the others that are not listed here.
        out: the ``.om`` to write.
        soc: name of the chip.
        source: the file to compile; default: the ``.air`` beside ``out``.
        how: ``precision``, ``gears``, ``options``.
    """
    source = Path(out).with_suffix(".air") if source is None else source
    return shown(command(model, source, out, soc, **how))


def compile(
    model: Model,
    source: Path | str,
    out: Path | str,
    soc: str,
    *,
    atc: Path | str | None = None,
    timeout: float = TIMEOUT,
    log: Callable[[str], None] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    **how: Any,
) -> Path:
    """Compile a model file to an OM; nothing is written when that fails.

    Args:
        model: see ``atc_command.command``, also for the others that are not listed here.
        source: the file to compile.
        out: the ``.om`` to write.
        soc: name of the chip.
        atc: the program; default: see ``find``.
        timeout: seconds after which it is stopped.
        log: called with each line that the compiler prints, as it comes.
        names: node of the model -> names of the nodes of the file that stand for it, by which
            errors are traced back; default: the same names.
        how: ``precision``, ``gears``, ``options``.

    Returns:
        ``out``.

    Raises:
        CirError: E100, E503, E505 as ``command``; E505 for each error that atc reports; E502; E903
            when there is no atc; E961 when it takes too long.
    """
    source, out = Path(source).absolute(), Path(out)
    program = find(atc)
    if program is None:
        raise CirError(missing(command(model, source, out, soc, **how)))
    with staged(out) as tmp, tempfile.TemporaryDirectory(dir=tmp.parent) as work:
        parts = command(model, source, Path(work) / out.name, soc, atc=program, **how)
        lines, code = _run(parts, Path(work), timeout, log or (lambda line: None))
        made = sorted(p for p in Path(work).glob("*.om") if p.stat().st_size)
        if code or not made:
            raise _failed(lines, code, _places(model, names))
        os.replace(made[0], tmp)
    return out


# -- the process -----------------------------------------------------------------------------------
def _run(
    parts: Sequence[str], work: Path, timeout: float, log: Callable[[str], None]
) -> tuple[list[str], int]:
    """The last lines that a command prints, and its exit code. Raises CirError E903, E961."""
    try:
        process = subprocess.Popen(
            parts,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as exc:
        raise error(
            "E903", f"{parts[0]} cannot be started: {exc.strerror}", fix="check atc= or $ATC"
        ) from exc
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    end = time.monotonic() + timeout
    try:
        for line in _lines(process, end):
            kept.append(line)
            log(line)
        process.wait(max(end - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        raise error(
            "E961",
            f"atc was not done after {timeout:g} s and was stopped",
            why="; ".join(list(kept)[-3:]),
            fix="raise timeout=, or look with the command itself at what it does",
        ) from None
    finally:
        _stop(process)
    return list(kept), process.returncode


def _lines(process: subprocess.Popen[bytes], end: float) -> Iterator[str]:
    """Lines as they come; ends with the process, even when a child of it keeps the pipe open."""
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, 0)
            if not selector.select(min(left, 0.2)):
                if process.poll() is not None:
                    break
                continue
            block = os.read(pipe, 1 << 16)
            if not block:
                break
            *done, rest = (rest + block).split(b"\n")
            rest = rest[:_LONGEST]
            for line in done:
                yield line.decode("utf-8", "replace").rstrip("\r")[:_LONGEST]
    if rest:
        yield rest.decode("utf-8", "replace")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process with all that it started, if it has not ended."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        os.killpg(process.pid, sign)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            continue
    if process.stdout is not None:
        process.stdout.close()


# -- what it says ----------------------------------------------------------------------------------
def _failed(lines: Sequence[str], code: int, places: Mapping[str, str]) -> CirError:
    found = [_diagnostic(entry, places) for entry in _errors(lines)][:_MOST_ERRORS]
    if found:
        return CirError(dict.fromkeys(found))
    return error(
        "E505",
        f"atc ended with exit code {code}" if code else "atc ended well but wrote no .om",
        why="; ".join(line.strip() for line in lines[-5:] if line.strip()),
        fix="run the command itself and read its log",
    )


def _errors(lines: Sequence[str]) -> Iterator[list[str]]:
    """The lines of each error: the one with the code, and the indented ones below it."""
    entry: list[str] = []
    for line in lines:
        if _CODE.match(line):
            if entry:
                yield entry
            entry = [line]
        elif entry and line.startswith((" ", "\t")):
            entry.append(line.strip())
    if entry:
        yield entry


def _diagnostic(entry: Sequence[str], places: Mapping[str, str]) -> Diagnostic:
    head, *rest = entry
    match = _CODE.match(head)
    assert match is not None
    code, text = match.groups()
    advice = [t.removeprefix("Solution:").strip() for t in rest if t.startswith("Solution:")]
    said = [t for t in rest if not t.startswith(("Solution:", "TraceBack"))]
    nodes = dict.fromkeys(places[n] for t in (text, *said) for n in _names(t) if n in places)
    return Diagnostic(
        "E505",
        f"atc: {code} {text}".strip()[:400],
        where=", ".join(nodes),
        why="; ".join(said)[:800],
        fix=REMEDIES.get(code) or " ".join(advice) or f"look {code} up in CANN's user guide",
    )


def _names(text: str) -> Iterator[str]:
    """Words that may be names: in brackets or quotes, or not of letters only."""
    for match in _WORD.finditer(text):
        word = re.sub(r":\d+$", "", match.group().rstrip(".:"))
        opened = text[: match.start()].endswith(tuple("[(<'\""))
        if opened or len(word) > 2 and not word.isalpha():
            yield word


def _places(model: Model, names: Mapping[str, Sequence[str]] | None) -> dict[str, str]:
    """Name of a node or value of the file -> the node of the model and its place in the source."""
    found = {name: name for name in (*model.graph.inputs, *model.graph.outputs)}
    for _, node in model.graph.walk():
        source = node.meta.src[0] if node.meta.src else None
        place = (source.place or source.module) if source else ""
        for name in (node.name, *(names or {}).get(node.name, ())):
            found[name] = f"{node.name} ({place})" if place else node.name
    return found
