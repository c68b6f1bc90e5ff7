from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from twolane.worker.limits import Alarms, Waits, deadline_of, limits

from .conftest import Context


@pytest.mark.parametrize(("timeout_s", "reserve_s"), [(3, 0.25), (10, 0.5), (60, 3.0), (900, 5.0)])
def test_a_part_of_the_time_is_kept_back(timeout_s: float, reserve_s: float) -> None:
    deadline = deadline_of(Context(int(timeout_s * 1000)), monotonic=lambda: 100.0)
    assert deadline is not None
    assert deadline.reserve_s == pytest.approx(reserve_s)
    assert deadline.at == 100.0 + timeout_s
    assert deadline.soft == pytest.approx(deadline.at - 2 * reserve_s)
    assert deadline.lost == pytest.approx(deadline.at - reserve_s)
    assert not deadline.too_late_to_start


def test_too_late_to_start() -> None:
    now = [0.0]
    deadline = deadline_of(Context(10_000), monotonic=lambda: now[0])
    assert deadline is not None
    now[0] = 8.4
    assert not deadline.too_late_to_start
    now[0] = 8.6
    assert deadline.too_late_to_start


def test_without_a_context_there_is_no_end() -> None:
    assert deadline_of(None) is None


class Own(Context, Waits):
    """A context object of an environment that has its own way to wait."""

    def monotonic(self) -> float:
        return 100.0

    def limits(self, alarms: Alarms) -> Any:
        return nullcontext(alarms)

    def each(self, interval_s: float, look: Any) -> Any:
        raise AssertionError("nothing is looked at")


def test_an_environment_may_bring_its_own_waits() -> None:
    context = Own(60_000)
    deadline = deadline_of(context)
    assert deadline is not None
    assert (deadline.at, deadline.remaining_s) == (160.0, 60.0)
    assert deadline.limits == context.limits
    usual = deadline_of(Context(60_000))
    assert usual is not None
    assert usual.limits is limits
