"""Task events over a real Redis, read as Flower reads them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import boto3
import pytest
from celery import Celery

from twolane import WorkerHandler
from twolane.publish import install
from twolane.worker.events import events_url

from .conftest import RecordedQueues, body, event, record

# kombu before 5.5 asks redis-py for a connection as it was done before 5.3.
pytestmark = pytest.mark.filterwarnings("ignore:Call to 'get_connection':DeprecationWarning")


def application(url: str | None, **settings: Any) -> Celery:
    app = Celery("events", set_as_current=False)
    app.conf.update(broker_url="sqs://", task_default_queue="tasks", result_backend=url, **settings)

    @app.task(shared=False, name="add", ignore_result=True)
    def add(x: int, y: int) -> int:
        return x + y

    return app


def test_a_monitor_sees_the_worker_and_its_tasks(redis_url: str) -> None:
    app = application(redis_url, worker_send_task_events=True)
    monitor = Celery("monitor", broker=redis_url, set_as_current=False)
    seen: list[dict[str, Any]] = []
    with monitor.connection() as connection:
        receiver = monitor.events.Receiver(connection, handlers={"*": seen.append})
        context = receiver.consumer_context(wakeup=False)
        listening, _, _ = context.__enter__()
        with suppress(TimeoutError):  # kombu subscribes when it first looks
            listening.drain_events(timeout=0.1)
        handler = WorkerHandler(app, queues=RecordedQueues(), environ={}, hostname="celery@lambda")
        handler(event(record(body("add", 1, 2, task_id="t1"))))
        while not seen or seen[-1]["type"] != "task-succeeded":
            listening.drain_events(timeout=10)
        context.__exit__(None, None, None)
    assert [one["type"] for one in seen] == [
        "worker-online",
        "worker-heartbeat",
        "task-received",
        "task-started",
        "task-succeeded",
    ]
    assert {one["hostname"] for one in seen} == {"celery@lambda"}
    assert seen[-1]["uuid"] == "t1"
    close(app)
    monitor.close()


def test_a_publisher_tells_what_it_sent(
    aws_server: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": aws_server, "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    sqs = boto3.client("sqs", "us-east-1", endpoint_url=aws_server)
    url = sqs.create_queue(QueueName="sent")["QueueUrl"]
    install()
    app = application(redis_url, task_send_sent_event=True)
    app.conf.broker_transport_options = {
        "region": "us-east-1",
        "predefined_queues": {"tasks": {"url": url}},
    }
    seen: list[dict[str, Any]] = []
    with app.connection() as unused:  # a monitor that knows the application is led to Redis
        receiver = app.events.Receiver(unused, handlers={"*": seen.append})
        context = receiver.consumer_context(wakeup=False)
        listening, _, _ = context.__enter__()
        with suppress(TimeoutError):
            listening.drain_events(timeout=0.1)
        sent = app.tasks["add"].delay(1, 2)
        while not seen:
            listening.drain_events(timeout=10)
        context.__exit__(None, None, None)
        receiver.channel.connection.client.close()
    assert [one["type"] for one in seen] == ["task-sent"]
    assert (seen[0]["uuid"], seen[0]["name"], seen[0]["queue"]) == (sent.id, "add", "tasks")
    assert sqs.receive_message(QueueUrl=url)["Messages"]
    sqs.delete_queue(QueueUrl=url)
    sqs.close()
    close(app)


def close(app: Celery) -> None:
    dispatcher = getattr(app, "_twolane_test_dispatcher", None)
    if dispatcher is not None:
        dispatcher.close()
    app.close()


def test_events_are_off_by_default(redis_url: str) -> None:
    app = application(redis_url)
    handler = WorkerHandler(app, queues=RecordedQueues(), environ={})
    assert handler._worker.consumer.event_dispatcher is None
    close(app)


def test_where_events_go() -> None:
    assert events_url(application("redis://h/1")) == "redis://h/1"
    assert events_url(application("dynamodb://@us-east-1/t")) is None
    named = application("dynamodb://@us-east-1/t", twolane_events_url="rediss://e/0")
    assert events_url(named) == "rediss://e/0"
