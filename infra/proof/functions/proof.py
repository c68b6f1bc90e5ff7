"""What the proof deploys: small functions that write down what Lambda does to them.

Each note is an item of the table: ``id`` is its kind and a number, ``note`` is JSON.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
import uuid
from typing import Any

ENVIRONMENT = uuid.uuid4().hex
_SEEDED = random.random()  # noqa: S311 - to be compared between two environments
_STARTED = time.time()
_ticks = 0
_calls = 0


def _tick() -> None:
    global _ticks  # noqa: PLW0603 - one for the process
    while True:
        time.sleep(0.1)
        _ticks += 1


def note(kind: str, **about: Any) -> None:
    """Write down one observation."""
    import boto3

    table = boto3.client("dynamodb")
    text = json.dumps({"kind": kind, "at": time.time(), "environment": ENVIRONMENT, **about})
    table.put_item(
        TableName=os.environ["NOTES_TABLE"],
        Item={"id": {"S": f"note-{kind}-{uuid.uuid4().hex}"}, "note": {"S": text}},
    )


def _facts() -> dict[str, Any]:
    wanted = ("AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_STREAM_NAME", "_X_AMZN_TRACE_ID")
    return {
        "environment": ENVIRONMENT,
        "random": _SEEDED,
        "ticks": _ticks,
        "time": time.time(),
        "monotonic": time.monotonic(),
        "started": _STARTED,
        "keys_in_environment": bool(os.environ.get("AWS_ACCESS_KEY_ID")),
        "environ": {name: os.environ[name] for name in wanted if name in os.environ},
    }


def plain(event: dict[str, Any], _: Any) -> dict[str, Any]:
    """Invoked directly: facts about this environment, now."""
    global _calls  # noqa: PLW0603 - one for the process
    if _calls == 0:
        threading.Thread(target=_tick, daemon=True).start()
    _calls += 1
    time.sleep(float(event.get("sleep_s", 0)))
    return {**_facts(), "calls": _calls}


def cold(event: dict[str, Any], _: Any) -> dict[str, Any]:
    """What an application of both lanes imports; the init's duration is what counts."""
    time.sleep(float(event.get("sleep_s", 0)))
    return _facts()


def repeat(event: dict[str, Any], _: Any) -> dict[str, Any]:
    """Fed by a queue: sends itself the next message, by boto3, so many times."""
    import boto3

    for record in event["Records"]:
        number = int(record["body"])
        note(
            "hop",
            number=number,
            header=record["attributes"].get("AWSTraceHeader", ""),
            trace=os.environ.get("_X_AMZN_TRACE_ID", ""),
        )
        if number < int(os.environ["HOPS"]):
            boto3.client("sqs").send_message(
                QueueUrl=os.environ["OWN_QUEUE_URL"], MessageBody=str(number + 1)
            )
    return {"batchItemFailures": []}


def fail(event: dict[str, Any], _: Any) -> dict[str, Any]:
    """Fed by a queue: writes each receive down and returns the message as failed, at once."""
    import boto3

    failures = []
    for record in event["Records"]:
        note(
            "receive",
            message=record["messageId"],
            count=int(record["attributes"]["ApproximateReceiveCount"]),
        )
        failures.append({"itemIdentifier": record["messageId"]})
        boto3.client("sqs").change_message_visibility(
            QueueUrl=os.environ["OWN_QUEUE_URL"],
            ReceiptHandle=record["receiptHandle"],
            VisibilityTimeout=0,
        )
    return {"batchItemFailures": failures}


def nothing(_: dict[str, Any], __: Any) -> dict[str, Any]:
    """Fed by a queue: as little as a function can do."""
    return {"batchItemFailures": []}


def buffered(_: dict[str, Any], __: Any) -> dict[str, Any]:
    """Behind a URL that is set to stream; the managed runtime does not."""
    return {"statusCode": 200, "headers": {"content-type": "text/plain"}, "body": "buffered"}
