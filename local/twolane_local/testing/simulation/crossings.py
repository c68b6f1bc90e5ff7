"""The points of a run in their order, and the strikes at some of them.

Each seam asks whether something goes wrong there; that question is a *crossing*. So what a run can
suffer is read off the run itself: new code that calls the store, or a new seam, has its points
without being named. A run is the same each time up to the first strike, and so a crossing's number
says where in it something happens; what comes after a strike is read off the run that had it.

What can strike there is of a *kind*: each kind has a short name, and is a fault of the catalogue.

Two placements after which nothing can differ are one. Between two calls an environment touches
nothing that others see, so it dies and stands still *after* a call only: before a call is after the
one before it. An environment that dies after a read might as well have died before it, and a read
whose answer is lost has failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.faults.injection import ArmedFault, Fault, Faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from twolane_local.clock import Clock
    from twolane_local.journal import Journal


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
