"""Time that stands still until a test moves it, and a journal on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.journal import Journal

from .narrator import Narrator

if TYPE_CHECKING:
    import asyncio


class HandClock:
    """A clock that a test sets; nothing waits on it."""

    def __init__(self) -> None:
        self.now = 1_767_225_600.0

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing may wait here")

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        raise AssertionError("nothing may wait here")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def journal(clock: HandClock) -> Journal:
    return Journal(clock)


@pytest.fixture
def tell(clock: HandClock, journal: Journal) -> Narrator:
    return Narrator(clock, journal)
