"""The older SQS protocol: form parameters in, XML out. The actions themselves see no difference.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-xml.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.queues.errors import SqsError

_NAMESPACE = "http://queue.amazonaws.com/doc/2012-11-05/"

#: Flattened lists: their prefix among the form's parameters, and our name.
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
#: Flattened maps: prefix, our name, the name of the key within.
_MAPS = {
    "Attribute": ("Attributes", "Name"),
    "MessageAttribute": ("MessageAttributes", "Name"),
    "MessageSystemAttribute": ("MessageSystemAttributes", "Name"),
    "Tag": ("Tags", "Key"),
}
#: How each member of a result is named in XML: a list's element, or a map's element and key.
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
            _plant(tree, key.split("."), value)
    action = str(tree.pop("Action", ""))
    params = _structure(tree)
    if action == "CreateQueue" and "Tags" in params:
        params["tags"] = params.pop("Tags")
    return action, params


def _plant(tree: dict[str, Any], path: list[str], value: str) -> None:
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
    """A list's elements; one without a number (``Attribute.Name``) is its only element."""
    numbers = sorted((key for key in value if key.isdigit()), key=int)
    if not numbers:
        yield value
    for number in numbers:
        yield value[number]


def result(action: str, values: Mapping[str, Any], request_id: str) -> bytes:
    """A successful response."""
    inside = "".join(_members(action, values))
    # A result without members is there all the same; clients fail without it.
    answer = "" if action in _WITHOUT_RESULT else f"<{action}Result>{inside}</{action}Result>"
    return _document(
        f'<{action}Response xmlns="{_NAMESPACE}">{answer}<ResponseMetadata><RequestId>'
        f"{request_id}</RequestId></ResponseMetadata></{action}Response>"
    )


def error(problem: SqsError, request_id: str) -> bytes:
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
        # A bare carriage return would reach the client as a line feed.
        inside = escape(str(value), {"\r": "&#xD;", '"': "&quot;"})
    return f"<{name}>{inside}</{name}>"
