"""Never lost, never twice: with real processes, a real Redis, and SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
HANDLERS = HERE.parents[3] / "handlers"


class Environment:
    """One process that handles events."""

    def __init__(self, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "environment.py"), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HANDLERS)},
        )

    def wait_until_ready(self) -> None:
        assert self._out.readline() == "ready\n"

    def send(self, event: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(event) + "\n")
        self.process.stdin.flush()

    def answer(self) -> list[str]:
        """The ids of the messages that are to come back."""
        answer = json.loads(self._out.readline())
        return [one["itemIdentifier"] for one in answer["batchItemFailures"]]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    @property
    def _out(self) -> Any:
        return self.process.stdout


@pytest.fixture
def environment(redis_url: str) -> Iterator[Callable[..., Environment]]:
    started: list[Environment] = []

    def start(**options: Any) -> Environment:
        one = Environment(redis=redis_url, **options)
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()
        for stream in (one.process.stdin, one.process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Any]:
    url = f"{redis_url}?socket_timeout=30"
    with redis_client.Redis.from_url(url, decode_responses=True) as client:
        yield client


def record(task: str, name: str, delivery: int) -> dict[str, Any]:
    """A delivery of the message ``name``: each has a receipt handle of its own."""
    message = {
        "body": json.dumps([[name], {}, {}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": task, "id": name, "retries": 0},
        "properties": {"body_encoding": "utf-8", "correlation_id": name, "delivery_tag": name},
    }
    return {
        "messageId": name,
        "receiptHandle": f"{name}/{delivery}",
        "body": json.dumps(message),
        "attributes": {"ApproximateReceiveCount": str(delivery)},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:tasks",
        "awsRegion": "us-east-1",
    }


def wait_for(client: Any, key: str) -> None:
    assert client.blpop([key], timeout=20) is not None, f"{key} never came"


def runs(client: Any) -> dict[str, int]:
    return {key.removeprefix("ran:"): int(client.get(key)) for key in client.keys("ran:*")}


def test_two_environments_with_the_same_messages_run_each_once(
    environment: Callable[..., Environment], redis: Any
) -> None:
    both = [environment(), environment()]
    for one in both:
        one.wait_until_ready()
    names = [f"t{number}" for number in range(10)]
    for delivery, one in enumerate(both, start=1):
        one.send({"Records": [record("count", name, delivery) for name in names]})
    returned = [set(one.answer()) for one in both]
    assert runs(redis) == dict.fromkeys(names, 1)
    # A message that both had was acknowledged by the one that ran it, at least.
    assert not returned[0] & returned[1]


@pytest.mark.slow
def test_killed_before_the_task(environment: Callable[..., Environment], redis: Any) -> None:
    first, second = environment(), environment()
    first.kill()
    first_never_answers = {"Records": [record("count", "a", 1)]}
    second.wait_until_ready()
    second.send(first_never_answers)
    assert second.answer() == []
    assert runs(redis) == {"a": 1}


def test_killed_during_a_task_its_batch_is_delivered_again(
    environment: Callable[..., Environment], redis: Any
) -> None:
    first = environment(timeout_s=5.0)
    next_one, later = environment(), environment(ahead_s=10.0)
    first.wait_until_ready()
    batch = [("count", "done"), ("hang_once", "hangs"), ("count", "not-begun")]
    first.send({"Records": [record(task, name, 1) for task, name in batch]})
    wait_for(redis, "hangs:hangs")
    first.kill()
    assert runs(redis) == {"done": 1, "hangs": 1}

    # At once: finished work is acknowledged, what may still be running goes back.
    next_one.wait_until_ready()
    next_one.send({"Records": [record(task, name, 2) for task, name in batch]})
    assert next_one.answer() == ["hangs"]
    assert runs(redis) == {"done": 1, "hangs": 1, "not-begun": 1}

    # After the killed function's timeout its lease has run out.
    later.wait_until_ready()
    later.send({"Records": [record("hang_once", "hangs", 3)]})
    assert later.answer() == []
    assert runs(redis) == {"done": 1, "hangs": 2, "not-begun": 1}


@pytest.mark.slow
def test_killed_after_the_task_it_is_not_repeated(
    environment: Callable[..., Environment], redis: Any
) -> None:
    first, second = environment(), environment(ahead_s=100.0)
    first.wait_until_ready()
    first.send({"Records": [record("count", "a", 1), record("hang_once", "b", 1)]})
    wait_for(redis, "hangs:b")  # so "a" has ended, and nothing was answered yet
    first.kill()
    second.wait_until_ready()
    second.send({"Records": [record("count", "a", 2)]})
    assert second.answer() == []
    assert runs(redis)["a"] == 1
