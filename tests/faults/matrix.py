"""The fault matrix: what goes wrong, what stays true, what a user sees. docs/faults.md shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twolane_local.faults.injection import Fault
from twolane_local.testing.simulation.play import Step

ANNA, FLAKY, DOWN = "anna@example.com", "flaky@simulator.example.com", "down@simulator.example.com"


def defer(email: str = ANNA, at: float = 1.0, delay: int = 0) -> Step:
    return Step(at, "defer", {"email": email, "delay": delay})


@dataclass(frozen=True)
class Row:
    """One fault in one place, and how the task that it hits ends.

    ``invariants`` are those that this fault endangers; all are checked. ``effects`` and ``dead``
    count mails sent and messages dead-lettered; ``state`` is the task's last one.
    """

    fault: Fault
    invariants: str
    sees: str
    state: str | None = "SUCCESS"
    effects: int = 1
    dead: int = 0
    steps: tuple[Step, ...] = (defer(),)
    case: str = ""

    @property
    def id(self) -> str:
        return self.fault.name + (f":{self.case}" if self.case else "")


def fault(name: str, **options: object) -> Fault:
    common: dict[str, Any] = {
        key: options.pop(key) for key in ("target", "count", "skip", "for_s") if key in options
    }
    return Fault(name, parameters=options, **common)


TWICE = "The work is done twice: the first time nobody heard of it. Make the effect idempotent."
ONCE_LATER = "Once, later: after the queue's visibility timeout."
NOTHING = "Nothing."

MATRIX: tuple[Row, ...] = (
    Row(fault("environment.killed-at-start", target="worker"), "LV", ONCE_LATER),
    Row(fault("environment.killed-before-task"), "LEV", ONCE_LATER),
    Row(fault("environment.killed-during-task"), "LEV", ONCE_LATER),
    Row(fault("environment.killed-after-effect"), "LE", TWICE, effects=2),
    Row(fault("environment.killed-after-result"), "LEM", "Once; the message is known as done."),
    Row(fault("environment.killed-after-task", target="worker"), "LEM",
        "Once; the message is known as done."),
    Row(fault("environment.killed-at-start", count=0, target="worker", for_s=400), "LB",
        "Once, when environments start again.", case="again-and-again"),
    Row(fault("environment.killed-during-task", count=0), "LB",
        "The message goes to the dead-letter queue, its body intact.", state="STARTED",
        effects=0, dead=2, case="each-time"),
    Row(fault("environment.killed-at-start", target="api"), "L",
        "The client gets an error, and nothing was acknowledged.", state=None, effects=0,
        case="api"),
    Row(fault("environment.killed-after-task", target="api"), "L",
        "The client gets an error, and the task runs all the same: an Idempotency-Key makes it "
        "safe to ask again.", state=None, case="api"),
    Row(fault("environment.frozen", freeze_s=400), "EM", "Once: by whoever took the work over.",
        effects=1),
    Row(fault("environment.frozen-after-effect", freeze_s=400), "EM", TWICE, effects=2),
    Row(fault("environment.frozen", freeze_s=20), "E", "Once, 20 s later.", case="briefly"),
    Row(fault("environment.timeout"), "LE",
        "The task gets SoftTimeLimitExceeded before Lambda's timeout, and fails as its own "
        "options say: here to the dead-letter queue.", state="FAILURE", effects=0, dead=1),
    Row(fault("environment.out-of-memory"), "LE", ONCE_LATER),
    Row(fault("environment.out-of-memory", count=0), "LB",
        "The message goes to the dead-letter queue, its body intact.", state="STARTED",
        effects=0, dead=2, case="each-time"),
    Row(fault("task.memory-error"), "LM",
        "The task fails, is not tried again, and goes to the dead-letter queue.", state="FAILURE",
        effects=0, dead=1),
    Row(fault("task.slow", seconds=20), "E", "Once, 20 s later."),
    Row(fault("invocation.throttled", target="worker", count=3), "LB", "Once, a little later."),
    Row(fault("invocation.throttled", target="worker", count=0, for_s=800), "LB",
        "Throttles use up receives; once, when there is concurrency again.", case="for-minutes"),
    Row(fault("invocation.slow", target="worker", after_s=30), "E", "Once, 30 s later."),
    Row(fault("response.partial-batch"), "LE",
        "Once; what was reported wrongly is known as done when it comes again."),
    Row(fault("response.malformed"), "LE", "Once; the whole batch comes again and is known."),
    Row(fault("response.not-json"), "LE", "Once; the whole batch comes again and is known."),
    Row(fault("queue.duplicate-delivery"), "EM", "Once; the second delivery is dropped."),
    Row(fault("queue.two-deliveries-at-once"), "EM", "Once; the second one waits for the lease."),
    Row(fault("queue.reordered", hold_s=5), "LM", "In another order.",
        steps=(defer(), defer(at=2.0)), effects=2),
    Row(fault("send.failed"), "L", "Nothing: the publisher tries again."),
    Row(fault("send.failed", count=0, for_s=60), "L",
        "The client gets 503, and nothing was acknowledged.", state=None, effects=0,
        case="for-a-minute"),
    Row(fault("send.reply-lost"), "E", "Once; two messages carry one task id."),
    Row(fault("receive.failed"), "LV", "Once, a second later."),
    Row(fault("receive.reply-lost"), "LB", ONCE_LATER),
    Row(fault("delete.failed"), "EM", "Once; the message is known as done when it comes again."),
    Row(fault("delete.reply-lost"), "EM", NOTHING),
    Row(fault("visibility.failed"), "LV",
        "A retry or return comes after the queue's own timeout, later but not lost.",
        state="FAILURE", effects=0, dead=1, steps=(defer(DOWN),)),
    Row(fault("message.unknown-task"), "LB",
        "The message backs off and goes to the dead-letter queue: redrive it after the deploy "
        "that knows the task.", state="FAILURE", effects=0, dead=1),
    Row(fault("message.changed-signature"), "LM", "The task fails with TypeError, as in a stock "
        "worker; here it goes to the dead-letter queue.", state="FAILURE", effects=0, dead=1),
    Row(fault("message.poison-body"), "LB", "The message backs off and goes to the dead-letter "
        "queue with its body intact.", state=None, effects=0, dead=1),
    Row(fault("message.truncated"), "LB", "The message backs off and goes to the dead-letter "
        "queue with its body intact.", state=None, effects=0, dead=1),
    Row(fault("message.at-the-limit"), "LB", NOTHING),
    Row(fault("store.down", count=0, for_s=30, target="* twolane:lease:*"), "LE",
        "Once, when the store answers again: without a lease nothing runs.", case="leases"),
    Row(fault("store.down", count=0, for_s=30, target="* celery-task-meta-*"), "LEM",
        "Once, when the store answers again: the message stays until its result is stored.",
        case="results"),
    Row(fault("store.slow", count=0, for_s=10, seconds=0.5), "E", "Once, a little later."),
    Row(fault("store.reply-lost", target="* twolane:lease:*"), "E",
        "Once: whoever asked again finds its own lease."),
    Row(fault("store.lost-write", count=1, target="* twolane:lease:*"), "LV",
        "What the store forgets cannot be held against a second delivery: E and M are not "
        "promised for this task on such a store."),
    Row(fault("clock.skewed", count=0, seconds=30), "EM", NOTHING, case="ahead"),
    Row(fault("clock.skewed", count=0, seconds=-30), "EM", NOTHING, case="behind"),
    Row(fault("tick.doubled", count=0), "S", NOTHING, steps=()),
    Row(fault("tick.missed", count=1, skip=3), "S", "The next tick sends it, a minute late.",
        steps=()),
    Row(fault("tick.late", count=0, after_s=70), "S", "A minute late.", steps=()),
    Row(fault("environment.killed-at-start", target="beat", count=1, skip=3), "S",
        "Lambda tries the tick again, or the next tick makes up for it.", steps=(), case="beat"),
    Row(fault("environment.killed-after-task", target="beat", count=1, skip=3), "S",
        "Nothing: Lambda tries the tick again, which finds the slot sent.", steps=(),
        case="beat"),
)  # fmt: skip
