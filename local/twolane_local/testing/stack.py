"""``Twolane``: the emulated stack of one test, in this process, in virtual time.

Everything between a request and its last retry is the emulator's own: events, routes, queues,
mappings, schedules. No socket is opened and no process started; handlers run on threads that take
turns (``threads``), so that a run repeats exactly.

    with Twolane(of_template(Path("template.yaml"), {})) as twolane:
        twolane.client.post("/notify/deferred", json={…})
        twolane.deferred.run()
        assert twolane.queue("tasks").dead_letters == []

All methods are synchronous and called from the test's thread, also where a loop runs there.

``environments(function)`` gives the live ``VirtualEnvironment`` objects, each with ``kill()`` and
``process`` (``interrupt``, ``sleep`` …). The simulator drives the same ``Machinery``; what it has
of its own, it gives as ``Seams``.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from celery.worker import state as worker_state

from twolane.api.awake import Awake
from twolane.api.handler import ApiHandler
from twolane_local.aws.changes import Changes
from twolane_local.aws.effective import declared, effective
from twolane_local.aws.http_api.gateways import Gateway
from twolane_local.aws.lambda_.api import LambdaApi
from twolane_local.aws.lambda_.asynchronous import AsyncInvocations
from twolane_local.aws.lambda_.code import CodeStore, process_folders
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.mappings import EventSourceMappingOperations
from twolane_local.aws.lambda_.settings import SettingOperations
from twolane_local.aws.scheduler.api import SchedulerApi
from twolane_local.aws.scheduler.schedule import ScheduleBook
from twolane_local.aws.sqs.api import SqsApi
from twolane_local.clock.virtual import NEW_YEAR
from twolane_local.faults.injection import Faults
from twolane_local.faults.seams import FaultyInvoker, FaultyQueues, FaultyTicks
from twolane_local.journal import Journal
from twolane_local.testing import TestingError, application_code, mocked_aws, stores, task_points
from twolane_local.testing.deferred import Deferred, Deliveries, Schedules, settle
from twolane_local.testing.project import api_url
from twolane_local.testing.stale_imports import NOBODY, Suite
from twolane_local.testing.stores import Tables
from twolane_local.testing.task_points import Points
from twolane_local.testing.views import JournalView, Queue, Tasks, find
from twolane_local.testing.virtual_environment import Variables, VirtualEnvironment, narrated
from twolane_local.testing.waits import own_sleeps, virtual_waits
from twolane_local.testing.world import Clock, World, seeded

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Mapping
    from contextlib import AbstractContextManager

    import httpx

    from twolane_local.aws.invocation import Invocation, Invoker
    from twolane_local.aws.lambda_.environment import Owner
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.clock import Clock as AnyClock
    from twolane_local.journal import Event
    from twolane_local.model import FunctionSpec
    from twolane_local.testing.project import Project

    MakeFaults = Callable[[Journal, AnyClock], Faults]
    MakeQueues = Callable[[AnyClock, Journal, random.Random], QueueService]
    Handler = Callable[[Any, Any], Any]


class _AlwaysThere:
    """The extension of an environment that always has one."""

    alive = True


@dataclass(frozen=True)
class Seams:
    """Where a stack's user may put something of its own.

    ``heard`` is told of each event of the journal. While ``points`` is open, tasks stop at the
    points inside of them. ``load`` gives a function's handler, on its environment's thread, instead
    of the application's module; ``released`` is told when it is not used any more, and whether it
    is intact. ``listener`` hears of each call to a store or to SQS. With ``entropy`` even
    ``os.urandom`` repeats. With ``numbered``, the journal names environments, not functions; with
    ``quiet``, it has the runtime's own lines only, and other loggers say nothing.
    """

    queues: MakeQueues = lambda clock, journal, rng: FaultyQueues(clock, journal, rng=rng)
    faults: MakeFaults = lambda journal, clock: Faults(journal, clock, task_points.UNMOUNTED)
    heard: Callable[[Event], None] | None = None
    points: Callable[[Points], AbstractContextManager[None]] = task_points.mounted
    load: Callable[[FunctionSpec], Handler] | None = None
    released: Callable[[Handler, bool], None] = application_code.released
    listener: stores.Listener | None = None
    entropy: bool = False
    numbered: bool = False
    quiet: bool = False
    #: Workers look for tasks that were revoked while they run.
    looks: bool = True


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
        suite: Suite = NOBODY,
        environments: int = 1,
        seams: Seams | None = None,
    ) -> None:
        """``start`` is in seconds since the epoch; ``suite`` the test, which must not hold parts of
        the application that see another environment. ``environments`` is how many a function may
        have at once.
        """
        self.project, self.seed = project, seed
        self.failed: list[BaseException] = []
        self._seams = seams or Seams()
        self._live: list[VirtualEnvironment] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._variables = Variables()
        self._awake = Awake()
        self._awake.keep(_AlwaysThere())
        self._undo = ExitStack()
        try:
            self._enter(start, suite, environments)
        except BaseException:
            self._undo.close()
            raise

    def _enter(self, start: float, suite: Suite, environments: int) -> None:
        undo, seams = self._undo, self._seams
        for known in (worker_state.revoked, worker_state.active_requests,
                      worker_state.reserved_requests):  # fmt: skip
            known.clear()  # Celery's, of the process; a seed gives the next stack the same ids
        self.chance = undo.enter_context(seeded(self.seed, entropy=seams.entropy))
        self.world = World(start)
        undo.callback(self.world.close)
        self.events = Journal(self.world.clock)
        if seams.heard is not None:
            self.events.subscribe(seams.heard)
        self.faults = seams.faults(self.events, self.world.clock)
        self.points = Points(self.faults, self.world.clock)
        self.queues = seams.queues(self.world.clock, self.events, self.chance.ids)
        if isinstance(self.queues, FaultyQueues):
            self.queues.faults = self.faults
        undo.enter_context(mock.patch.dict(os.environ))
        services = {"sqs": SqsApi(self.queues)}
        self.world.run(self._build(environments, services))
        lambda_api = LambdaApi(
            self.invoker, self.functions.specs, self.asynchronous,
            operations=(
                SettingOperations(self.changes, self.world.clock),
                EventSourceMappingOperations(
                    self.changes, self.deliveries.registry, self.queues, self.functions.specs,
                    self.events,
                ),
            ),
        )  # fmt: skip
        listener = seams.listener
        local = mocked_aws.LocalAws(
            services, lambda_api, self.world.run, self.faults, listener or stores.Listener()
        )
        tables = Tables(self.faults, self.world.clock, listener or stores.Listener())
        undo.enter_context(mocked_aws.mocked(local, self.project.stack.moto_template, tables))
        undo.enter_context(stores.embedded(self.faults, listener))
        undo.enter_context(narrated(self.events, quiet=seams.quiet))
        self._variables.apply(self.project.variables)
        self._code = undo.enter_context(application_code.imported(self.project, suite))
        undo.enter_context(virtual_waits())
        undo.enter_context(seams.points(self.points))
        undo.callback(lambda: self.world.run(self._end()))
        self._warm()
        self._code.loaded()
        self.chance.begin()
        undo.enter_context(own_sleeps(application_code.loaded_from(self.project.folders).values()))

    async def _apply_changes(self) -> None:
        """Run what the API has changed."""
        stack = effective(self.project.stack, self.changes, CodeStore(process_folders()))
        self.functions.apply(stack.functions)
        self.deliveries.apply(stack.mappings)

    async def _build(self, environments: int, services: dict[str, Any]) -> None:
        clock, journal, stack = self.world.clock, self.events, self.project.stack
        self.changes = Changes()
        self.changes.declare(declared(stack))
        self.changes.apply = self._apply_changes
        # Those that others name as their dead-letter queue must be there first.
        for queue in sorted(stack.queues, key=lambda spec: "RedrivePolicy" in spec.attributes):
            self.queues.ensure(queue.name, dict(queue.attributes))
        self.functions = Functions(
            stack.functions, self._environment, journal, maximum=environments
        )
        self.invoker: Invoker = FaultyInvoker(self.functions, self.faults, clock)
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
        self.deliveries = Deliveries(self.queues, self.invoker, clock, journal, self._beside)
        self.deliveries.apply(stack.mappings)
        services["scheduler"] = SchedulerApi(self.book, clock)
        self._beside(self.schedules.run())

    def _beside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)

        def done(ended: asyncio.Task[Any]) -> None:
            error = None if ended.cancelled() else ended.exception()
            if error is not None:
                self.failed.append(error)

        task.add_done_callback(done)
        self._tasks.append(task)
        return task

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
                problem = HandlerImportError(import_problem(spec, failure))
                if self._code.stale:
                    problem.add_note(application_code.IMPORTED_BEFORE)
                raise problem

    def _environment(self, spec: FunctionSpec, owner: Owner) -> VirtualEnvironment:
        load, name = self._seams.load or self._load, f"{spec.name}-{len(self._live) + 1}"
        environment = VirtualEnvironment(
            spec,
            self.project.environment(spec),
            variables=self._variables,
            owner=owner,
            world=self.world,
            journal=self.events,
            load=lambda: load(spec),
            after=self._left_by,
            released=self._seams.released,
            turn=self.chance.turn,
            frozen=self.points.frozen,
            name=name if self._seams.numbered else "",
            looks=self._seams.looks,
            modules=self._code.turn(spec),
        )
        self._live.append(environment)
        return environment

    def _load(self, spec: FunctionSpec) -> Callable[[Any, Any], Any]:
        if spec.unrunnable and spec.name not in self.project.handlers:
            raise TestingError(f"{spec.name} cannot run here: {spec.unrunnable}")
        handler = application_code.load(spec, self.project.handlers)
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

    @property
    def at_work(self) -> int:
        """How many execution environments run anything, those that Lambda has given up included."""
        return sum(each.busy or each.lingers for each in self._live)

    def invoke(self, function: str, event: object) -> Invocation:
        """Invoke a function as ``aws lambda invoke`` does, to the end of what it leaves.

        ``event`` is JSON: bytes, or what becomes it.
        """
        payload = event if isinstance(event, bytes) else json.dumps(event).encode()
        invocation = self.world.run(self.invoker.invoke(function, payload))
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

    def __exit__(self, *_: object) -> None:
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
        return JournalView(self.events, self.world.started_at)

    @property
    def outputs(self) -> Mapping[str, str]:
        return self.project.stack.outputs
