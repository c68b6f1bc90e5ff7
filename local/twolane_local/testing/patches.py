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
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from twolane_local.testing.threads import Process, current

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from twolane_local.testing.world import World

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

        process.wait(self._poke, block, timeout)
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
    own._clock_resolution = 1e-6  # noqa: SLF001 - as in twolane_local.virtual_clock


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
    future = _real_run_in_executor(loop, executor, call)
    _enter(process, loop)
    future.add_done_callback(lambda _: _leave(process, loop))
    return future


def _counted(run_sync: Callable[..., Any]) -> Callable[..., Any]:
    """AnyIO's worker threads, which run ``def`` endpoints and background tasks."""

    @functools.wraps(run_sync)
    async def counted(*args: Any, **options: Any) -> Any:
        process = current.get()
        loop: Any = asyncio.get_running_loop()
        if process is None or not hasattr(loop, "twolane_threads"):
            return await run_sync(*args, **options)
        _enter(process, loop)
        try:
            return await run_sync(*args, **options)
        finally:
            _leave(process, loop)

    return counted


def _enter(process: Process, loop: Any) -> None:
    loop.twolane_threads += 1
    process.enter()


def _leave(process: Process, loop: Any) -> None:
    loop.twolane_threads -= 1
    process.leave()


class _VirtualTime:
    """Stands for the ``time`` module in a module that counts in ``monotonic``."""

    def __init__(self, world: World) -> None:
        self.monotonic = world.loop.time

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class VirtualLimits:
    """``twolane.worker.limits`` on virtual time: a task that sleeps is interrupted in its sleep."""

    def __init__(self, alarms: list[tuple[float, type[BaseException]]]) -> None:
        self._alarms = alarms
        self._process = current.get()
        self._timers: list[asyncio.TimerHandle] = []

    def __enter__(self) -> Self:
        if self._process is not None:
            loop = self._process.loop
            for at, error in sorted(self._alarms, key=lambda alarm: alarm[0]):
                self._timers.append(loop.call_at(at, self.interrupt, error))
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()

    def interrupt(self, error: type[BaseException]) -> None:
        if self._process is not None:
            self._process.interrupt(error())


@contextmanager
def virtual_waits(world: World) -> Iterator[None]:
    """Every wait of a handler's is virtual inside of the block."""
    loops = asyncio.base_events.BaseEventLoop
    with ExitStack() as undo:
        undo.enter_context(mock.patch.object(time, "sleep", sleep))
        undo.enter_context(mock.patch.object(loops, "run_forever", _run_forever))
        undo.enter_context(mock.patch.object(loops, "run_in_executor", _run_in_executor))
        if threads := sys.modules.get("anyio.to_thread"):
            counted = _counted(threads.run_sync)
            undo.enter_context(mock.patch.object(threads, "run_sync", counted))
        if "twolane.worker.handler" in sys.modules:
            _worker(world, undo)
        yield


def _worker(world: World, undo: ExitStack) -> None:
    from twolane.worker import deadline, handler, pool

    of = functools.partial(deadline.deadline_of, monotonic=world.loop.time)
    undo.enter_context(mock.patch.object(handler, "deadline_of", of))
    undo.enter_context(mock.patch.object(pool, "time", _VirtualTime(world)))
    undo.enter_context(mock.patch.object(pool, "limits", VirtualLimits))


@contextmanager
def own_sleeps(folders: tuple[Path, ...]) -> Iterator[None]:
    """``from time import sleep`` in the application's modules."""
    roots = tuple(f"{folder}/" for folder in folders)
    found = [
        (vars(module), name)
        for module in tuple(sys.modules.values())
        if (getattr(module, "__file__", None) or "").startswith(roots)
        for name, value in tuple(vars(module).items())
        if value is real_sleep
    ]
    for names, name in found:
        names[name] = sleep
    try:
        yield
    finally:
        for names, name in found:
            names[name] = real_sleep
