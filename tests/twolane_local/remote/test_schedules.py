from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from twolane_local.errors import LocalError
from twolane_local.remote.resources import (
    StackResource,
    StackResources,
    beat_function,
    list_schedules,
    read_resources,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.remote.account import Account

WORKER = "arn:aws:lambda:us-east-1:123456789012:function:shop-Worker"


@pytest.fixture
def tick(account: Account) -> Iterator[StackResource]:
    """moto's CloudFormation makes no Scheduler schedules, but its Scheduler does."""
    client = account.client("scheduler")
    client.create_schedule(
        Name="shop-tick", ScheduleExpression="rate(1 minute)", FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": WORKER, "RoleArn": "arn:aws:iam::123456789012:role/any"},
    )  # fmt: skip
    yield StackResource("Tick", "AWS::Scheduler::Schedule", "shop-tick")
    client.delete_schedule(Name="shop-tick")


def test_schedules_and_rules_in_the_shape_of_the_control_api(
    account: Account, stack: str, tick: StackResource
) -> None:
    found = read_resources(account, stack)
    assert list_schedules(account, replace(found, all=(*found.all, tick))) == [
        {"name": "shop-nightly", "group": "default", "source": "rule", "timezone": "UTC",
         "expression": "cron(0 3 * * ? *)", "enabled": True, "target": "shop-Api"},
        {"name": "shop-tick", "group": "default", "source": "scheduler", "timezone": "UTC",
         "expression": "rate(1 minute)", "enabled": True, "target": "shop-Worker"},
    ]  # fmt: skip


def test_a_stack_without_schedules_asks_nothing(account: Account) -> None:
    assert list_schedules(account, StackResources("empty", ())) == []


def test_beat_is_the_function_that_a_schedule_invokes(
    account: Account, stack: str, tick: StackResource
) -> None:
    found = read_resources(account, stack)
    assert beat_function(account, found) == "shop-Api"
    with pytest.raises(LocalError, match=r"--function \(schedules invoke: shop-Api, shop-Worker\)"):
        beat_function(account, replace(found, all=(*found.all, tick)))
