"""The execution environments of one function: reused, grown on demand, ended when idle."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twolane_local.aws.invocation import Invocation, ThrottledError
from twolane_local.aws.lambda_ import report
from twolane_local.aws.lambda_.report import STOPPED
from twolane_local.aws.lambda_.requirements import why_missing
from twolane_local.model.states import EnvironmentState, PoolState

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.aws.lambda_.environment import Environment, Owner, Work
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec

    MakeEnvironment = Callable[[FunctionSpec, Owner], Environment]


COLD, BUSY, FROZEN = "cold", "busy", "frozen"


@dataclass(slots=True)
class _Line:
    id: str
    since: float
    state: str = COLD
    invocations: int = 0
    request: str = ""
    former: str = ""


class Roll:
    """Kept by a pool, which tells it of each change; ``now`` is a time in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lines: dict[Environment, _Line] = {}
        self._entered = 0

    def enters(self, environment: Environment) -> None:
        """Its init phase begins."""
        self._entered += 1
        self._lines[environment] = _Line(str(self._entered), self._now())

    def begins(self, environment: Environment, request_id: str) -> None:
        """It has an invocation."""
        line = self._lines[environment]
        line.since, line.state = self._now(), BUSY
        line.invocations += 1
        line.former, line.request = line.request, request_id

    def rests(self, environment: Environment) -> None:
        """It is free, and nothing waits for it."""
        line = self._lines[environment]
        line.since, line.state = self._now(), FROZEN

    def leaves(self, environment: Environment) -> None:
        """It will take no work again."""
        self._lines.pop(environment, None)

    def states(self) -> tuple[EnvironmentState, ...]:
        """As they are now, the oldest first."""
        now = self._now()
        return tuple(
            EnvironmentState(
                line.id, line.state, now - line.since, line.invocations,
                tuple(each for each in (line.request, line.former) if each),
            )
            for line in self._lines.values()
        )  # fmt: skip


#: How long work waits for a busy environment before a new one is started. An environment that has
#: just answered is free again within a millisecond; a new one costs hundreds and takes a core.
PATIENCE_S = 0.02
#: With so many, a line that never empties has no more started for it: the emulator's own loop is
#: the limit then. Work that waits for ``PATIENCE_S`` has one even so.
ENOUGH = 4
#: How long an environment may be idle beyond what demand needs.
IDLE_S = 300.0
#: A laptop's stand-in for the account's limit of 1,000; above it work waits.
MAX_ENVIRONMENTS = max(32, 4 * (os.cpu_count() or 4))


class Pool:
    """The environments of one function. Implements ``Owner``."""

    def __init__(
        self,
        spec: FunctionSpec,
        make: MakeEnvironment,
        journal: Journal,
        *,
        maximum: int = MAX_ENVIRONMENTS,
    ) -> None:
        self.spec = spec
        self._make = make
        self._journal = journal
        self._maximum = maximum
        self._loop = asyncio.get_running_loop()
        self._idle: list[Environment] = []
        self._busy: dict[Environment, Work] = {}
        self._starting: set[Environment] = set()
        self._roll = Roll(journal.now)
        self._waiting: deque[Work] = deque()
        self._line_since = 0.0  # the loop's time since which some work has waited always
        self._ready = asyncio.Event()
        self._failure: bytes | None = None
        self._closed = False
        self._stale: set[Environment] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._used = 0  # the most at once since the last reaping

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy) + len(self._starting)

    @property
    def _limit(self) -> int:
        reserved = self.spec.reserved_concurrency
        return self._maximum if reserved is None else min(reserved, self._maximum)

    @property
    def state(self) -> PoolState:
        """As it is now."""
        environments = len(self._busy), len(self._idle), len(self._starting)
        return PoolState(
            self._limit, self.spec.reserved_concurrency, *environments, len(self._waiting),
            self._roll.states(),
        )  # fmt: skip

    def submit(self, work: Work) -> None:
        """Run it, now or as soon as an environment is there.

        Raises ``ThrottledError`` where reserved concurrency is used up.
        """
        if self.spec.reserved_concurrency is not None:
            self._check_reserved(self.spec.reserved_concurrency)
        if self._idle:
            self._begin(self._idle.pop(), work)
            return
        work.waiting_since = self._loop.time()
        if not self._waiting:
            self._line_since = work.waiting_since
        self._waiting.append(work)
        if not len(self):
            self._grow()
        elif self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_S, self._impatient)

    def _check_reserved(self, reserved: int) -> None:
        # One that has answered is about to be free: it must not throttle the next in line.
        executing = sum(1 for environment in self._busy if not environment.responded)
        if executing + len(self._waiting) >= reserved:
            raise ThrottledError

    def _begin(self, environment: Environment, work: Work) -> None:
        self._busy[environment] = work
        self._used = max(self._used, len(self._busy))
        self._roll.begins(environment, work.request_id)
        environment.begin(work)

    def _impatient(self) -> None:
        """Start an environment for each piece of work that has waited long enough, and one where
        there was always another that waited.

        One timer for all, set again for the next in line, keeps the hot path free of one a piece.
        """
        self._patience = None
        now = self._loop.time()
        late = 0
        for work in self._waiting:
            if now - work.waiting_since < PATIENCE_S:
                due = work.waiting_since + PATIENCE_S
                self._patience = self._loop.call_at(due, self._impatient)
                break
            late += 1
        # Timers may come a millisecond early.
        always = self._waiting and now - self._line_since > PATIENCE_S - 0.001
        if always and not late and len(self) < ENOUGH:
            late = 1
        for _ in range(late - len(self._starting)):
            self._grow()

    def _grow(self) -> None:
        if len(self) < self._limit and not self._closed:
            environment = self._make(self.spec, self)
            self._starting.add(environment)
            self._roll.enters(environment)
            environment.start()

    def freed(self, environment: Environment) -> None:
        self._starting.discard(environment)
        self._over(self._busy.pop(environment, None), "the environment took the next one")
        if environment in self._stale:
            self._end(environment)
            if self._waiting and not len(self):
                self._grow()
            return
        self._ready.set()
        while self._waiting:
            work = self._waiting.popleft()
            if not work.done.done():
                self._begin(environment, work)
                return
        self._idle.append(environment)
        self._roll.rests(environment)
        if len(self._idle) > 1 and self._reaper is None:
            self._reaper = self._loop.call_later(IDLE_S, self._reap)

    def _reap(self) -> None:
        """End the environments that demand has not needed for a while, but for one."""
        self._reaper = None
        used, self._used = self._used, 0
        while len(self) > max(1, used) and len(self._idle) > 1:
            self._end(self._idle.pop(0))
        if len(self._idle) > 1:
            self._reaper = self._loop.call_later(IDLE_S, self._reap)

    def _end(self, environment: Environment) -> None:
        self._stale.discard(environment)
        self._roll.leaves(environment)
        task = self._loop.create_task(environment.stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def renew(self, spec: FunctionSpec) -> None:
        """The function has changed: work under way finishes, what comes next runs the new one."""
        self.spec = spec
        self._stale |= self._busy.keys() | self._starting
        self._failure = None
        self._ready.clear()
        while self._idle:
            self._end(self._idle.pop())

    def gone(self, environment: Environment, failure: bytes | None) -> None:
        self._starting.discard(environment)
        self._over(self._busy.pop(environment, None), "the environment ended")
        self._stale.discard(environment)
        self._roll.leaves(environment)
        if environment in self._idle:
            self._idle.remove(environment)
        if failure is not None:
            self._failure = failure
            self._ready.set()
            if self._waiting:
                work = self._waiting.popleft()
                # As on Lambda, the invocation that caused the init phase is the one that fails.
                work.record.started(cold=True, payload=work.event)
                answer = report.of_request(failure, work.request_id)
                if remedy := why_missing(self.spec, failure):
                    self._journal.record(
                        "log", function=self.spec.name, request_id=work.request_id, line=remedy
                    )
                self._over(work, "the init phase failed", answer)
        if self._waiting and not self._idle:
            self._grow()

    def _over(self, work: Work | None, reason: str, payload: bytes = b"") -> None:
        """Whatever became of its environment, an invocation is answered, and ends in the journal.

        What the environment has told already stands.
        """
        if work is None or (work.record.over and work.done.done()):
            return
        duration = work.record.age_ms()
        if not work.done.done():
            payload = payload or report.error(
                "Runtime.ExitError", f"RequestId: {work.request_id} Error: {reason}"
            )
            work.record.responded(duration, "Unhandled", payload)
            if work.stream is not None:
                work.stream.end(payload)
            work.done.set_result(Invocation(work.request_id, payload, "Unhandled"))
        figures = report.Report(duration, self.spec.memory_mb, 0, None)
        work.record.ended(figures, reason)

    async def where(self) -> str | None:
        """Where an init that is under way stands, in a few words; ``None`` where there is none."""
        for environment in self._starting:
            return await environment.where()
        return None

    async def provision(self, count: int) -> None:
        """Have so many environments ready at once, whatever the demand."""
        for _ in range(min(count, self._limit) - len(self)):
            self._grow()
        while self._starting:
            self._ready.clear()
            await self._ready.wait()

    async def warm(self) -> bytes | None:
        """Have one environment ready; returns the error object where its init failed."""
        if self._limit == 0:  # reserved for none: the function is switched off
            return None
        if not self._idle and not self._starting - self._stale:
            self._ready.clear()
            self._failure = None
            self._grow()
        await self._ready.wait()
        return self._failure

    async def check(self) -> bytes | None:
        """As ``warm``; an environment that was started for it alone does not stay."""
        alone = not len(self)
        failure = await self.warm()
        if alone and not self._used:
            while self._idle:
                self._end(self._idle.pop())
            await asyncio.gather(*self._ending)
        return failure

    async def close(self) -> None:
        """End every environment; work that still waits is answered as throttled."""
        self._closed = True
        for timer in (self._patience, self._reaper):
            if timer is not None:
                timer.cancel()
        for work in self._waiting:
            if not work.done.done():
                self._journal.record(
                    "invocation.throttled", function=self.spec.name, request_id=work.request_id
                )
                work.done.set_exception(ThrottledError())
        self._waiting.clear()
        everything = [*self._idle, *self._busy, *self._starting]
        await asyncio.gather(*(environment.stop() for environment in everything))
        for environment in everything:
            self._roll.leaves(environment)
            self._over(self._busy.pop(environment, None), STOPPED)
        for group in (self._idle, self._starting):
            group.clear()
        await asyncio.gather(*self._ending)
