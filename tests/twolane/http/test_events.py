from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane.errors import StoreUnavailableError
from twolane.http import changes as events
from twolane.http import changes as waiting
from twolane.http.changes import streams, task_events
from twolane.http.problems import Problem
from twolane.http.tasks import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_LOOK_S", 0.001)


def looks(*said: TaskStatus | Exception) -> Callable[[], Coroutine[Any, Any, TaskStatus]]:
    script = list(said)

    async def look() -> TaskStatus:
        latest = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(latest, Exception):
            raise latest
        return latest

    return look


def status(state: str, **fields: Any) -> TaskStatus:
    return TaskStatus(id="t", state=state, **fields)


def parse(text: str) -> list[tuple[str, str]]:
    """(event, state) of each event, as an EventSource reads the stream."""
    parsed = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if "event" in fields:
            parsed.append((fields["event"], json.loads(fields["data"])["state"]))
    return parsed


async def test_a_stream_tells_each_change_and_the_end() -> None:
    progress = status("PROGRESS", progress={"note": "line\nbreak\n\nevent: fake"})
    look = looks(status("PENDING"), status("PENDING"), progress, status("SUCCESS"))
    text = "".join([part async for part in task_events(look, streaming=True)])
    assert parse(text) == [
        ("status", "PENDING"),
        ("status", "PROGRESS"),
        ("status", "SUCCESS"),
        ("end", "SUCCESS"),
    ]
    assert text.startswith("retry: 2000\n\n")
    assert f"id: {events.END_ID}\nevent: end\n" in text


async def test_where_nothing_streams_it_holds_what_is_known_and_ends() -> None:
    text = "".join([part async for part in task_events(looks(status("STARTED")), streaming=False)])
    assert parse(text) == [("status", "STARTED")]


@pytest.mark.parametrize("error", [Problem(404, "No such task."), StoreUnavailableError("down")])
async def test_what_goes_wrong_later_ends_the_stream(error: Exception) -> None:
    look = looks(status("PENDING"), error)
    text = "".join([part async for part in task_events(look, streaming=True)])
    assert parse(text) == [("status", "PENDING")]


async def test_lambda_behind_mangum_does_not_stream() -> None:
    assert streams({"type": "http"})
    assert not streams({"type": "http", "aws.event": {}})
