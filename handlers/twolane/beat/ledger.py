"""What beat remembers between two ticks: one small JSON text in the state store.

For each entry the last slot that is dealt with; and an *outbox* of slots that are claimed but not
yet known to be sent. A tick writes its claims before it sends anything, on the condition that
nobody wrote meanwhile, and takes them out of the outbox when they are sent. So of two ticks at once
one claims a slot, and the other sees that it is claimed; and where a tick dies half-way, the next
one finds the rest in the outbox.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from twolane.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from twolane.state import StateStore

#: A yearly entry must not be forgotten between two slots. Rewritten whenever anything is due.
_TTL_S = 10 * 365 * 86_400.0
_ATTEMPTS = 20
_VERSION = 1
#: How much of a text holds its id.
_HEAD = len('{"v":1,"id":"') + 24
_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Record(NamedTuple):
    """Where an entry stands; times in seconds since the epoch."""

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
        """Apply ``step`` to the ledger as it stands, again if somebody wrote meanwhile.

        ``step`` returns ``None`` where there is nothing to write; it may be called several times,
        and only its last call counts. Raises ``StoreUnavailableError`` where the ledger cannot be
        written.
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
