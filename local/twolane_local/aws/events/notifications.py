"""The events of S3, SNS and EventBridge, and the input that a rule makes of one for a target.

S3 sends notifications, version 2.1, and events for EventBridge:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
SNS sends records to functions and notifications to queues:
https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
EventBridge:
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


#: By the name of the event: its type in EventBridge, and the operation that it names.
_TYPES = {
    "ObjectCreated:Put": ("Object Created", "PutObject"),
    "ObjectCreated:Post": ("Object Created", "POST Object"),
    "ObjectCreated:Copy": ("Object Created", "CopyObject"),
    "ObjectCreated:CompleteMultipartUpload": ("Object Created", "CompleteMultipartUpload"),
    "ObjectRemoved:Delete": ("Object Deleted", "DeleteObject"),
    "ObjectRemoved:DeleteMarkerCreated": ("Object Deleted", "DeleteObject"),
    "ObjectTagging:Put": ("Object Tags Added", None),
    "ObjectTagging:Delete": ("Object Tags Deleted", None),
    "ObjectAcl:Put": ("Object ACL Updated", None),
}
_DELETIONS = {
    "ObjectRemoved:Delete": "Permanently Deleted",
    "ObjectRemoved:DeleteMarkerCreated": "Delete Marker Created",
}


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """A change of an S3 object; ``name`` is the event's, such as ``ObjectCreated:Put``."""

    name: str
    bucket: str
    key: str
    size: int
    etag: str
    version: str | None
    time: str
    request_id: str
    sequencer: str

    def item(self, key: str, *, etag: str, version: str) -> dict[str, Any]:
        """The object in an event; ``etag`` and ``version`` are the names of those fields.

        Removals have neither size nor ETag.
        """
        found: dict[str, Any] = {"key": key}
        if not self.name.startswith("ObjectRemoved"):
            found |= {"size": self.size, etag: self.etag}
        if self.version is not None:
            found[version] = self.version
        return {**found, "sequencer": self.sequencer}


def bucket_event(facts: ObjectChange, configuration_id: str, region: str) -> dict[str, Any]:
    """A notification. The object's key is URL-encoded, with ``+`` for a space."""
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": region,
                "eventTime": facts.time,
                "eventName": facts.name,
                "userIdentity": {"principalId": "local"},
                "requestParameters": {"sourceIPAddress": "127.0.0.1"},
                "responseElements": {"x-amz-request-id": facts.request_id, "x-amz-id-2": "local"},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": configuration_id,
                    "bucket": {
                        "name": facts.bucket,
                        "ownerIdentity": {"principalId": "local"},
                        "arn": f"arn:aws:s3:::{facts.bucket}",
                    },
                    "object": facts.item(
                        quote_plus(facts.key, safe="/"), etag="eTag", version="versionId"
                    ),
                },
            }
        ]
    }


def for_event_bridge(facts: ObjectChange) -> tuple[str, dict[str, Any]] | None:
    """The event's type and detail, ``None`` for a change that EventBridge does not get."""
    known = _TYPES.get(facts.name)
    if known is None:
        return None
    detail_type, reason = known
    detail: dict[str, Any] = {
        "version": "0",
        "bucket": {"name": facts.bucket},
        "object": facts.item(facts.key, etag="etag", version="version-id"),
        "request-id": facts.request_id,
        "requester": ACCOUNT,
        "source-ip-address": "127.0.0.1",
    }
    if reason is not None:
        detail["reason"] = reason
    if facts.name in _DELETIONS:
        detail["deletion-type"] = _DELETIONS[facts.name]
    return detail_type, detail


@dataclass(frozen=True, slots=True)
class TopicMessage:
    """The envelope of a message to a topic; ``time`` is in UTC, with milliseconds."""

    topic_arn: str
    subscription_arn: str
    message_id: str
    subject: str | None
    unsubscribe_url: str
    time: str


def topic_event(facts: TopicMessage, message: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The event for a function. The emulator does not sign: signature fields are placeholders."""
    return {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": facts.subscription_arn,
                "Sns": {
                    "Type": "Notification",
                    "MessageId": facts.message_id,
                    "TopicArn": facts.topic_arn,
                    "Subject": facts.subject,
                    "Message": message,
                    "Timestamp": facts.time,
                    "SignatureVersion": "1",
                    "Signature": "EXAMPLE",
                    "SigningCertUrl": "EXAMPLE",
                    "UnsubscribeUrl": facts.unsubscribe_url,
                    "MessageAttributes": _spelled(attributes),
                },
            }
        ]
    }


def notification(
    facts: TopicMessage, message: str, attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """The message for a queue without raw delivery, with placeholders for the signature."""
    found: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": facts.message_id,
        "TopicArn": facts.topic_arn,
        "Subject": facts.subject,
        "Message": message,
        "Timestamp": facts.time,
        "SignatureVersion": "1",
        "Signature": "EXAMPLE",
        "SigningCertURL": "EXAMPLE",
        "UnsubscribeURL": facts.unsubscribe_url,
        "MessageAttributes": _spelled(attributes),
    }
    return {name: value for name, value in found.items() if value not in (None, {})}


def _spelled(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"Type": value["Type"], "Value": _text(value["Value"])}
        for name, value in attributes.items()
    }


def _text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


#: One step of a JSON path: a name or ``*`` after a dot, an index or ``*`` in brackets.
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+|\*)\]")
#: A quoted text, or a variable outside of one.
_IN_TEMPLATE = re.compile(r'"(?:\\.|[^"\\])*"|<[^<>\s]+>')
_VARIABLE = re.compile(r"<([^<>\s]+)>")
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class MatchedRule:
    """The rule that an event matched, with the values that an input template can name."""

    name: str
    arn: str
    ingested: str


def event(
    *,
    identity: str,
    source: str,
    detail_type: str,
    detail: Any,
    time: str,
    resources: list[str],
) -> dict[str, Any]:
    return {
        "version": "0",
        "id": identity,
        "detail-type": detail_type,
        "source": source,
        "account": ACCOUNT,
        "time": time,
        "region": REGION,
        "resources": resources,
        "detail": detail,
    }


def target_input(target: Mapping[str, Any], given: Mapping[str, Any], rule: MatchedRule) -> str:
    """The text that a target gets: the event, or its input as the target's settings define it."""
    if target.get("Input") is not None:
        return str(target["Input"])
    if target.get("InputPath"):
        found = at_path(given, str(target["InputPath"]))
        return "{}" if found is _ABSENT else json.dumps(found)
    transformer = target.get("InputTransformer") or {}
    if transformer.get("InputTemplate"):
        values = {
            name: at_path(given, str(path))
            for name, path in (transformer.get("InputPathsMap") or {}).items()
        }
        values |= {
            "aws.events.rule-arn": rule.arn,
            "aws.events.rule-name": rule.name,
            "aws.events.event.ingestion-time": rule.ingested,
            "aws.events.event": {name: given[name] for name in given if name != "detail"},
            "aws.events.event.json": dict(given),
        }
        return _fill_template(str(transformer["InputTemplate"]), values)
    return json.dumps(given)


def at_path(given: Any, path: str) -> Any:
    """The value at a JSON path of the form that EventBridge accepts; a wildcard makes a list."""
    return next(_found([given], path.removeprefix("$"), 0), _ABSENT)


def _found(values: list[Any], path: str, position: int, *, several: bool = False) -> Iterator[Any]:
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            return
        several = several or "*" in (step["name"], step["index"])
        values = [below for value in values for below in _below(value, step)]
        position = step.end()
    if several:
        yield values
    else:
        yield from values


def _below(value: Any, step: re.Match[str]) -> list[Any]:
    name, index = step["name"], step["index"]
    if "*" in (name, index):
        return list(value.values() if isinstance(value, dict) else value or ())
    if name is not None:
        return [value[name]] if isinstance(value, dict) and name in value else []
    within = isinstance(value, list) and int(index) < len(value)
    return [value[int(index)]] if within else []


def _fill_template(template: str, values: Mapping[str, Any]) -> str:
    """Replace the variables of a template: as JSON, or as text within quotes.

    A variable without a value becomes an empty text.
    """

    def replaced(match: re.Match[str]) -> str:
        part = match[0]
        if part.startswith('"'):
            return _VARIABLE.sub(lambda name: _as_text(values.get(name[1], _ABSENT)), part)
        value = values.get(part[1:-1], _ABSENT)
        return json.dumps("" if value is _ABSENT else value)

    return _IN_TEMPLATE.sub(replaced, template)


def _as_text(value: Any) -> str:
    """A value within quotes: the quotes of a text are escaped, those of an object left out."""
    if value is _ABSENT:
        return ""
    if isinstance(value, str):
        return json.dumps(value)[1:-1]
    return json.dumps(value).replace('"', "")
