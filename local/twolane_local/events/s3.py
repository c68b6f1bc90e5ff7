"""What S3 says of its objects: notifications, version 2.1, and events for EventBridge.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from twolane_local.template.values import ACCOUNT

#: By what has happened: the event's type, and the operation that it names.
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
class Facts:
    """What has happened to an object. ``name`` is ``ObjectCreated:Put``."""

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
        """The object; the other arguments are names of fields. Removals have no size and ETag."""
        found: dict[str, Any] = {"key": key}
        if not self.name.startswith("ObjectRemoved"):
            found |= {"size": self.size, etag: self.etag}
        if self.version is not None:
            found[version] = self.version
        return {**found, "sequencer": self.sequencer}


def event(facts: Facts, configuration_id: str, region: str) -> dict[str, Any]:
    """One record. The key is URL-encoded, ``+`` for a space."""
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


def for_event_bridge(facts: Facts) -> tuple[str, dict[str, Any]] | None:
    """The event's type and detail; ``None`` where EventBridge hears nothing of it."""
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
