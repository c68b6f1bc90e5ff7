"""Threads that take turns with a virtual loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.clock.threads import Ended, EnvironmentKilled, Process, current
from twolane_local.clock.virtual import NEW_YEAR, VirtualClock, run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def drive(script: Callable[[VirtualClock], Awaitable[Any]]) -> Any:
    async def main(clock: VirtualClock) -> Any:
        return await script(clock)

    return run_virtual(main, socket_grace_s=0)


def test_work_runs_on_a_thread_and_belongs_to_its_process() -> None:
    async def script(_: VirtualClock) -> Any:
        process = Process(asyncio.get_running_loop())
        found = await process.run(lambda: (current.get(), threading.current_thread()))
        process.close()
        return found[0] is process, found[1] is threading.current_thread()

    assert drive(script) == (True, False)


def test_sleeps_of_two_processes_interleave_in_virtual_time() -> None:
    async def script(clock: VirtualClock) -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        said: list[tuple[str, float]] = []

        def work(name: str, step: float) -> Callable[[], None]:
            def run() -> None:
                for _ in range(2):
                    process = current.get()
                    assert process is not None
                    process.sleep(step)
                    said.append((name, clock.time() - NEW_YEAR))

            return run

        processes = [Process(loop), Process(loop)]
        await asyncio.gather(
            processes[0].run(work("slow", 50)), processes[1].run(work("quick", 30))
        )
        for process in processes:
            process.close()
        return said

    assert drive(script) == [("quick", 30), ("slow", 50), ("quick", 60), ("slow", 100)]


def test_an_error_is_the_future_s() -> None:
    def fails() -> None:
        raise ValueError("no")

    async def script(_: VirtualClock) -> None:
        process = Process(asyncio.get_running_loop())
        with pytest.raises(ValueError, match="no"):
            await process.run(fails)
        process.close()

    drive(script)


def test_what_is_no_exception_does_not_end_the_loop() -> None:
    def exits() -> None:
        raise SystemExit(3)

    async def script(_: VirtualClock) -> None:
        process = Process(asyncio.get_running_loop())
        with pytest.raises(Ended) as raised:
            await process.run(exits)
        assert isinstance(raised.value.cause, SystemExit)
        process.close()

    drive(script)


def test_asyncio_s_debug_mode_lets_a_process_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")

    async def main(clock: VirtualClock) -> float:
        process = Process(asyncio.get_running_loop())
        await process.run(lambda: process.sleep(3600))
        process.close()
        return clock.time()

    assert run_virtual(main, start=0.0) == 3600


def test_a_sleep_can_be_interrupted() -> None:
    async def script(clock: VirtualClock) -> Any:
        process = Process(asyncio.get_running_loop())

        def work() -> tuple[str, float]:
            try:
                process.sleep(100)
            except TimeoutError:
                return "interrupted", clock.time() - NEW_YEAR
            return "slept", clock.time() - NEW_YEAR

        future = process.run(work)
        asyncio.get_running_loop().call_later(10, process.interrupt, TimeoutError())
        outcome = await future
        process.close()
        return outcome

    assert drive(script) == ("interrupted", 10)


def test_a_killed_process_can_do_nothing_more() -> None:
    async def script(_: VirtualClock) -> list[str]:
        process = Process(asyncio.get_running_loop())
        done: list[str] = []

        def work() -> None:
            try:
                process.sleep(100)
            finally:
                done.append("unwound")
                process.check()
                done.append("had an effect")

        future = process.run(work)
        await asyncio.sleep(1)
        assert process.asleep
        process.kill()
        with pytest.raises(Ended) as raised:
            await future
        assert isinstance(raised.value.cause, EnvironmentKilled)
        process.close()
        return done

    assert drive(script) == ["unwound"]


def test_a_process_may_die_from_within() -> None:
    async def script(_: VirtualClock) -> None:
        process = Process(asyncio.get_running_loop())
        with pytest.raises(Ended):
            await process.run(process.die)
        assert process.dead
        process.close()

    drive(script)


def test_a_handler_may_wait_for_a_coroutine_of_the_loop() -> None:
    async def answer() -> str:
        await asyncio.sleep(7)
        return "there"

    async def script(clock: VirtualClock) -> Any:
        process = Process(asyncio.get_running_loop())
        found = await process.run(lambda: (process.call(answer()), clock.time() - NEW_YEAR))
        process.close()
        return found

    assert drive(script) == ("there", 7)


def test_threads_are_used_again() -> None:
    async def script(_: VirtualClock) -> Any:
        seen = set()
        for _ in range(3):
            process = Process(asyncio.get_running_loop())
            seen.add(await process.run(threading.get_ident))
            process.close()
        return len(seen)

    assert drive(script) == 1
