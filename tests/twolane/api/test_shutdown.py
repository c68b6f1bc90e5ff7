"""SIGTERM, in this very process; what follows in a real environment is tested in ``isolated``."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from twolane.api.lifespan import Termination

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def before() -> Iterator[list[int]]:
    """Somebody's own handler, which we chain to: each signal that it got."""
    got: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    yield got
    signal.signal(signal.SIGTERM, previous)


def test_it_closes_and_then_does_what_was_done_before(before) -> None:
    closed: list[str] = []
    assert Termination(lambda: not closed.append("closed")).install()
    os.kill(os.getpid(), signal.SIGTERM)
    assert closed == ["closed"]
    assert before == [signal.SIGTERM]


def test_two_of_them_close_both(before) -> None:
    closed: list[str] = []
    Termination(lambda: not closed.append("first")).install()
    Termination(lambda: not closed.append("second")).install()
    os.kill(os.getpid(), signal.SIGTERM)
    assert closed == ["second", "first"]
    assert before == [signal.SIGTERM]


def test_in_the_middle_of_a_request_it_waits_for_its_end(before) -> None:
    busy = True
    termination = Termination(lambda: not busy)
    termination.install()
    termination.resume()
    os.kill(os.getpid(), signal.SIGTERM)
    assert before == []
    busy = False
    termination.resume()
    termination.resume()
    assert before == [signal.SIGTERM], "once"


def test_only_the_main_thread_may_take_a_signal_over(before) -> None:
    installed: list[bool] = []
    termination = Termination(lambda: True)
    thread = threading.Thread(target=lambda: installed.append(termination.install()))
    thread.start()
    thread.join()
    assert installed == [False]
