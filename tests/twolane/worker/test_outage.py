"""What counts as the result store being down, from the libraries' own errors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from billiard.einfo import ExceptionInfo
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from celery import Celery
from celery.exceptions import InvalidTaskError, Reject
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from twolane.errors import StoreUnavailableError
from twolane.worker.outage import is_outage, outage_in

NONE = SimpleNamespace()


def answered(code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutItem")


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (StoreUnavailableError("down"), True),
        (ConnectionRefusedError(), True),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), True),
        (ReadTimeoutError(endpoint_url="http://127.0.0.1:1"), True),
        (answered("InternalServerError", 500), True),
        (answered("ThrottlingException", 400), True),
        (answered("ValidationException", 400), False),
        (answered("AccessDeniedException", 400), False),
        (ValueError("too large"), False),
        (InvalidTaskError("no kwargs"), False),
    ],
)
def test_which_errors_pass_by_themselves(error: Exception, outage: bool) -> None:
    assert is_outage(error, NONE) is outage


def test_a_backend_knows_its_own_errors() -> None:
    backend = Celery("o", backend="redis://127.0.0.1:1", set_as_current=False).backend
    assert is_outage(RedisConnectionError(), backend)
    assert not is_outage(ResponseError("WRONGTYPE"), backend)


def failure(error: Exception, *, internal: bool) -> ExceptionInfo:
    try:
        raise error
    except Exception:  # noqa: BLE001 - for its traceback
        return ExceptionInfo(internal=internal)


def test_a_task_that_raises_the_same_error_has_failed() -> None:
    assert outage_in(failure(ConnectionError("its own"), internal=False), NONE) is None
    error = ConnectionError("the store's")
    assert outage_in(failure(error, internal=True), NONE) is error


def test_a_refusal_is_no_outage() -> None:
    refusal = Reject(ConnectionError("x"), requeue=True)
    assert outage_in(failure(refusal, internal=True), NONE) is None
