"""Runs one campaign: starts it all, sends, lets things go wrong, waits, collects, has it judged."""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import collect
from .checker import Seen, Verdict, check, outstanding
from .observed import Probe, timeouts
from .plan import draw
from .strikes import Strikes
from .system import QUEUE, Publisher, System

if TYPE_CHECKING:
    from pathlib import Path

    from .plan import Plan, Unit

_SENDERS = 4
_TELL_S = 5.0
#: All work that is left is a message, in some state. Without one, what has no outcome gets none:
#: SQS refused what a task published after its body, say. The checker judges that.
_SETTLED_S = 20.0


@dataclass(frozen=True)
class Wanted:
    seed: int
    store: str
    tasks: int
    chords: int
    faults: list[str]
    #: Over how many seconds the sending is spread.
    spread_s: float
    #: How long nothing may change, with work left, until the campaign is given up.
    patience_s: float = 260.0
    max_receives: int = 6
    #: Kinds of units that are left out.
    without: frozenset[str] = frozenset()


@dataclass
class Outcome:
    wanted: Wanted
    verdict: Verdict
    tasks: int
    units: int
    acknowledged: int
    effects: int
    seconds: float
    drained: bool
    faults: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "seed": self.wanted.seed,
            "store": self.wanted.store,
            "tasks": self.tasks,
            "units": self.units,
            "acknowledged": self.acknowledged,
            "effects": self.effects,
            "seconds": round(self.seconds, 1),
            "drained": self.drained,
            "faults": dict(sorted(self.faults.items())),
            "skipped": self.skipped,
            "explained": dict(sorted(self.verdict.explained.items())),
            "refused": self.verdict.refused,
            "duplicates": self.verdict.duplicates,
            "violations": self.verdict.violations,
        }


def run(wanted: Wanted, directory: Path) -> Outcome:
    began, today = time.monotonic(), datetime.now().astimezone()
    plan = draw(wanted.seed, wanted.tasks, wanted.chords, wanted.faults, wanted.without)
    system = System(directory, wanted.store, max_receives=wanted.max_receives)
    survivors: list[int] = []
    try:
        system.start()
        campaign = _Campaign(wanted, plan, system, directory)
        probe = Probe(system)
        probe.start()
        campaign.play()
        drained = campaign.drain()
        probe.stop()
        seen = campaign.collect(probe.slow)
    finally:
        survivors = system.stop()
    for log in directory.glob("emulator-*.log"):
        seen.faults.extend(timeouts(log, today))
    verdict = check(seen)
    verdict.violations += [
        f"left behind: process {pid} outlived its emulator"
        for pid in [*survivors, *campaign.strikes.survivors]
    ]
    verdict.violations += campaign.broken
    if not drained:
        verdict.violations.append("not drained: work was left when nothing changed any more")
    faults = Counter(line["fault"] for line in seen.faults)
    return Outcome(
        wanted, verdict, plan.tasks, len(plan.units),
        sum(unit["acknowledged"] for unit in seen.told),
        sum(line["what"] == "effect" for line in seen.effects),
        time.monotonic() - began, drained, faults, campaign.strikes.skipped,
    )  # fmt: skip


class _Campaign:
    def __init__(self, wanted: Wanted, plan: Plan, system: System, directory: Path) -> None:
        self._wanted, self._plan, self._system = wanted, plan, system
        self._directory = directory
        self.strikes = Strikes(system, directory / "faults.jsonl")
        self.told: list[dict[str, Any]] = []
        self.broken: list[str] = []
        self._known: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._sent = 0
        self._waiting: queue.Queue[tuple[float, Unit] | None] = queue.Queue()

    def play(self) -> None:
        began = time.monotonic()
        publisher = Publisher(self._system)
        total, spread = len(self._plan.units), self._wanted.spread_s
        for number, unit in enumerate(self._plan.units):
            self._waiting.put((began + number / total * spread, unit))
        threads = [
            threading.Thread(target=self._guarded, args=(self._send_all, publisher), daemon=True)
            for _ in range(_SENDERS)
        ]
        threads.append(
            threading.Thread(target=self._guarded, args=(self._strike_all,), daemon=True)
        )
        for _ in range(_SENDERS):
            self._waiting.put(None)
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(_TELL_S)
                    self._progress("sending")
        finally:
            publisher.stop()
        self.strikes.end()

    def _guarded(self, work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - a campaign that broke is no campaign that passed
            self.broken.append(f"broken: {type(error).__name__}: {error}")

    def _send_all(self, publisher: Publisher) -> None:
        sqs = self._system.client("sqs")
        while (item := self._waiting.get()) is not None:
            at, unit = item
            threading.Event().wait(max(0.0, at - time.monotonic()))
            self._send(unit, publisher, sqs)
            with self._lock:
                self._sent += 1

    def _send(self, unit: Unit, publisher: Publisher, sqs: Any) -> None:
        told = {**unit.as_dict(), "sent_at": time.time(), "acknowledged": False}
        if unit.via == "api":
            status = self._system.post("/send", unit.as_dict())
            told["acknowledged"], told["answer"] = status == 202, status
        elif unit.via == "stock":
            told["acknowledged"], told["answer"] = publisher.send(unit.as_dict())
        else:
            sent = [
                self._send_raw(sqs, body)
                for body in unit.bodies
                for _ in range(unit.options.get("copies", 1))
            ]
            told["acknowledged"] = any(sent)
        told["answered_at"] = time.time()
        revokes = unit.kind == "revoked" and told["acknowledged"]
        if revokes and self._system.post(f"/revoke/{unit.ids[0]}", {}) == 202:
            told["revoked_at"] = time.time()
        with self._lock:
            self.told.append(told)
            with (self._directory / "told.jsonl").open("a") as file:
                file.write(json.dumps(told) + "\n")

    def _send_raw(self, sqs: Any, body: str) -> bool:
        try:
            sqs.send_message(QueueUrl=self._system.queue_url(QUEUE), MessageBody=body)
        except Exception:  # noqa: BLE001 - not acknowledged, by whatever fault
            return False
        return True

    def _strike_all(self) -> None:
        total = len(self._plan.units)
        for strike in self._plan.strikes:
            while self._sent < strike.at * total:
                threading.Event().wait(0.02)
            self._system.alive()
            self.strikes.make(strike)

    # After the last unit.

    def drain(self) -> bool:
        """Wait until all work has ended, or nothing changes any more."""
        last, changed, told_at = None, time.monotonic(), 0.0
        while True:
            self._system.alive()
            state = self._state()
            if state is not None and state[0] == 0 and state[1] == 0:
                return True
            now = time.monotonic()
            if state is not None and state != last:
                last, changed = state, now
            if state is not None and state[1] == 0 and now - changed > _SETTLED_S:
                return True
            if now - changed > self._wanted.patience_s:
                return False
            if now - told_at > _TELL_S:
                told_at = now
                self._progress(f"draining, {state and state[0]} tasks, {state and state[1]} queued")
            threading.Event().wait(1.0)

    def _state(self) -> tuple[int, int, int] | None:
        try:
            waiting = outstanding(self.told, self._known)
            self._known |= collect.results(self._system, waiting)
            waiting = outstanding(self.told, self._known)
            size = self._system.effects.stat().st_size
            return len(waiting), collect.on_queue(self._system, QUEUE), size
        except Exception:  # noqa: BLE001 - whatever does not answer is asked again
            return None

    def _ids(self) -> list[str]:
        return [each for unit in self._plan.units for each in unit.ids]

    def collect(self, slow: list[dict[str, Any]]) -> Seen:
        return Seen(
            self.told,
            [*self.strikes.happened, *slow],
            collect.effects(self._system.effects),
            collect.results(self._system, self._ids()),
            collect.left(self._system),
            collect.dead_letters(self._system),
            self._wanted.max_receives,
        )

    def _progress(self, what: str) -> None:
        sys.stderr.write(
            f"{self._wanted.store}, seed {self._wanted.seed}: {self._sent} of "
            f"{len(self._plan.units)} units sent, {len(self.strikes.happened)} faults; {what}\n"
        )
        sys.stderr.flush()
