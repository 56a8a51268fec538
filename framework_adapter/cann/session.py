"""``CANNInferenceSession``: one way to run a model file, on an Ascend device or on the CPU."""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from cir.diagnostics import CirError, Diagnostic, error
from framework_adapter.cann import providers as rooms
from framework_adapter.cann.feeds import Feeds, Port, Results
from framework_adapter.cann.workers import Workers, closed

#: Latest run times that the percentiles of ``profile`` are taken from.
_RECENT = 4096


class CANNInferenceSession:
    """Runs a ``.onnx``, ``.cir.json``, ``.om``, ``.air`` or ``.ms`` file.

    Which provider runs it is settled when the file is opened, and ``providers`` says it truthfully.
    Providers are ``pyACL`` (compiled ``.om``), ``CANNExecutionProvider`` and
    ``CPUExecutionProvider`` (ONNX Runtime; other files are read back into the IR first). All
    methods may be called from any thread; results are new arrays.

    Attributes:
        path: the file.
        device_id: the device asked for.
        diagnostics: W701 when another provider than the first choice runs the model.
    """

    def __init__(
        self,
        model_path: str | Path,
        device_id: int = 0,
        providers: str | Sequence[str] = "auto",
        enable_async: bool = False,
        *,
        strict: bool = False,
        threads: int | None = None,
        workers: int | None = None,
        queue_size: int = 64,
        when_full: str = "block",
    ) -> None:
        """Open a model.

        Args:
            model_path: the file.
            device_id: Ascend device, from 0.
            providers: ``auto`` (the best for the file first), a name, or names in the order to
                try.
            enable_async: start the threads that ``run_async`` needs.
            strict: only the first choice will do: a fallback is an error instead of a warning.
            threads: threads within an op on the CPU; None means the runtime's default.
            workers: asynchronous calls that run at a time; None means as many as the CPUs have room
                for with ``threads`` threads each, and 1 with the runtime's default.
            queue_size: asynchronous calls that wait to begin.
            when_full: ``block`` until there is room, or ``raise`` E702.

        Raises:
            CirError: E100 for a wrong argument; E101, E104, E1xx, E3xx, E504 for a file that is
                missing, of another format, or broken; E703 when no provider can be had; E901
                when ONNX Runtime is not installed.

        Warns:
            RuntimeWarning: W701 with the reasons when it is not the first choice that runs.
        """
        start = time.perf_counter()
        self.path, self.device_id = Path(model_path), device_id
        _check(self.path, device_id, threads, workers, queue_size, when_full)
        wanted = rooms.wanted(self.path, providers)
        request = rooms.Request(self.path, device_id, threads, strict)
        engine, passed = rooms.open_engine(request, wanted)
        self._providers = list(engine.providers)
        self._inputs, self._outputs = tuple(engine.inputs), tuple(engine.outputs)
        self._names = tuple(p.name for p in self._outputs)
        self._feeds = Feeds(self._inputs)
        self.diagnostics: tuple[Diagnostic, ...] = ()
        if passed:
            self.diagnostics = (_fallback(self.path, self._providers[0], passed),)
            warnings.warn(str(self.diagnostics[0]), RuntimeWarning, stacklevel=2)
        self._engine: rooms.Engine | None = engine
        self._workers: Workers | None = None
        if enable_async:
            from framework_adapter.validate.environment import cpus

            room = cpus() // threads if threads else 1
            self._workers = Workers(workers or max(1, room), queue_size, when_full == "block")
        self._lock = threading.Lock()
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._runs, self._seconds = 0, 0.0
        # At close, when the session is collected, or when the process ends: whichever comes first.
        self._end = weakref.finalize(self, _finish, self._workers, engine)
        self._load_seconds = time.perf_counter() - start

    # -- what it is --------------------------------------------------------------------------------
    @property
    def providers(self) -> list[str]:
        """What runs the model, best first; ONNX Runtime gives the CPU what the others leave."""
        return list(self._providers)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Name, dtype and shape of each input."""
        return self._inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Name, dtype and shape of each output."""
        return self._outputs

    def __repr__(self) -> str:
        state = "closed" if self._engine is None else self._providers[0]
        return f"CANNInferenceSession({str(self.path)!r}, {state})"

    # -- running -----------------------------------------------------------------------------------
    def run(self, feeds: Any) -> Results:
        """Run the model once.

        Args:
            feeds: mapping from input name to array, or a list of arrays in the order of the
                inputs. NumPy arrays, PyTorch, TensorFlow and MindSpore tensors will do, of the
                inputs' own dtypes.

        Returns:
            A list of arrays in the order of the outputs; ``results["name"]`` works as well.

        Raises:
            CirError: E103 for feeds that do not fit, all at once; E701 after ``close``; E704 when
                the runtime fails.
        """
        return self._run(self._feeds.arrays(feeds))

    def run_async(self, feeds: Any) -> Future[Results]:
        """Queue one run; the feeds are checked now and must not be changed until it is done.

        Returns:
            A ``concurrent.futures.Future``. ``close`` cancels what has not begun.

        Raises:
            CirError: E100 without ``enable_async``; E103, E701; E702 when the queue is full, with
                ``when_full="raise"`` or in a callback of an earlier future.
        """
        if self._workers is None:
            raise error(
                "E100",
                "run_async needs a session with worker threads",
                fix="make it with CANNInferenceSession(..., enable_async=True)",
            )
        if self._engine is None:
            raise closed()
        return self._workers.submit(self._run, self._feeds.arrays(feeds))

    def warmup(self, runs: int = 3, feeds: Any = None) -> float:
        """Run a few times without counting them in ``profile``.

        Args:
            runs: how often.
            feeds: as in ``run``; default: zeros, of size 1 on axes without a size.

        Returns:
            Seconds of the last run.

        Raises:
            CirError: as ``run``.
        """
        arrays = self._feeds.zeros() if feeds is None else self._feeds.arrays(feeds)
        seconds = 0.0
        for _ in range(runs):
            start = time.perf_counter()
            self._execute(arrays)
            seconds = time.perf_counter() - start
        return seconds

    def _run(self, arrays: Sequence[np.ndarray]) -> Results:
        start = time.perf_counter()
        found = self._execute(arrays)
        seconds = time.perf_counter() - start
        with self._lock:
            self._runs += 1
            self._seconds += seconds
            self._recent.append(seconds)
        return Results(self._names, found)

    def _execute(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        engine = self._engine
        if engine is None:
            raise closed()
        try:
            return engine.run(arrays)
        except CirError:
            raise
        except Exception as exc:  # the runtimes' own exception types
            raise error(
                "E704",
                f"{self._providers[0]} failed while it ran {self.path.name}",
                why=str(exc)[:400],
                fix="check the feeds' values and sizes; the model may not take these",
            ) from exc

    # -- figures -----------------------------------------------------------------------------------
    def profile(self, operators: bool = False, feeds: Any = None, runs: int = 10) -> dict[str, Any]:
        """What was measured so far.

        Args:
            operators: also measure each node, in runs of its own on a second copy of the model.
            feeds: for that; default: zeros, as in ``warmup``.
            runs: how many runs for that.

        Returns:
            ``model``, ``providers``, ``device_id``, ``load_seconds``, ``runs`` (finished, warm-up
            not counted), ``mean_ms`` over all of them and ``p50_ms``, ``p95_ms``, ``p99_ms`` over
            the latest 4096, None before the first; with ``operators`` a list of rows ``node``,
            ``op``, ``provider``, ``median_us``, ``share``, longest first. Times are those of the
            runtime: waiting in the queue is not in them.

        Raises:
            CirError: E100 for ``operators`` on a provider that cannot tell; as ``run``.
        """
        with self._lock:
            runs_done, seconds, recent = self._runs, self._seconds, list(self._recent)
        out: dict[str, Any] = {
            "model": str(self.path),
            "providers": self.providers,
            "device_id": self.device_id,
            "load_seconds": self._load_seconds,
            "runs": runs_done,
            "mean_ms": 1e3 * seconds / runs_done if runs_done else None,
        }
        for p in (50, 95, 99):
            out[f"p{p}_ms"] = 1e3 * float(np.percentile(recent, p)) if recent else None
        if operators:
            out["operators"] = self._operators(feeds, runs)
        return out

    def _operators(self, feeds: Any, runs: int) -> list[dict[str, Any]]:
        if self._engine is None:
            raise closed()
        if not isinstance(self._engine, rooms.OnnxEngine):
            raise error(
                "E100",
                f"{self._providers[0]} does not tell the time of each node",
                fix="use CANN's own profiler (msprof) for compiled OM files",
            )
        arrays = self._feeds.zeros() if feeds is None else self._feeds.arrays(feeds)
        return self._engine.operators(arrays, runs)

    # -- the end -----------------------------------------------------------------------------------
    def close(self) -> None:
        """Cancel queued runs, wait for the running ones, free the model; again is nothing."""
        self._engine = None
        self._end()

    def __enter__(self) -> CANNInferenceSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _finish(workers: Workers | None, engine: rooms.Engine) -> None:
    if workers is not None:
        workers.close()
    engine.close()


def _check(
    path: Path,
    device_id: int,
    threads: int | None,
    workers: int | None,
    queue_size: int,
    when_full: str,
) -> None:
    least: dict[str, tuple[Any, int]] = {"device_id": (device_id, 0), "queue_size": (queue_size, 1)}
    optional = {"threads": (threads, 1), "workers": (workers, 1)}
    least.update({name: pair for name, pair in optional.items() if pair[0] is not None})
    wrong = [f"{k}={n!r}" for k, (n, low) in least.items() if not (_whole(n) and n >= low)]
    if when_full not in ("block", "raise"):
        wrong.append(f"when_full={when_full!r}")
    if wrong:
        raise error(
            "E100",
            f"{', '.join(wrong)} cannot be",
            fix="device_id counts from 0, threads, workers and queue_size from 1; "
            "when_full is 'block' or 'raise'",
        )
    if path.is_dir() or not str(path).endswith(rooms.SUFFIXES):
        raise error(
            "E104",
            f"a session does not run {str(path)!r}",
            nearest=", ".join(rooms.SUFFIXES),
            fix="convert the model first: cir convert MODEL model.onnx",
        )
    if not path.is_file():
        raise error("E101", f"no such file: {path}", fix="check the path")


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _fallback(path: Path, provider: str, passed: Sequence[str]) -> Diagnostic:
    return Diagnostic(
        "W701",
        f"{path.name} runs on {provider}",
        why="; ".join(passed),
        fix=f"pass providers={provider!r} when this is what you want, "
        "or strict=True to make it an error",
    )
