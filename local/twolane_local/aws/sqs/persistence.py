"""Keeps queues when the process ends: each change is in a file before it is acknowledged.

The log is rewritten with the remaining messages when it is opened, and when it has grown to
several times that size.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs.queue import Queue, ReceiveState
from twolane_local.aws.sqs.service import ChangeLog
from twolane_local.journal.files import JsonLog, StateLog
from twolane_local.model.message import AttributeValue, Message
from twolane_local.model.states import DELAYED, IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from twolane_local.aws.sqs.queue import QueueEntry
    from twolane_local.aws.sqs.service import QueueService

FILE = "queues.jsonl"


class QueueLog(ChangeLog):
    """A change log in a directory. ``attach`` restores its queues, then logs their changes."""

    def __init__(self, directory: Path) -> None:
        """Raises ``PersistenceError`` if another emulator uses the directory."""
        self._log = JsonLog(directory, FILE)
        self._queues: dict[str, Queue] = {}
        self._state_log = StateLog(
            self._log,
            lambda: (change for queue in self._queues.values() for change in _snapshot(queue)),
        )

    def attach(self, service: QueueService) -> None:
        """Restore the logged queues into ``service``, which must be empty, and log its changes."""
        for name, replayed in _replay(self._log.lines()).items():
            queue = replayed.restored(service.arn(name), service.clock.time())
            self._queues[name] = queue
            service.adopt(queue)
        self._state_log.rewrite()
        service.log_changes_to(self)

    def close(self) -> None:
        self._log.close()

    def queue(self, queue: Queue) -> None:
        self._queues[queue.name] = queue
        self._state_log.append_later(_queue(queue))

    def queue_deleted(self, name: str) -> None:
        self._queues.pop(name, None)
        self._state_log.append_later({"do": "delete", "queue": name})

    def purged(self, name: str) -> None:
        self._state_log.append_later({"do": "purge", "queue": name})

    def put(self, name: str, entry: QueueEntry) -> None:
        self._state_log.append(_put(name, entry))

    def received(self, name: str, entry: QueueEntry) -> None:
        self._state_log.append_later(
            {"do": "received", "queue": name, "id": entry.message.id, **_receive_state(entry)}
        )

    def gone(self, name: str, message_id: str) -> None:
        self._state_log.append_later({"do": "gone", "queue": name, "id": message_id})

    def moved(self, source: str, entry: QueueEntry, target: str, moved: QueueEntry) -> None:
        # One line, so that a message is never on both queues or on neither.
        change = _put(target, moved)
        self._state_log.append_later({**change, "from": source, "was": entry.message.id})


def _queue(queue: Queue) -> dict[str, Any]:
    return {
        "do": "queue", "queue": queue.name, "attributes": queue.attributes, "tags": queue.tags,
        "created": queue.created_at, "modified": queue.modified_at, "sent": queue.sent,
    }  # fmt: skip


def _snapshot(queue: Queue) -> Iterator[dict[str, Any]]:
    yield _queue(queue)
    for message in queue.deduplication.sends.values():
        yield {"do": "seen", "queue": queue.name, "message": _shown(message)}
    for entry in queue:
        yield _put(queue.name, entry)


def _put(name: str, entry: QueueEntry) -> dict[str, Any]:
    return {
        "do": "put", "queue": name, "message": _shown(entry.message), "position": entry.position,
        **_receive_state(entry),
    }  # fmt: skip


def _receive_state(entry: QueueEntry) -> dict[str, Any]:
    """The values of ``ReceiveState``; ``due`` is 0.0 unless the message is delayed or in flight."""
    return {
        "due": entry.due_at if entry.state in (DELAYED, IN_FLIGHT) else 0.0,
        "count": entry.receive_count,
        "first": entry.first_received_at,
        "last": entry.received_at,
        "receipt": entry.receipt,
    }


_TEXTS = ("id", "body", "md5_of_body", "md5_of_attributes", "trace_header", "group_id",
          "deduplication_id", "sequence", "dead_letter_source", "sender_id")  # fmt: skip


def _shown(message: Message) -> dict[str, Any]:
    shown = {name: value for name in _TEXTS if (value := getattr(message, name)) is not None}
    shown["sent_at"] = message.sent_at
    if message.attributes:
        shown["attributes"] = {
            name: [value.data_type, value.string, base64.b64encode(value.binary or b"").decode()]
            for name, value in message.attributes.items()
        }
    return shown


def _read(shown: dict[str, Any]) -> Message:
    attributes = {
        name: AttributeValue(kind, text, base64.b64decode(raw) if text is None else None)
        for name, (kind, text, raw) in shown.get("attributes", {}).items()
    }
    return Message(**{**shown, "attributes": attributes})


@dataclass
class _Replayed:
    """One queue as the log's lines so far describe it."""

    queue: dict[str, Any]
    puts: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)  # for the deduplication of a FIFO queue
    position: int = 0

    def restored(self, arn: str, now: float) -> Queue:
        made = self.queue
        queue = Queue(made["queue"], arn, made["attributes"], made["tags"], made["created"])
        queue.modified_at, queue.sent = made["modified"], max(made["sent"], self.position)
        for put in sorted(self.puts.values(), key=_last_touched):
            place = ReceiveState(
                put["due"], put["count"], put["first"], put["last"], put["receipt"]
            )
            queue.restore(_read(put["message"]), put["position"], place, now)
        for message in sorted(self.sent, key=attrgetter("sent_at")) if queue.fifo else ():
            queue.remember(message, message.sent_at)
        return queue


def _last_touched(put: dict[str, Any]) -> tuple[float, int]:
    """The order in which messages wait: since they were sent, or received for the last time."""
    return max(put["message"]["sent_at"], put["last"]), put["position"]


def _replay(changes: Iterable[dict[str, Any]]) -> dict[str, _Replayed]:
    queues: dict[str, _Replayed] = {}
    for change in changes:
        name = change["queue"]
        match change["do"]:
            case "queue" if name in queues:
                queues[name].queue = change
            case "queue":
                queues[name] = _Replayed(change)
            case "delete":
                del queues[name]
            case "purge":
                queues[name].puts.clear()
                queues[name].sent.clear()
            case "gone":
                queues[name].puts.pop(change["id"], None)
            case "received":
                queues[name].puts[change["id"]].update(change)
            case "seen":
                queues[name].sent.append(_read(change["message"]))
            case "put":
                _replay_put(change, queues)
    return queues


def _replay_put(change: dict[str, Any], queues: dict[str, _Replayed]) -> None:
    queue = queues[change["queue"]]
    if "from" in change:
        queues[change["from"]].puts.pop(change["was"], None)
    else:
        queue.sent.append(_read(change["message"]))
    queue.puts[change["message"]["id"]] = change
    queue.position = max(queue.position, change["position"])
