"""``Twolane``: the emulated stack of one test, in this process, in virtual time.

Everything between a request and its last retry is the emulator's own: events, routes, queues,
mappings, schedules. No socket is opened and no process started; handlers run on threads that take
turns (``threads``), so that a run repeats exactly.

    with Twolane(of_template(Path("template.yaml"), {})) as twolane:
        twolane.client.post("/notify/deferred", json={…})
        twolane.deferred.run()
        assert twolane.queue("tasks").dead_letters == []

All methods are synchronous and called from the test's thread, also where a loop runs there.

Seams, for faults: ``make_invoker(functions)`` wraps the Invoker that gateway, mappings and
asynchronous invocations use; ``make_queues(clock, journal, rng)`` makes the queue service;
``environments(function)`` gives the live ``VirtualEnvironment`` objects, each with ``kill()`` and
``process`` (``interrupt``, ``sleep`` …).
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from twolane.api.awake import Awake
from twolane.api.handler import ApiHandler
from twolane_local.aws.http_api.api import Gateway
from twolane_local.aws.lambda_.api import LambdaApi
from twolane_local.aws.lambda_.asynchronous import AsyncInvocations
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.scheduler.api import SchedulerApi
from twolane_local.aws.scheduler.schedule import ScheduleBook
from twolane_local.aws.sqs.api import SqsApi
from twolane_local.faults.injection import Faults
from twolane_local.faults.invoker import FaultyInvoker, FaultyTicks
from twolane_local.faults.points import Points
from twolane_local.faults.queues import FaultyQueues
from twolane_local.journal import Journal
from twolane_local.testing import aws, code, inside, store
from twolane_local.testing.clock import Clock
from twolane_local.testing.deferred import Deferred
from twolane_local.testing.environment import VirtualEnvironment
from twolane_local.testing.errors import TestingError
from twolane_local.testing.events import JournalView
from twolane_local.testing.narration import narrated
from twolane_local.testing.patches import own_sleeps, virtual_waits
from twolane_local.testing.project import api_url
from twolane_local.testing.queues import Queue, find
from twolane_local.testing.seed import seeded
from twolane_local.testing.sources import Deliveries, Schedules, settle
from twolane_local.testing.tables import Tables
from twolane_local.testing.tasks import Tasks
from twolane_local.testing.world import World
from twolane_local.virtual_clock import NEW_YEAR

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Mapping
    from types import ModuleType, TracebackType

    import httpx

    from twolane_local.aws.invocation import Invocation, Invoker
    from twolane_local.aws.lambda_.environment import Owner
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.clock import Clock as AnyClock
    from twolane_local.model import FunctionSpec
    from twolane_local.testing.project import Project

    MakeQueues = Callable[[AnyClock, Journal, random.Random], QueueService]


class _AlwaysThere:
    """The extension of an environment that always has one."""

    alive = True


def _plain_queues(clock: AnyClock, journal: Journal, rng: random.Random) -> QueueService:
    return FaultyQueues(clock, journal, rng=rng)


class Machinery:
    """A stack's parts, put together and started; ``Twolane`` is what a test sees of it."""

    events: Journal
    queues: QueueService

    def __init__(
        self,
        project: Project,
        *,
        seed: int = 0,
        start: float = NEW_YEAR,
        user: ModuleType | None = None,
        make_invoker: Callable[[Invoker], Invoker] = lambda functions: functions,
        make_queues: MakeQueues = _plain_queues,
        environments: int = 1,
    ) -> None:
        """``start`` is in seconds since the epoch; ``user`` the test module, which must not hold
        parts of the application that see another environment. ``environments`` is how many a
        function may have at once.
        """
        self.project, self.seed = project, seed
        self.failed: list[BaseException] = []
        self._make_invoker = make_invoker
        self._live: list[VirtualEnvironment] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._awake = Awake()
        self._awake.keep(_AlwaysThere())
        self._undo = ExitStack()
        try:
            self._enter(start, user, make_queues, environments)
        except BaseException:
            self._undo.close()
            raise

    def _enter(
        self, start: float, user: ModuleType | None, make_queues: MakeQueues, environments: int
    ) -> None:
        undo = self._undo
        self.chance = undo.enter_context(seeded(self.seed))
        self.world = World(start)
        undo.callback(self.world.close)
        self.events = Journal(self.world.clock)
        self.faults = Faults(self.events, self.world.clock, inside.UNMOUNTED)
        self.points = Points(self.faults, self.world.clock)
        self.queues = make_queues(self.world.clock, self.events, self.chance.ids)
        if isinstance(self.queues, FaultyQueues):
            self.queues.faults = self.faults
        undo.enter_context(mock.patch.dict(os.environ))
        services = {"sqs": SqsApi(self.queues)}
        self.world.run(self._build(environments, services))
        lambda_api = LambdaApi(
            self.invoker, self.functions.specs, self.asynchronous, self.deliveries.registry,
            self.functions.recursion,
        )  # fmt: skip
        local = aws.LocalAws(services, lambda_api, self.world.run)
        tables, template = Tables(self.faults, self.world.clock), self.project.stack.moto_template
        undo.enter_context(aws.mocked(local, template, tables))
        undo.enter_context(store.embedded(self.faults))
        undo.enter_context(narrated(self.events))
        os.environ.update(self.project.variables)
        undo.enter_context(code.imported(self.project, user))
        undo.enter_context(virtual_waits(self.world))
        undo.enter_context(inside.mounted(self.points))
        undo.callback(lambda: self.world.run(self._end()))
        self._warm()
        self.chance.begin()
        undo.enter_context(own_sleeps(code.loaded_from(self.project.folders).values()))

    async def _build(self, environments: int, services: dict[str, Any]) -> None:
        """All that belongs to the loop."""
        clock, journal, stack = self.world.clock, self.events, self.project.stack
        # Those that others name as their dead-letter queue must be there first.
        for queue in sorted(stack.queues, key=lambda spec: "RedrivePolicy" in spec.attributes):
            self.queues.ensure(queue.name, dict(queue.attributes))
        self.functions = Functions(
            stack.functions, self._environment, journal, maximum=environments
        )
        functions = self._make_invoker(self.functions)
        self.invoker: Invoker = FaultyInvoker(functions, self.faults, clock)
        self.asynchronous = AsyncInvocations(
            self.invoker, self.functions.specs, self.queues, clock, journal
        )
        self.gateways = {
            api: Gateway(
                [route for route in stack.routes if route.api_id == api],
                self.invoker,
                clock,
                journal,
                services=services,
            )
            for api in dict.fromkeys(route.api_id for route in stack.routes)
        }
        self.book = ScheduleBook()
        for group in stack.schedule_groups:
            self.book.groups.setdefault(group, clock.time())
        ticks = FaultyTicks(self.asynchronous, self.faults, self.world.loop.call_later)
        self.schedules = Schedules(
            stack.schedules, ticks, self.queues, clock, journal,
            book=self.book, rng=self.chance.ids,
        )  # fmt: skip
        self.deliveries = Deliveries(stack.mappings, self.queues, self.invoker, clock, journal)
        services["scheduler"] = SchedulerApi(self.book, clock)
        for work in (*self.deliveries.run(), self.schedules.run()):
            self._beside(work)

    def _beside(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)

        def done(ended: asyncio.Task[Any]) -> None:
            error = None if ended.cancelled() else ended.exception()
            if error is not None:
                self.failed.append(error)

        task.add_done_callback(done)
        self._tasks.append(task)

    async def _end(self) -> None:
        await settle(self._tasks)
        await self.asynchronous.close()
        await self.functions.close()
        for environment in self._live:  # what stood still is nobody's any more
            environment.process.close()

    def close(self) -> None:
        """Take it down; the process is as it was before."""
        self._undo.close()

    # Functions.

    def _warm(self) -> None:
        from twolane_local.aws.lambda_.report import import_problem
        from twolane_local.errors import HandlerImportError

        failures = self.world.run(self.functions.warm())
        for name, failure in failures.items():
            spec = self.functions.specs[name]
            if not spec.unrunnable:  # that is no news: it fails if the test invokes it
                raise HandlerImportError(import_problem(spec, failure))

    def _environment(self, spec: FunctionSpec, owner: Owner) -> VirtualEnvironment:
        environment = VirtualEnvironment(
            spec,
            self.project.environment(spec),
            owner=owner,
            world=self.world,
            journal=self.events,
            load=lambda: self._load(spec),
            after=self._left_by,
            killed=code.bury,
            turn=self.chance.turn,
            frozen=self.points.frozen,
        )
        self._live.append(environment)
        return environment

    def _load(self, spec: FunctionSpec) -> Callable[[Any, Any], Any]:
        if spec.unrunnable and spec.name not in self.project.handlers:
            raise TestingError(f"{spec.name} cannot run here: {spec.unrunnable}")
        handler = code.load(spec, self.project.handlers)
        if isinstance(handler, ApiHandler):
            # As with the extension on Lambda: the response leaves first.
            engine: Any = handler._engine  # noqa: SLF001 - made before we know of it
            engine._awake = self._awake  # noqa: SLF001
        return handler

    def _left_by(self, request_id: str) -> Callable[[], None] | None:
        self._awake.posted(request_id)
        return self._awake.turns.take(request_id, 0.0)

    def environments(self, function: str) -> list[VirtualEnvironment]:
        """The live execution environments of a function, oldest first."""
        return [each for each in self._live if each.spec.name == function and not each.process.dead]

    @property
    def busy(self) -> bool:
        """Whether any handler is in the middle of something, or work after a response is."""
        return any(each.busy for each in self._live) or self.deliveries.under_way > 0

    def invoke(self, function: str, event: bytes) -> Invocation:
        """Invoke a function as ``aws lambda invoke`` does, to the end of what it leaves."""
        invocation = self.world.run(self.invoker.invoke(function, event))
        self.finish()
        return invocation

    def finish(self) -> None:
        """Let what is under way come to its end, however long that takes in virtual time."""
        self.world.drive(lambda: self.busy)
        self.raise_failed()

    def pass_time(self, until: float) -> None:
        """Let everything happen that falls due by ``until``, in seconds since the epoch."""
        self.deliveries.let(True)
        self.schedules.let(True)
        try:
            self.world.drive(lambda: False, until=until)
        finally:
            self.deliveries.let(False)
            self.schedules.let(False)
            self.world.drive(lambda: False)
        self.raise_failed()

    def raise_failed(self) -> None:
        """Raise what has ended a source: the emulator's own fault, or the template's."""
        if self.failed:
            raise TestingError(f"a source of events ended: {self.failed[0]!r}") from self.failed[0]


class Twolane(Machinery):
    """The fixture ``twolane``."""

    __test__ = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def client(self) -> httpx.Client:
        """An HTTP client of the first API, through event, handler and response."""
        if not self.gateways:
            raise TestingError("the stack has no API")
        return self.client_of(next(iter(self.gateways)))

    def client_of(self, api: str) -> httpx.Client:
        """An HTTP client of the API with this logical id."""
        from twolane_local.testing.client import client

        return client(self.gateways[api.lower()], self._request, api_url(api.lower()))

    def _request(self, work: Coroutine[Any, Any, None]) -> None:
        self.world.run(work)
        self.finish()

    def queue(self, name: str) -> Queue:
        """The queue of this name, or of this logical id in the template."""
        return find(name, self.queues, self.project.stack.name)

    @cached_property
    def deferred(self) -> Deferred:
        """The deferred lane."""
        return Deferred(self)

    @cached_property
    def clock(self) -> Clock:
        """The stack's time, and with it the process's."""
        return Clock(self.world, self.pass_time)

    @cached_property
    def tasks(self) -> Tasks:
        """Celery's tasks, by id or name."""
        return Tasks(self.events)

    @cached_property
    def journal(self) -> JournalView:
        """What happened."""
        return JournalView(self.events, self.world.started_at)

    @property
    def outputs(self) -> Mapping[str, str]:
        """The template's outputs."""
        return self.project.stack.outputs
