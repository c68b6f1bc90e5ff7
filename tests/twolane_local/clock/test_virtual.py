from __future__ import annotations

import asyncio
import threading

import pytest

from twolane_local.clock.virtual import NEW_YEAR, StalledError, VirtualClock, run_virtual


def test_a_year_passes_in_no_time() -> None:
    async def main(clock: VirtualClock) -> float:
        await clock.sleep(365 * 86_400)
        return clock.time()

    assert run_virtual(main) == pytest.approx(NEW_YEAR + 365 * 86_400)


def test_waits_end_in_the_order_of_their_times() -> None:
    async def main(clock: VirtualClock) -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []

        async def wait(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            seen.append((name, round(clock.time() - NEW_YEAR, 6)))

        await asyncio.gather(wait("c", 3600), wait("a", 1), wait("b", 60), wait("a2", 1))
        return seen

    assert run_virtual(main) == [("a", 1), ("a2", 1), ("b", 60), ("c", 3600)]


def test_an_event_ends_a_wait_early_and_a_timeout_says_so() -> None:
    async def main(clock: VirtualClock) -> tuple[bool, float, bool, float]:
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(10, event.set)
        first = await clock.wait(event, 100)
        at = clock.time() - NEW_YEAR
        second = await clock.wait(asyncio.Event(), 100)
        return first, round(at, 6), second, round(clock.time() - NEW_YEAR, 6)

    assert run_virtual(main) == (True, 10, False, 110)


def test_time_stands_still_while_a_thread_works() -> None:
    async def main(clock: VirtualClock) -> float:
        release = threading.Event()
        timer = threading.Timer(0.05, release.set)
        timer.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(clock.sleep(3600))
            assert await asyncio.to_thread(release.wait, 10)
            return clock.time()

    assert run_virtual(main) == NEW_YEAR


def test_time_runs_as_it_does_outside_where_it_is_asked_to() -> None:
    async def main(clock: VirtualClock) -> tuple[float, float]:
        with clock.real_time():
            await asyncio.sleep(0.01)
        passed = clock.time() - NEW_YEAR
        await clock.sleep(3600)
        return passed, clock.time() - NEW_YEAR - passed

    passed, after = run_virtual(main)
    assert 0.009 < passed < 60
    assert after == pytest.approx(3600)


def test_what_cannot_end_is_said_to_be_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twolane_local.clock.virtual._STALLED_S", 0.01)

    async def main(clock: VirtualClock) -> None:
        await asyncio.Event().wait()

    with pytest.raises(StalledError, match="nothing is left"):
        run_virtual(main)


def test_a_patched_clock_can_be_moved_along() -> None:
    seen: list[float] = []

    async def main(clock: VirtualClock) -> None:
        await clock.sleep(5)

    run_virtual(main, start=1000.0, on_leap=seen.append)
    assert seen[0] == 1000.0
    assert seen[-1] == pytest.approx(1005.0)
