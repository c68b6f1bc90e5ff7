"""A lease for each piece of work: never lost, never twice.

SQS and the event source mapping deliver *at least* once. Before a task runs, its environment takes
the lease of the task's id; whoever comes second finds it:

===========  ========================================================================
``running``  another environment is at it; the message goes back until the lease ends
``done``     the work was finished; the message is acknowledged, not run
``rejected`` the task refused the message for good; it goes back untouched, so that
             SQS moves it to the dead-letter queue
===========  ========================================================================

A lease names the delivery that holds it (by a digest of the receipt handle, which is new for each
receive), and each change states the value it expects. So an environment that was frozen, or whose
lease ran out while it worked on, cannot end the lease of the one that took over.

Celery gives one id to more than one piece of work: a retry and a replacement keep their task's id,
a callback that was frozen before it was linked has one id for all that it is linked to. Counts and
parent are part of the key, and so is the task's name: whoever can guess an id and send a task of
another name under it keeps nobody's work from running. And an application may use an id again. So
finished work is in the way of *its own message* for as long as results are kept, but of another
message with the same id only where that came within five minutes: long enough for a publisher that
tried again, or a schedule's second tick; it is the interval in which SQS's FIFO queues know a
message again.

A chord's body has no parent in its key: any task of the header may complete the chord, and two of
them may, each in its own delivery. Such a copy can come hours later (the header's message came
back after its visibility timeout), so it counts as sent when that header task was. The worker that
completes a chord writes this into the body's message, see ``BODY_OF``. A stock worker does not;
there, a body that is a single task is recognised by its place: it carries its chord's id, and no
index in it.

The same holds for whatever a task publishes under an id that it had before it ran: the next step of
a chain, a retry. The task may be killed after it has published, and comes back when its visibility
timeout is over, which may be longer than five minutes: what it then publishes again has the same id
and the same parent, and counts as sent when the task was, see ``ORIGIN``.

How a task's result and the end of its lease come to be stored together.

Redis does both in one script, DynamoDB in one transaction: an environment that dies in between
leaves either no result and a lease that runs out, or both. And an environment that stood still for
so long that its lease ran out and its work passed to another delivery must not say how that work
ended: what it would store is dropped, but for a success while the other one still runs.

What the worker that completes a chord writes into the message of the chord's body.

Two header tasks can complete one chord: one is killed after it has published the body, and another
one that comes again finds the chord complete. Their bodies have different parents, as Celery makes
the running task the parent of what it publishes; the header says that they are one piece of work,
see ``twolane.worker.lease``.

What a task publishes says when that task was sent.

A task that is killed after it has published the next step of its chain publishes it again when it
comes back: ``twolane.worker.lease`` says what that is for.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from celery import signals, states

from twolane.patches.backends import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping

    from twolane.state.store import StateStore

PREFIX = "twolane:lease:"

#: The header of a chord's body: when the header task that completed the chord was sent, in epoch
#: seconds; ``True`` where that is not known.
BODY_OF = "twolane_chord"

#: The header that holds the id of the chord whose body this is: a body that was frozen before it
#: was given to several chords runs for each of them.
CHORD_ID = "twolane_chord_id"

#: The header of what a task publishes: when that task was sent, in epoch seconds.
ORIGIN = "twolane_origin"

#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-messagededuplicationid-property.html
DEDUPLICATION_S = 300.0


#: How far the clocks of two environments may be apart, in seconds.
_MARGIN_S = 1.0


class LeaseState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One receive of one message. ``publish`` stays the same for every copy of the message.

    ``sent_s``: when it was sent, in epoch seconds; for ever where SQS does not say; ``first_s``:
    when it was received for the first time, likewise.
    """

    holder: str
    message: str
    publish: str
    sent_s: float = float("inf")
    first_s: float = float("inf")


#: Made once: ``json.dumps`` makes an encoder at each call that asks for other separators.
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as stored. Times are in epoch seconds; ``text`` is the stored value itself."""

    state: LeaseState
    delivery: Delivery
    since: float
    until: float
    text: str


def lease_key(headers: Mapping[str, Any], task_id: str) -> str:
    """The key of the lease of one run of a task.

    The name is there as a digest of one length: ids and names are other people's, keys are bounded.
    """
    retries = headers.get("retries") or 0
    replaced = headers.get("replaced_task_nesting") or 0
    after = headers.get("parent_id")
    if after and _is_chord_body(headers):
        after = headers.get(CHORD_ID) or headers.get("group")
    key = f"{PREFIX}{task_id}:{_digest(headers.get('task'))}"
    if retries or replaced:
        key += f":{retries}:{replaced}"
    return f"{key}<{after}" if after else key


def prior_key(headers: Mapping[str, Any], task_id: str) -> str | None:
    """The key of the attempt that published this retry; ``None`` for a first attempt.

    The retry of a task without a parent has the task itself for a parent: Celery fills in whatever
    task publishes.
    """
    retries = headers.get("retries") or 0
    if not retries:
        return None
    parent = headers.get("parent_id")
    if retries == 1 and parent == task_id:
        parent = None
    return lease_key({**headers, "retries": retries - 1, "parent_id": parent}, task_id)


def _is_chord_body(headers: Mapping[str, Any]) -> bool:
    if BODY_OF in headers:
        return True
    return bool(headers.get("group")) and headers.get("group_index") is None


@lru_cache(maxsize=1024)
def _digest(name: str | None) -> str:
    return hashlib.blake2b(str(name).encode(errors="replace"), digest_size=6).hexdigest()


def delivery_of(
    receipt_handle: str,
    message_id: str,
    publish: str | None,
    sent_s: float = float("inf"),
    first_s: float = float("inf"),
    *,
    origins: Iterable[object] = (),
) -> Delivery:
    """kombu gives each publish a delivery tag, which copies and redeliveries share.

    ``origins``: what the message has under ``BODY_OF`` and ``ORIGIN``.
    """
    holder = hashlib.blake2b(receipt_handle.encode(), digest_size=9).hexdigest()
    for sent in origins:
        if isinstance(sent, int | float) and not isinstance(sent, bool):
            first_s = min(first_s, sent)
    return Delivery(holder, message_id, publish or message_id, sent_s, first_s)


def read_lease(text: str | None) -> Lease | None:
    if not text:
        return None
    value = json.loads(text)
    delivery = Delivery(value["holder"], value["message"], value["publish"])
    return Lease(LeaseState(value["state"]), delivery, value["since"], value["until"], text)


def write_lease(
    state: LeaseState, delivery: Delivery, *, since: float, until: float, **about: Any
) -> Lease:
    """``about`` is for whoever looks at the store: the worker's name …"""
    value = {
        "state": state,
        "holder": delivery.holder,
        "message": delivery.message,
        "publish": delivery.publish,
        "since": since,
        "until": until,
        **about,
    }
    return Lease(state, delivery, since, until, _ENCODE(value))


class Leases:
    """Takes and ends leases. Every method raises ``StoreUnavailableError`` with the store down."""

    def __init__(self, store: StateStore, clock: Callable[[], float], keep_s: float) -> None:
        self._store = store
        self._clock = clock
        self.keep_s = keep_s

    @property
    def beside_results(self) -> bool:
        """Whether one command can store a result and end a lease."""
        return getattr(self._store, "beside_results", False)

    def obstacle(
        self, seen: Lease | None, delivery: Delivery, *, only_running: bool = False
    ) -> Lease | None:
        """The lease, if it stands in this delivery's way.

        A refused message that was redriven from its dead-letter queue is to run again. SQS makes a
        new message of it, with a new id, sent when it is redriven; a copy that a publisher sent for
        want of an answer was sent before anything was refused:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
        """
        if seen is None or (only_running and seen.state is not LeaseState.RUNNING):
            return None
        if seen.state is LeaseState.REJECTED:
            same = seen.delivery.message == delivery.message
            stands = same or delivery.sent_s <= seen.since
        elif seen.state is LeaseState.RUNNING:
            stands = seen.delivery.holder != delivery.holder and seen.until > self._clock()
        else:
            same = seen.delivery.publish == delivery.publish
            # What was a copy when it came first is one whenever it comes again.
            came = min(self._clock(), delivery.first_s)
            stands = same or seen.since > came - DEDUPLICATION_S
        return seen if stands else None

    def take(self, key: str, seen: Lease | None, wanted: Lease) -> Lease | None:
        """Put ``wanted`` in the place of ``seen``; ``None`` on success, else what stands there."""
        ttl_s = max(1.0, wanted.until - self._clock())
        stood = self._store.swap(key, seen.text if seen else None, wanted.text, ttl_s=ttl_s)
        if stood is None:
            return None
        found = read_lease(stood)
        if found is None or self.obstacle(found, wanted.delivery) is None:
            # What was seen is gone, or has run out since: one more try, on what is there now.
            stood = self._store.swap(key, found.text if found else None, wanted.text, ttl_s=ttl_s)
            return None if stood is None else read_lease(stood) or wanted
        return found

    def end_unheld(self, key: str, delivery: Delivery) -> None:
        """Record that work is done that nobody holds; one that is held by now stays as it is."""
        now = self._clock()
        done = write_lease(LeaseState.DONE, delivery, since=now, until=now + self.keep_s)
        self._store.swap(key, None, done.text, ttl_s=self.keep_s)

    def end(self, key: str, held: Lease, state: LeaseState) -> bool:
        """Record how the work ended; ``False`` where the lease has passed to another delivery."""
        now = self._clock()
        ended = self.ended(held, state)
        if now < held.until - _MARGIN_S:
            # Nobody else can have taken it before its end: no condition is needed.
            self._store.put(key, ended.text, ttl_s=self.keep_s)
            return True
        stood = self._store.swap(key, held.text, ended.text, ttl_s=self.keep_s)
        if stood == "":  # it ran out, and nobody took it: what was done shall not be done again
            stood = self._store.swap(key, None, ended.text, ttl_s=self.keep_s)
        return stood is None

    def ended(self, held: Lease, state: LeaseState) -> Lease:
        """The lease as it is stored once the work has ended."""
        now = self._clock()
        return write_lease(state, held.delivery, since=now, until=now + self.keep_s)

    def release(self, key: str, held: Lease) -> None:
        """Give the lease back: the work shall run again."""
        self._store.delete(key, expected=held.text)


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


def with_marked_body(request: Any, sent_s: float | None) -> Any:
    """The header task's request as it was, but for the body that it is to publish.

    ``sent_s``: when the header task was sent. Of a body that is a group, a chain or a chord, Celery
    gives the header to whatever is published at once; the rest has ids and parents of its own.
    """
    chord = getattr(request, "chord", None)
    if not isinstance(chord, dict):
        return request
    options = dict(chord.get("options") or {})
    sent = sent_s if sent_s is not None and math.isfinite(sent_s) else True
    options["headers"] = {
        **(options.get("headers") or {}), BODY_OF: sent, CHORD_ID: request.group,
    }  # fmt: skip
    marked = copy.copy(request)
    marked.chord = {**chord, "options": options}
    return marked


def mark_origins() -> None:
    """Idempotent."""
    signals.before_task_publish.connect(_mark, weak=False, dispatch_uid="twolane.origins")


def _mark(headers: MutableMapping[str, Any] | None = None, **_: Any) -> None:
    sent = sent_s()
    if headers is not None and sent is not None and math.isfinite(sent):
        headers.setdefault(ORIGIN, sent)
