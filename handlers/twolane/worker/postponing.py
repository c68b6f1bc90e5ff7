"""What a task publishes with an ETA beyond SQS's longest delay, a retry above all.

Sent to the queue, it would come back after fifteen minutes only to be put off once more; where
schedules are configured it goes to one at once: a message and an invocation less.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from twolane.publish.delay import later
from twolane.publish.errors import EnqueueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twolane.publish.target import Target
    from twolane.worker.deferral import LongDelays
    from twolane.worker.records import Record

logger = logging.getLogger("twolane.worker")


def postponing(
    long_delays: LongDelays | None, records: Iterable[Record]
) -> AbstractContextManager[None]:
    """Inside, what is published to the records' own queues and due late enough is scheduled.

    To their queues only: the role that schedules send with need not reach another one, which a
    schedule would find out too late to tell anybody.
    """
    return nullcontext() if long_delays is None else _postponing(long_delays, records)


@contextmanager
def _postponing(long_delays: LongDelays, records: Iterable[Record]) -> Iterator[None]:
    arns = {_address(record.queue_arn): record.queue_arn for record in records if record.queue_arn}

    def send(target: Target, body: str, due: float, exact: bool) -> bool:
        account, name = target.queue_url.rsplit("/", 2)[-2:]
        queue_arn = arns.get((target.region, account, name))
        if queue_arn is None:
            return False
        try:
            return long_delays.schedule(queue_arn, body, due, exact=exact)
        except EnqueueError as error:
            # If it was made after all, the task comes twice, and its lease lets one run.
            logger.warning("%s; the message waits on its queue instead", error)
            return False

    token = later.set(send)
    try:
        yield
    finally:
        later.reset(token)


def _address(queue_arn: str) -> tuple[str, str, str]:
    region, account, name = queue_arn.split(":")[3:6]
    return region, account, name
