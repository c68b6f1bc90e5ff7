"""Virtual time for the process, driven from outside."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.clock.virtual import NEW_YEAR
from twolane_local.testing import TestingError
from twolane_local.testing.world import World, seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.testing.stack import Twolane

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


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


# Time, moved by the test.


@pytest.mark.parametrize(
    "moment",
    [
        NEW_YEAR + 3600,
        "2026-01-01T01:00:00",
        "2026-01-01T02:00:00+01:00",
        datetime(2026, 1, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 1, 1, 1),  # noqa: DTZ001 - as people write it
    ],
)
def test_a_moment_in_many_ways(moment: Any) -> None:
    assert seconds_of(moment) == NEW_YEAR + 3600


def test_time_runs_forward_only(stack: Twolane) -> None:
    stack.clock.advance(timedelta(minutes=1))
    stack.clock.at("2026-01-01T00:02:00")
    assert stack.clock.now == datetime(2026, 1, 1, 0, 2, tzinfo=UTC)
    with pytest.raises(TestingError, match="does not run backwards"):
        stack.clock.at(NEW_YEAR)


def test_what_falls_due_happens_on_time(stack: Twolane, application: Any) -> None:
    stack.client.post("/notes/late?countdown=300")
    stack.client.post("/notes/later?countdown=7200")
    stack.clock.advance(299)
    assert application.calls == []
    stack.clock.advance(7200)
    notes = [(name, at - NEW_YEAR) for name, at in application.calls if name != "hourly"]
    assert [name for name, _ in notes] == ["late", "later"]
    assert notes[0][1] == 300
    assert notes[1][1] == pytest.approx(7200, abs=2)


def test_beat_s_entries_run_as_time_passes(stack: Twolane, application: Any) -> None:
    stack.clock.advance(timedelta(hours=3, minutes=2))
    hours = [round((at - NEW_YEAR) / 3600, 1) for name, at in application.calls if name == "hourly"]
    assert len(hours) == 3
    assert [later - sooner for sooner, later in pairwise(hours)] == [1.0, 1.0]
