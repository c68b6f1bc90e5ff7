"""Literal SQS events in, literal partial batch responses out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import Reject

from twolane import WorkerHandler
from twolane.errors import ConfigurationError
from twolane.worker.lease import lease_key

from ...installed import REJECTED  # noqa: TID252
from .conftest import Context, RecordedQueues, body, event, make_app, record

if TYPE_CHECKING:
    from celery import Celery

    from twolane.state.memory import MemoryStore


@pytest.fixture
def ran() -> list[Any]:
    return []


@pytest.fixture
def app(ran: list[Any]) -> Celery:
    app = make_app()

    @app.task(shared=False, name="add")
    def add(x: int, y: int) -> int:
        ran.append((x, y))
        return x + y

    @app.task(shared=False, name="fail")
    def fail() -> None:
        ran.append("fail")
        raise ValueError("no")

    @app.task(shared=False, name="again", acks_late=True)
    def again() -> None:
        ran.append("again")
        raise Reject("later", requeue=True)

    @app.task(shared=False, name="never", acks_late=True)
    def never() -> None:
        ran.append("never")
        raise Reject("never", requeue=False)

    return app


@pytest.fixture
def handler(app: Celery, queues: RecordedQueues, store: MemoryStore) -> WorkerHandler:
    return WorkerHandler(app, queues=queues, store=store, environ={})


def test_a_batch_that_succeeds(handler: WorkerHandler, app: Celery, queues: RecordedQueues) -> None:
    answer = handler(
        event(
            record(body("add", 1, 2, task_id="t1"), "m1"),
            record(body("add", 3, 4, task_id="t2"), "m2"),
        ),
        Context(),
    )
    assert answer == {"batchItemFailures": []}
    assert [app.AsyncResult(id_).result for id_ in ("t1", "t2")] == [3, 7]
    assert queues.changed == []


def test_a_message_exactly_as_kombu_writes_it_by_default(
    handler: WorkerHandler, app: Celery
) -> None:
    # Base64 in base64, from a stock kombu 5.7 producer.
    text = (
        "eyJib2R5IjogIlcxczFMQ0EyWFN3Z2UzMHNJSHNpWTJGc2JHSmhZMnR6SWpvZ2JuVnNiQ3dnSW1WeWNtSmhZMnR6"
        "SWpvZ2JuVnNiQ3dnSW1Ob1lXbHVJam9nYm5Wc2JDd2dJbU5vYjNKa0lqb2diblZzYkgxZCIsICJjb250ZW50LWVu"
        "Y29kaW5nIjogInV0Zi04IiwgImNvbnRlbnQtdHlwZSI6ICJhcHBsaWNhdGlvbi9qc29uIiwgImhlYWRlcnMiOiB7"
        "ImxhbmciOiAicHkiLCAidGFzayI6ICJhZGQiLCAiaWQiOiAidDkiLCAicmV0cmllcyI6IDB9LCAicHJvcGVydGll"
        "cyI6IHsiYm9keV9lbmNvZGluZyI6ICJiYXNlNjQiLCAiY29ycmVsYXRpb25faWQiOiAidDkiLCAiZGVsaXZlcnlf"
        "aW5mbyI6IHsiZXhjaGFuZ2UiOiAiIiwgInJvdXRpbmdfa2V5IjogInRhc2tzIn19fQ=="
    )
    assert handler(event(record(text))) == {"batchItemFailures": []}
    assert app.AsyncResult("t9").result == 11


def test_a_failure_that_is_recorded_is_deleted(handler: WorkerHandler, app: Celery) -> None:
    assert handler(event(record(body("fail", task_id="t1")))) == {"batchItemFailures": []}
    assert app.AsyncResult("t1").state == "FAILURE"


def test_an_empty_batch(handler: WorkerHandler) -> None:
    assert handler({"Records": []}) == {"batchItemFailures": []}


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"task": "add"}',
        "bm90IGpzb24=",
        '{"properties": {"body_encoding": "base64"}, "headers": {"task": "add"}, "body": "%"}',
        '{"properties": {}, "headers": [1], "body": ""}',
        '{"properties": {}, "headers": {"task": "add", "id": "t1"}, "body": ""}',
        body("add", task_id="t1").replace('"[[], {}, {', '"[[], {}, 7, {'),
        body("add", task_id="t1", content_type="application/x-python-serialize"),
        body("add", 1, 2, task_id="t1", eta="soon"),
        body("add", 1, 2, task_id="t1", compression="zlib"),
        body("unheard.of", task_id="t1"),
        body("add", 1, 2, task_id="t1", content_type="application/x-yaml"),
    ],
)
def test_what_cannot_be_read_goes_back(
    text: str, handler: WorkerHandler, queues: RecordedQueues, ran: list[Any]
) -> None:
    good = record(body("add", 1, 2, task_id="good"), "good")
    answer = handler(event(record(text, "bad", received=3), good))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "bad"}]}
    assert queues.visibility == {"bad/3": 4}
    assert ran == [(1, 2)]


def test_finished_work_is_acknowledged_not_run_again(
    handler: WorkerHandler, ran: list[Any]
) -> None:
    text = body("add", 1, 2, task_id="t1")
    assert handler(event(record(text, "m1"))) == {"batchItemFailures": []}
    assert handler(event(record(text, "m1", received=2))) == {"batchItemFailures": []}
    assert ran == [(1, 2)]


def test_a_message_of_another_name_under_the_same_id_runs(
    app: Celery, handler: WorkerHandler, ran: list[Any]
) -> None:
    """Whoever can send, and guess an id, cannot keep another task from running."""

    @app.task(shared=False, name="decoy")
    def decoy() -> None:
        ran.append("decoy")

    for text in (body("decoy", task_id="t1"), body("add", 1, 2, task_id="t1")):
        for received in (1, 2):
            again = record(text, str(hash(text)), received=received)
            assert handler(event(again)) == {"batchItemFailures": []}
    assert ran == ["decoy", (1, 2)]


def test_work_in_progress_elsewhere_goes_back_until_its_lease_ends(
    handler: WorkerHandler, queues: RecordedQueues, store: MemoryStore, ran: list[Any]
) -> None:
    import time

    until = time.time() + 40
    lease = {
        "state": "running", "holder": "other", "message": "m1", "publish": "d1",
        "since": until - 60, "until": until,
    }  # fmt: skip
    store.put(lease_key({"task": "add"}, "t1"), json.dumps(lease), ttl_s=60)
    answer = handler(event(record(body("add", 1, 2, task_id="t1"), "m1")))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert 39 <= queues.visibility["m1/1"] <= 42
    assert ran == []


def test_a_retry_waits_for_the_attempt_that_published_it(
    handler: WorkerHandler, queues: RecordedQueues, store: MemoryStore, ran: list[Any]
) -> None:
    import time

    now = time.time()
    lease = {
        "state": "running", "holder": "other", "message": "m0", "publish": "d0",
        "since": now, "until": now + 60,
    }  # fmt: skip
    store.put(lease_key({"task": "add"}, "t1"), json.dumps(lease), ttl_s=60)
    retry = body("add", 1, 2, task_id="t1", retries=1, parent_id="t1")
    answer = handler(event(record(retry, "m1")))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert queues.visibility == {"m1/1": 1}
    store.put(lease_key({"task": "add"}, "t1"), json.dumps({**lease, "state": "done"}), ttl_s=60)
    assert handler(event(record(retry, "m1", received=2))) == {"batchItemFailures": []}
    assert ran == [(1, 2)]


def test_an_attempt_that_was_killed_after_it_had_published_its_retry_does_not_come_after_it(
    handler: WorkerHandler, app: Celery, ran: list[Any]
) -> None:
    handler(event(record(body("fail", task_id="t1", retries=1, parent_id="t1"), "m2")))
    answer = handler(event(record(body("fail", task_id="t1"), "m1", received=2)))
    assert answer == {"batchItemFailures": []}
    assert ran == ["fail"]
    assert app.AsyncResult("t1").state == "FAILURE"


def test_requeue_comes_back_at_once_then_backs_off(
    handler: WorkerHandler, queues: RecordedQueues, ran: list[Any]
) -> None:
    text = body("again", task_id="t1")
    for received in (1, 2, 3, 4):
        answer = handler(event(record(text, "m1", received=received)))
        assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert queues.visibility == {"m1/1": 0, "m1/2": 1, "m1/3": 2, "m1/4": 4}
    assert ran == ["again"] * 4


def test_a_rejected_message_runs_once_and_goes_to_the_dead_letter_queue(
    handler: WorkerHandler, app: Celery, queues: RecordedQueues, ran: list[Any]
) -> None:
    text = body("never", task_id="t1")
    for received in (1, 2, 3):
        answer = handler(event(record(text, "m1", received=received)))
        assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert queues.visibility == {"m1/1": 0, "m1/2": 0, "m1/3": 0}
    assert ran == ["never"]
    assert app.AsyncResult("t1").state == REJECTED


def test_no_time_left_goes_back_untouched(
    handler: WorkerHandler, queues: RecordedQueues, ran: list[Any]
) -> None:
    batch = event(*(record(body("add", 1, 2, task_id=f"t{n}"), f"m{n}") for n in (1, 2)))
    assert handler(batch, Context(remaining_ms=500)) == {
        "batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": "m2"}]
    }
    assert queues.visibility == {"m1/1": 0, "m2/1": 0}
    assert ran == []


def test_a_fifo_group_waits_behind_its_failure(
    handler: WorkerHandler, queues: RecordedQueues, ran: list[Any]
) -> None:
    arn = "arn:aws:sqs:us-east-1:123456789012:tasks.fifo"
    batch = event(
        record(body("again", task_id="t1"), "m1", arn=arn, MessageGroupId="a"),
        record(body("add", 1, 1, task_id="t2"), "m2", arn=arn, MessageGroupId="a"),
        record(body("add", 2, 2, task_id="t3"), "m3", arn=arn, MessageGroupId="b"),
    )
    assert handler(batch) == {
        "batchItemFailures": [{"itemIdentifier": "m1"}, {"itemIdentifier": "m2"}]
    }
    assert ran == ["again", (2, 2)]


def test_an_eta_that_is_not_due_is_sent_again(
    handler: WorkerHandler, queues: RecordedQueues, ran: list[Any]
) -> None:
    text = body("add", 1, 2, task_id="t1", eta="2999-01-01T00:00:00+00:00")
    assert handler(event(record(text))) == {"batchItemFailures": []}
    assert queues.sent == [("arn:aws:sqs:us-east-1:123456789012:tasks", text, 900, {})]
    assert ran == []


def test_an_eta_on_a_fifo_queue_keeps_the_message_there(
    handler: WorkerHandler, queues: RecordedQueues, ran: list[Any]
) -> None:
    """Such a queue takes no delay for one message: nothing is sent, nothing deleted."""
    arn = "arn:aws:sqs:us-east-1:123456789012:tasks.fifo"
    text = body("add", 1, 2, task_id="t1", eta="2999-01-01T00:00:00+00:00")
    answer = handler(event(record(text, "m1", arn=arn, MessageGroupId="a")))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert (queues.sent, ran) == ([], [])
    assert queues.visibility["m1/1"] > 40_000


def test_an_eta_that_has_passed_runs(handler: WorkerHandler, ran: list[Any]) -> None:
    text = body("add", 1, 2, task_id="t1", eta="2020-01-01T00:00:00+00:00")
    assert handler(event(record(text))) == {"batchItemFailures": []}
    assert ran == [(1, 2)]


def test_an_expired_task_is_revoked(handler: WorkerHandler, app: Celery, ran: list[Any]) -> None:
    text = body("add", 1, 2, task_id="t1", expires="2020-01-01T00:00:00+00:00")
    assert handler(event(record(text))) == {"batchItemFailures": []}
    assert app.AsyncResult("t1").state == "REVOKED"
    assert ran == []


def test_a_revoked_task_is_not_run(
    handler: WorkerHandler, app: Celery, store: MemoryStore, ran: list[Any]
) -> None:
    store.put("twolane:revoked:t1", '{"terminate": false, "signal": "SIGTERM"}', ttl_s=60)
    store.put("twolane:revoked-stamp:tenant=7", '{"terminate": false}', ttl_s=60)
    stamped = {"stamped_headers": ["tenant"], "stamps": {"tenant": ["7"]}}
    answer = handler(
        event(
            record(body("add", 1, 2, task_id="t1")),
            record(body("add", 1, 2, task_id="t2", **stamped)),
            record(body("add", 5, 5, task_id="t3")),
        )
    )
    assert answer == {"batchItemFailures": []}
    assert ran == [(5, 5)]
    assert [app.AsyncResult(f"t{n}").state for n in (1, 2, 3)] == ["REVOKED", "REVOKED", "SUCCESS"]


def test_an_event_from_elsewhere(handler: WorkerHandler) -> None:
    with pytest.raises(ConfigurationError, match="not from SQS"):
        handler({"source": "aws.scheduler"})
