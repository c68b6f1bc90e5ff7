"""Driving the loop: until something is over, from one thread at a time, and out at the exit."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from twolane.api.engine import Drive, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_it_drives_until_it_is_over_and_no_further(loop) -> None:
    drive, seen = Drive(loop), []

    async def steps() -> None:
        for step in range(3):
            seen.append(step)
            drive.stop()
            await asyncio.sleep(0)
        drive.stop()

    task = loop.create_task(steps())
    drive.until(lambda: len(seen) > 1)
    assert seen == [0, 1]
    drive.until(task.done)
    assert seen == [0, 1, 2]
    drive.end()


def test_another_thread_may_go_on_with_it(loop) -> None:
    drive = Drive(loop)
    threads: list[int] = []

    async def note() -> None:
        threads.append(threading.get_ident())
        drive.stop()

    first, second = loop.create_task(note()), None
    drive.until(first.done)
    second = loop.create_task(note())
    thread = threading.Thread(target=drive.until, args=(second.done,))
    thread.start()
    thread.join(30)
    assert threads == [threading.get_ident(), thread.ident]
    drive.end()


def test_worker_threads_are_kept_from_one_call_to_the_next(loop) -> None:
    drive = Drive(loop)
    workers: list[threading.Thread] = []

    async def call() -> None:
        workers.append(await anyio.to_thread.run_sync(threading.current_thread))
        drive.stop()

    for _ in range(3):
        drive.until(loop.create_task(call()).done)
    assert len(set(workers)) == 1
    drive.end()
    drive.end()
    workers[0].join(30)
    assert not workers[0].is_alive()


def test_an_application_that_stops_the_loop_stops_nothing(loop) -> None:
    drive = Drive(loop)

    async def rude() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        drive.stop()

    task = loop.create_task(rude())
    drive.until(task.done)
    drive.end()


def test_what_is_no_stop_is_raised(loop) -> None:
    drive = Drive(loop)

    async def nested() -> None:
        with pytest.raises(RuntimeError, match="another loop is running"):
            drive.until(lambda: False)

    asyncio.run(nested())
    drive.end()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        drive.until(lambda: False)


def test_an_application_that_cancels_every_task_does_not_break_the_next_request(loop) -> None:
    """As some do in their shutdown, on the assumption that the loop is theirs."""
    drive = Drive(loop)

    async def cancel_all() -> None:
        try:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        finally:
            drive.stop()

    for _ in range(3):
        drive.until(loop.create_task(cancel_all()).done)
    drive.end()


def test_a_process_that_forgets_to_close_ends_all_the_same() -> None:
    """AnyIO's threads are no daemons: the interpreter would wait for them for ever."""
    source = (
        "import asyncio, anyio.to_thread\n"
        "from twolane.api.engine import Drive\n"
        "loop = asyncio.new_event_loop()\n"
        "drive = Drive(loop)\n"
        "async def call():\n"
        "    await anyio.to_thread.run_sync(int)\n"
        "    drive.stop()\n"
        "drive.until(loop.create_task(call()).done)\n"
    )
    handlers = Path(__file__).parents[3] / "handlers"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(handlers)}
    subprocess.run([sys.executable, "-c", source], env=environ, check=True, timeout=60)


def test_a_turn_knows_whose_it_is() -> None:
    turn = Turn()
    assert not turn.mine
    with turn:
        assert turn.mine
        assert not turn.acquire(0)
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(turn.mine))
        thread.start()
        thread.join()
        assert seen == [False]
    assert not turn.mine
    assert turn.acquire(0)
