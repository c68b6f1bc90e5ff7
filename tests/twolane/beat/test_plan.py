from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.schedules import crontab

from twolane.beat.entries import read_entries
from twolane.beat.ledger import Claim, Ledger, Missed, Plan, Record, plan_tick

if TYPE_CHECKING:
    from datetime import timedelta

HOURLY: dict[str, Any] = {"task": "t", "schedule": crontab(minute=0)}
TEN = 1_767_261_600.0  # 2026-01-01T10:00:00Z
HOUR = 3_600.0


def plan(bench: Any, ledger: Ledger, tick: float, **schedule: dict[str, Any]) -> Plan:
    return plan_tick(
        ledger,
        read_entries(bench.app(schedule)),
        tick,
        now=tick + 1,
        lease_until=tick + 31,
        name_task=lambda entry, slot: f"{entry}@{slot:.0f}",
    )


def test_an_entry_that_is_new_is_noted(bench: Any) -> None:
    made = plan(bench, Ledger(), TEN + 60, e=HOURLY)
    [(name, record)] = made.ledger.records.items()
    assert (name, record.next, record.sent) == ("e", TEN + HOUR, None)
    assert made.changed
    assert made.claims == ()


def test_a_slot_that_is_due_is_claimed(bench: Any) -> None:
    before = plan(bench, Ledger(), TEN + 60, e=HOURLY).ledger
    made = plan(bench, before, TEN + HOUR, e=HOURLY)
    claim = Claim(f"e@{TEN + HOUR:.0f}", "e", TEN + HOUR, TEN + HOUR + 31)
    assert made.claims == (claim,)
    assert made.ledger.outbox == (claim,)
    record = made.ledger.records["e"]
    assert (record.last, record.next, record.sent) == (TEN + HOUR, TEN + 2 * HOUR, TEN + HOUR)


def test_where_nothing_is_due_nothing_changes(bench: Any) -> None:
    before = plan(bench, Ledger(), TEN + 60, e=HOURLY).ledger
    made = plan(bench, before, TEN + 120, e=HOURLY)
    assert made == Plan(before, changed=False)
    assert made.ledger is before


def test_a_claim_of_another_is_left_until_it_runs_out(bench: Any) -> None:
    records = plan(bench, Ledger(), TEN, e=HOURLY).ledger.records
    claim = Claim("id", "e", TEN, until=TEN + 61)
    held = Ledger(records, (claim,))
    assert not plan(bench, held, TEN + 59, e=HOURLY).changed
    made = plan(bench, held, TEN + 60, e=HOURLY)
    assert made.claims == (claim._replace(until=TEN + 91),)
    assert made.ledger.outbox == made.claims


def test_what_was_missed_is_told(bench: Any) -> None:
    before = plan(bench, Ledger(), TEN + 60, e=HOURLY).ledger
    made = plan(bench, before, TEN + 3.5 * HOUR, e=HOURLY)
    assert made.missed == (Missed("e", TEN + HOUR, 1),)
    assert [claim.slot for claim in made.claims] == [TEN + 3 * HOUR]
    late = plan(bench, before, TEN + HOUR + 59, e=HOURLY)
    assert late.missed == ()


def test_an_entry_that_cannot_be_computed_keeps_its_record(bench: Any) -> None:
    class Broken(crontab):
        def remaining_estimate(self, last_run_at: Any, ffwd: Any = None) -> timedelta:
            raise RuntimeError("no such day")

    broken = {"task": "t", "schedule": Broken(minute=0)}
    record = Record("of another schedule", TEN - HOUR, TEN, None)
    made = plan(bench, Ledger({"b": record}), TEN, b=broken, e=HOURLY)
    assert [str(error) for error in made.broken.values()] == ["no such day"]
    assert made.ledger.records["b"] == record
    assert [claim.entry for claim in made.claims] == ["e"]


def test_the_deadline_of_cron_entries_is_kept_to(bench: Any) -> None:
    app = bench.app({"e": HOURLY}, beat_cron_starting_deadline=600)
    before = plan(bench, Ledger(), TEN + 60, e=HOURLY).ledger
    for late_s, expected in ((599.0, 1), (601.0, 0)):
        made = plan_tick(
            before,
            read_entries(app),
            TEN + HOUR + late_s,
            now=0.0,
            lease_until=0.0,
            name_task=lambda entry, slot: "id",
        )
        assert len(made.claims) == expected
