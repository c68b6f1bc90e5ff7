"""What happened in a run, as plain facts, and the six invariants as pure functions of them.

====== ============================================================================================
L      Every acknowledged enqueue reaches one terminal outcome: success, failure, revoked, expired,
       or its message is on the dead-letter queue.
E      At most one committed effect for each lease; no lease is granted while another of the same
       work is in force, nor to the same message once that work is done.
M      A terminal state is never followed by another state.
B      No message is received more often than ``maxReceiveCount``; what is dead-lettered has the
       body that SQS took.
V      The system is drained within a bound after the faults have stopped.
S      Each schedule slot is enqueued under one task id, and each due slot is enqueued.
====== ============================================================================================

What the result store itself has lost (``write.lost``) excuses E, M and L for the task that it was
about. A publisher that lost each of its four answers (``answer.lost``) must take the publish for
failed, and so the task that published a retry, while the retry is on its queue; one that lost an
answer may send its copy when the first one has failed already, as a redrive would, or its copy may
name a task where the first one named none that is known: all excuse M.
A revoke may come too late for a task that starts within the same second: a worker looks up what is
revoked once a second, and REVOKED may then be followed by STARTED. A failure that has consequences
(a chord, chain or errback) is stored before them: an environment that dies in between has the task
run again, so that they are not lost. What follows in its chain has failed with it, and may run
then. Nothing else excuses anything.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from twolane_local.faults.seams import has_consequences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.journal import Event


#: Celery's states after which nothing more is to come.
TERMINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
#: How often a publisher tries, as ``twolane.publish.client`` has it.
ATTEMPTS = 4
#: How long a worker trusts its look-up, as ``twolane.worker.lookup`` has it.
REVOKE_S = 1.0
#: Journal events that end a task without a result.
_ENDINGS = frozenset({"task.revoked", "task.expired"})
#: As ``twolane.worker.lease`` has it: another message with the same id may run after this.
DEDUPLICATION_S = 300.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the run was allowed."""

    max_receives: int = 5
    drain_s: float = 7200.0


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold, for which task, message or slot, and what happened."""

    invariant: str
    subject: str
    told: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.subject}: {self.told}"


def check_l(history: History, _: Bounds) -> Iterator[Violation]:
    """Nothing that was acknowledged is lost."""
    excused = _excused(history)
    ended = {fact.task for fact in history if fact.kind in _ENDINGS}
    ended |= {fact.task for fact in history.of("dead.letter")}
    ended |= {
        fact.task for fact in history.of("result.changed") if fact.data.get("status") in TERMINAL
    }
    left = {fact.task for fact in history.of("left.over")}
    seen: set[str | None] = set()
    for fact in history.of("enqueue.acknowledged", "body.taken"):
        task = fact.task
        if task is None or task in seen or task in ended or task in excused:
            continue
        seen.add(task)
        where = "its message is still on the queue" if task in left else "its message is gone"
        yield Violation("L", task, f"acknowledged, but without an outcome; {where}")
    buried = {fact.message for fact in history.of("dead.letter")}
    left_over = {fact.message for fact in history.of("left.over")}
    gone = {fact.message for fact in history.of("message.deleted", "message.expired")}
    for fact in history.of("body.taken"):
        if fact.message not in buried | left_over | gone:
            yield Violation("L", str(fact.message), "the message vanished without being deleted")


def check_e(history: History, _: Bounds) -> Iterator[Violation]:
    """Leases exclude each other, and each covers at most one effect."""
    excused = _excused(history)
    effects: dict[tuple[Any, Any], int] = defaultdict(int)
    for fact in history.of("effect.committed"):
        if fact.task in excused:
            continue
        lease = (fact.data.get("lease"), fact.data.get("holder"))
        if lease[0] is None:
            yield Violation("E", str(fact.task), "an effect was committed without a lease")
            continue
        effects[lease] += 1
        if effects[lease] == 2:
            yield Violation("E", str(fact.task), f"two effects under one lease {lease[0]}")
    for key, changes in _by_key(history.of("lease.changed")).items():
        if changes[0].task not in excused:
            yield from _grants(key, changes)


def _grants(key: str, changes: list[Fact]) -> Iterator[Violation]:
    before: Fact | None = None
    done: dict[str, float] = {}
    for fact in changes:
        state, holder = fact.data.get("state"), fact.data.get("holder")
        grant = state == "running" and not (before and before.data.get("holder") == holder)
        running = before is not None and before.data.get("state") == "running"
        if grant and running and before is not None and before.data["until"] > fact.at:
            yield Violation("E", key, "granted while another holder's lease was in force")
        if grant and fact.data.get("publish") in done:
            yield Violation("E", key, "granted to the same message again after its work was done")
        recent = max(done.values(), default=float("-inf")) > fact.at - DEDUPLICATION_S
        if grant and recent and fact.data.get("publish") not in done:
            yield Violation("E", key, "granted to a copy right after the work was done")
        if state == "done":
            done[str(fact.data.get("publish"))] = fact.at
        before = fact if state is not None else None


def check_m(history: History, _: Bounds) -> Iterator[Violation]:
    """What has ended stays as it ended."""
    lost = Counter(fact.task for fact in history.of("answer.lost"))
    excused = _excused(history) | {task for task, times in lost.items() if times >= ATTEMPTS}
    sent = {fact.task: fact.at for fact in history.of("body.taken")}
    copies = Counter(fact.task for fact in history.of("body.taken"))
    first_sent: dict[str | None, float] = {}
    for fact in history.of("body.taken"):
        first_sent.setdefault(fact.task, fact.at)
    bodies = {fact.task: fact.data["body"] for fact in history.of("body.taken")}
    names = {fact.task: fact.data.get("name") for fact in history.of("body.taken")}
    unknown = {
        fact.task
        for fact in history.of("task.rejected")
        if fact.data.get("taskName") != names.get(fact.task)
    }
    last: dict[str, tuple[str, float]] = {}
    for fact in history.of("result.changed"):
        task, status = str(fact.task), fact.data.get("status")
        before, since = last.get(task, ("PENDING", 0.0))
        # A copy that was sent after the first one had failed counts as a redriven message. So does
        # one of a message whose task nobody knew, if it names the right one: a tick that beat sends
        # again, as the store could not keep that it was sent, is such a copy.
        late = lost[fact.task] > 0 and sent.get(fact.task, 0.0) >= since
        copied = before == "FAILURE" and (late or (fact.task in unknown and copies[fact.task] > 1))
        too_late = (before, status) == ("REVOKED", "STARTED") and fact.at - since <= REVOKE_S
        regressed = before in TERMINAL and status != before
        # Its chain failed before it, and then did not: that task ran again.
        ahead = first_sent.get(fact.task, 0.0) > since
        again = before == "FAILURE" and (ahead or has_consequences(bodies.get(fact.task, "")))
        if regressed and task not in excused and not (too_late or copied or again):
            yield Violation("M", task, f"{before} was followed by {status}")
        if status is not None:
            last[task] = str(status), fact.at


def check_b(history: History, bounds: Bounds) -> Iterator[Violation]:
    """Receives are bounded, and bodies arrive as they were taken."""
    worst: dict[str, int] = {}
    for fact in history.of("message.received"):
        count = int(fact.data.get("receiveCount", 0))
        message = str(fact.message)
        if count > max(bounds.max_receives, worst.get(message, 0)):
            worst[message] = count
    for message, count in worst.items():
        yield Violation("B", message, f"received {count} times, {bounds.max_receives} are allowed")
    bodies = {fact.message: fact.data["body"] for fact in history.of("body.taken")}
    for fact in history.of("dead.letter"):
        if fact.message in bodies and bodies[fact.message] != fact.data["body"]:
            yield Violation("B", str(fact.message), "dead-lettered with another body")


def check_v(history: History, bounds: Bounds) -> Iterator[Violation]:
    """It comes to rest."""
    left = history.of("left.over")
    for fact in left:
        yield Violation("V", str(fact.message), f"on the queue still, task {fact.task}")
    stopped, ended = history.last_at("faults.ended"), history.last_at("run.ended")
    if stopped is not None and ended is not None and ended - stopped > bounds.drain_s and not left:
        yield Violation("V", "the system", f"took {ended - stopped:.0f} s to drain")


def check_s(history: History, _: Bounds) -> Iterator[Violation]:
    """Each slot of a schedule once, and nothing but slots."""
    owed = {fact.task: fact for fact in history.of("slot.due")}
    names = {fact.data["name"] for fact in owed.values()}
    taken = {fact.task for fact in history.of("body.taken") if fact.data.get("name") in names}
    for task, fact in owed.items():
        if task not in taken:
            slot = f"{fact.data['entry']} {fact.data['slot']}"
            yield Violation("S", slot, "due, but never enqueued")
    for task in sorted(str(task) for task in taken - owed.keys()):
        yield Violation("S", task, "enqueued by a schedule, but under the id of no due slot")


#: Letter → check.
CHECKS: Mapping[str, Callable[[History, Bounds], Iterator[Violation]]] = {
    "L": check_l,
    "E": check_e,
    "M": check_m,
    "B": check_b,
    "V": check_v,
    "S": check_s,
}


def violations(history: History, bounds: Bounds | None = None) -> list[Violation]:
    """All that does not hold."""
    bounds = bounds or Bounds()
    return [each for check in CHECKS.values() for each in check(history, bounds)]


def _by_key(facts: list[Fact]) -> dict[str, list[Fact]]:
    found: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        found[str(fact.data["key"])].append(fact)
    return found


def _excused(history: History) -> set[str | None]:
    return {fact.task for fact in history.of("write.lost")}


#: Facts that are not in the journal:
#:
#: ``enqueue.acknowledged``  an API answered 202, or a publisher got its message id   task
#: ``body.taken``            SQS took a message       task, message, queue; body, name of the task
#: ``effect.committed``      a task did what cannot be undone         task; lease, holder
#: ``lease.changed``         task; key, state (None: gone), holder, publish, since, until
#: ``result.changed``        task; status (None: gone)
#: ``write.lost``            key: the result store has lost it
#: ``answer.lost``           task: SQS has taken its message, and could not say so
#: ``slot.due``              beat owes a slot         task (its id); entry, slot, name of the task
#: ``faults.ended``          from here on nothing goes wrong any more
#: ``dead.letter``           at the end: a message on the dead-letter queue     message, task; body
#: ``left.over``             at the end: a message still on its queue           message, task
#: ``run.ended``             drained
OWN = frozenset(
    {
        "enqueue.acknowledged", "body.taken", "effect.committed", "lease.changed",
        "result.changed", "write.lost", "answer.lost", "slot.due", "faults.ended", "dead.letter",
        "left.over", "run.ended",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """One step; ``at`` is in seconds since the epoch. ``kind`` is the journal's, or of ``OWN``."""

    at: float
    kind: str
    task: str | None = None
    message: str | None = None
    queue: str | None = None
    where: str | None = None  # the execution environment or function
    data: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, absent ones left out."""
        return {key: value for key, value in asdict(self).items() if value not in (None, {})}


class History:
    """Facts in the order in which they happened."""

    def __init__(self, facts: list[Fact] | None = None) -> None:
        self.facts: list[Fact] = [] if facts is None else facts
        self._kinds: dict[str, list[Fact]] = {}
        self._indexed = 0

    def add(self, fact: Fact) -> None:
        self.facts.append(fact)

    def heard(self, event: Event) -> None:
        """A journal's event; for ``Journal.subscribe``."""
        who = event.task_id, event.message_id, event.queue, event.function
        self.facts.append(Fact(event.at, event.kind, *who, event.data))

    def of(self, *kinds: str) -> list[Fact]:
        """Those of these kinds, in order."""
        for fact in self.facts[self._indexed :]:
            self._kinds.setdefault(fact.kind, []).append(fact)
        self._indexed = len(self.facts)
        if len(kinds) == 1:
            return self._kinds.get(kinds[0], [])
        return [fact for fact in self.facts if fact.kind in kinds]

    def last_at(self, kind: str) -> float | None:
        found = self.of(kind)
        return found[-1].at if found else None

    def __iter__(self) -> Iterator[Fact]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)
