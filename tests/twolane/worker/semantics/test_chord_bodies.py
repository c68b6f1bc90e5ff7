"""A chord's body runs once, whoever completes the chord, however often, on either store.

The environments that are killed here are processes: forked where they are to die, and killed by
SIGKILL at that instant.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
import redis
from celery import chain, chord, group, signals
from celery.canvas import Signature
from kombu.serialization import register

from .conftest import VISIBILITY_S, Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

#: Another message of the same id, five minutes later, is new work, unless it is a chord's body.
LATER_S = 400.0


@pytest.fixture
def noted() -> list[Any]:
    return []


@pytest.fixture
def tasks(app: Celery, noted: list[Any]) -> Any:
    """part, total and note; each run of the latter two is noted."""
    app.conf.update(task_acks_late=True)

    @app.task(shared=False, bind=True, name="retried", max_retries=2)
    def retried(self: Any, numbers: list[int]) -> int:
        noted.append((sum(numbers), self.request.retries))
        if self.request.retries < 1:
            raise self.retry(countdown=0)
        return sum(numbers)

    class Tasks:
        @staticmethod
        @app.task(shared=False, name="part")
        def part(x: int) -> int:
            return x

        @staticmethod
        @app.task(shared=False, name="total")
        def total(numbers: list[int]) -> int:
            noted.append(sum(numbers))
            return sum(numbers)

        @staticmethod
        @app.task(shared=False, name="note")
        def note(value: Any, more: int = 0) -> Any:
            noted.append((value, more))
            return value

    cast("Any", Tasks).retried = retried
    return Tasks


def in_a_process_that_dies(lane: Lane, arm: Callable[[], object]) -> None:
    """One poll by an environment that is killed where it has been armed."""
    pid = os.fork()
    if pid == 0:
        try:
            arm()
            lane.invoke()
        finally:
            os._exit(3)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, f"the environment lived on: {status}"


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def counted(lane: Lane) -> None:
    """A poll that is killed when the chord has counted this part, before that is recorded."""
    in_a_process_that_dies(lane, lambda: signals.task_success.connect(die, weak=False))


def published(lane: Lane) -> None:
    """A poll that is killed once it has published the body, and has done nothing after it."""
    publish = Signature.delay

    def publish_and_die(*args: Any, **options: Any) -> None:
        publish(*args, **options)
        die()

    in_a_process_that_dies(lane, lambda: setattr(Signature, "delay", publish_and_die))


def forget_claim(app: Celery) -> None:
    """Celery's claim on a chord in Redis runs out by itself, in seconds of real time."""
    client = getattr(app.backend, "client", None)
    if hasattr(client, "scan_iter"):
        for key in client.scan_iter("celery-taskset-meta-*.c"):
            client.delete(key)


def completed_twice(lane: Lane, app: Celery, body: Any, pause_s: float) -> Any:
    """Both header tasks are killed before their end is recorded, and both complete the chord."""
    result = chord([app.tasks["part"].s(n) for n in (1, 2)])(body)
    hide_all_but_one(lane)
    counted(lane)
    lane.pass_time(VISIBILITY_S / 2)
    published(lane)
    forget_claim(app)
    lane.run(pause_s, step=pause_s)
    lane.run(VISIBILITY_S * 4, step=VISIBILITY_S)
    return result


def hide_all_but_one(lane: Lane) -> None:
    """The second message comes half a visibility timeout after the first."""
    found = lane.sqs.receive_message(QueueUrl=lane.url, MaxNumberOfMessages=10)["Messages"]
    for message, wait_s in zip(found, (0, VISIBILITY_S // 2), strict=True):
        lane.sqs.change_message_visibility(
            QueueUrl=lane.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=wait_s
        )
    lane.pass_time(0.001)


BODIES: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
    "task": (lambda t: t.total.s(), [3]),
    "retried": (lambda t: t.retried.s(), [(3, 0), (3, 1)]),
    "chain": (lambda t: chain(t.total.s(), t.note.s(7)), [(3, 7), 3]),
    "group": (
        lambda t: group(t.note.s(1), t.note.s(2)), [([1, 2], 1), ([1, 2], 2)],
    ),
    "chord": (
        lambda t: chord([t.note.s(1), t.note.s(2)], t.note.s(3)),
        [([1, 2], 1), ([1, 2], 2), ([[1, 2], [1, 2]], 3)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("pause_s", [0.0, pytest.param(LATER_S, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", BODIES)
def test_a_chord_that_two_tasks_complete_has_one_body(  # noqa: PLR0917 - fixtures
    app: Celery, tasks: Any, lane: Callable[..., Lane], noted: list[Any], kind: str, pause_s: float
) -> None:
    make, expected = BODIES[kind]
    worker = lane()
    completed_twice(worker, app, make(tasks), pause_s)
    assert sorted(noted, key=str) == sorted(expected, key=str)
    assert worker.is_empty
    assert worker.dead_letters() == []


def test_a_task_that_dies_as_it_completes_its_chord_completes_it_when_it_comes_back(
    tasks: Any, lane: Callable[..., Lane], noted: list[Any]
) -> None:
    """At once, too: it is in nobody's way but its own."""
    worker = lane()
    result = chord([tasks.part.s(1)])(tasks.total.s())
    in_a_process_that_dies(worker, lambda: setattr(Signature, "delay", die))
    worker.run(VISIBILITY_S * 2, step=VISIBILITY_S)
    assert noted == [1]
    assert result.result == 1


def test_a_callback_that_was_frozen_before_it_was_linked_runs_for_each_task(
    tasks: Any, lane: Callable[..., Lane], noted: list[Any]
) -> None:
    """It has one id for all that it is linked to, and Celery runs it for each."""
    worker = lane()
    callback = tasks.note.s()
    callback.freeze()
    for number in (1, 2):
        tasks.part.apply_async((number,), link=callback)
    worker.drain()
    assert sorted(noted) == [(1, 0), (2, 0)]


def test_chords_in_chords_run_each_body_once(
    tasks: Any, lane: Callable[..., Lane], noted: list[Any]
) -> None:
    worker = lane()
    inner = [chord([tasks.part.s(n), tasks.part.s(n)], tasks.total.s()) for n in (1, 2)]
    result = chain(chord(inner, tasks.total.s()), tasks.note.s(9))()
    worker.drain()
    assert sorted(noted, key=str) == sorted([2, 4, 6, (6, 9)], key=str)
    assert result.result == 6


@pytest.mark.parametrize("mode", ["solo", "coroutine"], indirect=True)
def test_a_chain_that_fails_in_a_chord_counts_though_it_dies_before_that(
    app: Celery, tasks: Any, lane: Callable[..., Lane], noted: list[Any]
) -> None:
    """Celery takes a task of the chain that is stored as failed for one that was counted."""

    @app.task(shared=False, name="fails")
    def fails() -> None:
        raise ValueError("no")

    worker = lane()
    result = chord([fails.si() | tasks.part.si(2)])(tasks.total.s())
    backend: Any = app.backend
    in_a_process_that_dies(worker, lambda: setattr(backend, "on_chord_part_return", die))
    worker.run(VISIBILITY_S * 2, step=VISIBILITY_S)
    assert noted == []
    assert result.state == "FAILURE"


@pytest.mark.parametrize("mode", ["solo", "coroutine"], indirect=True)
@pytest.mark.parametrize("results", ["redis"], indirect=True)
def test_a_chord_that_redis_does_not_answer_for_is_completed_later(
    app: Celery, tasks: Any, lane: Callable[..., Lane], noted: list[Any]
) -> None:
    """Celery's backend fails such a chord for good, and forgets its size."""
    worker = lane()
    result = chord([tasks.part.s(1), tasks.part.s(2)])(tasks.total.s())
    client = cast("Any", app.backend).client
    stock, refused = client.pipeline, []

    def pipeline() -> Any:
        """That which reads the header's results: once, to a port where nobody is."""
        if worker.counts()[0] or refused:
            return stock()
        refused.append(True)
        return redis.Redis(port=1, retry=None).pipeline()

    client.pipeline = pipeline
    worker.run(600, step=60)
    assert (refused, result.state, noted) == ([True], "SUCCESS", [3])


@pytest.mark.parametrize("mode", ["solo"], indirect=True)
@pytest.mark.parametrize("where", ["joins", "publishes"])
def test_a_time_limit_that_strikes_as_a_chord_is_completed_fails_no_chord(
    app: Celery, lane: Callable[..., Lane], noted: list[Any], where: str
) -> None:
    """The store or the queue was slow, or the environment stood still and woke too late."""
    ran: list[int] = []
    slow = {where}

    def wait(place: str) -> None:
        if place in slow and len(ran) == 2:
            slow.clear()
            until = time.perf_counter() + 20
            while time.perf_counter() < until:
                pass

    def dumps(what: Any) -> str:
        wait("publishes")
        return json.dumps(what)

    def loads(text: Any) -> Any:
        wait("joins")
        return json.loads(text)

    register("slowly", dumps, json.loads, "application/x-slowly", "utf-8")
    register("slow", json.dumps, loads, "application/x-slow", "utf-8")
    app.conf.update(result_serializer="slow", accept_content=["json", "slowly", "slow"])

    @app.task(shared=False, name="limited", soft_time_limit=0.2)
    def limited(number: int) -> int:
        ran.append(number)
        return number

    @app.task(shared=False, name="all", serializer="slowly")
    def everything(numbers: list[int]) -> int:
        noted.append(numbers)
        return sum(numbers)

    worker = lane()
    result = chord([limited.s(1), limited.s(2)])(everything.s())
    worker.run(600, step=60)
    assert not slow
    assert noted == [[1, 2]]
    assert (result.state, result.get(timeout=1)) == ("SUCCESS", 3)
    assert ran == [1, 2, 2]
    assert worker.is_empty


def test_a_header_that_failed_by_its_time_limit_fails_its_chord(
    app: Celery, lane: Callable[..., Lane], noted: list[Any]
) -> None:
    """The same error as the limit's own comes out of its result."""

    @app.task(shared=False, name="limited", soft_time_limit=0.2)
    def limited() -> None:
        while True:
            time.perf_counter()

    @app.task(shared=False, name="all")
    def everything(numbers: list[int]) -> None:
        noted.append(numbers)

    worker = lane()
    result = chord([limited.s(), limited.s()])(everything.s())
    worker.run(600, step=60)
    assert (result.state, noted) == ("FAILURE", [])
    assert "SoftTimeLimitExceeded" in str(result.result)
    assert worker.is_empty
