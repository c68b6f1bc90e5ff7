"""Messages beyond SQS's limit, by way of moto's S3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from celery import group

from twolane.publish.claimcheck import ClaimCheck, S3Objects
from twolane.publish.errors import EnqueueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery


@pytest.fixture
def bucket(aws: str) -> Iterator[str]:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="big-messages")
    yield "big-messages"
    for found in s3.list_objects_v2(Bucket="big-messages").get("Contents", []):
        s3.delete_object(Bucket="big-messages", Key=found["Key"])
    s3.delete_bucket(Bucket="big-messages")
    s3.close()


def redeemed(message: dict[str, Any], bucket: str) -> dict[str, Any]:
    body = ClaimCheck(bucket, S3Objects()).redeem(message["Body"])
    parsed: dict[str, Any] = json.loads(body)
    return parsed


def test_a_big_message_leaves_a_pointer_and_keeps_the_rest(
    make_app: Callable[..., Celery], queue: Any, bucket: str
) -> None:
    app = make_app(queue.url, claim_check={"bucket": bucket})
    attribute = {"kind": {"DataType": "String", "StringValue": "mail"}}
    app.tasks["shop.total"].apply_async(([7] * 600_000,), message_attributes=attribute)
    (message,) = queue.take()
    assert len(message["Body"]) < 300
    assert set(message["MessageAttributes"]) == {"ExtendedPayloadSize", "kind"}
    assert redeemed(message, bucket)["headers"]["task"] == "shop.total"


def test_a_group_holds_big_and_small(
    make_app: Callable[..., Celery], queue: Any, bucket: str
) -> None:
    app = make_app(queue.url, claim_check={"bucket": bucket, "limit": 100_000})
    total = app.tasks["shop.total"]
    sizes = [10, 90_000, 20]
    result = group(total.s([1] * size) for size in sizes).delay()
    messages = queue.take(3)
    assert sorted(len(message["Body"]) < 300 for message in messages) == [False, False, True]
    ids = {redeemed(message, bucket)["headers"]["id"] for message in messages}
    assert ids == {child.id for child in result.children}


def test_a_bucket_that_refuses_is_an_enqueue_error_and_no_pointer_is_sent(
    make_app: Callable[..., Celery], queue: Any
) -> None:
    app = make_app(queue.url, claim_check={"bucket": "not-there"})
    with pytest.raises(EnqueueError, match=r"the S3 bucket not-there: .*NoSuchBucket"):
        app.tasks["shop.total"].delay([7] * 600_000)
    assert queue.take() == []
