from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from celery.schedules import crontab
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from twolane.beat import BeatHandler
from twolane.beat.router import schedules_router
from twolane.http.problems import install_problems
from twolane.state import open_store

if TYPE_CHECKING:
    from ...conftest import RunPython  # noqa: TID252

DAILY: dict[str, Any] = {"task": "shop.report", "schedule": crontab(hour=7, minute=0)}


def get(
    app: Any, now: float, path: str = "/schedules", query: Any = None, **options: Any
) -> Response:
    api = FastAPI()
    install_problems(api)
    api.include_router(schedules_router(app, clock=lambda: now, **options))

    async def ask() -> Response:
        async with AsyncClient(transport=ASGITransport(api), base_url="http://test") as client:
            return await client.get(path, params=query)

    return asyncio.run(ask())


def test_the_entries_with_their_times(bench: Any, redis_url: str) -> None:
    app = bench.app({"digest": DAILY}, timezone="Europe/Berlin")
    app.conf.result_backend = redis_url
    store = open_store(app)
    now = bench.instant("2026-01-01T06:00:00Z")
    beat = BeatHandler(app, store=store, clock=lambda: now)
    sent = beat({"time": "2026-01-01T06:00:00Z"}, None)["published"]
    answer = get(app, now + 60, query={"count": 2})
    assert answer.status_code == 200
    assert answer.json() == [
        {
            "name": "digest",
            "task": "shop.report",
            "schedule": "crontab: 0 7 * * *",
            "timezone": "Europe/Berlin",
            "missed": "latest",
            "next": ["2026-01-02T06:00:00Z", "2026-01-03T06:00:00Z"],
            "last": "2026-01-01T06:00:00Z",
            "taskId": sent[0]["taskId"],
        }
    ]
    app.backend.client.close()


def test_a_count_out_of_bounds_is_refused(bench: Any) -> None:
    for count in ("0", "101", "x"):
        assert get(bench.app(), bench.now, query={"count": count}).status_code == 422


def test_a_prefix_of_ones_own(bench: Any) -> None:
    assert get(bench.app(), bench.now, "/cron", prefix="/cron").json() == []


def test_a_store_that_does_not_answer_is_503(bench: Any) -> None:
    app = bench.app({"digest": DAILY})
    app.conf.result_backend = "redis://127.0.0.1:1/0"
    answer = get(app, bench.now)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_api_starts_without_beat(run_python: RunPython) -> None:
    code = (
        "import sys; from celery import Celery; from twolane import schedules_router; "
        "schedules_router(Celery('shop')); "
        "print(*sorted(name for name in sys.modules if name.startswith('twolane.beat')))"
    )
    assert run_python(code).split() == ["twolane.beat", "twolane.beat.router"]
