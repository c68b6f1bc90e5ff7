"""Ticks that come twice, late or never."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.clock import SystemClock
from twolane_local.faults.injection import Faults
from twolane_local.faults.seams import FaultyTicks
from twolane_local.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable


class Taken:
    def __init__(self) -> None:
        self.events: list[tuple[str, bytes]] = []

    def submit(self, function: str, payload: bytes) -> str:
        self.events.append((function, payload))
        return "r1"


@pytest.mark.parametrize(
    ("name", "at_once", "later"),
    [("tick.doubled", 2, 2), ("tick.missed", 0, 0), ("tick.late", 0, 1)],
)
def test_a_tick(name: str, at_once: int, later: int) -> None:
    clock = SystemClock()
    faults = Faults(Journal(clock), clock)
    faults.inject(name)
    taken = Taken()
    calls: list[Callable[[], object]] = []
    ticks = FaultyTicks(taken, faults, lambda _, call: calls.append(call))
    ticks.submit("beat", b"{}")
    assert len(taken.events) == at_once
    for call in calls:
        call()
    assert taken.events == [("beat", b"{}")] * later
    ticks.submit("beat", b"{}")
    assert len(taken.events) == later + 1
