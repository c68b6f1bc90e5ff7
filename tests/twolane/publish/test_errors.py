"""What a failed enqueue is to code above: to a caller, to Celery, to an HTTP client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import botocore.exceptions
import httpx
import pytest
from celery import chord, group
from fastapi import FastAPI
from kombu.exceptions import OperationalError

from twolane.errors import TwolaneError
from twolane.http.problems import install_problems
from twolane.publish import client as client_module
from twolane.publish.errors import EnqueueBatchError, EnqueueError, botos_errors_translated

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery


def test_a_batch_names_each_task_that_was_not_sent() -> None:
    error = EnqueueBatchError({"t-1": "AccessDenied no", "t-2": "InternalError"}, sent=8)
    assert str(error).startswith("2 of 10 tasks were not put on their queue, 8 were.")
    assert "t-1: AccessDenied no; t-2: InternalError" in str(error)
    assert isinstance(error, OperationalError)
    assert isinstance(error, TwolaneError)


def test_only_botos_errors_are_translated() -> None:
    with (
        pytest.raises(EnqueueError, match="not taken by queue 'a'") as caught,
        botos_errors_translated("queue 'a'"),
    ):
        raise botocore.exceptions.NoCredentialsError
    assert isinstance(caught.value.__cause__, botocore.exceptions.NoCredentialsError)
    with pytest.raises(KeyError), botos_errors_translated("queue 'a'"):
        raise KeyError("mine")


@pytest.fixture
def api(
    scripted: Any, aws: str, make_app: Callable[..., Celery], monkeypatch: pytest.MonkeyPatch
) -> FastAPI:
    """An application as its author writes it: it enqueues, and says 202."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", scripted.url)
    monkeypatch.setattr(client_module, "BACKOFF_BASE_S", 0.0)
    celery = make_app("http://sqs.test/1/tasks")
    celery.conf.result_backend = "cache+memory://"
    add, total = celery.tasks["shop.add"], celery.tasks["shop.total"]
    api = FastAPI()
    install_problems(api)

    @api.post("/one", status_code=202)
    def one() -> str:
        return str(add.delay(1, 2))

    @api.post("/many", status_code=202)
    def many() -> str:
        return str(group(add.s(n, n) for n in range(3)).delay())

    @api.post("/big", status_code=202)
    def big() -> str:
        return str(total.delay([7] * 600_000))

    @api.post("/report", status_code=202)
    async def report() -> str:
        return str(chord([add.s(n, n) for n in range(3)])(total.s()))

    return api


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/one", "/many", "/report"])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((400, {"__type": "com.amazonaws.sqs#QueueDoesNotExist"}), id="no queue"),
        pytest.param((403, {"__type": "com.amazonaws.sqs#AccessDeniedException"}), id="no right"),
        pytest.param((503, {}), id="down"),
        pytest.param((None, {}), id="hangs up"),
    ],
)
async def test_an_enqueue_that_failed_is_503_and_never_202(
    api: FastAPI, scripted: Any, path: str, answer: tuple[int | None, dict[str, str]]
) -> None:
    status, body = answer
    for _ in range(client_module.ATTEMPTS):
        scripted.will(status, **body)
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        refused = await client.post(path)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "2"
        assert refused.headers["content-type"] == "application/problem+json"
        assert "sqs.test" not in refused.text
        scripted.script.clear()
        if path == "/one":
            assert (await client.post(path)).status_code == 202


@pytest.mark.asyncio
async def test_a_task_that_is_too_big_is_413_as_coming_again_would_not_help(
    api: FastAPI, scripted: Any
) -> None:
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        refused = await client.post("/big")
    assert refused.status_code == 413
    assert refused.headers["content-type"] == "application/problem+json"
    assert "retry-after" not in refused.headers
    assert scripted.seen == []
