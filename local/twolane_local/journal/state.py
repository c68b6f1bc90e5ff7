"""Queues, mappings and functions as they are at one moment: frozen facts, read under their locks.

What the control API answers and what ``why`` reasons about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs.order import DELAYED, IN_FLIGHT, VISIBLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane_local.aws.event_source_mapping.mapping import Mappings
    from twolane_local.aws.lambda_.environment import PoolState
    from twolane_local.aws.lambda_.functions import Functions
    from twolane_local.aws.sqs.message import Message
    from twolane_local.aws.sqs.order import Entry
    from twolane_local.aws.sqs.queue import Queue
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.model import FunctionSpec


@dataclass(frozen=True, slots=True)
class MessageState:
    """A message on its queue; ``visible_at`` is when it can next be received."""

    message: Message
    queue: str
    position: int
    state: str
    receive_count: int
    visible_at: float
    first_received_at: float

    @property
    def id(self) -> str:
        return self.message.id


@dataclass(frozen=True, slots=True)
class MappingState:
    """An event source mapping; ``allowed`` is how many batches it may have under way now."""

    id: str
    queue: str
    function: str
    enabled: bool
    batch_size: int
    maximum_concurrency: int | None
    under_way: int
    allowed: int
    filtered: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id, "function": self.function, "enabled": self.enabled,
            "batchSize": self.batch_size, "maximumConcurrency": self.maximum_concurrency,
            "underWay": self.under_way, "allowed": self.allowed, "filtered": self.filtered,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue and its counts. Times in seconds; ``oldest_s`` is the age of the oldest message."""

    name: str
    arn: str
    fifo: bool
    visible: int
    in_flight: int
    delayed: int
    oldest_s: float | None
    sent: int
    visibility_s: float
    delay_s: float
    retention_s: float
    dead_letter_queue: str | None
    max_receives: int | None
    dead_letter_of: tuple[str, ...] = ()
    mappings: tuple[MappingState, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        found = {
            "name": self.name, "arn": self.arn, "fifo": self.fifo, "visible": self.visible,
            "inFlight": self.in_flight, "delayed": self.delayed,
            "oldestAgeSeconds": self.oldest_s, "sent": self.sent,
            "visibilityTimeout": self.visibility_s, "delaySeconds": self.delay_s,
            "retentionSeconds": self.retention_s, "deadLetterQueue": self.dead_letter_queue,
            "maxReceiveCount": self.max_receives, "deadLetterOf": list(self.dead_letter_of),
            "mappings": [each.as_dict() for each in self.mappings],
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it. ``messages`` holds those that were asked for."""

    now: float
    queues: dict[str, QueueState]
    messages: dict[str, MessageState]
    functions: dict[str, tuple[FunctionSpec, PoolState]]
    paused: bool = False


def snapshot(
    queues: QueueService,
    mappings: Mappings,
    functions: Functions,
    *,
    messages: Iterable[str] = (),
    paused: bool = False,
) -> Snapshot:
    """As of now, with those of ``messages`` (ids) that are on a queue."""
    wanted = set(messages)
    found: dict[str, MessageState] = {}
    for name in queues.names():
        queue = queues.settled(name)
        for identity in wanted:
            entry = queue.entry(identity)
            if entry is not None:
                found[identity] = message_state(queue, entry)
    return Snapshot(
        queues.clock.time(), queue_states(queues, mappings), found,
        {name: (functions.specs[name], state) for name, state in functions.states().items()},
        paused,
    )  # fmt: skip


def queue_states(queues: QueueService, mappings: Mappings) -> dict[str, QueueState]:
    """Every queue by its name."""
    by_queue: dict[str, list[MappingState]] = {}
    for identity, mapping in mappings:
        spec = mapping.spec
        name = spec.queue_arn.rpartition(":")[2]
        by_queue.setdefault(name, []).append(
            MappingState(
                identity,
                name,
                spec.function,
                mapping.enabled,
                spec.batch_size,
                spec.maximum_concurrency,
                mapping.under_way,
                mapping.allowed,
                bool(spec.filter_patterns),
            )
        )
    names = queues.names()
    dead = {name: _dead_letter_queue(queues.get(name)) for name in names}
    now = queues.clock.time()
    return {
        name: _queue_state(
            queues.settled(name), now,
            tuple(source for source in names if dead[source] == name),
            tuple(by_queue.get(name, ())),
        )
        for name in names
    }  # fmt: skip


def _dead_letter_queue(queue: Queue) -> str | None:
    arn = queue.settings.dead_letter_arn
    return arn.rpartition(":")[2] if arn is not None else None


def _queue_state(
    queue: Queue, now: float, sources: tuple[str, ...], mappings: tuple[MappingState, ...]
) -> QueueState:
    settings = queue.settings
    oldest = queue.oldest()
    return QueueState(
        name=queue.name, arn=queue.arn, fifo=queue.fifo,
        visible=queue.count(VISIBLE), in_flight=queue.count(IN_FLIGHT),
        delayed=queue.count(DELAYED),
        oldest_s=None if oldest is None else round(max(0.0, now - oldest), 3),
        sent=queue.sent, visibility_s=settings.visibility_s, delay_s=settings.delay_s,
        retention_s=settings.retention_s, dead_letter_queue=_dead_letter_queue(queue),
        max_receives=settings.max_receive_count if settings.dead_letter_arn else None,
        dead_letter_of=sources, mappings=mappings,
    )  # fmt: skip


def message_state(queue: Queue, entry: Entry) -> MessageState:
    """A message of a settled queue."""
    return MessageState(
        entry.message, queue.name, entry.position, entry.state, entry.receive_count,
        entry.due_at if entry.state is not VISIBLE else entry.message.sent_at,
        entry.first_received_at,
    )  # fmt: skip


def messages_of(
    queues: QueueService, name: str, *, state: str = "", after: int = 0, limit: int = 100
) -> tuple[list[MessageState], bool]:
    """Messages in the order of sending, and whether there are more."""
    queue = queues.settled(name)
    found: list[MessageState] = []
    for entry in queue:
        if entry.position > after and (not state or entry.state == state):
            if len(found) == limit:
                return found, True
            found.append(message_state(queue, entry))
    return found, False
