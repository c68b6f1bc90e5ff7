from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from twolane.errors import StoreUnavailableError
from twolane.http.idempotency import CLAIM_S, KEEP_S, MAX_BODY, idempotent_route
from twolane.http.problems import install_problems
from twolane.state.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio
KEY = {"idempotency-key": "order-1"}


class Shop:
    """An API that counts what it enqueues."""

    def __init__(self, client_of: Callable[..., Any], **options: Any) -> None:
        self.now = 1000.0
        self.store = options.pop("store", None) or MemoryStore(lambda: self.now)
        self.enqueued: list[Any] = []
        self.started, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()
        celery = Celery("shop", set_as_current=False)
        router = APIRouter(route_class=idempotent_route(celery, store=self.store, **options))

        @router.post("/orders", status_code=202)
        async def order(request: Request, response: Response) -> dict[str, str]:
            self.started.set()
            await self.go_on.wait()
            self.enqueued.append(await request.json())
            response.headers["location"] = f"/tasks/{len(self.enqueued)}"
            response.set_cookie("session", "secret")
            return {"id": str(len(self.enqueued))}

        @router.post("/fails/{status}")
        async def fails(status: int) -> Response:
            self.enqueued.append(status)
            if status == 400:
                raise HTTPException(400)
            return Response(status_code=status)

        @router.post("/streams")
        async def stream() -> StreamingResponse:
            self.enqueued.append("stream")
            return StreamingResponse(iter([b"x"]))

        @router.post("/big")
        async def big() -> Response:
            self.enqueued.append("big")
            return Response(b"x" * (MAX_BODY + 1))

        @router.get("/orders")
        async def orders() -> int:
            self.enqueued.append("get")
            return 0

        self.app = FastAPI()
        self.app.include_router(router)
        install_problems(self.app)
        self._client_of = client_of

    async def post(self, path: str = "/orders", body: Any = None, **headers: str) -> Any:
        async with self._client_of(self.app) as client:
            return await client.post(path, json=body or {"item": 1}, headers={**KEY, **headers})


@pytest.fixture
def shop(client_of: Callable[..., Any]) -> Shop:
    return Shop(client_of)


async def test_the_same_request_again_is_answered_the_same_and_enqueues_once(shop: Shop) -> None:
    first, second = await shop.post(), await shop.post()
    assert shop.enqueued == [{"item": 1}]
    assert (first.status_code, first.json()) == (202, {"id": "1"})
    assert (second.status_code, second.json()) == (202, {"id": "1"})
    assert second.headers["location"] == first.headers["location"] == "/tasks/1"
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert "set-cookie" not in second.headers


async def test_another_request_with_the_same_key_is_422(shop: Shop) -> None:
    await shop.post()
    answer = await shop.post(body={"item": 2})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(shop.enqueued) == 1


async def test_while_the_first_runs_the_second_is_409(shop: Shop) -> None:
    shop.go_on.clear()
    first = asyncio.create_task(shop.post())
    await shop.started.wait()
    second = await shop.post()
    shop.go_on.set()
    assert (second.status_code, second.headers["retry-after"]) == (409, "1")
    assert (await first).status_code == 202
    assert (await shop.post()).json() == {"id": "1"}


async def test_of_many_at_once_one_runs(shop: Shop) -> None:
    answers = await asyncio.gather(*(shop.post() for _ in range(10)))
    assert len(shop.enqueued) == 1
    assert {answer.status_code for answer in answers} <= {202, 409}


async def test_without_a_key_nothing_is_kept(shop: Shop, client_of: Callable[..., Any]) -> None:
    async with client_of(shop.app) as client:
        for _ in range(2):
            assert (await client.post("/orders", json={})).status_code == 202
    assert len(shop.enqueued) == 2


async def test_keys_are_each_clients_and_each_routes_own(shop: Shop) -> None:
    await shop.post(authorization="Bearer ada")
    assert (await shop.post(authorization="Bearer bob")).json() == {"id": "2"}
    await shop.post("/fails/200")
    assert len(shop.enqueued) == 3


async def test_reading_needs_no_key(shop: Shop, client_of: Callable[..., Any]) -> None:
    async with client_of(shop.app) as client:
        for _ in range(2):
            await client.get("/orders", headers=KEY)
    assert shop.enqueued == ["get", "get"]


@pytest.mark.parametrize("path", ["/fails/503", "/fails/400", "/streams", "/big"])
async def test_what_failed_or_cannot_be_repeated_may_run_again(shop: Shop, path: str) -> None:
    await shop.post(path)
    await shop.post(path)
    assert len(shop.enqueued) == 2


async def test_an_answer_that_refuses_is_an_answer(shop: Shop) -> None:
    assert (await shop.post("/fails/409")).status_code == 409
    assert (await shop.post("/fails/409")).headers["idempotency-replayed"] == "true"
    assert shop.enqueued == [409]


async def test_a_claim_of_an_environment_that_died_ends(shop: Shop) -> None:
    shop.go_on.clear()
    first = asyncio.create_task(shop.post())
    await shop.started.wait()
    assert (await shop.post()).status_code == 409
    shop.now += CLAIM_S + 1
    shop.started.clear()
    second = asyncio.create_task(shop.post())
    await shop.started.wait()
    shop.go_on.set()
    answers = await asyncio.gather(first, second)
    assert [answer.status_code for answer in answers] == [202, 202]
    assert len(shop.enqueued) == 2


async def test_an_answer_is_repeated_for_a_day(shop: Shop) -> None:
    await shop.post()
    shop.now += KEEP_S - 1
    assert (await shop.post()).json() == {"id": "1"}
    shop.now += 2
    assert (await shop.post()).json() == {"id": "2"}


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tbed"])
async def test_a_key_that_is_none_is_refused(shop: Shop, key: str) -> None:
    answer = await shop.post(**{"idempotency-key": key})
    assert answer.status_code == 400
    assert shop.enqueued == []


async def test_a_route_may_require_a_key(client_of: Callable[..., Any]) -> None:
    shop = Shop(client_of, required=True)
    async with client_of(shop.app) as client:
        answer = await client.post("/orders", json={})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]


class Unreliable(MemoryStore):
    """Down for one change, the n-th."""

    def __init__(self, failing: int) -> None:
        super().__init__()
        self.failing = failing

    def swap(self, *args: Any, **kwargs: Any) -> str | None:
        self.failing -= 1
        if self.failing == 0:
            raise StoreUnavailableError("the store is down")
        return super().swap(*args, **kwargs)


async def test_without_a_store_once_cannot_be_promised(client_of: Callable[..., Any]) -> None:
    shop = Shop(client_of, store=Unreliable(1))
    answer = await shop.post()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert shop.enqueued == []


async def test_what_was_enqueued_is_answered_for_though_the_store_went_away(
    client_of: Callable[..., Any],
) -> None:
    shop = Shop(client_of, store=Unreliable(2))
    assert (await shop.post()).status_code == 202
    assert (await shop.post()).status_code == 409
    assert len(shop.enqueued) == 1


async def test_the_header_is_documented_where_it_counts(shop: Shop) -> None:
    paths = shop.app.openapi()["paths"]
    post = [parameter["name"] for parameter in paths["/orders"]["post"]["parameters"]]
    assert post == ["idempotency-key"]
    assert "parameters" not in paths["/orders"]["get"]


async def test_on_a_real_redis(
    client_of: Callable[..., Any], redis_url: str, request: pytest.FixtureRequest
) -> None:
    from twolane.state import open_store

    celery = Celery("shop", backend=redis_url, set_as_current=False)
    request.addfinalizer(celery.close)
    shop = Shop(client_of, store=open_store(celery))
    answers = await asyncio.gather(*(shop.post() for _ in range(5)))
    assert len(shop.enqueued) == 1
    assert json.loads((await shop.post()).text) == {"id": "1"}
    assert {answer.status_code for answer in answers} <= {202, 409}
