"""twolane's own worker on virtual time: deadline, time limits, pauses, looks at the store."""

from __future__ import annotations

import functools
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from twolane.publish.client import LightClient
from twolane.worker import handler, pool
from twolane.worker import limits as deadline
from twolane.worker.limits import strikes
from twolane.worker.revocation import Watch
from twolane.worker.work import Worker
from twolane_local.testing.threads import current

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from twolane_local.testing.world import World


@contextmanager
def virtual_worker(world: World) -> Iterator[None]:
    """What ``WorkerHandler`` waits for passes in virtual time inside of the block."""
    of = functools.partial(deadline.deadline_of, monotonic=world.loop.time)
    with ExitStack() as undo:
        undo.enter_context(mock.patch.object(handler, "deadline_of", of))
        undo.enter_context(mock.patch.object(pool, "time", _VirtualTime(world)))
        undo.enter_context(mock.patch.object(pool, "limits", VirtualLimits))
        undo.enter_context(mock.patch.object(Watch, "wake", _wake(Watch.wake)))
        undo.enter_context(mock.patch.object(Watch, "rest", _rest(Watch.rest)))
        # They took hold of ``time.sleep`` when they were made.
        undo.enter_context(mock.patch.object(LightClient, "pause", _looked_up(LightClient.pause)))
        undo.enter_context(mock.patch.object(Worker, "run", _looked_up(Worker.run)))
        yield


def _looked_up(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        if self._sleep.__module__ == "time":  # a test of its own may have given another one
            self._sleep = time.sleep
        return method(self, *args, **options)

    return call


def _wake(stock: Callable[[Any], None]) -> Callable[[Any], None]:
    """Instead of a thread that looks twice a second, a timer of the virtual loop."""

    def wake(watch: Any) -> None:
        process = current.get()
        if process is None:
            stock(watch)
            return
        loop = process.loop
        state = vars(watch)

        def look() -> None:
            # The batch may have ended, or its environment.
            if watch._awake.is_set() and not process.dead:  # noqa: SLF001 - we stand for its thread
                watch.look()
                state["timer"] = loop.call_later(watch._interval_s, look)  # noqa: SLF001 - likewise

        if (former := state.get("timer")) is not None:
            former.cancel()
        watch._awake.set()  # noqa: SLF001 - likewise
        state["timer"] = loop.call_later(watch._interval_s, look)  # noqa: SLF001 - likewise

    return wake


def _rest(stock: Callable[[Any], None]) -> Callable[[Any], None]:
    def rest(watch: Any) -> None:
        stock(watch)
        if current.get() is not None and (timer := vars(watch).pop("timer", None)) is not None:
            timer.cancel()

    return rest


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
        self._strikes = strikes()

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
            self._strikes[0] += 1
            self._process.interrupt(error())
