"""Several runs of a batch at once: on threads, and on the environment's event loop.

``SideBySide`` is what outlives a batch: the loop, with all that coroutine tasks have opened on it,
and the threads. ``Batch`` is one batch: it starts runs in their order, as many as may go at once,
and drives the loop in the handler's own thread until one of them has ended. So nothing runs between
two invocations, and the worker's own state is changed by one thread.

What runs beside others is a ``Flight``. Celery makes its request as for any other run; the pool
then has its call taken here. A coroutine task is a task of the loop, with Celery's own tracer
around it (``twolane.patches.coroutines``). A ``def`` task goes to a thread if ``worker_pool`` is
``threads``; else it runs in the handler's thread with no loop running in it, while nothing is in
the air.

Runs that must not overlap share a key: a FIFO group, the lease of one piece of work, a retry and
the attempt that published it.

**Stopping.** A coroutine is interrupted at its next ``await``. One that blocks the loop in Python
code is interrupted there, by a thread that watches the loop. A thread is interrupted between two
bytecodes. What is neither (a call in C, a coroutine that goes on after it was cancelled) is named
and left behind at the end of the invocation; its message goes back, its lease stays until it ends.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from celery.exceptions import SoftTimeLimitExceeded

from twolane.environment import forks
from twolane.environment.logs import emit
from twolane.errors import StoreUnavailableError
from twolane.patches.coroutines import Body, Owner, stack_owner
from twolane.worker.limits import DeadlineReached, alarms_call, raise_in
from twolane.worker.pool import check_process
from twolane.worker.records import Outcome, is_stopper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celery import Celery

    from twolane.worker.limits import Alarms, Interrupter
    from twolane.worker.pool import Call
    from twolane.worker.records import Run, Settled
    from twolane.worker.work import Worker

logger = logging.getLogger("twolane.worker")

#: A step of a coroutine that takes longer blocks the loop; asyncio's own debug mode has this limit.
BLOCKS_S = 0.1

#: How long a coroutine may go on after it was cancelled before it is named.
_HEEDS_S = 1.0

#: How often the loop is looked at for a step that overruns a limit.
_LOOK_S = 0.1

#: Of the reserve at the end of the invocation, what is left when the batch stops waiting.
_ANSWER = 0.4

#: The flight that the code at hand belongs to.
_current: ContextVar[Flight | None] = ContextVar("twolane_flight", default=None)


class Flight:
    """A run that goes on beside others."""

    def __init__(self, batch: Batch, run: Run) -> None:
        self.batch, self.run = batch, run
        self.keys: frozenset[object] = frozenset()
        self.body: FlightBody | None = None
        #: The way into its thread, if it has one.
        self.thread: Interrupter | None = None
        self.left = self.has_ended = False
        self.blocked_s = 0.0
        self._loop = batch.several.loop
        self._waiting: list[BaseException] = []
        #: What is still to be raised, by a timer of the loop or by the thread that watches it.
        self._alarms: Alarms = list(batch.alarms)
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def name(self) -> str:
        return self.run.facts.name if self.run.facts else ""

    def interrupt(self, error: type[BaseException]) -> None:
        """From any thread: raise ``error`` in the coroutine, if it still runs."""
        self._loop.call_soon_threadsafe(self.strike, error)

    def strike(self, error: type[BaseException]) -> None:
        """On the loop's thread: as ``interrupt``."""
        if self.body is None:
            if not self.has_ended:
                self._waiting.append(error())
            return
        if self.body.ended:
            return
        self.body.interrupt(error())
        if not issubclass(error, Exception):
            self._timers.append(self._loop.call_later(_HEEDS_S, self._heeds))

    def alarm(self, at: float, error: type[BaseException]) -> None:
        """On the loop's thread: as ``strike``, unless it was raised where the coroutine blocked."""
        if (at, error) in self._alarms:
            self._alarms.remove((at, error))
            self.strike(error)

    def entered(self, body: FlightBody) -> None:
        """The task's body is at hand."""
        self.body = body
        for error in self._waiting:
            body.interrupt(error)

    def limits(self, alarms: Alarms, now: float) -> Flight:
        """A context in whose block the task's own limits hold."""
        for at, error in alarms:
            self._alarms.append((at, error))
            self._timers.append(self._loop.call_later(at - now, self.alarm, at, error))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()
        self.has_ended = True
        self.body = None  # no circle of references is left for the garbage collector
        if self.blocked_s:
            emit(
                logger,
                "task.blocked-loop",
                f"! {self.name} blocked the event loop for {self.blocked_s:.3f} s: no other "
                "coroutine task could go on. Await what takes time, or make it a def task with "
                'worker_pool = "threads"',
                level=logging.WARNING,
                taskName=self.name,
                durationMs=round(self.blocked_s * 1000, 3),
            )

    def overdue(self, now: float) -> type[BaseException] | None:
        """The error that should have been raised by now; each alarm once."""
        due = [pair for pair in self._alarms if pair[0] <= now]
        if not due:
            return None
        first = min(due, key=lambda pair: pair[0])
        self._alarms.remove(first)
        return first[1]

    def _heeds(self) -> None:
        if self.body is None or self.body.ended:
            return
        emit(
            logger,
            "task.ignores-cancel",
            f"! {self.name} goes on after it was cancelled: it catches CancelledError. Raise that "
            "again once it is tidied up",
            level=logging.ERROR,
            taskName=self.name,
            taskId=self.run.task_id,
        )


class FlightBody(Body):
    """A coroutine of a flight: its steps are timed, and the process is looked at after each."""

    __slots__ = ("_flight", "_forked", "_several", "_since")

    def __init__(self, coroutine: Any, flight: Flight) -> None:
        super().__init__(coroutine)
        self._flight, self._several = flight, flight.batch.several
        self._forked, self._since = forks.count, 0.0

    def entered(self) -> None:
        several = self._several
        self._since = several.since = several.loop.time()
        several.at = self._flight

    def left(self) -> None:
        several = self._several
        several.at = None
        if forks.count != self._forked:
            forks.end(None)
        took_s = several.loop.time() - self._since
        if took_s > BLOCKS_S:
            self._flight.blocked_s = max(took_s, self._flight.blocked_s)
        if self.ended:
            check_process(self._flight.name)


class SideBySide:
    """The loop and the threads of an execution environment, which outlive its batches."""

    def __init__(self, app: Celery) -> None:
        self.loop = asyncio.new_event_loop()
        self.threads = Threads(app)
        #: The flight whose coroutine takes a step right now, and since when.
        self.at: Flight | None = None
        self.since = 0.0
        self.left: set[Flight] = set()
        self._thread = 0
        self._struck: tuple[Flight, type[BaseException]] | None = None
        self._awake = threading.Event()
        self._watcher: threading.Thread | None = None
        # What puts the loop's time and waits in its own way (a test's) does so as it first runs.
        self.loop.call_soon(self.loop.stop)
        self.until(lambda: True, at_least_once=True)
        weakref.finalize(self, _close, self.loop, self.threads, self._awake)

    def enter(self, coroutine: Any) -> Body:
        """The body of a coroutine that Celery's tracer awaits."""
        flight = _current.get()
        if flight is None:
            return Body(coroutine)
        body = FlightBody(coroutine, flight)
        flight.entered(body)
        return body

    def drive(self, coroutine: Any) -> Any:
        """Run the coroutine of a body that is not an ``async def`` itself, and wait for it."""
        context = copy_context()

        async def runs() -> Any:
            return await coroutine

        if _current.get() is None:  # in the handler's thread, with nothing in the air
            task = self.loop.create_task(runs(), context=context)
            task.add_done_callback(lambda _: self.loop.stop())
            self.until(task.done)
            return task.result()
        future: Future[Any] = Future()

        def start() -> None:
            task = self.loop.create_task(runs(), context=context)
            task.add_done_callback(partial(_copy_end, future))

        self.loop.call_soon_threadsafe(start)
        return future.result()

    def until(self, over: Callable[[], bool], *, at_least_once: bool = False) -> None:
        """Drive the loop until ``over()``, asked after each ``loop.stop()``."""
        while at_least_once or not over():
            at_least_once = False
            if not in_a_loop():
                self._drive()
                continue
            # The handler was called from a coroutine: no second loop can run in its thread.
            thread = threading.Thread(target=self._drive, name="twolane-loop", daemon=True)
            thread.start()
            thread.join()

    def _drive(self) -> None:
        self._thread = threading.get_ident()
        try:
            self.loop.run_forever()
        except (KeyboardInterrupt, SystemExit):
            # Of a task that an application has started on the loop: it ends nothing but itself.
            logger.exception("an asyncio task has tried to end the process; it goes on")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, a step of a coroutine that overruns a limit is interrupted."""
        with alarms_call(self.on_alarm):
            self._awake.set()
            if self._watcher is None:
                args = (weakref.ref(self), self._awake)
                self._watcher = threading.Thread(
                    target=_watch, args=args, name="twolane-loop-watch", daemon=True
                )
                self._watcher.start()
            try:
                yield
            finally:
                self._awake.clear()

    def look(self) -> None:
        """One look at the loop, from the watching thread."""
        flight, since = self.at, self.since
        if flight is None or self.loop.time() - since < _LOOK_S:
            return
        error = flight.overdue(self.loop.time())
        if error is None or self.at is not flight:
            return
        self._struck = flight, error
        raise_in(self._thread, error)

    def on_alarm(self) -> None:
        """In the main thread, which a signal has interrupted."""
        struck, self._struck = self._struck, None
        if struck is not None and struck[0] is self.at:
            raise struck[1]


def in_a_loop() -> bool:
    """True if this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _watch(of: weakref.ref[SideBySide], awake: threading.Event) -> None:
    pause = threading.Event()
    while awake.wait():
        pause.wait(_LOOK_S)
        several = of()
        if several is None:
            return
        several.look()
        del several


def _copy_end(future: Future[Any], task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        future.cancel()
    elif (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())


def _close(loop: asyncio.AbstractEventLoop, threads: Threads, awake: threading.Event) -> None:
    threads.shutdown()
    awake.set()
    if not loop.is_running():
        loop.close()


class Threads(Executor):
    """Daemon threads, as many as are busy at once. The standard library's executors wait for theirs
    at exit: one that hangs would keep the process.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = self._all = 0

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            starts = not self._idle
            self._idle -= not starts
            self._all += starts
        if starts:
            name = f"twolane-task-{self._all}"
            threading.Thread(target=self._run, name=name, daemon=True).start()
        self._jobs.put((future, partial(call, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end, each after its call."""
        del wait, cancel_futures
        for _ in range(self._all):
            self._jobs.put(None)

    def _run(self) -> None:
        self._app.set_current()
        while (job := self._jobs.get()) is not None:
            future, call = job
            try:
                value, error = call(), None
            except BaseException as raised:  # noqa: BLE001 - the caller's
                value, error = None, raised
            with self._lock:
                self._idle += 1
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
            del job, future, call, value, error


class Batch:
    """One batch: which of its runs may start, and how each ends."""

    def __init__(
        self, worker: Worker, several: SideBySide, runs: Sequence[Run], *,
        kind_of: Callable[[Run], str], most: int, most_threads: int,
    ) -> None:  # fmt: skip
        """``kind_of``: ``coroutine``, ``thread`` or ``here``."""
        self.worker, self.several = worker, several
        self.settled: dict[int, Settled] = {}
        self._runs = runs
        self._waiting: list[tuple[Run, frozenset[object]]] = [(run, _keys(run)) for run in runs]
        self._kind_of = kind_of
        self._most = {"coroutine": most, "thread": most_threads}
        self._flights: dict[Flight, None] = {}
        self._counts = {"coroutine": 0, "thread": 0}
        self._groups: set[str | None] = set()
        self._stops_at_landing = False
        self._is_over = self._has_ended = False
        self._deadline = runs[0].deadline if runs else None
        deadline = self._deadline
        self.alarms: Alarms = (
            [(deadline.soft, SoftTimeLimitExceeded), (deadline.lost, DeadlineReached)]
            if deadline is not None
            else []
        )

    def run(self) -> list[Settled]:
        """Run all; returns the ends in the order of the records."""
        timers: list[asyncio.TimerHandle] = []
        with self.several.watched():
            # On the loop, as it runs: a test's has its time from the world that it runs in.
            self.several.loop.call_soon(lambda: timers.extend(self._set_timers()))
            try:
                self._go()
            finally:
                self._has_ended = True
                for timer in timers:
                    timer.cancel()
        return [self.settled[id(run)] for run in self._runs]

    def sleep(self, seconds: float) -> None:
        """Wait, while what is in the air goes on."""
        over: list[bool] = []

        def wake() -> None:
            over.append(True)
            self.several.loop.stop()

        loop = self.several.loop
        loop.call_soon(loop.call_later, seconds, wake)  # on the loop, as above
        self.several.until(lambda: bool(over) or self._is_over)

    def _set_timers(self) -> Iterator[asyncio.TimerHandle]:
        for flight in tuple(self.several.left):
            flight.strike(DeadlineReached)
        deadline = self._deadline
        if deadline is None or self._has_ended:
            return
        loop, now = self.several.loop, deadline.monotonic()
        for at, error in self.alarms:
            yield loop.call_later(max(0.0, at - now), self._strike_all, at, error)
        ends = deadline.at - _ANSWER * deadline.reserve_s
        yield loop.call_later(max(0.0, ends - now), self._end)

    def _strike_all(self, at: float, error: type[BaseException]) -> None:
        for flight in tuple(self._flights):
            if flight.thread is not None:
                flight.thread.interrupt(error)
            else:
                flight.alarm(at, error)

    def _end(self) -> None:
        self._is_over = True
        self.several.loop.stop()

    def _go(self) -> None:
        try:
            while not self._is_over:
                started = self._start_next()
                if started:
                    continue
                if not self._flights:
                    break
                self._stops_at_landing = bool(self._waiting)
                flying = len(self._flights)
                self.several.until(partial(self._has_changed, flying if self._waiting else 1))
        except StoreUnavailableError as error:
            logger.error("%s", error)  # noqa: TRY400 - the store's state, not a fault in the code
            self._give_up(Outcome.BROKEN)
            self._stops_at_landing = False
            self.several.until(partial(self._has_changed, 1))
        self._give_up(Outcome.UNTOUCHED)
        for flight in tuple(self._flights):
            self._leave(flight)

    def _has_changed(self, flying: int) -> bool:
        return self._is_over or len(self._flights) < flying

    def _give_up(self, outcome: Outcome) -> None:
        """End what has not started: what waits, and what the store has kept from starting."""
        self._waiting = []
        flying = {id(flight.run) for flight in self._flights}
        for run in self._runs:
            if id(run) not in self.settled and id(run) not in flying:
                self._settle(run, self.worker.settled(run, outcome))

    def _start_next(self) -> bool:
        """Start the first run that may start; ``False`` if none may."""
        if self._flights and all(self._counts[kind] >= self._most[kind] for kind in self._counts):
            return False
        held: set[object] = set()
        for flight in self._flights:
            held |= flight.keys
        for number, (run, keys) in enumerate(self._waiting):
            if held.isdisjoint(keys) and self._has_room(run):
                del self._waiting[number]
                self._start(run, keys)
                return True
            held |= keys
        return False

    def _has_room(self, run: Run) -> bool:
        kind = self._kind_of(run)
        if kind == "here":
            return not self._flights
        return self._counts[kind] < self._most[kind]

    def _start(self, run: Run, keys: frozenset[object]) -> None:
        waits = run.record.is_fifo and run.record.group_id in self._groups
        if waits or (run.deadline is not None and run.deadline.too_late_to_start):
            self._settle(run, self.worker.settled(run, Outcome.UNTOUCHED))
            return
        worker, kind = self.worker, self._kind_of(run)
        if run.ahead is None or not worker.has_looked_up:
            next_ones = [run, *(each for each, _ in self._waiting)]
            worker.refresh(next_ones)
            room = 0 if kind == "here" else self._most[kind] - self._counts[kind]
            if run.ahead is None:
                worker.hold_ahead(next_ones, at_once=room)
        if kind != "here":
            run.take = partial(self._take, kind, keys)
        settled = worker.begin(run)
        if settled is not None:
            self._settle(run, settled)

    def _settle(self, run: Run, settled: Settled) -> None:
        self.settled[id(run)] = settled
        if run.record.is_fifo and is_stopper(settled.outcome):
            self._groups.add(run.record.group_id)

    def _take(self, kind: str, keys: frozenset[object], call: Call) -> None:
        """Celery's request is made, and its lease taken: off it goes."""
        context = copy_context()
        flight = Flight(self, call.run)
        flight.keys = keys
        call.run.in_flight, call.run.take = True, None
        self._flights[flight] = None
        self._counts[kind] += 1
        loop = self.several.loop
        context.run(_current.set, flight)
        context.run(stack_owner.set, Owner())
        if kind == "thread":
            on_thread = partial(context.run, self.worker.execute, call, flight)
            future: asyncio.Future[Settled] = loop.run_in_executor(self.several.threads, on_thread)
        else:
            flying = self.worker.execute_awaiting(call, flight)
            future = loop.create_task(flying, context=context)
        future.add_done_callback(partial(self._landed, flight, kind))

    def _landed(self, flight: Flight, kind: str, future: asyncio.Future[Settled]) -> None:
        self.several.left.discard(flight)
        if self._flights.pop(flight, self) is self:
            return  # it was left behind, and its message is answered
        self._counts[kind] -= 1
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            logger.error(
                "message %s was not settled; it will be delivered again",
                flight.run.record.message_id, exc_info=error,
            )  # fmt: skip
            self._settle(flight.run, self.worker.settled(flight.run, Outcome.BROKEN))
        else:
            self._settle(flight.run, future.result())
        if self._stops_at_landing or not self._flights:
            self.several.loop.stop()

    def _leave(self, flight: Flight) -> None:
        """The invocation ends without it."""
        flight.left = True
        del self._flights[flight]
        run = flight.run
        on_loop = self._kind_of(run) == "coroutine"
        if on_loop:
            self.several.left.add(flight)
        why = (
            "it goes on after it was cancelled"
            if on_loop
            else "it is in code that Python cannot interrupt"
        )
        emit(
            logger,
            "task.left-behind",
            f"! {flight.name} still runs at the end of the invocation: {why}. Its message goes "
            "back, and runs again once its lease has run out",
            level=logging.ERROR,
            taskName=flight.name,
            taskId=run.task_id,
        )
        self._settle(run, self.worker.left_behind(run))


def _keys(run: Run) -> frozenset[object]:
    """Keys that only one run at a time may have."""
    keys: list[object] = [run.publish_key, run.lease_key, run.prior_key]
    if run.record.is_fifo and run.record.group_id is not None:
        keys.append((run.record.queue_arn, run.record.group_id))
    return frozenset(key for key in keys if key is not None)
