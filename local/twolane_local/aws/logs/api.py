"""The CloudWatch Logs API for the log groups of functions; moto answers for all other groups.

https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_Operations.html

What a group has beside its events, such as its retention or its subscription filters, is moto's for
each group.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from twolane_local.aws.call import AwsResponse
from twolane_local.aws.lambda_.api import message as event_message
from twolane_local.aws.logs.filter_patterns import InvalidPatternError, compiled
from twolane_local.aws.logs.groups import OVERHEAD
from twolane_local.aws.rest_json import RefusedError, validation_error
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Container, Iterable

    from twolane_local.aws.call import AwsRequest, AwsService
    from twolane_local.aws.logs.filter_patterns import Matches
    from twolane_local.aws.logs.groups import Event, Group, Groups, Stream
    from twolane_local.clock import Clock

    Parameters = dict[str, Any]

_TARGET = "Logs_20140328."
#: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html
_MOST_EVENTS, _MOST_BYTES = 10_000, 1 << 20
_LATEST = (1 << 63) - 1
#: PutLogEvents takes events of the last 14 days, up to two hours ahead:
#: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
_OLDEST_MS, _NEWEST_MS = 14 * 86_400_000, 2 * 3_600_000
#: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_StartLiveTail.html
_TAIL_EVERY_S, _TAIL_EVENTS, _TAIL_S = 1.0, 500, 3 * 3600


class _ApiError(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _invalid(message: str) -> _ApiError:
    return _ApiError("InvalidParameterException", message)


_NO_GROUP = "The specified log group does not exist."
_NO_STREAM = "The specified log stream does not exist."


class LogsApi:
    """Answers CloudWatch Logs calls; an ``AwsService``."""

    def __init__(
        self,
        groups: Groups,
        elsewhere: AwsService,
        declared: Callable[[], Container[str]],
        clock: Clock,
    ) -> None:
        """``elsewhere`` answers for groups that no function writes to; ``declared`` returns the
        names of the groups that functions write to, whether they have done so yet or not.
        """
        self._groups, self._elsewhere = groups, elsewhere
        self._declared, self._clock = declared, clock
        self._operations: dict[str, Callable[[Group, Parameters], Parameters]] = {
            "DescribeLogStreams": _describe_streams,
            "GetLogEvents": _get_events,
            "FilterLogEvents": _filter_events,
            "PutLogEvents": self._put_events,
            "CreateLogStream": _create_stream,
            "DeleteLogStream": self._delete_stream,
        }

    async def __call__(self, request: AwsRequest) -> AwsResponse:
        operation = request.headers.get("x-amz-target", "").removeprefix(_TARGET)
        try:
            parameters = _parsed(request.body)
            if operation == "StartLiveTail":
                _validate(operation, parameters)
                return await self._live_tail(parameters, request)
            if operation == "DescribeLogGroups":
                _validate(operation, parameters)
                return _answer(await self._describe_groups(parameters, request), request)
            name = _group_name(parameters)
            group = await self._ours(name, request) if name else None
            if operation in self._operations and (group or not name):
                _validate(operation, parameters)
                if group is None:
                    raise _invalid("Log group name or log group identifier must be specified.")
                return _answer(self._operations[operation](group, parameters), request)
        except _ApiError as error:
            body = {"__type": error.kind, "message": str(error)}
            return _answer(body, request, status=400)
        if group is not None:
            if operation == "CreateLogGroup":
                text = "The specified log group already exists"
                body = {"__type": "ResourceAlreadyExistsException", "message": text}
                return _answer(body, request, status=400)
            if not await self._in_moto(group.name, request):
                await self._moto(request, "CreateLogGroup", {"logGroupName": group.name})
            if operation == "DeleteLogGroup":
                self._groups.delete(group.name)
        return await self._elsewhere(request)

    async def _ours(self, name: str, request: AwsRequest) -> Group | None:
        """The group if functions write to it and it exists."""
        group = self._groups.get(name)
        if group is None and name in self._declared() and await self._in_moto(name, request):
            return self._groups.group(name)
        return group

    async def _moto(self, request: AwsRequest, operation: str, parameters: Parameters) -> Any:
        """The answer of another call to moto; ``None`` if it refuses."""
        headers = {**request.headers, "x-amz-target": f"{_TARGET}{operation}"}
        body = json.dumps(parameters).encode()
        answer = await self._elsewhere(replace(request, headers=headers, body=body))
        return json.loads(answer.body or b"{}") if answer.status == 200 else None

    async def _in_moto(self, name: str, request: AwsRequest) -> bool:
        found = await self._moto(request, "DescribeLogGroups", {"logGroupNamePrefix": name})
        return any(each["logGroupName"] == name for each in (found or {}).get("logGroups", ()))

    async def _describe_groups(self, parameters: Parameters, request: AwsRequest) -> Parameters:
        prefix, part = parameters.get("logGroupNamePrefix"), parameters.get("logGroupNamePattern")
        if prefix and part:
            raise _invalid(
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."
            )
        known: dict[str, Parameters] = {}
        token: str | None = None
        while True:
            asked = {"logGroupNamePrefix": prefix} if prefix else {}
            page = await self._moto(
                request, "DescribeLogGroups", asked | ({"nextToken": token} if token else {})
            )
            known |= {each["logGroupName"]: each for each in (page or {}).get("logGroups", ())}
            token = (page or {}).get("nextToken")
            if not token:
                break
        for group in self._groups:
            shown = known.setdefault(group.name, _described(group))
            shown["storedBytes"] = group.bytes
        wanted = [
            each
            for name, each in sorted(known.items())
            if name.startswith(prefix or "") and (part or "") in name
        ]
        after = parameters.get("nextToken", "")
        rest = [each for each in wanted if each["logGroupName"] > after]
        shown_now = rest[: parameters.get("limit", 50)]
        more = {"nextToken": shown_now[-1]["logGroupName"]} if len(shown_now) < len(rest) else {}
        return {"logGroups": shown_now, **more}

    def _put_events(self, group: Group, parameters: Parameters) -> Parameters:
        stream = _stream(group, parameters)
        given = parameters["logEvents"]
        times = [each["timestamp"] for each in given]
        if times != sorted(times):
            raise _invalid(
                "Log events in a single PutLogEvents request must be in chronological order."
            )
        now = int(self._clock.time() * 1000)
        old = sum(1 for at in times if at < now - _OLDEST_MS)
        new = sum(1 for at in times if at > now + _NEWEST_MS)
        for each in given[old : len(given) - new]:
            group.put(stream, each["message"].encode("utf-8", "replace"), each["timestamp"])
        rejected = {
            **({"tooOldLogEventEndIndex": old} if old else {}),
            **({"tooNewLogEventStartIndex": len(given) - new} if new else {}),
        }
        token = f"{group.last_number:056d}"
        return {
            "nextSequenceToken": token, **({"rejectedLogEventsInfo": rejected} if rejected else {})
        }  # fmt: skip

    def _delete_stream(self, group: Group, parameters: Parameters) -> Parameters:
        self._groups.delete(group.name, _stream(group, parameters).name)
        return {}

    async def _live_tail(self, parameters: Parameters, request: AwsRequest) -> AwsResponse:
        names = [_name_of(each) for each in parameters["logGroupIdentifiers"]]
        groups = [await self._ours(name, request) for name in names]
        found = [group for group in groups if group is not None]
        if len(found) < len(groups):
            raise _ApiError("ResourceNotFoundException", _NO_GROUP)
        matches = _pattern(parameters.get("logEventFilterPattern"))
        streams = parameters.get("logStreamNames")
        prefixes = tuple(parameters.get("logStreamNamePrefixes") or ())
        if streams and prefixes:
            raise _invalid("Only one of logStreamNames and logStreamNamePrefixes can be specified.")

        def wanted(event: Event) -> bool:
            if streams and event.stream not in streams:
                return False
            return (not prefixes or event.stream.startswith(prefixes)) and matches(event.message)

        start = {
            "requestId": request.request_id,
            "sessionId": str(uuid.uuid4()),
            "logGroupIdentifiers": [_arn(group.name).removesuffix(":*") for group in found],
            "logStreamNames": streams or [],
            "logStreamNamePrefixes": list(prefixes),
            "logEventFilterPattern": parameters.get("logEventFilterPattern", ""),
        }
        headers = {
            "content-type": "application/vnd.amazon.eventstream",
            "x-amzn-requestid": request.request_id,
        }
        events = self._tail(found, start, wanted)
        return AwsResponse(200, b"", headers, events, endless=True)

    async def _tail(
        self, groups: Iterable[Group], start: Parameters, wanted: Callable[[Event], bool]
    ) -> AsyncIterator[bytes]:
        read = {group: group.last_number for group in groups}
        yield _event("initial-response", {})
        yield _event("sessionStart", start)
        ends = self._clock.time() + _TAIL_S
        while self._clock.time() < ends:
            await self._clock.sleep(_TAIL_EVERY_S)
            found: list[Parameters] = []
            for group, number in read.items():
                events = group.since(number)
                read[group] = group.last_number
                found += [
                    {
                        "logGroupIdentifier": f"{ACCOUNT}:{group.name}",
                        "logStreamName": event.stream,
                        "timestamp": event.at,
                        "ingestionTime": event.ingested,
                        "message": event.message,
                    }
                    for event in events
                    if wanted(event)
                ]
            metadata = {"sampled": len(found) > _TAIL_EVENTS}
            shown = found[:_TAIL_EVENTS]
            yield _event("sessionUpdate", {"sessionMetadata": metadata, "sessionResults": shown})


def _event(kind: str, value: Parameters) -> bytes:
    headers = {
        ":message-type": "event", ":event-type": kind, ":content-type": "application/json"
    }  # fmt: skip
    return event_message(headers, json.dumps(value).encode())


def _describe_streams(group: Group, parameters: Parameters) -> Parameters:
    prefix = parameters.get("logStreamNamePrefix", "")
    by_time = parameters.get("orderBy") == "LastEventTime"
    if by_time and prefix:
        raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")

    def key(stream: Stream) -> tuple[int, str]:
        return ((stream.last or 0) if by_time else 0, stream.name)

    backwards = bool(parameters.get("descending"))
    ordered = sorted(group.streams.values(), key=key, reverse=backwards)
    found = [stream for stream in ordered if stream.name.startswith(prefix)]
    if token := parameters.get("nextToken"):
        try:
            last, name = json.loads(base64.urlsafe_b64decode(token))
            at = (int(last), str(name))
        except (ValueError, TypeError):
            raise _invalid("The specified nextToken is invalid.") from None
        found = [each for each in found if (key(each) < at if backwards else key(each) > at)]
    page = found[: parameters.get("limit", 50)]
    more: Parameters = {}
    if len(page) < len(found):
        more["nextToken"] = base64.urlsafe_b64encode(json.dumps(key(page[-1])).encode()).decode()
    return {"logStreams": [_described_stream(group, stream) for stream in page], **more}


def _described(group: Group) -> Parameters:
    return {
        "logGroupName": group.name,
        "creationTime": group.created,
        "metricFilterCount": 0,
        "arn": _arn(group.name),
        "logGroupArn": _arn(group.name).removesuffix(":*"),
        "logGroupClass": "STANDARD",
    }


def _described_stream(group: Group, stream: Stream) -> Parameters:
    times = {
        "firstEventTimestamp": stream.first,
        "lastEventTimestamp": stream.last,
        "lastIngestionTime": stream.ingested,
    }
    return {
        "logStreamName": stream.name,
        "creationTime": stream.created,
        **{name: at for name, at in times.items() if at is not None},
        "uploadSequenceToken": f"{group.last_number:056d}",
        "arn": f"{_arn(group.name).removesuffix(':*')}:log-stream:{stream.name}",
        "storedBytes": 0,  # as on AWS since 2019
    }


def _create_stream(group: Group, parameters: Parameters) -> Parameters:
    name = parameters["logStreamName"]
    if name in group.streams:
        text = "The specified log stream already exists"
        raise _ApiError("ResourceAlreadyExistsException", text)
    group.stream(name)
    return {}


def _stream(group: Group, parameters: Parameters) -> Stream:
    found = group.streams.get(parameters["logStreamName"])
    if found is None:
        raise _ApiError("ResourceNotFoundException", _NO_STREAM)
    return found


def _get_events(group: Group, parameters: Parameters) -> Parameters:
    """https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html

    At the end of the stream, a token is the one that was passed in.
    """
    name = _stream(group, parameters).name
    start = parameters.get("startTime", 0)
    found = group.select((name,), start, parameters.get("endTime", _LATEST) - 1)
    forward, place = bool(parameters.get("startFromHead")), f"{start:020d}{0:036d}"
    if token := parameters.get("nextToken"):
        match = re.fullmatch(r"([fb])/(\d{56})/s", token)
        if match is None:
            raise _invalid("The specified nextToken is invalid.")
        forward, place = match[1] == "f", match[2]
        found = [each for each in found if (each.id > place if forward else each.id < place)]
    page, _ = _page(found, parameters, forward=forward)
    first, last = (page[0][0].id, page[-1][0].id) if page else (place, place)
    return {
        "events": [
            {"timestamp": each.at, "message": message, "ingestionTime": each.ingested}
            for each, message in page
        ],
        "nextForwardToken": f"f/{last}/s",
        "nextBackwardToken": f"b/{first}/s",
    }


def _filter_events(group: Group, parameters: Parameters) -> Parameters:
    """https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html"""
    names, prefix = parameters.get("logStreamNames"), parameters.get("logStreamNamePrefix")
    if names and prefix:
        raise _invalid("Only one of logStreamNamePrefix and logStreamNames can be specified.")
    if prefix:
        names = [name for name in group.streams if name.startswith(prefix)]
    elif any(name not in group.streams for name in names or ()):
        raise _ApiError("ResourceNotFoundException", _NO_STREAM)
    matches = _pattern(parameters.get("filterPattern"))
    start, end = parameters.get("startTime", 0), parameters.get("endTime", _LATEST)
    found = group.select(names, start, end)
    forward = bool(parameters.get("startFromHead", True))
    if token := parameters.get("nextToken"):
        try:
            forward, place = json.loads(base64.urlsafe_b64decode(token))
            found = [each for each in found if (each.id > place if forward else each.id < place)]
        except (ValueError, TypeError):
            raise _invalid("The specified nextToken is invalid.") from None
    page, more = _page(found, parameters, forward=forward, matches=matches)
    answer: Parameters = {
        "events": [
            {
                "logStreamName": each.stream,
                "timestamp": each.at,
                "message": message,
                "ingestionTime": each.ingested,
                "eventId": each.id,
            }
            for each, message in (page if forward else reversed(page))
        ],
        "searchedLogStreams": [],  # as on AWS: it is deprecated
    }
    if more:
        place = json.dumps([forward, (page[-1] if forward else page[0])[0].id])
        answer["nextToken"] = base64.urlsafe_b64encode(place.encode()).decode()
    return answer


def _page(
    events: list[Event],
    parameters: Parameters,
    *,
    forward: bool,
    matches: Matches | None = None,
) -> tuple[list[tuple[Event, str]], bool]:
    """The first or the last events that fit into one response, by time; True if others do not.

    A message is made once, and only if it is needed.
    """
    page: list[tuple[Event, str]] = []
    most, size, more = parameters.get("limit", _MOST_EVENTS), 0, False
    for event in events if forward else reversed(events):
        message = event.message
        if matches is not None and not matches(message):
            continue
        size += OVERHEAD + len(message.encode())
        if len(page) == most or (page and size > _MOST_BYTES):
            more = True
            break
        page.append((event, message))
    return page if forward else page[::-1], more


def _pattern(text: str | None) -> Matches:
    try:
        return compiled(text or "")
    except (InvalidPatternError, RecursionError):
        raise _invalid("Invalid filter pattern") from None


def _arn(name: str) -> str:
    return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}:*"


def _name_of(identifier: str) -> str:
    """The name in a group's name or ARN."""
    if identifier.startswith("arn:"):
        return identifier.partition(":log-group:")[2].removesuffix(":*")
    return identifier


def _group_name(parameters: Parameters) -> str:
    name, identifier = parameters.get("logGroupName"), parameters.get("logGroupIdentifier")
    if name and identifier:
        raise _invalid("LogGroup name and LogGroup ARN are mutually exclusive parameters.")
    given = name or identifier or parameters.get("resourceArn") or ""
    return _name_of(given) if isinstance(given, str) else ""


def _parsed(body: bytes) -> Parameters:
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _ApiError("SerializationException", "The body is not a JSON object.")
    return value


def _answer(body: Parameters, request: AwsRequest, *, status: int = 200) -> AwsResponse:
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "x-amzn-requestid": request.request_id,
    }
    return AwsResponse(status, json.dumps(body).encode(), headers)


@cache
def _shapes() -> Any:
    # Imported here: the start of the emulator does not wait for it.
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model("logs", "service-2"), "logs")


def _validate(operation: str, parameters: Parameters) -> None:
    """Check the parameters by the service's model."""
    try:
        problem = validation_error(_shapes().operation_model(operation).input_shape, parameters)
    except RefusedError as error:
        raise _ApiError("SerializationException", error.message) from None
    if problem:
        raise _invalid(problem)
