from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

from twolane_local.aws.http_api.front import FOR_S, Vigil

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Turning:
    """A loop that turns when the test says so, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: deque[Callable[[], None]] = deque()

    def call_soon(self, call: Callable[[], None], *_: Any) -> None:
        self.due.append(call)

    def turn(self) -> bool:
        """Run what is due; tells whether more is, which keeps a loop from sleeping."""
        for _ in range(len(self.due)):
            self.due.popleft()()
        return bool(self.due)

    def vigil(self) -> Vigil:
        return Vigil(cast("asyncio.AbstractEventLoop", self), lambda: self.now)


def test_the_loop_sleeps_when_the_time_is_over() -> None:
    loop = Turning()
    loop.vigil().keep()
    assert loop.turn()
    loop.now += FOR_S / 2
    assert loop.turn()
    loop.now += FOR_S
    assert not loop.turn()


def test_a_later_request_keeps_it_awake_for_longer_with_one_call_a_turn() -> None:
    loop = Turning()
    vigil = loop.vigil()
    vigil.keep()
    loop.now += FOR_S * 0.8
    vigil.keep()
    loop.now += FOR_S * 0.8
    assert loop.turn()
    assert len(loop.due) == 1
    loop.now += FOR_S
    assert not loop.turn()
    vigil.keep()
    assert loop.turn()
