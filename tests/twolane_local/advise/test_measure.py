"""From events to numbers."""

from __future__ import annotations

from itertools import chain

from twolane_local.checks.advise import measure

from .conftest import deferred, event, inline


def test_both_lanes_of_one_callable() -> None:
    events = [*chain(*(inline("mail", ms) for ms in (10.0, 30.0, 20.0))),
              *inline("mail", 5.0, kind="inline.failed"),
              *deferred("mail", 40.0, retries=1)]  # fmt: skip
    (work,) = measure(events)
    assert (work.name, work.requests) == ("mail", 5)
    assert (work.inline.runs, work.inline.succeeded, work.inline.failed) == (4, 3, 1)
    assert (work.inline.p50_ms, work.inline.p95_ms, work.inline.mean_ms) == (10.0, 30.0, 16.25)
    assert work.inline.function == "Api"
    assert (work.deferred.runs, work.deferred.retried, work.deferred.function) == (2, 1, "Worker")


def test_a_retry_is_no_new_task() -> None:
    (work,) = measure(deferred("mail", 40.0, retries=3))
    assert (work.published, work.by_requests, work.delayed) == (1, 1, 0)


def test_who_published_and_with_which_delay() -> None:
    events = [*deferred("mail", 1.0), *deferred("mail", 1.0, by_request=False),
              *deferred("mail", 1.0, delay=30)]  # fmt: skip
    (work,) = measure(events)
    assert (work.published, work.by_requests, work.delayed) == (3, 2, 1)


def test_the_size_of_a_batch() -> None:
    events = [
        event("batch.invoked", function="Worker", request_id="b", messageIds=["1", "2", "3"]),
        event("batch.invoked", function="Worker", request_id="other", messageIds=["4"]),
        event("task.succeeded", request_id="b", task_id="t", taskName="mail", durationMs=1.0),
    ]
    (work,) = measure(events)
    assert work.mean_batch == 3


def test_other_events_are_nothing() -> None:
    assert measure([event("log", line="x"), event("task.started", taskName="y")]) == []
