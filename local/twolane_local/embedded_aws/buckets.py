"""What moto's S3 says goes to the emulator's queues and functions. Runs in moto's process."""

from __future__ import annotations

import json
import uuid
from itertools import count
from typing import TYPE_CHECKING, Any

from twolane_local.embedded_aws import rules, topics
from twolane_local.events import eventbridge
from twolane_local.events import s3 as s3_events
from twolane_local.template.values import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.embedded_aws.emulator import Emulator


#: Events of one object in the order in which they came.
_ORDER = count(1)


def play(emulator: Emulator) -> None:
    """Replace moto's deliveries; once, before it serves."""
    from moto.s3 import notifications
    from moto.s3.models import S3Backend

    def s3_event(event_name: str, bucket: Any, key: Any, notification_id: str) -> dict[str, Any]:
        return s3_events.event(_facts(event_name, bucket, key), notification_id, REGION)

    def invoke(_: str, event_body: Any, fn_arn: str, __: str) -> None:
        emulator.deliver("S3", fn_arn, json.dumps(event_body))

    def send(_: str, event_body: Any, queue_name: str, region_name: str) -> None:
        arn = f"arn:aws:sqs:{region_name}:{ACCOUNT}:{queue_name}"
        emulator.deliver("S3", arn, json.dumps(event_body))

    for name, ours in (
        ("_get_s3_event", s3_event),
        ("_invoke_awslambda", invoke),
        ("_send_sqs_message", send),
        ("_send_sns_message", _publish),
        ("_send_event_bridge_message", _put),
    ):
        setattr(notifications, name, ours)
    deleting = _deleting(S3Backend.delete_object)
    setattr(S3Backend, "delete_object", deleting)  # noqa: B010 (moto's own method)


def _facts(name: str, bucket: Any, key: Any) -> s3_events.Facts:
    from moto.core.utils import iso_8601_datetime_with_milliseconds

    version = getattr(key, "version_id", None)
    return s3_events.Facts(
        str(getattr(name, "value", name)).removeprefix("s3:"),
        bucket=bucket.name,
        key=key.name,
        size=getattr(key, "size", 0),
        etag=getattr(key, "etag", "").replace('"', ""),
        version=version if version not in {None, "null"} else None,
        time=iso_8601_datetime_with_milliseconds(),
        request_id=uuid.uuid4().hex[:16].upper(),
        sequencer=f"{next(_ORDER):018X}",
    )


def _publish(_: str, event_body: Any, topic_arn: str, __: str) -> None:
    topics.publish("S3", topic_arn, json.dumps(event_body), subject="Amazon S3 Notification")


def _put(_: str, bucket: Any, event_name: str, key: Any) -> None:
    facts = _facts(event_name, bucket, key)
    found = s3_events.for_event_bridge(facts)
    if found is None:
        return
    detail_type, detail = found
    rules.put(
        eventbridge.event(
            identity=str(uuid.uuid4()),
            source="aws.s3",
            detail_type=detail_type,
            detail=detail,
            time=f"{facts.time[:19]}Z",
            resources=[f"arn:aws:s3:::{bucket.name}"],
        )
    )


def _deleting(original: Callable[..., Any]) -> Callable[..., Any]:
    """moto says nothing of the delete markers that it makes."""
    from moto.s3.notifications import S3NotificationEvent, send_event

    marker = S3NotificationEvent.OBJECT_REMOVED_DELETE_MARKER_CREATED_EVENT

    def delete_object(
        self: Any, bucket_name: str, key_name: str, version_id: str | None = None, **named: Any
    ) -> Any:
        answer = original(self, bucket_name, key_name, version_id, **named)
        bucket = self.get_bucket(bucket_name)
        if answer[0] and version_id is None and bucket.is_versioned:
            send_event(ACCOUNT, marker, bucket, bucket.keys[key_name])
        return answer

    return delete_object


class Notifications:
    """The buckets' that the template declares; the next template's replace them."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def replace(self, notifications: dict[str, Any]) -> None:
        """By bucket, in moto's spelling. One that stays as it is sends no test event again."""
        from moto.s3.models import s3_backends

        backend = s3_backends[ACCOUNT]["aws"]
        for bucket in self._made.keys() - notifications.keys():
            if bucket in backend.buckets:
                backend.put_bucket_notification_configuration(bucket, {})
        for bucket, configuration in notifications.items():
            held = backend.get_bucket(bucket).notification_configuration
            if held is None or self._made.get(bucket) != configuration:
                backend.put_bucket_notification_configuration(bucket, configuration)
        self._made = notifications
