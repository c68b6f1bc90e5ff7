"""The events of S3 and SNS.

S3 sends notifications, version 2.1, and events for EventBridge:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
SNS sends records to functions and notifications to queues:
https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from twolane_local.model import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping


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
