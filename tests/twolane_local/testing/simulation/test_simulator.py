"""A run's world: what happens in it by itself, and what is told of it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import redis
from celery import Celery
from kombu import pools

from twolane.environment import logs
from twolane.publish.client import Wire
from twolane.state.memory import MemoryStore
from twolane.worker.lease import Delivery, LeaseState, write_lease
from twolane.worker.lookup import Watch
from twolane_local.aws.invocation import ThrottledError
from twolane_local.aws.lambda_.functions import new_request_id
from twolane_local.aws.sqs.errors import SqsError
from twolane_local.aws.sqs.service import NewMessage
from twolane_local.clock.threads import current
from twolane_local.model import ScheduleSpec
from twolane_local.testing.simulation.simulator import DEAD, QUEUE, Function, task_of
from twolane_local.testing.stores import URL

from .conftest import START, function

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.aws.invocation import Invocation
    from twolane_local.testing.simulation.invariants import History
    from twolane_local.testing.simulation.simulator import Simulation


BODY = json.dumps({"headers": {"id": "t1", "task": "app.mail"}, "body": "[]"})


def test_what_sqs_takes_is_told_with_its_task(world_of: Callable[..., Simulation]) -> None:
    async def script(world: Simulation) -> None:
        world.queues.send(QUEUE, NewMessage(BODY))
        await world.clock.sleep(5)

    history = world_of().run(script)
    (taken,) = history.of("body.taken")
    assert (taken.task, taken.data["name"], taken.data["body"]) == ("t1", "app.mail", BODY)
    assert [fact.message for fact in history.of("message.deleted")] == [taken.message]


def test_an_answer_that_is_lost_is_told(world_of: Callable[..., Simulation]) -> None:
    async def script(world: Simulation) -> None:
        world.faults.inject("send.reply-lost")
        with pytest.raises(SqsError):
            world.queues.send(QUEUE, NewMessage(BODY))

    history = world_of().run(script)
    assert [fact.task for fact in history.of("answer.lost")] == ["t1"]
    assert len(history.of("body.taken")) == 1


def test_what_fails_again_and_again_is_dead_lettered(world_of: Callable[..., Simulation]) -> None:
    def fails(*_: Any) -> None:
        raise ValueError

    async def script(world: Simulation) -> None:
        world.queues.send(QUEUE, NewMessage(BODY))
        await world.clock.sleep(60 * 6)
        assert [entry.message.body for entry in world.queues.refreshed(DEAD)] == [BODY]

    world = world_of(function("worker", fails))
    history = world.run(script)
    assert len(history.of("handler.raised")) == world.application.bounds.max_receives == 5


def test_ticks_come_until_they_are_stopped(world_of: Callable[..., Simulation]) -> None:
    ticks: list[int] = []
    arn = "arn:aws:lambda:us-east-1:123456789012:function:beat"
    tick = ScheduleSpec("tick", "rate(1 minute)", arn)

    async def script(world: Simulation) -> None:
        await world.clock.sleep(150)
        world.stop_schedules()
        seen = len(ticks)
        await world.clock.sleep(300)
        assert len(ticks) == seen >= 2

    world_of(function("beat", lambda *_: ticks.append(1)), schedules=(tick,)).run(script)


def test_an_effect_is_told_with_the_lease_that_covers_it(
    world_of: Callable[..., Simulation],
) -> None:
    def works(*_: Any) -> None:
        process = current.get()
        assert process is not None
        world.leases[process, "t0"] = ("twolane:lease:t0", "holder")  # taken ahead
        world.leases[process, "t1"] = ("twolane:lease:t1", "holder")
        world.effect("t1", "a mail")

    async def script(world: Simulation) -> None:
        await world.stack.functions.invoke("worker", b"{}")

    world = world_of(function("worker", works))
    (effect,) = world.run(script).of("effect.committed")
    assert (effect.task, effect.where) == ("t1", "worker-2")
    assert (effect.data["lease"], effect.data["holder"]) == ("twolane:lease:t1", "holder")
    assert START <= effect.at <= START + 2


def test_a_dead_environment_has_no_effect(world_of: Callable[..., Simulation]) -> None:
    async def script(world: Simulation) -> None:
        world.faults.inject("environment.killed-during-task")
        await world.stack.functions.invoke("worker", b"{}")

    world = world_of(function("worker", lambda *_: world.effect("t1", "a mail")))
    history = world.run(script)
    assert history.of("effect.committed") == []
    assert len(history.of("fault.injected")) == 1


def test_a_person_s_error_is_their_own(world_of: Callable[..., Simulation]) -> None:
    async def script(world: Simulation) -> None:
        await world.operate(lambda: {}["gone"])

    (failed,) = world_of().run(script).of("operator.failed")
    assert failed.data["error"] == "KeyError('gone')"


def test_ids_come_from_the_seed(world_of: Callable[..., Simulation]) -> None:
    def ids(seed: int) -> list[str]:
        found: list[str] = []

        async def script(_: Simulation) -> None:
            found.extend(new_request_id() for _ in range(2))
            found.append(os.urandom(8).hex())

        world_of(seed=seed).run(script)
        return found

    assert ids(1) == ids(1) != ids(2)
    assert len(set(ids(1))) == 3


def test_whatever_happens_garbage_is_collected_again(world_of: Callable[..., Simulation]) -> None:
    async def script(_: Simulation) -> None:
        assert not gc.isenabled()
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it has no words
        world_of().run(script)
    assert gc.isenabled()


# Execution environments of a run: kept warm, several at once, killed, frozen, over their time.


def sleep(seconds: float) -> None:
    process = current.get()
    assert process is not None
    process.sleep(seconds)


def error_of(invocation: Invocation) -> str:
    return str(json.loads(invocation.payload)["errorType"])


def test_an_environment_serves_again(world_of: Callable[..., Simulation]) -> None:
    made: list[int] = []
    ended: list[bool] = []

    def make(_: Any) -> Any:
        made.append(1)
        return lambda event, _: event["n"]

    async def script(world: Simulation) -> None:
        told = [await world.stack.functions.invoke("worker", b'{"n": %d}' % n) for n in (1, 2)]
        assert [(each.payload, each.cold) for each in told] == [(b"1", True), (b"2", False)]

    counted = Function("worker", make, 30.0, unmake=lambda _, intact: ended.append(intact))
    world_of(counted).run(script)
    assert (made, ended) == ([1], [True])


def test_at_the_same_time_there_are_several_up_to_the_limit(
    world_of: Callable[..., Simulation],
) -> None:
    async def script(world: Simulation) -> None:
        calls = [world.stack.functions.invoke("worker", b"{}") for _ in range(3)]
        one, two, refused = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(refused, ThrottledError)
        assert not isinstance(one, BaseException)
        assert not isinstance(two, BaseException)
        assert one.payload != two.payload
        # The second one waited a moment for the first one's environment.
        assert START + 5 <= world.clock.time() < START + 5.1

    def handler(*_: Any) -> int:
        sleep(5)
        return id(current.get())

    world_of(function("worker", handler, most=2)).run(script)


def test_a_handler_that_raises_stays(world_of: Callable[..., Simulation]) -> None:
    def fails(*_: Any) -> None:
        raise KeyError("which")

    async def script(world: Simulation) -> None:
        first = await world.stack.functions.invoke("worker", b"{}")
        again = await world.stack.functions.invoke("worker", b"{}")
        assert (first.error, error_of(first)) == ("Unhandled", "KeyError")
        assert (first.cold, again.cold) == (True, False)

    history = world_of(function("worker", fails)).run(script)
    assert "in fails" in history.of("handler.raised")[0].data["trace"]


def test_whoever_is_over_the_time_is_killed(world_of: Callable[..., Simulation]) -> None:
    did: list[str] = []

    def slow(*_: Any) -> None:
        sleep(20)
        did.append("late")

    async def script(world: Simulation) -> None:
        told = await world.stack.functions.invoke("worker", b"{}", request_id="r1")
        assert b"Task timed out after 10.00 seconds" in told.payload
        assert world.clock.time() == START + 10
        assert world.at_work == 0
        await world.clock.sleep(60)
        assert (await world.stack.functions.invoke("beat", b"{}")).error is None

    world_of(function("worker", slow, timeout_s=10.0)).run(script)
    assert did == []


def test_a_frozen_one_runs_on_unheard(world_of: Callable[..., Simulation]) -> None:
    thawed: list[float] = []

    def freezes(*_: Any) -> None:
        process = current.get()
        assert process is not None
        world.points.freeze(process, 20)
        thawed.append(world.clock.time())

    async def script(world: Simulation) -> None:
        told = await world.stack.functions.invoke("worker", b"{}")
        assert told.error == "Unhandled"
        assert world.clock.time() == START + 10
        assert (world.at_work, thawed) == (1, [])
        assert (await world.stack.functions.invoke("beat", b"{}")).error is None
        await world.clock.sleep(11)
        assert (world.at_work, thawed) == (0, [START + 20])

    world = world_of(function("worker", freezes, timeout_s=10.0))
    world.run(script)


def test_a_killed_one_is_not_used_again(world_of: Callable[..., Simulation]) -> None:
    ended: list[bool] = []

    def dies(event: Any, _: Any) -> None:
        process = current.get()
        assert process is not None
        if event["dies"]:
            process.die()

    async def script(world: Simulation) -> None:
        told = await world.stack.functions.invoke("worker", b'{"dies": true}')
        assert error_of(told) == "Runtime.ExitError"
        again = await world.stack.functions.invoke("worker", b'{"dies": false}')
        assert (again.error, again.cold) == (None, True)

    world_of(function("worker", dies, unmake=lambda _, intact: ended.append(intact))).run(script)
    assert ended == [False, True]


def test_the_handler_s_time(world_of: Callable[..., Simulation]) -> None:
    """What is left of it, and a clock that is wrong from the start."""

    def make(clock: Callable[[], float]) -> Any:
        def handler(_: Any, context: Any) -> list[float]:
            sleep(4)
            return [context.get_remaining_time_in_millis(), clock()]

        return handler

    async def script(world: Simulation) -> None:
        world.faults.inject("clock.skewed", seconds=-7.0, target="worker")
        told = await world.stack.functions.invoke("worker", b"{}")
        assert json.loads(told.payload) == [26_000, pytest.approx(START + 4 - 7)]

    world_of(Function("worker", make, 30.0)).run(script)


# The Redis of a run: real commands, watched and made to fail.

RESULT = "celery-task-meta-t1"
LEASE = "twolane:lease:t1"


def result(status: str) -> str:
    return json.dumps({"status": status})


def client() -> redis.Redis:
    """A client as an application has one."""
    return redis.Redis.from_url(URL)


def told(history: History, kind: str, field: str) -> list[Any]:
    return [fact.data[field] for fact in history.of(kind)]


def operated(world: Simulation, *commands: tuple[str, ...], fault: str = "") -> History:
    """Run commands, each in a process of a person's own."""

    async def script(world: Simulation) -> None:
        if fault:
            world.faults.inject(fault)
        for command in commands:
            await world.operate(partial(client().execute_command, *command))

    return world.run(script)


@pytest.mark.parametrize(
    "key", [RESULT, LEASE, f"{LEASE}:2:0", f"{LEASE}<parent", f"{LEASE}:1:0<parent"]
)
def test_whose_key_it_is(key: str) -> None:
    assert task_of(key) == "t1"


def test_results_are_told_as_they_change(world_of: Callable[..., Simulation]) -> None:
    history = operated(
        world_of(),
        ("SET", RESULT, result("STARTED")),
        ("SET", RESULT, result("STARTED")),
        ("SETEX", RESULT, "60", result("SUCCESS")),
        ("GET", RESULT),
        ("DEL", RESULT),
        ("SET", "another", "key"),
    )
    assert told(history, "result.changed", "status") == ["STARTED", "SUCCESS", None]
    assert {fact.task for fact in history.of("result.changed")} == {"t1"}


def test_leases_are_told_as_they_change(world_of: Callable[..., Simulation]) -> None:
    delivery = Delivery("h", "m", "p")
    lease = write_lease(LeaseState.RUNNING, delivery, since=START, until=START + 60)
    history = operated(world_of(), ("SET", LEASE, lease.text), ("DEL", LEASE))
    assert told(history, "lease.changed", "state") == ["running", None]
    assert history.of("lease.changed")[0].data["holder"] == "h"


def test_a_script_s_write_is_seen_too(world_of: Callable[..., Simulation]) -> None:
    script = "return redis.call('SET', KEYS[1], ARGV[1])"
    history = operated(world_of(), ("EVAL", script, "1", RESULT, result("SUCCESS")))
    assert told(history, "result.changed", "status") == ["SUCCESS"]


def test_a_lost_write_is_told_and_gone(world_of: Callable[..., Simulation]) -> None:
    world = world_of()
    write = ("SET", RESULT, result("SUCCESS"))
    history = operated(world, ("SET", RESULT, result("STARTED")), write, fault="store.lost-write")
    assert [fact.task for fact in history.of("write.lost")] == ["t1"]
    # The first of the two was lost.
    assert told(history, "result.changed", "status") == ["SUCCESS"]


def test_a_store_that_is_down_raises_redis_s_own(world_of: Callable[..., Simulation]) -> None:
    history = operated(world_of(), ("SET", RESULT, result("SUCCESS")), fault="store.down")
    assert "ConnectionError" in history.of("operator.failed")[0].data["error"]
    assert history.of("result.changed") == []


def test_the_next_run_starts_empty(world_of: Callable[..., Simulation]) -> None:
    operated(world_of(), ("SET", RESULT, result("SUCCESS")))
    seen: list[Any] = []

    async def script(world: Simulation) -> None:
        await world.operate(lambda: seen.append(client().keys("*")))

    world_of().run(script)
    assert seen == [[]]


def test_an_answer_that_nobody_has_read_is_not_the_next_command_s(
    world_of: Callable[..., Simulation],
) -> None:
    """A killed environment may have sent a command, and given its connection back."""
    seen: list[Any] = []

    def cut_off() -> None:
        one = client()
        pool = one.connection_pool
        connection = pool.get_connection()
        connection.send_command("ECHO", "stale")
        pool.release(connection)
        pool.release(connection)
        assert pool.get_connection() is connection, "it is used again"
        pool.release(connection)
        seen.append(one.echo("fresh"))

    async def script(world: Simulation) -> None:
        await world.operate(cut_off)

    assert world_of().run(script).of("operator.failed") == []
    assert seen == [b"fresh"]


# What a run changes in this process, and that it is as it was afterwards.


def state_of_the_process() -> dict[str, Any]:
    return {
        "urandom": os.urandom,
        "random": random.getstate(),
        "environment": dict(os.environ),
        "post": Wire.post,
        "connections": redis.ConnectionPool.get_connection,
        "clients": boto3.client,
        "sleep": time.sleep,
        "loggers": [
            (log.level, log.propagate, list(log.handlers))
            for log in map(logging.getLogger, ("", "twolane", "celery", "app"))
        ],
    }


def test_everything_is_put_back(world_of: Callable[..., Simulation]) -> None:
    before = state_of_the_process()

    async def script(_: Simulation) -> None:
        within = state_of_the_process()
        assert [name for name in before if within[name] == before[name]] == []
        random.random()
        raise KeyError("in the middle")

    with pytest.raises(KeyError):
        world_of().run(script)
    assert state_of_the_process() == before
    assert abs(time.time() - START) > 60, "time is real again"


def test_another_application_keeps_its_connections(world_of: Callable[..., Simulation]) -> None:
    """They would be dropped with their sockets open."""
    other = Celery("other", broker="memory://", set_as_current=False)
    with other.connection() as connection, pools.producers[connection].acquire():
        kept = pools.producers[connection], pools.connections[connection]

        async def script(world: Simulation) -> None:
            assert list(pools.producers) == list(pools.connections) == []

        world_of().run(script)
        assert (pools.producers[connection], pools.connections[connection]) == kept
    other.close()


def test_chance_comes_from_the_seed(world_of: Callable[..., Simulation]) -> None:
    def drawn(seed: int) -> list[float]:
        found: list[float] = []

        async def script(_: Simulation) -> None:
            found.append(random.random())
            found.append(float(os.urandom(1)[0]))

        world_of(seed=seed).run(script)
        return found

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_sleep_passes_in_virtual_time(world_of: Callable[..., Simulation]) -> None:
    async def script(world: Simulation) -> None:
        await world.stack.functions.invoke("worker", b"{}")
        assert world.clock.time() == START + 20

    began = time.monotonic()
    world_of(function("worker", lambda *_: time.sleep(20))).run(script)
    assert time.monotonic() - began < 20


def test_the_runtime_s_log_is_the_journal_until_the_environment_is_dead(
    world_of: Callable[..., Simulation],
) -> None:
    logger = logging.getLogger("twolane.test")

    def says(*_: Any) -> None:
        logs.emit(logger, "task.started", "→ first", taskId="t1")
        process = current.get()
        assert process is not None
        process.dead = True
        logs.emit(logger, "task.succeeded", "← it is dead", taskId="t1")

    async def script(world: Simulation) -> None:
        await world.stack.functions.invoke("worker", b"{}")

    history = world_of(function("worker", says)).run(script)
    assert [(fact.kind, fact.task, fact.where) for fact in history.of("task.started")] == [
        ("task.started", "t1", "worker-2")
    ]
    assert history.of("task.succeeded") == []


def test_celery_s_log_goes_nowhere(world_of: Callable[..., Simulation], caplog: Any) -> None:
    async def script(_: Simulation) -> None:
        logging.getLogger("celery").error("not for people")

    world_of().run(script)
    assert "not for people" not in caplog.text


def test_no_look_at_the_store_comes_by_itself(world_of: Callable[..., Simulation]) -> None:
    """A frozen machine would look, too."""
    looks: list[float] = []

    def works(_: Any, context: Any) -> None:
        watch = Watch(MemoryStore(), each_time=lambda: looks.append(time.time()))
        watch.wake(context.each)
        time.sleep(20)
        watch.rest()

    async def script(world: Simulation) -> None:
        assert (await world.stack.functions.invoke("worker", b"{}")).error is None

    world_of(function("worker", works)).run(script)
    assert looks == []
