"""The SQS API, in the JSON protocol and the older query protocol.

A call of the query protocol is parsed to the shapes of the JSON protocol, its result is written as
XML, or as JSON if the call accepts that: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-xml.html
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from twolane_local.aws.call import AwsRequest, AwsResponse, trace_header
from twolane_local.aws.sqs import actions
from twolane_local.aws.sqs.actions import Caller
from twolane_local.aws.sqs.errors import (
    InvalidActionError,
    InvalidParameterValueError,
    MalformedInputError,
    MissingActionError,
    SqsError,
    UnknownOperationError,
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
    if action in _WITHOUT_RESULT:
        answer = ""
    elif inside:
        answer = f"<{action}Result>{inside}</{action}Result>"
    else:
        answer = f"<{action}Result/>"
    return _document(
        f'<{action}Response xmlns="{_NAMESPACE}">{answer}<ResponseMetadata><RequestId>'
        f"{request_id}</RequestId></ResponseMetadata></{action}Response>"
    )


def error_document(problem: SqsError, request_id: str) -> bytes:
    """An error response."""
    return _document(
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>{problem.fault}</Type>'
        f"<Code>{problem.query_code}</Code><Message>{escape(problem.query_message)}</Message>"
        f"<Detail/></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )


#: The answer to a GET without an action. It is in no namespace, and always XML.
_UNKNOWN_OPERATION = b"<UnknownOperationException/>\n"
#: Lists that JSON in the query protocol names otherwise than XML does.
_JSON_LISTS = {"QueueUrls": "queueUrls", "Messages": "messages"}


def result_json(action: str, values: Mapping[str, Any], request_id: str) -> bytes:
    """A successful response, for a call that accepts JSON only. Maps become lists of pairs."""
    answer: dict[str, Any] = {"ResponseMetadata": {"RequestId": request_id}}
    if action not in _WITHOUT_RESULT:
        result = {_JSON_LISTS.get(name, name): _plain(name, held) for name, held in values.items()}
        if action == "ReceiveMessage" and not result:
            result["messages"] = None
        answer = {f"{action}Result": result, **answer}
    return json.dumps({f"{action}Response": answer}).encode()


def _plain(name: str, held: Any) -> Any:
    if isinstance(held, list):
        return [_plain("", each) for each in held]
    if not isinstance(held, dict):
        return held
    if name in _XML_MAPS:
        key = _XML_MAPS[name][1]
        return [{key: inner, "Value": value} for inner, value in held.items()]
    return {inner: _plain(inner, value) for inner, value in held.items()}


def error_json(problem: SqsError, request_id: str) -> bytes:
    """An error response, for a call that accepts JSON only."""
    error = {"Code": problem.query_code, "Message": problem.query_message, "Type": problem.fault}
    return json.dumps({"Error": error, "RequestId": request_id}).encode()


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


_ACTIONS: dict[str, Callable[[QueueService, Params, Caller], dict[str, Any]]] = {
    "SendMessage": actions.send_message,
    "SendMessageBatch": actions.send_message_batch,
    "DeleteMessage": actions.delete_message,
    "DeleteMessageBatch": actions.delete_message_batch,
    "ChangeMessageVisibility": actions.change_message_visibility,
    "ChangeMessageVisibilityBatch": actions.change_message_visibility_batch,
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
#: Actions that are not valid at the address of a queue, though their names are.
_NOT_AT_A_QUEUE = frozenset({"CreateQueue", "ListQueues"})
#: Errors of the JSON protocol that are not in the model of SQS have a common namespace.
_COMMON = {
    "InvalidParameterValueException", "MissingRequiredParameterException",
    "SerializationException", "UnknownOperationException",
}  # fmt: skip


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
            headers["x-amzn-query-error"] = f"{error.query_code};{error.fault}"
            space = "com.amazon.coral.service" if error.code in _COMMON else "com.amazonaws.sqs"
            answer = {"__type": f"{space}#{error.code}", "message": error.message}
            return AwsResponse(error.status, json.dumps(answer).encode(), headers)
        return AwsResponse(200, json.dumps(result).encode() if result else b"{}", headers)

    async def _query(self, request: AwsRequest, request_id: str) -> AwsResponse:
        as_json = request.headers.get("accept", "").startswith("application/json")
        content_type = "application/json" if as_json else "text/xml"
        headers = {"content-type": content_type, "x-amzn-requestid": request_id}
        action, params = parse(request.query, request.body)
        at_a_queue = request.path.count("/") >= 2
        # A call may be sent to the queue's own address instead of naming it.
        if at_a_queue and "QueueUrl" not in params:
            params["QueueUrl"] = request.path
        try:
            if not action:
                if request.method == "GET":
                    raise UnknownOperationError
                raise MissingActionError
            if at_a_queue and action in _NOT_AT_A_QUEUE:
                raise _invalid(action)
            result = await self._act(action, params, request)
        except UnknownOperationError as error:
            headers["content-type"] = "text/xml"
            return AwsResponse(error.status, _UNKNOWN_OPERATION, headers)
        except SqsError as error:
            write = error_json if as_json else error_document
            return AwsResponse(error.status, write(error, request_id), headers)
        answer = (result_json if as_json else result_document)(action, result, request_id)
        return AwsResponse(200, answer, headers)

    async def _act(self, action: str, params: Params, request: AwsRequest) -> dict[str, Any]:
        headers = request.headers
        caller = Caller(
            request.region, request.account, headers.get("host", "localhost"), trace_header(headers)
        )
        try:
            if action == "ReceiveMessage":
                return await actions.receive_message(self._queues, params, caller)
            if (act := _ACTIONS.get(action)) is not None:
                return act(self._queues, params, caller)
            if (on_moves := self._moves.actions.get(action)) is not None:
                return on_moves(params)
        except UnicodeEncodeError:
            raise InvalidParameterValueError(
                "A string of the request holds half of a surrogate pair, which UTF-8 cannot encode."
            ) from None
        raise _invalid(action or "(none)")


def _invalid(action: str) -> InvalidActionError:
    return InvalidActionError(f"The action {action} is not valid for this endpoint.")
