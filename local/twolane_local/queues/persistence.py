"""Queues that outlive the process: every change is in a file before it is acknowledged.

One append-only log of JSON lines. A change is written to the operating system before the call
that made it returns, so that it survives the process being killed at any moment; it is not forced
onto the disk, so a power cut may take the last ones. Opening the log reads it and writes it anew
with what is left, and so does a log that has grown to several times that.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.queues.message import AttributeValue, Message
from twolane_local.queues.order import DELAYED, IN_FLIGHT
from twolane_local.queues.queue import Place, Queue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from twolane_local.queues.core import QueueService
    from twolane_local.queues.order import Entry

FILE = "queues.jsonl"
#: A log is written anew once it holds this many times what the last one began with.
GROWTH, SMALLEST = 4, 16 * 1024 * 1024


class PersistenceError(LocalError):
    """The queues' log cannot be used; the message says why and what to do."""


class QueueLog:
    """A ``Record`` in a directory: ``attach`` gives a service what it holds, then follows it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / FILE
        self._file = -1
        self._lock = os.open(directory / f"{FILE}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        self._written = self._began_with = 0
        self._queues: dict[str, Queue] = {}
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise PersistenceError(
                f"{directory} is in use by another emulator; stop it, or name another directory"
            ) from None

    def attach(self, service: QueueService) -> None:
        """Put what the log holds into ``service``, which must be empty, and record its changes."""
        for name, replayed in _replay(self._lines()).items():
            queue = replayed.restored(service.arn(name), service.clock.time())
            self._queues[name] = queue
            service.adopt(queue)
        self._rewrite()
        service.record_in(self)

    def close(self) -> None:
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                # A line without its end was being written when the process went: it was never
                # acknowledged.
                if not line.endswith(b"\n"):
                    return
                try:
                    yield json.loads(line)
                except ValueError:
                    raise PersistenceError(
                        f"{self._path}:{number} is damaged; repair that line, or remove the file "
                        "to start with empty queues"
                    ) from None

    def _rewrite(self) -> None:
        """Write what is on the queues into a new log, and put it in the old one's place."""
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        written = 0
        for queue in self._queues.values():
            lines = b"".join(_line(change) for change in _snapshot(queue))
            written += len(lines)
            _write(descriptor, lines)
        fresh.replace(self._path)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._written, self._began_with = descriptor, written, written

    def _append(self, change: dict[str, Any]) -> None:
        line = _line(change)
        _write(self._file, line)
        self._written += len(line)
        if self._written > max(SMALLEST, GROWTH * self._began_with):
            self._rewrite()

    # The changes, as ``Record`` has them

    def queue(self, queue: Queue) -> None:
        self._queues[queue.name] = queue
        self._append(_queue(queue))

    def queue_deleted(self, name: str) -> None:
        self._queues.pop(name, None)
        self._append({"do": "delete", "queue": name})

    def purged(self, name: str) -> None:
        self._append({"do": "purge", "queue": name})

    def put(self, name: str, entry: Entry) -> None:
        self._append(_put(name, entry))

    def received(self, name: str, entry: Entry) -> None:
        self._append({"do": "received", "queue": name, "id": entry.message.id, **_place(entry)})

    def gone(self, name: str, message_id: str) -> None:
        self._append({"do": "gone", "queue": name, "id": message_id})

    def moved(self, source: str, entry: Entry, target: str, moved: Entry) -> None:
        # One line, so that a message is never on both queues or on none.
        change = _put(target, moved)
        self._append({**change, "from": source, "was": entry.message.id})


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _line(change: dict[str, Any]) -> bytes:
    return json.dumps(change, separators=(",", ":")).encode() + b"\n"


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


def _put(name: str, entry: Entry) -> dict[str, Any]:
    return {
        "do": "put", "queue": name, "message": _shown(entry.message), "position": entry.position,
        **_place(entry),
    }  # fmt: skip


def _place(entry: Entry) -> dict[str, Any]:
    """What of a message's place changes with receives; ``due`` only while it cannot be received."""
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
    """One queue as the log's lines so far leave it."""

    queue: dict[str, Any]
    puts: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)  # what a FIFO queue may have to remember
    position: int = 0

    def restored(self, arn: str, now: float) -> Queue:
        made = self.queue
        queue = Queue(made["queue"], arn, made["attributes"], made["tags"], made["created"])
        queue.modified_at, queue.sent = made["modified"], max(made["sent"], self.position)
        for put in sorted(self.puts.values(), key=itemgetter("position")):
            place = Place(put["due"], put["count"], put["first"], put["last"], put["receipt"])
            queue.restore(_read(put["message"]), put["position"], place, now)
        for message in sorted(self.sent, key=attrgetter("sent_at")) if queue.fifo else ():
            queue.remember(message, message.sent_at)
        return queue


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
