"""What a task may do to its process, in a real one: the message's outcome, its neighbours', and
whether the environment is of use afterwards.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow
WORKER_LOST = "WorkerLostError"


@pytest.fixture(scope="module")
def store(redis_server: str) -> Iterator[Any]:
    import redis

    with redis.Redis.from_url(f"{redis_server}/3", decode_responses=True) as client:
        client.flushdb()
        yield client


@pytest.fixture(scope="module")
def worker(function: Callable[..., Any], redis_server: str, store: Any) -> Any:
    """One for all: what a task has changed stays changed for the next ones."""
    return function("mischief", {"RESULT_BACKEND": f"{redis_server}/3"})


@pytest.fixture(scope="module")
def pids() -> set[int]:
    return set()


def result(store: Any, task_id: str) -> dict[str, Any]:
    text = store.get(f"celery-task-meta-{task_id}")
    found: dict[str, Any] = json.loads(text) if text else {"status": "PENDING", "result": None}
    return found


def batch(sqs_record: Any, what: str) -> dict[str, Any]:
    return {
        "Records": [
            sqs_record("mischief", what, task_id=what),
            sqs_record("plain", task_id=f"{what}-neighbour"),
            sqs_record("limited", task_id=f"{what}-limited", limit_s=0.2),
        ]
    }


@pytest.mark.parametrize(
    ("what", "status", "value"),
    [
        ("child_returns", "SUCCESS", "parent"),
        ("child_raises", "SUCCESS", "parent of 1"),
        ("child_exits", "SUCCESS", "parent of 3"),
        ("child_tells_its_state", "SUCCESS", "parent"),
        ("child_is_left_alone", "SUCCESS", "parent"),
        ("processes", "SUCCESS", [1, 2]),
        ("directory_gone", "SUCCESS", "in no directory"),
        ("umask", "SUCCESS", 0o022),
        ("environment_cleared", "SUCCESS", None),
        ("alarm_taken", "SUCCESS", None),
        ("alarm_taken_and_given_back", "SUCCESS", None),
        ("alarm_far_away", "SUCCESS", None),
        ("alarm_ignored", "SUCCESS", None),
        ("alarm_blocked", "SUCCESS", None),
        ("termination_ignored", "SUCCESS", None),
        ("exits", "FAILURE", WORKER_LOST),
        ("interrupted", "FAILURE", WORKER_LOST),
        ("threads_left", "SUCCESS", None),
        ("default_timeout", "SUCCESS", None),
        ("logging_off", "SUCCESS", None),
        ("output_closed", "SUCCESS", None),
        ("output_replaced", "SUCCESS", None),
        ("path_cleared", "SUCCESS", None),
        ("recursion_limit", "SUCCESS", None),
        ("warnings_are_errors", "SUCCESS", None),
        ("own_descriptors", "SUCCESS", None),
    ],
)
def test_the_environment_is_sound_after_it(
    what: str, status: str, value: Any, *, worker: Any, store: Any, sqs_record: Any, pids: set[int]
) -> None:
    event, began = batch(sqs_record, what), time.monotonic()
    # A signal that is blocked is seen to with the next batch, everything else with the next task.
    parts = [event["Records"][:2], event["Records"][2:]]
    for records in parts if what == "alarm_blocked" else [event["Records"]]:
        assert worker({"Records": records}) == ({"batchItemFailures": []}, None)
    told = result(store, what)
    assert told["status"] == status, told
    assert (told["result"]["exc_type"] if status == "FAILURE" else told["result"]) == value
    neighbour = result(store, f"{what}-neighbour")
    assert neighbour["status"] == "SUCCESS"
    pids.add(neighbour["result"])
    assert len(pids) == 1, "the environment was another one"
    # Time limits still work, which need the process's one timer and its signal.
    limited = result(store, f"{what}-limited")
    assert limited["result"]["exc_type"] == "TimeLimitExceeded"
    assert time.monotonic() - began < 10
    assert store.lrange("effects", 0, -1).count(f"{what}:{what}") == 1


@pytest.mark.parametrize(
    "what", ["ends_at_once", "closes_everything", "closes_all_and_more", "closes_and_opens"]
)
def test_the_environment_ends_and_the_next_one_is_sound(
    what: str, worker: Any, store: Any, sqs_record: Any
) -> None:
    event = batch(sqs_record, what)
    _, error = worker(event)
    assert error is not None
    assert result(store, what)["status"] == "PENDING"
    # What is delivered again runs in a new environment, beside what the old one has ended.
    again = {"Records": [{**one, "receiptHandle": "again"} for one in event["Records"][1:]]}
    assert worker(again) == ({"batchItemFailures": []}, None)
    assert result(store, f"{what}-neighbour")["status"] == "SUCCESS"
    assert result(store, f"{what}-limited")["result"]["exc_type"] == "TimeLimitExceeded"


def test_the_last_attempt_delivered_again_is_the_last_one_still(
    function: Callable[..., Any], redis_server: str, store: Any, sqs_record: Any
) -> None:
    worker = function("mischief", {"RESULT_BACKEND": f"{redis_server}/3"}, timeout_s=2.0)
    last = sqs_record("retried", task_id="last", retries=2)
    _, error = worker({"Records": [last]})
    assert error is not None
    answer, busy = None, {"batchItemFailures": [{"itemIdentifier": "m-last"}]}
    give_up = time.monotonic() + 20
    while answer in (None, busy):
        assert time.monotonic() < give_up
        again = {**last, "receiptHandle": "again"}
        answer, error = worker({"Records": [again]})
        assert error is None
        threading.Event().wait(0.2)
    assert answer == {"batchItemFailures": []}
    assert store.get("ran:last") == "2"
    told = result(store, "last")
    assert (told["status"], told["result"]["exc_type"]) == ("FAILURE", "ValueError")
