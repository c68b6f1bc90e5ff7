from __future__ import annotations

from typing import Any

import botocore.exceptions
import pytest
import redis.exceptions
from celery import Celery
from starlette.requests import Request

from twolane.errors import StoreUnavailableError
from twolane.http.tasks import Tasks, is_uuid

ID = "6f1c0f5e-6a8b-4b65-9d9f-0f7b3a0f5a11"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (ID, True),
        (ID.upper(), True),
        (ID.replace("-", ""), False),
        (f"{{{ID}}}", False),
        (f"urn:uuid:{ID}", False),
        ("", False),
        (f"{ID}\n", False),
    ],
)
def test_ids_have_one_form(text: str, verdict: bool) -> None:
    assert is_uuid(text) is verdict


class Failing:
    """A result backend that fails as its client library does."""

    connection_errors = ()

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get_task_meta(self, *_: Any, **__: Any) -> None:
        raise self.error


async def look(error: Exception) -> None:
    celery = Celery("shop", set_as_current=False)
    celery._backend_cache = Failing(error)
    try:
        await Tasks(celery).look(Request({"type": "http"}), ID)
    finally:
        celery.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("nobody there"),
        redis.exceptions.ConnectionError("nobody there"),
        botocore.exceptions.EndpointConnectionError(endpoint_url="https://dynamodb.test"),
    ],
)
async def test_whichever_client_says_it_the_store_is_unavailable(error: Exception) -> None:
    with pytest.raises(StoreUnavailableError, match=f"did not answer for task {ID}") as caught:
        await look(error)
    assert caught.value.__cause__ is error


@pytest.mark.asyncio
async def test_an_error_of_another_kind_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="undecodable"):
        await look(ValueError("undecodable"))
