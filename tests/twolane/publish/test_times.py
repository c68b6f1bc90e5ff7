"""Times from the request to the result, through our worker, on a real Redis."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from twolane import WorkerHandler
from twolane.environment.logs import correlation
from twolane.http.tasks import from_meta
from twolane.publish import install
from twolane.publish.message import stamp, times_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


def test_a_stamp_is_iso_8601_in_utc() -> None:
    assert stamp(1_772_366_400.5) == "2026-03-01T12:00:00.500+00:00"


def test_results_of_other_workers_have_no_times() -> None:
    assert times_of({"status": "SUCCESS", "twolane_started_at": 7}) == {}


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    install()
    app = Celery("shop", broker="memory://", backend=redis_url, set_as_current=False)
    app.conf.update(result_extended=True, task_default_queue="times")

    @app.task(name="shop.flaky", shared=False, bind=True, max_retries=1, default_retry_delay=0)
    def flaky(self: Any) -> str:
        if self.request.retries == 0:
            raise self.retry(countdown=0)
        return "done"

    yield app
    app.backend.client.close()
    app.close()


def run_what_waits(app: Celery) -> None:
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        body = json.dumps(channel._get("times"))
    record = {
        "messageId": "m", "receiptHandle": "r", "body": body, "messageAttributes": {},
        "attributes": {"ApproximateReceiveCount": "1"}, "awsRegion": "us-east-1",
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:times",
    }  # fmt: skip
    assert WorkerHandler(app)({"Records": [record]})["batchItemFailures"] == []


def times(app: Celery, task_id: str) -> list[datetime | None]:
    status = from_meta(task_id, app.backend.get_task_meta(task_id, cache=False))
    found = (status.published_at, status.started_at, status.finished_at)
    return [None if text is None else datetime.fromisoformat(text) for text in found]


def test_a_retry_keeps_when_it_was_published_and_tells_when_it_last_started(app: Celery) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    token = correlation.set({"requestId": "r-1"})
    try:
        task_id = app.tasks["shop.flaky"].delay().id
    finally:
        correlation.reset(token)
    assert times(app, task_id) == [None, None, None]
    run_what_waits(app)
    published, first_start, unfinished = times(app, task_id)
    assert published is not None
    assert first_start is not None
    assert unfinished is None
    assert before <= published <= first_start
    run_what_waits(app)
    still_published, last_start, finished = times(app, task_id)
    assert last_start is not None
    assert finished is not None
    assert still_published == published
    assert first_start <= last_start
    assert last_start.timestamp() <= finished.timestamp() + 0.001
