"""``app.control`` without workers that are alive: everything through the store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from twolane.worker.control import Control

from ....installed import since  # noqa: TID252

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from .conftest import Lane

NODE = "celery@here"


def test_revoke_before_the_start(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[int] = []

    @app.task(shared=False)
    def note(x: int) -> None:
        ran.append(x)

    worker = lane()
    assert isinstance(app.control, Control)
    unwanted, wanted = note.delay(1), note.delay(2)
    unwanted.revoke()
    assert unwanted.state == "REVOKED"
    worker.drain()
    assert ran == [2]
    assert (unwanted.state, wanted.state) == ("REVOKED", "SUCCESS")
    assert worker.is_empty


def test_revoke_of_finished_work_leaves_its_result(app: Celery, lane: Callable[..., Lane]) -> None:
    @app.task(shared=False)
    def done() -> int:
        return 1

    worker = lane()
    result = done.delay()
    worker.drain()
    result.revoke()
    assert (result.state, result.result) == ("SUCCESS", 1)


def test_revoke_of_what_runs_already_leaves_it_to_say_how_it_ends(
    app: Celery, lane: Callable[..., Lane]
) -> None:
    """Its result says nothing yet: tasks do not track their start by default."""
    seen: list[str] = []

    @app.task(shared=False, bind=True)
    def works(self: Any) -> str:
        app.control.revoke(self.request.id)
        seen.append(app.AsyncResult(self.request.id).state)
        return "done"

    worker = lane()
    result = works.delay()
    worker.drain()
    assert seen == ["PENDING"]
    assert (result.state, result.result) == ("SUCCESS", "done")


def test_revoke_by_stamped_headers(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[str] = []

    @app.task(shared=False)
    def note(x: str) -> None:
        ran.append(x)

    worker = lane()
    for tenant in ("acme", "other"):
        stamped = note.s(tenant)
        stamped.stamp(tenant=tenant)
        stamped.apply_async()
    (reply,) = app.control.revoke_by_stamped_headers({"tenant": ["acme"]}, reply=True)
    (said,) = reply.values()
    assert said["ok"].endswith(" flagged as revoked, but not terminated") or not since(
        "celery", 5, 5
    )
    worker.drain()
    assert ran == ["other"]


@pytest.mark.parametrize("mode", ["solo"], indirect=True)
def test_a_revoke_is_seen_within_a_long_batch(app: Celery, lane: Callable[..., Lane]) -> None:
    ran: list[str] = []
    results: list[Any] = []
    worker: Lane

    @app.task(shared=False)
    def first() -> None:
        ran.append("first")
        results[1].revoke()
        worker.pass_time(2)

    @app.task(shared=False)
    def second() -> None:
        ran.append("second")

    worker = lane()
    results += [first.delay(), second.delay()]
    worker.drain()
    assert ran == ["first"]
    assert results[1].state == "REVOKED"


def test_terminate_stops_a_running_task(app: Celery, lane: Callable[..., Lane]) -> None:
    @app.task(shared=False, bind=True)
    def hang(self: Any) -> None:
        app.control.revoke(self.request.id, terminate=True)
        threading.Event().wait(30)

    worker = lane()
    result = hang.delay()
    worker.drain()
    assert result.state == "REVOKED"
    assert worker.is_empty


@pytest.mark.parametrize("mode", ["solo"], indirect=True)
def test_inspect(app: Celery, lane: Callable[..., Lane]) -> None:
    replies: dict[str, Any] = {}

    @app.task(shared=False, name="look", bind=True)
    def look(self: Any, x: int) -> None:
        inspect = app.control.inspect()
        replies.update(
            active=inspect.active(),
            reserved=inspect.reserved(),
            query=inspect.query_task(self.request.id, "unknown"),
        )

    worker = lane(hostname=NODE)
    look.delay(7)
    look.delay(8)
    worker.drain()
    inspect = app.control.inspect()
    assert inspect.ping() == {NODE: {"ok": "pong"}}
    assert inspect.active() == {NODE: []}
    assert inspect.scheduled() == {NODE: []}
    assert "look" in inspect.registered()[NODE]
    assert inspect.registered("name")[NODE] == ["look [name=look]"]
    stats = inspect.stats()[NODE]
    assert stats["pool"]["max-concurrency"] == 1
    assert inspect.active_queues()[NODE][0]["name"] == "tasks"
    assert inspect.conf()[NODE]["task_default_queue"] == "tasks"
    # What the second task saw while it ran: itself, and the first one done.
    (active,) = replies["active"][NODE]
    assert (active["name"], active["args"], active["acknowledged"]) == ("look", [8], True)
    assert replies["reserved"] == {NODE: []}
    assert replies["query"][NODE] == {active["id"]: ["active", active]}


def test_inspect_addresses_nodes(app: Celery, lane: Callable[..., Lane]) -> None:
    lane(hostname="celery@a")
    assert app.control.inspect(destination=["celery@a"]).ping() == {"celery@a": {"ok": "pong"}}
    assert app.control.inspect(destination=["celery@b"]).ping() is None
    assert app.control.inspect(pattern="celery@*", matcher="glob").ping() == {
        "celery@a": {"ok": "pong"}
    }


def test_a_command_for_a_process_is_refused(app: Celery, lane: Callable[..., Lane]) -> None:
    lane(hostname=NODE)
    (reply,) = app.control.pool_grow(2, reply=True)
    assert "needs a running worker" in reply[NODE]["error"]


def test_revoked_tasks_are_listed(app: Celery, lane: Callable[..., Lane]) -> None:
    lane(hostname=NODE)
    app.control.revoke(["a", "b"])
    app.control.revoke("c")
    assert app.control.inspect().revoked() == {NODE: ["a", "b", "c"]}
