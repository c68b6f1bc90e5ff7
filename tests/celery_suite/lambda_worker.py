"""The suite's worker: an event source mapping around ``WorkerHandler``, in a loop."""

from __future__ import annotations

import time
from typing import Any

QUEUE_ARN = "arn:aws:sqs:us-east-1:123456789012:celery"
TIMEOUT_S = 110.0


class Context:
    """Lambda's context object of one invocation."""

    aws_request_id = "celery-suite"

    def __init__(self) -> None:
        self._until = time.monotonic() + TIMEOUT_S

    def get_remaining_time_in_millis(self) -> int:
        return int((self._until - time.monotonic()) * 1000)


def to_event(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """What Lambda makes of received messages."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message.get("Attributes", {}),
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": QUEUE_ARN,
                "awsRegion": "us-east-1",
            }
            for message in messages
        ]
    }


def work(app: Any, hostname: str, ready: Any, stop: Any) -> None:
    """Receive, invoke, delete; until told to stop."""
    import boto3

    from twolane import WorkerHandler

    sqs = boto3.client("sqs")
    url = app.conf.broker_transport_options["predefined_queues"]["celery"]["url"]
    handler = WorkerHandler(app, hostname=hostname)
    ready.set()
    while not stop.is_set():
        messages = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, AttributeNames=["All"]
        ).get("Messages", [])
        if not messages:
            continue
        answer = handler(to_event(messages), Context())
        failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        done = [message for message in messages if message["MessageId"] not in failed]
        if done:
            sqs.delete_message_batch(
                QueueUrl=url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(done)
                ],
            )
