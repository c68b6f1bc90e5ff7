"""The deferred lane, run by the test."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from twolane_local.clock.virtual import NEW_YEAR
from twolane_local.testing import NotIdleError
from twolane_local.testing.project import of_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.testing.stack import Twolane

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


def test_run_takes_what_is_there_now(stack: Twolane, application: Any) -> None:
    for name in ("a", "b"):
        stack.client.post(f"/notes/{name}")
    stack.client.post("/notes/later?countdown=30")
    assert stack.deferred.run() == 2
    assert [name for name, _ in application.calls] == ["a", "b"]
    assert stack.clock.time == NEW_YEAR
    assert stack.deferred.run() == 0


def test_run_takes_no_more_than_max(stack: Twolane, application: Any) -> None:
    for number in range(25):
        stack.client.post(f"/notes/{number}")
    assert stack.deferred.run(max=12) == 12
    assert [name for name, _ in application.calls] == [str(number) for number in range(12)]
    assert stack.deferred.run(max=0) == 0
    assert stack.deferred.run() == 13


def test_run_goes_on_with_what_a_task_publishes(
    make: Callable[..., Twolane], application: Any
) -> None:
    seen: list[str] = []

    def worker(event: Any, context: Any) -> Any:
        for record in event["Records"]:
            seen.append(record["body"])
            if len(seen) < 4:
                stack.queue("tasks").send(f"{record['body']}+")
        return {"batchItemFailures": []}

    stack = make(of_handlers(worker=worker))
    stack.queue("tasks").send("a")
    assert stack.deferred.run() == 4
    assert seen == ["a", "a+", "a++", "a+++"]


def test_run_until_idle_waits_for_visibility_timeouts(make: Callable[..., Twolane]) -> None:
    times: list[float] = []

    def worker(event: Any, context: Any) -> None:
        times.append(stack.clock.time - NEW_YEAR)
        raise ValueError("broken")

    stack = make(of_handlers(worker=worker, visibility_timeout_s=100, max_receive_count=3))
    stack.queue("tasks").send("poison")
    assert stack.deferred.run_until_idle() == 3
    assert times == [0, 100, 200]
    assert [message.receive_count for message in stack.queue("tasks").dead_letters] == [3]


def test_a_task_that_never_ends_is_said(stack: Twolane) -> None:
    stack.client.post("/run/again", json=[])
    with pytest.raises(NotIdleError, match="publish itself again"):
        stack.deferred.run_until_idle(within=timedelta(hours=2))
    assert stack.clock.time <= NEW_YEAR + 7200


def test_the_lane_may_run_beside_requests(stack: Twolane, application: Any) -> None:
    with stack.deferred.running():
        stack.client.post("/notes/a")
        stack.client.get("/sleep/1")
        assert [name for name, _ in application.calls] == ["a"]
    stack.client.post("/notes/b")
    stack.client.get("/sleep/1")
    assert [name for name, _ in application.calls] == ["a"]


@pytest.fixture
def with_window(make: Callable[..., Twolane]) -> Twolane:
    project = of_handlers(worker=lambda event, context: None)
    mapping = replace(project.stack.mappings[0], batching_window_s=60)
    return make(replace(project, stack=replace(project.stack, mappings=(mapping,))))


def test_a_batching_window_does_not_hold_up_a_run(with_window: Twolane) -> None:
    with_window.queue("tasks").send("a")
    assert with_window.deferred.run() == 1
    assert (len(with_window.queue("tasks")), with_window.clock.time) == (0, NEW_YEAR)


def test_until_idle_a_batching_window_passes(with_window: Twolane) -> None:
    with_window.queue("tasks").send("a")
    assert with_window.deferred.run_until_idle() == 1
    assert (len(with_window.queue("tasks")), with_window.clock.time) == (0, NEW_YEAR + 60)


def test_no_mapping_is_no_work(make: Callable[..., Twolane]) -> None:
    stack = make(of_handlers(api=lambda event, context: None))
    stack.queue("tasks").send("a")
    assert stack.deferred.run_until_idle() == 0


# What invokes functions only when the test lets it.


@pytest.fixture
def ticks() -> list[float]:
    return []


@pytest.fixture
def ticking(make: Callable[..., Twolane], ticks: list[float]) -> Twolane:
    def beat(event: Any, context: Any) -> None:
        ticks.append(ticking.clock.time - NEW_YEAR)

    ticking = make(of_handlers(worker=lambda event, context: None, beat=beat))
    return ticking


def test_what_recurs_fires_while_time_passes(ticking: Twolane, ticks: list[float]) -> None:
    ticking.clock.advance(150)
    assert ticks == [60, 120]


def test_what_recurs_stands_still_in_the_deferred_lane(
    ticking: Twolane, ticks: list[float]
) -> None:
    ticking.queue("tasks").send("later", delay_s=600)
    assert ticking.deferred.run_until_idle() == 1
    assert (ticking.clock.time, ticks) == (NEW_YEAR + 600, [])
    ticking.clock.advance(60)
    assert ticks == [660]


def test_nothing_is_delivered_unasked(ticking: Twolane) -> None:
    ticking.queue("tasks").send("now")
    ticking.invoke("Beat", b"{}")
    assert len(ticking.queue("tasks").messages) == 1


def test_what_recurs_does_not_fire_during_a_request(
    ticking: Twolane, ticks: list[float], application: Any, make: Callable[..., Twolane]
) -> None:
    ticking.close()
    other = make(of_handlers(api=application.api, beat=lambda event, context: ticks.append(0)))
    other.client.post("/inline/55")
    other.client.post("/inline/55")
    assert other.clock.time > NEW_YEAR + 60
    assert ticks == []


def test_a_mapping_is_switched_off_changed_and_made_by_the_api(
    make: Callable[..., Twolane],
) -> None:
    batches: list[list[str]] = []

    def worker(event: Any, context: Any) -> None:
        batches.append([record["body"] for record in event["Records"]])

    stack = make(of_handlers(worker=worker))
    client = boto3.client("lambda", region_name="us-east-1")
    (mapping,) = client.list_event_source_mappings()["EventSourceMappings"]
    assert mapping["State"] == "Enabled"
    client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    stack.queue("tasks").send("a")
    stack.queue("tasks").send("b")
    assert stack.deferred.run() == 0
    client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True, BatchSize=1)
    assert stack.deferred.run() == 2
    sqs = boto3.client("sqs", region_name="us-east-1")
    url = sqs.create_queue(QueueName="made", Attributes={"VisibilityTimeout": "900"})["QueueUrl"]
    client.create_event_source_mapping(
        EventSourceArn="arn:aws:sqs:us-east-1:123456789012:made", FunctionName="Worker"
    )
    sqs.send_message(QueueUrl=url, MessageBody="c")
    assert stack.deferred.run() == 1
    assert batches == [["a"], ["b"], ["c"]]
