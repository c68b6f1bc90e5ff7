"""The Redis of a run: real commands, watched and made to fail."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from twolane.worker.lease import Delivery, LeaseState, write_lease
from twolane_local.simulator.store import task_of

from .conftest import START

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.simulator.facts import History
    from twolane_local.simulator.world import World

RESULT = "celery-task-meta-t1"
LEASE = "twolane:lease:t1"


def result(status: str) -> str:
    return json.dumps({"status": status})


def told(history: History, kind: str, field: str) -> list[Any]:
    return [fact.data[field] for fact in history.of(kind)]


def operated(world: World, *commands: tuple[str, ...], fault: str = "") -> History:
    """Run commands, each in a process of a person's own."""

    async def script(world: World) -> None:
        if fault:
            world.faults.inject(fault)
        for command in commands:
            await world.operate(partial(world.store.client.execute_command, *command))

    return world.run(script)


@pytest.mark.parametrize(
    "key", [RESULT, LEASE, f"{LEASE}:2:0", f"{LEASE}<parent", f"{LEASE}:1:0<parent"]
)
def test_whose_key_it_is(key: str) -> None:
    assert task_of(key) == "t1"


def test_results_are_told_as_they_change(world_of: Callable[..., World]) -> None:
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


def test_leases_are_told_as_they_change(world_of: Callable[..., World]) -> None:
    delivery = Delivery("h", "m", "p")
    lease = write_lease(LeaseState.RUNNING, delivery, since=START, until=START + 60)
    history = operated(world_of(), ("SET", LEASE, lease.text), ("DEL", LEASE))
    assert told(history, "lease.changed", "state") == ["running", None]
    assert history.of("lease.changed")[0].data["holder"] == "h"


def test_a_script_s_write_is_seen_too(world_of: Callable[..., World]) -> None:
    script = "return redis.call('SET', KEYS[1], ARGV[1])"
    history = operated(world_of(), ("EVAL", script, "1", RESULT, result("SUCCESS")))
    assert told(history, "result.changed", "status") == ["SUCCESS"]


def test_a_lost_write_is_told_and_gone(world_of: Callable[..., World]) -> None:
    world = world_of()
    write = ("SET", RESULT, result("SUCCESS"))
    history = operated(world, ("SET", RESULT, result("STARTED")), write, fault="store.lost-write")
    assert [fact.task for fact in history.of("write.lost")] == ["t1"]
    # The first of the two was lost.
    assert told(history, "result.changed", "status") == ["SUCCESS"]


def test_a_store_that_is_down_raises_redis_s_own(world_of: Callable[..., World]) -> None:
    history = operated(world_of(), ("SET", RESULT, result("SUCCESS")), fault="store.down")
    assert "ConnectionError" in history.of("operator.failed")[0].data["error"]
    assert history.of("result.changed") == []


def test_the_next_run_starts_empty(world_of: Callable[..., World]) -> None:
    operated(world_of(), ("SET", RESULT, result("SUCCESS")))
    seen: list[Any] = []

    async def script(world: World) -> None:
        await world.operate(lambda: seen.append(world.store.client.keys("*")))

    world_of().run(script)
    assert seen == [[]]


def test_an_answer_that_nobody_has_read_is_not_the_next_command_s(
    world_of: Callable[..., World],
) -> None:
    """A killed environment may have sent a command, and given its connection back."""
    seen: list[Any] = []

    def cut_off(world: World) -> None:
        pool = world.store.client.connection_pool
        connection = pool.get_connection()
        connection.send_command("ECHO", "stale")
        pool.release(connection)
        pool.release(connection)
        assert pool.get_connection() is connection, "it is used again"
        pool.release(connection)
        seen.append(world.store.client.echo("fresh"))

    async def script(world: World) -> None:
        await world.operate(partial(cut_off, world))

    assert world_of().run(script).of("operator.failed") == []
    assert seen == [b"fresh"]
