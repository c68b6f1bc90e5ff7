"""Each rule with the page that it comes from, in virtual time."""

from __future__ import annotations

import asyncio
import json

import pytest

from twolane_local.aws.events.patterns import PatternError
from twolane_local.aws.invocation import UnknownFunctionError
from twolane_local.aws.sqs.service import NewMessage
from twolane_local.clock.virtual import run_virtual


async def ok(event):
    return None


def failing(*bodies):
    """A function that reports these bodies as failed."""

    async def function(event):
        return {
            "batchItemFailures": [
                {"itemIdentifier": one["messageId"]}
                for one in event["Records"]
                if one["body"] in bodies
            ]
        }

    return function


def run(world, scenario, *, function=ok, attributes=None, reserved=None, name="q", **spec):
    """Run ``scenario(world, mapping)`` together with a mapping, in virtual time."""

    async def main(clock):
        here = world(clock, function, attributes or {}, name, reserved)
        mapping = here.mapping(**spec)
        polling = asyncio.create_task(mapping.run())
        try:
            await scenario(here, mapping)
        finally:
            polling.cancel()
            await asyncio.wait([polling])
            if not polling.cancelled():
                polling.result()

    run_virtual(main)


REDRIVE = {
    "RedrivePolicy": '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:123456789012:dead",'
    '"maxReceiveCount":3}'
}


# https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html


def test_a_batch_that_succeeds_is_deleted(world):
    async def scenario(here, mapping):
        here.send("a", "b")
        await here.clock.sleep(1)
        assert here.bodies() == [["a", "b"]]
        assert here.left() == []

    run(world, scenario)


def test_bodies_pass_byte_for_byte(world):
    bodies = ['{"a": 1}\r\n', "\t\u2028 grüße 😀", "\\u0000", '"', "x" * 100_000]
    seen = []

    async def function(event):
        seen.extend(one["body"] for one in event["Records"])

    async def scenario(here, mapping):
        here.send(*bodies)
        await here.clock.sleep(1)
        assert seen == bodies

    run(world, scenario, function=function)


def test_a_batch_whose_function_fails_comes_back_after_the_visibility_timeout(
    world, function_error
):
    async def function(event):
        if event["Records"][0]["attributes"]["ApproximateReceiveCount"] != "3":
            raise function_error

    async def scenario(here, mapping):
        here.send("a", "b")
        await here.clock.sleep(100)
        assert here.events == [(0, ["a", "b"]), (30, ["a", "b"]), (60, ["a", "b"])]
        assert here.left() == []

    run(world, scenario, function=function)


def test_what_fails_too_often_goes_to_the_dead_letter_queue(world, function_error):
    async def function(event):
        raise function_error

    async def scenario(here, mapping):
        here.send("poison")
        await here.clock.sleep(200)
        assert [at for at, _ in here.events] == [0, 30, 60]
        assert here.left() == []
        assert here.left("dead") == ["poison"]

    run(world, scenario, function=function, attributes=REDRIVE)


# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html


def test_only_what_is_reported_comes_back(world):
    async def scenario(here, mapping):
        here.send("a", "bad", "c")
        await here.clock.sleep(200)
        assert here.events == [(0, ["a", "bad", "c"]), (30, ["bad"]), (60, ["bad"])]
        assert here.left("dead") == ["bad"]

    run(
        world, scenario, function=failing("bad"), attributes=REDRIVE,
        report_batch_item_failures=True,
    )  # fmt: skip


def test_without_the_setting_a_report_is_ignored(world):
    async def scenario(here, mapping):
        here.send("a", "bad")
        await here.clock.sleep(100)
        assert here.bodies() == [["a", "bad"]]
        assert here.left() == []

    run(world, scenario, function=failing("bad"))


def test_a_malformed_report_fails_the_whole_batch_and_says_so(world):
    async def function(event):
        return {"batchItemFailures": [{"itemIdentifier": ""}]}

    async def scenario(here, mapping):
        here.send("a", "b")
        await here.clock.sleep(31)
        assert here.bodies() == [["a", "b"]] * 2
        assert "itemIdentifier is empty" in here.kinds("log")[0].data["message"]

    run(world, scenario, function=function, report_batch_item_failures=True)


def test_a_function_may_change_the_visibility_of_what_it_gives_back(world):
    async def scenario(here, mapping):
        async def function(event):
            one = event["Records"][0]
            if one["attributes"]["ApproximateReceiveCount"] == "1":
                here.queues.change_visibility("q", one["receiptHandle"], 5)
                return {"batchItemFailures": [{"itemIdentifier": one["messageId"]}]}
            return None

        here.function = function
        here.send("a")
        await here.clock.sleep(10)
        assert [at for at, _ in here.events] == [0, 5]

    run(world, scenario, report_batch_item_failures=True)


def test_a_function_that_outlives_the_visibility_timeout_gets_the_message_twice(world):
    async def scenario(here, mapping):
        async def function(event):
            await here.clock.sleep(40 if len(here.events) == 1 else 1)

        here.function = function
        here.send("a")
        await here.clock.sleep(100)
        assert [at for at, _ in here.events] == [0, 30]
        assert here.left() == [], "the second delivery deleted it"

    run(world, scenario)


# https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html


def test_without_a_window_a_batch_takes_what_is_there(world):
    async def scenario(here, mapping):
        here.send(*map(str, range(25)))
        await here.clock.sleep(1)
        assert [len(bodies) for bodies in here.bodies()] == [10, 10, 5]

    run(world, scenario, batch_size=10)


def test_a_window_starts_with_the_first_message_and_gathers_more(world):
    async def scenario(here, mapping):
        await here.clock.sleep(7)
        here.send("a")
        await here.clock.sleep(4)
        here.send("b")
        await here.clock.sleep(20)
        here.send("c")
        await here.clock.sleep(20)
        assert here.events == [(12, ["a", "b"]), (36, ["c"])]

    run(world, scenario, batch_size=100, batching_window_s=5)


def test_a_full_batch_does_not_wait_for_its_window(world):
    async def scenario(here, mapping):
        here.send(*map(str, range(250)))
        await here.clock.sleep(1)
        assert [len(bodies) for bodies in here.bodies()] == [100, 100]
        await here.clock.sleep(60)
        assert here.events[2][0] == 60
        assert sorted(map(int, here.all_bodies())) == list(range(250))

    run(
        world,
        scenario,
        batch_size=100,
        batching_window_s=60,
        attributes={"VisibilityTimeout": "600"},
    )


def test_a_batch_of_ten_thousand(world):
    async def scenario(here, mapping):
        here.send(*map(str, range(10_000)))
        await here.clock.sleep(1)
        assert [len(bodies) for bodies in here.bodies()] == [10_000]
        assert here.left() == []

    run(world, scenario, batch_size=10_000, batching_window_s=5)


def test_a_payload_stays_under_six_megabytes(world):
    sizes = []

    async def function(event):
        sizes.append(len(json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()))

    async def scenario(here, mapping):
        here.send(*["x" * 1_000_000] * 13)
        await here.clock.sleep(10)
        assert [len(bodies) for bodies in here.bodies()] == [6, 6, 1]
        assert all(size <= 6 * 1024 * 1024 for size in sizes)
        assert here.left() == []

    run(world, scenario, function=function, batch_size=100, batching_window_s=5)


def test_a_window_above_the_visibility_timeout_puts_no_message_into_a_batch_twice(world):
    receipts = []

    async def function(event):
        receipts.extend(one["attributes"]["ApproximateReceiveCount"] for one in event["Records"])

    async def scenario(here, mapping):
        here.send("a", "b")
        await here.clock.sleep(25)
        here.send("c")
        await here.clock.sleep(60)
        assert [(at, sorted(bodies)) for at, bodies in here.events] == [(50, ["a", "b", "c"])]
        # Its last receipt is the one that is passed on, as only that one still deletes.
        assert sorted(receipts) == ["1", "2", "2"]
        assert here.left() == []

    run(
        world, scenario, function=function, attributes={"VisibilityTimeout": "30"},
        batch_size=100, batching_window_s=50,
    )  # fmt: skip


def test_messages_of_a_function_that_was_deleted_wait_for_it(world):
    missing = True

    async def function(event):
        if missing:
            raise UnknownFunctionError("worker")

    async def scenario(here, mapping):
        nonlocal missing
        here.send("a")
        await here.clock.sleep(1)
        (log,) = here.kinds("log")
        assert log.data["message"].endswith(
            "worker does not exist; 1 messages are received again after the visibility timeout"
        )
        missing = False
        await here.clock.sleep(30)
        assert here.events == [(0, ["a"]), (30, ["a"])]
        assert here.left() == []

    run(world, scenario, function=function)


# https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html


def test_what_no_filter_wants_is_deleted(world):
    async def scenario(here, mapping):
        here.send('{"n": 1}', '{"n": 5}', "text", '{"n": 9}')
        await here.clock.sleep(1)
        assert here.bodies() == [['{"n": 5}', '{"n": 9}']]
        assert here.left() == []
        assert len(here.kinds("message.filtered")) == 2

    pattern = {"body": {"n": [{"numeric": [">", 3]}]}}
    run(world, scenario, filter_patterns=(pattern,))


def test_a_backlog_that_nobody_wants_leaves_others_their_turn(world):
    async def scenario(here, mapping):
        turns = 0
        here.send(*["text"] * 5_000)
        while here.left():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 100

    run(world, scenario, filter_patterns=({"body": {"n": [1]}},))


def test_a_mapping_outlives_the_limit_of_messages_in_flight(world, monkeypatch):
    monkeypatch.setattr("twolane_local.aws.sqs.service.IN_FLIGHT_LIMIT", 5)

    async def scenario(here, mapping):
        async def function(event):
            await here.clock.sleep(2)

        here.function = function
        here.send(*map(str, range(12)))
        await here.clock.sleep(60)
        assert sorted(here.all_bodies(), key=int) == [str(number) for number in range(12)]
        assert here.left() == []
        assert "cannot receive" in here.kinds("log")[0].data["message"]

    run(world, scenario)


def test_a_fifo_queue_at_that_limit_is_no_busy_loop(world, monkeypatch):
    monkeypatch.setattr("twolane_local.aws.sqs.service.IN_FLIGHT_LIMIT", 2)

    async def scenario(here, mapping):
        async def function(event):
            await here.clock.sleep(2)

        here.function = function
        for number in range(6):
            here.send(str(number), group_id=f"g{number}")
        await here.clock.sleep(60)
        assert sorted(here.all_bodies()) == [str(number) for number in range(6)]

    run(world, scenario, attributes=FIFO, name="q.fifo")


def test_a_visibility_timeout_of_zero_still_invokes(world):
    async def scenario(here, mapping):
        here.send("a")
        await here.clock.sleep(1)
        assert here.bodies()[0] == ["a"]
        assert here.left() == []

    run(world, scenario, attributes={"VisibilityTimeout": "0"})


def test_filtered_messages_do_not_count_towards_a_batch(world):
    async def scenario(here, mapping):
        here.send(*[json.dumps({"n": n}) for n in range(40)])
        await here.clock.sleep(10)
        assert [len(bodies) for bodies in here.bodies()] == [10]
        assert here.left() == []

    pattern = {"body": {"n": [{"numeric": [">=", 30]}]}}
    run(world, scenario, filter_patterns=(pattern,), batching_window_s=1)


def test_a_malformed_filter_is_refused_when_the_mapping_is_made(world):
    async def scenario(here, mapping):
        raise AssertionError("not reached")

    with pytest.raises(PatternError):
        run(world, scenario, filter_patterns=({"body": "x"},))


# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html


def slow(world, **options):
    async def scenario(here, mapping):
        async def function(event):
            await here.clock.sleep(10)

        here.function = function
        here.send(*map(str, range(1_000)))
        await here.clock.sleep(9.99)
        options["check"](here)

    spec = {key: value for key, value in options.items() if key != "check"}
    run(world, scenario, batch_size=1, **spec)


def test_five_batches_at_once_and_more_while_messages_wait(world):
    def check(here):
        # Five at once, then five more a second.
        assert [at for at, _ in here.events].count(0) == 5
        assert 50 <= here.most_running <= 55

    slow(world, check=check)


def test_maximum_concurrency_is_never_exceeded(world):
    def check(here):
        assert here.most_running == 3
        assert len(here.queues.receive("q", 10)) == 10, "the rest is still on the queue"

    slow(world, check=check, maximum_concurrency=3)


def test_an_idle_mapping_takes_no_time_from_others(world):
    """A day with nothing to do is over at once: no polling in a loop."""

    async def scenario(here, mapping):
        await here.clock.sleep(86_400)
        here.send("a")
        await here.clock.sleep(0.001)
        assert here.bodies() == [["a"]]

    run(world, scenario)


# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html (throttles)


def test_a_throttled_batch_is_tried_again_and_loses_nothing(world):
    async def scenario(here, mapping):
        async def function(event):
            await here.clock.sleep(3)

        here.function = function
        here.send(*map(str, range(20)))
        await here.clock.sleep(600)
        assert here.most_running == 1
        assert here.left() == []
        assert sorted(set(here.all_bodies()), key=int) == [str(n) for n in range(20)]

    run(world, scenario, reserved=1, batch_size=1)


def test_a_throttle_that_ends_within_the_visibility_timeout_costs_no_receive(world):
    async def scenario(here, mapping):
        async def function(event):
            await here.clock.sleep(3)

        here.function = function
        here.send("a", "b")
        await here.clock.sleep(100)
        assert here.left() == []
        assert len(here.kinds("message.received")) == 2

    run(world, scenario, reserved=1, batch_size=1)


def test_a_batch_whose_visibility_timeout_is_over_is_not_invoked_any_more(world):
    async def scenario(here, mapping):
        here.send("a")
        await here.clock.sleep(45)
        here.reserved = None
        await here.clock.sleep(60)
        assert here.all_bodies() == ["a"]

    run(world, scenario, reserved=0)


def test_throttles_use_up_receives_and_end_on_the_dead_letter_queue(world):
    async def scenario(here, mapping):
        here.send("a")
        await here.clock.sleep(200)
        assert here.events == []
        assert here.left("dead") == ["a"]
        received = [event.at - here.start for event in here.kinds("message.received")]
        assert received == pytest.approx([0, 30, 60], abs=12)

    run(world, scenario, reserved=0, attributes=REDRIVE)


def test_on_a_fair_queue_a_quiet_tenant_does_not_wait_behind_a_noisy_one(world):
    async def scenario(here, mapping):
        async def function(event):
            for one in event["Records"]:
                group = one["attributes"].get("MessageGroupId")
                done.setdefault(group, []).append(here.elapsed() - float(one["body"]))
            await here.clock.sleep(1)

        done = {}
        here.function = function
        for _ in range(2_000):
            here.send("0", group_id="noisy")
        for _ in range(10):
            await here.clock.sleep(2)
            here.send(str(here.elapsed()), group_id="quiet")
        await here.clock.sleep(100)
        assert (len(done["noisy"]), len(done["quiet"])) == (2_000, 10)
        assert max(done["quiet"]) <= 1, "it waits for one batch, not for the backlog"
        assert max(done["noisy"]) > 30

    run(world, scenario, batch_size=10, maximum_concurrency=5)


# FIFO: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html

FIFO = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}


def test_a_fifo_group_has_one_batch_at_a_time_and_groups_run_side_by_side(world):
    async def scenario(here, mapping):
        async def function(event):
            groups = {one["attributes"]["MessageGroupId"] for one in event["Records"]}
            assert not groups & busy, "a group is with one invocation only"
            busy.update(groups)
            await here.clock.sleep(5)
            busy.difference_update(groups)
            seen.extend(one["body"] for one in event["Records"])

        busy, seen = set(), []
        here.function = function
        for number in range(6):
            for group in "abc":
                here.send(f"{group}{number}", group_id=group)
        await here.clock.sleep(60)
        assert here.most_running == 3
        for group in "abc":
            assert [body for body in seen if body[0] == group] == [f"{group}{n}" for n in range(6)]

    run(world, scenario, attributes=FIFO, name="q.fifo", batch_size=2)


def test_a_failed_fifo_message_holds_its_group_until_it_is_done(world, function_error):
    async def scenario(here, mapping):
        async def function(event):
            one = event["Records"][0]
            if one["body"] == "a0" and one["attributes"]["ApproximateReceiveCount"] == "1":
                raise function_error

        here.function = function
        for body in ("a0", "a1", "b0"):
            here.send(body, group_id=body[0])
        await here.clock.sleep(60)
        assert here.events == [(0, ["a0"]), (0, ["b0"]), (30, ["a0"]), (30, ["a1"])]

    run(world, scenario, attributes=FIFO, name="q.fifo", batch_size=1)


def test_a_fifo_batch_reports_from_its_first_failure_on(world):
    """The function has to stop, as the page says; the messages that it reports keep their order."""

    async def scenario(here, mapping):
        async def function(event):
            if len(here.events) > 1:
                return None
            return {
                "batchItemFailures": [
                    {"itemIdentifier": one["messageId"]} for one in event["Records"][1:]
                ]
            }

        here.function = function
        for number in range(4):
            here.send(f"a{number}", group_id="a")
        await here.clock.sleep(60)
        assert here.events == [(0, ["a0", "a1", "a2", "a3"]), (30, ["a1", "a2", "a3"])]

    run(world, scenario, attributes=FIFO, name="q.fifo", report_batch_item_failures=True)


def test_a_fifo_report_with_a_gap_is_warned_about(world):
    async def scenario(here, mapping):
        for body in ("a0", "a1"):
            here.send(body, group_id="a")
        await here.clock.sleep(1)
        said = [event.data["message"] for event in here.kinds("log")]
        assert "1 of 2 messages failed; they will be received again within 30 s" in said[0]
        assert "out of order" in said[1]

    run(
        world, scenario, attributes=FIFO, name="q.fifo", function=failing("a0"),
        report_batch_item_failures=True,
    )  # fmt: skip


# https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html (Enabled)


def test_a_disabled_mapping_takes_nothing_until_it_is_enabled(world):
    async def scenario(here, mapping):
        here.send("a")
        await here.clock.sleep(60)
        assert here.events == []
        mapping.enabled = True
        await here.clock.sleep(1)
        assert here.bodies() == [["a"]]
        mapping.enabled = False
        here.send("b")
        await here.clock.sleep(60)
        assert here.bodies() == [["a"]]
        assert here.left() == ["b"]

    run(world, scenario, enabled=False)


def test_disabling_sends_the_batch_that_is_being_gathered(world):
    async def scenario(here, mapping):
        here.send("a")
        await here.clock.sleep(1)
        mapping.enabled = False
        await here.clock.sleep(0.1)
        assert here.events == [(1, ["a"])]

    run(world, scenario, batch_size=100, batching_window_s=60)


def test_draining_waits_for_what_is_under_way(world):
    async def scenario(here, mapping):
        async def function(event):
            await here.clock.sleep(7)

        here.function = function
        here.send("a")
        await here.clock.sleep(1)
        mapping.end("Updating")
        await mapping.drained()
        assert here.elapsed() == 7
        assert here.left() == []

    run(world, scenario)


def test_draining_does_not_wait_for_a_queue_that_is_gone(world):
    async def scenario(here, mapping):
        here.queues.delete_queue("q")
        await here.clock.sleep(1)
        mapping.end("Updating")
        await mapping.drained()
        assert here.elapsed() == 1

    run(world, scenario)


def test_partial_failures_do_not_slow_a_mapping_down_but_failed_invocations_do(
    world, function_error
):
    async def scenario(here, mapping):
        async def function(event):
            await here.clock.sleep(1)
            if event["Records"][0]["body"] == "raise":
                raise function_error
            return {"batchItemFailures": [{"itemIdentifier": event["Records"][0]["messageId"]}]}

        async def most_at_once(body):
            here.send(*[body] * 20)
            await here.clock.sleep(8)
            here.most_running = 0
            here.send(*["later"] * 5)
            await here.clock.sleep(0.1)
            return here.most_running

        here.function = function
        assert await most_at_once("partial") >= 5
        here.queues.purge("q")
        assert await most_at_once("raise") < 5

    run(
        world, scenario, batch_size=1, report_batch_item_failures=True,
        attributes={"VisibilityTimeout": "600"},
    )  # fmt: skip


def test_draining_sends_the_batch_that_is_being_gathered(world):
    async def scenario(here, mapping):
        here.send("a")
        await here.clock.sleep(1)
        mapping.end("Updating")
        await mapping.drained()
        assert here.events == [(1, ["a"])]
        assert here.left() == []

    run(world, scenario, batch_size=100, batching_window_s=60)


def test_what_was_left_over_too_long_is_received_again(world):
    """Two batches take longer than the visibility timeout, and the third waits for them."""

    async def scenario(here, mapping):
        async def function(event):
            queue = here.queues.refreshed("q")
            for one in event["Records"]:
                assert queue.find(one["receiptHandle"]).receipt == one["receiptHandle"]
            await here.clock.sleep(100 if len(here.events) <= 2 else 0)

        here.function = function
        here.send(*["x" * 1_000_000] * 13)
        await here.clock.sleep(300)
        assert [len(bodies) for bodies in here.bodies()][:2] == [6, 6]
        assert here.left() == []
        assert not here.kinds("log")

    run(
        world, scenario, batch_size=100, batching_window_s=1, maximum_concurrency=2,
        attributes={"VisibilityTimeout": "60"},
    )  # fmt: skip


def test_one_queue_may_feed_two_mappings(world):
    async def scenario(here, mapping):
        other = asyncio.create_task(here.mapping(batch_size=1).run())
        here.send(*map(str, range(200)))
        await here.clock.sleep(5)
        other.cancel()
        assert sorted(map(int, here.all_bodies())) == list(range(200))
        assert {len(bodies) for bodies in here.bodies()} >= {1, 10}

    run(world, scenario)


def test_two_queues_may_feed_one_function(world):
    async def scenario(here, mapping):
        other = asyncio.create_task(here.mapping("dead").run())
        here.send("a")
        here.queues.send("dead", NewMessage("b"))
        await here.clock.sleep(1)
        other.cancel()
        assert sorted(here.bodies()) == [["a"], ["b"]]

    run(world, scenario)


def test_a_mapping_waits_for_its_queue_to_be_there(world):
    async def scenario(here, mapping):
        here.queues.delete_queue("q", name_is_free=True)
        await here.clock.sleep(5)
        here.queues.create("q")
        here.send("a")
        await here.clock.sleep(1)
        assert here.bodies() == [["a"]]

    run(world, scenario)


def test_an_invoker_that_breaks_does_not_end_the_mapping(world):
    async def scenario(here, mapping):
        async def function(event):
            if len(here.events) == 1:
                raise RuntimeError("no environment")

        here.function = function
        here.send("a")
        await here.clock.sleep(31)
        assert here.bodies() == [["a"], ["a"]]
        assert "no environment" in here.kinds("log")[0].data["message"]

    run(world, scenario)


def test_each_invocation_names_its_messages(world):
    async def scenario(here, mapping):
        here.send("a", "b")
        await here.clock.sleep(1)
        (invoked,) = here.kinds("batch.invoked")
        assert invoked.function == "worker"
        assert invoked.data["messageIds"] == [e.message_id for e in here.kinds("message.sent")]

    run(world, scenario)
