"""The few calls to SQS that the event source mapping does not make for the function."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)


class QueueClient(Protocol):
    """SQS, by queue ARN."""

    def send(
        self, queue_arn: str, body: str, *, delay_s: int, attributes: Mapping[str, Any]
    ) -> None:
        """Send one message; whatever goes wrong is raised."""

    def change_visibility(self, queue_arn: str, changes: Sequence[tuple[str, int]]) -> None:
        """Set the visibility timeout of (receipt handle, seconds) pairs.

        A change that SQS refuses is logged: the message then comes back with the queue's own
        timeout, later but not lost.
        """


def queue_url(queue_arn: str, environ: Mapping[str, str]) -> str:
    """A queue's address from its ARN; local where the environment names an endpoint."""
    _, partition, _, region, account, name = queue_arn.split(":", 5)
    endpoint = environ.get("AWS_ENDPOINT_URL_SQS") or environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
        endpoint = f"https://sqs.{region}.{suffix}"
    return f"{endpoint.rstrip('/')}/{account}/{name}"


class BotoQueues:
    """SQS through boto3, which is imported on the first call: most invocations need none."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._clients: dict[str, Any] = {}

    def send(
        self, queue_arn: str, body: str, *, delay_s: int, attributes: Mapping[str, Any]
    ) -> None:
        self._client(queue_arn).send_message(
            QueueUrl=queue_url(queue_arn, self._environ),
            MessageBody=body,
            DelaySeconds=delay_s,
            MessageAttributes=attributes,
        )

    def change_visibility(self, queue_arn: str, changes: Sequence[tuple[str, int]]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        for start in range(0, len(changes), 10):
            entries = [
                {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                for number, (receipt, seconds) in enumerate(changes[start : start + 10])
            ]
            try:
                answer = self._client(queue_arn).change_message_visibility_batch(
                    QueueUrl=queue_url(queue_arn, self._environ), Entries=entries
                )
                refused = answer.get("Failed", [])
            except (BotoCoreError, ClientError) as error:
                refused = [{"Message": str(error)}]
            for refusal in refused:
                logger.warning(
                    "could not change a message's visibility on %s: %s; it will be delivered again "
                    "once the queue's own visibility timeout has passed",
                    queue_arn,
                    refusal.get("Message"),
                )

    def _client(self, queue_arn: str) -> Any:
        region = queue_arn.split(":")[3]
        if region not in self._clients:
            import boto3

            self._clients[region] = boto3.client("sqs", region_name=region)
        return self._clients[region]
