"""Messages that are not due yet: sent again with a delay, never held in memory.

Up to fifteen minutes SQS itself delays a message. Beyond that a one-shot entry of EventBridge
Scheduler sends it, and deletes itself; without schedules the message comes back every fifteen
minutes and is put off again. A message that a task publishes with an ETA that far away, a retry
above all, goes to Scheduler at once: a message and an invocation less.

The entry's target is the task queue itself (a templated SendMessage), so no function runs in
between: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-templated.html
That one takes a message group for FIFO queues only; a message with one goes by SendMessage itself:
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html

Configured by the environment: ``TWOLANE_SCHEDULER_ROLE_ARN``, the role that Scheduler assumes to
send to the queue, and ``TWOLANE_SCHEDULER_GROUP``, the schedule group the entries live in. The
function needs ``scheduler:CreateSchedule`` on the group and ``iam:PassRole`` on the role. A message
that the queue does not take ends on ``TWOLANE_SCHEDULER_DEAD_LETTER_ARN``, to which the role must
be allowed to send; where that is not set, Scheduler drops the message after a day.
https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from twolane.publish.errors import EnqueueError
from twolane.publish.message import later
from twolane.publish.transport import domain_of
from twolane.worker.aws import Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twolane.publish.transport import Target
    from twolane.worker.aws import QueueClient
    from twolane.worker.records import Record

logger = logging.getLogger("twolane.worker")

#: SQS's longest delay in seconds:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
LONGEST_DELAY_S = 900


class LongDelays(Protocol):
    """Sends messages that are due later than SQS can delay them."""

    def schedule(
        self,
        queue_arn: str,
        body: str,
        due: float,
        *,
        exact: bool = True,
        group_id: str | None = None,
    ) -> bool:
        """Have the body sent to the queue at ``due`` (epoch seconds), or up to a minute later if
        not ``exact``. ``False``: not possible for this body. Raises ``EnqueueError``.
        """


@dataclass(frozen=True, slots=True)
class Deferral:
    """Sends a copy of a record that becomes visible when it is due, before the original is deleted:
    a crash between the two leaves two messages with one task id, of which the lease lets one run.
    """

    queues: QueueClient
    long_delays: LongDelays | None = None

    def defer(self, record: Record, delay_s: float, now: float) -> bool:
        """Put the record off. ``False`` where the queue takes no delay for a single message: on a
        FIFO queue the original stays, and its visibility timeout carries the wait.
        """
        if record.is_fifo:
            return False
        delays = self.long_delays if delay_s > LONGEST_DELAY_S else None
        due, group = now + delay_s, record.group_id
        if delays and _scheduled(delays, record.queue_arn, record.body, due, group_id=group):
            return True
        # Beyond the longest delay this is one hop: its receiver puts it off again.
        self.queues.send(
            record.queue_arn,
            record.body,
            delay_s=min(math.ceil(delay_s), LONGEST_DELAY_S),
            attributes=sent_attributes(record.message_attributes),
            group_id=record.group_id,
        )
        return True


def _scheduled(delays: LongDelays, arn: str, body: str, due: float, **options: Any) -> bool:
    try:
        return delays.schedule(arn, body, due, **options)
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


@contextmanager
def postponing(long_delays: LongDelays, records: Iterable[Record]) -> Iterator[None]:
    """Inside, a message to one of the records' own queues that is due late enough is scheduled. The
    role that schedules send with need not reach another queue, which a schedule finds out too late.
    """
    arns = {_address(record.queue_arn): record.queue_arn for record in records if record.queue_arn}

    def send(target: Target, body: str, due: float, exact: bool, group_id: str | None) -> bool:
        account, name = target.queue_url.rsplit("/", 2)[-2:]
        queue_arn = arns.get((target.region, account, name))
        if queue_arn is None:
            return False
        return _scheduled(long_delays, queue_arn, body, due, exact=exact, group_id=group_id)

    token = later.set(send)
    try:
        yield
    finally:
        later.reset(token)


def _address(queue_arn: str) -> tuple[str, str, str]:
    region, account, name = queue_arn.split(":")[3:6]
    return region, account, name


#: Scheduler calls its target within the minute after the time that an entry names. An exact one
#: names a minute early; the worker then puts off the rest with SQS's delay, exact to a second.
#: https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
LEAD_S = 60.0

#: The last second that a date can name, in epoch seconds: 9999-12-31T23:59:59 UTC.
_LAST = 253_402_300_799

#: The longest input of a schedule, in bytes:
#: https://docs.aws.amazon.com/scheduler/latest/APIReference/API_Target.html
MAX_INPUT_BYTES = 262_144


class Creator(Protocol):
    """EventBridge Scheduler, as far as it is needed: ``twolane.worker.aws.Scheduler``."""

    def create(self, region: str, entry: Mapping[str, Any]) -> None:
        """Create an entry, unless there is one of its name. Raises ``EnqueueError``."""


@dataclass(frozen=True, slots=True)
class Schedules:
    """Creates one entry a message."""

    role_arn: str
    group: str
    scheduler: Creator
    dead_letter_arn: str | None = None

    def schedule(
        self,
        queue_arn: str,
        body: str,
        due: float,
        *,
        exact: bool = True,
        group_id: str | None = None,
    ) -> bool:
        """Have the body sent at ``due`` (epoch seconds); ``False``: too big for that.

        Not ``exact``: up to a minute late, for one message and one invocation less.

        The entry's name is made from the body, which holds the task's id and its ETA: a second
        delivery finds the entry there already and adds none.
        """
        at = due - LEAD_S if exact else math.ceil(due)
        one = entry(queue_arn, body, at, role_arn=self.role_arn, group=self.group)
        if group_id is not None:
            one["Target"].update(in_a_group(queue_arn, body, group_id))
        if len(one["Target"]["Input"].encode()) > MAX_INPUT_BYTES:
            return False
        if self.dead_letter_arn:
            one["Target"]["DeadLetterConfig"] = {"Arn": self.dead_letter_arn}
        self.scheduler.create(queue_arn.split(":")[3], one)
        return True


def entry(queue_arn: str, body: str, at: float, *, role_arn: str, group: str) -> dict[str, Any]:
    """The arguments of CreateSchedule for ``at`` (epoch seconds), as a pure function:
    https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html
    """
    digest = hashlib.blake2b(body.encode(), digest_size=16).hexdigest()
    moment = datetime.fromtimestamp(min(at, _LAST), UTC)
    return {
        "Name": f"twolane-{digest}",
        "GroupName": group,
        "ScheduleExpression": f"at({moment:%Y-%m-%dT%H:%M:%S})",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {"Arn": queue_arn, "RoleArn": role_arn, "Input": body},
    }


def in_a_group(queue_arn: str, body: str, group_id: str) -> dict[str, Any]:
    """The target of an entry that sends the body with a message group."""
    partition, _, region, account, name = queue_arn.split(":")[1:6]
    url = f"https://sqs.{region}.{domain_of(region)}/{account}/{name}"
    request = {"QueueUrl": url, "MessageBody": body, "MessageGroupId": group_id}
    return {
        "Arn": f"arn:{partition}:scheduler:::aws-sdk:sqs:sendMessage",
        "Input": json.dumps(request),
    }


def schedules(environ: Mapping[str, str]) -> Schedules | None:
    """The schedules that the environment configures; without them long delays go in hops."""
    role_arn = environ.get("TWOLANE_SCHEDULER_ROLE_ARN")
    group = environ.get("TWOLANE_SCHEDULER_GROUP")
    if not role_arn or not group:
        return None
    dead_letter_arn = environ.get("TWOLANE_SCHEDULER_DEAD_LETTER_ARN") or None
    return Schedules(role_arn, group, Scheduler(environ), dead_letter_arn)
