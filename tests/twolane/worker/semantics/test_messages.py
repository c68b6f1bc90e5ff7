"""What is on the wire: sizes, compression, signing, serialisers, priorities, several queues."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane.publish.claimcheck import MAX_MESSAGE_BYTES, read_pointer

from ....installed import since  # noqa: TID252
from .conftest import Lane, create_queue, to_event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from celery import Celery


def test_a_compressed_task(app: Celery, lane: Callable[..., Lane]) -> None:
    @app.task(shared=False, compression="zlib")
    def length(text: str) -> int:
        return len(text)

    worker = lane()
    result = length.delay("x" * 50_000)
    worker.drain()
    assert result.result == 50_000


def test_bound_class_based_and_custom_state(app: Celery, lane: Callable[..., Lane]) -> None:
    class Counting(app.Task):  # type: ignore[name-defined,misc]
        name = "counting"
        calls = 0

        def run(self, x: int) -> int:
            type(self).calls += 1
            self.update_state(state="PROGRESS", meta={"current": x})
            assert app.AsyncResult(self.request.id).info == {"current": x}
            return x + self.request.retries

    app.register_task(Counting())
    worker = lane()
    result = app.tasks["counting"].delay(4)
    worker.drain()
    assert (result.result, Counting.calls) == (4, 1)


@pytest.mark.skipif(not since("celery", 5, 5), reason="Celery has this since 5.5")
def test_pydantic_task(app: Celery, lane: Callable[..., Lane]) -> None:
    from pydantic import BaseModel

    class Order(BaseModel):
        amount: int

    def double(order: Order) -> Order:
        return Order(amount=order.amount * 2)

    double.__annotations__ = {"order": Order, "return": Order}
    task = app.task(shared=False, pydantic=True)(double)
    worker = lane()
    result = task.delay({"amount": 21})
    worker.drain()
    assert result.result == {"amount": 42}


def test_track_started(app: Celery, lane: Callable[..., Lane]) -> None:
    seen: list[str] = []

    @app.task(shared=False, bind=True, track_started=True)
    def look(self: Any) -> None:
        seen.append(app.AsyncResult(self.request.id).state)

    worker = lane()
    look.delay()
    worker.drain()
    assert seen == ["STARTED"]


def test_priority_reaches_the_task(app: Celery, lane: Callable[..., Lane]) -> None:
    seen: list[int] = []

    @app.task(shared=False, bind=True)
    def look(self: Any) -> None:
        seen.append(self.request.delivery_info["priority"])

    worker = lane()
    look.apply_async(priority=3)
    worker.drain()
    assert seen == [3]


def test_pickle_is_refused_before_it_is_decoded(app: Celery, lane: Callable[..., Lane]) -> None:
    @app.task(shared=False, name="add")
    def add(x: int) -> int:
        return x

    app.conf.accept_content = ["json", "pickle"]
    worker = lane()
    add.apply_async((1,), serializer="pickle")
    worker.run(30)
    assert len(worker.dead_letters()) == 1
    assert worker.is_empty


@pytest.mark.parametrize(
    ("more", "stored"), [pytest.param(-1, 0, marks=pytest.mark.slow), (0, 0), (1, 1)]
)
def test_a_message_at_the_limit(
    app: Celery, lane: Callable[..., Lane], more: int, stored: int
) -> None:
    import boto3

    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="big")
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "claim_check": {"bucket": "big"},
    }

    @app.task(shared=False, name="length", argsrepr="…")
    def length(text: str) -> int:
        return len(text)

    worker = lane()
    # The argument is sent in base64, in steps of four bytes; a header of plain text fills up.
    text, options = "x" * 700_000, {"argsrepr": "(…)", "task_id": "fixed"}
    length.apply_async((text,), headers={"filling": ""}, **options)
    (empty,) = worker.sqs.receive_message(QueueUrl=worker.url)["Messages"]
    worker.sqs.delete_message(QueueUrl=worker.url, ReceiptHandle=empty["ReceiptHandle"])
    room = MAX_MESSAGE_BYTES - len(empty["Body"]) + more
    result = length.apply_async((text,), headers={"filling": "y" * room}, **options)
    (sent,) = worker.sqs.receive_message(QueueUrl=worker.url)["Messages"]
    assert (read_pointer(sent["Body"]) is not None) == bool(stored)
    if not stored:
        assert len(sent["Body"]) == MAX_MESSAGE_BYTES + more
    worker.sqs.change_message_visibility(
        QueueUrl=worker.url, ReceiptHandle=sent["ReceiptHandle"], VisibilityTimeout=0
    )
    worker.pass_time(1)
    worker.drain()
    assert result.result == 700_000
    assert s3.list_objects_v2(Bucket="big")["KeyCount"] == stored


def test_several_queues_with_one_mapping_each(
    app: Celery, lane: Callable[..., Lane], aws: str
) -> None:
    seen: list[tuple[str, str]] = []

    @app.task(shared=False, bind=True, name="look")
    def look(self: Any, x: str) -> None:
        seen.append((x, self.request.delivery_info["routing_key"]))

    options = app.conf.broker_transport_options
    options["predefined_queues"]["slow"] = {"url": f"{aws}/123456789012/slow"}
    worker = lane()
    slow_url, _ = create_queue(worker.sqs, "slow")
    look.delay("a")
    look.apply_async(("b",), queue="slow")
    worker.drain()
    (message,) = worker.sqs.receive_message(QueueUrl=slow_url, AttributeNames=["All"])["Messages"]
    arn = "arn:aws:sqs:us-east-1:123456789012:slow"
    assert worker.handler(to_event([message], arn)) == {"batchItemFailures": []}
    assert seen == [("a", "tasks"), ("b", "slow")]


def make_certificate(folder: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=10_000))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))


@pytest.mark.skipif(not since("celery", 5, 5), reason="Celery 5.4 cannot tell a certificate's age")
def test_signed_messages(app: Celery, lane: Callable[..., Lane], tmp_path: Path) -> None:
    from kombu.serialization import registry

    make_certificate(tmp_path)
    ran: list[int] = []

    @app.task(shared=False, name="note")
    def note(x: int) -> None:
        ran.append(x)

    app.conf.update(
        security_key=str(tmp_path / "key.pem"),
        security_certificate=str(tmp_path / "cert.pem"),
        security_cert_store=str(tmp_path / "cert.pem"),
        task_serializer="auth",
        event_serializer="auth",
        accept_content=["auth"],
        result_accept_content=["json"],
    )
    disabled = set(registry._disabled_content_types)
    try:
        app.setup_security()
        worker = lane()
        note.delay(1)
        (message,) = worker.sqs.receive_message(
            QueueUrl=worker.url, AttributeNames=["All"], VisibilityTimeout=0
        )["Messages"]
        # The same task, changed on its way.
        forged = json.loads(message["Body"])
        forged["body"] = forged["body"][:-8] + "AAAAAAAA"
        forged["headers"]["id"] = "forged"
        unsigned = {**forged, "body": "[[2], {}, {}]", "content-type": "application/json"}
        worker.sqs.send_message(QueueUrl=worker.url, MessageBody=json.dumps(forged))
        worker.sqs.send_message(QueueUrl=worker.url, MessageBody=json.dumps(unsigned))
        worker.pass_time(1)
        worker.run(30)
    finally:
        registry._disabled_content_types.clear()
        registry._disabled_content_types.update(disabled)
        registry._set_default_serializer("json")
        registry.unregister("auth")
    assert ran == [1]
    assert len(worker.dead_letters()) == 2
