"""Messages beyond SQS's limit: the body waits in S3, the queue carries a pointer to it.

The pointer is the one of AWS's own extended clients, so other tools can read the queue::

    ["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "…", "s3Key": "…"}]

with the message attribute ``ExtendedPayloadSize`` (Number, the body's size in bytes):
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-managing-large-messages.html

An application names its bucket in ``broker_transport_options``::

    {"claim_check": {"bucket": "my-bucket"}}

``prefix`` (``claim-check/`` if absent) and ``limit`` (bytes; SQS's own if absent) may be beside it.
Nothing is deleted here: a message may be delivered again, or redriven days later. A lifecycle rule
on the prefix cleans up, after the queues' retention period at the earliest.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twolane.environment import snapshot
from twolane.environment.invocation import deadline
from twolane.errors import ConfigurationError, MalformedMessageError
from twolane.patches.clients import patient_boto

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery import Celery

#: The most that SQS takes for one message, body and attributes together, in bytes (1 MiB):
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_MESSAGE_BYTES = 1_048_576

#: The most that a worker opens, in bytes: an object by claim check, a body once it is inflated.
#: Celery's setting ``twolane_max_body_size`` says otherwise.
MAX_BODY_BYTES = 64 * MAX_MESSAGE_BYTES

SIZE_ATTRIBUTE = "ExtendedPayloadSize"
_POINTER = "software.amazon.payloadoffloading.PayloadS3Pointer"

Attributes = dict[str, dict[str, Any]]


class Objects(Protocol):
    """S3, as far as it is needed."""

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Store an object; whatever goes wrong is raised."""

    def get(self, bucket: str, key: str) -> bytes:
        """Read an object. Raises ``KeyError`` where there is none (any more)."""


@dataclass(frozen=True, slots=True)
class ClaimCheck:
    """Checks big bodies in and redeems their pointers, in one bucket under one prefix."""

    bucket: str
    objects: Objects
    prefix: str = "claim-check/"
    limit: int = MAX_MESSAGE_BYTES
    new_key: Callable[[], str] = lambda: uuid.uuid4().hex
    largest: int = MAX_BODY_BYTES

    def check_in(
        self, body: str, attributes: Mapping[str, Mapping[str, Any]] | None = None
    ) -> tuple[str, Attributes]:
        """The body and attributes of SendMessage: as they are up to the limit, else a pointer, once
        the body is stored: a pointer to nothing is never sent.
        """
        kept = {name: dict(value) for name, value in (attributes or {}).items()}
        if message_size(body, kept) <= self.limit:
            return body, kept
        content = body.encode()
        key = f"{self.prefix}{self.new_key()}"
        self.objects.put(self.bucket, key, content)
        size = {"DataType": "Number", "StringValue": str(len(content))}
        return pointer_to(self.bucket, key), {**kept, SIZE_ATTRIBUTE: size}

    def redeem(self, body: str) -> str:
        """The body behind a pointer, or the body itself. Raises ``MalformedMessageError`` for a
        pointer out of this bucket and prefix, so that nobody who can write to the queue makes the
        worker read elsewhere, and where the object is gone or is larger than ``largest``.
        """
        pointer = read_pointer(body)
        if pointer is None:
            return body
        bucket, key = pointer
        if bucket != self.bucket or not key.startswith(self.prefix):
            raise MalformedMessageError(
                f"the message points to s3://{bucket}/{key}, which is not under "
                f"s3://{self.bucket}/{self.prefix}; it was not read"
            )
        try:
            content = self.objects.get(bucket, key)
            if len(content) > self.largest:
                raise TooLargeError(self.largest)
            return content.decode()
        except (KeyError, UnicodeDecodeError) as error:
            raise MalformedMessageError(
                f"the message's body at s3://{bucket}/{key} is gone or is no text; a lifecycle "
                "rule must keep it longer than the queues keep their messages"
            ) from error


class TooLargeError(MalformedMessageError):
    """The message's body is too large to be opened."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the message's body has more than {limit:,} bytes; where that is meant, raise "
            "Celery's setting twolane_max_body_size"
        )


def max_body_size(app: Celery) -> int:
    """The most that a worker opens, in bytes."""
    size = app.conf.get("twolane_max_body_size")
    if size is None:
        return MAX_BODY_BYTES
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigurationError(
            f"Celery's setting twolane_max_body_size is {size!r}; it takes a number of bytes"
        )
    return size


def claim_check(app: Celery, objects: Objects | None = None) -> ClaimCheck | None:
    """The application's claim check; ``None`` where it names no bucket."""
    options = (app.conf.broker_transport_options or {}).get("claim_check")
    if not options or not options.get("bucket"):
        return None
    unknown = set(options) - {"bucket", "prefix", "limit"}
    if unknown:
        raise ConfigurationError(
            f"broker_transport_options['claim_check'] has unknown keys {sorted(unknown)}; it takes "
            "bucket, prefix and limit"
        )
    largest = max_body_size(app)
    return ClaimCheck(objects=objects or S3Objects(largest), largest=largest, **options)


def message_size(body: str, attributes: Mapping[str, Mapping[str, Any]]) -> int:
    """A message's size as SQS counts it: the body, and each attribute's name, type and value."""
    size = len(body) if body.isascii() else len(body.encode())
    for name, attribute in attributes.items():
        value = attribute.get("StringValue", attribute.get("BinaryValue", b""))
        size += len(name.encode()) + len(str(attribute["DataType"]).encode())
        size += len(value.encode() if isinstance(value, str) else value)
    return size


def pointer_to(bucket: str, key: str) -> str:
    return json.dumps([_POINTER, {"s3BucketName": bucket, "s3Key": key}])


def read_pointer(body: str) -> tuple[str, str] | None:
    """Bucket and key, if the body is a pointer."""
    if not body.startswith("[") or _POINTER not in body[:100]:
        return None
    try:
        kind, place = json.loads(body)
        bucket, key = place["s3BucketName"], place["s3Key"]
        "".join((bucket, key)).encode()  # both are text, and have no lone surrogate
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (bucket, key) if kind == _POINTER else None


class S3Objects:
    """S3 through boto3, which is imported on the first big message.

    Needs ``s3:PutObject`` to publish and ``s3:GetObject`` to work, on the prefix.
    """

    def __init__(self, largest: int = MAX_BODY_BYTES) -> None:
        self._client: Any = None
        self._largest = largest
        #: The end of the invocation in which S3 said nothing.
        self._silent: float | None = None
        snapshot.holds(self)

    def let_go(self) -> None:
        """Close the client; the next call makes another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def put(self, bucket: str, key: str, content: bytes) -> None:
        self._s3().put_object(Bucket=bucket, Key=key, Body=content)

    def get(self, bucket: str, key: str) -> bytes:
        ends = deadline.get()
        if ends is not None and ends == self._silent:
            # Each would wait for half of the time that is left, and other messages have none then.
            raise TimeoutError(f"s3://{bucket}/{key} was not read: S3 did not answer just before")
        client = self._s3()
        try:
            found = client.get_object(Bucket=bucket, Key=key)
            if found["ContentLength"] > self._largest:
                found["Body"].close()
                raise TooLargeError(self._largest)
            content: bytes = found["Body"].read()
        except client.exceptions.NoSuchKey as error:
            raise KeyError(key) from error
        except TimeoutError:
            self._silent = ends
            raise
        return content

    def _s3(self) -> Any:
        if self._client is None:
            import boto3

            self._client = patient_boto(boto3.client("s3"))
        return self._client
