"""Batches against a server that refuses parts of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from celery import group
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.exceptions import OperationalError

from twolane.publish import client as client_module
from twolane.publish.batch import MAX_ENTRIES, Batch
from twolane.publish.client import Credentials, SqsClient
from twolane.publish.errors import EnqueueBatchError
from twolane.publish.message import MAX_BYTES, Entry
from twolane.publish.transport import Endpoint, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

TARGET = Target(
    "http://q/1/tasks", Endpoint.of("http://q"), "us-east-1", Credentials("AKID", "secret")
)


def ids(seen: Any) -> list[str]:
    return [json.loads(e["MessageBody"])["headers"]["id"] for e in seen.json["Entries"]]


def taken(*numbers: int) -> list[dict[str, str]]:
    return [{"Id": str(n), "MessageId": f"m{n}"} for n in numbers]


def failed(number: int, code: str, *, sender: bool) -> dict[str, Any]:
    return {"Id": str(number), "Code": code, "Message": "because", "SenderFault": sender}


@pytest.fixture
def app(
    scripted: Any, aws: str, make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch
) -> Celery:
    monkeypatch.setenv("AWS_ENDPOINT_URL", scripted.url)
    monkeypatch.setattr(client_module, "BACKOFF_BASE_S", 0.0)
    return make_app("http://sqs.test/1/tasks")


def send_three(app: Celery) -> Any:
    add = app.tasks["shop.add"]
    return group([add.s(n, n).set(task_id=f"task-{n}") for n in range(3)]).delay()


def test_what_is_refused_for_now_is_sent_again_alone(app: Celery, scripted: Any) -> None:
    scripted.will(200, Successful=taken(0, 2), Failed=[failed(1, "InternalError", sender=False)])
    scripted.will(200, Successful=taken(0), Failed=[])
    send_three(app)
    assert [ids(seen) for seen in scripted.seen] == [["task-0", "task-1", "task-2"], ["task-1"]]


def test_what_is_refused_for_good_is_raised_by_task_id(app: Celery, scripted: Any) -> None:
    scripted.will(
        200, Successful=taken(1), Failed=[failed(0, "InvalidMessageContents", sender=True),
                                          failed(2, "InternalError", sender=False)],
    )  # fmt: skip
    for _ in range(client_module.ATTEMPTS - 1):
        scripted.will(200, Failed=[failed(0, "InternalError", sender=False)])
    with pytest.raises(EnqueueBatchError, match="2 of 3 tasks were not put") as caught:
        send_three(app)
    assert caught.value.failures == {
        "task-0": "InvalidMessageContents because",
        "task-2": "InternalError because",
    }
    assert caught.value.sent == 1
    assert isinstance(caught.value, OperationalError)


def test_a_refusal_does_not_keep_the_rest_of_the_group_back(app: Celery, scripted: Any) -> None:
    scripted.will(
        200,
        Successful=taken(*range(1, 10)),
        Failed=[failed(0, "InvalidMessageContents", sender=True)],
    )
    scripted.will(200, Successful=taken(0, 1))
    add = app.tasks["shop.add"]
    with pytest.raises(EnqueueBatchError) as caught:
        group([add.s(n, n).set(task_id=f"task-{n}") for n in range(12)]).delay()
    assert list(caught.value.failures) == ["task-0"]
    assert caught.value.sent == 11


def test_an_entry_that_the_answer_forgot_is_sent_again_and_in_the_end_raised(
    app: Celery, scripted: Any
) -> None:
    scripted.will(200, Successful=taken(0, 2))
    for _ in range(client_module.ATTEMPTS - 1):
        scripted.will(200, Successful=[])
    with pytest.raises(EnqueueBatchError) as caught:
        send_three(app)
    assert caught.value.failures == {"task-1": "SQS did not say whether it was taken"}
    assert [len(ids(seen)) for seen in scripted.seen] == [3, 1, 1, 1]


def test_an_outage_ends_the_group_and_names_what_was_not_sent(app: Celery, scripted: Any) -> None:
    scripted.will(200, Successful=taken(*range(10)))
    for _ in range(client_module.ATTEMPTS):
        scripted.will(503)
    add = app.tasks["shop.add"]
    with pytest.raises(EnqueueBatchError) as caught:
        group([add.s(n, n).set(task_id=f"task-{n}") for n in range(25)]).delay()
    assert list(caught.value.failures) == [f"task-{n}" for n in range(10, 20)]
    assert caught.value.sent == 10
    assert len(scripted.seen) == 1 + client_module.ATTEMPTS


def test_a_batch_holds_no_more_than_sqs_takes(app: Celery, scripted: Any) -> None:
    for count in (2, 2, 1):
        scripted.will(200, Successful=taken(*range(count)))
    total = app.tasks["shop.total"]
    group([total.s([10**6 + n] * 42_000).set(task_id=f"task-{n}") for n in range(5)]).delay()
    assert [len(ids(seen)) for seen in scripted.seen] == [2, 2, 1]
    assert all(len(seen.body) < 1_100_000 for seen in scripted.seen)


def test_the_next_publish_after_a_failed_group_works(app: Celery, scripted: Any) -> None:
    scripted.will(200, Failed=[failed(n, "AccessDenied", sender=True) for n in range(3)])
    with pytest.raises(EnqueueBatchError):
        send_three(app)
    app.tasks["shop.add"].delay(1, 2)
    assert scripted.seen[-1].headers["x-amz-target"] == "AmazonSQS.SendMessage"


def test_a_slow_generator_holds_nothing_back() -> None:
    now = [0.0]
    requests: list[int] = []

    class Client(SqsClient):
        def call(self, action: str, target: Target, fields: Any) -> dict[str, Any]:
            requests.append(len(fields["Entries"]))
            now[0] += 1000
            return {"Successful": taken(*range(len(fields["Entries"])))}

    class Channel:
        sqs = Client()

    batch = Batch(Channel(), 1000, monotonic=lambda: now[0])  # type: ignore[arg-type]
    sent = []
    for number, pause in enumerate([0, 1, 1, 100, 100, 1, 1]):
        now[0] += pause
        batch.add(TARGET, Entry(f"task-{number}", "shop.add", 1, {"MessageBody": "b"}))
        sent.append(sum(requests))
    assert sent == [0, 0, 0, 4, 5, 5, 5]
    batch.flush()
    assert requests == [4, 1, 2]


sizes = st.lists(st.integers(1, 600_000) | st.integers(1, 2_000), max_size=40)


@settings(deadline=None)
@given(sizes=sizes, refused=st.sets(st.integers(0, 39)))
def test_whatever_the_sizes_every_message_goes_once_in_order_within_the_limits(
    sizes: list[int], refused: set[int]
) -> None:
    requests: list[list[int]] = []

    class Client(SqsClient):
        def call(self, action: str, target: Target, fields: Any) -> dict[str, Any]:
            numbers = [int(entry["MessageBody"]) for entry in fields["Entries"]]
            requests.append(numbers)
            held = [(place, number in refused) for place, number in enumerate(numbers)]
            return {
                "Successful": [
                    {"Id": str(place), "MessageId": "m"} for place, no in held if not no
                ],
                "Failed": [failed(place, "X", sender=True) for place, no in held if no],
            }

    class Channel:
        sqs = Client()

    batch = Batch(Channel(), 1000, monotonic=lambda: 0.0)  # type: ignore[arg-type]
    for number, size in enumerate(sizes):
        batch.add(TARGET, Entry(f"task-{number}", "shop.add", size, {"MessageBody": str(number)}))
    expected = [number for number in range(len(sizes)) if number in refused]
    try:
        batch.flush()
        failures = []
    except EnqueueBatchError as error:
        failures = list(error.failures)
    assert failures == [f"task-{number}" for number in expected]
    assert [number for request in requests for number in request] == list(range(len(sizes)))
    assert all(len(request) <= MAX_ENTRIES for request in requests)
    assert all(sum(sizes[number] for number in request) <= MAX_BYTES for request in requests)
