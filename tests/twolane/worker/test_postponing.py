"""What a task publishes with a late ETA: to a schedule at once, or to its queue."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from twolane import WorkerHandler
from twolane.publish.client import Response, Wire
from twolane.publish.message import due_at

from .conftest import QUEUE_ARN, Context, body, event, record

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "https://sqs.us-east-1.amazonaws.com/123456789012"
ROLE = "arn:aws:iam::123456789012:role/later"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}


class Aws:
    """SQS and Scheduler at the end of the wire: what they were asked, by path."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.scheduled: list[dict[str, Any]] = []
        self.refuses = False

    def post(
        self, headers: Mapping[str, str], body: bytes, *, path: str = "/", **_: Any
    ) -> Response:
        asked = json.loads(body)
        if path == "/":
            assert headers["x-amz-target"] == "AmazonSQS.SendMessage"
            self.sent.append(asked)
            return Response(200, b'{"MessageId": "m2"}', reusable=True)
        if self.refuses:
            return Response(403, b'{"Message": "not authorized"}', reusable=True)
        self.scheduled.append(asked)
        return Response(200, b'{"ScheduleArn": "arn"}', reusable=True)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    aws = Aws()
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"):
        monkeypatch.delenv(name, raising=False)

    def post(_: Wire, *args: Any, **options: Any) -> Response:
        return aws.post(*args, **options)

    monkeypatch.setattr(Wire, "post", post)
    return aws


@pytest.fixture
def app() -> Celery:
    app = Celery("late", set_as_current=False, broker="sqs://")
    app.conf.update(
        broker_transport_options={
            "region": "us-east-1",
            "sqs_base64_encoding": False,
            "predefined_queues": {
                "tasks": {"url": f"{HOST}/tasks"},
                "others": {"url": f"{HOST}/others"},
            },
        },
        task_default_queue="tasks",
        task_routes={"shop.other": {"queue": "others"}},
    )

    @app.task(shared=False, name="shop.again", bind=True, max_retries=5)
    def again(self: Any, countdown: float) -> None:
        raise self.retry(countdown=countdown)

    @app.task(shared=False, name="shop.other")
    def other() -> None:
        """Never run here."""

    @app.task(shared=False, name="shop.another")
    def another(countdown: float) -> None:
        other.apply_async(countdown=countdown)

    return app


def run(app: Celery, task: str, countdown: float, *, scheduler: bool = True) -> None:
    environ = dict(KEYS)
    if scheduler:
        environ |= {"TWOLANE_SCHEDULER_ROLE_ARN": ROLE, "TWOLANE_SCHEDULER_GROUP": "delays"}
    handler = WorkerHandler(app, environ=environ)
    message = record(body(task, countdown, task_id="t1"))
    assert handler(event(message), Context()) == {"batchItemFailures": []}


def test_a_late_retry_is_scheduled_as_it_would_be_sent(app: Celery, aws: Aws) -> None:
    run(app, "shop.again", 7200.0)
    assert aws.sent == []
    (entry,) = aws.scheduled
    assert (entry["GroupName"], entry["Target"]["Arn"]) == ("delays", QUEUE_ARN)
    message = json.loads(entry["Target"]["Input"])
    assert (message["headers"]["id"], message["headers"]["retries"]) == ("t1", 1)
    assert 0 <= seconds_late(entry) < 1


def seconds_late(entry: dict[str, Any]) -> float:
    """How long after the message's ETA the entry's time is."""
    due = due_at(json.loads(entry["Target"]["Input"])["headers"]["eta"])
    at = due_at(entry["ScheduleExpression"].removeprefix("at(").removesuffix(")") + "+00:00")
    assert due is not None
    assert at is not None
    return at - due


def test_an_eta_is_met_to_the_second(app: Celery, aws: Aws) -> None:
    app.tasks["shop.other"].queue = "tasks"
    app.conf.task_routes = {}
    run(app, "shop.another", 7200.0)
    (entry,) = aws.scheduled
    assert -61 < seconds_late(entry) <= -60


def test_a_retry_that_expires_is_not_to_be_late(app: Celery, aws: Aws) -> None:
    @app.task(shared=False, name="shop.expires", bind=True, max_retries=5)
    def expires(self: Any, _: float) -> None:
        raise self.retry(countdown=7200, expires=7230)

    run(app, "shop.expires", 0.0)
    (entry,) = aws.scheduled
    assert -61 < seconds_late(entry) <= -60


def test_what_sqs_can_delay_goes_to_its_queue(app: Celery, aws: Aws) -> None:
    run(app, "shop.again", 899.0)
    assert aws.scheduled == []
    assert [asked["DelaySeconds"] for asked in aws.sent] == [899]


def test_without_a_scheduler_it_goes_to_its_queue(app: Celery, aws: Aws) -> None:
    run(app, "shop.again", 7200.0, scheduler=False)
    assert aws.scheduled == []
    assert [asked["DelaySeconds"] for asked in aws.sent] == [900]


def test_another_queue_is_not_the_schedules_to_reach(app: Celery, aws: Aws) -> None:
    run(app, "shop.another", 7200.0)
    assert aws.scheduled == []
    assert [(a["QueueUrl"], a["DelaySeconds"]) for a in aws.sent] == [(f"{HOST}/others", 900)]


def test_what_scheduler_refuses_waits_on_its_queue(
    app: Celery, aws: Aws, caplog: pytest.LogCaptureFixture
) -> None:
    aws.refuses = True
    with caplog.at_level(logging.WARNING, logger="twolane.worker"):
        run(app, "shop.again", 7200.0)
    assert [asked["DelaySeconds"] for asked in aws.sent] == [900]
    assert "refused CreateSchedule" in caplog.text
    assert "waits on its queue instead" in caplog.text


def test_outside_of_a_batch_nothing_is_scheduled(app: Celery, aws: Aws) -> None:
    run(app, "shop.again", 10.0)
    app.tasks["shop.again"].apply_async((1.0,), countdown=7200)
    assert aws.scheduled == []
    assert [asked["DelaySeconds"] for asked in aws.sent] == [10, 900]


def test_an_explicit_delay_is_the_callers(app: Celery, aws: Aws) -> None:
    @app.task(shared=False, name="shop.explicit")
    def explicit(_: float) -> None:
        app.tasks["shop.again"].apply_async((1.0,), DelaySeconds=900)

    run(app, "shop.explicit", 0.0)
    assert aws.scheduled == []
    assert [asked["DelaySeconds"] for asked in aws.sent] == [900]
