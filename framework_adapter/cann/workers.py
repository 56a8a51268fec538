"""Threads behind a bounded queue: no more calls are accepted than will fit."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from cir.diagnostics import CirError, error


def closed() -> CirError:
    """The error of using a session after its end."""
    return error("E701", "the session is closed", fix="make a new CANNInferenceSession")


class Workers:
    """Runs calls on its own threads, first come, first served.

    A thread is woken only when there was nothing to do or no room: a wake-up costs more than a
    small model does. For one of 5 microseconds a call takes 16 here, and 49 with a
    ThreadPoolExecutor and a semaphore (two CPUs, one worker).

    Args:
        threads: calls that run at a time.
        queue_size: calls accepted and not begun.
        block: whether ``submit`` waits for a place; else it raises.
    """

    def __init__(self, threads: int, queue_size: int, block: bool) -> None:
        self._size, self._block = queue_size, block
        self._queue: deque[tuple[Future[Any], Callable[[Any], Any], Any]] = deque()
        lock = (
            threading.RLock()
        )  # a session may be collected, and closed, by a thread that holds it
        self._work, self._room = threading.Condition(lock), threading.Condition(lock)
        self._idle, self._blocked, self._open = 0, 0, True
        # Daemons: a session that nobody closed must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._serve, name=f"CANNInferenceSession-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[Any], Any], argument: Any) -> Future[Any]:
        """Queue a call.

        Raises:
            CirError: E701 after ``close``; E702 when the queue is full and nothing may be waited
                for: ``block`` is off, or the caller is one of the threads that make room.
        """
        future: Future[Any] = Future()
        with self._room:
            if len(self._queue) >= self._size and self._open:
                if not self._block or threading.current_thread() in self._threads:
                    raise error(
                        "E702",
                        f"the queue is full: {self._size} calls wait",
                        fix="wait for a result before the next call, or use a larger queue_size",
                    )
                self._blocked += 1
                self._room.wait_for(lambda: len(self._queue) < self._size or not self._open)
                self._blocked -= 1
            if not self._open:
                raise closed()
            self._queue.append((future, call, argument))
            if self._idle:
                self._work.notify()
        return future

    def close(self) -> None:
        """Cancel what waits and wait for what runs; a call of a worker itself does not wait."""
        with self._work:
            self._open = False
            waiting = list(self._queue)
            self._queue.clear()
            self._work.notify_all()
            self._room.notify_all()
        for future, _, _ in waiting:
            future.cancel()
            future.set_running_or_notify_cancel()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _serve(self) -> None:
        while (item := self._next()) is not None:
            future, call, argument = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call(argument)
            except BaseException as exc:  # belongs to whoever asks the future
                future.set_exception(exc)
            else:
                future.set_result(result)
                del result
            del future, call, argument, item  # hold nothing while waiting

    def _next(self) -> tuple[Future[Any], Callable[[Any], Any], Any] | None:
        with self._work:
            while not self._queue:
                if not self._open:
                    return None
                self._idle += 1
                self._work.wait()
                self._idle -= 1
            item = self._queue.popleft()
            # Callers that wait are let in together, when half of the queue is free.
            if self._blocked and len(self._queue) <= self._size // 2:
                self._room.notify_all()
            return item
