"""The few calls to SQS that the event source mapping does not make for the function."""

from __future__ import annotations

import base64
import logging
import os
from typing import TYPE_CHECKING, Any, Protocol

from twolane.environment import snapshot
from twolane.patches.clients import patient_boto
from twolane.publish.client import SqsClient
from twolane.publish.errors import EnqueueError
from twolane.publish.target import Broker, domain_of, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger("twolane.worker")


class QueueClient(Protocol):
    """SQS, by queue ARN."""

    def send(
        self, queue_arn: str, body: str, *, delay_s: int, attributes: Mapping[str, Any]
    ) -> None:
        """Send one message; whatever goes wrong is raised.

        ``attributes`` are as an event has them, in SendMessage's names; binary values in base64.
        """

    def change_visibility(self, queue_arn: str, changes: Sequence[tuple[str, int]]) -> None:
        """Set the visibility timeout of (receipt handle, seconds) pairs.

        A change that SQS refuses is logged: the message then comes back with the queue's own
        timeout, later but not lost.
        """


def queue_url(queue_arn: str, environ: Mapping[str, str]) -> str:
    """A queue's address from its ARN; local where the environment names an endpoint."""
    region, account, name = queue_arn.split(":", 5)[3:]
    endpoint = environ.get("AWS_ENDPOINT_URL_SQS") or environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        endpoint = f"https://sqs.{region}.{domain_of(region)}"
    return f"{endpoint.rstrip('/')}/{account}/{name}"


class Sqs:
    """SQS by the light client; by boto3 where the credentials are not in the environment."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._light = SqsClient()
        self._boto: dict[str, Any] = {}
        snapshot.holds(self)

    def let_go(self) -> None:
        """Close boto3's clients; the next call makes another."""
        while self._boto:
            self._boto.popitem()[1].close()

    def send(
        self, queue_arn: str, body: str, *, delay_s: int, attributes: Mapping[str, Any]
    ) -> None:
        fields: dict[str, Any] = {"MessageBody": body, "DelaySeconds": delay_s}
        if attributes:
            fields["MessageAttributes"] = attributes
        self._call("SendMessage", queue_arn, fields)

    def change_visibility(self, queue_arn: str, changes: Sequence[tuple[str, int]]) -> None:
        # At most ten entries a call:
        # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibilityBatch.html
        for start in range(0, len(changes), 10):
            entries = [
                {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                for number, (receipt, seconds) in enumerate(changes[start : start + 10])
            ]
            try:
                answer = self._call("ChangeMessageVisibilityBatch", queue_arn, {"Entries": entries})
                refused = answer.get("Failed") or []
            except EnqueueError as error:
                refused = [{"Message": str(error)}]
            for refusal in refused:
                logger.warning(
                    "could not change a message's visibility on %s: %s; it will be delivered again "
                    "once the queue's own visibility timeout has passed",
                    queue_arn,
                    refusal.get("Message"),
                )

    def _call(self, action: str, queue_arn: str, fields: dict[str, Any]) -> dict[str, Any]:
        region, name = queue_arn.split(":")[3], queue_arn.rpartition(":")[2]
        url = queue_url(queue_arn, self._environ)
        plain = name.removesuffix(".fifo")
        options = {"region": region, "predefined_queues": {plain: {"url": url}}}
        # Only the name is looked at here; the address is the queue's own.
        target = resolve(plain, Broker(options), self._environ) if plain == name else None
        if target is not None:
            return self._light.call(action, target, fields)
        return self._call_boto(action, region, url, fields)

    def _call_boto(
        self, action: str, region: str, url: str, fields: dict[str, Any]
    ) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        if region not in self._boto:
            import boto3

            self._boto[region] = patient_boto(boto3.client("sqs", region_name=region))
        client = self._boto[region]
        attributes = fields.get("MessageAttributes")
        if attributes:
            fields = {**fields, "MessageAttributes": _for_boto(attributes)}
        method = {
            "SendMessage": client.send_message,
            "ChangeMessageVisibilityBatch": client.change_message_visibility_batch,
        }[action]
        try:
            answer: dict[str, Any] = method(QueueUrl=url, **fields)
        except (BotoCoreError, ClientError) as error:
            raise EnqueueError(f"SQS refused {action} on {url}: {error}") from error
        return answer


def _for_boto(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """boto3 puts binary values into base64 itself."""
    return {
        name: {
            key: base64.b64decode(value) if key == "BinaryValue" else value
            for key, value in attribute.items()
        }
        for name, attribute in attributes.items()
    }
