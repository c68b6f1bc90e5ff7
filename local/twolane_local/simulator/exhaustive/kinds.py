"""What can strike at which point: each kind has a short name, and is a fault of the catalogue.

Two placements after which nothing can differ are one. Between two calls an environment touches
nothing that others see, so it dies and stands still *after* a call only: before a call is after the
one before it. An environment that dies after a read might as well have died before it, and a read
whose answer is lost has failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.faults.injection import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

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
