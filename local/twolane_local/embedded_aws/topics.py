"""What moto's SNS publishes goes to the emulator's queues and functions. Runs in moto's process."""

from __future__ import annotations

import functools
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.embedded_aws.emulator import say
from twolane_local.events import sns as sns_events
from twolane_local.events.filter_policy import compile_policy
from twolane_local.mapping.patterns import PatternError
from twolane_local.template.values import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.embedded_aws.emulator import Emulator

#: SQS takes no more: https://docs.aws.amazon.com/sns/latest/dg/sns-large-payload-raw-message-delivery.html
MOST_ATTRIBUTES = 10
_ATTRIBUTES = ("FilterPolicyScope", "FilterPolicy", "RawMessageDelivery", "RedrivePolicy")


def play(emulator: Emulator) -> None:
    """Replace moto's deliveries; once, before it serves."""
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
            # The endpoint may itself call what this call is part of.
            named |= {"subject": subject, "message_attributes": attributes}
            arguments = (original, self, message, message_id)
            threading.Thread(target=_notify, args=arguments, kwargs=named, daemon=True).start()
            return
        if named.pop("message_structure", None) == "json":
            message = self._parse_message_structure(message, self.protocol)
        if self.protocol in {"lambda", "sqs"}:
            facts = sns_events.Facts(
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
    wanted = _compiled(json.dumps(policy), subscription.attributes.get("FilterPolicyScope"))
    return wanted(message, attributes)


@functools.lru_cache(maxsize=1024)
def _compiled(policy: str, scope: str | None) -> Callable[[str, Mapping[str, Any]], bool]:
    return compile_policy(json.loads(policy), scope)


@dataclass(frozen=True, slots=True)
class _Message:
    facts: sns_events.Facts
    text: str
    attributes: dict[str, Any]
    named: dict[str, Any]


def _deliver(emulator: Emulator, subscription: Any, given: _Message) -> None:
    redrive = json.loads(subscription.attributes.get("RedrivePolicy") or "{}")
    source, named = f"topic {subscription.topic.name}", given.named
    if subscription.protocol == "lambda":
        text = json.dumps(sns_events.event(given.facts, given.text, given.attributes))
    elif str(subscription.attributes.get("RawMessageDelivery")).lower() == "true":
        text, named = given.text, {**named, "message_attributes": given.attributes}
        if len(given.attributes) > MOST_ATTRIBUTES:
            say(f"{source}: a raw message with more than {MOST_ATTRIBUTES} attributes is dropped")
            return
    else:
        notification = sns_events.notification(given.facts, given.text, given.attributes)
        text = json.dumps(notification, indent=2)
    emulator.deliver(
        source, subscription.endpoint, text, named=named,
        dead_letter_arn=redrive.get("deadLetterTargetArn"),
    )  # fmt: skip


def publish(source: str, arn: str, text: str, subject: str | None = None) -> None:
    """What another service sends to a topic. It does not hear that there is none."""
    from moto.core.exceptions import ServiceException
    from moto.sns.models import sns_backends

    try:
        sns_backends[ACCOUNT][REGION].publish(message=text, arn=arn, subject=subject)
    except ServiceException as error:
        say(f"{source}: {arn} did not take a message ({error}); it is lost")


def _notify(publish: Any, subscription: Any, *message: Any, **named: Any) -> None:
    """Post to a subscriber's own endpoint. SNS, too, does not have the publisher wait for it."""
    import requests

    try:
        publish(subscription, *message, **named)
    except requests.RequestException as error:
        say(
            f"SNS: {subscription.topic.arn} does not reach {subscription.endpoint}: {error}; "
            "the message is not sent again"
        )


class Subscriptions:
    """Those of the template; the next template's replace them."""

    def __init__(self) -> None:
        self._made: list[str] = []

    def replace(self, subscriptions: list[dict[str, Any]]) -> None:
        """Make these, with their attributes, and their topics where they are another stack's."""
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
