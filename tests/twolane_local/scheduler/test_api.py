"""Scheduler's API as botocore sees it: its requests are serialised and our answers parsed by it."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from twolane_local.aws.call import AwsRequest
from twolane_local.aws.scheduler.api import SchedulerApi
from twolane_local.aws.scheduler.schedule import ScheduleBook, from_properties

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient

NOW = 1_767_225_600.0
ROLE = "arn:aws:iam::123456789012:role/scheduler"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:tasks"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:beat"
TARGET: Any = {"Arn": QUEUE, "RoleArn": ROLE, "Input": "hello"}
OFF: Any = {"Mode": "OFF"}


class Still:
    """A clock that stands still until the test moves it."""

    now = NOW

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None: ...

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        return event.is_set()


class Body(io.BytesIO):
    def stream(self, **_: Any) -> Any:
        yield self.read()


@pytest.fixture
def clock() -> Still:
    return Still()


@pytest.fixture
def book() -> ScheduleBook:
    return ScheduleBook()


@pytest.fixture
def scheduler(book: ScheduleBook, clock: Still) -> EventBridgeSchedulerClient:
    api = SchedulerApi(book, clock)
    client = boto3.client(
        "scheduler",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        endpoint_url="http://127.0.0.1:9",
    )

    def answer(request: Any, **_: Any) -> AWSResponse:
        url = urlsplit(request.url)
        body = request.body or b""
        asked = AwsRequest(
            method=request.method,
            path=url.path,
            query=url.query,
            body=body.encode() if isinstance(body, str) else body,
            service="scheduler",
        )
        response = asyncio.run(api(asked))
        return AWSResponse(request.url, response.status, response.headers, Body(response.body))

    client.meta.events.register("before-send.scheduler", answer)
    return client


def test_a_schedule_from_its_making_to_its_end(
    scheduler: EventBridgeSchedulerClient, book: ScheduleBook, clock: Still
) -> None:
    arn = "arn:aws:scheduler:us-east-1:123456789012:schedule/default/once"
    made = scheduler.create_schedule(
        Name="once",
        ScheduleExpression="at(2026-01-01T03:00:00)",
        ScheduleExpressionTimezone="Europe/Berlin",
        FlexibleTimeWindow=OFF,
        ActionAfterCompletion="DELETE",
        Description="one of them",
        Target={**TARGET, "RetryPolicy": {"MaximumRetryAttempts": 3}},
    )
    assert made["ScheduleArn"] == arn
    shown = scheduler.get_schedule(Name="once")
    del shown["ResponseMetadata"]  # type: ignore[misc]
    at = datetime.fromtimestamp(NOW, UTC)
    assert shown == {
        "Arn": arn,
        "Name": "once",
        "GroupName": "default",
        "State": "ENABLED",
        "CreationDate": at,
        "LastModificationDate": at,
        "ActionAfterCompletion": "DELETE",
        "Description": "one of them",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ScheduleExpression": "at(2026-01-01T03:00:00)",
        "ScheduleExpressionTimezone": "Europe/Berlin",
        "Target": {
            "Arn": QUEUE,
            "RoleArn": ROLE,
            "Input": "hello",
            "RetryPolicy": {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 86400},
        },
    }
    [schedule] = book
    assert schedule.after(0) == NOW + 2 * 3600
    scheduler.delete_schedule(Name="once")
    assert list(book) == []
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.get_schedule(Name="once")


def test_a_change_replaces_everything(scheduler: EventBridgeSchedulerClient, clock: Still) -> None:
    start, end = (datetime(2026, month, 1, tzinfo=UTC) for month in (2, 3))
    scheduler.create_schedule(
        Name="s",
        ScheduleExpression="rate(1 hour)",
        FlexibleTimeWindow={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15},
        StartDate=start,
        EndDate=end,
        Target=TARGET,
    )
    before = scheduler.get_schedule(Name="s")
    assert (before["StartDate"], before["EndDate"]) == (start, end)
    assert before["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15}
    clock.now += 60
    scheduler.update_schedule(
        Name="s",
        ScheduleExpression="cron(0 7 * * ? *)",
        FlexibleTimeWindow=OFF,
        State="DISABLED",
        Target={"Arn": FUNCTION, "RoleArn": ROLE},
    )
    after = scheduler.get_schedule(Name="s")
    assert "StartDate" not in after
    assert after["FlexibleTimeWindow"] == OFF
    assert after["State"] == "DISABLED"
    assert after["Target"]["Arn"] == FUNCTION
    assert "Input" not in after["Target"]
    assert after["CreationDate"] == before["CreationDate"]
    assert (after["LastModificationDate"] - before["LastModificationDate"]).total_seconds() == 60


def test_two_of_one_name(scheduler: EventBridgeSchedulerClient) -> None:
    def make() -> None:
        scheduler.create_schedule(
            Name="s", ScheduleExpression="rate(1 hour)", FlexibleTimeWindow=OFF, Target=TARGET
        )

    make()
    with pytest.raises(scheduler.exceptions.ConflictException, match="already exists"):
        make()


def test_groups(scheduler: EventBridgeSchedulerClient, book: ScheduleBook) -> None:
    made = scheduler.create_schedule_group(Name="late")
    assert made["ScheduleGroupArn"].endswith(":schedule-group/late")
    with pytest.raises(scheduler.exceptions.ConflictException):
        scheduler.create_schedule_group(Name="late")
    for group in ("default", "late"):
        scheduler.create_schedule(
            Name="s",
            GroupName=group,
            ScheduleExpression="rate(1 hour)",
            FlexibleTimeWindow=OFF,
            Target=TARGET,
        )
    assert scheduler.get_schedule(Name="s", GroupName="late")["GroupName"] == "late"
    assert scheduler.get_schedule_group(Name="late")["State"] == "ACTIVE"
    names = [each["Name"] for each in scheduler.list_schedule_groups()["ScheduleGroups"]]
    assert names == ["default", "late"]
    scheduler.delete_schedule_group(Name="late")
    assert [each.group for each in book] == ["default"]
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.delete_schedule_group(Name="default")
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException, match="late"):
        scheduler.create_schedule(
            Name="t",
            GroupName="late",
            ScheduleExpression="rate(1 hour)",
            FlexibleTimeWindow=OFF,
            Target=TARGET,
        )


def test_lists_are_filtered_and_come_in_pages(
    scheduler: EventBridgeSchedulerClient, book: ScheduleBook
) -> None:
    for number in range(7):
        scheduler.create_schedule(
            Name=f"{'odd' if number % 2 else 'even'}-{number}",
            ScheduleExpression="rate(1 hour)",
            FlexibleTimeWindow=OFF,
            State="DISABLED" if number == 5 else "ENABLED",
            Target=TARGET,
        )
    properties = {"ScheduleExpression": "rate(1 hour)", "Target": {"Arn": FUNCTION}}
    book.add(from_properties("rule", properties, now=NOW, source="rule"))
    pages = scheduler.get_paginator("list_schedules").paginate(PaginationConfig={"PageSize": 2})
    found = [each["Name"] for page in pages for each in page["Schedules"]]
    assert found == ["even-0", "even-2", "even-4", "even-6", "odd-1", "odd-3", "odd-5"]
    odd = scheduler.list_schedules(NamePrefix="odd", State="ENABLED")["Schedules"]
    assert [each["Name"] for each in odd] == ["odd-1", "odd-3"]
    assert odd[0]["Target"] == {"Arn": QUEUE}
    with pytest.raises(scheduler.exceptions.ResourceNotFoundException):
        scheduler.list_schedules(GroupName="none")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("ScheduleExpression", "every hour", "rate"),
        ("ScheduleExpression", "cron(0 7 * * *)", "six"),
        ("ScheduleExpressionTimezone", "Mars/Olympus", "time zone"),
        ("FlexibleTimeWindow", {"Mode": "FLEXIBLE"}, "MaximumWindowInMinutes"),
        ("Target", {"Arn": FUNCTION, "RoleArn": ROLE, "Input": "no json"}, "JSON"),
    ],
)
def test_what_aws_refuses(
    scheduler: EventBridgeSchedulerClient, field: str, value: Any, reason: str
) -> None:
    given: dict[str, Any] = {
        "Name": "s",
        "ScheduleExpression": "rate(1 hour)",
        "FlexibleTimeWindow": OFF,
        "Target": TARGET,
        field: value,
    }
    with pytest.raises(scheduler.exceptions.ValidationException, match=reason):
        scheduler.create_schedule(**given)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (AwsRequest("POST", "/schedules/s"), 400),
        (AwsRequest("POST", "/schedules/s", body=b"[]"), 400),
        (AwsRequest("POST", "/schedules/s", body=b"{"), 400),
        (AwsRequest("POST", "/schedules/a%20b", body=b"{}"), 400),
        (AwsRequest("POST", "/schedules/" + "x" * 65, body=b"{}"), 400),
        (AwsRequest("GET", "/schedules/a/b"), 404),
        (AwsRequest("GET", "/tags/arn"), 404),
        (AwsRequest("PATCH", "/schedules/s"), 404),
    ],
)
def test_what_botocore_would_not_send(
    book: ScheduleBook, clock: Still, asked: AwsRequest, status: int
) -> None:
    answer = asyncio.run(SchedulerApi(book, clock)(asked))
    assert answer.status == status
    assert answer.headers["x-amzn-errortype"]


@pytest.mark.parametrize("query", ["MaxResults=0", "MaxResults=x", "NextToken=x"])
def test_a_page_that_is_none(book: ScheduleBook, clock: Still, query: str) -> None:
    answer = asyncio.run(SchedulerApi(book, clock)(AwsRequest("GET", "/schedules", query)))
    assert answer.status == 400
