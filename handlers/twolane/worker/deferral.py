"""Messages that are not due yet: sent again with a delay, never held in memory."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twolane.publish.errors import EnqueueError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane.worker.queues import QueueClient
    from twolane.worker.records import Record

logger = logging.getLogger("twolane.worker")

#: SQS's longest delay in seconds:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
LONGEST_DELAY_S = 900


class LongDelays(Protocol):
    """Who sends a message that is due later than SQS can delay it."""

    def schedule(self, queue_arn: str, body: str, due: float, *, exact: bool = True) -> bool:
        """Have the body sent to the queue at ``due`` (epoch seconds), or, where it need not be
        ``exact``, up to a minute later.

        ``False`` where that is not possible for this body; whatever goes wrong is raised.
        """


@dataclass(frozen=True, slots=True)
class Deferral:
    """Sends a copy of a record that becomes visible when it is due.

    The copy goes out before the original is deleted: a crash between the two leaves two messages
    with one task id, of which the lease lets one run.
    """

    queues: QueueClient
    long_delays: LongDelays | None = None

    def defer(self, record: Record, delay_s: float, now: float) -> bool:
        """Put the record off. ``False`` where the queue takes no delay for a single message.

        On a FIFO queue a delay belongs to the queue, not to the message; the original stays, and
        its visibility timeout carries the wait.
        """
        if record.is_fifo:
            return False
        if delay_s > LONGEST_DELAY_S and self._scheduled(record, now + delay_s):
            return True
        # Beyond the longest delay this is one hop: whoever receives it then puts it off again.
        self.queues.send(
            record.queue_arn,
            record.body,
            delay_s=min(math.ceil(delay_s), LONGEST_DELAY_S),
            attributes=sent_attributes(record.message_attributes),
        )
        return True

    def _scheduled(self, record: Record, due: float) -> bool:
        if self.long_delays is None:
            return False
        try:
            return self.long_delays.schedule(record.queue_arn, record.body, due)
        except EnqueueError as error:
            # If the entry was made after all, the task comes twice, and its lease lets one run.
            logger.warning("%s; the message waits on its queue instead", error)
            return False


def sent_attributes(received: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Message attributes in the shape of SendMessage, from the shape of an event."""
    shapes = {"stringValue": "StringValue", "binaryValue": "BinaryValue", "dataType": "DataType"}
    return {
        name: {
            shapes[key]: value for key, value in attribute.items() if key in shapes and value != ""
        }
        for name, attribute in received.items()
    }
