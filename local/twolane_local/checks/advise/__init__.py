"""Which lane a piece of work belongs in, from what the journal measured: events in, advice out."""

from __future__ import annotations

from twolane_local.checks.advise.costs import Bill, Rates, bill, idle
from twolane_local.checks.advise.measure import Lane, Work, measure
from twolane_local.checks.advise.verdict import Limits, Verdict, judge

__all__ = [
    "Bill", "Lane", "Limits", "Rates", "Verdict", "Work", "bill", "idle", "judge", "measure",
]  # fmt: skip
