"""The thread that gives up in time: on a clock that the test moves."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from twolane.api.inline import LAST_WORDS_S, Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator


class Lane:
    """A lane that notes what it is told. ``left`` runs down by itself, a step each time."""

    def __init__(self, *left: float) -> None:
        self._left = list(left)
        self.reserve_s = 1.0
        self.ended = False
        self.told: list[str] = []
        self.quiet = threading.Event()

    def remaining(self) -> float:
        return self._left[0] if len(self._left) == 1 else self._left.pop(0)

    def close(self) -> None:
        self.told.append("close")

    def last_words(self) -> None:
        self.told.append("last words")
        self.ended = True
        self.quiet.set()


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog()
    yield watchdog
    watchdog.stop()


def test_it_wakes_at_the_reserve_and_before_the_kill(watchdog) -> None:
    lane = Lane(5.0, 1.001, 1.0, LAST_WORDS_S + 0.001, LAST_WORDS_S)
    watchdog.watch(lane)
    assert lane.quiet.wait(30)
    assert lane.told == ["close", "last words"]


def test_a_lane_that_ends_in_time_hears_nothing(watchdog) -> None:
    quick, late = Lane(30.0), Lane(0.0)
    watchdog.watch(quick)
    quick.ended = True
    watchdog.watch(late)
    assert late.quiet.wait(30)
    assert quick.told == []


def test_only_the_lane_of_the_current_invocation_is_watched(watchdog) -> None:
    """Should an earlier one never have ended, it is not this one's to be killed for."""
    stuck, current = Lane(30.0), Lane(0.0)
    watchdog.watch(stuck)
    watchdog.watch(current)
    assert current.quiet.wait(30)
    assert stuck.told == []


def test_without_a_timeout_there_is_nothing_to_watch(watchdog) -> None:
    before = threading.active_count()
    watchdog.watch(Lane(float("inf")))
    assert threading.active_count() == before


def test_one_thread_serves_all_invocations(watchdog) -> None:
    before = threading.active_count()
    for _ in range(5):
        lane = Lane(0.0)
        watchdog.watch(lane)
        watchdog.watch(lane)
        assert lane.quiet.wait(30)
    assert threading.active_count() == before + 1
    watchdog.stop()
    assert threading.active_count() == before
