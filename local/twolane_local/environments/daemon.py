"""An executor with one thread that the end of the process does not wait for."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class DaemonExecutor(Executor):
    """The standard library's waits for its threads when the interpreter ends: one that hangs would
    hold up Ctrl-C.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._closed = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._closed:
            raise RuntimeError("the executor is shut down")
        future: Future[Any] = Future()
        self._calls.put((future, lambda: call(*args, **kwargs)))
        return future

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if self._closed and future.cancel():
                continue
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 (handed to whoever waits)
                future.set_exception(error)
            del future, call, item

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """What has begun is not waited for."""
        del wait, cancel_futures
        self._closed = True
        self._calls.put(None)
