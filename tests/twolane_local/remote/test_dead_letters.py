from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.errors import LocalError
from twolane_local.journal.messages import decode, task_message
from twolane_local.remote.dead_letters import DeadLetters, message_shape, resend_fields
from twolane_local.remote.source import Edit, MessageChoice

from .conftest import DEAD, TASKS

if TYPE_CHECKING:
    from twolane_local.remote.account import Account

    from .conftest import Sqs

ALL = MessageChoice(everything=True)


@pytest.fixture
def letters(account: Account, sqs: Sqs) -> DeadLetters:
    client = account.client("sqs")
    urls = {name: client.get_queue_url(QueueName=name)["QueueUrl"] for name in (DEAD, TASKS)}
    return DeadLetters(account, urls, poll_s=0)


def fail(account: Account, *bodies: str, **fields: Any) -> list[str]:
    """Messages that went the whole way: sent, received too often, dead-lettered. Their ids."""
    client = account.client("sqs")
    url = client.get_queue_url(QueueName=TASKS)["QueueUrl"]
    ids = [
        client.send_message(QueueUrl=url, MessageBody=body, **fields)["MessageId"]
        for body in bodies
    ]
    for _ in range(3 * (1 + len(bodies) // 5)):
        client.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return ids


def on(account: Account, queue: str) -> list[dict[str, Any]]:
    client = account.client("sqs")
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    found: list[dict[str, Any]] = client.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0,
        MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"],
    ).get("Messages", [])  # fmt: skip
    return found


def body(name: str, *args: Any, task_id: str | None = None) -> str:
    return task_message(name, args, queue="tasks", task_id=task_id)[1]


def test_a_look_shows_tasks_and_hides_nothing(letters: DeadLetters, account: Account) -> None:
    (identifier,) = fail(account, body("send", "a@example.com", task_id="t-1"))
    (message,) = letters.peek(DEAD, limit=10)
    shown = message_shape(DEAD, message)
    assert (shown["id"], shown["source"], shown["state"]) == (identifier, TASKS, "visible")
    assert shown["task"] == {
        "id": "t-1", "name": "send", "args": ["a@example.com"], "kwargs": {}, "rootId": "t-1",
        "origin": shown["task"]["origin"],
    }  # fmt: skip
    assert [each["MessageId"] for each in on(account, DEAD)] == [identifier]


def test_more_than_a_receive_gives_are_all_seen_once(
    letters: DeadLetters, account: Account
) -> None:
    ids = fail(account, *[body("send", number) for number in range(23)])
    seen = [message["MessageId"] for message in letters.peek(DEAD, limit=100)]
    assert sorted(seen) == sorted(ids)
    assert len(letters.peek(DEAD, limit=12)) == 12
    assert len(letters.peek(DEAD, limit=100)) == 23, "what was looked at is there again"


def test_redrive_sends_body_and_attributes_intact(letters: DeadLetters, account: Account) -> None:
    attributes = {
        "origin": {"DataType": "String", "StringValue": "shop"},
        "blob": {"DataType": "Binary.x", "BinaryValue": b"\x00\x01"},
    }
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2-3;Lineage=a:15"}}
    sent = body("send", 1)
    (identifier,) = fail(account, sent, MessageAttributes=attributes, MessageSystemAttributes=trace)
    done = letters.redrive(DEAD, ALL, to=None, edit=Edit())
    (now,) = on(account, TASKS)
    assert done == {
        "redriven": [{"messageId": identifier, "newMessageId": now["MessageId"], "queue": TASKS}],
        "failed": [],
    }
    assert now["Body"] == sent
    assert now["MessageAttributes"] == attributes
    # Lambda would stop it again by the lineage.
    assert now["Attributes"]["AWSTraceHeader"] == "Root=1-2-3"
    assert on(account, DEAD) == []


def test_redrive_of_one_edited_leaves_the_others(letters: DeadLetters, account: Account) -> None:
    first, second = fail(account, body("send", "a", task_id="t-1"), body("send", "b"))
    done = letters.redrive(DEAD, MessageChoice((first,)), to=None, edit=Edit(args=["c"]))
    assert [each["messageId"] for each in done["redriven"]] == [first]
    (now,) = on(account, TASKS)
    task = decode(now["Body"])
    assert (task.id, task.args) == ("t-1", ("c",))
    assert [each["MessageId"] for each in on(account, DEAD)] == [second]


def test_redrive_by_the_name_of_the_task(letters: DeadLetters, account: Account) -> None:
    ids = fail(account, body("send", 1), body("other", 2), "no task at all")
    done = letters.redrive(DEAD, MessageChoice(task="send"), to=None, edit=Edit())
    assert [each["messageId"] for each in done["redriven"]] == [ids[0]]
    assert sorted(each["MessageId"] for each in on(account, DEAD)) == sorted(ids[1:])


def test_a_message_that_is_not_sent_again_stays(
    letters: DeadLetters, account: Account, sqs: Sqs
) -> None:
    (identifier,) = fail(account, body("send", 1))
    sqs.broken.add("SendMessage")
    done = letters.redrive(DEAD, ALL, to=None, edit=Edit())
    assert done["redriven"] == []
    assert done["failed"][0]["messageId"] == identifier
    assert "AccessDenied" in done["failed"][0]["why"]
    assert "DeleteMessage" not in sqs.calls
    assert [each["MessageId"] for each in on(account, DEAD)] == [identifier]


def test_a_message_that_is_not_deleted_is_said_to_be_twice(
    letters: DeadLetters, account: Account, sqs: Sqs
) -> None:
    (identifier,) = fail(account, body("send", 1))
    sqs.broken.add("DeleteMessage")
    done = letters.redrive(DEAD, ALL, to=None, edit=Edit())
    assert done["redriven"] == []
    assert "sent again to shop-tasks as " in done["failed"][0]["why"]
    assert len(on(account, TASKS)) == 1
    assert [each["MessageId"] for each in on(account, DEAD)] == [identifier]


def test_what_was_done_is_told_where_it_could_not_go_on(
    letters: DeadLetters, account: Account, sqs: Sqs
) -> None:
    fail(account, *[body("send", number) for number in range(12)])
    sqs.breaks_after["ReceiveMessage"] = sqs.calls.count("ReceiveMessage") + 1
    done = letters.redrive(DEAD, ALL, to=None, edit=Edit())
    assert len(done["redriven"]) == 10
    assert [each["messageId"] for each in done["failed"]] == ["the rest"]
    assert "AccessDenied" in done["failed"][0]["why"]


def test_the_send_comes_before_the_delete(letters: DeadLetters, account: Account, sqs: Sqs) -> None:
    fail(account, body("send", 1))
    del sqs.calls[:]
    letters.redrive(DEAD, ALL, to=None, edit=Edit())
    assert sqs.calls.index("SendMessage") < sqs.calls.index("DeleteMessage")


def test_what_was_put_there_by_hand_goes_to_the_only_source(
    letters: DeadLetters, account: Account
) -> None:
    letters.send(DEAD, body("send", 1))
    done = letters.redrive(DEAD, ALL, to=None, edit=Edit())
    assert [each["queue"] for each in done["redriven"]] == [TASKS]


def test_what_cannot_be_edited_stays(letters: DeadLetters, account: Account) -> None:
    fail(account, "no task")
    done = letters.redrive(DEAD, ALL, to=None, edit=Edit(args=[1]))
    assert "cannot be edited" in done["failed"][0]["why"]
    assert len(on(account, DEAD)) == 1


def test_purge_deletes_what_is_meant(letters: DeadLetters, account: Account) -> None:
    first, second = fail(account, body("send", 1), body("other", 2))
    assert letters.purge(DEAD, MessageChoice((first[:8],))) == 1
    assert [each["MessageId"] for each in on(account, DEAD)] == [second]
    assert letters.purge(DEAD, ALL) == 1
    assert on(account, DEAD) == []


def test_permissions_that_are_missing_are_said(
    letters: DeadLetters, account: Account, sqs: Sqs
) -> None:
    sqs.broken.add("ReceiveMessage")
    with pytest.raises(LocalError, match=r"queue shop-dead: .*permissions"):
        letters.peek(DEAD, limit=1)


def test_a_fifo_queue_gets_the_group_and_a_deduplication_id_of_its_own() -> None:
    message = {
        "MessageId": "m-1", "Body": "x",
        "Attributes": {"MessageGroupId": "g", "MessageDeduplicationId": "d"},
    }  # fmt: skip
    assert resend_fields(message, Edit(), fifo=True) == {
        "MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "redrive-m-1",
    }  # fmt: skip


def test_a_hidden_task_and_secrets_are_not_shown() -> None:
    _, hidden = task_message("pay", ["4111 1111"], argsrepr="(***)")
    message = {"MessageId": "m", "Body": hidden, "Attributes": {}}
    assert "4111 1111" not in json.dumps(message_shape(DEAD, message))
    message["Body"] = '{"password": "geheim"}'
    assert "geheim" not in json.dumps(message_shape(DEAD, message))
