"""One run of a primitive on a store, with what strikes it, and what must hold of it.

Beside the six invariants of every run:

====== ============================================================================================
C      What a publisher was promised comes to its end: the last task has the state and the value
       that it must have, each effect has happened, in order where there is one, and no other.
D      A task's effect happens twice only where the environment that did it first was struck after
       it and before its work was recorded: it died or stood still, or a call failed there.
G      Good work is not dead-lettered: two strikes do not use up a message's receives.
====== ============================================================================================

Where a strike makes a task itself fail (it raises, or stands still beyond its time limit), C asks
only that what was promised has ended, or that the failure is stored: a chord in another one's
header that fails leaves the other one's body without an outcome, as it does under ``celery
worker``, where a result raises its parents' error. Callbacks and errbacks get their ids as they are
published: a task that ends twice publishes two.

**Crossings.** Each seam asks whether something goes wrong there; that question is a *crossing*. So
what a run can suffer is read off the run itself: new code that calls the store, or a new seam, has
its points without being named. A run is the same each time up to the first strike, and so a
crossing's number says where in it something happens; what comes after a strike is read off the run
that had it. What can strike there is of a *kind*: each kind has a short name, and is a fault of the
catalogue.

Two placements after which nothing can differ are one. Between two calls an environment touches
nothing that others see, so it dies and stands still *after* a call only: before a call is after the
one before it. An environment that dies after a read might as well have died before it, and a read
whose answer is lost has failed.
"""

from __future__ import annotations

import gc
import json
import os
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from celery import _state

from twolane_local.errors import LocalError
from twolane_local.faults.injection import ArmedFault, Fault, Faults
from twolane_local.model import ScheduleSpec
from twolane_local.testing.simulation.demo import Kept, http_event
from twolane_local.testing.simulation.invariants import TERMINAL, Bounds, Violation, violations
from twolane_local.testing.simulation.play import count, digest
from twolane_local.testing.simulation.primitives import (
    ENTRY,
    PRIMITIVES,
    Primitive,
    application,
    inline_handler,
)
from twolane_local.testing.simulation.simulator import (
    DYNAMODB,
    QUEUE,
    REDIS,
    RESULTS,
    Application,
    Function,
    Simulation,
    Slot,
)
from twolane_local.testing.virtual_environment import hushed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from celery import Celery

    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
    from twolane_local.testing.simulation.invariants import Fact, History


@dataclass(frozen=True, slots=True)
class Crossing:
    """One point of a run: its number, the seam, and the call, queue or function."""

    number: int
    point: str
    target: str
    kinds: tuple[str, ...]


class Crossings(Faults):
    """In the place of armed faults: ``strikes`` has a kind for the numbers of some crossings;
    ``where()`` names the environment that the crossing is in, if any.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        strikes: Mapping[int, str],
        where: Callable[[], str | None] = lambda: None,
    ) -> None:
        super().__init__(journal, clock)
        self.idle = False
        self.passed: list[Crossing] = []
        self.struck: list[int] = []
        self.where = where
        self._strikes = strikes
        self._down_until = float("-inf")

    def any_at(self, *points: str) -> bool:  # noqa: ARG002 - each is a crossing
        """Always: each is asked."""
        return True

    def at(self, point: str, target: str = "", **_: Any) -> Iterable[ArmedFault]:
        """What strikes here and now."""
        if point == "store" and self._clock.time() < self._down_until:
            return [self._strike(point, target, OUTAGE, -1)]
        kinds = kinds_at(point, target)
        if not kinds:
            return ()
        number = len(self.passed)
        self.passed.append(Crossing(number, point, target, tuple(kinds)))
        kind = self._strikes.get(number)
        if kind is None or kind not in kinds:
            return ()
        self.struck.append(number)
        if kind == OUTAGE:
            self._down_until = self._clock.time() + OUTAGE_S
        return [self._strike(point, target, kind, number)]

    def _strike(self, point: str, target: str, kind: str, number: int) -> ArmedFault:
        fault = kinds_at(point, target)[kind]
        self.journal.record(
            "fault.injected", function=self.where(), name=fault.name, strike=kind, point=point,
            target=target, occasion=number,
        )  # fmt: skip
        return ArmedFault(str(number), fault)


#: Beyond the lease and the visibility timeout, both.
FROZEN_S = 400.0
#: Within the lease: whatever runs at the same time comes first.
PAUSED_S = 1.0
#: Longer than clients try again within one call.
OUTAGE_S = 30.0

OUTAGE = "outage"
_STANDS = {
    "killed": Fault("environment.killed-during-task"),
    "frozen": Fault("environment.frozen", parameters={"freeze_s": FROZEN_S}),
    "paused": Fault("task.slow", parameters={"seconds": PAUSED_S}),
}
_RAISES = {"raises": Fault("task.memory-error")}

#: Point → short name → what happens. Points that are not here are passed by.
KINDS: Mapping[str, Mapping[str, Fault]] = {
    # The execution environment: after each call, and around a task's effect. That a task begins and
    # that its result is stored is a call to the store.
    "call.after": _STANDS,
    "effect.before": {**_STANDS, **_RAISES},
    "effect.after": {**_STANDS, **_RAISES},
    "invoke": {
        "killed": Fault("environment.killed-at-start"),
        "throttled": Fault("invocation.throttled"),
    },
    "answer": {"answer-lost": Fault("environment.killed-after-task")},
    "answer.batch": {"malformed": Fault("response.malformed")},
    # The result store.
    "store": {"fails": Fault("store.down"), OUTAGE: Fault("store.down")},
    "store.done": {"answer-lost": Fault("store.reply-lost")},
    # SQS and Scheduler.
    "send": {"fails": Fault("send.failed"), "answer-lost": Fault("send.reply-lost")},
    "receive": {
        "fails": Fault("receive.failed"),
        "answer-lost": Fault("receive.reply-lost"),
        "twice": Fault("queue.two-deliveries-at-once"),
    },
    "delete": {
        "fails": Fault("delete.failed"),
        "answer-lost": Fault("delete.reply-lost"),
        "twice": Fault("queue.duplicate-delivery", parameters={"after_s": 1}),
    },
    "visibility": {"fails": Fault("visibility.failed")},
    "schedule": {"fails": Fault("send.failed")},
    "schedule.done": {"answer-lost": Fault("send.reply-lost")},
    "tick": {
        "missed": Fault("tick.missed"),
        "twice": Fault("tick.doubled"),
        "late": Fault("tick.late", parameters={"after_s": 70}),
    },
}

#: Calls that change nothing, of both stores.
_READS = frozenset(
    {"GET", "MGET", "EXISTS", "TTL", "PTTL", "SUBSCRIBE", "GetItem", "BatchGetItem", "Query",
     "DescribeTable", "DescribeTimeToLive"}
)  # fmt: skip


def kinds_at(point: str, target: str) -> Mapping[str, Fault]:
    """What can strike there; ``target`` is the call, the queue or the function."""
    kinds = KINDS.get(point, {})
    if point in {"call.after", "store.done"} and target.partition(" ")[0] in _READS:
        return {name: kinds[name] for name in kinds if name in {"frozen", "paused"}}
    return kinds


STORES = (REDIS, DYNAMODB)

#: 2026-01-01T06:58:30Z: two ticks before the slot.
START = 1_767_250_710.0
SLOT_AT = START + 90
#: What template.yaml gives the functions, and the queue.
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "simulated",
    "AWS_SECRET_ACCESS_KEY": "simulated",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "simulated",
}
_CLEARED = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "AWS_LAMBDA_RUNTIME_API",
            "AWS_PROFILE", "AWS_SESSION_TOKEN")  # fmt: skip
_SCHEDULER = {
    "TWOLANE_SCHEDULER_ROLE_ARN": "arn:aws:iam::123456789012:role/scheduler",
    "TWOLANE_SCHEDULER_GROUP": "default",
}
_QUEUE = {"VisibilityTimeout": "360", "MessageRetentionPeriod": "1209600"}
_TIMEOUTS = {"publisher": 30.0, "api": 30.0, "worker": 60.0, "beat": 30.0}
_TICKS_S = 280.0
_LOOK_EVERY_S = 10.0
#: So long after the last thing that happened nothing else does.
_STILL_S = 30.0
_SEED = 16


@dataclass(frozen=True, slots=True)
class Placement:
    """What strikes where: numbers of crossings with the kind that strikes there, in order."""

    primitive: str
    store: str
    strikes: tuple[tuple[int, str], ...] = ()

    @property
    def name(self) -> str:
        """``chord/redis/12:killed+31:answer-lost``; ``none`` where nothing strikes."""
        struck = "+".join(f"{number}:{kind}" for number, kind in self.strikes)
        return f"{self.primitive}/{self.store}/{struck or 'none'}"

    def then(self, number: int, kind: str) -> Placement:
        """With one strike more."""
        return Placement(self.primitive, self.store, (*self.strikes, (number, kind)))


def placement_of(name: str) -> Placement:
    """The placement of this name. Raises ``LocalError`` where it is no such name."""
    try:
        primitive, store, struck = name.split("/")
        pairs = (each.split(":") for each in ([] if struck == "none" else struck.split("+")))
        strikes = tuple((int(number), kind) for number, kind in pairs)
    except ValueError as error:
        raise LocalError(
            f"{name!r} names no schedule; names are as chord/redis/12:killed+31:answer-lost"
        ) from error
    if primitive not in PRIMITIVES or store not in STORES:
        raise LocalError(
            f"there is no primitive {primitive} on {store}; there are "
            f"{', '.join(PRIMITIVES)} on {' and '.join(STORES)}"
        )
    return Placement(primitive, store, strikes)


@dataclass(frozen=True)
class Run:
    """How it went. ``missed`` are strikes whose crossing never came: none, if runs repeat."""

    placement: Placement
    violations: tuple[Violation, ...]
    crossings: tuple[Crossing, ...]
    missed: int
    digest: str
    history: History


class Explorer:
    """Runs placements of one store; one at a time in a process. Made by ``exploring``."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._world: Simulation | None = None
        self._celery = application(RESULTS[store], self._effect)
        self._kept = Kept(lambda: inline_handler(self._celery))
        from twolane.publish.installation import install

        install()

    def run(self, placement: Placement) -> Run:
        """From an empty system to its rest."""
        primitive = PRIMITIVES[placement.primitive]
        strikes = dict(placement.strikes)
        made: list[Crossings] = []

        def faults(journal: Journal, clock: Clock) -> Crossings:
            made.append(Crossings(journal, clock, strikes, world.where))
            return made[0]

        world = Simulation(self._application(primitive), _SEED, faults)
        self._world = world
        stage = _Stage(primitive, self._celery)
        try:
            history = world.run(stage.script)
        finally:
            self._world = None
        (crossings,) = made
        return Run(
            placement,
            tuple(judged(history, primitive, stage.results)),
            tuple(crossings.passed),
            len(strikes) - len(crossings.struck),
            digest(history, leave_out=("fault.injected", "log")),
            history,
        )

    def close(self) -> None:
        """End what was kept for one run after the other."""
        self._kept.close()

    def _effect(self, task: str, what: str) -> None:
        assert self._world is not None  # noqa: S101 - tasks run in runs
        self._world.effect(task, what)

    def _application(self, primitive: Primitive) -> Application:
        celery = self._celery
        publish = primitive.publish

        def published(*_: Any) -> Any:
            assert publish is not None  # noqa: S101 - of primitives that have one
            return {"promised": publish(celery.tasks)}

        from twolane import BeatHandler, WorkerHandler

        environ = {**os.environ, **(_SCHEDULER if primitive.scheduler else {})}
        makers: dict[str, Callable[[Callable[[], float]], Any]] = {
            "publisher": lambda _: published,
            "worker": lambda clock: WorkerHandler(celery, clock=clock, environ=environ),
            "beat": lambda clock: BeatHandler(celery, clock=clock),
        }
        functions = {name: Function(name, made, _TIMEOUTS[name]) for name, made in makers.items()}
        functions["api"] = Function(
            "api", lambda _: self._kept.take(), _TIMEOUTS["api"],
            unmake=self._kept.give_back,
        )  # fmt: skip
        arn = "arn:aws:lambda:us-east-1:123456789012:function:beat"
        return Application(
            celery=celery,
            functions=functions,
            root=Path(),
            start=START,
            watched=lambda _: ExitStack(),
            slots=lambda _begin, _end: [],
            schedules=(ScheduleSpec("tick", "cron(* * * * ? *)", arn),) if primitive.ticks else (),
            queue_attributes=_QUEUE,
            bounds=Bounds(),
            store=self._store,
            batch_size=primitive.batch_size,
            effect_s=(0.3,),
        )


@contextmanager
def exploring(store: str) -> Iterator[Explorer]:
    """What runs placements on this store; one at a time in a process."""
    with ExitStack() as undo:
        undo.enter_context(mock.patch.dict(os.environ, _ENVIRONMENT))
        for name in _CLEARED:
            os.environ.pop(name, None)
        undo.enter_context(hushed())
        # Celery warns of an error outside of a body, which is what many strikes are.
        undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", RuntimeWarning)
        undo.enter_context(_joins_block())
        explorer = Explorer(store)
        undo.callback(explorer.close)
        # What is loaded now stays: not looking through it on each collection saves a fifth.
        gc.collect()
        gc.freeze()
        undo.callback(gc.unfreeze)
        yield explorer


class _Stage:
    """What people do in a run, and what is counted at its end."""

    def __init__(self, primitive: Primitive, celery: Celery) -> None:
        self._primitive, self._celery = primitive, celery
        #: Of each task that was promised, what is stored at the end.
        self.results: dict[str, dict[str, Any] | None] = {}

    async def script(self, world: Simulation) -> None:
        primitive = self._primitive
        await world.clock.sleep(1.0)
        if primitive.function:
            for task in await self._publish(world):
                self.results[task] = None
                world.note("enqueue.acknowledged", task=task)
        if primitive.revokes is not None and self.results:
            await world.clock.sleep(primitive.revokes)
            (task,) = self.results
            await world.operate(lambda: self._celery.control.revoke(task))
        if primitive.ticks:
            await self._ticks(world)
        await self._quiet(world)
        self.results = {task: world.result(task) for task in self.results}
        world.note("faults.ended")
        count(world)

    async def _publish(self, world: Simulation) -> list[str]:
        function = self._primitive.function
        event = http_event("POST", "/", "", "") if function == "api" else {}
        try:
            answer = await world.invoker.invoke(function, json.dumps(event).encode())
        except Exception as refused:  # noqa: BLE001 - the gateway's 429 or 503: nothing accepted
            world.note("request.refused", where=function, error=repr(refused))
            return []
        if answer.error is not None:
            return []
        promised: list[str] = json.loads(answer.payload).get("promised", [])
        return promised

    async def _ticks(self, world: Simulation) -> None:
        from twolane.beat.entries import task_id

        await world.clock.sleep(_TICKS_S)
        world.stop_schedules()
        # What was due before beat's first tick that came through is nobody's.
        ticks = world.history.of("tick")
        if ticks and ticks[0].at < SLOT_AT:
            slot = Slot(ENTRY, SLOT_AT, task_id(self._celery, ENTRY, SLOT_AT), "slot")
            world.note("slot.due", task=slot.task, entry=slot.entry, slot=slot.at, name=slot.name)
            self.results[slot.task] = None

    async def _quiet(self, world: Simulation) -> None:
        """Until nothing is left that could still happen; what is sent again is sent within this."""
        bound, since = world.clock.time() + Bounds().drain_s, world.clock.time()
        while world.clock.time() < min(bound, since + _STILL_S):
            await world.clock.sleep(_LOOK_EVERY_S)
            if len(world.queues.refreshed(QUEUE)) or world.at_work or world.scheduled:
                since = world.clock.time()


@contextmanager
def _joins_block() -> Iterator[None]:
    """As on a handler's main thread: Celery waits for no result, and subscribes to none."""
    joining: Any = _state
    before = joining.task_join_will_block()
    joining._set_task_join_will_block(True)  # noqa: SLF001 - Celery's pools do the same
    try:
        yield
    finally:
        joining._set_task_join_will_block(before)  # noqa: SLF001


_TIME_LIMITS = frozenset({"SoftTimeLimitExceeded", "WorkerLostError"})

Results = dict[str, dict[str, Any] | None]


def judged(history: History, primitive: Primitive, results: Results) -> Iterator[Violation]:
    """All that does not hold."""
    raised = _raised(history, primitive)
    if raised and any(
        fact.data.get("status") == "FAILURE" for fact in history.of("result.changed")
    ):
        results = {}
    taken = {each for fact in history.of("body.taken") for each in (fact.task, fact.message)}
    for each in violations(history):
        if each.invariant != "L" or not raised or each.subject in taken:
            yield each
    yield from _check_c(history, primitive, results, raised)
    yield from _check_d(history)
    for fact in history.of("dead.letter"):
        yield Violation(
            "G", fact.task or fact.message or "", "dead-lettered, though nothing is wrong"
        )


def _raised(history: History, primitive: Primitive) -> bool:
    """True if a strike made a task fail: it raised, or stood still beyond its time limit."""
    strikes = {fact.data.get("strike") for fact in history.of("fault.injected")}
    errors = {str(fact.data.get("error")) for fact in history.of("result.changed")}
    limited = primitive.limited or any(limit in error for limit in _TIME_LIMITS for error in errors)
    return "raises" in strikes or ("frozen" in strikes and limited)


def _check_c(
    history: History, primitive: Primitive, results: Results, raised: bool
) -> Iterator[Violation]:
    happened = [str(fact.data["what"]) for fact in history.of("effect.committed")]
    if not raised:
        for what in sorted({*happened} - {*primitive.effects} - _BESIDE):
            yield Violation("C", what, "nothing of the kind was to happen")
    if not results:
        return
    task, last = list(results.items())[-1]
    state = last["status"] if last else None
    if raised:
        if state not in TERMINAL:
            yield Violation("C", task, f"promised, and {state} at the end")
        return
    if state not in primitive.states:
        yield Violation("C", task, f"{state} at the end: {last and last['result']}")
        return
    if (state != primitive.states[0] and len(primitive.states) > 1) or state == "REVOKED":
        return
    if state == "SUCCESS" and primitive.value is not None and _value(last) != primitive.value:
        yield Violation("C", task, f"{_value(last)} and not {primitive.value}")
    yield from _happened(primitive, happened)


#: A header whose sibling fails may do its work or not.
_BESIDE = frozenset({"header"})


def _happened(primitive: Primitive, happened: list[str]) -> Iterator[Violation]:
    firsts = [happened.index(what) if what in happened else None for what in primitive.effects]
    for what, first in zip(primitive.effects, firsts, strict=True):
        if first is None:
            yield Violation("C", what, "never happened, although all went well")
    if (
        primitive.ordered
        and None not in firsts
        and firsts != sorted(firsts, key=lambda at: at or 0)
    ):
        yield Violation("C", primitive.name, f"in another order: {', '.join(happened)}")


def _value(last: Mapping[str, Any] | None) -> Any:
    value = last and last["result"]
    return json.loads(value) if isinstance(value, str) else value


def _check_d(history: History) -> Iterator[Violation]:
    before: dict[tuple[str, str | None], tuple[int, Fact]] = {}
    facts = list(history)
    for number, fact in enumerate(facts):
        if fact.kind != "effect.committed":
            continue
        what = str(fact.data["what"]), fact.task
        if what in before:
            since, first = before[what]
            if not any(_explains(each, first) for each in facts[since + 1 : number]):
                yield Violation(
                    "D", str(fact.task), f"{what[0]} happened again, and nothing explains it"
                )
        before[what] = number, fact


def _explains(fact: Fact, first: Fact) -> bool:
    return fact.kind == "fault.injected" and fact.where == first.where
