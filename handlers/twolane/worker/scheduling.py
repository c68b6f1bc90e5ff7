"""Delays beyond fifteen minutes: a one-shot EventBridge Scheduler entry that deletes itself.

The entry's target is the task queue itself (a templated SendMessage), so nothing of ours runs in
between: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-templated.html

Configured by the environment: ``TWOLANE_SCHEDULER_ROLE_ARN``, the role that Scheduler assumes to
send to the queue, and ``TWOLANE_SCHEDULER_GROUP``, the schedule group the entries live in. The
function needs ``scheduler:CreateSchedule`` on the group and ``iam:PassRole`` on the role. A message
that the queue does not take ends on ``TWOLANE_SCHEDULER_DEAD_LETTER_ARN``, to which the role must
be allowed to send; where that is not set, Scheduler drops the message after a day.
https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Scheduler calls its target within the minute after the time that an entry names. An exact one
#: names a minute early; the worker then puts off what is left with SQS's delay, exact to a second.
#: https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
LEAD_S = 60.0

#: The last second that a date can name, in epoch seconds: 9999-12-31T23:59:59 UTC.
_LAST = 253_402_300_799

#: The longest input of a schedule, in bytes:
#: https://docs.aws.amazon.com/scheduler/latest/APIReference/API_Target.html
MAX_INPUT_BYTES = 262_144


class Creator(Protocol):
    """EventBridge Scheduler, as far as it is needed: ``twolane.worker.scheduler.Scheduler``."""

    def create(self, region: str, entry: Mapping[str, Any]) -> None:
        """Create an entry, unless there is one of its name; whatever goes wrong is raised."""


@dataclass(frozen=True, slots=True)
class Schedules:
    """Creates one entry a message."""

    role_arn: str
    group: str
    scheduler: Creator
    dead_letter_arn: str | None = None

    def schedule(self, queue_arn: str, body: str, due: float, *, exact: bool = True) -> bool:
        """Have the body sent at ``due`` (epoch seconds); ``False``: too big for that.

        Not ``exact``: up to a minute late, for one message and one invocation less.

        The entry's name is made from the body, which holds the task's id and its ETA: a second
        delivery finds the entry there already and adds none.
        """
        if len(body.encode()) > MAX_INPUT_BYTES:
            return False
        at = due - LEAD_S if exact else math.ceil(due)
        one = entry(queue_arn, body, at, role_arn=self.role_arn, group=self.group)
        if self.dead_letter_arn:
            one["Target"]["DeadLetterConfig"] = {"Arn": self.dead_letter_arn}
        self.scheduler.create(queue_arn.split(":")[3], one)
        return True


def entry(queue_arn: str, body: str, at: float, *, role_arn: str, group: str) -> dict[str, Any]:
    """The arguments of CreateSchedule for ``at`` (epoch seconds), as a pure function.

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


def schedules(environ: Mapping[str, str]) -> Schedules | None:
    """What the environment configures; ``None`` where it does not, and delays go in hops."""
    role_arn, group = (
        environ.get("TWOLANE_SCHEDULER_ROLE_ARN"),
        environ.get("TWOLANE_SCHEDULER_GROUP"),
    )
    if not role_arn or not group:
        return None
    from twolane.worker.scheduler import Scheduler

    dead_letter_arn = environ.get("TWOLANE_SCHEDULER_DEAD_LETTER_ARN") or None
    return Schedules(role_arn, group, Scheduler(environ), dead_letter_arn)
