"""What one tick has to do: a pure function of the ledger, the entries and the tick's time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from twolane.beat.ledger import Claim, Ledger, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane.beat.entries import Entry

#: The finest tick that EventBridge offers, and its precision: a tick for 10:00 comes by 10:00:59.
#: https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
TICK_S = 60.0

#: Slots between two ticks are sent ahead, with a delay. Two ticks far: those of the next minute
#: have to be on the queue before the next tick, which may come at the end of its minute.
LOOKAHEAD_S = 2 * TICK_S

#: How many missed slots of one entry are made up for at once, under the policy ``all``.
CATCH_UP = 100


class Missed(NamedTuple):
    """Slots of an entry from ``since`` on whose ticks never came, and how many are made up for."""

    entry: str
    since: float
    sent: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The ledger after the tick (``changed``, if it is another), what the tick claimed and what was
    missed, and the entries whose slots cannot be computed, with the reason.
    """

    ledger: Ledger
    claims: tuple[Claim, ...] = ()
    missed: tuple[Missed, ...] = ()
    broken: Mapping[str, Exception] = field(default_factory=dict)
    changed: bool = True


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
    next slot cannot be computed stays as it is: it must not stop the others.
    """
    due: list[tuple[str, float]] = []
    missed: list[Missed] = []
    broken: dict[str, Exception] = {}
    known = ledger.records
    changed = known.keys() != entries.keys()
    records = {name: record for name, record in known.items() if name in entries}
    horizon = tick + LOOKAHEAD_S
    for name, entry in entries.items():
        record = known.get(name)
        if record is not None and record.fingerprint == entry.fingerprint:
            upcoming = record.next
            # Most entries, most of the time: this line is what a tick of a thousand costs.
            if upcoming is None or upcoming >= horizon or _waits(entry, upcoming, tick):
                continue
        try:
            slots, after = _advance(record, entry, tick)
        except Exception as error:  # noqa: BLE001 - whatever a custom schedule raises
            broken[name] = error
            continue
        due += [(name, slot) for slot in slots]
        missed += _missed(record, entry, slots, tick)
        changed = changed or after != record
        records[name] = after
    lost = [claim for claim in ledger.outbox if claim.until <= now]
    if not (changed or lost):
        return Plan(ledger, broken=broken, changed=False)
    # What a deploy has taken away meanwhile is not sent any more.
    claims = [claim._replace(until=lease_until) for claim in lost if claim.entry in entries]
    claims += [Claim(name_task(name, slot), name, slot, lease_until) for name, slot in due]
    others = tuple(claim for claim in ledger.outbox if claim.until > now)
    return Plan(Ledger(records, (*others, *claims)), tuple(claims), tuple(missed), broken)


def _waits(entry: Entry, upcoming: float, tick: float) -> bool:
    """Whether the next slot is left to a later tick."""
    return upcoming > tick and not _goes_ahead(entry, upcoming, tick)


def _advance(record: Record | None, entry: Entry, tick: float) -> tuple[list[float], Record]:
    """The slots of one entry to send now, and where it then stands."""
    last, sent = (record.last, record.sent) if record else (entry.slots.anchor(tick), None)
    # Slots of a schedule that a deploy has only just brought were not missed: as Celery does, one
    # is made up for.
    same = record is not None and record.fingerprint == entry.fingerprint
    past, last = entry.slots.recent(last, tick, CATCH_UP if same and entry.missed == "all" else 1)
    chosen = [slot for slot in past if _still_wanted(entry, tick - slot)]
    upcoming = entry.slots.after(last)
    while upcoming is not None and _goes_ahead(entry, upcoming, tick):
        chosen.append(upcoming)
        last = upcoming
        upcoming = entry.slots.after(last)
    sent = chosen[-1] if chosen else sent
    return chosen, Record(entry.fingerprint, last, upcoming, sent)


def _missed(
    record: Record | None, entry: Entry, sent: list[float], tick: float
) -> Iterator[Missed]:
    """What the log must say: a slot that was due longer ago than the tick before."""
    if record is None or record.fingerprint != entry.fingerprint or record.next is None:
        return
    if record.next <= tick - TICK_S:
        yield Missed(entry.name, record.next, sum(slot <= tick for slot in sent))


def _still_wanted(entry: Entry, late_s: float) -> bool:
    if entry.deadline_s is not None and late_s > entry.deadline_s:
        return False
    return entry.missed != "skip" or late_s < TICK_S


def _goes_ahead(entry: Entry, slot: float, tick: float) -> bool:
    """Whether a coming slot is sent now: no tick will fall on it, so its tick would be late."""
    if slot >= tick + LOOKAHEAD_S:
        return False
    return (slot - tick) % TICK_S != 0 or (entry.slots.interval_s or TICK_S) < TICK_S
