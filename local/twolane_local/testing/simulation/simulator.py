"""One run: an application on the stack of a test, with faults, and a history of what it does.

``Simulation`` drives ``twolane_local.testing.stack``: the same functions, queues, mappings,
schedules, stores and virtual time. Here is what a run has beside them: an application whose
handlers are made anew for each execution environment, everything drawn from one seed, and facts for
the invariants, of leases, results and effects among others.
"""

from __future__ import annotations

import functools
import gc
import json
import random
import traceback
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

from kombu import common, pools
from redis import utils

from twolane.worker.lease import PREFIX as LEASE
from twolane.worker.lease import read_lease
from twolane_local.clock.threads import Process, current
from twolane_local.faults.injection import Faults
from twolane_local.faults.seams import FaultyQueues, RequestTimeoutError, task_id_of, task_name_of
from twolane_local.model import ACCOUNT, REGION, FunctionSpec, QueueMappingSpec, QueueSpec, Stack
from twolane_local.testing import stores
from twolane_local.testing.project import Project
from twolane_local.testing.simulation.invariants import Bounds, Fact, History
from twolane_local.testing.stack import Machinery, Seams

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from celery import Celery

    from twolane.worker.lease import Lease
    from twolane_local.aws.sqs.service import NewMessage
    from twolane_local.clock import Clock
    from twolane_local.journal import Event, Journal
    from twolane_local.model import ScheduleSpec
    from twolane_local.model.message import Message

    MakeFaults = Callable[[Journal, Clock], Faults]

QUEUE, DEAD = "tasks", "tasks-dead"
#: The result stores that a run may have, and where the application finds each.
REDIS, DYNAMODB = "redis", "dynamodb"
TABLE = "celery"
RESULTS = {REDIS: stores.URL, DYNAMODB: f"dynamodb://@{REGION}/{TABLE}?ttl_seconds=86400"}

_QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}"
_RESULT = "celery-task-meta-"
#: Celery makes its keys in DynamoDB bytes, and then a text of those.
_ITEM = f"b'{_RESULT}"
#: As infrastructure has it.
_TABLE = {
    "Type": "AWS::DynamoDB::Table",
    "Properties": {
        "TableName": TABLE,
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
        "TimeToLiveSpecification": {"Enabled": True, "AttributeName": "ttl"},
    },
}


#: Of each invocation, and about nothing that an invariant speaks of.
_LEFT_OUT = frozenset(
    {"environment.started", "environment.stopped", "invocation.started", "invocation.responded",
     "invocation.ended"}
)  # fmt: skip
_SAID_TWICE = frozenset({"level", "logger", "message", "originRequestId", "traceId"})


@dataclass(frozen=True, slots=True)
class Function:
    """``make(clock)`` gives the handler, as its module does at import; ``unmake(handler, intact)``
    is told of each at the end; one that was killed is not intact.
    """

    name: str
    make: Callable[[Callable[[], float]], Callable[[Any, Any], Any]]
    timeout_s: float
    most: int = 4
    unmake: Callable[[Any, bool], None] = lambda _handler, _intact: None
    recursive_loop: str = "Terminate"  # or "Allow"


@dataclass(frozen=True)
class Slot:
    """One due slot of ``beat_schedule`` in the time of a run; ``task`` is its task id."""

    entry: str
    at: float
    task: str
    name: str


@dataclass(frozen=True)
class Application:
    """``functions`` by name: ``api``, ``worker`` and ``beat``. ``watched(simulation)`` has it tell
    of its effects while open; ``slots(from, to)`` are those that beat owes. ``store`` is a key of
    ``RESULTS``. An effect takes one of ``effect_s``, drawn from the seed.
    """

    celery: Celery
    functions: Mapping[str, Function]
    root: Path
    start: float
    watched: Callable[[Simulation], AbstractContextManager[Any]]
    slots: Callable[[float, float], list[Slot]]
    schedules: tuple[ScheduleSpec, ...] = ()
    queue_attributes: Mapping[str, str] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=Bounds)
    store: str = REDIS
    batch_size: int = 10
    effect_s: Sequence[float] = (0.0, 0.05, 0.3, 2.0)

    @property
    def project(self) -> Project:
        redrive = (
            f'{{"deadLetterTargetArn":"{_QUEUE_ARN}:{DEAD}",'
            f'"maxReceiveCount":{self.bounds.max_receives}}}'
        )
        attributes = {**self.queue_attributes, "RedrivePolicy": redrive}
        mapping = QueueMappingSpec(
            "worker", f"{_QUEUE_ARN}:{QUEUE}", report_batch_item_failures=True,
            maximum_concurrency=4, uuid="simulated", batch_size=self.batch_size,
        )  # fmt: skip
        return Project(
            Stack(
                name="simulated",
                functions=tuple(self._spec(each) for each in self.functions.values()),
                routes=(),
                queues=(QueueSpec(DEAD), QueueSpec(QUEUE, attributes)),
                mappings=(mapping,),
                schedules=self.schedules,
                moto_template={"Resources": {"Results": _TABLE} if self.store == DYNAMODB else {}},
            ),
            handlers=dict.fromkeys(self.functions, _unused),
        )

    def _spec(self, function: Function) -> FunctionSpec:
        name = function.name
        return FunctionSpec(
            name, name, name, self.root, timeout_s=function.timeout_s, memory_mb=1024,
            reserved_concurrency=function.most, recursive_loop=function.recursive_loop,
        )  # fmt: skip


def _unused(_event: Any, _context: Any) -> Any:
    raise NotImplementedError("a run makes its handlers by itself")


class _Handler:
    """A handler that is made within the first invocation of its environment, whose time it takes,
    and in which anything may happen to it.
    """

    def __init__(self, function: Function, simulation: Simulation) -> None:
        self._function, self._simulation = function, simulation
        self._made: Callable[[Any, Any], Any] | None = None

    def __call__(self, event: Any, context: Any) -> Any:
        try:
            if self._made is None:
                self._made = self._function.make(self._simulation.clock_of(self._function.name))
            return self._made(event, context)
        except Exception as error:
            self._simulation.raised(error)
            raise

    def released(self, intact: bool) -> None:
        if self._made is not None:
            self._function.unmake(self._made, intact)
            self._made = None


class _Queues(FaultyQueues):
    """Says what SQS took: the body as it arrived, the task as it was sent."""

    simulation: Simulation
    _sending: tuple[str | None, str | None] = (None, None)

    def send(self, name: str, new: NewMessage) -> Message:
        task, _ = self._sending = (task_id_of(new.body), task_name_of(new.body))
        try:
            return super().send(name, new)
        except RequestTimeoutError:
            self.simulation.note("answer.lost", task=task)
            raise

    def _put(self, queue: Any, message: Message, **times: Any) -> Any:
        entry = super()._put(queue, message, **times)
        task, name = self._sending
        self.simulation.note(
            "body.taken", task=task, message=message.id, queue=queue.name, body=message.body,
            name=name,
        )  # fmt: skip
        return entry


class Simulation(stores.Listener):
    """Use ``run``; everything else is for what runs in it."""

    def __init__(self, application: Application, seed: int, faults: MakeFaults = Faults) -> None:
        self.application, self.seed = application, seed
        self.history = History()
        # A stream of its own: one id more must not change a latency.
        self._latencies = random.Random(f"{seed} latencies")  # noqa: S311 - repeatable, no secret
        self._make_faults = faults
        self._known: dict[str, Any] = {}
        #: The lease that an environment holds for a task, and who it says holds it.
        self.leases: dict[tuple[Process, str], tuple[str, str]] = {}

    def run(self, script: Callable[[Simulation], Coroutine[Any, Any, None]]) -> History:
        """Start everything, run the script to its end, stop everything."""
        # Cycles hold results, whose end talks to the store: that must not happen at any moment.
        collecting = gc.isenabled()
        gc.disable()
        try:
            with _fresh(self.application.celery), closing(self._stack()) as stack:
                self.stack, self.loop, self.clock = stack, stack.world.loop, stack.world.clock
                self.faults, self.queues = stack.faults, stack.queues
                self.invoker, self.points = stack.invoker, stack.points
                stack.deliveries.let(True)
                stack.schedules.let(True)
                with self.application.watched(self):
                    stack.world.run(script(self))
                stack.raise_failed()
        finally:
            if collecting:
                gc.enable()
        return self.history

    def _stack(self) -> Machinery:
        def queues(clock: Clock, journal: Journal, rng: random.Random) -> FaultyQueues:
            made = _Queues(clock, journal, rng=rng)
            made.simulation = self
            return made

        functions = self.application.functions
        seams = Seams(
            queues=queues,
            faults=self._make_faults,
            heard=self._heard,
            # Its points are where leases, results and effects change.
            points=lambda _: nullcontext(),
            load=lambda spec: _Handler(functions[spec.name], self),
            released=lambda handler, intact: handler.released(intact),  # type: ignore[attr-defined]
            listener=self,
            entropy=True,
            numbered=True,
            quiet=True,
            # A frozen machine looks at nothing, and no look twice a second finds what a run misses.
            looks=False,
        )
        application = self.application
        return Machinery(
            application.project, seed=self.seed, start=application.start, environments=32,
            seams=seams,
        )  # fmt: skip

    @property
    def at_work(self) -> int:
        """How many execution environments run anything, frozen ones included."""
        return self.stack.at_work

    def stop_schedules(self) -> None:
        """No tick comes any more."""
        for schedule in list(self.stack.book):
            self.stack.book.remove(schedule)

    @property
    def scheduled(self) -> int:
        """How many schedules there are that fire again."""
        return len(list(self.stack.book))

    async def operate(self, work: Callable[[], Any]) -> None:
        """Run what a person at a terminal does, in a process of its own; its errors are theirs."""
        process = Process(self.loop)
        try:
            await process.run(work)
        except Exception as error:  # noqa: BLE001 - the store may be down for people too
            self.note("operator.failed", error=repr(error))
        finally:
            process.close()

    def clock_of(self, function: str) -> Callable[[], float]:
        """What a new environment of a function takes for the time."""
        now = self.clock.time
        skews = [float(each.value("seconds")) for each in self.faults.at("clock", function)]
        return (lambda: now() + sum(skews)) if skews else now

    def result(self, task: str) -> dict[str, Any] | None:
        """What is stored of a task, as Celery stores it."""
        if self.application.store == DYNAMODB:
            item = _items().get(f"{_ITEM}{task}'")
            return None if item is None else _stored(item)
        value = _plain().get(_RESULT + task)
        found: dict[str, Any] | None = json.loads(value) if value else None
        return found

    # What happens in it.

    def _heard(self, event: Event) -> None:
        if event.kind in _LEFT_OUT:
            return
        if "logger" in event.data:  # a line of the runtime's, which says it in words, too
            data = {name: each for name, each in event.data.items() if name not in _SAID_TWICE}
            event = event._replace(data=data)
        self.history.heard(event)

    def note(
        self, kind: str, *, task: str | None = None, message: str | None = None,
        queue: str | None = None, where: str | None = None, **data: Any,
    ) -> None:  # fmt: skip
        self.history.add(Fact(self.clock.time(), kind, task, message, queue, where, data))

    def where(self) -> str | None:
        """The execution environment that this runs in, if it runs in one."""
        process = current.get()
        return process.about[0] if process is not None else None

    def raised(self, error: Exception) -> None:
        process = current.get()
        if process is not None and not process.dead:
            trace = "".join(traceback.format_exception(error))
            self.note("handler.raised", where=self.where(), trace=trace)

    def effect(self, task: str, what: str) -> None:
        """A task does what cannot be undone; called in its process, inside its run."""
        process = current.get()
        if process is not None:
            # Whoever does it takes a while, in which anything else may happen.
            process.sleep(self._latencies.choice(self.application.effect_s))
        self.points.inside("effect.before", task)
        held = self.leases.get((process, task)) if process else None
        lease, holder = held or (None, None)
        self.note(
            "effect.committed", task=task, where=self.where(), lease=lease, holder=holder, what=what
        )
        self.points.inside("effect.after", task)

    # As ``Listener``.

    def called(self, call: str) -> None:
        self.points.inside("call.after", call)

    def key_lost(self, key: str) -> None:
        self.note("write.lost", task=task_of(key), key=key)

    def key_changed(self, key: str) -> None:
        value = _plain().get(key)
        if value == self._known.get(key):
            return
        self._known[key] = value
        if key.startswith(LEASE):
            self._lease_changed(key, read_lease(value.decode() if value else None))
        else:
            self._result_changed(key.removeprefix(_RESULT), json.loads(value or "null"))

    def items_changed(self) -> None:
        items = _items()
        for key in {**self._known, **items}:  # in an order that is the same in each process
            item = items.get(key)
            if item is self._known.get(key):
                continue
            before, after = _text(self._known.get(key)), _text(item)
            self._known[key] = item
            if before == after:
                continue
            if key.startswith(LEASE):
                self._lease_changed(key, read_lease(after))
            elif key.startswith(_ITEM):
                stored = _stored(item) if item is not None else None
                self._result_changed(key.removeprefix(_ITEM)[:-1], stored)

    def _lease_changed(self, key: str, lease: Lease | None) -> None:
        process, where = current.get(), self.where()
        if lease is None:
            self.note("lease.changed", task=task_of(key), where=where, key=key, state=None)
            return
        self.note(
            "lease.changed", task=task_of(key), where=where, key=key, state=str(lease.state),
            holder=lease.delivery.holder, publish=lease.delivery.publish, since=lease.since,
            until=lease.until,
        )  # fmt: skip
        if lease.state == "running" and process is not None and where is not None:
            self.leases[process, task_of(key)] = (key, lease.delivery.holder)
            self.points.inside("task.begins", task_of(key))

    def _result_changed(self, task: str, stored: Mapping[str, Any] | None) -> None:
        status = stored["status"] if stored else None
        result = stored.get("result") if stored else None
        # The message, too: what a retry that cannot be sent is rejected for is named in it.
        error = (
            {"error": f"{result.get('exc_type')}: {result.get('exc_message')}"[:500]}
            if isinstance(result, dict)
            else {}
        )
        self.note("result.changed", task=task, status=status, **error)
        if status in ("SUCCESS", "FAILURE"):
            self.points.inside("result.stored", task)


def task_of(key: str) -> str:
    bare = key.removeprefix(LEASE).removeprefix(_RESULT)
    return bare.partition("<")[0].partition(":")[0]


@functools.cache
def _plain() -> Any:
    """A client of the stack's Redis with nothing in between."""
    import fakeredis

    return fakeredis.FakeStrictRedis(server=stores.server())


def _items() -> dict[str, Any]:
    from moto.dynamodb.models import dynamodb_backends

    table = dynamodb_backends[ACCOUNT][REGION].tables.get(TABLE)
    return {} if table is None else {key.value: item for key, item in table.items.items()}


def _text(item: Any) -> str | None:
    if item is None:
        return None
    attributes = item.attrs
    held = attributes.get("state") or attributes.get("result")
    return None if held is None else str(held.value)


def _stored(item: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(item.attrs["result"].value)
    return value


#: redis-py reads its package's metadata for each client anew.
_lib_version = functools.cache(utils.get_lib_version)


@contextmanager
def _fresh(celery: Celery) -> Iterator[None]:
    """Nothing that Celery, kombu, redis-py and boto3 keep in a process is left of the run before:
    what a run does must not depend on it. One run at a time in a process.
    """
    stores.server().script_cache.clear()
    common.get_node_id()  # drawn once in a process: it is not an id of this run
    with ExitStack() as undo:
        undo.enter_context(mock.patch.object(utils, "get_lib_version", _lib_version))
        undo.enter_context(_shared_clients())
        undo.callback(_no_backend, celery)
        _no_backend(celery)
        undo.enter_context(_own_connections(celery))
        yield


@functools.cache
def _session() -> Any:
    """One for the process, as it reads botocore's data; moto has boto3 forget its own each time."""
    import boto3

    return boto3.Session()


@contextmanager
def _shared_clients() -> Iterator[None]:
    """A run's environments share boto3's clients, which take long to make and remember nothing but
    how often they had to try again.
    """
    import boto3

    made: dict[Any, Any] = {}

    def client(*args: Any, **options: Any) -> Any:
        key = (*args, *((name, options[name]) for name in options if name != "config"),
               "config" in options)  # fmt: skip
        if key not in made:
            made[key] = _session().client(*args, **options)
        return made[key]

    with mock.patch.object(boto3, "client", client):
        yield


def _no_backend(celery: Celery) -> None:
    """The next one who wants a result backend makes one, on this run's store."""
    vars(celery)["_backend_cache"] = None
    vars(celery)["_local"].__dict__.pop("backend", None)


@contextmanager
def _own_connections(celery: Celery) -> Iterator[None]:
    """What publishes makes a connection anew: which one it takes of several must not depend on the
    run before. Afterwards, other applications of the process have theirs again.
    """
    kept = [dict(each) for each in (pools.producers, pools.connections)]
    pool = vars(celery).get("_pool")
    _forget(celery, [{}, {}], None)
    try:
        yield
    finally:
        _forget(celery, kept, pool)


def _forget(celery: Celery, instead: list[dict[Any, Any]], pool: Any) -> None:
    for each, kept in zip((pools.producers, pools.connections), instead, strict=True):
        each.clear()
        each.update(kept)
    vars(celery)["_pool"] = pool
    if "amqp" in vars(celery):
        vars(vars(celery)["amqp"])["_producer_pool"] = None
