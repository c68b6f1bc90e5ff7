"""Runs functions by name, each in its own pool of execution environments.

Environments are reused, started on demand, and ended when they have been idle.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from twolane_local.aws.invocation import (
    Invocation,
    RecursiveInvocationError,
    TenancyError,
    ThrottledError,
    executed_version,
    resolve,
)
from twolane_local.aws.lambda_ import report
from twolane_local.aws.lambda_.environment import Work
from twolane_local.aws.lambda_.interpreters import missing_package_remedy
from twolane_local.aws.lambda_.report import STOPPED, InvocationRecord
from twolane_local.model import LATEST, lineage
from twolane_local.model.states import EnvironmentState, PoolState

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.aws.lambda_.environment import Environment, Owner
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec

    MakeEnvironment = Callable[[FunctionSpec, Owner], Environment]
    from collections.abc import Callable, Iterable, Sequence

    from twolane_local.aws.invocation import ResponseStream
    from twolane_local.model import FunctionSpec


COLD, BUSY, FROZEN = "cold", "busy", "frozen"


@dataclass(slots=True)
class _Status:
    id: str
    since: float
    state: str = COLD
    invocations: int = 0
    request: str = ""
    former: str = ""


class EnvironmentStates:
    """The states of a pool's environments, for the console; ``now`` returns seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._statuses: dict[Environment, _Status] = {}
        self._started = 0

    def started(self, environment: Environment) -> None:
        """The init phase begins."""
        self._started += 1
        self._statuses[environment] = _Status(str(self._started), self._now())

    def invoked(self, environment: Environment, request_id: str) -> None:
        status = self._statuses[environment]
        status.since, status.state = self._now(), BUSY
        status.invocations += 1
        status.former, status.request = status.request, request_id

    def idle(self, environment: Environment) -> None:
        status = self._statuses[environment]
        status.since, status.state = self._now(), FROZEN

    def removed(self, environment: Environment) -> None:
        self._statuses.pop(environment, None)

    def current(self) -> tuple[EnvironmentState, ...]:
        """The current states, the oldest environment first."""
        now = self._now()
        return tuple(
            EnvironmentState(
                status.id, status.state, now - status.since, status.invocations,
                tuple(each for each in (status.request, status.former) if each),
            )
            for status in self._statuses.values()
        )  # fmt: skip


#: The time for which work waits for a busy environment before a new one is started. One that has
#: just answered is free within a millisecond; a new one takes hundreds of them, and a core.
PATIENCE_S = 0.02
#: A queue of work that never empties starts no more than these: then the emulator's own event loop
#: is the limit. Work that waits for ``PATIENCE_S`` always gets one.
ENOUGH = 4
#: The idle time after which surplus environments are ended.
IDLE_S = 300.0
#: The limit on this machine, in place of the account's limit of 1,000; above it work waits.
MAX_ENVIRONMENTS = max(32, 4 * (os.cpu_count() or 4))


class EnvironmentPool:
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
        self._states = EnvironmentStates(journal.now)
        self._waiting: deque[Work] = deque()
        self._waiting_since = 0.0  # the loop's time since which ``_waiting`` is not empty
        self._ready = asyncio.Event()
        self._failure: bytes | None = None
        self._closed = False
        self._stale: set[Environment] = set()
        #: The tenant of each environment, if the function isolates tenants.
        self._tenants: dict[Environment, str] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._used = 0  # the most at once since the last reaping
        self._warming = 0  # callers of ``warm``

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy) + len(self._starting)

    @property
    def _limit(self) -> int:
        reserved = self.spec.reserved_concurrency
        return self._maximum if reserved is None else min(reserved, self._maximum)

    @property
    def state(self) -> PoolState:
        """The current state."""
        environments = len(self._busy), len(self._idle), len(self._starting)
        return PoolState(
            self._limit, self.spec.reserved_concurrency, *environments, len(self._waiting),
            self._states.current(),
        )  # fmt: skip

    def submit(self, work: Work) -> None:
        """Run the work as soon as an environment is free.

        Raises ``ThrottledError`` if reserved concurrency is used up.
        """
        if (reserved := self.spec.reserved_concurrency) is not None:
            # An environment that has answered is about to be free: it must not throttle the next.
            executing = sum(1 for environment in self._busy if not environment.responded)
            if executing + len(self._waiting) >= reserved:
                raise ThrottledError
        if (environment := self._idle_for(work)) is not None:
            self._begin(environment, work)
            return
        work.waiting_since = self._loop.time()
        if not self._waiting:
            self._waiting_since = work.waiting_since
        self._waiting.append(work)
        if not len(self):
            self._grow()
        elif self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_S, self._impatient)

    def _idle_for(self, work: Work) -> Environment | None:
        """Take the idle environment that was used last, of the work's tenant if that matters."""
        if not self.spec.tenant_isolation:
            return self._idle.pop() if self._idle else None
        fits = [each for each in self._idle if self._suits(each, work)]
        # One that has no tenant yet is left to those that have no other.
        fits.sort(key=self._tenants.__contains__)
        if not fits:
            return None
        self._idle.remove(fits[-1])
        return fits[-1]

    def _suits(self, environment: Environment, work: Work) -> bool:
        """False if the environment has served another tenant.

        https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html
        """
        return self._tenants.get(environment, work.tenant_id) == work.tenant_id

    def _begin(self, environment: Environment, work: Work) -> None:
        self._busy[environment] = work
        if self.spec.tenant_isolation:
            self._tenants[environment] = work.tenant_id
        self._used = max(self._used, len(self._busy))
        self._states.invoked(environment, work.request_id)
        environment.begin(work)

    def _impatient(self) -> None:
        """Start an environment for each piece of work that has waited too long, and one more if
        there has always been some work waiting.

        One timer serves all work, as a timer for each would slow down every invocation.
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
        always = self._waiting and now - self._waiting_since > PATIENCE_S - 0.001
        if always and not late and len(self) < ENOUGH:
            late = 1
        for _ in range(late - len(self._starting)):
            self._grow()

    def _grow(self) -> None:
        if self.spec.tenant_isolation and len(self) >= self._limit and self._idle:
            self._end(self._idle.pop(0))  # another tenant's
        if len(self) < self._limit and not self._closed:
            environment = self._make(self.spec, self)
            self._starting.add(environment)
            self._states.started(environment)
            environment.start()

    def freed(self, environment: Environment) -> None:
        self._starting.discard(environment)
        self._end_work(self._busy.pop(environment, None), "the environment took the next one")
        if environment in self._stale:
            self._end(environment)
            if (self._waiting or self._warming) and not len(self):
                self._grow()
            return
        self._ready.set()
        if (next_work := self._next_for(environment)) is not None:
            self._begin(environment, next_work)
            return
        self._idle.append(environment)
        self._states.idle(environment)
        if self._waiting:  # work of other tenants
            self._grow()
        if len(self._idle) > 1 and self._reaper is None:
            self._reaper = self._loop.call_later(IDLE_S, self._reap)

    def _next_for(self, environment: Environment) -> Work | None:
        """Take the waiting work that is next for an environment."""
        if self.spec.tenant_isolation:
            for work in tuple(self._waiting):
                if work.done.done() or self._suits(environment, work):
                    self._waiting.remove(work)
                    if not work.done.done():
                        return work
            return None
        while self._waiting:
            work = self._waiting.popleft()
            if not work.done.done():
                return work
        return None

    def _reap(self) -> None:
        """End all environments but one that were not needed for a while."""
        self._reaper = None
        used, self._used = self._used, 0
        while len(self) > max(1, used) and len(self._idle) > 1:
            self._end(self._idle.pop(0))
        if len(self._idle) > 1:
            self._reaper = self._loop.call_later(IDLE_S, self._reap)

    def _end(self, environment: Environment) -> None:
        self._stale.discard(environment)
        self._tenants.pop(environment, None)
        self._states.removed(environment)
        task = self._loop.create_task(environment.stop())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def renew(self, spec: FunctionSpec) -> None:
        """Change the function: work under way finishes, new work runs the new function."""
        self.spec = spec
        self._stale |= self._busy.keys() | self._starting
        self._failure = None
        self._ready.clear()
        while self._idle:
            self._end(self._idle.pop())

    def retire(self) -> None:
        """The function is deleted: work under way finishes, and nobody waits for its init."""
        self.renew(self.spec)
        self._warming = 0
        self._ready.set()

    def gone(self, environment: Environment, failure: bytes | None) -> None:
        self._starting.discard(environment)
        self._end_work(self._busy.pop(environment, None), "the environment ended")
        self._stale.discard(environment)
        self._tenants.pop(environment, None)
        self._states.removed(environment)
        if environment in self._idle:
            self._idle.remove(environment)
        if failure is not None:
            self._failure = failure
            self._ready.set()
            if self._waiting:
                work = self._waiting.popleft()
                # As on Lambda, the invocation that caused the init phase fails.
                work.record.started(cold=True, payload=work.event)
                answer = report.of_request(failure, work.request_id)
                if remedy := missing_package_remedy(self.spec, failure):
                    self._journal.record(
                        "log", function=self.spec.name, request_id=work.request_id, line=remedy
                    )
                outcome = environment.refuse(work, answer)
                self._end_work(work, "the init phase failed", answer, outcome)
        if self._waiting and (self.spec.tenant_isolation or not self._idle):
            self._grow()

    def _end_work(
        self,
        work: Work | None,
        reason: str,
        payload: bytes = b"",
        outcome: Invocation | None = None,
    ) -> None:
        """Answer an invocation and end it in the journal, unless its environment has done so."""
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
            work.done.set_result(outcome or Invocation(work.request_id, payload, "Unhandled"))
        figures = report.Report(duration, self.spec.memory_mb, 0, None)
        work.record.ended(figures, reason)

    async def where(self) -> str | None:
        """The position of an init under way, in a few words; ``None`` if there is none."""
        for environment in self._starting:
            return await environment.where()
        return None

    async def provision(self, count: int) -> None:
        """Start environments until there are ``count``."""
        for _ in range(min(count, self._limit) - len(self)):
            self._grow()
        while self._starting:
            self._ready.clear()
            await self._ready.wait()

    async def warm(self) -> bytes | None:
        """Start one environment; returns the error object if its init fails."""
        if self._limit == 0:  # reserved concurrency of 0 switches the function off
            return None
        if not self._idle and not self._starting - self._stale:
            self._ready.clear()
            self._failure = None
            self._grow()
        self._warming += 1
        try:
            await self._ready.wait()
        finally:
            self._warming = max(0, self._warming - 1)
        return self._failure

    async def check(self) -> bytes | None:
        """Like ``warm``, but ends an environment that was started only for the check."""
        was_empty = not len(self)
        failure = await self.warm()
        if was_empty and not self._used:
            while self._idle:
                self._end(self._idle.pop())
            await asyncio.gather(*self._ending)
        return failure

    async def close(self) -> None:
        """End all environments; waiting work is throttled."""
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
            self._states.removed(environment)
            self._end_work(self._busy.pop(environment, None), STOPPED)
        self._idle.clear()
        self._starting.clear()
        await asyncio.gather(*self._ending)


class RecursionDetection:
    """Lambda's recursive-loop detection, which comes before each invocation.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def check(self, spec: FunctionSpec, headers: Sequence[str], request_id: str) -> str:
        """The lineage of an invocation; raises ``RecursiveInvocationError`` if it is a loop."""
        over = lineage.at_limit(headers, spec.arn)
        if over and spec.recursive_loop != lineage.ALLOW:
            self._journal.record(
                "invocation.dropped", function=spec.name, request_id=request_id,
                reason="recursive-loop", metric="RecursiveInvocationsDropped",
                level="ERROR", message=f"{spec.name} was not invoked: this chain of requests has "
                f"invoked it {lineage.LIMIT} times, and Lambda's recursive-loop detection stops it "
                "there (on AWS without a log line; metric RecursiveInvocationsDropped). If the "
                "loop is intended, as with Celery's retries and chains, give the function "
                "RecursiveLoop: Allow",
            )  # fmt: skip
            raise RecursiveInvocationError(spec.name, over)
        return lineage.next_field(headers, spec.arn)


class Functions:
    """All functions of the stack, by name. Implements ``Invoker``."""

    def __init__(
        self,
        specs: Iterable[FunctionSpec],
        make: MakeEnvironment,
        journal: Journal,
        *,
        maximum: int = MAX_ENVIRONMENTS,
    ) -> None:
        self._make = make
        self._journal = journal
        self._maximum = maximum
        self._loop = asyncio.get_running_loop()
        self._pools: dict[str, EnvironmentPool] = {}
        #: By name; updated with the stack.
        self.specs: dict[str, FunctionSpec] = {}
        self._closing: list[EnvironmentPool] = []
        self._detection = RecursionDetection(journal)
        self.apply(specs)

    def apply(
        self,
        specs: Iterable[FunctionSpec],
        *,
        renew: Callable[[FunctionSpec], bool] = lambda _: False,
    ) -> None:
        """Replace the functions; changed ones, and those that ``renew`` selects, start anew."""
        found = {spec.name: spec for spec in specs}
        self.specs.clear()
        self.specs.update(found)
        wanted = dict(found)
        for spec in found.values():
            wanted |= {f"{spec.name}:{each}": one for each, one in spec.versions.items()}
        for name in self._pools.keys() - wanted.keys():
            gone = self._pools.pop(name)
            gone.retire()
            self._closing.append(gone)
        for name, spec in wanted.items():
            pool = self._pools.get(name)
            if pool is None:
                self._pools[name] = EnvironmentPool(
                    spec, self._make, self._journal, maximum=self._maximum
                )
            elif not _same_environment(pool.spec, spec) or renew(spec):
                pool.renew(spec)
            else:
                pool.spec = spec

    def states(self) -> dict[str, PoolState]:
        """The current state of the environments, by function, or ``name:version``."""
        return {name: pool.state for name, pool in self._pools.items()}

    def spec(self, name: str) -> FunctionSpec:
        """The function of a name in ``states``."""
        return self._pools[name].spec

    def __len__(self) -> int:
        """The number of environments."""
        return sum(len(pool) for pool in self._pools.values())

    async def invoke_streaming(
        self,
        function: str,
        event: bytes,
        stream: ResponseStream,
        *,
        request_id: str | None = None,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
        tenant_id: str = "",
    ) -> Invocation:
        """Implements ``Streamer``."""
        return await _outcome(self.submit(
            function, event, request_id=request_id, client_context=client_context, stream=stream,
            trace_headers=trace_headers, tenant_id=tenant_id,
        ))  # fmt: skip

    async def invoke(
        self,
        function: str,
        event: bytes,
        *,
        request_id: str | None = None,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
        tenant_id: str = "",
    ) -> Invocation:
        """Implements ``Invoker``."""
        return await _outcome(self.submit(
            function, event, request_id=request_id, client_context=client_context,
            trace_headers=trace_headers, tenant_id=tenant_id,
        ))  # fmt: skip

    def submit(
        self,
        function: str,
        event: bytes,
        *,
        request_id: str | None = None,
        client_context: str = "",
        stream: ResponseStream | None = None,
        trace_headers: Sequence[str] = (),
        tenant_id: str = "",
    ) -> Work:
        """Start one invocation; ``done`` of the result is the outcome.

        Raises the same errors as ``Invoker.invoke``.
        """
        spec, qualifier = resolve(self.specs, function)
        if spec.tenant_isolation is not bool(tenant_id):
            raise TenancyError(isolates=spec.tenant_isolation)
        function = spec.name
        pool = self._pools[function if spec.version == LATEST else f"{function}:{spec.version}"]
        identifier = request_id or new_request_id()
        line = self._detection.check(pool.spec, trace_headers, identifier)
        work = Work(
            request_id=identifier,
            event=event,
            done=self._loop.create_future(),
            record=InvocationRecord(self._journal, function, identifier),
            trace_id=f"{trace_root(identifier)};Sampled=0;{line}",
            client_context=client_context,
            tenant_id=tenant_id,
            stream=stream,
            invoked_arn="" if qualifier == LATEST else f"{spec.arn}:{qualifier}",
            version=executed_version(spec, qualifier),
        )
        if stream is not None:
            stream.version = work.version
        try:
            pool.submit(work)
        except ThrottledError:
            self._journal.record("invocation.throttled", function=function, request_id=identifier)
            raise
        return work

    async def provision(self, function: str, count: int) -> None:
        """Start ``count`` environments of a function, as provisioned concurrency does."""
        await self._pools[function].provision(count)

    async def warm(self) -> dict[str, bytes]:
        """Start an environment of each function; returns the failures, by function.

        A published version starts with its first invocation.
        """
        pools = [pool for pool in self._pools.values() if pool.spec.version == LATEST]
        results = await asyncio.gather(*(pool.warm() for pool in pools))
        return {
            pool.spec.name: failure
            for pool, failure in zip(pools, results, strict=True)
            if failure is not None
        }

    async def starting(self) -> list[str]:
        """The logical ids of functions whose init is under way, with its position in the code."""
        pools = list(self._pools.values())
        places = await asyncio.gather(*(pool.where() for pool in pools))
        return [
            pool.spec.logical_id + (f" ({place})" if place else "")
            for pool, place in zip(pools, places, strict=True)
            if place is not None
        ]

    async def check(self, function: str) -> bytes | None:
        """Check that a function loads; keeps no unused environment, returns the failure."""
        pool = self._pools.get(function)
        return None if pool is None else await pool.check()

    async def close(self) -> None:
        pools = [*self._pools.values(), *self._closing]
        await asyncio.gather(*(pool.close() for pool in pools))


async def _outcome(work: Work) -> Invocation:
    done = await work.done
    return done if work.version == LATEST else replace(done, version=work.version)


def _same_environment(one: FunctionSpec, other: FunctionSpec) -> bool:
    """True if they differ in nothing that an environment sees."""
    return one == replace(
        other, reserved_concurrency=one.reserved_concurrency, event_invoke=one.event_invoke,
        qualified_invoke=one.qualified_invoke, dead_letter_arn=one.dead_letter_arn,
        recursive_loop=one.recursive_loop, qualifiers=one.qualifiers,
    )  # fmt: skip


def trace_root(request_id: str) -> str:
    """The root of a request's trace: https://docs.aws.amazon.com/xray/latest/devguide/"""
    digits = request_id.replace("-", "")
    return f"Root=1-{digits[:8]}-{digits[8:]}"


def new_request_id() -> str:
    """A random UUID, as Lambda's request ids are."""
    # The uuid module takes eight times as long, on every request.
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
