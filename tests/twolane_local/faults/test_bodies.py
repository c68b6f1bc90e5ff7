"""Bodies that are not what the worker expects."""

from __future__ import annotations

import base64
import json

from twolane_local.faults import seams as queues
from twolane_local.journal.messages import task_message

IDENTITY, BODY = task_message("app.tasks.work", [1], {"a": 2})


def test_another_task() -> None:
    assert queues.task_name_of(queues.unknown_task(BODY)) == "gone.in.this.deploy"
    assert queues.task_id_of(queues.unknown_task(BODY)) == IDENTITY


def test_another_signature() -> None:
    changed = json.loads(queues.changed_signature(BODY))
    text = changed["body"]
    if changed["properties"].get("body_encoding") == "base64":
        text = base64.b64decode(text)
    args, kwargs, _ = json.loads(text)
    assert args == [1]
    assert kwargs == {"a": 2, "an_argument_of_the_next_deploy": 1}


def test_what_is_no_task() -> None:
    for spoil in (queues.poison, queues.truncated):
        assert queues.task_id_of(spoil(BODY)) is None
        assert queues.task_name_of(spoil(BODY)) is None


def test_as_big_as_sqs_takes() -> None:
    big = queues.at_the_limit(BODY)
    assert len(big.encode()) == 1_048_576
    assert json.loads(big) == json.loads(BODY)


def test_whether_a_failure_has_consequences() -> None:
    assert not queues.has_consequences(BODY)
    assert not queues.has_consequences("no task")
    envelope = json.loads(BODY)
    args, kwargs, embed = json.loads(base64.b64decode(envelope["body"]))
    embed["errbacks"] = [{"task": "told"}]
    envelope["body"] = base64.b64encode(json.dumps([args, kwargs, embed]).encode()).decode()
    envelope["properties"]["body_encoding"] = "base64"
    assert queues.has_consequences(json.dumps(envelope))
