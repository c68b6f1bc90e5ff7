"""The SQS API, in the JSON protocol and the older query protocol.

A call of the query protocol is parsed to the shapes of the JSON protocol, its result is written as
XML: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-xml.html
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from twolane_local.aws.call import AwsRequest, AwsResponse, trace_header
from twolane_local.aws.sqs import actions
from twolane_local.aws.sqs.errors import (
    InvalidActionError,
    InvalidParameterValueError,
    MalformedInputError,
    SqsError,
)
from twolane_local.aws.sqs.moves import MoveTasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.aws.sqs.actions import Params
    from twolane_local.aws.sqs.service import QueueService


_NAMESPACE = "http://queue.amazonaws.com/doc/2012-11-05/"

#: Flattened lists: the prefix of the form's parameters, and the name in the JSON protocol.
_LISTS = {
    "AttributeName": "AttributeNames",
    "MessageAttributeName": "MessageAttributeNames",
    "MessageSystemAttributeName": "MessageSystemAttributeNames",
    "TagKey": "TagKeys",
    "AWSAccountId": "AWSAccountIds",
    "ActionName": "Actions",
    "SendMessageBatchRequestEntry": "Entries",
    "DeleteMessageBatchRequestEntry": "Entries",
    "ChangeMessageVisibilityBatchRequestEntry": "Entries",
}
#: Flattened maps: the prefix, the name in the JSON protocol, and the name of the key within.
_MAPS = {
    "Attribute": ("Attributes", "Name"),
    "MessageAttribute": ("MessageAttributes", "Name"),
    "MessageSystemAttribute": ("MessageSystemAttributes", "Name"),
    "Tag": ("Tags", "Key"),
}
#: The names in XML of a result's members: the element of a list, or element and key of a map.
_XML_LISTS = {
    "QueueUrls": "QueueUrl",
    "queueUrls": "QueueUrl",
    "Messages": "Message",
    "Results": "ListMessageMoveTasksResultEntry",
    "Failed": "BatchResultErrorEntry",
}
_XML_MAPS = {
    "Attributes": ("Attribute", "Name"),
    "MessageAttributes": ("MessageAttribute", "Name"),
    "Tags": ("Tag", "Key"),
}
_WITHOUT_RESULT = frozenset(
    {
        "AddPermission", "ChangeMessageVisibility", "DeleteMessage", "DeleteQueue", "PurgeQueue",
        "RemovePermission", "SetQueueAttributes", "TagQueue", "UntagQueue",
    }
)  # fmt: skip


def parse(query: str, body: bytes) -> tuple[str, dict[str, Any]]:
    """The action and its parameters, in the shapes of the JSON protocol."""
    tree: dict[str, Any] = {}
    for pairs in (query, body.decode("utf-8", "replace")):
        for key, value in parse_qsl(pairs, keep_blank_values=True):
            _set_path(tree, key.split("."), value)
    action = str(tree.pop("Action", ""))
    params = _structure(tree)
    if action == "CreateQueue" and "Tags" in params:
        params["tags"] = params.pop("Tags")
    return action, params


def _set_path(tree: dict[str, Any], path: list[str], value: str) -> None:
    for step in path[:-1]:
        below = tree.setdefault(step, {})
        if not isinstance(below, dict):
            return
        tree = below
    tree[path[-1]] = value


def _structure(tree: Mapping[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for name, value in tree.items():
        if not isinstance(value, dict):
            params[name] = value
        elif name in _LISTS:
            params[_LISTS[name]] = [
                _structure(entry) if isinstance(entry, dict) else entry
                for entry in _numbered(value)
            ]
        elif name in _MAPS:
            ours, key = _MAPS[name]
            entries = [entry for entry in _numbered(value) if isinstance(entry, dict)]
            params[ours] = {str(entry.get(key, "")): entry.get("Value", "") for entry in entries}
    return params


def _numbered(value: Mapping[str, Any]) -> Iterator[Any]:
    """The elements of a list; one without a number (``Attribute.Name``) is the only element."""
    numbers = sorted((key for key in value if key.isdigit()), key=int)
    if not numbers:
        yield value
    for number in numbers:
        yield value[number]


def result_document(action: str, values: Mapping[str, Any], request_id: str) -> bytes:
    """A successful response."""
    inside = "".join(_members(action, values))
    # Clients fail without the element of an empty result.
    answer = "" if action in _WITHOUT_RESULT else f"<{action}Result>{inside}</{action}Result>"
    return _document(
        f'<{action}Response xmlns="{_NAMESPACE}">{answer}<ResponseMetadata><RequestId>'
        f"{request_id}</RequestId></ResponseMetadata></{action}Response>"
    )


def error_document(problem: SqsError, request_id: str) -> bytes:
    """An error response."""
    return _document(
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>Sender</Type>'
        f"<Code>{problem.query_code}</Code><Message>{escape(problem.message)}</Message><Detail/>"
        f"</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )


def _document(xml: str) -> bytes:
    return f'<?xml version="1.0"?>{xml}'.encode()


def _members(action: str, values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, list):
            element = _XML_LISTS.get(name) or f"{action}ResultEntry"
            for entry in value:
                yield _element(action, element, entry)
        elif name in _XML_MAPS and isinstance(value, dict):
            element, key = _XML_MAPS[name]
            for inner, held in value.items():
                yield _element(action, element, {key: inner, "Value": held})
        else:
            yield _element(action, name, value)


def _element(action: str, name: str, value: Any) -> str:
    if isinstance(value, dict):
        inside = "".join(_members(action, value))
    elif isinstance(value, bool):
        inside = str(value).lower()
    else:
        # XML parsers turn a bare carriage return into a line feed.
        inside = escape(str(value), {"\r": "&#xD;", '"': "&quot;"})
    return f"<{name}>{inside}</{name}>"


_SENDING: dict[str, Callable[[QueueService, Params, str | None], dict[str, Any]]] = {
    "SendMessage": actions.send_message,
    "SendMessageBatch": actions.send_message_batch,
}
_ON_MESSAGES: dict[str, Callable[[QueueService, Params], dict[str, Any]]] = {
    "DeleteMessage": actions.delete_message,
    "DeleteMessageBatch": actions.delete_message_batch,
    "ChangeMessageVisibility": actions.change_message_visibility,
    "ChangeMessageVisibilityBatch": actions.change_message_visibility_batch,
}
_ON_QUEUES: dict[str, Callable[[QueueService, Params, str], dict[str, Any]]] = {
    "CreateQueue": actions.create_queue,
    "GetQueueUrl": actions.get_queue_url,
    "ListQueues": actions.list_queues,
    "ListDeadLetterSourceQueues": actions.list_dead_letter_source_queues,
    "GetQueueAttributes": actions.get_queue_attributes,
    "SetQueueAttributes": actions.set_queue_attributes,
    "DeleteQueue": actions.delete_queue,
    "PurgeQueue": actions.purge_queue,
    "ListQueueTags": actions.list_queue_tags,
    "TagQueue": actions.tag_queue,
    "UntagQueue": actions.untag_queue,
    "AddPermission": actions.add_permission,
    "RemovePermission": actions.remove_permission,
}
#: Errors of the JSON protocol that are not in the model of SQS have a common namespace.
_COMMON = {"InvalidParameterValueException", "MissingRequiredParameterException"}


class SqsApi:
    """Answers SQS calls from a ``QueueService``; an ``AwsService``."""

    def __init__(self, queues: QueueService) -> None:
        self._queues = queues
        self._moves = MoveTasks(queues)

    async def __call__(self, request: AwsRequest) -> AwsResponse:
        request_id = request.request_id or str(uuid.uuid4())
        target = request.headers.get("x-amz-target", "")
        if target:
            return await self._json(request, target.rpartition(".")[2], request_id)
        return await self._query(request, request_id)

    async def _json(self, request: AwsRequest, action: str, request_id: str) -> AwsResponse:
        headers = {"content-type": "application/x-amz-json-1.0", "x-amzn-requestid": request_id}
        try:
            try:
                params = json.loads(request.body or b"{}")
            except (ValueError, RecursionError):
                raise MalformedInputError from None
            if not isinstance(params, dict):
                raise MalformedInputError
            result = await self._act(action, params, request)
        except SqsError as error:
            # SDKs read the query protocol's error code from this header.
            headers["x-amzn-query-error"] = f"{error.query_code};Sender"
            space = "com.amazon.coral.service" if error.code in _COMMON else "com.amazonaws.sqs"
            answer = {"__type": f"{space}#{error.code}", "message": error.message}
            return AwsResponse(400, json.dumps(answer).encode(), headers)
        return AwsResponse(200, json.dumps(result).encode() if result else b"{}", headers)

    async def _query(self, request: AwsRequest, request_id: str) -> AwsResponse:
        headers = {"content-type": "text/xml", "x-amzn-requestid": request_id}
        action, params = parse(request.query, request.body)
        # A call may be sent to the queue's own address instead of naming it.
        if "QueueUrl" not in params and request.path.count("/") >= 2:
            params["QueueUrl"] = request.path
        try:
            result = await self._act(action, params, request)
        except SqsError as error:
            return AwsResponse(error.query_status, error_document(error, request_id), headers)
        return AwsResponse(200, result_document(action, result, request_id), headers)

    async def _act(self, action: str, params: Params, request: AwsRequest) -> dict[str, Any]:
        try:
            if action == "ReceiveMessage":
                return await actions.receive_message(self._queues, params)
            if (sending := _SENDING.get(action)) is not None:
                return sending(self._queues, params, trace_header(request.headers))
            if (on_messages := _ON_MESSAGES.get(action)) is not None:
                return on_messages(self._queues, params)
            if (on_queues := _ON_QUEUES.get(action)) is not None:
                base = f"http://{request.headers.get('host', 'localhost')}"
                return on_queues(self._queues, params, base)
            if (on_moves := self._moves.actions.get(action)) is not None:
                return on_moves(params)
        except UnicodeEncodeError:
            raise InvalidParameterValueError(
                "A string of the request holds half of a surrogate pair, which UTF-8 cannot encode."
            ) from None
        raise InvalidActionError(f"The action {action or '(none)'} is not valid for this endpoint.")
