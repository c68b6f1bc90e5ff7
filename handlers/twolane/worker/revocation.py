"""Revoked tasks: ``app.control.revoke`` writes them to the store, a worker reads them there.

Celery broadcasts a revoke to live workers, which keep it in memory. Between invocations no worker
is alive to hear it, so the store keeps it, for as long as Celery's workers would (three hours), or
the longest time a message stays on a queue if that is longer.

With ``terminate=True`` a stock worker kills the pool's process. Here ``Watch`` is one thread that
asks the store twice a second about each task that has run for half a second, and interrupts it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane.environment.invocation import LONGEST_S, within
from twolane.errors import StoreUnavailableError
from twolane.state.store import NameList
from twolane.worker.limits import TaskTerminated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twolane.state.store import StateStore
    from twolane.worker.limits import Interrupter

PREFIX = "twolane:revoked:"
STAMP_PREFIX = "twolane:revoked-stamp:"
_LIST_KEY = "twolane:revoked-list"

#: The longest that SQS keeps a message, in seconds: a revoke must outlive the message it is for.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
KEEP_S = 14 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revoke as it is stored. ``terminate`` asks to stop the task even while it runs."""

    terminate: bool = False
    signal: str = "SIGTERM"


def revoked_key(task_id: str) -> str:
    return f"{PREFIX}{task_id}"


def stamp_key(header: str, value: object) -> str:
    return f"{STAMP_PREFIX}{header}={value}"


def stamp_keys(stamps: Iterable[tuple[str, Any]]) -> dict[str, tuple[str, Any]]:
    """The keys under which a message's stamps would be revoked: key → (header, value)."""
    return {stamp_key(header, value): (header, value) for header, value in stamps}


def write_revocation(revocation: Revocation) -> str:
    return json.dumps({"terminate": revocation.terminate, "signal": revocation.signal})


def read_revocation(text: str) -> Revocation:
    value = json.loads(text)
    return Revocation(bool(value.get("terminate")), str(value.get("signal") or "SIGTERM"))


def remember(store: StateStore, ids: Iterable[str]) -> None:
    """Keep the ids on a list, for ``inspect revoked`` only: the newest thousand or so."""
    _list(store).add(ids, time.time())


def revoked_ids(store: StateStore) -> list[str]:
    return _list(store).names()


def _list(store: StateStore) -> NameList:
    return NameList(store, _LIST_KEY, most=1024, ttl_s=KEEP_S)


logger = logging.getLogger("twolane.worker")

_INTERVAL_S = 0.5


@dataclass(eq=False, slots=True)
class Running:
    """The task that runs, and how to reach it."""

    task_id: str
    interrupter: Interrupter
    seen: bool = False


class Watch:
    """One thread for an execution environment; it rests while no batch is being run."""

    def __init__(
        self,
        store: StateStore,
        interval_s: float = _INTERVAL_S,
        each_time: Callable[[], object] = lambda: None,
    ) -> None:
        self._store = store
        self._each_time = each_time
        self._interval_s = interval_s
        self._awake = threading.Event()
        self._running: set[Running] = set()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """A batch begins."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="twolane-watch", daemon=True)
            self._thread.start()
        self._awake.set()

    def rest(self) -> None:
        """The batch has ended: the thread asks nothing until the next one."""
        self._awake.clear()

    def begin(self, task_id: str, interrupter: Interrupter) -> Running:
        """A task begins; the answer is for ``end``."""
        running = Running(task_id, interrupter)
        self._running.add(running)
        return running

    def end(self, running: Running) -> None:
        self._running.discard(running)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._awake.wait()
            pause.wait(self._interval_s)
            try:
                with within(LONGEST_S):
                    self.look()
            except Exception:
                # The thread is the environment's: a revoke must reach the batches that follow.
                logger.exception("a look for revoked tasks failed; the next one is due at once")

    def look(self) -> None:
        """One look. The store is asked about a task that runs at the second look already."""
        try:
            self._each_time()
        except StoreUnavailableError as error:
            logger.warning("%s", error)
        lasting: list[Running] = []
        for running in list(self._running):
            if running.seen:
                lasting.append(running)
            running.seen = True
        if not lasting:
            return
        try:
            found = self._store.get_many([revoked_key(one.task_id) for one in lasting])
        except StoreUnavailableError as error:
            logger.warning("%s", error)
            return
        for one in lasting:
            text = found.get(revoked_key(one.task_id))
            if text and read_revocation(text).terminate and one in self._running:
                one.interrupter.interrupt(TaskTerminated)
