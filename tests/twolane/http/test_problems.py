from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException
from kombu.exceptions import OperationalError
from pydantic import BaseModel

from twolane.errors import PublishError, StoreUnavailableError
from twolane.http.problems import Problem, install_problems
from twolane.publish.errors import EnqueueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...conftest import RunPython  # noqa: TID252


class Order(BaseModel):
    count: int


def api(error: Exception | None = None) -> FastAPI:
    app = FastAPI()
    install_problems(app)

    @app.get("/fails")
    async def fails() -> None:
        assert error is not None
        raise error

    @app.post("/orders")
    async def order(order: Order) -> None:
        return None

    return app


async def get(client_of: Callable[..., Any], app: FastAPI, path: str = "/fails") -> Any:
    async with client_of(app) as client:
        return await client.get(path)


@pytest.mark.asyncio
async def test_a_path_that_is_not_there(client_of: Callable[..., Any]) -> None:
    answer = await get(client_of, api(), "/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {"type": "about:blank", "title": "Not Found", "status": 404}


@pytest.mark.asyncio
async def test_a_method_that_is_not_there_keeps_its_allow_header(
    client_of: Callable[..., Any],
) -> None:
    answer = await get(client_of, api(), "/orders")
    assert answer.json()["title"] == "Method Not Allowed"
    assert answer.headers["allow"] == "POST"


@pytest.mark.asyncio
async def test_a_method_that_is_not_there_names_those_of_all_routes_with_the_path(
    client_of: Callable[..., Any],
) -> None:
    app, router = api(), APIRouter(prefix="/items")
    router.add_api_route("/{number}", lambda number: None, methods=["GET"])
    router.add_api_route("/{number}", lambda number: None, methods=["DELETE"])
    app.include_router(router)
    async with client_of(app) as client:
        answer = await client.patch("/items/1")
    assert (answer.status_code, answer.headers.get_list("allow")) == (405, ["DELETE, GET"])


@pytest.mark.asyncio
async def test_an_applications_own_error(client_of: Callable[..., Any]) -> None:
    error = HTTPException(418, "I am a teapot", headers={"x-tea": "green"})
    answer = await get(client_of, api(error))
    assert answer.json() == {
        "type": "about:blank", "title": "I'm a Teapot", "status": 418, "detail": "I am a teapot",
    }  # fmt: skip
    assert answer.headers["x-tea"] == "green"


@pytest.mark.asyncio
async def test_details_that_are_no_text_and_statuses_of_ones_own(
    client_of: Callable[..., Any],
) -> None:
    answer = await get(client_of, api(HTTPException(499, {"why": ["left"]})))
    assert answer.json() == {
        "type": "about:blank", "title": "Error", "status": 499, "errors": {"why": ["left"]},
    }  # fmt: skip


@pytest.mark.asyncio
async def test_a_problem_has_members_and_a_type(client_of: Callable[..., Any]) -> None:
    error = Problem(409, "Taken", type="https://example.test/taken", task_id="t1")
    answer = await get(client_of, api(error))
    assert answer.json() == {
        "type": "https://example.test/taken", "title": "Conflict", "status": 409,
        "detail": "Taken", "task_id": "t1",
    }  # fmt: skip


@pytest.mark.asyncio
async def test_a_validation_error_says_where_but_not_what(client_of: Callable[..., Any]) -> None:
    async with client_of(api()) as client:
        answer = await client.post("/orders", json={"count": "hunter2"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert error["loc"] == ["body", "count"]
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    "error",
    [
        PublishError("sqs://key:secret@host is down"),
        EnqueueError("sqs://key:secret@host is down"),
        OperationalError("redis://:secret@host is down"),
        StoreUnavailableError("redis://:secret@host is down"),
    ],
)
@pytest.mark.asyncio
async def test_what_was_not_accepted_may_be_tried_again(
    client_of: Callable[..., Any], caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    with caplog.at_level(logging.ERROR, "twolane.http"):
        answer = await get(client_of, api(error))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error]


@pytest.mark.asyncio
async def test_an_unexpected_error_tells_the_client_nothing(client_of: Callable[..., Any]) -> None:
    answer = await get(client_of, api(RuntimeError("the password is hunter2")))
    assert answer.json() == {
        "type": "about:blank", "title": "Internal Server Error", "status": 500,
    }  # fmt: skip


@pytest.mark.asyncio
async def test_the_openapi_document_says_so_too(client_of: Callable[..., Any]) -> None:
    app = api()

    @app.get("/own", responses={404: {"description": "Gone fishing"}})
    async def own() -> None:
        return None

    document = (await get(client_of, app, "/openapi.json")).json()
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses = document["paths"]["/own"]["get"]["responses"]
    assert responses["404"] == {"description": "Gone fishing", "content": problem}
    assert responses["default"]["content"] == problem
    assert "application/json" in responses["200"]["content"]
    assert document["paths"]["/orders"]["post"]["responses"]["422"]["content"] == problem
    schemas = document["components"]["schemas"]
    assert set(schemas) == {"Order", "Problem"}
    assert schemas["Problem"]["required"] == ["type", "title", "status"]
    assert app.openapi() is app.openapi()


def test_an_application_without_celery_does_not_pay_for_it(run_python: RunPython) -> None:
    program = """
import sys
from fastapi import FastAPI
from twolane.http.problems import install_problems
from twolane.http.changes import changes
install_problems(FastAPI())
heavy = {"celery", "kombu", "amqp", "boto3", "redis"} & set(sys.modules)
assert not heavy, heavy
"""
    run_python(program)
