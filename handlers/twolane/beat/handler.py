"""The adapter: a schedule's event in, the due entries of ``beat_schedule`` on their queues."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

from twolane.beat.entries import STOCK_SCHEDULER, Missed, iso, read_entries, task_id
from twolane.beat.events import Request, Slot, Tick, read_event
from twolane.beat.ledger import Claim, Ledger, LedgerStore, Plan, plan_tick
from twolane.beat.sending import claim_slot, send_all
from twolane.environment import init_phase, logs, snapshot
from twolane.environment.forks import ends_in_child
from twolane.environment.invocation import within
from twolane.environment.logs import emit
from twolane.errors import ConfigurationError, PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from celery import Celery

    from twolane.beat.database import DatabaseEntries
    from twolane.beat.entries import Entry
    from twolane.state import StateStore

log = logging.getLogger(__name__)

#: How long a claim is another's where Lambda does not tell how long this invocation may last.
_LEASE_S = 60.0


class BeatHandler:
    """``handler = BeatHandler(celery)``: Celery beat with no beat process.

    Each tick sends every slot of ``beat_schedule`` that is due since the last one, once, with a
    task id made of the entry and the slot. Slots between two ticks are sent ahead with their time.
    A slot whose tick never came is dealt with by the entry's policy: ``skip``, ``latest`` or
    ``all``, here for all entries, or in an entry's ``options={"headers": {"twolane_missed": …}}``.

    Returns ``{"tick": "2026-01-01T00:00:00Z", "published": [{"entry", "slot", "taskId"}]}``.
    Raises ``PublishError`` where a slot could not be sent: Lambda's retry, or else the next tick,
    sends it with the same id.
    """

    def __init__(
        self,
        celery: Celery,
        *,
        missed: Missed = "latest",
        store: StateStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        from twolane.publish import application, install

        logs.configure()
        snapshot.begin(os.environ)
        install()
        # As ``celery beat`` does: a module may add its own entries to the schedule.
        celery.loader.import_default_modules()
        application.share_current()
        if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            application.warn(celery, os.environ, "beat", only_certain=True)
        self.app = celery
        self.missed: Missed = missed
        self._clock = clock
        self._given_store = store
        self._ledger: LedgerStore | None = None
        self._entries: dict[str, Entry] | None = None
        self._read_from: object = None
        self._database: DatabaseEntries | None = None
        if celery.conf.beat_scheduler != STOCK_SCHEDULER:
            from twolane.beat.database import database_entries

            self._database = database_entries(celery)
        init_phase.end()

    @ends_in_child
    def __call__(self, event: Any, context: Any = None) -> dict[str, Any]:
        remaining = getattr(context, "get_remaining_time_in_millis", None)
        try:
            if remaining is None:
                return self._answer(event, _LEASE_S)
            left_s = remaining() / 1000
            with within(left_s):
                return self._answer(event, left_s + 1.0)
        finally:
            logs.flush(None if remaining is None else remaining() / 1000)

    def _answer(self, event: Any, lease_s: float) -> dict[str, Any]:
        now = self._clock()
        asked = read_event(event, now)
        lease_until = now + lease_s
        if isinstance(asked, Slot):
            entries = self.entries()
            if asked.entry not in entries:
                raise ConfigurationError(
                    f"a schedule asks for {asked.entry!r}, which is not in beat_schedule or is "
                    "disabled; write the schedules anew with `twolane schedules`"
                )
            name = task_id(self.app, asked.entry, asked.at)
            with claim_slot(self.store, name, now=now, until=lease_until) as free:
                claimed = [Claim(name, asked.entry, asked.at, lease_until)] if free else []
                claims = self._still_ours(claimed, lease_until)
                return self._report(asked.at, claims, self._send(entries, claims, now))
        if isinstance(asked, Request):
            from twolane.beat.inspection import answer

            return answer(self, asked.asked, now)
        return self._tick(asked, now, lease_until)

    @property
    def store(self) -> StateStore:
        """The state store, opened on first use: an import must not need it."""
        if self._given_store is None:
            from twolane.state import open_store

            self._given_store = open_store(self.app)
        return self._given_store

    def entries(self) -> dict[str, Entry]:
        """``beat_schedule``, read again if the application has added to it; or what Django's
        database has now.
        """
        if self._database is not None:
            self._database.set_up()
            return self._database.read(self._clock(), self.missed, tidy=True)
        current = (id(self.app.conf.beat_schedule), len(self.app.conf.beat_schedule or ()))
        if self._entries is None or current != self._read_from:
            self._entries = read_entries(self.app, missed=self.missed)
            self._read_from = current
        return self._entries

    def _tick(self, asked: Tick, now: float, lease_until: float) -> dict[str, Any]:
        if self._ledger is None:
            self._ledger = LedgerStore(self.store, self.app.main or "")
        entries = self.entries()
        plan = Plan(Ledger(), changed=False)

        def step(ledger: Ledger) -> Ledger | None:
            nonlocal plan
            plan = plan_tick(
                ledger, entries, asked.at, now=now, lease_until=lease_until,
                name_task=lambda entry, slot: task_id(self.app, entry, slot),
            )  # fmt: skip
            return plan.ledger if plan.changed else None

        self._ledger.change(step)
        for name, error in plan.broken.items():
            emit(
                log, "log", f"entry {name!r} cannot be scheduled; it is tried again at each tick",
                level=logging.ERROR, exc_info=error, entry=name,
            )  # fmt: skip
        for missed in plan.missed:
            emit(
                log, "log",
                f"entry {missed.entry!r} missed its ticks since {iso(missed.since)}: "
                f"{missed.sent} of its slots are made up for",
                level=logging.WARNING, entry=missed.entry, since=iso(missed.since),
            )  # fmt: skip
        claims = self._still_ours(plan.claims, lease_until)
        failed = self._send(entries, claims, now)
        if claims:
            # What failed stays in the outbox, free for the next who comes.
            dead = {claim.task_id for claim in failed}
            done = [claim.task_id for claim in claims if claim.task_id not in dead]
            self._ledger.change(lambda ledger: _released(ledger.without(done), dead))
        return self._report(asked.at, claims, failed)

    def _still_ours(self, claims: Sequence[Claim], lease_until: float) -> Sequence[Claim]:
        """The claims, unless they ran out while the environment stood still: the tasks that another
        tick has sent since may have ended so long ago that a second one would run.
        """
        if not claims or self._clock() < lease_until:
            return claims
        emit(
            log, "log",
            f"the claims on {len(claims)} due tasks ran out while the tick was held up; "
            "the next tick sends them, if none has",
            level=logging.WARNING, entries=[claim.entry for claim in claims],
        )  # fmt: skip
        return []

    def _send(
        self, entries: Mapping[str, Entry], claims: Sequence[Claim], now: float
    ) -> list[Claim]:
        """Send each; return those that could not be sent."""
        failed = send_all(self.app, entries, claims, now) if claims else {}
        if self._database is not None:
            sent = (claim.entry for claim in claims if claim.task_id not in failed)
            self._database.note(sent, now)
        for claim in claims:
            if claim.task_id in failed:
                emit(
                    log, "log", f"entry {claim.entry!r} could not be sent; it will be tried again",
                    level=logging.ERROR, exc_info=failed[claim.task_id], entry=claim.entry,
                    taskId=claim.task_id,
                )  # fmt: skip
        return [claim for claim in claims if claim.task_id in failed]

    def _report(self, at: float, claims: Iterable[Claim], failed: list[Claim]) -> dict[str, Any]:
        published = [
            {"entry": claim.entry, "slot": iso(claim.slot), "taskId": claim.task_id}
            for claim in claims
            if claim not in failed
        ]
        emit(
            log, "tick", f"tick {iso(at)}: {len(published)} published",
            time=iso(at), published=len(published), entries=[each["entry"] for each in published],
        )  # fmt: skip
        if failed:
            names = ", ".join(sorted({claim.entry for claim in failed}))
            raise PublishError(
                f"{len(failed)} of {len(published) + len(failed)} due tasks could not be sent "
                f"({names}); they are kept, and sent with the same ids by the next tick"
            )
        return {"tick": iso(at), "published": published}


def _released(ledger: Ledger, task_ids: set[str]) -> Ledger:
    outbox = tuple(
        claim._replace(until=0.0) if claim.task_id in task_ids else claim for claim in ledger.outbox
    )
    return Ledger(ledger.records, outbox)
