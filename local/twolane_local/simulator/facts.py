"""What happened in a run, as one ordered list of plain facts; the invariants read nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.journal import Event

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
        """When it last happened."""
        found = self.of(kind)
        return found[-1].at if found else None

    def __iter__(self) -> Iterator[Fact]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)
