"""Being told of every change to the queues before it is acknowledged, as persistence needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from twolane_local.queues.order import Entry
    from twolane_local.queues.queue import Queue


class Record(Protocol):
    """Takes changes, in order, under the queues' lock."""

    def queue(self, queue: Queue) -> None:
        """A queue was created, configured or tagged."""

    def queue_deleted(self, name: str) -> None: ...

    def purged(self, name: str) -> None: ...

    def put(self, name: str, entry: Entry) -> None:
        """A message is on the queue."""

    def received(self, name: str, entry: Entry) -> None:
        """A message's receive count or visibility timeout changed."""

    def gone(self, name: str, message_id: str) -> None:
        """A message was deleted or its retention period is over."""

    def moved(self, source: str, entry: Entry, target: str, moved: Entry) -> None:
        """A message changed queues, in one step."""


class NoRecord:
    """Keeps nothing: the queues are gone with the process."""

    def queue(self, queue: Queue) -> None: ...

    def queue_deleted(self, name: str) -> None: ...

    def purged(self, name: str) -> None: ...

    def put(self, name: str, entry: Entry) -> None: ...

    def received(self, name: str, entry: Entry) -> None: ...

    def gone(self, name: str, message_id: str) -> None: ...

    def moved(self, source: str, entry: Entry, target: str, moved: Entry) -> None: ...
