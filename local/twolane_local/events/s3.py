"""S3 event notifications, version 2.1.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus


def event(
    name: str,
    *,
    bucket: str,
    key: str,
    size: int,
    etag: str,
    version: str | None,
    time: str,
    request_id: str,
    sequencer: str,
    configuration_id: str,
    region: str,
) -> dict[str, Any]:
    """One record. ``name`` is ``ObjectCreated:Put``; the key is URL-encoded, ``+`` for a space.

    Removals say nothing of size and ETag.
    """
    item: dict[str, Any] = {"key": quote_plus(key, safe="/")}
    if not name.startswith("ObjectRemoved"):
        item |= {"size": size, "eTag": etag}
    if version is not None:
        item["versionId"] = version
    item["sequencer"] = sequencer
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": region,
                "eventTime": time,
                "eventName": name,
                "userIdentity": {"principalId": "local"},
                "requestParameters": {"sourceIPAddress": "127.0.0.1"},
                "responseElements": {"x-amz-request-id": request_id, "x-amz-id-2": "local"},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": configuration_id,
                    "bucket": {
                        "name": bucket,
                        "ownerIdentity": {"principalId": "local"},
                        "arn": f"arn:aws:s3:::{bucket}",
                    },
                    "object": item,
                },
            }
        ]
    }
