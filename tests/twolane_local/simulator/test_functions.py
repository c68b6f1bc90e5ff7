"""Execution environments of a run: kept warm, several at once, killed, frozen, over their time."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.invocation import ThrottledError
from twolane_local.simulator.functions import Function
from twolane_local.testing.threads import current

from .conftest import START, function

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.aws.invocation import Invocation
    from twolane_local.simulator.world import World


def sleep(seconds: float) -> None:
    process = current.get()
    assert process is not None
    process.sleep(seconds)


def error_of(invocation: Invocation) -> str:
    return str(json.loads(invocation.payload)["errorType"])


def test_an_environment_serves_again(world_of: Callable[..., World]) -> None:
    made: list[int] = []
    ended: list[bool] = []

    def make(_: Any) -> Any:
        made.append(1)
        return lambda event, _: event["n"]

    async def script(world: World) -> None:
        told = [await world.functions.invoke("worker", b'{"n": %d}' % n) for n in (1, 2)]
        assert [(each.payload, each.cold) for each in told] == [(b"1", True), (b"2", False)]

    counted = Function("worker", make, 30.0, unmake=lambda _, intact: ended.append(intact))
    world_of(counted).run(script)
    assert (made, ended) == ([1], [True])


def test_at_the_same_time_there_are_several_up_to_the_limit(
    world_of: Callable[..., World],
) -> None:
    async def script(world: World) -> None:
        calls = [world.functions.invoke("worker", b"{}") for _ in range(3)]
        one, two, refused = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(refused, ThrottledError)
        assert not isinstance(one, BaseException)
        assert not isinstance(two, BaseException)
        assert one.payload != two.payload
        assert world.clock.time() == START + 5

    def handler(*_: Any) -> int:
        sleep(5)
        return id(current.get())

    world_of(function("worker", handler, most=2)).run(script)


def test_a_handler_that_raises_stays(world_of: Callable[..., World]) -> None:
    def fails(*_: Any) -> None:
        raise KeyError("which")

    async def script(world: World) -> None:
        first = await world.functions.invoke("worker", b"{}")
        again = await world.functions.invoke("worker", b"{}")
        assert (first.error, error_of(first)) == ("Unhandled", "KeyError")
        assert (first.cold, again.cold) == (True, False)

    history = world_of(function("worker", fails)).run(script)
    assert "in fails" in history.of("handler.raised")[0].data["trace"]


def test_whoever_is_over_the_time_is_killed(world_of: Callable[..., World]) -> None:
    did: list[str] = []

    def slow(*_: Any) -> None:
        sleep(20)
        did.append("late")

    async def script(world: World) -> None:
        told = await world.functions.invoke("worker", b"{}", request_id="r1")
        assert b"Task timed out after 10.00 seconds" in told.payload
        assert world.clock.time() == START + 10
        assert world.functions.at_work == 0
        await world.clock.sleep(60)
        assert (await world.functions.invoke("beat", b"{}")).error is None

    world_of(function("worker", slow, timeout_s=10.0)).run(script)
    assert did == []


def test_one_with_threads_of_its_own_runs_on_unheard(world_of: Callable[..., World]) -> None:
    ended: list[bool] = []

    async def script(world: World) -> None:
        told = await world.functions.invoke("worker", b"{}")
        assert told.error == "Unhandled"
        assert (world.functions.at_work, ended) == (1, [])
        await world.clock.sleep(11)
        assert (world.functions.at_work, ended) == (0, [True])

    lingering = function(
        "worker", lambda *_: sleep(20), timeout_s=10.0, lingers=True,
        unmake=lambda _, intact: ended.append(intact),
    )  # fmt: skip
    world_of(lingering).run(script)


def test_a_killed_one_is_not_used_again(world_of: Callable[..., World]) -> None:
    ended: list[bool] = []

    def dies(event: Any, _: Any) -> None:
        process = current.get()
        assert process is not None
        if event["dies"]:
            process.die()

    async def script(world: World) -> None:
        told = await world.functions.invoke("worker", b'{"dies": true}')
        assert error_of(told) == "Runtime.ExitError"
        again = await world.functions.invoke("worker", b'{"dies": false}')
        assert (again.error, again.cold) == (None, True)

    world_of(function("worker", dies, unmake=lambda _, intact: ended.append(intact))).run(script)
    assert ended == [False, True]


def test_the_handler_s_time(world_of: Callable[..., World]) -> None:
    """What is left of it, and a clock that is wrong from the start."""

    def make(clock: Callable[[], float]) -> Any:
        def handler(_: Any, context: Any) -> list[float]:
            sleep(4)
            return [context.get_remaining_time_in_millis(), clock()]

        return handler

    async def script(world: World) -> None:
        world.faults.inject("clock.skewed", seconds=-7.0, target="worker")
        told = await world.functions.invoke("worker", b"{}")
        assert json.loads(told.payload) == [26_000, pytest.approx(START + 4 - 7)]

    world_of(Function("worker", make, 30.0)).run(script)
