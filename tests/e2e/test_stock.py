"""The same application without twolane's functions: uvicorn, a Celery worker and Redis."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import httpx
import pytest

from . import scenarios
from .conftest import BIN, Service, free_port, readme_blocks, running, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    logs = tmp_path_factory.mktemp("stock")
    settings = {"REDIS_URL": f"{redis_server}/1"}
    port = free_port()
    worker, beat, server = (
        shlex.split(line.replace(".venv/bin", str(BIN)).replace("3000", str(port)))
        for line in readme_blocks()["stock"].splitlines()
    )
    with (
        running(worker, logs / "worker.log", **settings),
        running(
            [*beat, "--loglevel", "DEBUG", "-s", str(logs / "schedule")],
            logs / "beat.log",
            **settings,
        ),
        running(server, logs / "uvicorn.log", **settings),
    ):
        service = Service(f"http://127.0.0.1:{port}", logs / "worker.log")
        service.logged("ready.", seconds=30)
        until(lambda: ready(service), "answer to /readyz", seconds=30)
        yield service


def ready(service: Service) -> bool | None:
    try:
        return service.get("/readyz")[0] == 200 or None
    except httpx.TransportError:
        return None


@pytest.mark.parametrize("scenario", scenarios.STOCK)
def test_scenario(service: Service, scenario: Callable[[Service], None]) -> None:
    scenario(service)


def test_beat_reads_the_schedule(service: Service) -> None:
    Service("", service.log.with_name("beat.log")).logged("daily-digest", seconds=20)
