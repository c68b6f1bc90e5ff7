"""The calls to AWS that neither the event source mapping nor a publish makes for the worker.

To SQS: send a message that is not due, and change a message's visibility. To EventBridge Scheduler:
create an entry. Both by the light client. boto3, whose import and client take longer than most
tasks, makes them only if the credentials are not in the environment or the network is not a plain
one.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from typing import TYPE_CHECKING, Any, Protocol

from twolane.environment import snapshot
from twolane.patches.clients import patient_boto
from twolane.publish.client import Call, LightClient, SqsClient
from twolane.publish.errors import EnqueueError
from twolane.publish.transport import (
    Broker,
    Endpoint,
    configured,
    credentials_in,
    domain_of,
    needs_boto,
    resolve,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twolane.publish.client import Response

logger = logging.getLogger("twolane.worker")


class BotoClients:
    """boto3's clients of one service, one for each region, made on first use."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._made: dict[str, Any] = {}
        snapshot.holds(self)

    def let_go(self) -> None:
        """Close the clients; the next call makes another."""
        while self._made:
            self._made.popitem()[1].close()

    def __call__(self, region: str) -> Any:
        if region not in self._made:
            import boto3

            make: Any = boto3.client  # the stubs know each service by its name
            self._made[region] = patient_boto(make(self._service, region_name=region))
        return self._made[region]


class QueueClient(Protocol):
    """SQS, by queue ARN."""

    def send(
        self,
        queue_arn: str,
        body: str,
        *,
        delay_s: int,
        attributes: Mapping[str, Any],
        group_id: str | None = None,
    ) -> None:
        """Send one message. Raises ``EnqueueError``.

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
        self._boto = BotoClients("sqs")

    def send(
        self,
        queue_arn: str,
        body: str,
        *,
        delay_s: int,
        attributes: Mapping[str, Any],
        group_id: str | None = None,
    ) -> None:
        fields: dict[str, Any] = {"MessageBody": body, "DelaySeconds": delay_s}
        if attributes:
            fields["MessageAttributes"] = attributes
        if group_id is not None:
            fields["MessageGroupId"] = group_id
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

        client = self._boto(region)
        attributes = fields.get("MessageAttributes")
        if attributes:
            # boto3 puts binary values into base64 itself.
            plain = {
                name: {
                    key: base64.b64decode(value) if key == "BinaryValue" else value
                    for key, value in attribute.items()
                }
                for name, attribute in attributes.items()
            }
            fields = {**fields, "MessageAttributes": plain}
        method = {
            "SendMessage": client.send_message,
            "ChangeMessageVisibilityBatch": client.change_message_visibility_batch,
        }[action]
        try:
            answer: dict[str, Any] = method(QueueUrl=url, **fields)
        except (BotoCoreError, ClientError) as error:
            raise EnqueueError(f"SQS refused {action} on {url}: {error}") from error
        return answer


class Scheduler:
    """EventBridge Scheduler in any region; an entry that is there already is as good as a new one:
    https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._light = LightClient()
        self._boto = BotoClients("scheduler")

    def create(self, region: str, entry: Mapping[str, Any]) -> None:
        """``entry``: CreateSchedule's arguments, with a plain name. Raises ``EnqueueError``."""
        credentials = credentials_in(self._environ)
        usual = f"https://scheduler.{region}.{domain_of(region)}"
        endpoint = Endpoint.of(configured("SCHEDULER", self._environ) or usual)
        if credentials is None or needs_boto(
            endpoint.name, secure=endpoint.secure, environ=self._environ
        ):
            self._create_by_boto(region, entry)
            return
        fields = {key: value for key, value in entry.items() if key != "Name"}
        self._light.make(
            Call(
                endpoint,
                region,
                "scheduler",
                credentials,
                {"content-type": "application/json"},
                json.dumps(fields).encode(),
                name="EventBridge Scheduler",
                action="CreateSchedule",
                about=f"{entry['GroupName']}/{entry['Name']}",
                taken="if the entry was made after all, a second one of its name is not",
                path=f"/schedules/{entry['Name']}",
            ),
            _created,
        )

    def _create_by_boto(self, region: str, entry: Mapping[str, Any]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._boto(region)
        try:
            client.create_schedule(**entry)
        except client.exceptions.ConflictException:
            return
        except (BotoCoreError, ClientError) as error:
            raise EnqueueError(
                f"EventBridge Scheduler refused CreateSchedule on {entry['GroupName']}/"
                f"{entry['Name']}: {error}"
            ) from error


def _created(response: Response) -> dict[str, Any] | None:
    """An answer which shows that the entry is there: its ARN, or a conflict with one of its name.

    A conflict is AWS's only 409; its code is then in a header. moto has it in the body.
    """
    try:
        said = json.loads(response.body)
    except ValueError:
        said = None
    answer: dict[str, Any] = said if isinstance(said, dict) else {}
    conflict = response.status == 409 or answer.get("__type") == "ConflictException"
    return answer if conflict or (response.status == 200 and "ScheduleArn" in answer) else None
