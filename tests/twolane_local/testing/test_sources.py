"""What invokes functions only when the test lets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.testing.project import of_handlers
from twolane_local.virtual_clock import NEW_YEAR

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.testing.stack import Twolane


@pytest.fixture
def ticks() -> list[float]:
    return []


@pytest.fixture
def stack(make: Callable[..., Twolane], ticks: list[float]) -> Twolane:
    def beat(event: Any, context: Any) -> None:
        ticks.append(stack.clock.time - NEW_YEAR)

    stack = make(of_handlers(worker=lambda event, context: None, beat=beat))
    return stack


def test_what_recurs_fires_while_time_passes(stack: Twolane, ticks: list[float]) -> None:
    stack.clock.advance(150)
    assert ticks == [60, 120]


def test_what_recurs_stands_still_in_the_deferred_lane(stack: Twolane, ticks: list[float]) -> None:
    stack.queue("tasks").send("later", delay_s=600)
    assert stack.deferred.run_until_idle() == 1
    assert (stack.clock.time, ticks) == (NEW_YEAR + 600, [])
    stack.clock.advance(60)
    assert ticks == [660]


def test_nothing_is_delivered_unasked(stack: Twolane) -> None:
    stack.queue("tasks").send("now")
    stack.invoke("Beat", b"{}")
    assert len(stack.queue("tasks").messages) == 1


def test_what_recurs_does_not_fire_during_a_request(
    stack: Twolane, ticks: list[float], application: Any, make: Callable[..., Twolane]
) -> None:
    stack.close()
    other = make(of_handlers(api=application.api, beat=lambda event, context: ticks.append(0)))
    other.client.post("/inline/55")
    other.client.post("/inline/55")
    assert other.clock.time > NEW_YEAR + 60
    assert ticks == []
