"""The message group of a task, its tenant on a fair queue, in all that the task publishes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, chain, chord, group

from twolane import WorkerHandler

from ..worker.conftest import Context, event, record  # noqa: TID252

if TYPE_CHECKING:
    from collections.abc import Callable

FIFO = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}


@pytest.fixture
def shop(make_app: Callable[..., Celery], queue: Any) -> Celery:
    app = make_app(queue.url, sqs_base64_encoding=False)
    app.conf.update(result_backend="cache+memory://", task_ignore_result=False)

    @app.task(shared=False, name="shop.again", bind=True, max_retries=3)
    def again(self: Any, countdown: float = 0) -> None:
        raise self.retry(countdown=countdown)

    @app.task(
        shared=False, name="shop.unsteady", autoretry_for=(ValueError,), default_retry_delay=0
    )
    def unsteady() -> None:
        raise ValueError

    @app.task(shared=False, name="shop.broken")
    def broken() -> None:
        raise KeyError

    @app.task(shared=False, name="shop.parent")
    def parent(**options: Any) -> None:
        app.tasks["shop.add"].apply_async((1, 2), **options)

    return app


def run(app: Celery, message: dict[str, Any]) -> None:
    """Have the worker run a message as the event source mapping hands it over."""
    given = record(message["Body"], **message["Attributes"])
    given["attributes"]["ApproximateReceiveCount"] = "1"
    answer = WorkerHandler(app, environ={})(event(given), Context())
    assert answer == {"batchItemFailures": []}


def groups(messages: list[dict[str, Any]]) -> list[str | None]:
    """Of each message: as SQS has it, and as it stands in the body."""
    for message in messages:
        inside = json.loads(message["Body"])["properties"].get("MessageGroupId")
        assert inside == message["Attributes"].get("MessageGroupId")
    return [message["Attributes"].get("MessageGroupId") for message in messages]


@pytest.mark.parametrize("task", ["shop.again", "shop.unsteady"])
def test_a_retry_stays_its_tenants(shop: Celery, queue: Any, task: str) -> None:
    shop.tasks[task].apply_async(MessageGroupId="customer-1")
    for _ in range(2):
        (message,) = queue.take(1)
        assert groups([message]) == ["customer-1"]
        run(shop, message)
    assert groups(queue.take(1)) == ["customer-1"]


def test_so_does_each_task_of_a_canvas(shop: Celery, queue: Any) -> None:
    add = shop.tasks["shop.add"]
    chain(add.s(1, 2), group(add.s(3), add.s(4))).apply_async(MessageGroupId="customer-1")
    (first,) = queue.take(1)
    assert groups([first]) == ["customer-1"]
    run(shop, first)
    assert groups(queue.take(2)) == ["customer-1"] * 2
    group(add.s(1, 2), add.s(3, 4)).apply_async(MessageGroupId="customer-2")
    assert groups(queue.take(2)) == ["customer-2"] * 2


def test_so_does_a_callback_an_errback_and_the_body_of_a_chord(shop: Celery, queue: Any) -> None:
    add, total = shop.tasks["shop.add"], shop.tasks["shop.total"]
    add.apply_async((1, 2), MessageGroupId="a", link=add.s(3))
    shop.tasks["shop.broken"].apply_async(MessageGroupId="b", link_error=total.si([1]))
    for message in queue.take(2):
        run(shop, message)
    assert sorted(map(str, groups(queue.take(2)))) == ["a", "b"]
    chord([add.s(1, 2).set(MessageGroupId="c")])(total.s())
    (header,) = queue.take(1)
    run(shop, header)
    assert groups(queue.take(1)) == ["c"]


def test_what_a_task_publishes_is_its_tenants_unless_it_says_otherwise(
    shop: Celery, queue: Any
) -> None:
    parent = shop.tasks["shop.parent"]
    for options in ({}, {"MessageGroupId": "b"}, {"MessageGroupId": ""}):
        parent.apply_async(kwargs=options, MessageGroupId="a")
    for message in queue.take(3):
        run(shop, message)
    assert sorted(map(str, groups(queue.take(3)))) == ["None", "a", "b"]


def test_tasks_of_a_batch_do_not_mix_their_tenants(shop: Celery, queue: Any) -> None:
    @shop.task(shared=False, name="shop.slow")
    def slow(mine: str) -> None:
        shop.send_task("shop.total", ([], mine))

    given = []
    for group_id in "ab":
        slow.apply_async((group_id,), MessageGroupId=group_id)
        (message,) = queue.take(1)
        given.append(record(message["Body"], MessageGroupId=group_id))
    assert WorkerHandler(shop, environ={})(event(*given), Context()) == {"batchItemFailures": []}
    messages = queue.take(2)
    assert sorted(map(str, groups(messages))) == ["a", "b"]
    for message, group_id in zip(messages, groups(messages), strict=True):
        assert json.loads(message["Body"])["headers"]["argsrepr"] == f"([], '{group_id}')"


def test_the_group_is_the_messages_own_whoever_sent_it(shop: Celery, queue: Any) -> None:
    """As when another program sends it: the body then does not know of the group."""
    shop.tasks["shop.again"].delay()
    (message,) = queue.take(1)
    assert groups([message]) == [None]
    message["Attributes"]["MessageGroupId"] = "customer-1"
    run(shop, message)
    assert groups(queue.take(1)) == ["customer-1"]


def test_without_a_group_there_is_none(shop: Celery, queue: Any) -> None:
    shop.tasks["shop.again"].delay()
    (message,) = queue.take(1)
    run(shop, message)
    assert groups(queue.take(1)) == [None]


def test_a_route_names_the_tenant_by_the_arguments(shop: Celery, queue: Any) -> None:
    def by_customer(_name: str, _args: Any, kwargs: Any, *_: Any, **__: Any) -> Any:
        return {"queue": "tasks", "MessageGroupId": kwargs["customer"]}

    shop.conf.task_routes = (by_customer,)

    @shop.task(shared=False, name="shop.serve")
    def serve(customer: str) -> None:
        """Never run here."""

    serve.delay(customer="customer-1")
    assert groups(queue.take(1)) == ["customer-1"]
    serve.apply_async(kwargs={"customer": "customer-1"}, MessageGroupId="other")
    assert groups(queue.take(1)) == ["other"]


def test_on_a_fifo_queue_only_a_retry_keeps_its_group(shop: Celery, queue: Any) -> None:
    url = queue.client.create_queue(QueueName="tenants.fifo", Attributes=FIFO)["QueueUrl"]
    shop.conf.broker_transport_options["predefined_queues"]["tenants.fifo"] = {"url": url}
    shop.tasks["shop.again"].apply_async(queue="tenants.fifo", MessageGroupId="a")
    shop.tasks["shop.parent"].apply_async(
        kwargs={"queue": "tenants.fifo"}, queue="tenants.fifo", MessageGroupId="a"
    )

    def take(count: int) -> list[dict[str, Any]]:
        answer = queue.client.receive_message(
            QueueUrl=url, AttributeNames=["All"], MaxNumberOfMessages=count, WaitTimeSeconds=2
        )
        for one in answer["Messages"]:
            queue.client.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
        found: list[dict[str, Any]] = answer["Messages"]
        return found

    for message in take(2):
        run(shop, message)
    assert sorted(one["Attributes"]["MessageGroupId"] for one in take(2)) == ["a", "default"]
