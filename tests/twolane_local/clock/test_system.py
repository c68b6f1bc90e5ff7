from __future__ import annotations

import asyncio

from twolane_local.clock import SystemClock


async def _waits() -> list[bool]:
    clock, event = SystemClock(), asyncio.Event()
    early = await clock.wait(event, 0.001)
    event.set()
    return [early, await clock.wait(event, 60), await clock.wait(event, None)]


def test_wait_tells_whether_the_event_is_set() -> None:
    assert asyncio.run(_waits()) == [False, True, True]


def test_sleep_of_less_than_nothing_returns() -> None:
    asyncio.run(SystemClock().sleep(-1))
