"""Without a state store: what one environment knows by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import Ignore, Reject

from twolane import WorkerHandler
from twolane.worker import lookup as seen

from .conftest import Context, RecordedQueues, body, event, make_app, record

if TYPE_CHECKING:
    from celery import Celery

WARNING = "worker.without-store"


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def app(ran: list[str]) -> Celery:
    app = make_app()
    app.conf.result_backend = None

    @app.task(shared=False, name="work", acks_late=True)
    def work(how: str) -> None:
        ran.append(how)
        if how == "fails":
            raise ValueError("no")
        if how == "is ignored":
            raise Ignore
        if how == "is rejected":
            raise Reject("no", requeue=False)
        if how == "is requeued":
            raise Reject("later", requeue=True)

    return app


@pytest.fixture
def handler(app: Celery, queues: RecordedQueues) -> WorkerHandler:
    return WorkerHandler(app, queues=queues, environ={})


def message(how: str, message_id: str, tag: str = "tag", task_id: str = "t1") -> dict[str, Any]:
    text = body("work", how, task_id=task_id).replace('"d1"', f'"{tag}"')
    assert tag in text
    return record(text, message_id)


def test_a_second_copy_is_dropped(handler: WorkerHandler, ran: list[str]) -> None:
    # A publish whose answer was lost: two messages, one delivery tag; in one batch, then alone.
    both = event(message("succeeds", "m1"), message("succeeds", "m2"))
    assert handler(both, Context()) == {"batchItemFailures": []}
    assert handler(event(message("succeeds", "m3")), Context()) == {"batchItemFailures": []}
    assert ran == ["succeeds"]


def test_another_publish_runs(handler: WorkerHandler, ran: list[str]) -> None:
    handler(event(message("succeeds", "m1"), message("succeeds", "m2", tag="other")))
    # The tag is the sender's own word: it keeps no other task from running.
    handler(event(message("succeeds", "m3", task_id="t2")))
    assert ran == ["succeeds"] * 3


@pytest.mark.parametrize(
    ("how", "times"), [("is ignored", 1), ("fails", 2), ("is rejected", 2), ("is requeued", 2)]
)
def test_what_has_not_finished_runs_again(
    how: str, times: int, handler: WorkerHandler, ran: list[str]
) -> None:
    handler(event(message(how, "m1")), Context())
    handler(event(message(how, "m1")), Context())
    assert ran == [how] * times


def test_the_memory_is_bounded(
    handler: WorkerHandler, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2 * seen._REMEMBERED + 1):
        handler(event(message("succeeds", f"m{number}", tag=f"tag{number}")))
    ran.clear()
    handler(event(message("succeeds", "m", tag=f"tag{seen._REMEMBERED + 1}")))
    assert ran == []
    handler(event(message("succeeds", "m", tag="tag0")))
    assert ran == ["succeeds"]


@pytest.mark.parametrize(("backend", "warnings"), [(None, 1), ("cache+memory://", 0)])
def test_a_worker_without_a_store_says_so_once(
    backend: str | None, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    app.conf.result_backend = backend
    handler = WorkerHandler(app, queues=RecordedQueues(), environ={})
    handler(event())
    told = [one for one in caplog.records if getattr(one, "twolane", {}).get("event") == WARNING]
    assert len(told) == warnings
