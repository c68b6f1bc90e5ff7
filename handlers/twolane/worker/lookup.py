"""The look-up at the start of a batch: leases and revocations, in the store or without one.

**Look-up.** ``Lookup`` asks the store once for the leases and the revocations of all records that
are still to run. Leases recognise a second copy of a message, whichever environment receives it;
they need a store. Without one, ``Finished`` recognises at least what this environment has finished
itself: if the answer to a publish was lost, both copies mostly come in one batch or the next.

**Revocation.** ``app.control.revoke`` writes revoked tasks to the store, a worker reads them there.
Celery broadcasts a revoke to live workers, which keep it in memory. Between invocations no worker
is alive to hear it, so the store keeps it, for as long as Celery's workers would (three hours), or
the longest time a message stays on a queue if that is longer. With ``terminate=True`` a stock
worker kills the pool's process. Here ``Watch`` is one thread that asks the store twice a second
about each task that has run for half a second, and interrupts it.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from celery.worker import state as worker_state

from twolane.environment.invocation import LONGEST_S, within
from twolane.errors import StoreUnavailableError
from twolane.state.store import NameList
from twolane.worker.lease import Lease, read_lease
from twolane.worker.limits import TaskTerminated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twolane.state.store import StateStore
    from twolane.worker.limits import Interrupter

    Each = Callable[[float, Callable[[], object]], Callable[[], object]]
    from collections.abc import Callable, Sequence

    from twolane.worker.records import Run


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
    """Looks at the store while a batch runs: on a thread of its own, the environment's only one,
    which rests between batches; or as ``each`` has it, see ``twolane.worker.limits.Waits``.
    """

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
        self._stop: Callable[[], object] | None = None

    def wake(self, each: Each | None = None) -> None:
        """A batch begins."""
        if each is not None:
            self._stop = each(self._interval_s, self.look)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="twolane-watch", daemon=True)
            self._thread.start()
        self._awake.set()

    def rest(self) -> None:
        """The batch has ended: nothing is asked until the next one."""
        self._awake.clear()
        if self._stop is not None:
            self._stop()
            self._stop = None

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


#: A batch that takes longer than this asks again: a task may have been revoked meanwhile.
_FRESH_S = 1.0


class Lookup:
    """The store's knowledge of the records that are still to run, kept for a second."""

    def __init__(self, store: StateStore | None, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._found: dict[str, str] = {}
        self._at = -math.inf

    def begin(self, runs: Sequence[Run]) -> None:
        """Forget the last batch and ask for this one."""
        self._at = -math.inf
        self.refresh(runs)

    @property
    def is_fresh(self) -> bool:
        """True if the answer is not old yet."""
        return self._store is None or self._clock() - self._at < _FRESH_S

    def refresh(self, runs: Sequence[Run], start: int = 0) -> None:
        """Ask again for the rest, if the answer is old. Raises ``StoreUnavailableError``."""
        now = self._clock()
        if self._store is None or now - self._at < _FRESH_S:
            return
        stamps: dict[str, tuple[str, Any]] = {}
        revocable: dict[str, str] = {}
        keys: list[str] = []
        for run in runs[start:]:
            if run.facts is not None:
                revocable[revoked_key(run.facts.task_id)] = run.facts.task_id
                stamps |= stamp_keys(run.facts.stamps)
                keys += [key for key in (run.lease_key, run.prior_key) if key]
        self._found = self._store.get_many([*keys, *revocable, *stamps]) if keys else {}
        self._at = now
        worker_state.revoked.update(
            task_id for key, task_id in revocable.items() if key in self._found
        )
        # Tell Celery's request which stamps are revoked, where a stock worker keeps them.
        known: dict[str, Any] = worker_state.revoked_stamps
        for header, value in [pair for key, pair in stamps.items() if key in self._found]:
            values = known.setdefault(header, [])
            if value not in values:
                values.append(value)

    def store_at_hand(self) -> AbstractContextManager[None]:
        """For the batch, a store that keeps its connection where it can."""
        at_hand = getattr(self._store, "at_hand", nullcontext)
        return cast("AbstractContextManager[None]", at_hand())

    def lease(self, run: Run) -> Lease | None:
        return read_lease(self._found.get(run.lease_key or ""))

    def prior_lease(self, run: Run) -> Lease | None:
        return read_lease(self._found.get(run.prior_key or ""))


#: How many are remembered at least, and half of how many at most.
_REMEMBERED = 1000

#: After any other end of its task a message that comes again is to run again.
_FINISHED = frozenset({"succeeded", "retried", "ignored"})


class Finished:
    """Publishes whose task has ended here, by the tag that all copies of a message share."""

    def __init__(self) -> None:
        # Two generations: to forget all of the older one at once is cheaper than the oldest each.
        self._new: set[tuple[str | None, str]] = set()
        self._old: set[tuple[str | None, str]] = set()

    def __contains__(self, run: Run) -> bool:
        key = run.publish_key
        return key in self._new or key in self._old

    def remember(self, run: Run) -> None:
        """Remember a run whose message is acknowledged, if its task has finished."""
        if run.end is None or run.end.how not in _FINISHED:
            return
        if len(self._new) >= _REMEMBERED:
            self._old, self._new = self._new, set()
        self._new.add(run.publish_key)
