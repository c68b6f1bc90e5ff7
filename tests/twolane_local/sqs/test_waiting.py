from __future__ import annotations

import asyncio
import threading

from twolane_local.aws.sqs.service import Waiters


def test_a_wake_sets_every_event_that_waits():
    async def main():
        waiters = Waiters()
        with waiters.watch() as one, waiters.watch() as other:
            assert len(waiters) == 2
            waiters.wake()
            assert one.is_set()
            assert other.is_set()
        assert len(waiters) == 0
        waiters.wake()

    asyncio.run(main())


def test_a_wake_from_another_thread_reaches_the_loop():
    async def main():
        waiters = Waiters()
        with waiters.watch() as event:
            thread = threading.Thread(target=waiters.wake)
            thread.start()
            await asyncio.wait_for(event.wait(), 10)
            thread.join()

    asyncio.run(main())


def test_a_loop_that_is_closed_is_no_harm():
    waiters = Waiters()
    watching = waiters.watch()

    async def main():
        watching.__enter__()

    asyncio.run(main())
    waiters.wake()
    assert len(waiters) == 1
    watching.__exit__(None, None, None)
