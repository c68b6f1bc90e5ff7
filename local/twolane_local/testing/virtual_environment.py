"""An execution environment of a test: the handler in this process, on virtual time.

Implements ``Environment``. Init, response first, work after it, timeout and kill are as on Lambda;
how long code takes to compute is not counted. What a handler logs goes to the journal, without a
stream in between.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from twolane.environment import logs
from twolane.environment.logs import correlation
from twolane.worker.limits import Waits, strikes
from twolane_local.aws.invocation import Invocation
from twolane_local.aws.lambda_ import report
from twolane_local.aws.lambda_.inprocess import Context, error_object, load_error
from twolane_local.aws.lambda_.report import KILLED
from twolane_local.clock.threads import Ended, Process, current
from twolane_local.journal import record_fields

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Container, Iterator, Mapping

    from twolane.worker.limits import Alarms
    from twolane_local.aws.lambda_.environment import Owner, Work
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec
    from twolane_local.testing.world import World

    Handler = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class VirtualContext(Context, Waits):
    """``deadline`` is in epoch seconds, on the virtual clock. With it come time limits that
    interrupt a sleep, and a timer of the virtual loop for what is to be looked at again and again,
    except while the process is ``frozen``.
    """

    process: Process = field(kw_only=True)
    looks: bool = True
    frozen: Container[Process] = ()

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - self.monotonic()) * 1000))

    def monotonic(self) -> float:
        return self.process.loop.time()

    def limits(self, alarms: Alarms) -> VirtualLimits:
        return VirtualLimits(alarms, self.process)

    def each(self, interval_s: float, look: Callable[[], object]) -> Callable[[], object]:
        if not self.looks:
            return lambda: None
        loop = self.process.loop
        timer: list[asyncio.TimerHandle] = []

        def again() -> None:
            if not self.process.dead:
                if self.process not in self.frozen:
                    look()
                timer[:] = [loop.call_later(interval_s, again)]

        def stop() -> None:
            timer[0].cancel()

        timer.append(loop.call_later(interval_s, again))
        return stop


class VirtualLimits:
    """``twolane.worker.limits`` on virtual time: a task that sleeps is interrupted in its sleep."""

    def __init__(self, alarms: Alarms, process: Process) -> None:
        self._alarms, self._process = alarms, process
        self._timers: list[asyncio.TimerHandle] = []
        self._strikes = strikes()

    def __enter__(self) -> Self:
        loop = self._process.loop
        for at, error in sorted(self._alarms, key=lambda alarm: alarm[0]):
            self._timers.append(loop.call_at(at, self.interrupt, error))
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()

    def interrupt(self, error: type[BaseException]) -> None:
        self._strikes[0] += 1
        self._process.interrupt(error())


class Variables:
    """The process's environment variables, as the functions of a stack set them: what a test has
    changed since stays changed, and so does what a handler has.
    """

    def __init__(self) -> None:
        self._written: dict[str, str] = {}

    def apply(self, environ: Mapping[str, str]) -> None:
        written = self._written
        for name, value in environ.items():
            known = written.get(name)
            # To ask ``os.environ`` costs more than most of a test's calls.
            if known != value and (known is None or os.environ.get(name) == known):
                os.environ[name] = written[name] = value


class VirtualEnvironment:
    """``load`` gives the handler, on the environment's own thread."""

    def __init__(
        self,
        spec: FunctionSpec,
        environ: Mapping[str, str],
        *,
        variables: Variables,
        owner: Owner,
        world: World,
        journal: Journal,
        load: Callable[[], Handler],
        after: Callable[[str], Callable[[], None] | None],
        released: Callable[[Handler, bool], None],
        turn: Callable[[], None] = lambda: None,
        frozen: Container[Process] = (),
        name: str = "",
        looks: bool = True,
        modules: Callable[[], Callable[[], None]] | None = None,
    ) -> None:
        """``variables`` are shared by all of a stack. ``turn`` is called before each invocation;
        ``after`` gives the work that a request has left for after its response. ``released`` hears
        of a handler that is no longer used, and whether it is intact: not if it died in the middle
        of something. A ``frozen`` one cannot be killed before it goes on. ``name`` is its own in
        the journal, else the function's; with ``looks``, its worker looks for what was revoked.
        ``modules`` puts its own ones in place.
        """
        self.spec, self.name = spec, name or spec.name
        self.process = Process(world.loop, modules)
        self.responded = False
        self._environ, self._variables = environ, variables
        self._owner, self._world, self._journal = owner, world, journal
        self._load, self._after, self._released = load, after, released
        self._turn, self._frozen, self._looks = turn, frozen, looks
        self._handler: Handler | None = None
        self._work: Work | None = None
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._cold = True
        self._running: asyncio.Future[Any] | None = None
        self.process.about = (self.name, None)

    @property
    def busy(self) -> bool:
        """Whether it has an invocation, or work after one."""
        return self._work is not None

    @property
    def lingers(self) -> bool:
        """Whether it still runs an invocation that Lambda has given up."""
        running = self._running
        return self._work is None and running is not None and not running.done()

    def start(self) -> None:
        began = self._world.now
        self.process.run(self._init).add_done_callback(partial(self._started, began))

    def _init(self) -> Handler:
        self._variables.apply(self._environ)
        return self._load()

    def _started(self, began: float, done: asyncio.Future[Handler]) -> None:
        error = done.exception()
        if error is not None:
            self.process.close()
            cause = error.cause if isinstance(error, Ended) else error
            self._owner.gone(self, load_error(self.spec.handler, cause))
            return
        self._handler = done.result()
        self._journal.record(
            "environment.started",
            function=self.spec.name,
            initMs=round((self._world.now - began) * 1000, 2),
        )
        self._owner.freed(self)

    def begin(self, work: Work) -> None:
        self._turn()
        self._work, self.responded, self._began = work, False, self._world.now
        self.process.about = (self.name, work.request_id)
        self.process.trace_header = work.trace_id
        deadline = self._began + self.spec.timeout_s
        work.deadline_ms = int(deadline * 1000)
        work.record.started(cold=self._cold)
        context = VirtualContext(
            aws_request_id=work.request_id,
            function_name=self.spec.name,
            invoked_function_arn=work.invoked_arn or self.spec.arn,
            memory_limit_in_mb=str(self.spec.memory_mb),
            deadline=deadline,
            log_group_name=f"/aws/lambda/{self.spec.name}",
            process=self.process,
            looks=self._looks,
            frozen=self._frozen,
        )
        self._timer = self._world.loop.call_later(self.spec.timeout_s, self._timed_out)
        self._running = self.process.run(partial(self._call, work.event, context))
        self._running.add_done_callback(self._returned)

    def _call(self, event: bytes, context: VirtualContext) -> tuple[bytes, str | None]:
        if self._handler is None:
            raise RuntimeError("the environment is not free")
        self._variables.apply(self._environ)
        try:
            result = self._handler(json.loads(event), context)
        except Exception as error:  # noqa: BLE001 (a function's own error is a result)
            self.process.check()
            return error_object(error, context.aws_request_id), "Unhandled"
        self.process.check()
        try:
            return json.dumps(result, ensure_ascii=False).encode(), None
        except (TypeError, ValueError) as error:
            message = f"Unable to marshal response: {error}"
            return report.error("Runtime.MarshalError", message), "Unhandled"

    def _returned(self, done: asyncio.Future[tuple[bytes, str | None]]) -> None:
        error, work = done.exception(), self._work
        if work is None:  # it is gone: what its threads still raise is not heard
            self.process.close()
            return
        if error is not None:  # what is no Exception ends the process
            self.kill()
            return
        self._respond(*done.result())
        after = self._after(work.request_id)
        if after is None:
            self._free()
        else:
            self.process.run(after).add_done_callback(self._after_done)

    def _after_done(self, done: asyncio.Future[None]) -> None:
        error = done.exception()
        if self._work is None:
            return
        if isinstance(error, Ended):
            self.kill()
        else:
            self._free()

    def _respond(self, payload: bytes, error: str | None) -> None:
        work = self._work
        if work is None or self.responded:
            return
        self.responded = True
        duration_ms = round((self._world.now - self._began) * 1000, 2)
        work.record.responded(duration_ms, error, None if error is None else payload)
        if not work.done.done():
            work.done.set_result(
                Invocation(work.request_id, payload, error, bytes, self._cold, duration_ms)
            )

    def _free(self) -> None:
        self._ended()
        self._cold = False
        self._owner.freed(self)

    def _ended(self, reason: str = "") -> None:
        work, self._work = self._work, None
        if self._timer is not None:
            self._timer.cancel()
        if work is not None:
            # In virtual time: what code takes to compute is nothing.
            figures = report.Report(
                duration_ms=(self._world.now - self._began) * 1000,
                memory_mb=self.spec.memory_mb,
                max_memory_mb=0,
                init_ms=None,
            )
            work.record.ended(figures, reason)

    def _timed_out(self) -> None:
        work = self._work
        if work is None:
            return
        payload = report.timed_out(work.request_id, self.spec.timeout_s)
        reason = f"timed out after {self.spec.timeout_s:g} s"
        if self.process in self._frozen:
            # A stalled machine: Lambda has given it up, and it may do something before it ends.
            self._leave(payload, reason)
        else:
            self.kill(payload, reason)

    def kill(self, payload: bytes | None = None, reason: str = KILLED) -> None:
        """End the environment at once; ``payload`` is the error object of its invocation."""
        self.process.kill()  # its threads end now; what they return is not heard
        self.process.close()
        self._leave(payload, reason)

    def _leave(self, payload: bytes | None, reason: str) -> None:
        work, handler = self._work, self._handler
        if self._timer is not None:
            self._timer.cancel()
        self._handler = None
        if handler is not None:
            self._released(handler, False)
        if work is not None:
            self._respond(payload or report.exited(work.request_id, -9), "Unhandled")
            self._ended(reason)
        self._journal.record("environment.stopped", function=self.spec.name, killed=True)
        self._owner.gone(self, None)

    def refuse(self, work: Work, failure: bytes) -> Invocation:
        return Invocation(work.request_id, failure, "Unhandled")

    async def where(self) -> str:
        return ""

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        work, self._work = self._work, None
        handler, self._handler = self._handler, None
        self.process.close()
        if handler is not None:
            self._released(handler, work is None)


class Narrator(logging.Handler):
    """Journals the runtime's events, and what handlers log."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        process = current.get()
        told: dict[str, Any] | None = getattr(record, "twolane", None)
        if process is None:
            # A thread of an earlier stack may still wait in real time, and log in this one's.
            if told is None or threading.get_ident() != self._thread:
                return
        elif process.dead:
            return
        fields: dict[str, Any] = {
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **(correlation.get() or {}),
            **(told or {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            fields.setdefault("error", repr(record.exc_info[1]))
        function, request_id = process.about if process is not None else (None, None)
        record_fields(self._journal, function, request_id, fields)


@contextmanager
def narrated(journal: Journal, *, quiet: bool = False) -> Iterator[None]:
    """Journal it inside of the block. Where it is ``quiet``, journal the runtime's lines only, and
    have nobody else hear them, nor Celery's and the application's.
    """
    narrator = Narrator(journal)
    heard = logging.getLogger("twolane" if quiet else None)
    with (
        hushed() if quiet else _level("twolane", logging.INFO),
        # The formatter of Lambda's own log handler is not for those of pytest.
        mock.patch.object(logs, "configure", _nothing),
    ):
        heard.addHandler(narrator)
        try:
            yield
        finally:
            heard.removeHandler(narrator)


@contextmanager
def hushed() -> Iterator[None]:
    """Only the runtime's own logger is heard. Costs next to nothing inside another such block."""
    loggers = [logging.getLogger(), *map(logging.getLogger, ("twolane", "celery", "app"))]
    before = [(log, log.propagate, log.handlers[:]) for log in loggers]
    loggers[0].handlers[:] = [logging.NullHandler()]
    try:
        with (
            _level("twolane", logging.INFO),
            _level("celery", logging.CRITICAL),
            _level("app", logging.CRITICAL),
        ):
            for log in loggers[1:]:
                log.propagate = False
            yield
    finally:
        for log, propagate, handlers in before:
            log.propagate, log.handlers[:] = propagate, handlers


@contextmanager
def _level(name: str, level: int) -> Iterator[None]:
    log = logging.getLogger(name)
    before = log.level
    if level == before:  # to set it makes every logger of the process forget what it knows
        yield
        return
    log.setLevel(level)
    try:
        yield
    finally:
        log.setLevel(before)


def _nothing(*_: object) -> None:
    pass


def is_journaled(record: logging.LogRecord) -> bool:
    """Whether a log line says what the journal says."""
    return hasattr(record, "twolane")
