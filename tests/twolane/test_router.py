from __future__ import annotations

import asyncio
import json
import threading
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from celery import Celery
from celery.app.task import Context
from fastapi import FastAPI, Request

from twolane.api import ApiHandler
from twolane.http.problems import install_problems
from twolane.router import tasks_router

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane.http.tasks import TaskStatus

ID = "6f1c0f5e-6a8b-4b65-9d9f-0f7b3a0f5a11"


@pytest.fixture
def celery() -> Iterator[Celery]:
    """Results live in this process: what a worker would store, a test stores."""
    celery = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    celery.conf.task_default_queue = "unread"
    celery.conf.result_extended = True

    @celery.task(name="shop.add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    yield celery
    celery.backend.forget(ID)
    celery.close()


def store(celery: Celery, result: Any, state: str, **fields: Any) -> None:
    """As a worker does it; ``fields`` are those of its request."""
    request = Context({"task": "shop.add", "args": [1, 2], "kwargs": {}, "retries": 0, **fields})
    celery.backend.store_result(ID, result, state, fields.get("traceback"), request)


@pytest.fixture
def api(celery: Celery) -> FastAPI:
    return make_api(celery)


def make_api(celery: Celery, **options: Any) -> FastAPI:
    app = FastAPI()
    install_problems(app)
    app.include_router(tasks_router(celery, **options))
    return app


async def call(
    app: FastAPI, method: str = "GET", path: str = f"/tasks/{ID}", **headers: str
) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, headers=headers)


@pytest.mark.asyncio
async def test_a_waiting_task_or_one_that_nobody_knows(api: FastAPI) -> None:
    answer = await call(api)
    assert answer.status_code == 200
    assert answer.json() == {
        "id": ID, "name": None, "state": "PENDING", "progress": None, "result": None,
        "error": None, "attempts": 0, "published_at": None, "started_at": None, "finished_at": None,
    }  # fmt: skip
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.asyncio
async def test_progress(api: FastAPI, celery: Celery) -> None:
    store(celery, {"current": 3, "total": 9}, "PROGRESS", retries=2)
    answer = (await call(api)).json()
    assert (answer["state"], answer["name"]) == ("PROGRESS", "shop.add")
    assert (answer["progress"], answer["attempts"]) == ({"current": 3, "total": 9}, 3)


@pytest.mark.asyncio
async def test_a_result(api: FastAPI, celery: Celery) -> None:
    store(celery, {"total": 3}, "SUCCESS")
    answer = await call(api)
    assert (answer.json()["result"], answer.json()["attempts"]) == ({"total": 3}, 1)
    assert answer.json()["finished_at"] is not None
    assert "retry-after" not in answer.headers


@pytest.mark.asyncio
async def test_a_failure_is_told_without_its_traceback(api: FastAPI, celery: Celery) -> None:
    store(celery, ValueError("no such address"), "FAILURE", traceback='File "/var/task/app.py"')
    answer = await call(api)
    assert answer.status_code == 200
    assert answer.json()["error"] == {
        "type": "about:blank", "title": "ValueError", "detail": "no such address",
    }  # fmt: skip
    assert "/var/task" not in answer.text


@pytest.mark.parametrize("task_id", ["1", "latest", "%00", "6f1c0f5e6a8b4b659d9f0f7b3a0f5a11"])
@pytest.mark.asyncio
async def test_what_cannot_be_an_id_is_not_looked_up(
    api: FastAPI, celery: Celery, monkeypatch: pytest.MonkeyPatch, task_id: str
) -> None:
    monkeypatch.setattr(celery.backend, "get_task_meta", None)
    answer = await call(api, path=f"/tasks/{task_id}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("name", "visible", "status"),
    [
        ("shop.add", None, 200),
        ("shop.gone", None, 404),
        ("celery.chord_unlock", None, 404),
        ("shop.add", ["shop.add"], 200),
        ("shop.add", ["shop.other"], 404),
    ],
)
@pytest.mark.asyncio
async def test_only_tasks_that_http_may_know_are_visible(
    celery: Celery, name: str, visible: list[str] | None, status: int
) -> None:
    store(celery, 3, "SUCCESS", task=name)
    assert (await call(make_api(celery, visible=visible))).status_code == status


@pytest.mark.asyncio
async def test_an_owner_check_hides_the_task(celery: Celery) -> None:
    store(celery, 3, "SUCCESS")
    seen: list[str] = []

    async def is_owner(request: Request, task: TaskStatus) -> bool:
        seen.append(task.id)
        return request.headers.get("x-user") == "ada"

    app = make_api(celery, authorize=is_owner)
    for method in ("GET", "DELETE"):
        answer = await call(app, method)
        assert (answer.status_code, answer.json()["detail"]) == (404, "No such task.")
    assert seen == [ID, ID]
    assert (await call(make_api(celery, authorize=lambda *_: True))).status_code == 200


@pytest.mark.asyncio
async def test_delete_revokes(
    api: FastAPI, celery: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoked: list[str] = []
    monkeypatch.setattr(celery.control, "revoke", revoked.append)
    answer = await call(api, "DELETE")
    assert (answer.status_code, answer.json()["state"]) == (202, "PENDING")
    assert revoked == [ID]


@pytest.mark.asyncio
async def test_delete_of_what_is_finished_is_a_conflict(api: FastAPI, celery: Celery) -> None:
    store(celery, 3, "SUCCESS")
    answer = await call(api, "DELETE")
    assert (answer.status_code, answer.json()["state"]) == (409, "SUCCESS")


@pytest.mark.asyncio
async def test_delete_twice_is_as_good_as_once(api: FastAPI, celery: Celery) -> None:
    store(celery, RuntimeError("revoked"), "REVOKED")
    answer = await call(api, "DELETE")
    assert (answer.status_code, answer.json()["state"]) == (202, "REVOKED")


@pytest.mark.asyncio
async def test_a_result_store_that_is_down_is_503(unused_tcp_port: int) -> None:
    url = f"redis://127.0.0.1:{unused_tcp_port}/0"
    celery = Celery("shop", broker="memory://", backend=url, set_as_current=False)
    celery.conf.task_default_queue = "unread"
    celery.conf.update(result_backend_always_retry=False, redis_socket_connect_timeout=1)
    answer = await call(make_api(celery))
    celery.close()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


@pytest.mark.asyncio
async def test_ids_are_random_uuids(celery: Celery) -> None:
    task_id = celery.tasks["shop.add"].delay(1, 2).id
    assert uuid.UUID(task_id).version == 4


@pytest.mark.asyncio
async def test_a_client_may_wait_for_the_result(api: FastAPI, celery: Celery) -> None:
    store(celery, None, "STARTED")
    waiting = asyncio.create_task(call(api, prefer="wait=10"))
    await asyncio.to_thread(store, celery, 3, "SUCCESS")
    answer = await waiting
    assert (answer.json()["state"], answer.json()["result"]) == ("SUCCESS", 3)
    assert answer.headers["preference-applied"] == "wait=10"


@pytest.mark.asyncio
async def test_waiting_for_nothing_is_a_look(api: FastAPI) -> None:
    answer = await call(api, prefer="wait=0")
    assert answer.json()["state"] == "PENDING"
    assert answer.headers["retry-after"] == "1"


@pytest.mark.asyncio
async def test_events_are_a_stream_for_an_event_source(api: FastAPI, celery: Celery) -> None:
    store(celery, 3, "SUCCESS")
    answer = await call(api, path=f"/tasks/{ID}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.count("event: status") == answer.text.count("event: end") == 1


@pytest.mark.asyncio
async def test_who_has_seen_the_end_is_told_not_to_come_back(api: FastAPI, celery: Celery) -> None:
    store(celery, 3, "SUCCESS")
    answer = await call(api, path=f"/tasks/{ID}/events", **{"last-event-id": "end"})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.asyncio
async def test_events_of_a_hidden_task_are_404(celery: Celery) -> None:
    app = make_api(celery, authorize=lambda *_: False)
    assert (await call(app, path=f"/tasks/{ID}/events")).status_code == 404


def test_under_a_server_that_streams_changes_arrive_as_they_happen(
    api: FastAPI, celery: Celery
) -> None:
    """Through uvicorn, over a socket: the first event is there before the task is finished."""
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/tasks/{ID}/events"
        seen = []
        with httpx.stream("GET", url, timeout=10) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line[6:])["state"])
                    if seen == ["PENDING"]:
                        store(celery, {"current": 1}, "PROGRESS")
                    if seen == ["PENDING", "PROGRESS"]:
                        store(celery, 3, "SUCCESS")
        assert seen == ["PENDING", "PROGRESS", "SUCCESS", "SUCCESS"]
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.asyncio
async def test_delete_answers_with_what_the_revoke_made_of_it(
    api: FastAPI, celery: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control that settles a waiting task at once, as ours does for SQS."""
    monkeypatch.setattr(celery.control, "revoke", celery.backend.mark_as_revoked)
    answer = await call(api, "DELETE")
    assert (answer.status_code, answer.json()["state"]) == (202, "REVOKED")


HTTP_EVENT = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": f"/tasks/{ID}/events",
    "rawQueryString": "",
    "headers": {"host": "api.test", "accept": "text/event-stream"},
    "requestContext": {
        "http": {
            "method": "GET",
            "path": f"/tasks/{ID}/events",
            "protocol": "HTTP/1.1",
            "sourceIp": "127.0.0.1",
            "userAgent": "test",
        },
        "stage": "$default",
        "requestId": "r-1",
    },
    "isBase64Encoded": False,
}


def test_on_lambda_a_stream_ends_at_once_with_what_is_known(api: FastAPI, celery: Celery) -> None:
    store(celery, {"current": 1}, "PROGRESS")
    handler = ApiHandler(api, lifespan="off")
    answer = handler(HTTP_EVENT, None)
    handler.close()
    assert answer["statusCode"] == 200
    assert answer["headers"]["content-type"].startswith("text/event-stream")
    assert answer["body"].count("event: ") == 1
    assert '"state":"PROGRESS"' in answer["body"]
