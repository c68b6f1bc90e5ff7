"""How each fault is made, on real processes; and the log of those that were."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .system import QUEUE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .plan import Strike
    from .system import System

WORKER, API = "campaign_worker.handler", "campaign_api.handler"
_INJECTED = frozenset(
    {"queue.two-deliveries-at-once", "queue.duplicate-delivery", "queue.reordered",
     "send.reply-lost", "receive.reply-lost", "delete.failed"}
)  # fmt: skip


class Strikes:
    """Makes faults happen one after the other, and writes down when, and to whom."""

    def __init__(self, system: System, log: Path) -> None:
        self._system, self._log = system, log
        self.happened: list[dict[str, Any]] = []
        self.skipped: list[str] = []
        self.survivors: list[int] = []
        self._ending: list[threading.Thread] = []

    def make(self, strike: Strike) -> None:
        chance = random.Random(strike.draw)
        if strike.fault in _INJECTED:
            at = time.time()
            parameters = {"hold_s": 3.0} if strike.fault == "queue.reordered" else {}
            target = {} if strike.fault.startswith("send") else {"target": QUEUE}
            count = chance.randint(1, 3)
            status = self._system.inject(strike.fault, count=count, **target, **parameters)
            if status == 201:
                self._note(strike.fault, at, time.time(), [], times=count)
            else:
                self._skip(strike.fault, f"the console answered {status}")
            return
        makers: dict[str, Callable[[random.Random], None]] = {
            "environment.killed": self._killed,
            "environment.frozen": self._frozen,
            "environment.frozen-beyond-its-timeout": self._frozen_long,
            "api.killed": self._api_killed,
            "store.killed": self._store_killed,
            "store.frozen": self._store_frozen,
            "emulator.killed": self._emulator_killed,
            "emulator.frozen": self._emulator_frozen,
            "visibility.stolen": self._stolen,
            "disk.full": self._disk_full,
        }
        makers[strike.fault](chance)

    def end(self) -> None:
        """Wait for what goes on beside the sending."""
        for thread in self._ending:
            thread.join()

    def _note(self, fault: str, at: float, until_: float, pids: list[int], **about: Any) -> None:
        line = {"fault": fault, "at": at, "until": until_, "pids": pids, **about}
        self.happened.append(line)
        with self._log.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _skip(self, fault: str, why: str) -> None:
        self.skipped.append(f"{fault}: {why}")

    def _one_of(self, handler: str, chance: random.Random) -> int | None:
        """An environment; rather one that runs a task."""
        pids = self._system.environments(handler)
        busy = [pid for pid in pids if pid in set(_at_work(self._system.effects))]
        return chance.choice(busy or pids) if pids else None

    # The environments.

    def _killed(self, chance: random.Random, handler: str = WORKER) -> None:
        fault = "environment.killed" if handler == WORKER else "api.killed"
        pid = self._one_of(handler, chance)
        if pid is None:
            self._skip(fault, "there was no environment")
            return
        at = time.time()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self._note(fault, at, time.time(), [pid])

    def _api_killed(self, chance: random.Random) -> None:
        self._killed(chance, API)

    def _frozen(self, chance: random.Random) -> None:
        self._freeze("environment.frozen", chance, chance.uniform(0.5, 3))

    def _frozen_long(self, chance: random.Random) -> None:
        # Beyond the function's timeout and the queue's visibility timeout.
        self._freeze("environment.frozen-beyond-its-timeout", chance, 16.0)

    def _freeze(self, fault: str, chance: random.Random, seconds: float) -> None:
        pid = self._one_of(WORKER, chance)
        if pid is None:
            self._skip(fault, "there was no environment")
            return
        at = time.time()
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            self._skip(fault, "the environment was gone")
            return
        line = {"fault": fault, "at": at, "until": at + seconds, "pids": [pid]}
        self.happened.append(line)

        def thaw() -> None:
            over = threading.Event()
            over.wait(seconds)
            if pid in self._system.environments(WORKER):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            line["until"] = time.time()
            with self._log.open("a") as file:
                file.write(json.dumps(line) + "\n")

        thread = threading.Thread(target=thaw, daemon=True)
        thread.start()
        self._ending.append(thread)

    # The store.

    def _store_killed(self, chance: random.Random) -> None:
        at = time.time()
        if self._system.store == "redis":
            process = self._system.redis
            process.kill()
            process.wait()
            threading.Event().wait(chance.uniform(0.1, 1.5))
            self._system.start_redis()
            self._note("store.killed", at, time.time(), [process.pid])
            return
        pid = self._system.moto()
        if pid is None:
            self._skip("store.killed", "there was no moto process")
            return
        os.kill(pid, signal.SIGKILL)
        tables = self._system.client("dynamodb")

        def answers() -> bool | None:
            try:
                tables.describe_table(TableName="campaign-results")
            except Exception:  # noqa: BLE001 - it does not, as yet
                return None
            return True

        try:
            until(answers, "answer of the tables after moto was killed", seconds=60)
        except TimeoutError:
            raise RuntimeError("the emulator does not start a killed moto process again") from None
        self._note("store.killed", at, time.time(), [pid])

    def _store_frozen(self, chance: random.Random) -> None:
        pid = self._system.redis.pid if self._system.store == "redis" else self._system.moto()
        if pid is None:
            self._skip("store.frozen", "there was no store")
            return
        self._stop_for("store.frozen", pid, chance.uniform(0.5, 2))

    # The emulator.

    def _stop_for(self, fault: str, pid: int, seconds: float) -> None:
        at = time.time()
        os.kill(pid, signal.SIGSTOP)
        threading.Event().wait(seconds)
        os.kill(pid, signal.SIGCONT)
        self._note(fault, at, time.time(), [pid])

    def _emulator_killed(self, chance: random.Random) -> None:
        family = self._system.emulator_family()
        process = self._system.emulator
        at = time.time()
        process.kill()
        process.wait()
        self.survivors += self._system.survivors(family)
        threading.Event().wait(chance.uniform(0, 0.5))
        self._system.start_emulator()
        self._note("emulator.killed", at, time.time(), [process.pid, *family])

    def _emulator_frozen(self, chance: random.Random) -> None:
        self._stop_for("emulator.frozen", self._system.emulator.pid, chance.uniform(0.5, 1.5))

    # The queue, from outside.

    def _stolen(self, chance: random.Random) -> None:
        """A foreign consumer takes messages, and lets them go in another order."""
        at = time.time()
        queue, url = self._system.client("sqs"), self._system.queue_url(QUEUE)
        try:
            taken = queue.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=chance.randint(1, 4)
            ).get("Messages", [])
            if chance.random() < 0.5:
                for message in reversed(taken):
                    queue.change_message_visibility(
                        QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                    )
        except Exception as error:  # noqa: BLE001 - the emulator may be down by another fault
            self._skip("visibility.stolen", repr(error)[:100])
            return
        self._note("visibility.stolen", at, time.time(), [], messages=len(taken))

    # Disks.

    def _disk_full(self, chance: random.Random) -> None:
        """Files of the emulator's (of moto's, every other time) cannot grow for a while."""
        pid: int | None = self._system.emulator.pid
        if self._system.store == "dynamodb" and chance.random() < 0.5:
            pid = self._system.moto()
        if pid is None:
            self._skip("disk.full", "there was no moto process")
            return
        try:
            soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            at = time.time()
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
            try:
                threading.Event().wait(chance.uniform(0.3, 1.5))
            finally:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        except (OSError, AttributeError) as error:
            self._skip("disk.full", f"prlimit: {error}")
            return
        self._note("disk.full", at, time.time(), [pid])


def _at_work(effects: Path) -> Iterator[int]:
    """Processes whose last line says that a task is under way."""
    last: dict[int, str] = {}
    with effects.open("rb") as file:
        file.seek(max(0, effects.stat().st_size - 20_000))
        for line in file:
            with suppress(ValueError):
                one = json.loads(line)
                if isinstance(one, dict):
                    last[one["pid"]] = one["what"]
    yield from (pid for pid, what in last.items() if what != "settled")
