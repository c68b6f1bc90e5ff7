"""How a task's result and the end of its lease come to be stored together.

Redis does both in one script, DynamoDB in one transaction: an environment that dies in between
leaves either no result and a lease that runs out, or both. And an environment that stood still for
so long that its lease ran out and its work passed to another delivery must not say how that work
ended: what it would store is dropped, but for a success while the other one still runs.
"""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery import states

from twolane.worker.lease import LeaseState, write_lease
from twolane.worker.outage import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane.worker.lease import Lease

logger = logging.getLogger("twolane.worker")

_Mixin: Any = object


@dataclass(frozen=True, slots=True)
class Ahead:
    """A lease for the record that starts as soon as the running task has ended."""

    key: str
    wanted: Lease
    ttl_s: float


@dataclass(eq=False, slots=True)
class Ending:
    """How the lease of the running task is to end if its success or failure is stored."""

    task_id: str
    key: str
    held: Lease
    finish: Callable[[], Lease]
    keep_s: float
    ended: Lease | None = None
    #: Asked as the result is stored: the lease that is to be taken with it, if any; and the answer.
    following: Callable[[], Ahead | None] = lambda: None
    taken: Ahead | None = None
    #: How it ended is not to be said: another delivery has the work, which may have more to do.
    passed: bool = False

    def drop(self, state: str, what: str) -> None:
        """Another delivery has the work: say that this state was not stored."""
        self.passed = state in states.READY_STATES
        tell_dropped(what)

    def last(self, state: LeaseState) -> Lease:
        """The lease as it is to be stored, ended in this state."""
        lease = self.finish()
        if lease.state is state:
            return lease
        return write_lease(state, lease.delivery, since=lease.since, until=lease.until)


#: What a state leaves as it is, beside a success: a revoked chord's body does not fail as well when
#: its header does, and who revokes a task as it fails does not take the failure back.
LEAVES = {states.FAILURE: states.REVOKED, states.REVOKED: states.FAILURE}

#: The running task's, where its lease and its result are in the same database.
ending: ContextVar[Ending | None] = ContextVar("twolane_ending", default=None)


class EndsLeases(_Mixin):  # type: ignore[misc]
    """Before one of Celery's backends: says which result ends a lease, and in which state."""

    #: What ends as the result at hand is stored.
    _riding: Ending | None = None
    _ends_in = LeaseState.DONE
    _counts_again = False
    #: Of the chord that is counted: which alarms had struck before.
    _struck = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        guard(self)

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        # A header's work has ended only when its chord has counted it, which comes after.
        self._riding = None if request and request.chord else running(task_id)
        try:
            super().mark_as_done(task_id, result, request, store_result, state)
        finally:
            self._riding = None

    def mark_as_retry(self, task_id: str, *args: Any, **options: Any) -> None:
        # Nothing comes after it: Celery has published the retry before it says so.
        self._riding = running(task_id)
        try:
            super().mark_as_retry(task_id, *args, **options)
        finally:
            self._riding = None

    def mark_as_failure(  # noqa: PLR0917 - Celery's own order
        self, task_id: str, exc: BaseException, traceback: Any = None, request: Any = None,
        store_result: bool = True, call_errbacks: bool = True, state: str = states.FAILURE,
    ) -> None:  # fmt: skip
        if self._passed_on(task_id, state):
            return  # nor are errbacks called, nor is a chord told
        # What comes of a failure comes after it is stored, and must not be lost with a crash.
        # The request of a task that nobody knows is a bunch of a few fields.
        alone = request and not any(
            getattr(request, after, None) for after in ("chord", "chain", "errbacks")
        )
        one = running(task_id)
        # A retry's handler that fails makes a failure of it, after its lease has ended.
        self._riding = one if alone and one is not None and one.ended is None else None
        self._ends_in = self._after_failure(request) if alone else LeaseState.DONE
        try:
            super().mark_as_failure(
                task_id, exc, traceback, request, store_result, call_errbacks, state
            )
        finally:
            self._riding, self._ends_in = None, LeaseState.DONE

    def _passed_on(self, task_id: str, state: str) -> bool:
        """Whether another delivery has the running task's work now, and this is not to be said."""
        one = running(task_id)
        if one is None or one.ended is not None or time.time() < one.held.until - 1:
            return False  # nobody else can have taken it
        lease = self._stored_lease(one)
        if lease is not None and lease.delivery.holder == one.held.delivery.holder:
            return False
        stored = self._stored_state(task_id) if lease is None else None
        passed = has_passed(one, lease, state, stored, time.time())
        if passed:
            one.drop(state, task_id)
        return passed

    def _stored_state(self, task_id: str) -> str | None:
        """The state that is stored of a task."""
        raise NotImplementedError

    def _stored_lease(self, one: Ending) -> Lease | None:
        """A running task's lease as it is stored."""
        raise NotImplementedError

    def _fail_chain(self, *args: Any, **options: Any) -> None:
        # Celery takes a failed member of a chord for one that was counted. It may have been killed
        # in between; counting it twice counts it once.
        self._counts_again = True
        try:
            super()._fail_chain(*args, **options)
        finally:
            self._counts_again = False

    def get_state(self, task_id: str) -> Any:
        return states.PENDING if self._counts_again else super().get_state(task_id)

    def _after_failure(self, request: Any) -> LeaseState:
        """Whether Celery acknowledges the failed message, or rejects it for good."""
        task = self.app.tasks.get(getattr(request, "task", None))
        rejects = task is not None and task.acks_late and not task.acks_on_failure
        return LeaseState.REJECTED if rejects else LeaseState.DONE


def running(task_id: str) -> Ending | None:
    """The running task's, if it is this one."""
    one = ending.get()
    return one if one is not None and one.task_id == task_id else None


def sent_s() -> float | None:
    """When the running task's message was sent, if that is known."""
    one = ending.get()
    return one.held.delivery.sent_s if one is not None else None


def has_passed(
    one: Ending, there: Lease | None, state: str, stored: str | None, now: float
) -> bool:
    """Whether another delivery has the work now, and this state is not to be said.

    ``there``: the lease as it stands; ``stored``: the state that the stored result gives.
    """
    if there is None:
        # Nobody holds it, but the other delivery may have been revoked, which needs no lease.
        return now >= one.held.until - 1 and stored in states.READY_STATES
    if there.text == one.held.text:
        return False
    return state != states.SUCCESS or there.state is not LeaseState.RUNNING


def stays(stored: str | None, state: str) -> bool:
    """Whether what is stored stays as it is when this state is to be stored."""
    return stored in {states.SUCCESS, LEAVES.get(state, states.SUCCESS)}


def tell_dropped(what: str) -> None:
    logger.warning(
        "the lease ran out while the task was held up, and its work has passed to another "
        "delivery, which says how it ended; the result for %s is dropped", what,
    )  # fmt: skip
