"""What one tick has to do: a pure function of the ledger, the entries and the tick's time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twolane.beat.ledger import Claim, Ledger, Record
from twolane.logs import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane.beat.entries import Entry

log = logging.getLogger(__name__)

#: The finest tick that EventBridge offers, and its precision: a tick for 10:00 comes by 10:00:59.
#: https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
TICK_S = 60.0

#: Slots between two ticks are sent ahead, with a delay. Two ticks far: those of the next minute
#: have to be on the queue before the next tick, which may come at the end of its minute.
LOOKAHEAD_S = 2 * TICK_S

#: How many missed slots of one entry are made up for at once, under the policy ``all``.
CATCH_UP = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """The ledger after the tick, and what it claimed; ``changed`` tells if there is news."""

    ledger: Ledger
    claims: tuple[Claim, ...]
    changed: bool


def plan_tick(
    ledger: Ledger,
    entries: Mapping[str, Entry],
    tick: float,
    *,
    now: float,
    lease_until: float,
    name_task: Callable[[str, float], str],
) -> Plan:
    """Claim every slot that is due at ``tick``, and what an earlier tick left unsent.

    ``tick`` is the tick's own time, ``now`` the real one; both in epoch seconds. An entry whose
    next slot cannot be computed is logged and stays as it is: it must not stop the others.
    """
    records: dict[str, Record] = {}
    due: list[tuple[str, float]] = []
    known = ledger.records
    changed = known.keys() != entries.keys()
    for name, entry in entries.items():
        record = known.get(name)
        if record is not None and _waits(record, entry, tick):
            records[name] = record
            continue
        try:
            slots, after = _advance(record, entry, tick)
        except Exception as error:  # noqa: BLE001 - whatever a custom schedule raises
            emit(
                log, "log", f"entry {name!r} cannot be scheduled; it is tried again at each tick",
                level=logging.ERROR, exc_info=error, entry=name,
            )  # fmt: skip
            if record is not None:
                records[name] = record
            continue
        due += [(name, slot) for slot in slots]
        changed = changed or after != record
        records[name] = after
    lost = [claim for claim in ledger.outbox if claim.until <= now]
    if not (changed or lost):
        return Plan(ledger, (), changed=False)
    claims = [claim._replace(until=lease_until) for claim in lost]
    claims += [Claim(name_task(name, slot), name, slot, lease_until) for name, slot in due]
    others = tuple(claim for claim in ledger.outbox if claim.until > now)
    return Plan(Ledger(records, (*others, *claims)), tuple(claims), changed=True)


def _waits(record: Record, entry: Entry, tick: float) -> bool:
    """Whether this tick has nothing to do with the entry; the common case, so the cheap one."""
    if record.fingerprint != entry.fingerprint:
        return False
    if record.next is None or record.next >= tick + LOOKAHEAD_S:
        return True
    return record.next > tick and not _goes_ahead(entry, record.next, tick)


def _advance(record: Record | None, entry: Entry, tick: float) -> tuple[list[float], Record]:
    """The slots of one entry to send now, and where it then stands."""
    last, sent = (record.last, record.sent) if record else (entry.slots.anchor(tick), None)
    past, last = entry.slots.recent(last, tick, CATCH_UP if entry.missed == "all" else 1)
    chosen = [slot for slot in past if _still_wanted(entry, tick - slot)]
    upcoming = entry.slots.after(last)
    while upcoming is not None and _goes_ahead(entry, upcoming, tick):
        chosen.append(upcoming)
        last = upcoming
        upcoming = entry.slots.after(last)
    sent = chosen[-1] if chosen else sent
    return chosen, Record(entry.fingerprint, last, upcoming, sent)


def _still_wanted(entry: Entry, late_s: float) -> bool:
    if entry.deadline_s is not None and late_s > entry.deadline_s:
        return False
    return entry.missed != "skip" or late_s < TICK_S


def _goes_ahead(entry: Entry, slot: float, tick: float) -> bool:
    """Whether a coming slot is sent now: no tick will fall on it, so its tick would be late."""
    if slot >= tick + LOOKAHEAD_S:
        return False
    return (slot - tick) % TICK_S != 0 or (entry.slots.interval_s or TICK_S) < TICK_S
