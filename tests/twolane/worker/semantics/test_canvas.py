"""Chains, groups, chords and what belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery import chain, chord, group
from celery.canvas import StampingVisitor

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from .conftest import Lane


@pytest.fixture
def tasks(app: Celery) -> Any:
    """add, total, fail, note; and what was noted."""

    class Tasks:
        noted: list[Any] = []  # noqa: RUF012 - a fresh class for each test

        @staticmethod
        @app.task(shared=False, name="add")
        def add(x: int, y: int) -> int:
            return x + y

        @staticmethod
        @app.task(shared=False, name="total")
        def total(numbers: list[int]) -> int:
            return sum(numbers)

        @staticmethod
        @app.task(shared=False, name="fail")
        def fail(*_: object) -> None:
            raise ValueError("no")

        @staticmethod
        @app.task(shared=False, name="note")
        def note(value: Any) -> Any:
            Tasks.noted.append(value)
            return value

    return Tasks


def test_chain(tasks: Any, lane: Callable[..., Lane]) -> None:
    worker = lane()
    result = chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4))()
    worker.drain()
    assert result.result == 10
    assert [result.parent.result, result.parent.parent.result] == [6, 3]


def test_group(tasks: Any, lane: Callable[..., Lane]) -> None:
    worker = lane()
    result = group(tasks.add.s(n, n) for n in range(25))()
    worker.drain()
    assert [one.result for one in result.results] == [2 * n for n in range(25)]


def test_chord(tasks: Any, lane: Callable[..., Lane]) -> None:
    worker = lane()
    result = chord([tasks.add.s(n, n) for n in range(12)])(tasks.total.s())
    worker.drain()
    assert result.result == 2 * sum(range(12))
    assert worker.is_empty


def test_a_failed_header_fails_the_chord(tasks: Any, lane: Callable[..., Lane]) -> None:
    worker = lane()
    result = chord([tasks.add.s(1, 1), tasks.fail.s()])(tasks.total.s())
    worker.drain()
    assert result.state == "FAILURE"
    assert type(result.result).__name__ in {"ChordError", "ValueError"}


def test_nested_canvas(tasks: Any, lane: Callable[..., Lane]) -> None:
    worker = lane()
    inner = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.total.s())
    result = chain(inner, tasks.add.s(10), group(tasks.add.s(1), tasks.add.s(2)), tasks.total.s())()
    worker.drain()
    assert result.result == 17 + 18


def test_link_and_link_error(tasks: Any, lane: Callable[..., Lane]) -> None:
    worker = lane()
    tasks.add.apply_async((1, 2), link=tasks.note.s())
    failed = tasks.fail.apply_async(link_error=tasks.note.s())
    worker.drain()
    assert sorted(tasks.noted, key=str) == sorted([3, failed.id], key=str)


def test_chunks_map_and_starmap(tasks: Any, lane: Callable[..., Lane]) -> None:
    worker = lane()
    chunked = tasks.add.chunks(((n, n) for n in range(5)), 2)()
    mapped = tasks.total.map([[1, 2], [3]]).delay()
    starred = tasks.add.starmap([(1, 2), (3, 4)]).delay()
    worker.drain()
    assert [one.result for one in chunked.results] == [[0, 2], [4, 6], [8]]
    assert (mapped.result, starred.result) == ([3, 3], [3, 7])


def test_replace(app: Celery, tasks: Any, lane: Callable[..., Lane]) -> None:
    @app.task(shared=False, bind=True, name="instead")
    def instead(self: Any, x: int) -> None:
        raise self.replace(chain(tasks.add.s(x, 1), tasks.add.s(10)))

    worker = lane()
    result = instead.delay(5)
    worker.drain()
    assert result.result == 16


def test_stamps_reach_the_tasks(app: Celery, lane: Callable[..., Lane]) -> None:
    seen: list[Any] = []

    @app.task(shared=False, bind=True, name="stamped")
    def stamped(self: Any) -> None:
        seen.append(self.request.stamps)

    class Tenant(StampingVisitor):  # type: ignore[misc]
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"tenant": "acme"}

    worker = lane()
    canvas = group(stamped.si(), stamped.si())
    canvas.stamp(visitor=Tenant())
    canvas.apply_async()
    worker.drain()
    assert [one["tenant"] for one in seen] == ["acme", "acme"]


def test_a_chord_counts_a_header_that_comes_twice_once(
    app: Celery, tasks: Any, lane: Callable[..., Lane]
) -> None:
    worker = lane()
    sent: list[str] = []
    result = chord([tasks.note.s(1), tasks.note.s(2), tasks.note.s(3)])(tasks.total.s())
    found = worker.sqs.receive_message(QueueUrl=worker.url, MaxNumberOfMessages=10)["Messages"]
    for message in found:
        sent.append(message["Body"])
        worker.sqs.change_message_visibility(
            QueueUrl=worker.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )
    for _ in range(3):
        worker.sqs.send_message(QueueUrl=worker.url, MessageBody=sent[0])
    worker.pass_time(1)
    worker.drain()
    assert sorted(tasks.noted) == [1, 2, 3]
    assert result.result == 6
