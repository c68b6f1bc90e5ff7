from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import EncodeError

from twolane.worker import WorkerHandler
from twolane.worker.dynamodb_backend import ITEM_LIMIT as LIMIT
from twolane.worker.dynamodb_backend import fitted


def sized(size: int, **more: Any) -> str:
    """A stored result of exactly so many bytes."""
    meta = {"status": "SUCCESS", "result": "", "args": [""], "kwargs": {}, **more}
    return json.dumps({**meta, "result": "x" * (size - len(json.dumps(meta)))})


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT])
def test_what_fits_stays(size: int) -> None:
    value = sized(size)
    assert fitted(value, json.loads, json.dumps) is value


def test_bytes_count_not_characters() -> None:
    value = json.dumps({"result": "ü" * (LIMIT // 2)}, ensure_ascii=False)
    assert len(value) < LIMIT
    with pytest.raises(EncodeError):
        fitted(value, json.loads, lambda meta: json.dumps(meta, ensure_ascii=False))


def test_arguments_give_way_to_the_result() -> None:
    big = {"text": "y" * LIMIT}
    value = sized(LIMIT + 2_000, args=[big], kwargs=big, children=[])
    meta = json.loads(fitted(value, json.loads, json.dumps))
    assert meta["args"].startswith("[{'text': 'yyy")
    assert len(meta["args"]) + len(meta["kwargs"]) < 3_000
    assert meta["status"] == "SUCCESS"


def test_a_result_that_is_too_big_by_itself() -> None:
    with pytest.raises(EncodeError, match="keep results in Redis"):
        fitted(sized(LIMIT + 1), json.loads, json.dumps)


@pytest.fixture
def app(results_table: Any, monkeypatch: pytest.MonkeyPatch) -> Celery:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    app = Celery("fitting", broker="sqs://", set_as_current=False)
    app.conf.update(
        result_backend="dynamodb://@us-east-1/results",
        result_extended=True,
        task_track_started=True,
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": "https://sqs.us-east-1.amazonaws.com/1/t"}},
        },
        task_default_queue="tasks",
    )

    @app.task(name="measure")
    def measure(text: str) -> int:
        return len(text)

    @app.task(name="echo")
    def echo(text: str) -> str:
        return text

    return app


def delivered(task: str, text: str) -> dict[str, Any]:
    """A message as the mapping hands it over."""
    headers = {"id": task, "task": task, "lang": "py", "retries": 0, "root_id": task}
    body = json.dumps([[text], {}, {"callbacks": None, "errbacks": None}])
    envelope = {
        "body": body, "headers": headers, "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {"body_encoding": "utf-8", "delivery_tag": task, "correlation_id": task,
                       "delivery_info": {"exchange": "", "routing_key": "tasks"}},
    }  # fmt: skip
    record = {
        "messageId": task, "receiptHandle": "r", "body": json.dumps(envelope),
        "attributes": {"ApproximateReceiveCount": "1"}, "messageAttributes": {},
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:1:t",
    }  # fmt: skip
    return {"Records": [record]}


def test_a_task_of_big_arguments_ends(app: Celery) -> None:
    assert WorkerHandler(app)(delivered("measure", "z" * 500_000), None) == {
        "batchItemFailures": []
    }
    result = app.AsyncResult("measure")
    assert (result.state, result.result) == ("SUCCESS", 500_000)


def test_a_task_of_a_big_result_fails_at_once(app: Celery) -> None:
    assert WorkerHandler(app)(delivered("echo", "z" * 500_000), None) == {"batchItemFailures": []}
    result = app.AsyncResult("echo")
    assert result.state == "FAILURE"
    assert "keep results in Redis" in str(result.result)
