"""The loop stays awake for a single request, and for a moment only."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

from twolane_local.http.servers import BUSY_WAIT_S, BusyWait

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Turning:
    """A loop that turns when the test says so, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: deque[Callable[[], None]] = deque()
        self.wait = BusyWait(cast("asyncio.AbstractEventLoop", self), lambda: self.now)

    def call_soon(self, call: Callable[[], None], *_: Any) -> None:
        self.due.append(call)

    def stays_awake(self) -> bool:
        """Turn once; more that is due keeps a loop from sleeping."""
        for _ in range(len(self.due)):
            self.due.popleft()()
        return bool(self.due)


def test_one_request_keeps_it_awake_for_a_millisecond_at_most() -> None:
    loop = Turning()
    loop.wait.begin()
    assert loop.stays_awake()
    loop.now += BUSY_WAIT_S / 2
    assert loop.stays_awake()
    loop.now += BUSY_WAIT_S
    assert not loop.stays_awake()


def test_an_answer_lets_it_sleep() -> None:
    loop = Turning()
    loop.wait.begin()
    assert loop.stays_awake()
    loop.wait.end()
    assert not loop.stays_awake()


def test_several_requests_do_not_keep_it_awake() -> None:
    loop = Turning()
    loop.wait.begin()
    loop.wait.begin()
    assert not loop.stays_awake()
    loop.wait.end()
    loop.wait.end()
    loop.wait.begin()
    assert loop.stays_awake()
    assert len(loop.due) == 1
