from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from twolane.worker.deferral import Deferral
from twolane.worker.records import Record
from twolane.worker.scheduling import MAX_INPUT_BYTES, Schedules, entry, schedules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import RecordedQueues

ARN = "arn:aws:sqs:us-east-1:123456789012:tasks"
ROLE = "arn:aws:iam::123456789012:role/later"
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def record(body: str = '{"task": 1}', arn: str = ARN) -> Record:
    return Record("m1", "r1", body, arn)


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        client = boto3.client("scheduler", region_name="us-east-1")
        client.create_schedule_group(Name="delays")
        yield client


def test_an_entry_names_a_minute_before_and_deletes_itself() -> None:
    found = entry(record(), NOW + 3600, role_arn=ROLE, group="delays")
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
    assert name == entry(record(), NOW + 3600.5, role_arn=ROLE, group="delays")["Name"]
    assert name != entry(record("{}"), NOW + 3600, role_arn=ROLE, group="delays")["Name"]


def test_a_long_delay_becomes_one_entry_however_often_it_is_asked_for(
    scheduler: Any, queues: RecordedQueues
) -> None:
    import time

    deferral = Deferral(queues, Schedules(ROLE, "delays", scheduler))
    for _ in range(2):
        assert deferral.defer(record(), 7200, time.time()) is True
    (listed,) = scheduler.list_schedules(GroupName="delays")["Schedules"]
    found = scheduler.get_schedule(GroupName="delays", Name=listed["Name"])
    assert found["ActionAfterCompletion"] == "DELETE"
    assert found["Target"]["Input"] == '{"task": 1}'
    assert queues.sent == []


def test_up_to_fifteen_minutes_sqs_holds_it(scheduler: Any, queues: RecordedQueues) -> None:
    deferral = Deferral(queues, Schedules(ROLE, "delays", scheduler))
    assert deferral.defer(record(), 899.2, NOW) is True
    assert queues.sent == [(ARN, '{"task": 1}', 900, {})]
    assert scheduler.list_schedules(GroupName="delays")["Schedules"] == []


def test_without_a_scheduler_it_hops(queues: RecordedQueues) -> None:
    assert Deferral(queues).defer(record(), 90_000, NOW) is True
    assert [sent[2] for sent in queues.sent] == [900]


def test_a_body_too_big_for_a_schedule_hops(scheduler: Any, queues: RecordedQueues) -> None:
    big = record("x" * (MAX_INPUT_BYTES + 1))
    assert Deferral(queues, Schedules(ROLE, "delays", scheduler)).defer(big, 7200, NOW) is True
    assert [sent[2] for sent in queues.sent] == [900]


def test_a_fifo_queue_takes_no_delay(queues: RecordedQueues) -> None:
    assert Deferral(queues).defer(record(arn=f"{ARN}.fifo"), 10, NOW) is False
    assert queues.sent == []


def test_the_environment_configures_it() -> None:
    assert schedules({}) is None
    assert schedules({"TWOLANE_SCHEDULER_ROLE_ARN": ROLE}) is None
    found = schedules({"TWOLANE_SCHEDULER_ROLE_ARN": ROLE, "TWOLANE_SCHEDULER_GROUP": "delays"})
    assert found == Schedules(ROLE, "delays")
