"""A stack's schedules, in the control API's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.inspect.stack.account import asked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.inspect.source import Json
    from twolane_local.inspect.stack.account import Account
    from twolane_local.inspect.stack.resources import Resources


def listed(account: Account, resources: Resources) -> list[Json]:
    """``Schedule`` of each, but for its next and last times, which EventBridge does not tell."""
    found = _scheduler(account, resources) + _rules(account, resources)
    return sorted(found, key=lambda schedule: str(schedule["name"]))


def beat_function(account: Account, resources: Resources) -> str:
    """The function that a schedule of the stack invokes. Raises ``LocalError`` unless it is one."""
    own = {each.physical_id for each in resources.of("AWS::Lambda::Function")}
    found = sorted({each["target"] for each in listed(account, resources)} & own)
    if len(found) != 1:
        raise LocalError(
            f"stack {resources.stack}: cannot tell which function is beat; name it with --function "
            f"(schedules invoke: {', '.join(found) or 'none'})"
        )
    return str(found[0])


def _scheduler(account: Account, resources: Resources) -> list[Json]:
    names = {each.physical_id for each in resources.of("AWS::Scheduler::Schedule")}
    if not names:
        return []
    client = account.client("scheduler")
    with asked("schedules"):
        pages = client.get_paginator("list_schedules").paginate()
        # Which group a schedule is in, CloudFormation does not say.
        summaries = [each for page in pages for each in page["Schedules"] if each["Name"] in names]
        return [
            of_scheduler(client.get_schedule(Name=each["Name"], GroupName=each["GroupName"]))
            for each in summaries
        ]


def _rules(account: Account, resources: Resources) -> list[Json]:
    rules = resources.of("AWS::Events::Rule")
    if not rules:
        return []
    client = account.client("events")
    found = []
    for each in rules:
        # A rule on a bus of its own is BUS|NAME to CloudFormation.
        bus, _, name = each.physical_id.rpartition("|")
        where = {"EventBusName": bus} if bus else {}
        with asked(f"rule {name}"):
            rule = client.describe_rule(Name=name, **where)
            if rule.get("ScheduleExpression"):
                targets = client.list_targets_by_rule(Rule=name, **where)["Targets"]
                found += [of_rule(rule, target) for target in targets]
    return found


def of_scheduler(schedule: Mapping[str, Any]) -> Json:
    """https://docs.aws.amazon.com/scheduler/latest/APIReference/API_GetSchedule.html"""
    return {
        "name": schedule["Name"],
        "group": schedule.get("GroupName", "default"),
        "source": "scheduler",
        "expression": schedule["ScheduleExpression"],
        "timezone": schedule.get("ScheduleExpressionTimezone", "UTC"),
        "enabled": schedule.get("State") == "ENABLED",
        "target": schedule["Target"]["Arn"].rpartition(":")[2],
    }


def of_rule(rule: Mapping[str, Any], target: Mapping[str, Any]) -> Json:
    """https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_DescribeRule.html"""
    return {
        "name": rule["Name"],
        "group": rule.get("EventBusName", "default"),
        "source": "rule",
        "expression": rule["ScheduleExpression"],
        "timezone": "UTC",
        "enabled": rule.get("State") == "ENABLED",
        "target": target["Arn"].rpartition(":")[2],
    }
