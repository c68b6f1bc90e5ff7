"""Beat's memory between two ticks: one small JSON text in the state store.

It holds the last slot of each entry that is dealt with, and an *outbox* of slots that are claimed
but not yet known to be sent. A tick writes its claims before it sends anything, on the condition
that no other tick wrote meanwhile, and takes them out of the outbox when they are sent. So of two
ticks at once one claims a slot, and the other sees that it is claimed; and if a tick dies half-way,
the next one finds the rest in the outbox.

The work of one tick is a pure function of the ledger, the entries and the tick's time.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from twolane.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from twolane.beat.entries import Entry
    from twolane.state import StateStore

#: A yearly entry must not be forgotten between two slots. Rewritten whenever anything is due.
_TTL_S = 10 * 365 * 86_400.0
_ATTEMPTS = 20
_VERSION = 1
#: How much of a text holds its id.
_HEAD = len('{"v":1,"id":"') + 24
_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Record(NamedTuple):
    """The progress of an entry; times in seconds since the epoch."""

    fingerprint: str
    last: float  # every slot up to here is dealt with
    next: float | None  # the first slot after it
    sent: float | None = None  # the last slot that was put on the queue


class Claim(NamedTuple):
    """A slot that somebody is about to send, until ``until`` (epoch seconds, real time)."""

    task_id: str
    entry: str
    slot: float
    until: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """One state of beat's memory."""

    records: Mapping[str, Record] = field(default_factory=dict)
    outbox: tuple[Claim, ...] = ()

    def without(self, task_ids: Iterable[str]) -> Ledger:
        """The ledger once these are sent."""
        sent = frozenset(task_ids)
        return replace(self, outbox=tuple(each for each in self.outbox if each.task_id not in sent))


class Texts:
    """The texts of records that were written before: of a thousand, a tick changes a few."""

    def __init__(self) -> None:
        self._records: Mapping[str, Record] | None = None
        self._joined = ""
        self._each: dict[str, tuple[Record, str]] = {}

    def joined(self, records: Mapping[str, Record]) -> str:
        """All of them, as the members of a JSON object."""
        if records is not self._records:
            get, none = self._each.get, (None, "")
            parts = [
                kept[1] if (kept := get(name, none))[0] is record else self._write(name, record)
                for name, record in records.items()
            ]
            self._joined = ",".join(parts)
            self._records = records
        return self._joined

    def _write(self, name: str, record: Record) -> str:
        text = f"{_ENCODE(name)}:{_ENCODE(_packed(record))}"
        self._each[name] = (record, text)
        return text


def dump(ledger: Ledger, texts: Texts | None = None) -> str:
    """``{"v": 1, "id": "…", "entries": {name: [fingerprint, last, next, sent]}, "outbox": [[…]]}``,
    where ``sent`` is left out if it is ``last``, and ``id`` is another one each time.
    """
    entries = (texts or Texts()).joined(ledger.records)
    head = f'"v":{_VERSION},"id":"{os.urandom(12).hex()}"'
    return f'{{{head},"entries":{{{entries}}},"outbox":{_ENCODE(ledger.outbox)}}}'


def load(text: str) -> Ledger:
    """The reverse of ``dump``."""
    raw = json.loads(text)
    return Ledger(
        {name: _unpacked(*record) for name, record in raw["entries"].items()},
        tuple(Claim(*claim) for claim in raw["outbox"]),
    )


def _packed(record: Record) -> list[Any]:
    times = [_short(record.last), _short(record.next)]
    if record.sent != record.last:
        times.append(_short(record.sent))
    return [record.fingerprint, *times]


def _short(instant: float | None) -> float | None:
    return int(instant) if instant is not None and instant == int(instant) else instant


def _unpacked(fingerprint: str, last: float, upcoming: float | None, *sent: float | None) -> Record:
    return Record(fingerprint, last, upcoming, sent[0] if sent else last)


class LedgerStore:
    """Reads and changes the one ledger of an app."""

    def __init__(self, store: StateStore, app_name: str) -> None:
        self._store = store
        self._key = f"twolane:tick:{app_name or 'celery'}"
        self._text: str | None = None
        self._ledger = Ledger()
        self._texts = Texts()

    def read(self) -> Ledger:
        """The ledger as it stands; parsed again only if it changed."""
        self._remember(self._store.get_many([self._key]).get(self._key))
        return self._ledger

    def change(self, step: Callable[[Ledger], Ledger | None]) -> None:
        """Apply ``step`` to the ledger as it stands, again if somebody wrote meanwhile; only its
        last call counts, and ``None`` writes nothing. Raises ``StoreUnavailableError`` if that
        cannot be done.
        """
        # What was last seen is tried first: the write is on the condition that it still stands, so
        # being wrong costs a round trip, and being right saves one. That there is nothing to write
        # has no such condition, and needs a look.
        looked = False
        for _ in range(_ATTEMPTS):
            known = looked or self._text is not None
            changed = step(self._ledger) if known else None
            if changed is None:
                if looked:
                    return
                self.read()
                looked = True
                continue
            text = dump(changed, self._texts)
            stood = self._store.swap(self._key, self._text, text, ttl_s=_TTL_S, head=_HEAD)
            if stood is None:
                self._text, self._ledger = text, changed
                return
            self._remember(stood or None)
            looked = True
        raise StoreUnavailableError(
            f"{self._key} changed {_ATTEMPTS} times while a tick tried to write it; "
            "nothing was sent, the next tick catches up"
        )

    def _remember(self, text: str | None) -> None:
        if text != self._text:
            self._text, self._ledger = text, (load(text) if text else Ledger())


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
    """Claim each slot due at ``tick`` and what an earlier one left unsent; ``now`` is the real
    time, both in epoch seconds. An entry whose next slot cannot be computed does not stop the
    others.
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
    """True if the next slot is left to a later tick."""
    return upcoming > tick and not _goes_ahead(entry, upcoming, tick)


def _advance(record: Record | None, entry: Entry, tick: float) -> tuple[list[float], Record]:
    """The slots of one entry to send now, and where it then stands."""
    # Slots of a schedule that a deploy has only just brought were not missed: as Celery does, one
    # is made up for.
    same = record is not None and record.fingerprint == entry.fingerprint
    if record is None or (entry.once and not same):
        last, sent = entry.slots.anchor(tick), None
    else:
        last, sent = record.last, record.sent
    past, last = entry.slots.recent(last, tick, CATCH_UP if same and entry.missed == "all" else 1)
    chosen = [slot for slot in past if _still_wanted(entry, tick - slot)]
    upcoming = entry.slots.after(last)
    while upcoming is not None and _goes_ahead(entry, upcoming, tick):
        if entry.once and chosen:
            break
        chosen.append(upcoming)
        last = upcoming
        upcoming = entry.slots.after(last)
    if entry.once and chosen:
        upcoming = None
    sent = chosen[-1] if chosen else sent
    return chosen, Record(entry.fingerprint, last, upcoming, sent)


def _missed(
    record: Record | None, entry: Entry, sent: list[float], tick: float
) -> Iterator[Missed]:
    """The missed slots, which the log must name: due longer ago than the tick before."""
    if record is None or record.fingerprint != entry.fingerprint or record.next is None:
        return
    if record.next <= tick - TICK_S:
        yield Missed(entry.name, record.next, sum(slot <= tick for slot in sent))


def _still_wanted(entry: Entry, late_s: float) -> bool:
    if entry.deadline_s is not None and late_s > entry.deadline_s:
        return False
    return entry.missed != "skip" or late_s < TICK_S


def _goes_ahead(entry: Entry, slot: float, tick: float) -> bool:
    """True if a coming slot is sent now: no tick will fall on it, so its tick would be late."""
    if slot >= tick + LOOKAHEAD_S:
        return False
    return (slot - tick) % TICK_S != 0 or (entry.slots.interval_s or TICK_S) < TICK_S
