"""The clockwork, on real queues, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from twolane.worker.delay import Schedules
from twolane_local.aws.scheduler.expressions import ExpressionError
from twolane_local.aws.scheduler.schedule import ScheduleBook, ScheduleSource, from_properties
from twolane_local.aws.scheduler.targets import is_supported
from twolane_local.aws.sqs.service import QueueService
from twolane_local.clock.virtual import NEW_YEAR, VirtualClock, run_virtual
from twolane_local.journal import Journal
from twolane_local.model import ScheduleSpec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:beat"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:tasks"
DEAD = "arn:aws:sqs:us-east-1:123456789012:dead"


class Machine:
    """A scheduler with its queues, and a function that notes each event's time."""

    def __init__(self, clock: VirtualClock, specs: list[ScheduleSpec]) -> None:
        self.clock = clock
        self.journal = Journal(clock)
        self.queues = QueueService(clock, self.journal, rng=random.Random(1))
        self.queues.create("tasks")
        self.queues.create("dead")
        self.book = ScheduleBook()
        self.events: list[tuple[float, dict[str, Any]]] = []
        self.source = ScheduleSource(
            specs, self, self.queues, clock, self.journal, book=self.book, rng=random.Random(7)
        )

    def submit(self, function: str, payload: bytes) -> str:
        if function != "beat":
            raise KeyError(function)
        self.events.append((self.clock.time(), json.loads(payload)))
        return "request"

    @property
    def minutes(self) -> list[float]:
        """When events came, in minutes since the start."""
        return [round((at - NEW_YEAR) / 60, 3) for at, _ in self.events]

    def bodies(self, queue: str = "tasks") -> list[Any]:
        return [received.message for received in self.queues.receive(queue, 10)]


def run(
    specs: list[ScheduleSpec], play: Callable[[Machine], Awaitable[None]], start: float = NEW_YEAR
) -> Machine:
    async def main(clock: VirtualClock) -> Machine:
        machine = Machine(clock, specs)
        running = asyncio.create_task(machine.source.run())
        await play(machine)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        return machine

    return run_virtual(main, start=start)


async def ten_minutes(machine: Machine) -> None:
    await machine.clock.sleep(600.5)


def test_a_task_that_is_due_much_later_comes_in_its_message_group() -> None:
    """As the worker schedules it, in the way that Scheduler has for queues that are not FIFO."""

    async def play(machine: Machine) -> None:
        class Book:
            def create(self, _region: str, entry: Mapping[str, Any]) -> None:
                assert is_supported(entry["Target"]["Arn"])
                now = machine.clock.time()
                machine.book.add(from_properties(entry["Name"], dict(entry), now=now))

        later = Schedules("arn:aws:iam::123456789012:role/r", "default", Book())
        assert later.schedule(QUEUE, "body", NEW_YEAR + 120, group_id="customer-1")
        assert machine.bodies() == []
        await ten_minutes(machine)

    (message,) = run([], play).bodies()
    assert (message.body, message.group_id) == ("body", "customer-1")


def spec(expression: str, **fields: Any) -> ScheduleSpec:
    return ScheduleSpec(**{"name": "tick", "target_arn": FUNCTION, **fields}, expression=expression)


def properties(expression: str, **fields: Any) -> dict[str, Any]:
    return {
        "ScheduleExpression": expression,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": QUEUE, "RoleArn": "arn:aws:iam::123456789012:role/r", "Input": "hello"},
        **fields,
    }


def test_a_rate_of_scheduler_begins_at_once_a_rules_after_one_interval() -> None:
    assert run([spec("rate(3 minutes)")], ten_minutes).minutes == [0, 3, 6, 9]
    assert run([spec("rate(3 minutes)", source="rule")], ten_minutes).minutes == [3, 6, 9]


def test_a_rule_with_two_targets_invokes_both() -> None:
    targets = [
        spec(
            "rate(4 minutes)",
            source="rule",
            input=f'"{name}"',
            options={"Target": {"Id": name, "Arn": FUNCTION}},
        )
        for name in ("one", "two")
    ]
    machine = run(targets, ten_minutes)
    assert [event for _, event in machine.events] == ["one", "two", "one", "two"]
    assert list(machine.book.groups) == ["default"]


def test_a_function_gets_the_event_of_its_time() -> None:
    machine = run([spec("cron(0/5 * * * ? *)")], ten_minutes)
    assert [event["time"] for _, event in machine.events] == [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:05:00Z",
        "2026-01-01T00:10:00Z",
    ]
    fired = [event for event in machine.journal if event.kind == "schedule.fired"]
    assert [event.data["time"] for event in fired] == [event["time"] for _, event in machine.events]


def test_a_disabled_schedule_does_nothing() -> None:
    assert run([spec("rate(1 minute)", enabled=False)], ten_minutes).minutes == []


def test_start_and_end_dates_bound_a_rate() -> None:
    dates = {"StartDate": "2026-01-01T00:02:30Z", "EndDate": "2026-01-01T00:07:00Z"}
    assert run([spec("rate(2 minutes)", options=dates)], ten_minutes).minutes == [2.5, 4.5, 6.5]


def test_start_and_end_dates_do_not_bind_a_one_time_schedule() -> None:
    dates = {"StartDate": "2027-01-01T00:00:00Z", "EndDate": "2025-01-01T00:00:00Z"}
    assert run([spec("at(2026-01-01T00:04:00)", options=dates)], ten_minutes).minutes == [4]


def test_a_flexible_window_spreads_inside_its_bounds() -> None:
    window = {"FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5}}
    machine = run([spec("cron(0 * * * ? *)", options=window)], hours(6))
    late = [minutes % 60 for minutes in machine.minutes]
    assert len(late) == 6
    assert all(0 <= each < 5 for each in late)
    assert len(set(late)) == 6
    assert machine.events[1][1]["time"] == "2026-01-01T01:00:00Z"


def hours(count: float) -> Callable[[Machine], Awaitable[None]]:
    async def play(machine: Machine) -> None:
        await machine.clock.sleep(count * 3600 - 1)

    return play


def test_a_queue_gets_the_input_as_it_is() -> None:
    machine = run(
        [spec("at(2026-01-01T00:01:00)", target_arn=QUEUE, input="as it is")], ten_minutes
    )
    [received] = machine.bodies()
    assert received.body == "as it is"


def test_a_universal_target_sends_with_delay_and_attributes() -> None:
    request = {
        "QueueUrl": "http://127.0.0.1:4566/123456789012/tasks",
        "MessageBody": "<aws.scheduler.scheduled-time>",
        "MessageAttributes": {"kind": {"DataType": "String", "StringValue": "late"}},
    }
    universal = spec(
        "at(2026-01-01T00:01:00)",
        target_arn="arn:aws:scheduler:::aws-sdk:sqs:sendMessage",
        input=json.dumps(request),
    )
    [received] = run([universal], ten_minutes).bodies()
    assert received.body == "2026-01-01T00:01:00Z"
    assert received.attributes["kind"].string == "late"


def test_a_universal_target_invokes_a_function() -> None:
    request = {"FunctionName": FUNCTION, "InvocationType": "Event", "Payload": '{"a": 1}'}
    universal = spec(
        "at(2026-01-01T00:01:00)",
        target_arn="arn:aws:scheduler:::aws-sdk:lambda:invoke",
        input=json.dumps(request),
    )
    assert [event for _, event in run([universal], ten_minutes).events] == [{"a": 1}]


def test_a_one_time_schedule_deletes_itself_when_asked_to() -> None:
    async def play(machine: Machine) -> None:
        for action in ("DELETE", "NONE"):
            machine.book.add(
                from_properties(
                    action,
                    properties("at(2026-01-01T03:00:00)", ActionAfterCompletion=action),
                    now=machine.clock.time(),
                )
            )
        await machine.clock.sleep(3 * 3600 - 1)
        assert machine.bodies() == []
        await machine.clock.sleep(2)

    machine = run([], play)
    assert [each.name for each in machine.book] == ["NONE"]
    assert len(machine.bodies()) == 2


def test_a_recurring_schedule_deletes_itself_after_its_end() -> None:
    options = {"ActionAfterCompletion": "DELETE", "EndDate": "2026-01-01T00:03:00Z"}
    machine = run([spec("rate(1 minute)", options=options)], ten_minutes)
    assert machine.minutes == [0, 1, 2, 3]
    assert list(machine.book) == []


def test_a_schedule_made_while_it_runs_is_taken_up_and_one_removed_is_not_fired() -> None:
    async def play(machine: Machine) -> None:
        await machine.clock.sleep(90)
        [tick] = machine.book
        machine.book.remove(tick)
        machine.book.add(
            from_properties("new", properties("rate(2 minutes)"), now=machine.clock.time())
        )
        await machine.clock.sleep(300)

    machine = run([spec("rate(1 minute)")], play)
    assert machine.minutes == [0, 1]
    assert len(machine.bodies()) == 3


def test_a_changed_schedule_runs_by_its_new_times_only() -> None:
    async def play(machine: Machine) -> None:
        await machine.clock.sleep(30)
        changed = properties("cron(0/4 * * * ? *)", Target={"Arn": FUNCTION})
        machine.book.replace(from_properties("tick", changed, now=machine.clock.time()))
        await machine.clock.sleep(600)

    assert run([spec("rate(1 minute)")], play).minutes == [0, 4, 8]


def test_a_source_that_takes_over_the_book_goes_on_where_the_other_ended() -> None:
    """The template changes while it runs: nothing is fired again, nothing is left out."""

    async def play(machine: Machine) -> None:
        now = machine.clock.time()
        for name, expression in (
            ("past", "at(2026-01-01T00:01:00)"),
            ("to come", "at(2026-01-01T00:08:00)"),
            ("often", "rate(3 minutes)"),
        ):
            machine.book.add(
                from_properties(name, properties(expression, Target={"Arn": FUNCTION}), now=now)
            )
        await machine.clock.sleep(250)

    async def main(clock: VirtualClock) -> list[float]:
        machine = Machine(clock, [])
        for _ in range(2):
            running = asyncio.create_task(machine.source.run())
            if not list(machine.book):
                await play(machine)
            else:
                await machine.clock.sleep(350)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            machine.source = ScheduleSource(
                [], machine, machine.queues, clock, machine.journal, book=machine.book
            )
        return machine.minutes

    assert run_virtual(main) == [0, 1, 3, 6, 8, 9]


def test_a_time_that_has_passed_is_made_up_for_at_once() -> None:
    assert run([spec("at(2025-12-31T23:00:00)")], ten_minutes).minutes == [0]


def test_what_cannot_be_delivered_is_tried_again_and_then_dead_lettered() -> None:
    target = {
        "RetryPolicy": {"MaximumRetryAttempts": 3},
        "DeadLetterConfig": {"Arn": DEAD},
    }
    gone = spec(
        "at(2026-01-01T00:01:00)",
        target_arn=QUEUE.replace("tasks", "gone"),
        input="lost",
        options={"Target": target},
    )
    machine = run([gone], ten_minutes)
    [dead] = machine.bodies("dead")
    assert dead.body == "lost"
    assert dead.attributes["ERROR_CODE"].string == "AWS.SimpleQueueService.NonExistentQueue"
    assert dead.attributes["RETRY_ATTEMPTS"].string == "3"
    assert dead.attributes["EXHAUSTED_RETRY_CONDITION"].string == "MaximumRetryAttempts"


def test_a_rules_event_is_dead_lettered_at_once() -> None:
    gone = spec(
        "rate(9 minutes)",
        source="rule",
        target_arn=FUNCTION.replace("beat", "gone"),
        options={"Target": {"Id": "t", "DeadLetterConfig": {"Arn": DEAD}}},
    )
    [dead] = run([gone], ten_minutes).bodies("dead")
    assert {name: value.string for name, value in dead.attributes.items()} == {
        "ERROR_CODE": "ResourceNotFoundException",
        "ERROR_MESSAGE": f"Function not found: {FUNCTION.replace('beat', 'gone')}",
        "RETRY_ATTEMPTS": "0",
        "RULE_ARN": "arn:aws:events:us-east-1:123456789012:rule/tick",
        "TARGET_ARN": FUNCTION.replace("beat", "gone"),
    }
    assert json.loads(dead.body)["source"] == "aws.events"


def test_a_queue_that_appears_in_time_gets_its_message() -> None:
    async def play(machine: Machine) -> None:
        await machine.clock.sleep(65)
        machine.queues.create("late")
        await machine.clock.sleep(600)

    late = spec("at(2026-01-01T00:01:00)", target_arn=QUEUE.replace("tasks", "late"), input="x")
    machine = run([late], play)
    assert [each.body for each in machine.bodies("late")] == ["x"]


def test_an_event_grows_too_old() -> None:
    target = {"RetryPolicy": {"MaximumEventAgeInSeconds": 60}, "DeadLetterConfig": {"Arn": DEAD}}
    unknown = spec(
        "at(2026-01-01T00:01:00)",
        target_arn=FUNCTION.replace("beat", "gone"),
        options={"Target": target},
    )
    [dead] = run([unknown], ten_minutes).bodies("dead")
    assert dead.attributes["EXHAUSTED_RETRY_CONDITION"].string == "MaximumEventAgeInSeconds"
    assert dead.attributes["ERROR_CODE"].string == "ResourceNotFoundException"


def test_02_30_in_berlin_over_both_clock_changes() -> None:
    """A year of days; the one that has no 02:30 is skipped, the one with two has one."""
    berlin = spec("cron(30 2 * * ? *)", timezone="Europe/Berlin")
    machine = run([berlin], hours(365 * 24))
    times = [event["time"] for _, event in machine.events]
    assert len(times) == 364
    assert "2026-03-28T01:30:00Z" in times
    assert not [each for each in times if each.startswith("2026-03-29")]
    assert "2026-03-30T00:30:00Z" in times
    assert [each for each in times if each.startswith("2026-10-25")] == ["2026-10-25T00:30:00Z"]
    assert "2026-10-26T01:30:00Z" in times
    came = [
        datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for at, _ in machine.events
    ]
    assert came == times


def test_a_template_that_aws_would_refuse_says_which_schedule() -> None:
    with pytest.raises(ExpressionError, match="schedule tick: "):
        run([spec("rate(1 fortnight)")], ten_minutes)
