"""Every piece of advice, and the numbers in it."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import pytest

from twolane_local.checks.advise import Limits, Verdict, judge, measure

from .conftest import deferred, inline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane_local.checks.advise import Judgement
    from twolane_local.journal import Event


def judged(*events: Iterable[Event], limits: Limits | None = None) -> Judgement:
    (work,) = measure(chain(*events))
    return judge(work, limits)


def many(count: int, milliseconds: float) -> list[Event]:
    return list(chain(*(inline("mail", milliseconds) for _ in range(count))))


def tasks(count: int, milliseconds: float) -> list[Event]:
    return list(chain(*(deferred("mail", milliseconds) for _ in range(count))))


def test_quick_inline_work_stays() -> None:
    found = judged(many(20, 15.0))
    assert (found.verdict, found.lane) == (Verdict.STAY, "inline")
    assert found.reasons == (
        "quick: 19 of 20 runs take at most 15 ms (20 runs), and none failed or was lost",
    )


def test_slow_inline_work_is_deferred_with_its_numbers() -> None:
    found = judged(many(18, 15.0), many(2, 2600.0))
    assert found.verdict is Verdict.DEFER
    assert found.reasons == (
        "slow: one inline run in twenty takes 2.6 s or more, and the inline lane is for 2.0 s",
    )


def test_the_budget_may_be_another() -> None:
    assert judged(many(20, 600.0), limits=Limits(slow_inline_ms=500.0)).verdict is Verdict.DEFER


def test_inline_work_that_fails_is_deferred() -> None:
    found = judged(many(19, 15.0), inline("mail", 5.0, kind="inline.failed"))
    assert found.verdict is Verdict.DEFER
    assert found.reasons == ("fails: 1 of 20 inline runs, and none is retried",)


def test_one_failure_in_a_thousand_is_borne() -> None:
    found = judged(many(999, 15.0), inline("mail", 5.0, kind="inline.failed"))
    assert found.verdict is Verdict.STAY


@pytest.mark.parametrize("kind", ["inline.lost", "inline.deferred"])
def test_inline_work_that_did_not_fit_is_deferred_at_the_first_time(kind: str) -> None:
    found = judged(inline("mail", 5.0, kind=kind))
    assert found.verdict is Verdict.DEFER
    assert "does not fit" in found.reasons[0]


def test_trivial_deferred_work_may_run_inline() -> None:
    found = judged(tasks(20, 30.0))
    assert (found.verdict, found.lane) == (Verdict.INLINE, "deferred")
    assert found.reasons[0].startswith("quick: 19 of 20 runs take at most 30 ms (20 runs)")
    assert "if one may be lost" in found.reasons[1]


@pytest.mark.parametrize(
    ("one_more", "why"),
    [
        (lambda: deferred("mail", 30.0, retries=1), "needs its retries: 1 retries"),
        (lambda: deferred("mail", 30.0, delay=60), "waits: 1 of 21 messages have a delay"),
        (lambda: deferred("mail", 30.0, by_request=False), "no request sends it: 1 of 21"),
    ],
)
def test_what_needs_its_queue_keeps_it(one_more: object, why: str) -> None:
    assert callable(one_more)
    found = judged(tasks(20, 30.0), one_more())
    assert found.verdict is Verdict.STAY
    assert why in " ".join(found.reasons)


def test_work_that_is_not_trivial_keeps_its_queue() -> None:
    found = judged(tasks(20, 300.0))
    assert found.verdict is Verdict.STAY
    assert found.reasons == ("not trivial: one run in twenty takes 300 ms or more",)


def test_few_runs_prove_nothing() -> None:
    found = judged(tasks(19, 1.0))
    assert found.verdict is Verdict.UNKNOWN
    assert found.reasons == ("19 runs are too few to judge; 20 are enough",)


def test_in_both_lanes_the_inline_one_is_judged() -> None:
    found = judged(many(20, 15.0), tasks(20, 30.0))
    assert (found.verdict, found.lane) == (Verdict.STAY, "both")
