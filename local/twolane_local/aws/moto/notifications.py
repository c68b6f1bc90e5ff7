"""Patches moto: SNS, S3, EventBridge and SQS deliver to the emulator's queues and functions.

Also creates the subscriptions, rules and bucket notifications of a template, which moto's
CloudFormation leaves out or cannot create. Runs in moto's process.
"""

from __future__ import annotations

import copy
import functools
import json
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from twolane_local.aws.events import notifications as eventbridge
from twolane_local.aws.events.notifications import (
    ObjectChange,
    TopicMessage,
    bucket_event,
    for_event_bridge,
    notification,
    topic_event,
)
from twolane_local.aws.events.patterns import PatternError, compile_pattern, compile_policy
from twolane_local.aws.invocation import service_in_arn
from twolane_local.aws.moto import imports
from twolane_local.aws.moto.emulator import log
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.aws.moto.emulator import Emulator


#: The limit of SQS: https://docs.aws.amazon.com/sns/latest/dg/sns-large-payload-raw-message-delivery.html
MOST_ATTRIBUTES = 10
_ATTRIBUTES = ("FilterPolicyScope", "FilterPolicy", "RawMessageDelivery", "RedrivePolicy")


def _patch_sns(emulator: Emulator) -> None:
    from moto.core.utils import iso_8601_datetime_with_milliseconds
    from moto.sns.exceptions import SNSInvalidParameter
    from moto.sns.models import SNSBackend, Subscription

    original = Subscription.publish

    def publish(
        self: Any,
        message: str,
        message_id: str,
        subject: str | None = None,
        message_attributes: dict[str, Any] | None = None,
        **named: Any,
    ) -> None:
        attributes = message_attributes or {}
        if not _wanted(self, message, attributes):
            return
        if self.protocol in {"http", "https"}:
            # On a thread: the endpoint may call the service that is publishing.
            named |= {"subject": subject, "message_attributes": attributes}
            arguments = (original, self, message, message_id)
            threading.Thread(target=_notify, args=arguments, kwargs=named, daemon=True).start()
            return
        if named.pop("message_structure", None) == "json":
            message = self._parse_message_structure(message, self.protocol)
        if self.protocol in {"lambda", "sqs"}:
            facts = TopicMessage(
                topic_arn=self.topic.arn,
                subscription_arn=self.arn,
                message_id=message_id,
                subject=subject,
                unsubscribe_url=f"{emulator.endpoint}/?Action=Unsubscribe&SubscriptionArn="
                f"{self.arn}",
                time=iso_8601_datetime_with_milliseconds(),
            )
            _deliver(emulator, self, _Message(facts, message, attributes, named))

    def validate(_: Any, policy: Any, scope: str | None) -> None:
        try:
            compile_policy(policy, scope)
        except PatternError as error:
            raise SNSInvalidParameter(f"Invalid parameter: FilterPolicy: {error}") from None

    setattr(Subscription, "publish", publish)  # noqa: B010 (moto's own method)
    setattr(SNSBackend, "_validate_filter_policy", validate)  # noqa: B010 (likewise)


def _wanted(subscription: Any, message: str, attributes: dict[str, Any]) -> bool:
    policy = subscription._filter_policy  # noqa: SLF001 (moto has no other way)
    if not policy:
        return True
    wanted = _filter_policy(json.dumps(policy), subscription.attributes.get("FilterPolicyScope"))
    return wanted(message, attributes)


@functools.lru_cache(maxsize=1024)
def _filter_policy(policy: str, scope: str | None) -> Callable[[str, Mapping[str, Any]], bool]:
    return compile_policy(json.loads(policy), scope)


@dataclass(frozen=True, slots=True)
class _Message:
    facts: TopicMessage
    text: str
    attributes: dict[str, Any]
    named: dict[str, Any]


def _deliver(emulator: Emulator, subscription: Any, given: _Message) -> None:
    redrive = json.loads(subscription.attributes.get("RedrivePolicy") or "{}")
    source, named = f"topic {subscription.topic.name}", given.named
    if subscription.protocol == "lambda":
        text = json.dumps(topic_event(given.facts, given.text, given.attributes))
    elif str(subscription.attributes.get("RawMessageDelivery")).lower() == "true":
        text, named = given.text, {**named, "message_attributes": given.attributes}
        if len(given.attributes) > MOST_ATTRIBUTES:
            log(f"{source}: a raw message with more than {MOST_ATTRIBUTES} attributes is dropped")
            return
    else:
        body = notification(given.facts, given.text, given.attributes)
        text = json.dumps(body, indent=2)
    emulator.deliver(
        source, subscription.endpoint, text, named=named,
        dead_letter_arn=redrive.get("deadLetterTargetArn"),
    )  # fmt: skip


def publish(source: str, arn: str, text: str, subject: str | None = None) -> None:
    """Send a message of another service to a topic; an error is logged, not raised."""
    from moto.core.exceptions import ServiceException
    from moto.sns.models import sns_backends

    try:
        sns_backends[ACCOUNT][REGION].publish(message=text, arn=arn, subject=subject)
    except ServiceException as error:
        log(f"{source}: {arn} refused a message ({error}); it is lost")


def _notify(publish: Any, subscription: Any, *message: Any, **named: Any) -> None:
    """Post to a subscriber's HTTP endpoint; like SNS, the publisher does not wait for it."""
    import requests

    try:
        publish(subscription, *message, **named)
    except requests.RequestException as error:
        log(
            f"SNS: {subscription.topic.arn} cannot reach {subscription.endpoint}: {error}; "
            "the message is not sent again"
        )


class Subscriptions:
    """The subscriptions of the template."""

    def __init__(self) -> None:
        self._made: list[str] = []

    def replace(self, subscriptions: list[dict[str, Any]]) -> None:
        """Replace them by these; creates missing topics, which belong to other stacks."""
        from moto.sns.models import sns_backends

        backend = sns_backends[ACCOUNT][REGION]
        for arn in self._made:
            backend.unsubscribe(arn)
        self._made = [_subscribe(backend, each) for each in subscriptions]


def _subscribe(backend: Any, given: dict[str, Any]) -> str:
    topic = str(given["TopicArn"])
    if topic not in backend.topics:
        backend.create_topic(topic.rpartition(":")[2])
    made = backend.subscribe(topic, given["Endpoint"], given["Protocol"])
    for name in _ATTRIBUTES:
        value = given.get(name)
        if value is not None:
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            backend.set_subscription_attributes(made.arn, name, text)
    return str(made.arn)


#: Python's own errors, which are faults of moto; refusals as on AWS have their own classes.
FAULTS = (LookupError, AttributeError, TypeError, ValueError, NotImplementedError, AssertionError)


def _patch_eventbridge(emulator: Emulator) -> None:
    from moto.events.exceptions import InvalidEventPatternException
    from moto.events.models import EventPatternParser, Rule

    original = Rule.send_to_targets

    def send_to_targets(self: Any, original_event: Any, transform_input: bool = True) -> None:
        del transform_input
        event = eventbridge.event(
            identity=original_event["id"],
            source=original_event["source"],
            detail_type=original_event["detail-type"],
            detail=original_event["detail"],
            time=_iso(original_event["time"]),
            resources=list(original_event["resources"]),
        )
        _dispatch(emulator, self, event, original, forwarded=False)

    def validate(_: Any, pattern: Any) -> None:
        try:
            compile_pattern(pattern)
        except PatternError as error:
            raise InvalidEventPatternException(reason=str(error)) from None

    setattr(Rule, "send_to_targets", send_to_targets)  # noqa: B010 (moto's own method)
    setattr(EventPatternParser, "_validate_event_pattern", validate)  # noqa: B010 (likewise)


def _dispatch(
    emulator: Emulator,
    rule: Any,
    event: dict[str, Any],
    original: Callable[..., None],
    *,
    forwarded: bool,
) -> None:
    from moto.core.utils import unix_time

    pattern = rule.event_pattern.dump()
    if rule.state == "DISABLED" or not pattern or not _event_pattern(pattern)(event):
        return
    facts = eventbridge.MatchedRule(rule.name, rule.arn, _iso(unix_time()))
    for target in list(rule.targets):
        arn = target["Arn"]
        service = service_in_arn(arn)
        if service == "events" and ":event-bus/" in arn:
            # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-bus-to-bus.html
            bus = _backend().event_buses.get(arn.partition(":event-bus/")[2])
            for other in list(bus.rules.values()) if bus is not None and not forwarded else ():
                _dispatch(emulator, other, event, original, forwarded=True)
        elif service in {"lambda", "sqs", "sns"}:
            _send(emulator, facts, target, eventbridge.target_input(target, event, facts))
        else:
            _by_moto(rule, target, event, original)


def _send(
    emulator: Emulator, rule: eventbridge.MatchedRule, target: dict[str, Any], text: str
) -> None:
    arn = target["Arn"]
    source = f"rule {rule.name}"
    if ":lambda:" in arn and not _is_json(text):
        log(f"{source}: {arn} is not invoked: its input is not JSON: {text:.200}")
    elif ":sns:" in arn:
        publish(source, arn, text)
    else:
        group = (target.get("SqsParameters") or {}).get("MessageGroupId")
        emulator.deliver(
            source, arn, text, named={"group_id": group},
            dead_letter_arn=(target.get("DeadLetterConfig") or {}).get("Arn"),
            why={"RULE_ARN": rule.arn, "TARGET_ARN": arn},
        )  # fmt: skip


def _by_moto(
    rule: Any, target: dict[str, Any], event: dict[str, Any], original: Callable[..., None]
) -> None:
    """Send an event to logs, archives and API destinations, which moto supports; log others."""
    from moto.events.models import EventPattern

    alone = copy.copy(rule)
    alone.targets, alone.event_pattern = [target], EventPattern.load(None)
    moment = datetime.fromisoformat(event["time"]).timestamp()
    try:
        original(alone, {**event, "time": moment, "ingestion-time": moment})
    except NotImplementedError:
        log(f"rule {rule.name}: events to {target['Arn']} are not emulated")


@functools.lru_cache(maxsize=1024)
def _event_pattern(pattern: str) -> Callable[[Any], bool]:
    return compile_pattern(json.loads(pattern))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _iso(moment: Any) -> str:
    """A time of the envelope, from epoch seconds or text."""
    if isinstance(moment, str):
        return moment
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _backend() -> Any:
    from moto.events.models import events_backends

    return events_backends[ACCOUNT][REGION]


class Rules:
    """The rules of the template with an event pattern."""

    def __init__(self) -> None:
        self._made: list[tuple[str, str]] = []

    def replace(
        self,
        rules: list[dict[str, Any]],
        on_fault: Callable[[str, Exception], object] | None = None,
    ) -> None:
        """Replace them by these; creates missing buses, which belong to other stacks.

        ``on_fault`` is called with each rule on which moto itself fails (``FAULTS``); without it,
        that raises. A refusal as on AWS always raises.
        """
        backend = _backend()
        for bus, name in self._made:
            if bus in backend.event_buses:
                backend.event_buses[bus].rules.pop(name, None)
        self._made = []
        for rule in rules:
            try:
                self._make(rule)
            except FAULTS as error:
                if on_fault is None:
                    raise
                on_fault(rule["Name"], error)

    def _make(self, rule: dict[str, Any]) -> None:
        backend = _backend()
        bus = str(rule.get("EventBusName") or "default").rpartition("event-bus/")[2]
        if bus not in backend.event_buses:
            backend.create_event_bus(bus)
        backend.put_rule(
            rule["Name"],
            event_pattern=json.dumps(rule["EventPattern"]),
            state=rule.get("State", "ENABLED"),
            event_bus_arn=bus,
        )
        self._made.append((bus, rule["Name"]))
        backend.put_targets(rule["Name"], bus, rule.get("Targets") or [])


#: Numbers the events of objects in their order.
_ORDER = count(1)


def _patch_s3(emulator: Emulator) -> None:
    from moto.s3 import notifications
    from moto.s3.models import S3Backend

    def s3_event(event_name: str, bucket: Any, key: Any, notification_id: str) -> dict[str, Any]:
        return bucket_event(_object_change(event_name, bucket, key), notification_id, REGION)

    def invoke(_: str, event_body: Any, fn_arn: str, __: str) -> None:
        emulator.deliver("S3", fn_arn, json.dumps(event_body))

    def send(_: str, event_body: Any, queue_name: str, region_name: str) -> None:
        arn = f"arn:aws:sqs:{region_name}:{ACCOUNT}:{queue_name}"
        emulator.deliver("S3", arn, json.dumps(event_body))

    def publish_to_topic(_: str, event_body: Any, topic_arn: str, __: str) -> None:
        publish("S3", topic_arn, json.dumps(event_body), subject="Amazon S3 Notification")

    for name, ours in (
        ("_get_s3_event", s3_event),
        ("_invoke_awslambda", invoke),
        ("_send_sqs_message", send),
        ("_send_sns_message", publish_to_topic),
        ("_send_event_bridge_message", _put_object_event),
    ):
        setattr(notifications, name, ours)
    deleting = _deleting(S3Backend.delete_object)
    setattr(S3Backend, "delete_object", deleting)  # noqa: B010 (moto's own method)


def _object_change(name: str, bucket: Any, key: Any) -> ObjectChange:
    from moto.core.utils import iso_8601_datetime_with_milliseconds

    version = getattr(key, "version_id", None)
    return ObjectChange(
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


def _put_object_event(_: str, bucket: Any, event_name: str, key: Any) -> None:
    facts = _object_change(event_name, bucket, key)
    found = for_event_bridge(facts)
    if found is None:
        return
    detail_type, detail = found
    event = eventbridge.event(
        identity=str(uuid.uuid4()),
        source="aws.s3",
        detail_type=detail_type,
        detail=detail,
        time=f"{facts.time[:19]}Z",
        resources=[f"arn:aws:s3:::{bucket.name}"],
    )
    # Only the default bus gets the events of AWS services.
    for rule in list(_backend().event_buses["default"].rules.values()):
        rule.send_to_targets(event)


def _deleting(original: Callable[..., Any]) -> Callable[..., Any]:
    """Send the event of delete markers, which moto does not."""
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
    """The notifications of buckets in the template."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def replace(self, notifications: dict[str, Any]) -> None:
        """Replace them by these, by bucket; an unchanged one sends no test event again."""
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


#: The parameters of ``SQSBackend.send_message`` after the queue and the body.
_SEND_PARAMETERS = ("message_attributes", "delay_seconds", "deduplication_id", "group_id")

#: By stack, the type and physical id of the resources that moto does not create.
ELSEWHERE: dict[str, dict[str, tuple[str, str]]] = {}


def patch_moto(emulator: Emulator) -> None:
    """Replace moto's deliveries; call it once, before moto serves."""
    _patch_sqs(emulator)
    _patch_stack_resources()
    _patch_sns(emulator)
    _patch_s3(emulator)
    _patch_eventbridge(emulator)


def _patch_stack_resources() -> None:
    """List all resources of a stack in DescribeStackResources: moto creates only some of them."""
    with imports.without_validator():
        from moto.cloudformation import models as moto_models

    models: Any = moto_models

    def stack_resources(self: Any) -> list[Any]:
        elsewhere = [
            SimpleNamespace(
                logical_resource_id=name, cf_resource_type=kind, physical_resource_id=id_
            )
            for name, (kind, id_) in ELSEWHERE.get(self.name, {}).items()
        ]
        return elsewhere + [each for each in self.resource_map.values() if each is not None]

    models.Stack.stack_resources = property(stack_resources)


def _patch_sqs(emulator: Emulator) -> None:
    from moto.sqs.models import Message, Queue, SQSBackend

    def send_message(
        self: Any, queue_name: str, message_body: str, *rest: Any, **named: Any
    ) -> Any:
        self.get_queue(queue_name)  # raises for an unknown queue
        emulator.send(
            queue_name, message_body, dict(zip(_SEND_PARAMETERS, rest, strict=False)) | named
        )
        return Message("", message_body, system_attributes={})

    address = property(lambda queue: f"{emulator.endpoint}/{ACCOUNT}/{queue.name}")
    setattr(SQSBackend, "send_message", send_message)  # noqa: B010 (moto's own method)
    setattr(Queue, "physical_resource_id", address)  # noqa: B010 (likewise)
