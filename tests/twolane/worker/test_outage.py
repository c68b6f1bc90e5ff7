"""What counts as the result store being down: its own errors, and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from celery import Celery
from celery.exceptions import InvalidTaskError
from kombu.exceptions import EncodeError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from twolane.errors import StoreUnavailableError
from twolane.patches.clients import Trouble, guard, is_outage, trouble_of


def answered(code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutItem")


class Backend:
    """As far as it is guarded: ``store_result`` raises what it is given."""

    connection_errors = (RedisConnectionError,)

    def store_result(self, error: Exception) -> None:
        raise error

    def encode_result(self, error: Exception) -> None:
        raise error

    def mark_as_failure(self, *_: object) -> str:
        return "recorded"


@pytest.fixture
def backend() -> Any:
    return guard(Backend())


def raised(call: Any, error: Exception) -> Exception:
    with pytest.raises(type(error)) as caught:
        call(error)
    return caught.value


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (StoreUnavailableError("down"), Trouble.DOWN),
        (ConnectionRefusedError(), Trouble.DOWN),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), Trouble.DOWN),
        (ReadTimeoutError(endpoint_url="http://127.0.0.1:1"), Trouble.DOWN),
        (answered("InternalServerError", 500), Trouble.DOWN),
        (answered("ThrottlingException", 400), Trouble.DOWN),
        (answered("ValidationException", 400), Trouble.NONE),
        (answered("AccessDeniedException", 400), Trouble.REFUSES),
        (ValueError("too large"), Trouble.NONE),
        (InvalidTaskError("no kwargs"), Trouble.NONE),
        (RedisConnectionError(), Trouble.DOWN),
        (ResponseError("OOM command not allowed"), Trouble.REFUSES),
        (EncodeError("too big"), Trouble.NONE),
    ],
)
def test_what_the_store_says_of_itself(backend: Any, error: Exception, trouble: Trouble) -> None:
    assert trouble_of(raised(backend.store_result, error)) is trouble
    assert is_outage(error) is (trouble is Trouble.DOWN)


def test_the_same_error_of_anybody_else_is_none(backend: Any) -> None:
    for error in (ConnectionRefusedError(), RedisConnectionError(), answered("Internal", 500)):
        assert trouble_of(error) is Trouble.NONE
    assert trouble_of(raised(backend.encode_result, OSError("of its value"))) is Trouble.NONE


def test_a_failure_is_not_recorded_where_the_store_was_down(backend: Any) -> None:
    down, own = ConnectionError("the store's"), ConnectionError("the task's")
    try:
        backend.store_result(down)
    except ConnectionError:
        with pytest.raises(ConnectionError) as caught:
            backend.mark_as_failure("t1", RuntimeError("as Celery has it made picklable"))
        assert caught.value is down
    try:
        raise own
    except ConnectionError:
        assert backend.mark_as_failure("t1", own) == "recorded"


def test_a_backend_is_guarded_once() -> None:
    backend: Any = Celery("o", backend="redis://127.0.0.1:1", set_as_current=False).backend
    guarded = guard(backend).store_result
    assert guard(backend).store_result is guarded
