from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from twolane.errors import ConfigurationError, MalformedMessageError
from twolane.publish.claimcheck import (
    MAX_MESSAGE_BYTES,
    ClaimCheck,
    S3Objects,
    TooLargeError,
    claim_check,
    max_body_size,
    message_size,
    read_pointer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

POINTER = (
    '["software.amazon.payloadoffloading.PayloadS3Pointer", '
    '{"s3BucketName": "big", "s3Key": "claim-check/k1"}]'
)


class Shelf:
    """Objects in this process."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}

    def put(self, bucket: str, key: str, content: bytes) -> None:
        self.objects[bucket, key] = content

    def get(self, bucket: str, key: str) -> bytes:
        return self.objects[bucket, key]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def claim(shelf: Shelf) -> ClaimCheck:
    return ClaimCheck("big", shelf, new_key=lambda: "k1")


@pytest.mark.parametrize("size", [0, 1, MAX_MESSAGE_BYTES - 1, MAX_MESSAGE_BYTES])
def test_up_to_the_limit_nothing_is_checked_in(claim: ClaimCheck, shelf: Shelf, size: int) -> None:
    assert claim.check_in("x" * size) == ("x" * size, {})
    assert shelf.objects == {}


def test_one_byte_beyond_the_limit(claim: ClaimCheck, shelf: Shelf) -> None:
    body = "x" * (MAX_MESSAGE_BYTES + 1)
    assert claim.check_in(body) == (
        POINTER,
        {"ExtendedPayloadSize": {"DataType": "Number", "StringValue": "1048577"}},
    )
    assert shelf.objects == {("big", "claim-check/k1"): body.encode()}
    assert claim.redeem(POINTER) == body


def test_the_limit_counts_bytes_and_attributes(claim: ClaimCheck) -> None:
    attributes = {"trace": {"DataType": "String", "StringValue": "ü"}}
    assert message_size("aü", attributes) == 3 + 5 + 6 + 2
    room = MAX_MESSAGE_BYTES - 13
    assert claim.check_in("x" * room, attributes) == ("x" * room, attributes)
    assert claim.check_in("x" * (room + 1), attributes)[0] == POINTER
    assert claim.check_in("ü" * (MAX_MESSAGE_BYTES // 2 + 1))[0] == POINTER


def test_attributes_stay_beside_the_pointer(claim: ClaimCheck) -> None:
    attributes = {"trace": {"DataType": "Binary", "BinaryValue": b"\x01"}}
    _, sent = claim.check_in("x" * MAX_MESSAGE_BYTES, attributes)
    assert sent == {
        "trace": {"DataType": "Binary", "BinaryValue": b"\x01"},
        "ExtendedPayloadSize": {"DataType": "Number", "StringValue": "1048576"},
    }


@pytest.mark.parametrize(
    "body",
    [
        '{"body": "e30=", "headers": {}}',
        "e30=",
        "[1, 2]",
        '["software.amazon.payloadoffloading.PayloadS3Pointer"]',
        '["software.amazon.payloadoffloading.PayloadS3Pointer", {}]',
        '["software.amazon.payloadoffloading.PayloadS3Pointer", 1',
    ],
)
def test_any_other_body_is_no_pointer(claim: ClaimCheck, body: str) -> None:
    assert read_pointer(body) is None
    assert claim.redeem(body) == body


@pytest.mark.parametrize(
    ("bucket", "key"), [("others", "claim-check/k1"), ("big", "private/k1"), ("big", "claim-check")]
)
def test_a_pointer_elsewhere_is_not_followed(
    claim: ClaimCheck, shelf: Shelf, bucket: str, key: str
) -> None:
    shelf.put(bucket, key, b"secret")
    body = json.dumps([json.loads(POINTER)[0], {"s3BucketName": bucket, "s3Key": key}])
    with pytest.raises(MalformedMessageError, match="it was not read"):
        claim.redeem(body)


def test_an_object_that_is_gone(claim: ClaimCheck) -> None:
    with pytest.raises(MalformedMessageError, match="lifecycle rule must keep it longer"):
        claim.redeem(POINTER)


def app(**claim_check: object) -> Celery:
    made = Celery("t", set_as_current=False)
    made.conf.broker_transport_options = {"claim_check": claim_check} if claim_check else {}
    return made


def test_the_application_names_the_bucket() -> None:
    assert claim_check(app()) is None
    assert claim_check(app(bucket="")) is None
    found = claim_check(app(bucket="b", prefix="p/", limit=10))
    assert found is not None
    assert (found.bucket, found.prefix, found.limit) == ("b", "p/", 10)
    with pytest.raises(ConfigurationError, match=r"unknown keys \['bukket'\]"):
        claim_check(app(bucket="b", bukket="b"))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="big")
        yield client


def test_through_s3(bucket: Any) -> None:
    claim = ClaimCheck("big", S3Objects(), limit=10)
    body = "ü" * 20
    pointer, _ = claim.check_in(body)
    assert claim.redeem(pointer) == body
    stored = bucket.list_objects_v2(Bucket="big")["Contents"]
    assert [one["Key"].startswith("claim-check/") for one in stored] == [True]
    bucket.delete_object(Bucket="big", Key=stored[0]["Key"])
    with pytest.raises(MalformedMessageError):
        claim.redeem(pointer)


def test_an_object_beyond_the_limit_is_not_read(bucket: Any) -> None:
    app = Celery(set_as_current=False)
    app.conf.broker_transport_options = {"claim_check": {"bucket": "big", "limit": 10}}
    app.conf.twolane_max_body_size = 1_000
    claim = claim_check(app)
    assert claim is not None
    fits, _ = claim.check_in("x" * 1_000)
    assert claim.redeem(fits) == "x" * 1_000
    beyond, _ = claim.check_in("x" * 1_001)
    with pytest.raises(TooLargeError, match=r"more than 1,000 bytes.*twolane_max_body_size"):
        claim.redeem(beyond)


@pytest.mark.parametrize("size", [0, -1, "1", 1.5, True])
def test_a_limit_that_is_no_number_of_bytes(size: Any) -> None:
    app = Celery(set_as_current=False)
    app.conf.twolane_max_body_size = size
    with pytest.raises(ConfigurationError, match="twolane_max_body_size"):
        max_body_size(app)


KIND = "software.amazon.payloadoffloading.PayloadS3Pointer"
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
    | st.sampled_from(["big", "claim-check/k", "a\ud800", "claim-check/\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)  # fmt: skip


@given(place=json_values, bucket=json_values, key=json_values)
def test_no_pointer_breaks_its_reader(place: Any, bucket: Any, key: Any) -> None:
    claim = ClaimCheck("big", Shelf())
    for one in (place, {"s3BucketName": bucket, "s3Key": key}):
        body = json.dumps([KIND, one])
        try:
            assert claim.redeem(body) == body  # no pointer
        except MalformedMessageError:
            assert read_pointer(body) == (bucket, key)


def test_a_pointer_of_depth() -> None:
    body = f'["{KIND}", {"[" * 100_000}'
    assert read_pointer(body) is None
