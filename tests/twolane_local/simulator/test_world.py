"""A run's world: what happens in it by itself, and what is told of it."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.sqs.errors import SqsError
from twolane_local.aws.sqs.service import NewMessage
from twolane_local.model import ScheduleSpec
from twolane_local.simulator.world import DEAD, QUEUE
from twolane_local.testing.threads import current

from .conftest import START, function

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.simulator.world import World

BODY = json.dumps({"headers": {"id": "t1", "task": "app.mail"}, "body": "[]"})


def test_what_sqs_takes_is_told_with_its_task(world_of: Callable[..., World]) -> None:
    async def script(world: World) -> None:
        world.queues.send(QUEUE, NewMessage(BODY))
        await world.clock.sleep(5)

    history = world_of().run(script)
    (taken,) = history.of("body.taken")
    assert (taken.task, taken.data["name"], taken.data["body"]) == ("t1", "app.mail", BODY)
    assert [fact.message for fact in history.of("message.deleted")] == [taken.message]


def test_an_answer_that_is_lost_is_told(world_of: Callable[..., World]) -> None:
    async def script(world: World) -> None:
        world.faults.inject("send.reply-lost")
        with pytest.raises(SqsError):
            world.queues.send(QUEUE, NewMessage(BODY))

    history = world_of().run(script)
    assert [fact.task for fact in history.of("answer.lost")] == ["t1"]
    assert len(history.of("body.taken")) == 1


def test_what_fails_again_and_again_is_dead_lettered(world_of: Callable[..., World]) -> None:
    def fails(*_: Any) -> None:
        raise ValueError

    async def script(world: World) -> None:
        world.queues.send(QUEUE, NewMessage(BODY))
        await world.clock.sleep(60 * 6)
        assert [entry.message.body for entry in world.queues.refreshed(DEAD)] == [BODY]

    world = world_of(function("worker", fails))
    history = world.run(script)
    assert len(history.of("handler.raised")) == world.application.bounds.max_receives == 5


def test_ticks_come_until_they_are_stopped(world_of: Callable[..., World]) -> None:
    ticks: list[int] = []
    arn = "arn:aws:lambda:us-east-1:123456789012:function:beat"
    tick = ScheduleSpec("tick", "rate(1 minute)", arn)

    async def script(world: World) -> None:
        await world.clock.sleep(150)
        world.stop_schedules()
        seen = len(ticks)
        await world.clock.sleep(300)
        assert len(ticks) == seen >= 2

    world_of(function("beat", lambda *_: ticks.append(1)), schedules=(tick,)).run(script)


def test_an_effect_is_told_with_the_lease_that_covers_it(world_of: Callable[..., World]) -> None:
    def works(*_: Any) -> None:
        process = current.get()
        assert process is not None
        environment = world.functions.of(process)
        assert environment is not None
        environment.lease = ("twolane:lease:t1", "holder")
        world.effect("t1", "a mail")

    async def script(world: World) -> None:
        await world.functions.invoke("worker", b"{}")

    world = world_of(function("worker", works))
    (effect,) = world.run(script).of("effect.committed")
    assert (effect.task, effect.where) == ("t1", "worker-1")
    assert (effect.data["lease"], effect.data["holder"]) == ("twolane:lease:t1", "holder")
    assert START <= effect.at <= START + 2


def test_a_dead_environment_has_no_effect(world_of: Callable[..., World]) -> None:
    async def script(world: World) -> None:
        world.faults.inject("environment.killed-during-task")
        await world.functions.invoke("worker", b"{}")

    world = world_of(function("worker", lambda *_: world.effect("t1", "a mail")))
    history = world.run(script)
    assert history.of("effect.committed") == []
    assert len(history.of("fault.injected")) == 1


def test_a_person_s_error_is_their_own(world_of: Callable[..., World]) -> None:
    async def script(world: World) -> None:
        await world.operate(lambda: {}["gone"])

    (failed,) = world_of().run(script).of("operator.failed")
    assert failed.data["error"] == "KeyError('gone')"


def test_ids_come_from_the_seed(world_of: Callable[..., World]) -> None:
    def ids(seed: int) -> list[str]:
        found: list[str] = []

        async def script(world: World) -> None:
            found.extend(world.new_id() for _ in range(3))

        world_of(seed=seed).run(script)
        return found

    assert ids(1) == ids(1) != ids(2)
    assert len(set(ids(1))) == 3


def test_whatever_happens_garbage_is_collected_again(world_of: Callable[..., World]) -> None:
    async def script(_: World) -> None:
        assert not gc.isenabled()
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it has no words
        world_of().run(script)
    assert gc.isenabled()
