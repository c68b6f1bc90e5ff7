"""A group's messages, ten to a request.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from twolane.publish.client import ATTEMPTS, is_passing
from twolane.publish.errors import EnqueueBatchError, EnqueueError
from twolane.publish.message import MAX_BYTES, Entry, published

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane.publish.client import SqsClient
    from twolane.publish.transport import Channel, Target

MAX_ENTRIES = 10
#: Messages further apart than this, in seconds, do not wait for each other.
SLOW_S = 0.05


class Batch:
    """kombu's publish batch: what ``Producer.batch()`` feeds with each publish.

    A full request leaves at once, so a group of any size needs the memory of ten messages. What SQS
    refuses is tried again, and in the end raised by task id when the batch is flushed: the rest of
    the group goes out all the same. Where SQS does not answer at all, the batch ends there.
    """

    def __init__(
        self,
        channel: Channel,
        max_size: int,
        *,
        first_alone: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``first_alone``: nobody knows yet how long the second message takes to come."""
        self.channel = channel
        self._monotonic = monotonic
        self._last_added = -math.inf if first_alone else monotonic()
        self._max_entries = min(max_size, MAX_ENTRIES)
        self._waiting: dict[Target, list[Entry]] = {}
        self._failures: dict[str, str] = {}
        self._sent = 0

    def publish(self, message: dict[str, Any], **kwargs: Any) -> Any:
        """Route one message as ``basic_publish`` does; it comes back by ``add``."""
        return self.channel.basic_publish(message, batch=self, **kwargs)

    def add(self, target: Target, entry: Entry) -> None:
        """Keep one message; send what is full, and all if they come slowly: Celery draws a group's
        generator as it publishes, and one that takes its time must not hold them back.
        """
        slow = self._monotonic() - self._last_added > SLOW_S
        waiting = self._waiting.setdefault(target, [])
        if waiting and sum(kept.size for kept in waiting) + entry.size > MAX_BYTES:
            self._send(target)
            waiting = self._waiting.setdefault(target, [])
        waiting.append(entry)
        if len(waiting) >= self._max_entries:
            self._send(target)
        if slow:
            for each in tuple(self._waiting):
                self._send(each)
        # After sending: the time that SQS takes is not the generator's.
        self._last_added = self._monotonic()

    def flush(self) -> None:
        """Send what is kept. Raises ``EnqueueBatchError`` for all that SQS has refused so far."""
        for target in tuple(self._waiting):
            self._send(target)
        if self._failures:
            failures, self._failures = self._failures, {}
            raise EnqueueBatchError(failures, sent=self._sent)

    def discard(self) -> None:
        """Forget what is kept; what was sent stays sent."""
        self._waiting.clear()

    close = discard

    def _send(self, target: Target) -> None:
        waiting = self._waiting.pop(target, [])
        if not waiting:
            return
        try:
            refused = send_batch(self.channel.sqs, target, waiting)
        except EnqueueError as exc:
            unsent = {entry.task_id: str(exc) for entry in waiting}
            raise EnqueueBatchError({**self._failures, **unsent}, sent=self._sent) from exc
        self._failures.update(refused)
        self._sent += len(waiting) - len(refused)


def send_batch(client: SqsClient, target: Target, entries: list[Entry]) -> dict[str, str]:
    """Send at most ten messages; what SQS refused for good, by task id. A batch is answered with
    200 in any case; only a ``SenderFault`` is refused again, all else is tried again.
    """
    refused: dict[str, str] = {}
    for attempt in range(ATTEMPTS):
        numbered = [{"Id": str(number), **entry.fields} for number, entry in enumerate(entries)]
        answer = client.call("SendMessageBatch", target, {"Entries": numbered})
        left = dict(enumerate(entries))
        for taken in answer.get("Successful") or ():
            entry = left.pop(int(taken["Id"]))
            published(entry, target, str(taken.get("MessageId", "")))
        why = {entry.task_id: "SQS did not say whether it was taken" for entry in left.values()}
        for failed in answer.get("Failed") or ():
            number, code = int(failed["Id"]), str(failed.get("Code", ""))
            why[left[number].task_id] = f"{code} {failed.get('Message') or ''}".strip()
            if failed.get("SenderFault") and not is_passing(code):
                entry = left.pop(number)
                refused[entry.task_id] = why[entry.task_id]
        entries = list(left.values())
        if not entries:
            return refused
        if attempt + 1 < ATTEMPTS:
            client.pause(attempt)
    return {**refused, **{entry.task_id: why[entry.task_id] for entry in entries}}
