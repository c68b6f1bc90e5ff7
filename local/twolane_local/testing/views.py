"""What a test sees of its stack: the journal, the tasks, the queues."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twolane_local.aws.sqs.service import NewMessage
from twolane_local.journal.lines import is_detail, mark_of, text_of
from twolane_local.journal.messages import decode
from twolane_local.model.message import AttributeValue
from twolane_local.model.states import DELAYED, IN_FLIGHT, VISIBLE
from twolane_local.testing import TestingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twolane_local.aws.sqs.queue import Queue as CoreQueue
    from twolane_local.aws.sqs.queue import QueueEntry
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.journal import Event, Journal
    from twolane_local.journal.messages import TaskMessage


#: Ids are written out up to here: enough to tell those of one test apart.
_SHORT = 8


class JournalView:
    """The journal of one test. Iterating gives every event, ``print`` shows the story."""

    def __init__(self, journal: Journal, started_at: float) -> None:
        self._journal, self._started_at = journal, started_at

    def __iter__(self) -> Iterator[Event]:
        return iter(self._journal)

    def __len__(self) -> int:
        return len(self._journal)

    def __str__(self) -> str:
        return self.story()

    def find(
        self, kind: str = "", *, function: str | None = None, queue: str | None = None
    ) -> list[Event]:
        """Events of a kind (``task.failed``), of a family (``task``), of a function, of a queue."""
        return [
            event
            for event in self
            if (not kind or event.kind == kind or event.kind.startswith(f"{kind}."))
            and function in (None, event.function)
            and queue in (None, event.queue)
        ]

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self]

    @property
    def requests(self) -> list[str]:
        """The ids of the HTTP requests, in order."""
        return [event.request_id or "" for event in self.find("request.received")]

    def about(self, identity: str) -> list[Event]:
        """Everything that happened because of a request, a task or a message: its own steps, and
        those of the tasks and messages that came of it.
        """
        return about(list(self), identity)

    def story(self, events: Iterable[Event] | None = None, *, details: bool = False) -> str:
        """The events as aligned lines: time since the test's start, mark, who, what, id."""
        chosen = list(self if events is None else events)
        shown = [event for event in chosen if details or not is_detail(event)]
        return "\n".join(lines(shown, self._started_at))


def about(events: list[Event], identity: str) -> list[Event]:
    """The events that belong to ``identity``, directly or through tasks and messages."""
    requests, tasks, messages = {identity}, {identity}, {identity}
    found: set[int] = set()
    while True:
        before = len(found)
        for event in events:
            if event.seq in found:
                continue
            if (
                event.request_id in requests
                or event.task_id in tasks
                or event.message_id in messages
                or event.data.get("originRequestId") in requests
                or not messages.isdisjoint(event.data.get("messageIds") or ())
            ):
                found.add(event.seq)
                # Not their requests: an invocation of the worker's has other messages too.
                tasks |= {event.task_id} - {None}  # type: ignore[arg-type]
                messages |= {event.message_id} - {None}  # type: ignore[arg-type]
        if len(found) == before:
            return [event for event in events if event.seq in found]


def lines(events: Iterable[Event], started_at: float) -> Iterator[str]:
    rows = [
        (
            since(event.at - started_at),
            mark_of(event),
            event.function or event.queue or str(event.data.get("schedule") or "gateway"),
            _text(event),
            (event.task_id or event.request_id or event.message_id or "")[:_SHORT],
        )
        for event in events
    ]
    times = max((len(row[0]) for row in rows), default=0)
    whos = min(24, max((len(row[2]) for row in rows), default=0))
    for at, mark, who, text, identity in rows:
        first, *rest = text.splitlines() or [""]
        yield f"{at:>{times}} {mark} {who:<{whos}}  {first}  {identity}".rstrip()
        yield from (f"{'':>{times + whos + 5}}{line}" for line in rest)


def since(seconds: float) -> str:
    """``+0.000``, ``+01:30.000``, ``+1d 02:00:00.000``."""
    total_ms = round(max(0.0, seconds) * 1000)
    minutes, ms = divmod(total_ms, 60_000)
    tail = f"{ms / 1000:06.3f}"
    if not minutes:
        return f"+{ms / 1000:.3f}"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"+{minutes:02}:{tail}"
    days, hours = divmod(hours, 24)
    clock = f"{hours:02}:{minutes:02}:{tail}"
    return f"+{days}d {clock}" if days else f"+{clock}"


def _text(event: Event) -> str:
    told = str(event.data.get("message", ""))
    # The runtime's own lines carry the mark already.
    return told[2:] if told[:2] in {"→ ", "← ", "↻ ", "! ", "= "} else text_of(event)


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


@dataclass(frozen=True)
class QueuedMessage:
    """A message. ``due_at`` is when it becomes visible, in seconds since the epoch, or ``None``
    where it is; ``state`` one of ``visible``, ``delayed``, ``in flight``.
    """

    id: str
    body: str
    state: str
    receive_count: int
    sent_at: float
    due_at: float | None
    attributes: Mapping[str, str]
    group_id: str | None = None

    @property
    def task(self) -> TaskMessage:
        """The Celery task that it carries; its ``problem`` says why it is none."""
        return decode(self.body)


class Queue:
    def __init__(self, name: str, queues: QueueService) -> None:
        self.name = name
        self._queues = queues

    def __len__(self) -> int:
        """How many messages there are, delayed ones and those in flight included."""
        return len(self._core)

    @property
    def messages(self) -> list[QueuedMessage]:
        """What waits to be received, delayed messages included, in the order of sending."""
        return [_shown(entry) for entry in self._core if entry.state in (VISIBLE, DELAYED)]

    @property
    def in_flight(self) -> list[QueuedMessage]:
        """What was received, and neither deleted nor returned yet."""
        return [_shown(entry) for entry in self._core if entry.state is IN_FLIGHT]

    @property
    def tasks(self) -> list[TaskMessage]:
        """The Celery tasks among ``messages``."""
        return [message.task for message in self.messages if message.task.name is not None]

    @property
    def dead_letters(self) -> list[QueuedMessage]:
        return self.dead_letter_queue.messages

    @property
    def dead_letter_queue(self) -> Queue:
        """Raises ``TestingError`` where the queue has none."""
        arn = self._core.settings.dead_letter_arn
        if arn is None:
            raise TestingError(f"{self.name} has no dead-letter queue: give it a RedrivePolicy")
        return Queue(arn.rpartition(":")[2], self._queues)

    def send(
        self, body: str, *, delay_s: int | None = None, attributes: Mapping[str, str] | None = None,
        group_id: str | None = None, deduplication_id: str | None = None,
    ) -> str:  # fmt: skip
        """Put a message on the queue; returns its id."""
        values = {key: AttributeValue("String", text) for key, text in (attributes or {}).items()}
        new = NewMessage(
            body, delay_s=delay_s, attributes=values, group_id=group_id,
            deduplication_id=deduplication_id,
        )  # fmt: skip
        return self._queues.send(self.name, new).id

    def redrive(self) -> int:
        """Move every dead letter of this queue back to it; tells how many."""
        dead, moved = self.dead_letter_queue.name, 0
        while self._queues.redrive_one(dead, self.name, new_chain=True) is not None:
            moved += 1
        return moved

    def purge(self) -> None:
        """Remove every message."""
        self._core.clear()

    @property
    def _core(self) -> CoreQueue:
        return self._queues.refreshed(self.name)


def find(name: str, queues: QueueService, stack_name: str) -> Queue:
    """The queue of a name, or of a logical id in the template.

    Raises ``TestingError`` where there is none.
    """
    known = queues.names()
    for candidate in (name, f"{stack_name}-{name}", f"{stack_name}-{name}.fifo"):
        if candidate in known:
            return Queue(candidate, queues)
    raise TestingError(f"the stack has no queue {name!r}; it has: {', '.join(sorted(known))}")


def _shown(entry: QueueEntry) -> QueuedMessage:
    message = entry.message
    return QueuedMessage(
        id=message.id,
        body=message.body,
        state=entry.state,
        receive_count=entry.receive_count,
        sent_at=message.sent_at,
        due_at=None if entry.state is VISIBLE else entry.due_at,
        attributes={name: _attribute(value) for name, value in message.attributes.items()},
        group_id=message.group_id,
    )


def _attribute(value: AttributeValue) -> str:
    if value.string is not None:
        return value.string
    return base64.b64encode(value.binary or b"").decode()
