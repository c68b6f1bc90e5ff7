"""Virtual time for the whole process, the thread that moves it, and the clock that a test moves.

``datetime`` and ``time.time`` stand still at the virtual time while anything runs, for every module
of the process; ``time.monotonic`` stays real, as event loops of the test's own depend on it.

Chance repeats: one seed decides ids, jitter, and everything that ``random`` does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import threading
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar
from unittest import mock

import time_machine

from twolane_local.aws.lambda_ import functions
from twolane_local.clock.threads import Hand, current
from twolane_local.clock.virtual import NEW_YEAR, VirtualClock, VirtualLoop
from twolane_local.testing import TestingError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


T = TypeVar("T")

_driver: Hand | None = None


class World:
    """One virtual loop with its clock. Every method is called from outside of the loop."""

    def __init__(self, start: float = NEW_YEAR) -> None:
        _check_sockets()
        self._travel = time_machine.travel(start, tick=False)
        try:
            self._traveller = self._travel.start()
        except RuntimeError as error:  # time-machine's, beside freezegun
            raise TestingError(
                f"the stack cannot move time where something else has stopped it ({error}): say "
                "when the test begins by @pytest.mark.twolane(start=…), or freeze time inside of it"
            ) from error
        self.started_at = self._told = start
        self.loop = VirtualLoop(start, on_leap=self._moved, socket_grace_s=0.0)
        self.loop.gate = self._may_leap
        self.clock = VirtualClock(self.loop)
        self._horizon: float | None = None
        self._go_on: Callable[[], bool] = lambda: False
        self._failure: BaseException | None = None
        self.loop.set_exception_handler(self._failed)

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self.loop.epoch_s

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, however long that takes in virtual time."""
        task: asyncio.Task[T] = self.loop.create_task(work)
        self.drive(lambda: not task.done())
        if not task.done():
            task.cancel()
            self.drive(lambda: False)
            raise TestingError(
                "what the test waits for never happens: nothing is left that could wake it"
            )
        return task.result()

    def drive(self, go_on: Callable[[], bool], *, until: float | None = None) -> None:
        """Let happen all that is due by ``until`` (now, by default); beyond, leap on as long as
        ``go_on()`` says so and something is due. Raises what a callback of the loop has raised.
        """
        if current.get() is not None:
            raise TestingError("the test drives the stack; a handler cannot")
        self._horizon = self.now if until is None else until
        self._go_on = go_on
        _outside_of_loops(self.loop.run_forever)
        if until is not None and until > self.now:
            self.loop.leap(until - self.now)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def close(self) -> None:
        """End the loop with all that is on it; time is real again."""
        try:
            _outside_of_loops(self._end)
        finally:
            self._travel.stop()

    def _end(self) -> None:
        loop = self.loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.gate = None
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()

    def _moved(self, now: float) -> None:
        self._traveller.shift(now - self._told)
        self._told = now

    def _may_leap(self, at: float | None) -> bool:
        if at is None:
            return False
        if self._horizon is not None and at <= self._horizon:
            return True
        return self._go_on()

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._failure = self._failure or (
            error if error is not None else TestingError(str(context.get("message")))
        )


def _check_sockets() -> None:
    """An event loop wakes itself by a pair of sockets."""
    try:
        socket.socket(socket.AF_UNIX).close()
    except (RuntimeError, UserWarning) as error:  # pytest-socket's
        raise TestingError(
            f"event loops need a pair of sockets, which open no connection, and something refuses "
            f"them ({error}): give pytest-socket --allow-unix-socket beside --disable-socket"
        ) from error


def _outside_of_loops(work: Callable[[], None]) -> None:
    """Here; on a thread of its own where the caller's has an event loop running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
    else:
        _on_driver(work)


def _on_driver(work: Callable[[], None]) -> None:
    global _driver  # noqa: PLW0603 - one for the process
    if _driver is None:
        _driver = Hand("twolane-stack")
    over = threading.Lock()
    over.acquire()
    raised: list[BaseException] = []

    def job() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised where it was asked for
            raised.append(error)
        finally:
            over.release()

    _driver.do(job)
    over.acquire()
    if raised:
        raise raised[0]


Moment = datetime | float | str


class Clock:
    """Moves time forward; everything that falls due on the way happens: deliveries, retries,
    schedules, expiries.
    """

    def __init__(self, world: World, pass_time: Callable[[float], None]) -> None:
        """``pass_time(until)`` lets everything happen that falls due by then."""
        self._world, self._pass_time = world, pass_time

    @property
    def now(self) -> datetime:
        """The time, in UTC; also ``datetime.now()`` and ``time.time()`` say it."""
        return datetime.fromtimestamp(self.time, UTC)

    @property
    def time(self) -> float:
        """The time, in seconds since the epoch."""
        return self._world.now

    def advance(self, by: timedelta | float) -> None:
        """Let ``by`` pass; a number is seconds."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else float(by)
        if seconds < 0:
            raise TestingError(f"time does not run backwards, not even {-seconds} seconds")
        self._pass_time(self.time + seconds)

    def at(self, moment: Moment) -> None:
        """Let time pass until an aware datetime, epoch seconds, or ISO 8601 (UTC by default)."""
        self.advance(seconds_of(moment) - self.time)


def seconds_of(moment: Moment) -> float:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return aware.timestamp()
    return float(moment)


class Chance:
    """What is drawn in a test. ``ids`` gives every id, the emulator's own among them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.ids = random.Random()  # noqa: S311 - ids of a test
        self._turns = 0
        self.begin()

    def begin(self) -> None:
        """The test begins: what was drawn before makes no difference to it."""
        self._turns = -1
        self.turn()

    def turn(self) -> None:
        """Draw anew from the seed. At each invocation, so that what a library draws once in a
        process changes nothing of what follows.
        """
        self._turns += 1
        # Numbers, as a text would be hashed first.
        number = self.seed << 33 | self._turns << 1
        random.seed(number)
        self.ids.seed(number | 1)


#: Objects that Python tracks; most tests make fewer.
_COLLECTED_AFTER = 20_000


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Python looks for cycles less often inside of the block: it does so in the middle of anything,
    and what it finds (an ``AsyncResult``) talks to the result store as it goes. Whoever has
    switched collection off keeps it so: https://docs.python.org/3/library/gc.html#gc.set_threshold
    """
    first, *others = gc.get_threshold()
    gc.set_threshold(max(first, _COLLECTED_AFTER) if first else 0, *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)


@contextmanager
def seeded(seed: int, *, entropy: bool = False) -> Iterator[Chance]:
    """``random``, UUIDs and request ids repeat inside; with ``entropy`` also ``os.urandom``."""
    state = random.getstate()
    chance = Chance(seed)
    drawing = SimpleNamespace(**{**vars(os), "urandom": chance.ids.randbytes})
    try:
        with (
            seldom_collected(),
            mock.patch.object(uuid, "os", drawing),
            mock.patch.object(functions, "os", drawing),
            mock.patch.object(os, "urandom", drawing.urandom if entropy else os.urandom),
        ):
            yield chance
    finally:
        random.setstate(state)
