"""Reads what the checker judges: the effects, the store, the queues; over their own protocols."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .system import DEAD, QUEUE, TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .system import System

_COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible",
           "ApproximateNumberOfMessagesDelayed")  # fmt: skip


def effects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def results(system: System, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    found = _from_redis if system.store == "redis" else _from_table
    return dict(found(system, list(ids)))


def _from_redis(system: System, ids: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    import redis

    with redis.Redis.from_url(system.redis_url) as client:
        for start in range(0, len(ids), 500):
            some = ids[start : start + 500]
            values: Any = client.mget([f"celery-task-meta-{each}" for each in some])
            for each, value in zip(some, values, strict=True):
                if value is not None:
                    yield each, json.loads(value)


def _from_table(system: System, ids: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    # Celery writes the text form of its key's bytes: str(key) in its DynamoDBBackend.
    names = {str(f"celery-task-meta-{each}".encode()): each for each in ids}
    client, keys = system.client("dynamodb"), [{"id": {"S": name}} for name in names]
    for start in range(0, len(keys), 100):
        request: Any = {TABLE: {"Keys": keys[start : start + 100], "ConsistentRead": True}}
        while request:
            answer = client.batch_get_item(RequestItems=request)
            for item in answer["Responses"].get(TABLE, []):
                if "result" in item:
                    yield names[item["id"]["S"]], json.loads(item["result"]["B"])
            request = answer.get("UnprocessedKeys")


def on_queue(system: System, name: str) -> int:
    """How many messages are on it, in whatever state."""
    answer = system.client("sqs").get_queue_attributes(
        QueueUrl=system.queue_url(name), AttributeNames=list(_COUNTS)
    )
    return sum(int(answer["Attributes"][count]) for count in _COUNTS)


def dead_letters(system: System) -> list[dict[str, Any]]:
    """Each dead letter; they stay where they are, invisible for an hour."""
    client, found = system.client("sqs"), []
    while messages := client.receive_message(
        QueueUrl=system.queue_url(DEAD),
        MaxNumberOfMessages=10,
        VisibilityTimeout=3600,
        MessageSystemAttributeNames=["All"],
    ).get("Messages"):
        found += [
            {
                "body": message["Body"],
                "id": message["MessageId"],
                "receives": int(message["Attributes"]["ApproximateReceiveCount"]),
            }
            for message in messages
        ]
    return found


def left(system: System) -> dict[str, int]:
    return {QUEUE: on_queue(system, QUEUE)}
