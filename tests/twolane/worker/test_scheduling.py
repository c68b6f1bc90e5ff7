from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from twolane.worker.aws import Scheduler
from twolane.worker.delay import MAX_INPUT_BYTES, Deferral, Schedules, entry, schedules
from twolane.worker.records import Record
from twolane_local.aws.scheduler.expressions import parse_expression

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .conftest import RecordedQueues

ARN = "arn:aws:sqs:us-east-1:123456789012:tasks"
ROLE = "arn:aws:iam::123456789012:role/later"
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


BODY = '{"task": 1}'


def record(body: str = BODY, arn: str = ARN) -> Record:
    return Record("m1", "r1", body, arn)


class Entries:
    """EventBridge Scheduler's entries, by name."""

    def __init__(self) -> None:
        self.made: dict[str, Mapping[str, Any]] = {}

    def create(self, region: str, entry: Mapping[str, Any]) -> None:
        assert region == "us-east-1"
        self.made.setdefault(entry["Name"], entry)


@pytest.fixture
def entries() -> Entries:
    return Entries()


def test_the_last_date_that_there_is_can_be_named(entries: Entries) -> None:
    due = datetime.fromisoformat("9999-12-31T23:59:59.999999-14:00").timestamp()
    assert Schedules(ROLE, "delays", entries).schedule(ARN, BODY, due, exact=False)
    (made,) = entries.made.values()
    assert made["ScheduleExpression"] == "at(9999-12-31T23:59:59)"
    assert parse_expression(made["ScheduleExpression"])


def test_an_entry_sends_once_and_deletes_itself() -> None:
    found = entry(ARN, BODY, NOW + 3540, role_arn=ROLE, group="delays")
    name = found.pop("Name")
    assert found == {
        "GroupName": "delays",
        "ScheduleExpression": "at(2027-01-15T08:59:00)",
        "ScheduleExpressionTimezone": "UTC",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": "DELETE",
        "Target": {"Arn": ARN, "RoleArn": ROLE, "Input": '{"task": 1}'},
    }
    assert len(name) <= 64
    assert name == entry(ARN, BODY, NOW + 3600.5, role_arn=ROLE, group="delays")["Name"]
    assert name != entry(ARN, "{}", NOW + 3600, role_arn=ROLE, group="delays")["Name"]


def test_a_long_delay_becomes_one_entry_however_often_it_is_asked_for(
    entries: Entries, queues: RecordedQueues
) -> None:
    deferral = Deferral(queues, Schedules(ROLE, "delays", entries))
    for late in range(2):
        assert deferral.defer(record(), 7200 - late, NOW + late) is True
    (made,) = entries.made.values()
    assert made == entry(ARN, BODY, NOW + 7140, role_arn=ROLE, group="delays")
    assert queues.sent == []


def test_an_exact_entry_names_a_minute_before_and_another_the_next_second(entries: Entries) -> None:
    made = Schedules(ROLE, "delays", entries)
    assert made.schedule(ARN, BODY, NOW + 3600.2) is True
    assert made.schedule(ARN, "{}", NOW + 3600.2, exact=False) is True
    exact, late = entries.made.values()
    assert exact["ScheduleExpression"] == "at(2027-01-15T08:59:00)"
    assert late["ScheduleExpression"] == "at(2027-01-15T09:00:01)"


def test_up_to_fifteen_minutes_sqs_holds_it(entries: Entries, queues: RecordedQueues) -> None:
    deferral = Deferral(queues, Schedules(ROLE, "delays", entries))
    assert deferral.defer(record(), 899.2, NOW) is True
    assert queues.sent == [(ARN, '{"task": 1}', 900, {})]
    assert entries.made == {}


def test_without_a_scheduler_it_hops(queues: RecordedQueues) -> None:
    assert Deferral(queues).defer(record(), 90_000, NOW) is True
    assert [sent[2] for sent in queues.sent] == [900]


def test_a_body_too_big_for_a_schedule_hops(entries: Entries, queues: RecordedQueues) -> None:
    big = record("x" * (MAX_INPUT_BYTES + 1))
    assert Deferral(queues, Schedules(ROLE, "delays", entries)).defer(big, 7200, NOW) is True
    assert [sent[2] for sent in queues.sent] == [900]


def test_a_fifo_queue_takes_no_delay(queues: RecordedQueues) -> None:
    assert Deferral(queues).defer(record(arn=f"{ARN}.fifo"), 10, NOW) is False
    assert queues.sent == []


def test_what_the_queue_does_not_take_has_somewhere_to_go(entries: Entries) -> None:
    dead = f"{ARN}-dead"
    assert Schedules(ROLE, "delays", entries, dead).schedule(ARN, BODY, NOW + 3600) is True
    assert Schedules(ROLE, "delays", entries).schedule(ARN, "{}", NOW + 3600) is True
    first, second = entries.made.values()
    assert first["Target"]["DeadLetterConfig"] == {"Arn": dead}
    assert "DeadLetterConfig" not in second["Target"]


def test_the_environment_configures_it() -> None:
    assert schedules({}) is None
    assert schedules({"TWOLANE_SCHEDULER_ROLE_ARN": ROLE}) is None
    found = schedules({"TWOLANE_SCHEDULER_ROLE_ARN": ROLE, "TWOLANE_SCHEDULER_GROUP": "delays"})
    assert found is not None
    assert (found.role_arn, found.group) == (ROLE, "delays")
    assert found.dead_letter_arn is None
    assert isinstance(found.scheduler, Scheduler)
    found = schedules(
        {
            "TWOLANE_SCHEDULER_ROLE_ARN": ROLE,
            "TWOLANE_SCHEDULER_GROUP": "delays",
            "TWOLANE_SCHEDULER_DEAD_LETTER_ARN": f"{ARN}-dead",
        }
    )
    assert found is not None
    assert found.dead_letter_arn == f"{ARN}-dead"
