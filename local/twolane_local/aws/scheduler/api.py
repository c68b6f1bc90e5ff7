"""The API of EventBridge Scheduler: schedules and groups, in the REST-JSON protocol.

https://docs.aws.amazon.com/scheduler/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from twolane_local.aws.call import AwsRequest, AwsResponse
from twolane_local.aws.scheduler.expressions import NotFoundError, SchedulerError, ValidationError
from twolane_local.aws.scheduler.schedule import Schedule, from_properties
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.aws.scheduler.schedule import ScheduleBook
    from twolane_local.clock import Clock


def describe(schedule: Schedule) -> dict[str, Any]:
    """A schedule as GetSchedule returns it, without absent fields."""
    target = schedule.target
    window: dict[str, Any] = {"Mode": "OFF"}
    if schedule.window_s:
        minutes = int(schedule.window_s // 60)
        window = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": minutes}
    whole = {
        **_head(schedule),
        "ActionAfterCompletion": "DELETE" if schedule.delete_when_complete else "NONE",
        "Description": schedule.description,
        "StartDate": schedule.start,
        "EndDate": schedule.end,
        "FlexibleTimeWindow": window,
        "ScheduleExpression": schedule.text,
        "ScheduleExpressionTimezone": schedule.timezone,
        "Target": {
            **target.raw,
            "RetryPolicy": {
                "MaximumEventAgeInSeconds": int(target.age_s),
                "MaximumRetryAttempts": target.retries,
            },
        },
    }
    return {name: value for name, value in whole.items() if value is not None}


def summarise(schedule: Schedule) -> dict[str, Any]:
    """A schedule as ListSchedules returns it."""
    return {**_head(schedule), "Target": {"Arn": schedule.target.arn}}


def group_arn(name: str) -> str:
    return f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/{name}"


def describe_group(name: str, created: float) -> dict[str, Any]:
    return {
        "Arn": group_arn(name),
        "Name": name,
        "State": "ACTIVE",
        "CreationDate": created,
        "LastModificationDate": created,
    }


def _head(schedule: Schedule) -> dict[str, Any]:
    return {
        "Arn": schedule.arn,
        "Name": schedule.name,
        "GroupName": schedule.group,
        "State": "ENABLED" if schedule.enabled else "DISABLED",
        "CreationDate": schedule.created,
        "LastModificationDate": schedule.modified,
    }


_NAME = re.compile(r"[0-9a-zA-Z\-_.]{1,64}")
_PAGE = 100
_REQUIRED = ("ScheduleExpression", "Target", "FlexibleTimeWindow")
_BOUNDS = {"MaximumRetryAttempts": (0, 185), "MaximumEventAgeInSeconds": (60, 86_400)}

Query = dict[str, str]
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One call: the name in its path, its query and its body."""

    name: str
    query: Query
    body: Body


class SchedulerApi:
    """An ``AwsService`` on a book of schedules. Client tokens are accepted and ignored."""

    def __init__(self, book: ScheduleBook, clock: Clock) -> None:
        self._book, self._clock = book, clock
        self._routes: tuple[tuple[str, re.Pattern[str], Callable[[ApiCall], Body]], ...] = (
            ("GET", re.compile("/schedules"), self._list),
            ("POST", re.compile("/schedules/([^/]+)"), self._create),
            ("GET", re.compile("/schedules/([^/]+)"), self._get),
            ("PUT", re.compile("/schedules/([^/]+)"), self._update),
            ("DELETE", re.compile("/schedules/([^/]+)"), self._delete),
            ("GET", re.compile("/schedule-groups"), self._list_groups),
            ("POST", re.compile("/schedule-groups/([^/]+)"), self._create_group),
            ("GET", re.compile("/schedule-groups/([^/]+)"), self._get_group),
            ("DELETE", re.compile("/schedule-groups/([^/]+)"), self._delete_group),
        )

    async def __call__(self, request: AwsRequest) -> AwsResponse:
        try:
            return _response(200, self._dispatch(request))
        except SchedulerError as error:
            headers = {"x-amzn-errortype": error.code}
            return _response(error.status, {"Message": str(error)}, headers)

    def _dispatch(self, request: AwsRequest) -> Body:
        path = request.path.rstrip("/")
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        for method, pattern, operation in self._routes:
            match = pattern.fullmatch(path)
            if match is not None and method == request.method:
                name = _checked_name(unquote(match[1])) if match.groups() else ""
                return operation(ApiCall(name, query, _parse_body(request.body)))
        raise NotFoundError(f"the emulator's Scheduler has no {request.method} {request.path}")

    def _create(self, call: ApiCall) -> Body:
        schedule = self._schedule(call)
        self._book.add(schedule)
        return {"ScheduleArn": schedule.arn}

    def _update(self, call: ApiCall) -> Body:
        """Replace the whole schedule: absent fields go back to their defaults, as on AWS."""
        old = self._book.get(str(call.body.get("GroupName") or "default"), call.name)
        schedule = self._schedule(call, created=old.created)
        self._book.replace(schedule)
        return {"ScheduleArn": schedule.arn}

    def _get(self, call: ApiCall) -> Body:
        return describe(self._book.get(call.query.get("groupName", "default"), call.name))

    def _delete(self, call: ApiCall) -> Body:
        self._book.remove(self._book.get(call.query.get("groupName", "default"), call.name))
        return {}

    def _list(self, call: ApiCall) -> Body:
        group = call.query.get("ScheduleGroup")
        if group is not None and group not in self._book.groups:
            raise NotFoundError(f"Schedule group {group} does not exist.")
        found = [
            summarise(each)
            for each in sorted(self._book, key=lambda each: (each.group, each.name))
            if each.source == "scheduler"
            and group in (None, each.group)
            and each.name.startswith(call.query.get("NamePrefix", ""))
            and call.query.get("State") in (None, "ENABLED" if each.enabled else "DISABLED")
        ]
        return _page("Schedules", found, call.query)

    def _create_group(self, call: ApiCall) -> Body:
        self._book.add_group(call.name, self._clock.time())
        return {"ScheduleGroupArn": group_arn(call.name)}

    def _get_group(self, call: ApiCall) -> Body:
        if call.name not in self._book.groups:
            raise NotFoundError(f"Schedule group {call.name} does not exist.")
        return describe_group(call.name, self._book.groups[call.name])

    def _delete_group(self, call: ApiCall) -> Body:
        self._book.remove_group(call.name)
        return {}

    def _list_groups(self, call: ApiCall) -> Body:
        found = [
            describe_group(name, created)
            for name, created in sorted(self._book.groups.items())
            if name.startswith(call.query.get("NamePrefix", ""))
        ]
        return _page("ScheduleGroups", found, call.query)

    def _schedule(self, call: ApiCall, *, created: float | None = None) -> Schedule:
        _check(call.body)
        now = self._clock.time()
        return from_properties(call.name, call.body, now=now, created=created)


def _check(body: Mapping[str, Any]) -> None:
    missing = [field for field in _REQUIRED if not body.get(field)]
    target = body.get("Target") or {}
    missing += [f"Target.{field}" for field in ("Arn", "RoleArn") if not target.get(field)]
    if missing:
        raise ValidationError(f"{', '.join(missing)} must not be null")
    retry = target.get("RetryPolicy") or {}
    for field, (low, high) in _BOUNDS.items():
        if not low <= retry.get(field, high) <= high:
            raise ValidationError(f"Target.RetryPolicy.{field} must be {low} to {high}")
    if ":lambda:" in target["Arn"] and target.get("Input"):
        try:
            json.loads(target["Input"])
        except ValueError:
            raise ValidationError("Target.Input of a Lambda target must be JSON") from None


def _checked_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValidationError(f"{text!r} is not a name: use up to 64 letters, digits and . - _")
    return text


def _parse_body(raw: bytes) -> Body:
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        raise ValidationError("the request's body is not JSON") from None
    if not isinstance(body, dict):
        raise ValidationError("the request's body is not a JSON object")
    return body


def _page(field: str, found: list[Body], query: Query) -> Body:
    """A page of a list; the token is the index at which the next page begins."""
    try:
        start, size = int(query.get("NextToken", 0)), int(query.get("MaxResults", _PAGE))
    except ValueError:
        raise ValidationError("NextToken or MaxResults is not valid") from None
    if not 1 <= size <= _PAGE:
        raise ValidationError(f"MaxResults must be 1 to {_PAGE}")
    page: Body = {field: found[start : start + size]}
    if start + size < len(found):
        page["NextToken"] = str(start + size)
    return page


def _response(status: int, body: Body, headers: Mapping[str, str] | None = None) -> AwsResponse:
    common = {"content-type": "application/json", "x-amzn-requestid": str(uuid.uuid4())}
    return AwsResponse(status, json.dumps(body).encode(), {**common, **(headers or {})})
