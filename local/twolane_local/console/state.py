"""Reads queues, mappings and functions into frozen states, for the control API and for ``why``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.model.states import (
    DELAYED,
    IN_FLIGHT,
    VISIBLE,
    MappingState,
    MessageState,
    QueueState,
    Snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane_local.aws.event_source_mapping import EventSourceMappings
    from twolane_local.aws.lambda_.functions import Functions
    from twolane_local.aws.sqs.queue import Queue, QueueEntry
    from twolane_local.aws.sqs.service import QueueService


def snapshot(
    queues: QueueService,
    mappings: EventSourceMappings,
    functions: Functions,
    *,
    messages: Iterable[str] = (),
    paused: bool = False,
) -> Snapshot:
    """Return the state of everything now, with those of ``messages`` (ids) that are on a queue."""
    wanted = set(messages)
    found: dict[str, MessageState] = {}
    for name in queues.names():
        queue = queues.refreshed(name)
        for identity in wanted:
            entry = queue.entry(identity)
            if entry is not None:
                found[identity] = message_state(queue, entry)
    return Snapshot(
        queues.clock.time(), queue_states(queues, mappings), found,
        {name: (functions.spec(name), state) for name, state in functions.states().items()},
        paused,
    )  # fmt: skip


def queue_states(queues: QueueService, mappings: EventSourceMappings) -> dict[str, QueueState]:
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
    targets = {name: queues.get(name).settings.dead_letter_arn for name in names}
    dead = {name: queues.name_of_arn(arn) if arn else None for name, arn in targets.items()}
    now = queues.clock.time()
    return {
        name: _queue_state(
            queues.refreshed(name), now,
            dead_letter_queue=dead[name],
            dead_letter_of=tuple(source for source in names if dead[source] == name),
            mappings=tuple(by_queue.get(name, ())),
            noisy=queues.noisy_groups(name),
        )
        for name in names
    }  # fmt: skip


def _queue_state(queue: Queue, now: float, **known: Any) -> QueueState:
    settings = queue.settings
    oldest = queue.oldest()
    return QueueState(
        name=queue.name, arn=queue.arn, fifo=queue.fifo,
        visible=queue.count(VISIBLE), in_flight=queue.count(IN_FLIGHT),
        delayed=queue.count(DELAYED),
        oldest_s=None if oldest is None else round(max(0.0, now - oldest), 3),
        sent=queue.sent, visibility_s=settings.visibility_s, delay_s=settings.delay_s,
        retention_s=settings.retention_s,
        max_receives=settings.max_receive_count if settings.dead_letter_arn else None, **known,
    )  # fmt: skip


def message_state(queue: Queue, entry: QueueEntry) -> MessageState:
    """Return the state of a message; its queue must be refreshed."""
    return MessageState(
        entry.message, queue.name, entry.position, entry.state, entry.receive_count,
        entry.due_at if entry.state is not VISIBLE else entry.message.sent_at,
        entry.first_received_at,
    )  # fmt: skip


def messages_of(
    queues: QueueService, name: str, *, state: str = "", after: int = 0, limit: int = 100
) -> tuple[list[MessageState], bool]:
    """Return messages in the order of sending, and whether there are more."""
    queue = queues.refreshed(name)
    found: list[MessageState] = []
    for entry in queue:
        if entry.position > after and (not state or entry.state == state):
            if len(found) == limit:
                return found, True
            found.append(message_state(queue, entry))
    return found, False
