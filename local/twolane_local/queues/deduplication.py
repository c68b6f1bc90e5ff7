"""The five minutes in which a FIFO queue remembers what was sent and what was received.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-exactly-once-processing.html
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from twolane_local.queues.message import Message, Received

INTERVAL_S = 300.0

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by key for five minutes from when they were first set."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[float, V]] = {}
        self._order: deque[tuple[float, str]] = deque()

    def get(self, key: str, now: float) -> V | None:
        while self._order and self._order[0][0] <= now - INTERVAL_S:
            at, old = self._order.popleft()
            if self._values.get(old, (None,))[0] == at:
                del self._values[old]
        found = self._values.get(key)
        return found[1] if found else None

    def set(self, key: str, value: V, now: float) -> None:
        self._values[key] = (now, value)
        self._order.append((now, key))

    def values(self) -> list[V]:
        """What is remembered, in the order in which it was set."""
        return [value for _, value in self._values.values()]

    def forget(self, key: str) -> None:
        self._values.pop(key, None)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a receive with a ReceiveRequestAttemptId gave, and the visibility that it set."""

    messages: tuple[Received, ...]
    epochs: tuple[int, ...]


class Deduplication:
    """Sends by deduplication id, receives by attempt id."""

    def __init__(self) -> None:
        self.sends: Recent[Message] = Recent()
        self.attempts: Recent[Attempt] = Recent()
