"""The whole of a stack as a source, as the commands use it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from twolane_local.errors import LocalError
from twolane_local.journal.filters import Filter
from twolane_local.journal.messages import decode, task_message
from twolane_local.remote.source import Edit, MessageChoice
from twolane_local.remote.stack import StackSource

from .conftest import DEAD, TASKS

if TYPE_CHECKING:
    from twolane_local.remote.account import Account

    from .conftest import Sqs


@pytest.fixture
def source(account: Account, stack: str) -> StackSource:
    return StackSource(stack, account, poll_s=0)


def test_it_says_whose_it_is(source: StackSource) -> None:
    assert source.where == "stack shop (123456789012, us-east-1)"
    assert source.real


def test_send_puts_a_task_on_the_queue_that_a_function_reads(
    source: StackSource, account: Account
) -> None:
    sent = source.send("send", args=["a"], kwargs={"times": 2}, countdown=None, queue=None)
    assert sent["queue"] == TASKS
    client = account.client("sqs")
    url = client.get_queue_url(QueueName=TASKS)["QueueUrl"]
    (message,) = client.receive_message(QueueUrl=url)["Messages"]
    task = decode(message["Body"])
    assert (task.id, task.args, task.kwargs) == (sent["taskId"], ("a",), {"times": 2})
    assert message["MessageId"] == sent["messageId"]


def test_a_countdown_is_the_messages_delay(source: StackSource) -> None:
    source.send("send", args=[], kwargs={}, countdown=30, queue="Tasks")
    (queue,) = [each for each in source.queues() if each["name"] == TASKS]
    assert (queue["visible"], queue["delayed"]) == (0, 1)
    with pytest.raises(LocalError, match="900 s at most"):
        source.send("send", args=[], kwargs={}, countdown=901, queue=None)


def test_dead_letters_are_read_and_redriven_as_tasks(source: StackSource, account: Account) -> None:
    client = account.client("sqs")
    url = client.get_queue_url(QueueName=DEAD)["QueueUrl"]
    _, body = task_message("send", ["a"], task_id="task-number-1")
    identifier = client.send_message(QueueUrl=url, MessageBody=body)["MessageId"]
    (letter,) = source.messages("DeadLetters", limit=10)
    assert letter["task"]["name"] == "send"
    found = source.message(DEAD, "task-number-1")
    assert found is not None
    assert found["id"] == identifier
    done = source.redrive(
        DEAD, MessageChoice(("task-num",)), to=None, edit=Edit(kwargs={"times": 3})
    )
    assert [each["messageId"] for each in done["redriven"]] == [identifier]
    assert source.messages(DEAD, limit=10) == []


def test_a_dead_letter_is_shown_with_what_the_logs_say_of_its_end(
    source: StackSource, account: Account
) -> None:
    task_id = "5f0c1c1e-6f6f-4d0e-9a55-0b9c8a3d2e11"
    client = account.client("sqs")
    url = client.get_queue_url(QueueName=DEAD)["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody=task_message("send", task_id=task_id)[1])
    shown = source.message(DEAD, task_id)
    assert shown is not None
    assert shown["error"] is None, "no log yet"
    told = {"taskId": task_id, "taskName": "send", "requestId": "batch-2"}
    trace = "Traceback …\nValueError: no good"
    lines: list[dict[str, object]] = [
        {"logger": "celery.app.trace", "message": "raised", "stackTrace": trace, **told},
        {
            "logger": "twolane.worker",
            "event": "task.failed",
            "errorType": "ValueError",
            "durationMs": 3,
            **told,
        },
        {"logger": "twolane.worker", "event": "task.rejected", **told},
    ]
    group = "/aws/lambda/shop-Worker"
    client = account.client("logs")
    if not client.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        client.create_log_group(logGroupName=group)
    client.create_log_stream(logGroupName=group, logStreamName="dead")
    now = int(source.now() * 1000)
    events = [{"timestamp": now + n, "message": json.dumps(line)} for n, line in enumerate(lines)]
    client.put_log_events(logGroupName=group, logStreamName="dead", logEvents=events)
    shown = source.message(DEAD, task_id)
    assert shown is not None
    assert (shown["error"]["type"], shown["error"]["message"]) == (
        "ValueError", "ValueError: no good",
    )  # fmt: skip
    assert shown["error"]["traceback"] == trace
    client.delete_log_group(logGroupName=group)


def test_a_queue_that_a_function_reads_is_not_looked_into(source: StackSource, sqs: Sqs) -> None:
    with pytest.raises(LocalError, match="messages of shop-tasks are not read"):
        source.messages("Tasks", limit=1)
    with pytest.raises(LocalError, match="are not read"):
        source.purge(TASKS, MessageChoice(everything=True))
    assert "ReceiveMessage" not in sqs.calls


def test_replay_of_what_nothing_is_known_of(source: StackSource) -> None:
    with pytest.raises(LocalError, match="no table of stack shop has a result"):
        source.replay("task-9", Edit())


def test_replay_sends_a_stored_call_again_edited(source: StackSource, account: Account) -> None:
    meta = {"status": "SUCCESS", "result": 1, "name": "send", "args": ["a"], "kwargs": {"n": 1}}
    account.client("dynamodb").put_item(
        TableName="shop-results",
        Item={
            "id": {"S": "b'celery-task-meta-task-7'"},
            "result": {"B": json.dumps(meta).encode()},
        },
    )
    done = source.replay("task-7", Edit(args=["b"]))
    client = account.client("sqs")
    url = client.get_queue_url(QueueName=TASKS)["QueueUrl"]
    (message,) = client.receive_message(QueueUrl=url)["Messages"]
    task = decode(message["Body"])
    assert (task.id, task.name, task.args, task.kwargs) == (done["id"], "send", ("b",), {"n": 1})


def test_trace_tail_and_tasks_read_the_logs(source: StackSource, account: Account) -> None:
    client = account.client("logs")
    now = source.now()
    lines = [
        {"logger": "twolane.publish", "event": "task.published", "taskId": "task-1",
         "taskName": "send", "queue": "tasks", "requestId": "request-1", "messageId": "m-1"},
        {"logger": "twolane.worker", "event": "task.failed", "taskId": "task-1",
         "taskName": "send", "durationMs": 4,
         "requestId": "batch-1", "originRequestId": "request-1", "errorType": "ValueError",
         "level": "ERROR", "messageId": "m-1"},
    ]  # fmt: skip
    for name, line in zip(("shop-Api", "shop-Worker"), lines, strict=True):
        group = f"/aws/lambda/{name}"
        client.create_log_group(logGroupName=group)
        client.create_log_stream(logGroupName=group, logStreamName="s")
        events = [{"timestamp": int(now * 1000), "message": json.dumps(line)}]
        client.put_log_events(logGroupName=group, logStreamName="s", logEvents=events)
    trace = source.trace("task-1")
    assert trace is not None
    assert {span["taskId"] for span in trace["spans"] if "taskId" in span} == {"task-1"}
    assert source.trace("task-9-unknown") is None
    assert source.trace('task-1" ?"') is None
    assert source.why("task-1") == []
    (task,) = source.tasks()
    assert (task["name"], task["counts"]["failed"], task["p50Ms"]) == ("send", 1, 4.0)
    (run,) = source.runs("send", limit=10)
    assert (run["state"], run["error"]) == ("failed", "ValueError")
    failed = source.events(Filter(state="failed", function="Worker"), since=None, limit=10)
    assert [event.kind for event in failed] == ["task.failed"]
    assert source.events(Filter(), since=now + 60, limit=10) == []
