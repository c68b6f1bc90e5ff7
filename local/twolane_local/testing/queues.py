"""``twolane.queue(name)``: what is on a queue, as a test wants to see it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twolane_local.aws.sqs.service import NewMessage
from twolane_local.journal.messages import decode
from twolane_local.model.message import AttributeValue
from twolane_local.model.states import DELAYED, IN_FLIGHT, VISIBLE
from twolane_local.testing.errors import TestingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.aws.sqs.order import QueueEntry
    from twolane_local.aws.sqs.queue import Queue as CoreQueue
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.journal.messages import TaskMessage


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
    """One queue."""

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
        """What is on the dead-letter queue of this queue."""
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
        attributes={name: _text(value) for name, value in message.attributes.items()},
        group_id=message.group_id,
    )


def _text(value: AttributeValue) -> str:
    if value.string is not None:
        return value.string
    return base64.b64encode(value.binary or b"").decode()
