"""Where code waits for time, and what makes it wait for virtual time in a handler's threads.

Each function is a context manager that puts back what it found. In threads that are no handler's,
the test's own among them, everything stays as it is.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import contextvars
import functools
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import anyio.to_thread

from twolane_local.clock.threads import Process, current

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType


real_sleep = time.sleep
_real_run_forever = asyncio.base_events.BaseEventLoop.run_forever
_real_run_in_executor = asyncio.base_events.BaseEventLoop.run_in_executor


def sleep(seconds: float) -> None:
    """``time.sleep``, in virtual time where a handler calls it."""
    process = current.get()
    if process is None:
        real_sleep(seconds)
    else:
        process.sleep(seconds)


class SleepingSelector:
    """In front of the selector of a handler's event loop: where it waits, virtual time does."""

    def __init__(self, inner: selectors.BaseSelector, loop: Any) -> None:
        self._inner = inner
        self._loop = loop
        self._own = len(inner.get_map())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        process = current.get()
        if process is None:
            return self._inner.select(timeout)
        ready = self._inner.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None and not self._loop.twolane_threads:
            return self._inner.select(None)  # it waits for a socket, or a thread of its own making
        if len(self._inner.get_map()) > self._own:
            # A socket is given a moment of real time to speak before virtual time moves on.
            ready = self._inner.select(0.005)
            if ready:
                return ready

        def block() -> None:
            ready.extend(self._inner.select(None))

        process.wait(self._poke, block, timeout, keeps=self._loop.twolane_threads > 0)
        return ready

    def _poke(self) -> None:
        self._loop.call_soon_threadsafe(_nothing)


def _nothing() -> None:
    pass


def _adopt(loop: Any, process: Process) -> None:
    """Put an event loop that a handler runs onto virtual time."""
    if not isinstance(loop, asyncio.SelectorEventLoop) or loop is process.loop:
        return
    own: Any = loop
    if not isinstance(own._selector, SleepingSelector):  # noqa: SLF001 - asyncio has no seam there
        own.twolane_threads = 0
        own._selector = SleepingSelector(own._selector, own)  # noqa: SLF001
    own.time = process.loop.time
    own._clock_resolution = 1e-6  # noqa: SLF001 - as in twolane_local.clock.virtual


def _run_forever(loop: Any) -> None:
    process = current.get()
    if process is not None:
        _adopt(loop, process)
    _real_run_forever(loop)


def _run_in_executor(loop: Any, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
    process = current.get()
    if process is None or not hasattr(loop, "twolane_threads"):
        return _real_run_in_executor(loop, executor, func, *args)
    call = functools.partial(contextvars.copy_context().run, func, *args)
    _enter(process, loop)  # before the thread can sleep
    future = _real_run_in_executor(loop, executor, call)
    future.add_done_callback(lambda _: _leave(process, loop))
    return future


def _counted(on_thread: Callable[..., Any]) -> Callable[..., Any]:
    """Do something on a thread; time stands still meanwhile, but for what it sleeps itself."""

    @functools.wraps(on_thread)
    async def counted(*args: Any, **options: Any) -> Any:
        process = current.get()
        if process is None:  # it may not be asyncio's loop that runs
            return await on_thread(*args, **options)
        loop: Any = asyncio.get_running_loop()
        if not hasattr(loop, "twolane_threads"):
            return await on_thread(*args, **options)
        _enter(process, loop)
        try:
            return await on_thread(*args, **options)
        finally:
            _leave(process, loop)

    return counted


def _enter(process: Process, loop: Any) -> None:
    loop.twolane_threads += 1
    process.enter()


def _leave(process: Process, loop: Any) -> None:
    loop.twolane_threads -= 1
    process.leave()


@contextmanager
def virtual_waits() -> Iterator[None]:
    """Every wait of a handler's is virtual inside of the block."""
    loops = asyncio.base_events.BaseEventLoop
    with ExitStack() as undo:
        undo.enter_context(mock.patch.object(time, "sleep", sleep))
        undo.enter_context(mock.patch.object(loops, "run_forever", _run_forever))
        undo.enter_context(mock.patch.object(loops, "run_in_executor", _run_in_executor))
        # It gives its threads minutes of the clock to end, from Python 3.12 on.
        joined = _counted(loops.shutdown_default_executor)
        undo.enter_context(mock.patch.object(loops, "shutdown_default_executor", joined))
        # AnyIO's worker threads run ``def`` endpoints and background tasks.
        counted = _counted(anyio.to_thread.run_sync)
        undo.enter_context(mock.patch.object(anyio.to_thread, "run_sync", counted))
        others = [sys.modules[name] for name in _OTHERS if name in sys.modules]
        undo.enter_context(own_sleeps(others))
        yield


#: Libraries that hold ``sleep`` under a name of their own.
_OTHERS = ("kombu.utils.functional", "redis.retry")


@contextmanager
def own_sleeps(modules: Iterable[ModuleType]) -> Iterator[None]:
    """``from time import sleep`` in these modules."""
    found = [
        (vars(module), name)
        for module in modules
        for name, value in tuple(vars(module).items())
        if value is real_sleep
    ]
    for own, name in found:
        own[name] = sleep
    try:
        yield
    finally:
        for own, name in found:
            own[name] = real_sleep
