"""Running the event loop until something has happened, in one thread at a time."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable
    from types import TracebackType


class Turn:
    """The right to drive the loop: a lock that knows whose it is."""

    __slots__ = ("_lock", "_owner")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    def __enter__(self) -> None:
        self._lock.acquire()
        self._owner = threading.get_ident()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._owner = None
        self._lock.release()

    def acquire(self, timeout_s: float) -> bool:
        """Take the turn if it is free within ``timeout_s``; ``release`` gives it back."""
        return self._lock.acquire(timeout=timeout_s)

    def release(self) -> None:
        """Give back what ``acquire`` took."""
        self._lock.release()

    @property
    def mine(self) -> bool:
        """Whether this very thread has the turn, further up its stack."""
        return self._owner == threading.get_ident()


class Drive:
    """Drives ``loop`` below a task of its own that lasts as long as the environment.

    That task is what a server's is under ``asyncio.run``: the root of everything. AnyIO ties its
    worker threads to it, and so keeps them from one request to the next; with a root for each
    request, as under Mangum, every ``def`` endpoint starts a thread. And the loop is left with
    ``stop``, within the step that finishes a request: ``run_until_complete`` takes one more.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._root: Task[None] | None = None

    def stop(self) -> None:
        """Let ``until`` look whether it is over. Only from the loop."""
        self._loop.stop()

    def until(self, over: Callable[[], bool]) -> None:
        """Drive the loop until ``over()``, asked after each ``stop``."""
        while not over():
            root = self._root
            if root is None or root.done():
                root = self._take_root()
            try:
                # With the root, and not `run_forever`: AnyIO looks for what is run so.
                self._loop.run_until_complete(root)
            except RuntimeError:
                # Also the way in which `run_until_complete` says that it was stopped, by us or by
                # the application, which under a server would bring that down.
                if self._loop.is_running() or self._loop.is_closed() or in_a_loop():
                    raise
            except asyncio.CancelledError:
                # The application has cancelled every task that it found, the root among them.
                if not root.cancelled():
                    raise

    def end(self) -> None:
        """End the root, and with it the threads that were kept for it. Idempotent."""
        root, self._root = self._root, None
        if root is None or self._loop.is_closed():
            return
        root.cancel()
        for _ in ("the root ends", "what waits for its end is called"):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()

    def _take_root(self) -> Task[None]:
        last = _last(self._loop)
        try:
            self._root = self._loop.create_task(last)
        except RuntimeError:
            last.close()
            raise
        _before_threads_are_joined(weakref.WeakMethod(self.end))
        return self._root


def in_a_loop() -> bool:
    """Whether this thread runs an event loop, so that no other can be run in it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _last(loop: AbstractEventLoop) -> None:
    await loop.create_future()


def _before_threads_are_joined(end: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Call ``end()`` when the interpreter exits, before it waits for AnyIO's threads.

    They are no daemons and end with their root only, and ``atexit`` comes after that wait. The
    hook is the one that ``concurrent.futures`` uses for the same reason.
    """

    def call() -> None:
        if (method := end()) is not None:
            method()

    vars(threading)["_register_atexit"](call)
