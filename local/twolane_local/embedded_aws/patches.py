"""What moto would deliver to its own queues and functions goes to the emulator's.

moto's services call each other as Python objects, not over HTTP: SNS, S3 and EventBridge reach
queues and functions by the methods that are replaced here. Runs in moto's process.
"""

from __future__ import annotations

import json
import sys
import threading
import urllib.request
import uuid
from itertools import count
from typing import Any

from twolane_local.events import s3 as s3_events
from twolane_local.events import sns as sns_events
from twolane_local.template.values import ACCOUNT, REGION

#: ``SQSBackend.send_message``'s parameters after the queue and the body.
_SEND_PARAMETERS = ("message_attributes", "delay_seconds", "deduplication_id", "group_id")


class Emulator:
    """The emulator's endpoint, as moto's process calls it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def send(self, queue: str, body: str, named: dict[str, Any]) -> None:
        """Put a message on a queue."""
        call = {
            "QueueUrl": f"{self.endpoint}/{ACCOUNT}/{queue}",
            "MessageBody": body,
            "MessageAttributes": attributes_of(named.get("message_attributes") or {}),
            "DelaySeconds": named.get("delay_seconds"),
            "MessageDeduplicationId": named.get("deduplication_id"),
            "MessageGroupId": named.get("group_id"),
        }
        self._post(
            "/",
            {name: value for name, value in call.items() if value},
            {"X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0"},
        )

    def invoke(self, function_arn: str, event: dict[str, Any]) -> None:
        """Invoke a function asynchronously."""
        name = function_arn.partition(":function:")[2].partition(":")[0]
        path = f"/2015-03-31/functions/{name}/invocations"
        self._post(path, event, {"X-Amz-Invocation-Type": "Event"})

    def _post(self, path: str, value: Any, headers: dict[str, str]) -> None:
        call = urllib.request.Request(  # noqa: S310 (the emulator's own address)
            self.endpoint + path, json.dumps(value).encode(), headers
        )
        with urllib.request.urlopen(call, timeout=30):  # noqa: S310
            pass


def apply(emulator: Emulator) -> None:
    """Replace moto's methods; once, before it serves."""
    _queues(emulator)
    _topics(emulator)
    _buckets(emulator)
    _rules(emulator)


def attributes_of(attributes: dict[str, Any]) -> dict[str, Any]:
    """moto's spelling of message attributes as the API's."""
    return {
        name: {
            "DataType": value.get("data_type", value.get("DataType", value.get("Type", "String"))),
            "StringValue": str(
                value.get("string_value", value.get("StringValue", value.get("Value", "")))
            ),
        }
        for name, value in attributes.items()
    }


def _queues(emulator: Emulator) -> None:
    from moto.sqs.models import Message, Queue, SQSBackend

    def send_message(
        self: Any, queue_name: str, message_body: str, *rest: Any, **named: Any
    ) -> Any:
        self.get_queue(queue_name)  # raises where moto knows none of that name
        emulator.send(
            queue_name, message_body, dict(zip(_SEND_PARAMETERS, rest, strict=False)) | named
        )
        return Message("", message_body, system_attributes={})

    address = property(lambda queue: f"{emulator.endpoint}/{ACCOUNT}/{queue.name}")
    setattr(SQSBackend, "send_message", send_message)  # noqa: B010 (moto's own method)
    setattr(Queue, "physical_resource_id", address)  # noqa: B010 (likewise)


def _topics(emulator: Emulator) -> None:
    from moto.core.utils import iso_8601_datetime_with_milliseconds
    from moto.sns.models import Subscription

    original = Subscription.publish

    def publish(self: Any, message: str, message_id: str, *rest: Any, **named: Any) -> None:
        if self.protocol in {"http", "https"}:
            # The endpoint may itself call what this call is part of.
            arguments = (original, self, message, message_id, *rest)
            threading.Thread(target=_notify, args=arguments, kwargs=named, daemon=True).start()
            return
        if self.protocol != "lambda":
            original(self, message, message_id, *rest, **named)
            return
        attributes = named.get("message_attributes") or {}
        matcher = self._filter_policy_matcher
        if matcher is not None and not matcher.matches(attributes, message):
            return
        event = sns_events.event(
            topic_arn=self.topic.arn,
            subscription_arn=self.arn,
            message_id=message_id,
            message=message,
            subject=named.get("subject"),
            time=iso_8601_datetime_with_milliseconds(),
            attributes=attributes,
            unsubscribe_url=f"{emulator.endpoint}/?Action=Unsubscribe&SubscriptionArn={self.arn}",
        )
        emulator.invoke(self.endpoint, event)

    setattr(Subscription, "publish", publish)  # noqa: B010


def _notify(publish: Any, subscription: Any, *message: Any, **named: Any) -> None:
    """Post to a subscriber's own endpoint. SNS, too, does not have the publisher wait for it."""
    import requests

    try:
        publish(subscription, *message, **named)
    except requests.RequestException as error:
        sys.stderr.write(
            f"twolane: SNS: {subscription.topic.arn} does not reach {subscription.endpoint}: "
            f"{error}; the message is not sent again\n"
        )


def _buckets(emulator: Emulator) -> None:
    from moto.core.utils import iso_8601_datetime_with_milliseconds
    from moto.s3 import notifications

    order = count(1)

    def s3_event(event_name: str, bucket: Any, key: Any, notification_id: str) -> dict[str, Any]:
        version = getattr(key, "version_id", None)
        return s3_events.event(
            str(getattr(event_name, "value", event_name)).removeprefix("s3:"),
            bucket=bucket.name,
            key=key.name,
            size=getattr(key, "size", 0),
            etag=getattr(key, "etag", "").replace('"', ""),
            version=version if version not in {None, "null"} else None,
            time=iso_8601_datetime_with_milliseconds(),
            request_id=uuid.uuid4().hex[:16].upper(),
            sequencer=f"{next(order):018X}",
            configuration_id=notification_id,
            region=REGION,
        )

    def invoke(_: str, event_body: Any, fn_arn: str, __: str) -> None:
        emulator.invoke(fn_arn, event_body)

    setattr(notifications, "_get_s3_event", s3_event)  # noqa: B010
    setattr(notifications, "_invoke_awslambda", invoke)  # noqa: B010


def _rules(emulator: Emulator) -> None:
    from moto.core.utils import iso_8601_datetime_without_milliseconds, utcfromtimestamp
    from moto.events.models import Rule
    from moto.events.utils import EventTemplateParser

    original = Rule.send_to_targets

    def send_to_targets(self: Any, original_event: Any, *rest: Any, **named: Any) -> None:
        targets = self.targets
        functions = [target for target in targets if ":lambda:" in target["Arn"]]
        self.targets = [target for target in targets if target not in functions]
        try:
            original(self, original_event, *rest, **named)
        finally:
            self.targets = targets
        if not functions or not self.event_pattern.matches_event(original_event):
            return
        for target in functions:
            transformer = target.get("InputTransformer", {})
            event = EventTemplateParser.parse(
                input_template=transformer.get("InputTemplate"),
                input_paths_map=transformer.get("InputPathsMap", {}),
                event=original_event,
            )
            if isinstance(event, dict) and isinstance(event.get("time"), int | float):
                moment = utcfromtimestamp(event["time"])
                event = {**event, "time": iso_8601_datetime_without_milliseconds(moment)}
            if "Input" in target:
                event = json.loads(target["Input"])
            emulator.invoke(target["Arn"], event)

    setattr(Rule, "send_to_targets", send_to_targets)  # noqa: B010


def notify(bucket: str, configuration: dict[str, Any]) -> None:
    """Give a bucket the notifications of the template, in moto's spelling."""
    from moto.s3.models import s3_backends

    s3_backends[ACCOUNT]["aws"].put_bucket_notification_configuration(bucket, configuration)


def subscribe(subscription: dict[str, Any]) -> None:
    """An SNS subscription of the template, with its attributes."""
    from moto.sns.models import sns_backends

    backend = sns_backends[ACCOUNT][REGION]
    made = backend.subscribe(
        subscription["TopicArn"], subscription["Endpoint"], subscription["Protocol"]
    )
    for name in ("FilterPolicyScope", "FilterPolicy", "RawMessageDelivery"):
        value = subscription.get(name)
        if value is not None and str(value).lower() != "false":
            text = json.dumps(value) if isinstance(value, dict) else str(value).lower()
            backend.set_subscription_attributes(
                made.arn, name, str(value) if name == "FilterPolicyScope" else text
            )


def put_rule(rule: dict[str, Any]) -> None:
    """An EventBridge rule with an event pattern, and its targets."""
    from moto.events.models import events_backends

    backend = events_backends[ACCOUNT][REGION]
    backend.put_rule(
        rule["Name"],
        event_pattern=json.dumps(rule["EventPattern"]),
        state=rule.get("State", "ENABLED"),
        event_bus_arn=rule.get("EventBusName"),
    )
    backend.put_targets(rule["Name"], rule.get("EventBusName"), rule["Targets"])
