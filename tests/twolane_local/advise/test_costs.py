"""A month's price of either lane, by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from twolane_local.checks.advise import (
    CostFactors,
    LaneStats,
    WorkStats,
    compute_cost,
    idle_cost,
    monthly_cost,
    prices,
)

MILLION = CostFactors(requests=1_000_000)
#: One task for each request, 100 ms each, in batches of ten.
WORK = WorkStats(
    "mail",
    deferred=LaneStats("Worker", (100.0,) * 10, succeeded=10),
    published=10, by_requests=10, mean_batch=10.0, requests=10,
)  # fmt: skip


def test_the_data_says_when_and_where_from() -> None:
    known = prices()
    assert isinstance(known["date"], date)
    assert known["verified"] is False, "set it once somebody has compared the pages"
    for part in ("lambda", "sqs", "dynamodb", "cloudwatch"):
        assert known[part]["source"].startswith("https://aws.amazon.com/")


def test_a_gigabyte_for_a_second() -> None:
    assert compute_cost(1000, 1024, "x86_64") == pytest.approx(0.0000166667)
    assert compute_cost(1000, 512, "arm64") == pytest.approx(0.0000133334 / 2)


def test_inline_is_time_alone() -> None:
    assert monthly_cost(WORK, MILLION).inline == pytest.approx(1e6 * 0.1 * 0.0000166667)


def test_deferred_is_messages_invocations_time_and_records() -> None:
    messages = 1.2 * 0.40  # sent, and a tenth of a receive and a delete
    invocations = 0.1 * 0.20
    time = 1e6 * (0.1 + 0.005) * 0.0000166667
    records = 6 * 0.625 + 2 * 0.125
    assert monthly_cost(WORK, MILLION).deferred == pytest.approx(
        messages + invocations + time + records
    )


def test_without_a_table_there_are_no_records() -> None:
    with_table, without = (
        monthly_cost(WORK, replace(MILLION, dynamodb=flag)).deferred for flag in (True, False)
    )
    assert with_table is not None
    assert without is not None
    assert with_table - without == pytest.approx(4.0)


def test_retries_cost_as_often_as_they_run() -> None:
    once = monthly_cost(WORK, MILLION).deferred
    retried = replace(WORK, deferred=replace(WORK.deferred, retried=10))
    twice = monthly_cost(retried, MILLION).deferred
    assert once is not None
    assert twice == pytest.approx(2 * once)


def test_runs_follow_the_requests() -> None:
    assert monthly_cost(replace(WORK, requests=40), MILLION).runs == 250_000
    assert monthly_cost(replace(WORK, requests=0), MILLION).runs == 1_000_000


def test_what_was_not_measured_has_no_price() -> None:
    unknown = WorkStats("x", published=1, requests=1)
    assert (monthly_cost(unknown, MILLION).inline, monthly_cost(unknown, MILLION).deferred) == (
        None,
        None,
    )


def test_at_rest_only_the_polls_cost() -> None:
    assert idle_cost(MILLION) == pytest.approx(5 * 3 * 60 * 730 * 0.40 / 1e6)
    assert idle_cost(replace(MILLION, fifo=True)) > idle_cost(MILLION)


def test_each_task_pays_for_its_metrics() -> None:
    assert monthly_cost(WORK, MILLION).metrics == pytest.approx(3 * 0.30)
    retried = replace(WORK, deferred=replace(WORK.deferred, retried=1, failed=1))
    assert monthly_cost(retried, MILLION).metrics == pytest.approx(5 * 0.30)
    assert monthly_cost(WORK, replace(MILLION, per_task_metrics=False)).metrics == 0.0
