"""The transport behind stock Celery, on moto's SQS; its envelopes against kombu's own."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.transport.SQS import Transport as StockTransport

from twolane.publish.errors import EnqueueError
from twolane.publish.transport import Transport

from ...installed import since  # noqa: TID252

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from ...conftest import RunPython  # noqa: TID252


def envelope(message: dict[str, Any]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(message["Body"])
    return parsed


def stable(message: dict[str, Any]) -> dict[str, Any]:
    """Without what is drawn anew for each publish."""
    message["properties"].pop("delivery_tag")
    return message


def publish_stock(app: Celery, *args: Any, **options: Any) -> None:
    """The same publish, by kombu's own transport."""
    with Connection("sqs://", transport=StockTransport) as connection:
        connection.transport_options = app.conf.broker_transport_options
        app.tasks["shop.add"].apply_async(*args, connection=connection, **options)


@pytest.mark.parametrize(
    ("options", "encoding"),
    [
        pytest.param({}, True, id="plain"),
        pytest.param({}, False, id="not in base64"),
        pytest.param({"priority": 7, "headers": {"tenant": "é"}}, False, id="priority and headers"),
        pytest.param({"link": "callback", "time_limit": 9}, True, id="link and time limit"),
        pytest.param({"serializer": "json", "compression": "gzip"}, False, id="compressed"),
        pytest.param({"MessageGroupId": "tenant-1"}, False, id="fair queue"),
        pytest.param(
            {"message_attributes": {"kind": {"DataType": "String", "StringValue": "mail"}}},
            False,
            id="message attributes",
        ),
    ],
)
def test_envelopes_are_those_of_kombu_to_the_byte(
    make_app: Callable[..., Celery], queue: Any, options: dict[str, Any], encoding: bool
) -> None:
    app = make_app(queue.url, sqs_base64_encoding=encoding)
    if "link" in options:
        options = {**options, "link": app.tasks["shop.add"].s(1)}
    fixed = {"task_id": "6f1c0f5e-6a8b-4b65-9d9f-0f7b3a0f5a11", **options}
    app.tasks["shop.add"].apply_async((1, "ü"), **fixed)
    publish_stock(app, (1, "ü"), **fixed)
    ours, theirs = queue.take(2)

    def text(message: dict[str, Any]) -> str:
        body = message["Body"]
        return base64.b64decode(body).decode() if encoding else body

    tag = json.loads(text(ours))["properties"]["delivery_tag"]
    their_tag = json.loads(text(theirs))["properties"]["delivery_tag"]
    assert text(ours).replace(tag, their_tag) == text(theirs)
    assert ours.get("MessageAttributes") == theirs.get("MessageAttributes")
    # kombu passes the group to a queue that is not FIFO since 5.7.
    theirs_has = since("kombu", 5, 7) or "MessageGroupId" not in options
    group = theirs["Attributes"].get("MessageGroupId") if theirs_has else options["MessageGroupId"]
    assert ours["Attributes"].get("MessageGroupId") == group


def test_a_countdown_is_a_delay_on_the_queue(app: Celery, queue: Any) -> None:
    app.tasks["shop.add"].apply_async((1, 2), countdown=60)
    assert queue.take() == []
    assert queue.delayed() == 1


def test_an_explicit_delay_wins_over_the_eta(app: Celery, queue: Any) -> None:
    app.tasks["shop.add"].apply_async((1, 2), countdown=60, delay_seconds=0)
    (message,) = queue.take()
    assert envelope(message)["headers"]["eta"] is not None


def test_x_rays_header_rides_along(
    app: Celery, queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1")
    app.tasks["shop.add"].delay(1, 2)
    (message,) = queue.take()
    assert message["Attributes"]["AWSTraceHeader"].startswith("Root=1-5759e988")


def test_a_message_that_sqs_would_refuse_for_its_size_says_so(app: Celery, queue: Any) -> None:
    with pytest.raises(EnqueueError, match=r"shop.total\[.*\] makes a message of \d+ bytes"):
        app.tasks["shop.total"].delay([7] * 600_000)
    assert queue.take() == []


def test_a_queue_that_is_not_there_is_kombus_operational_error(
    make_app: Callable[..., Celery], queue: Any
) -> None:
    app = make_app(queue.url + "-gone")
    with pytest.raises(OperationalError, match=r"QueueDoesNotExist|NonExistentQueue"):
        app.tasks["shop.add"].delay(1, 2)


def test_consuming_is_handed_over_to_kombus_own_transport(app: Celery, queue: Any) -> None:
    app.tasks["shop.add"].delay(1, 2)
    bodies: list[Any] = []
    with app.connection_for_read() as connection:
        assert isinstance(connection.transport, Transport)
        with app.amqp.TaskConsumer(connection.default_channel) as consumer:
            consumer.register_callback(lambda body, message: (bodies.append(body), message.ack()))
            connection.drain_events(timeout=5)
    assert bodies[0][0] == [1, 2]
    assert queue.take() == []


def test_purging_is_handed_over(app: Celery, queue: Any) -> None:
    app.tasks["shop.add"].delay(1, 2)
    assert app.control.purge() >= 1
    assert queue.take() == []


def test_without_credentials_in_the_environment_boto3_finds_them(
    app: Celery, queue: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = AKID\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    app.tasks["shop.add"].delay(1, 2)
    assert envelope(queue.take()[0])["headers"]["task"] == "shop.add"


def test_a_fifo_queue_is_handed_over(make_app: Callable[..., Celery], queue: Any) -> None:
    url = queue.client.create_queue(QueueName="orders.fifo", Attributes={"FifoQueue": "true"})
    url = url["QueueUrl"]
    app = make_app(queue.url, predefined_queues={"orders.fifo": {"url": url}})
    app.tasks["shop.add"].apply_async((1, 2), queue="orders.fifo", MessageGroupId="g")
    answer = queue.client.receive_message(QueueUrl=url, AttributeNames=["All"])
    assert answer["Messages"][0]["Attributes"]["MessageGroupId"] == "g"


def test_boto3s_refusal_is_an_enqueue_error_too(
    make_app: Callable[..., Celery], queue: Any
) -> None:
    url = queue.url.rpartition("/")[0] + "/missing.fifo"
    app = make_app(queue.url, predefined_queues={"missing.fifo": {"url": url}})
    with pytest.raises(EnqueueError, match=r"not taken by queue 'missing.fifo'"):
        app.tasks["shop.add"].apply_async((1, 2), queue="missing.fifo")


def test_a_publish_imports_neither_boto3_nor_kombus_sqs(
    aws: str, queue: Any, run_python: RunPython
) -> None:
    program = f"""
import sys
from celery import Celery
from twolane.publish import install
install()
app = Celery("shop", broker="sqs://")
app.conf.update(
    broker_transport_options={{"predefined_queues": {{"tasks": {{"url": {queue.url!r}}}}}}},
    task_default_queue="tasks", task_ignore_result=True,
)
app.send_task("shop.add", (1, 2))
heavy = [n for n in sys.modules if n.split(".")[0] in ("boto3", "botocore", "redis", "fastapi")]
assert not heavy, heavy
assert "kombu.transport.SQS" not in sys.modules
"""
    run_python(program)
    assert len(queue.take()) == 1


def test_threads_publish_at_once(
    make_app: Callable[..., Celery], aws: str, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As FastAPI's sync routes do it: more threads than kombu's pool has connections."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", scripted.url)
    add = make_app("http://sqs.test/1/tasks").tasks["shop.add"]
    with ThreadPoolExecutor(20) as pool:
        sent = [result.id for result in pool.map(lambda n: add.delay(n, n), range(100))]
    received = [json.loads(seen.json["MessageBody"])["headers"]["id"] for seen in scripted.seen]
    assert sorted(received) == sorted(sent)
    assert len({seen.connection for seen in scripted.seen}) <= 10
