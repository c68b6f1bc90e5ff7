"""What a run changes in this process, and that it is as it was afterwards."""

from __future__ import annotations

import logging
import os
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from kombu import pools

from twolane.environment import logs
from twolane.publish import client as publish_client
from twolane.state.memory import MemoryStore
from twolane.worker.redis_backend import RedisBackend
from twolane.worker.revocation import Watch
from twolane.worker.work import Worker
from twolane_local.simulator.patches import event_of
from twolane_local.testing.threads import current

from .conftest import START, function

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.simulator.world import World


def record(message: str, error: BaseException | None = None, **fields: Any) -> logging.LogRecord:
    info = (type(error), error, None) if error is not None else None
    made = logging.LogRecord("twolane", logging.INFO, "f.py", 1, message, (), info)
    if fields:
        made.twolane = fields
    return made


def test_an_event_of_the_runtime_keeps_its_fields() -> None:
    assert event_of(record("→ t", event="task.started", taskId="t1")) == (
        "task.started", {"taskId": "t1"},
    )  # fmt: skip


def test_anything_else_is_a_line_of_the_log() -> None:
    assert event_of(record("hello")) == ("log", {"line": "hello"})
    assert event_of(record("hello", event="unheard.of", n=1)) == ("log", {"line": "hello", "n": 1})


def test_an_error_is_kept_with_its_line() -> None:
    kind, fields = event_of(record("broke", ValueError("why")))
    assert (kind, fields["error"]) == ("log", "ValueError('why')")


def state_of_the_process() -> dict[str, Any]:
    return {
        "urandom": os.urandom,
        "random": random.getstate(),
        "wire": publish_client.Wire,
        "client": RedisBackend.__dict__.get("_create_client"),
        "sleeps": [each.__kwdefaults__["sleep"] for each in (
            publish_client.SqsClient.__init__, Worker.__init__,
        )],
        "loggers": [
            (log.level, log.propagate, list(log.handlers))
            for log in map(logging.getLogger, ("twolane", "celery", "app"))
        ],
    }  # fmt: skip


def test_everything_is_put_back(world_of: Callable[..., World]) -> None:
    before = state_of_the_process()

    async def script(world: World) -> None:
        assert os.urandom == world.random_bytes
        assert all(each is not time.sleep for each in state_of_the_process()["sleeps"])
        random.random()
        raise KeyError("in the middle")

    with pytest.raises(KeyError):
        world_of().run(script)
    assert state_of_the_process() == before
    assert abs(time.time() - START) > 60, "time is real again"


def test_another_application_keeps_its_connections(world_of: Callable[..., World]) -> None:
    """They would be dropped with their sockets open."""
    other = Celery("other", broker="memory://", set_as_current=False)
    with other.connection() as connection, pools.producers[connection].acquire():
        kept = pools.producers[connection], pools.connections[connection]

        async def script(world: World) -> None:
            assert list(pools.producers) == list(pools.connections) == []

        world_of().run(script)
        assert (pools.producers[connection], pools.connections[connection]) == kept
    other.close()


def test_chance_comes_from_the_seed(world_of: Callable[..., World]) -> None:
    def drawn(seed: int) -> list[float]:
        found: list[float] = []

        async def script(_: World) -> None:
            found.append(random.random())
            found.append(float(os.urandom(1)[0]))

        world_of(seed=seed).run(script)
        return found

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_sleep_passes_in_virtual_time(world_of: Callable[..., World]) -> None:
    async def script(world: World) -> None:
        await world.functions.invoke("worker", b"{}")
        assert world.clock.time() == START + 20

    began = time.monotonic()
    world_of(function("worker", lambda *_: time.sleep(20))).run(script)
    assert time.monotonic() - began < 20


def test_the_runtime_s_log_is_the_journal_until_the_environment_is_dead(
    world_of: Callable[..., World],
) -> None:
    logger = logging.getLogger("twolane.test")

    def says(*_: Any) -> None:
        logs.emit(logger, "task.started", "→ first", taskId="t1")
        process = current.get()
        assert process is not None
        process.dead = True
        logs.emit(logger, "task.succeeded", "← it is dead", taskId="t1")

    async def script(world: World) -> None:
        await world.functions.invoke("worker", b"{}")

    history = world_of(function("worker", says)).run(script)
    assert [(fact.kind, fact.task, fact.where) for fact in history.of("task.started")] == [
        ("task.started", "t1", "worker-1")
    ]
    assert history.of("task.succeeded") == []


def test_celery_s_log_goes_nowhere(world_of: Callable[..., World], caplog: Any) -> None:
    async def script(_: World) -> None:
        logging.getLogger("celery").error("not for people")

    world_of().run(script)
    assert "not for people" not in caplog.text


def test_no_look_at_the_store_comes_by_itself(world_of: Callable[..., World]) -> None:
    """A frozen machine would look, too."""
    looks: list[float] = []

    def works(*_: Any) -> None:
        watch = Watch(MemoryStore(), each_time=lambda: looks.append(time.time()))
        watch.wake()
        time.sleep(20)
        watch.rest()

    async def script(world: World) -> None:
        assert (await world.functions.invoke("worker", b"{}")).error is None

    world_of(function("worker", works)).run(script)
    assert looks == []
