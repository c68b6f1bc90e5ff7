"""Handlers on threads, in virtual time: of all threads, one runs at a time, in a set order.

A handler is synchronous code, with event loops and worker threads of its own; the sources of its
events live on the virtual loop. The loop hands a *baton* to a handler's thread, and takes it back
when the handler has returned, or waits: a sleep of a handler's is a timer of the loop. So a thread
that sleeps for an hour lets everything else of that hour happen first, and no two things ever
happen at once: a run repeats exactly.
"""

from __future__ import annotations

import os
import queue
import threading
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class EnvironmentKilled(BaseException):
    """The execution environment is gone. A BaseException: nothing in a handler shall catch it."""


#: Where a runtime finds its invocation's trace header, and SDKs and twolane's publisher with it:
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
TRACE_HEADER = "_X_AMZN_TRACE_ID"

#: The process that the running thread belongs to; the threads that it starts inherit it.
current: ContextVar[Process | None] = ContextVar("twolane_process", default=None)


class Hand:
    """A thread that does one thing after another; a daemon: one that hangs must not delay exit."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def do(self, job: Callable[[], None]) -> None:
        """Have it done; ``job`` raises nothing."""
        self._jobs.put(job)

    def _run(self) -> None:
        while True:
            self._jobs.get()()


#: Hands that nobody uses: starting a thread costs more than many a test.
_idle: list[Hand] = []


class Sleeper:
    """A thread that waits for the loop to wake it."""

    __slots__ = ("error", "handle", "keeps", "poke", "woken")

    def __init__(self, poke: Callable[[], None], *, keeps: bool = False) -> None:
        self.poke = poke
        self.keeps = keeps  # it waits for other threads of its process
        self.woken = False
        self.error: BaseException | None = None
        self.handle: asyncio.Handle | None = None


class Process:
    """One environment's threads; methods tell whether the loop's or one of them calls."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: Callable[[], Callable[[], None]] | None = None,
    ) -> None:
        """``turn`` is called each time before its threads run, what it returns after that."""
        self.loop = loop
        self._turn = turn
        self.dead = False
        #: The function that it runs, and the invocation that it is in.
        self.about: tuple[str | None, str | None] = (None, None)
        #: X-Ray's, of that invocation: an environment variable, which is a process's own.
        self.trace_header = ""
        self._hand: Hand | None = _idle.pop() if _idle else Hand("twolane-handler")
        self._lock = threading.Lock()
        self._active = 0
        self._baton = threading.Lock()
        self._baton.acquire()
        self._sleepers: list[Sleeper] = []
        self._job: tuple[asyncio.Future[Any], Any, BaseException | None] | None = None

    # On the loop's thread.

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do ``work`` on the process's main thread, soon."""
        future: asyncio.Future[T] = self.loop.create_future()
        self.loop.call_soon(self._begin, work, future)
        return future

    @property
    def asleep(self) -> bool:
        """Whether it is in the middle of something, and waits."""
        return bool(self._sleepers)

    def interrupt(self, error: BaseException) -> None:
        """Raise ``error`` wherever it waits."""
        for sleeper in tuple(self._sleepers):
            sleeper.error = error
            self._wake(sleeper)

    def kill(self) -> None:
        """As SIGKILL does, as far as a thread allows: nothing that it still does has an effect."""
        self.dead = True
        while self._sleepers:
            # Whoever waits for other threads must be there when those come back to it.
            sleeper = min(self._sleepers, key=lambda each: each.keeps)
            sleeper.error = EnvironmentKilled()
            self._wake(sleeper)

    def close(self) -> None:
        """Give the thread back."""
        self.kill()
        if self._hand is not None:
            _idle.append(self._hand)
            self._hand = None

    def _begin(self, work: Callable[[], T], future: asyncio.Future[T]) -> None:
        if future.cancelled() or self._hand is None:
            return

        def job() -> None:
            value, error = None, None
            try:
                value = Context().run(self._as_current, work)
            except BaseException as raised:  # noqa: BLE001 - the future's, whatever it is
                error = raised
            self._job = future, value, error
            self.leave()

        hand = self._hand
        self._give(lambda: hand.do(job))

    def _as_current(self, work: Callable[[], T]) -> T:
        current.set(self)
        return work()

    def _give(self, start: Callable[[], None]) -> None:
        """Hand over the baton, and wait until it is back."""
        self.enter()
        before = os.environ.get(TRACE_HEADER)
        os.environ[TRACE_HEADER] = self.trace_header
        over = self._turn() if self._turn is not None else None
        start()
        self._baton.acquire()
        if over is not None:
            over()
        os.environ.pop(TRACE_HEADER, None)
        if before is not None:
            os.environ[TRACE_HEADER] = before
        if self._job is not None:
            (future, value, error), self._job = self._job, None
            if not future.done():
                # A future refuses StopIteration, and what is no Exception would end the loop.
                if error is None:
                    future.set_result(value)
                elif isinstance(error, Exception) and not isinstance(error, StopIteration):
                    future.set_exception(error)
                else:
                    future.set_exception(Ended(error))

    def _wake(self, sleeper: Sleeper) -> None:
        if sleeper not in self._sleepers:
            return
        self._sleepers.remove(sleeper)
        if sleeper.handle is not None:
            sleeper.handle.cancel()
        sleeper.woken = True
        self._give(sleeper.poke)

    # On its own threads.

    def check(self) -> None:
        """Raises ``EnvironmentKilled`` in a process that is gone: before each effect."""
        if self.dead:
            raise EnvironmentKilled

    def die(self) -> NoReturn:
        """The process is gone, from within: nothing that it still does has an effect."""
        self.dead = True
        raise EnvironmentKilled

    def enter(self) -> None:
        """One more thread of it runs."""
        with self._lock:
            self._active += 1

    def leave(self) -> None:
        """One less; the last one gives back the baton."""
        with self._lock:
            self._active -= 1
            last = not self._active
        if last:
            self._baton.release()

    def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        self.check()
        awake = threading.Lock()
        awake.acquire()
        self.wait(awake.release, awake.acquire, seconds)

    def wait(
        self,
        poke: Callable[[], None],
        block: Callable[[], object],
        seconds: float | None,
        *,
        keeps: bool = False,
    ) -> None:
        """Block until ``poke`` is called by the loop after ``seconds``, or ``block`` returns for
        another reason. ``keeps``: it waits for other threads of the process.
        """
        sleeper = Sleeper(poke, keeps=keeps)
        with self._lock:
            if seconds is not None:
                sleeper.handle = self.loop.call_later(max(0.0, seconds), self._wake, sleeper)
            self._sleepers.append(sleeper)
        self.leave()
        block()
        if not sleeper.woken:
            # Another of its threads woke it, which still runs: the loop has not the baton.
            self.enter()
            with self._lock:
                self._sleepers.remove(sleeper)
                if sleeper.handle is not None:
                    sleeper.handle.cancel()
        if sleeper.error is not None:
            raise sleeper.error

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and wait for what it returns."""
        self.check()
        awake = threading.Lock()
        awake.acquire()
        done: list[asyncio.Task[T]] = []

        def start() -> None:
            task = self.loop.create_task(work)
            task.add_done_callback(ended)

        def ended(task: asyncio.Task[T]) -> None:
            done.append(task)
            self._wake(sleeper)

        sleeper = Sleeper(awake.release)
        self._sleepers.append(sleeper)
        self.loop.call_soon(start)
        self.leave()
        awake.acquire()
        if sleeper.error is not None:
            raise sleeper.error
        return done[0].result()


class Ended(Exception):  # noqa: N818 - it carries what is no Exception
    """Work on a process ended by something else than an Exception, which is its ``cause``."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(repr(cause))
        self.cause = cause
