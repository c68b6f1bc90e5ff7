"""``twolane.tasks``: each Celery task's state and history, by id or name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twolane_local.testing.errors import TestingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twolane_local.journal import Event, Journal

#: What a task is after each event, in Celery's words where it has one; ``DEAD`` is on the
#: dead-letter queue, where a person has to look.
_STATES = {
    "task.published": "PENDING",
    "task.started": "STARTED",
    "task.succeeded": "SUCCESS",
    "task.failed": "FAILURE",
    "task.retried": "RETRY",
    "task.deferred": "PENDING",
    "task.returned": "PENDING",
    "task.revoked": "REVOKED",
    "task.expired": "REVOKED",
    "task.rejected": "REJECTED",
    "message.dead_lettered": "DEAD",
}
_ENDS = frozenset({"SUCCESS", "FAILURE", "REVOKED", "DEAD"})


@dataclass(frozen=True)
class Task:
    """A task as the journal tells of it. ``state`` is PENDING, STARTED, RETRY, SUCCESS, FAILURE,
    REVOKED, REJECTED or DEAD.
    """

    id: str
    name: str
    state: str
    history: tuple[Event, ...]

    @property
    def attempts(self) -> int:
        """How often it was started."""
        return sum(event.kind == "task.started" for event in self.history)

    @property
    def steps(self) -> list[str]:
        """The kinds of its events, without ``task.``: ``["published", "started", …]``."""
        return [event.kind.partition(".")[2] for event in self.history]

    @property
    def done(self) -> bool:
        return self.state in _ENDS


class Tasks:
    """All tasks of a test, in the order in which they were first heard of."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __iter__(self) -> Iterator[Task]:
        return iter(tasks_of(self._journal))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def named(self, name: str) -> list[Task]:
        """Those of a name; the end of a dotted one is enough (``send`` for ``app.tasks.send``)."""
        return [task for task in self if task.name == name or task.name.endswith(f".{name}")]

    def __getitem__(self, identity: str) -> Task:
        """The task of an id, or the only one of a name; raises ``TestingError``."""
        everything = list(self)
        found = [task for task in everything if task.id == identity] or self.named(identity)
        if len(found) != 1:
            known = ", ".join(f"{task.name}[{task.id}]" for task in everything) or "none"
            raise TestingError(
                f"{len(found)} tasks are called {identity!r}, not one; there are: {known}"
            )
        return found[0]


def tasks_of(journal: Iterable[Event]) -> list[Task]:
    """The tasks that a journal tells of."""
    histories: dict[str, list[Event]] = {}
    carried: dict[str, str] = {}  # message id → task id
    for event in journal:
        task_id = event.task_id
        if task_id is None and event.kind == "message.dead_lettered":
            task_id = carried.get(event.message_id or "")
        if task_id is None or (event.kind not in _STATES and not event.kind.startswith("task.")):
            continue
        if event.message_id:
            carried[event.message_id] = task_id
        histories.setdefault(task_id, []).append(event)
    return [_task(task_id, tuple(history)) for task_id, history in histories.items()]


def _task(task_id: str, history: tuple[Event, ...]) -> Task:
    names = (event.data.get("taskName") for event in history)
    name = str(next((name for name in names if name), ""))
    state = "PENDING"
    for event in history:
        told = _STATES.get(event.kind)
        # A duplicate or late delivery does not undo an end; a redrive does.
        if told is not None and not (state == "SUCCESS" and told in {"PENDING", "STARTED"}):
            state = told
    return Task(task_id, name, state, history)
