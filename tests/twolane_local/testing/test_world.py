"""Virtual time for the process, driven from outside."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from twolane_local.testing.errors import TestingError
from twolane_local.testing.world import World
from twolane_local.virtual_clock import NEW_YEAR

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def test_the_process_sees_virtual_time(world: World) -> None:
    async def nap() -> float:
        await asyncio.sleep(3600)
        return time.time()

    assert world.run(nap()) == NEW_YEAR + 3600
    assert datetime.now(UTC).isoformat() == "2026-01-01T01:00:00+00:00"


def test_monotonic_time_stays_real(world: World) -> None:
    async def really() -> None:
        await asyncio.sleep(0.001)

    asyncio.run(really())  # would never end if monotonic time stood still
    assert world.now == NEW_YEAR


def test_driving_stops_before_what_is_not_due(world: World) -> None:
    happened: list[float] = []
    for at in (0, 10, 20):
        world.loop.call_later(at, lambda: happened.append(world.now - NEW_YEAR))
    world.drive(lambda: False)
    assert happened == [0]
    world.drive(lambda: False, until=NEW_YEAR + 15)
    assert (happened, world.now) == ([0, 10], NEW_YEAR + 15)
    world.drive(lambda: True)
    assert happened == [0, 10, 20]


def test_a_callback_s_error_is_raised(world: World) -> None:
    def fails() -> None:
        raise ValueError("in a callback")

    world.loop.call_soon(fails)
    with pytest.raises(ValueError, match="in a callback"):
        world.drive(lambda: False)


def test_a_coroutine_that_cannot_end_is_an_error(world: World) -> None:
    with pytest.raises(TestingError, match="nothing is left"):
        world.run(asyncio.Event().wait())


def test_time_is_real_again_afterwards() -> None:
    World(0.0).close()
    assert time.time() > NEW_YEAR
