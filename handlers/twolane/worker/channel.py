"""The channel that Celery acknowledges on: it records what became of each message."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What became of a message. ``settlement`` says what SQS sees of it."""

    ACKNOWLEDGED = "acknowledged"  # done with: succeeded, failed and recorded, ignored, revoked …
    DUPLICATE = "duplicate"  # the same work was finished on an earlier delivery
    DEFERRED = "deferred"  # a copy is on its way, due later
    REQUEUED = "requeued"  # the task or Celery asked for another delivery
    REJECTED = "rejected"  # refused for good: for the dead-letter queue
    MALFORMED = "malformed"  # not a message that Celery can read, or not a task it knows
    RUNAWAY = "runaway"  # descends from one task too deep and too fast: for the dead-letter queue
    BUSY = "busy"  # another execution environment is at it
    POSTPONED = "postponed"  # not due, on a queue that takes no delay for a single message
    UNTOUCHED = "untouched"  # not started: no time left, or its group must wait
    BROKEN = "broken"  # something under Celery failed; the work is not safe


class Channel:
    """The part of kombu's channel that a received message uses."""

    #: kombu asks for the consumers that need no acknowledgement; there are none.
    no_ack_consumers = None

    def __init__(self) -> None:
        self._outcomes: dict[str, Outcome] = {}

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        if multiple:
            raise NotImplementedError("Celery acknowledges task messages one by one")
        self._outcomes.setdefault(delivery_tag, Outcome.ACKNOWLEDGED)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        outcome = Outcome.REQUEUED if requeue else Outcome.REJECTED
        self._outcomes.setdefault(delivery_tag, outcome)

    def mark(self, delivery_tag: str, outcome: Outcome) -> None:
        """Decide an outcome that acknowledging cannot express; it stands."""
        self._outcomes[delivery_tag] = outcome

    def take(self, delivery_tag: str) -> Outcome:
        """The outcome, forgotten here. A message that nobody settled is not safe."""
        return self._outcomes.pop(delivery_tag, Outcome.BROKEN)
