"""How each kind of model file is run: pyACL, ONNX Runtime's CANN provider, or ONNX Runtime's CPU.

A provider that cannot be had says why, and the next one is tried. The providers' names are those
that ONNX Runtime uses, and ``pyACL`` for CANN's own binding.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from cir.diagnostics import error
from framework_adapter.cann.feeds import Port

ACL, CANN, CPU = "pyACL", "CANNExecutionProvider", "CPUExecutionProvider"
#: Suffixes of the files that sessions open.
SUFFIXES = (".onnx", ".json", ".om", ".air", ".ms")


class Engine(Protocol):
    """A model that is loaded and ready to run, from any thread."""

    @property
    def providers(self) -> Sequence[str]:
        """What really runs it, best first."""

    @property
    def inputs(self) -> Sequence[Port]:
        """The inputs in order."""

    @property
    def outputs(self) -> Sequence[Port]:
        """The outputs in order."""

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results in order, for arrays that fit the inputs; the runtime's own errors."""

    def close(self) -> None:
        """Free what the model holds."""


@dataclass(frozen=True)
class Request:
    """What is to be opened.

    Attributes:
        path: the model file.
        device_id: which device, for the providers that have some.
        threads: threads within an op on the CPU; None means the runtime's default.
        strict: whether nodes may run on another provider than the one asked for.
    """

    path: Path
    device_id: int
    threads: int | None
    strict: bool


class Unavailable(Exception):
    """A provider cannot be had for a file; the text says why."""


def wanted(path: Path, providers: str | Sequence[str]) -> tuple[str, ...]:
    """The providers to try, in order. Raises CirError E100 for an unknown name."""
    if providers == "auto":
        return (ACL, CANN, CPU) if path.suffix == ".om" else (CANN, CPU)
    names = tuple(providers) if isinstance(providers, (list, tuple)) else (providers,)
    unknown = [str(n) for n in names if n not in _OPEN]
    if unknown or not names:
        raise error(
            "E100",
            f"unknown provider {', '.join(unknown) or '(none given)'}",
            nearest=", ".join(_OPEN),
            fix="pass 'auto', one of these, or a list of them in the order to try",
        )
    return names


def open_engine(request: Request, names: Sequence[str]) -> tuple[Engine, list[str]]:
    """The first of some providers that can be had, and why those before it cannot.

    Raises:
        CirError: E703 when none can be had, or not the first with ``strict``; E1xx, E3xx and E5xx
            when the file itself is not fit for use.
    """
    passed: list[str] = []
    for name in names:
        try:
            engine = _OPEN[name](request)
        except Unavailable as exc:
            passed.append(f"{name}: {exc}")
        else:
            if isinstance(engine, OnnxEngine) and engine.source != request.path:
                passed.append(f"{name}: runs {engine.source.name}, which it was compiled from")
            if not (passed and request.strict):
                return engine, passed
        if request.strict:
            break
    raise error(
        "E703",
        f"{request.path.name} cannot run on {names[0] if request.strict else ' or '.join(names)}",
        why="; ".join(passed),
        fix=f"pass providers={CPU!r} to run it on the CPU",
    )


# -- pyACL -----------------------------------------------------------------------------------------
def _open_acl(request: Request) -> Engine:
    from framework_adapter.cann import acl

    if request.path.suffix != ".om":
        raise Unavailable("it runs compiled OM files only")
    if not _compiled(request.path):
        raise Unavailable("this OM holds the graph only, it was not compiled by atc")
    if why := acl.missing():
        raise Unavailable(why)
    try:
        return acl.CompiledModel(request.path, request.device_id)
    except acl.AclError as exc:
        raise Unavailable(str(exc)) from exc


def _compiled(path: Path) -> bool:
    """Whether an OM file holds kernels and not just a graph. Raises CirError E105."""
    from framework_adapter.cann import container

    models = container.read(path)
    return any(p.kind in (container.TASKS, container.KERNELS) for parts in models for p in parts)


# -- ONNX Runtime ----------------------------------------------------------------------------------
def _open_cann(request: Request) -> Engine:
    from importlib.util import find_spec

    if find_spec("onnxruntime") is None:
        raise Unavailable("onnxruntime is not installed")
    import onnxruntime as ort

    if CANN not in ort.get_available_providers():
        raise Unavailable(f"onnxruntime {ort.__version__} here is built without it")
    engine = OnnxEngine(request, [(CANN, {"device_id": request.device_id})], Unavailable)
    if CANN not in engine.providers:
        raise Unavailable("ONNX Runtime did not take it")
    return engine


def _open_cpu(request: Request) -> Engine:
    return OnnxEngine(request, [CPU], None)


class OnnxEngine:
    """A model in ONNX Runtime; a file that is not ONNX is read back into the IR first.

    Attributes:
        source: the file whose graph is run: of a compiled OM, whose own graph is the compiler's,
            the ``.air`` beside it, where there is one.

    Args:
        request: what to open.
        providers: as ONNX Runtime takes them.
        refusal: exception to raise when the runtime refuses; None means CirError E504.

    Raises:
        CirError: E1xx, E3xx, E5xx for a file that cannot be read back; E504; E901 when ONNX Runtime
            is not installed.
    """

    def __init__(
        self, request: Request, providers: list[Any], refusal: Callable[[str], Exception] | None
    ) -> None:
        from framework_adapter import readback
        from framework_adapter.registry import require

        ort = require("onnxruntime", "onnx")
        self.source = _graph_of(request.path)
        self._path = str(readback.onnx_file(self.source))
        self._providers, self._threads = providers, request.threads
        self._on_device_only = request.strict and providers != [CPU]
        try:
            self._session = self._open(ort, profile="")
        except Exception as exc:  # the runtime's own exception types
            if refusal is not None:
                raise refusal(_first_line(exc)) from exc
            raise error(
                "E504",
                f"ONNX Runtime does not load {request.path.name}",
                why=str(exc)[:400],
                fix="check that the file is complete and that this ONNX Runtime knows its opset",
            ) from exc
        self.providers: list[str] = self._session.get_providers()
        self.inputs = [_port(a) for a in self._session.get_inputs()]
        self.outputs = [_port(a) for a in self._session.get_outputs()]
        self._names = [p.name for p in self.inputs]
        self._results = [p.name for p in self.outputs]

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Results in order."""
        found: list[np.ndarray] = self._session.run(self._results, dict(zip(self._names, arrays)))
        return found

    def close(self) -> None:
        """Nothing: the runtime frees the model when the last call has returned."""

    def operators(self, arrays: Sequence[np.ndarray], runs: int) -> list[dict[str, Any]]:
        """Time of each node that the runtime executes, longest first.

        The model is loaded a second time, with the runtime's profiler on, and run once to warm up.

        Returns:
            A row for each node with ``node``, ``op``, ``provider``, ``median_us`` (over the runs)
            and ``share`` of the sum.
        """
        import onnxruntime as ort

        with tempfile.TemporaryDirectory() as folder:
            session = self._open(ort, profile=str(Path(folder) / "run"))
            for _ in range(runs + 1):
                session.run(self._results, dict(zip(self._names, arrays)))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return _by_node(events)

    def _open(self, ort: Any, profile: str) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        if self._on_device_only:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        # The runtime's own fallback would go to the CPU with nothing but a line on stdout.
        return ort.InferenceSession(
            self._path, options, providers=self._providers, enable_fallback=0
        )


def _graph_of(path: Path) -> Path:
    beside = path.with_suffix(".air")
    return beside if path.suffix == ".om" and beside.is_file() and _compiled(path) else path


def _port(argument: Any) -> Port:
    from framework_adapter.onnx.kernels import spelled

    shape = argument.shape if argument.type.startswith("tensor(") else ()
    # A size that is neither a number nor named is None or "", in broken files below 0.
    dims = (d if isinstance(d, str) and d or isinstance(d, int) and d >= 0 else None for d in shape)
    return Port(argument.name, spelled(argument.type), tuple(dims))


def _first_line(exc: Exception) -> str:
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:400]


def _by_node(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    times: dict[tuple[str, str, str, str], list[int]] = defaultdict(list)
    for e in events:
        if e.get("cat") == "Node" and e["name"].endswith("_kernel_time"):
            about = e["args"]
            node = e["name"].removesuffix("_kernel_time")
            key = (about.get("node_index", ""), node, about["op_name"], about.get("provider", ""))
            times[key].append(e["dur"])
    rows: list[dict[str, Any]] = [
        {"node": node, "op": op, "provider": provider, "median_us": median(found[1:] or found)}
        for (_, node, op, provider), found in times.items()
    ]
    total = sum(r["median_us"] for r in rows) or 1
    ordered = sorted(rows, key=lambda r: -r["median_us"])
    return [{**r, "share": round(r["median_us"] / total, 4)} for r in ordered]


_OPEN: Mapping[str, Callable[[Request], Engine]] = {
    ACL: _open_acl,
    CANN: _open_cann,
    CPU: _open_cpu,
}
