"""What the worker's tests share: messages as Celery publishes them, events as Lambda sends them."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, states

from twolane.state.memory import MemoryStore
from twolane.worker.lease import LeaseState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

QUEUE_ARN = "arn:aws:sqs:us-east-1:123456789012:tasks"
Event = dict[str, Any]

#: Of a task that was held up for longer than its lease: the state of the one who has the lease now,
#: what the task would say, and whether that is stored.
HELD_UP = [
    (LeaseState.RUNNING, states.FAILURE, False),
    (LeaseState.RUNNING, states.RETRY, False),
    (LeaseState.RUNNING, states.SUCCESS, True),  # it stays: a success is never overwritten
    (LeaseState.DONE, states.SUCCESS, False),
    (LeaseState.REJECTED, states.SUCCESS, False),
    (LeaseState.DONE, states.FAILURE, False),
]
_numbers = itertools.count(1)


@dataclass
class RecordedQueues:
    """SQS as the worker asks for it, remembered."""

    sent: list[tuple[str, str, int, Mapping[str, Any]]] = field(default_factory=list)
    changed: list[tuple[str, list[tuple[str, int]]]] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)

    def send(
        self,
        queue_arn: str,
        body: str,
        *,
        delay_s: int,
        attributes: Mapping[str, Any],
        group_id: str | None = None,
    ) -> None:
        self.sent.append((queue_arn, body, delay_s, attributes))
        self.groups.append(group_id)

    def change_visibility(self, queue_arn: str, changes: Sequence[tuple[str, int]]) -> None:
        self.changed.append((queue_arn, list(changes)))

    @property
    def visibility(self) -> dict[str, int]:
        """Receipt handle → seconds, over all queues."""
        return dict(pair for _, changes in self.changed for pair in changes)


@dataclass
class Context:
    """Lambda's context object, as far as it is read."""

    remaining_ms: int = 60_000
    aws_request_id: str = "3f1a0c51-6c33-4c23-9a8e-0f4b1a7d6a11"

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


def body(
    task: str, *args: Any, task_id: str, embed: Mapping[str, Any] | None = None, **headers: Any
) -> str:
    """An SQS body of Celery's message protocol 2, as ``sqs_base64_encoding: False`` leaves it."""
    return json.dumps(
        {
            "body": json.dumps(
                [
                    args,
                    headers.pop("kwargs", {}),
                    {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
                    | dict(embed or {}),
                ]
            ),
            "content-encoding": "utf-8",
            "content-type": headers.pop("content_type", "application/json"),
            "headers": {
                "lang": "py",
                "task": task,
                "id": task_id,
                "root_id": task_id,
                "parent_id": None,
                "group": None,
                "retries": 0,
                "timelimit": [None, None],
                "argsrepr": repr(args),
                "kwargsrepr": "{}",
                "origin": "gen1@host",
                **headers,
            },
            "properties": {
                "body_encoding": "utf-8",
                "correlation_id": task_id,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "tasks"},
                "priority": 0,
                "delivery_tag": "d1",
            },
        }
    )


def record(
    text: str,
    message_id: str | None = None,
    *,
    received: int = 1,
    arn: str = QUEUE_ARN,
    **more: Any,
) -> Event:
    """One record of an SQS event. The receipt handle is new for each receive, as on SQS."""
    message_id = message_id or f"m{next(_numbers)}"
    return {
        "messageId": message_id,
        "receiptHandle": f"{message_id}/{received}",
        "body": text,
        "attributes": {
            "ApproximateReceiveCount": str(received),
            "SentTimestamp": "1800000000000",
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1800000000001",
            **more,
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": "us-east-1",
    }


def event(*records: Event) -> Event:
    return {"Records": list(records)}


def make_app(**settings: Any) -> Celery:
    """A Celery application on SQS, with its results in this process."""
    app = Celery("test", set_as_current=False)
    app.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": "http://127.0.0.1:1/123456789012/tasks"}},
            "sqs_base64_encoding": False,
        },
        task_default_queue="tasks",
        result_backend="cache+memory://",
        result_extended=True,
        **settings,
    )
    return app


@pytest.fixture
def queues() -> RecordedQueues:
    return RecordedQueues()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(autouse=True)
def _celery_as_before() -> Any:
    """Celery's worker keeps state in the process, and its adapter makes the app the current one."""
    from celery import _state
    from celery.backends import cache
    from celery.worker import state

    current: Callable[[], Any] = _state._get_current_app  # type: ignore[attr-defined]
    before = current()
    state.reset_state()
    cache._DUMMY_CLIENT_CACHE.clear()
    yield
    state.reset_state()
    before.set_current()
    before.set_default()
