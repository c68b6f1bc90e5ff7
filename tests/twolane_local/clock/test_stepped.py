from __future__ import annotations

import asyncio
import time

import pytest

from twolane_local.clock.stepped import SteppedClock


def test_it_runs_with_real_time_until_it_is_moved():
    clock = SteppedClock()
    assert abs(clock.time() - time.time()) < 0.5
    clock.advance(3600)
    assert abs(clock.time() - time.time() - 3600) < 0.5
    assert abs(clock.offset - 3600) < 0.5


def test_paused_it_stands_still_and_goes_on_from_there():
    now = [100.0]
    clock = SteppedClock(real=lambda: now[0])
    clock.pause()
    now[0] = 150.0
    assert clock.time() == 100.0
    clock.advance(7)
    assert clock.time() == 107.0
    clock.resume()
    now[0] = 151.0
    assert clock.time() == 108.0
    assert not clock.paused


def test_who_sleeps_is_woken_by_a_leap_at_that_time():
    async def main():
        clock = SteppedClock(real=lambda: 0.0)
        woken = []

        async def sleeper(seconds):
            await clock.sleep(seconds)
            woken.append((seconds, clock.time()))

        tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (30, 600)]
        await asyncio.sleep(0)
        assert clock.waiting == [30.0, 600.0]
        clock.pause()
        assert clock.step() == 30.0
        await asyncio.wait_for(tasks[0], 5)
        assert woken == [(30, 30.0)]
        clock.advance(1000)
        await asyncio.wait_for(tasks[1], 5)
        assert woken[1] == (600, 1030.0)
        assert clock.waiting == []

    asyncio.run(main())


def test_a_step_lands_exactly_at_the_size_of_an_epoch():
    async def main():
        clock = SteppedClock(real=lambda: 1_767_225_600.123456)
        clock.pause()
        for seconds in (0.1, 1 / 3, 12.345678):
            task = asyncio.create_task(clock.sleep(seconds))
            await asyncio.sleep(0)
            clock.step()
            await asyncio.wait_for(task, 5)

    asyncio.run(main())


def test_an_event_ends_a_wait_also_while_paused():
    async def main():
        clock = SteppedClock(real=lambda: 0.0)
        clock.pause()
        event = asyncio.Event()
        waiting = asyncio.create_task(clock.wait(event, 10))
        await asyncio.sleep(0)
        event.set()
        assert await asyncio.wait_for(waiting, 5) is True
        assert await clock.wait(event, None) is True
        other = asyncio.create_task(clock.wait(asyncio.Event(), 10))
        await asyncio.sleep(0)
        clock.advance(10)
        assert await asyncio.wait_for(other, 5) is False

    asyncio.run(main())


def test_it_goes_forward_only():
    with pytest.raises(ValueError, match="forward"):
        SteppedClock().advance(-1)


def test_whoever_reads_time_elsewhere_hears_of_each_move():
    told = []
    clock = SteppedClock(real=lambda: 5.0, on_move=lambda now, running: told.append((now, running)))
    clock.pause()
    clock.advance(10)
    clock.resume()
    assert told == [(5.0, False), (15.0, False), (15.0, True)]
