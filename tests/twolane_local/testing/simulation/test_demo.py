"""The demonstration application as a run loads it, and puts it away again."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twolane_local.testing.simulation.demo import DIGEST_AT, START, Kept, demo, http_event
from twolane_local.testing.simulation.play import Schedule, Step, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.testing.simulation.simulator import Application

ROOT = Path(__file__).parents[4] / "handlers"
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def loaded() -> Iterator[Application]:
    with demo(ROOT) as application:
        yield application


@pytest.mark.slow
def test_the_application_is_new_each_time_and_nothing_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NOTIFY_FAILURE_RATE", "1")
    monkeypatch.setenv("MAILER", "mine")
    before = dict(os.environ), list(sys.path), {name for name in sys.modules if name == "app"}
    seen = []
    for _ in range(2):
        with demo(ROOT) as application:
            assert "NOTIFY_FAILURE_RATE" not in os.environ
            assert os.environ["MAILER"] == "log"
            seen.append(application.celery)
        assert gc.get_freeze_count() == 0
    assert seen[0] is not seen[1]
    assert (dict(os.environ), list(sys.path)) == before[:2]
    assert {name for name in sys.modules if name == "app"} == before[2]


def test_a_mail_of_the_deferred_lane_is_an_effect_one_of_the_inline_lane_is_not(
    loaded: Application,
) -> None:
    who = {"email": "anna@example.com"}
    inline = play(loaded, Schedule(1, (Step(1.0, "notify", who),), length_s=30.0))
    deferred = play(loaded, Schedule(1, (Step(1.0, "defer", {**who, "delay": 0}),), length_s=30.0))
    assert inline.history.of("effect.committed") == []
    (effect,) = deferred.history.of("effect.committed")
    assert effect.data["what"] == "mail to anna@example.com"
    assert effect.data["lease"].startswith(f"twolane:lease:{effect.task}:")


def test_the_digest_is_the_only_slot(loaded: Application) -> None:
    assert loaded.slots(START, DIGEST_AT - 1) == []
    assert loaded.slots(DIGEST_AT, DIGEST_AT + 60) == []
    (slot,) = loaded.slots(START, DIGEST_AT)
    assert (slot.entry, slot.at, slot.name) == (
        "daily-digest", DIGEST_AT, "app.tasks.daily_digest",
    )  # fmt: skip
    assert slot.name in loaded.celery.tasks


class Handler:
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_intact_handlers_serve_again_broken_ones_do_not() -> None:
    kept = Kept(Handler)
    first, second = kept.take(), kept.take()
    assert first is not second
    kept.give_back(first, intact=False)
    kept.give_back(second, intact=True)
    assert kept.take() is second
    third = kept.take()
    assert third not in (first, second)
    kept.give_back(second, intact=True)
    kept.give_back(third, intact=True)
    kept.close()
    assert [each.closed for each in (first, second, third)] == [1, 1, 1]


def test_an_event_is_one_that_the_adapter_knows() -> None:
    from twolane import ApiHandler

    told: list[object] = []

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        if scope["type"] == "http":
            told.append((scope["method"], scope["path"]))
            message = await receive()  # type: ignore[operator]
            told.append(message["body"])
            await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]
            await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]

    handler = ApiHandler(app, lifespan="off")  # type: ignore[arg-type]
    answer = handler(http_event("POST", "/notify", "{}", "application/json"), None)
    handler.close()
    assert answer["statusCode"] == 204
    assert told == [("POST", "/notify"), b"{}"]
