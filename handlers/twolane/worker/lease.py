"""The lease of a piece of work, and how it ends together with the task's result.

SQS and the event source mapping deliver *at least* once. Before a task runs, its environment takes
the lease of the task's id. A second delivery finds the lease in one of three states:

===========  ========================================================================
``running``  another environment runs the task; the message goes back until the lease ends
``done``     the work was finished; the message is acknowledged, not run
``rejected`` the task refused the message for good; it goes back untouched, so that
             SQS moves it to the dead-letter queue
===========  ========================================================================

**Holder.** A lease names the delivery that holds it (by a digest of the receipt handle, which is
new for each receive), and each change states the value that it expects. So an environment that was
frozen, or whose lease ran out while it worked, cannot end the lease of its successor.

**Key.** Celery gives one id to more than one piece of work: a retry and a replacement keep their
task's id, and a callback that was frozen before it was linked has one id for all the tasks that it
is linked to. So the number of retries and of replacements and the parent are part of the key. The
task's name is, too: a message that uses another task's id does not keep that task from running.

**Copies.** An application may use an id again. Finished work therefore stops *its own message* for
as long as results are kept, but another message with the same id only within five minutes: long
enough for a publisher that tried again, or for a schedule's second tick, and the interval in which
SQS's FIFO queues recognise a message. Two kinds of copies come later than that. They count as sent
when the task was sent that published them:

- A chord's body. Two header tasks can complete one chord: one is killed after it has published the
  body, and another one that comes again finds the chord complete. The bodies have different
  parents, so a body has no parent in its key. The worker that completes a chord marks the body's
  message, see ``BODY_OF``. A stock worker does not; a body that is a single task is then recognised
  by its place: it carries its chord's id, and no index in it.
- The next step of a chain, or a retry. A task that is killed after it has published comes back when
  its visibility timeout is over, and publishes again, with the same id and the same parent. Each
  published message says when its task was sent, see ``ORIGIN``.

**Result.** ``LeaseFence`` is the lease of a running task. It travels with the task's request: the
worker puts it there under ``FENCE``, and Celery passes the request to the result backend with every
state of the task. (``store_result`` has no other argument that Celery fills in.) ``FencedResults``
writes a result only while the fence stands, and the last result and the end of the lease as one
write: a script on Redis, a transaction on DynamoDB. An environment that dies in between leaves
either no result and a lease that runs out, or both. An environment that stood still until its work
had passed to another delivery does not overwrite that delivery's result, except with a success
while the other one still runs.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from celery import states
from celery._state import get_current_worker_task
from kombu.exceptions import KombuError
from kombu.utils.encoding import bytes_to_str

from twolane.errors import StoreUnavailableError
from twolane.patches.clients import FENCE, guard
from twolane.patches.versions import acks_on_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence

    from twolane.state.store import StateStore

logger = logging.getLogger("twolane.worker")

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
    """One receive of one message. ``publish`` is the same for every copy of it; ``sent_s`` and
    ``first_s``: when it was sent and first received, in epoch seconds, infinite if SQS does not
    say.
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
    """The key of a run's lease, with a digest of the name: a key's length is bounded."""
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
    """The key of the attempt that published this retry, if any. The retry of a task without a
    parent has the task itself for one: Celery fills in the task that publishes.
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
    """The delivery that a record is. ``publish``: kombu's delivery tag, which copies and
    redeliveries share; ``origins``: the message's headers ``BODY_OF`` and ``ORIGIN``.
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
    """``about`` is for people who look at the store: the worker's name, for one."""
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
    """Takes and ends leases. Every method raises ``StoreUnavailableError`` with the store down.

    ``keep_s`` is how long finished work is remembered.
    """

    def __init__(self, store: StateStore, clock: Callable[[], float], keep_s: float) -> None:
        self._store = store
        self.clock = clock
        self.keep_s = keep_s

    @property
    def beside_results(self) -> bool:
        """True if one command can store a result and end a lease."""
        return getattr(self._store, "beside_results", False)

    def obstacle(
        self, seen: Lease | None, delivery: Delivery, *, only_running: bool = False
    ) -> Lease | None:
        """The lease, if it keeps this delivery from running.

        A refused message that was redriven from its dead-letter queue runs again. SQS makes a new
        message of it, with a new id, sent when it is redriven; a copy that a publisher sent because
        it got no answer was sent before anything was refused:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
        """
        if seen is None or (only_running and seen.state is not LeaseState.RUNNING):
            return None
        if seen.state is LeaseState.REJECTED:
            same = seen.delivery.message == delivery.message
            stands = same or delivery.sent_s <= seen.since
        elif seen.state is LeaseState.RUNNING:
            stands = seen.delivery.holder != delivery.holder and seen.until > self.clock()
        else:
            same = seen.delivery.publish == delivery.publish
            # A message that was a copy when it came first is one whenever it comes again.
            came = min(self.clock(), delivery.first_s)
            stands = same or seen.since > came - DEDUPLICATION_S
        return seen if stands else None

    def take(self, key: str, seen: Lease | None, wanted: Lease) -> Lease | None:
        """Put ``wanted`` in the place of ``seen``; ``None`` on success, else the lease there."""
        ttl_s = max(1.0, wanted.until - self.clock())
        stood = self._store.swap(key, seen.text if seen else None, wanted.text, ttl_s=ttl_s)
        if stood is None:
            return None
        found = read_lease(stood)
        if found is None or self.obstacle(found, wanted.delivery) is None:
            # The one that was seen is gone, or has run out since: one more try, on this one.
            stood = self._store.swap(key, found.text if found else None, wanted.text, ttl_s=ttl_s)
            return None if stood is None else read_lease(stood) or wanted
        return found

    def hold(
        self, task_id: str, key: str, seen: Lease | None, delivery: Delivery, *, for_s: float,
        worker: str,
    ) -> LeaseFence | Lease:  # fmt: skip
        """Take the lease of a task that is to run; the answer is its fence, or the obstacle."""
        now = self.clock()
        wanted = write_lease(
            LeaseState.RUNNING, delivery, since=now, until=now + for_s, worker=worker
        )
        stood = self.take(key, seen, wanted)
        return LeaseFence(task_id, key, wanted, self) if stood is None else stood

    def hold_many(
        self, wanted: Sequence[tuple[str, str, Delivery]], *, for_s: float, worker: str,
        side_by_side: bool = False,
    ) -> list[LeaseFence | None]:  # fmt: skip
        """Take leases that nobody has, of (task id, key, delivery), in one round trip, or in round
        trips ``side_by_side``. ``None``: this one is not taken, and ``hold`` says why.
        """
        now = self.clock()
        running = [
            write_lease(LeaseState.RUNNING, delivery, since=now, until=now + for_s, worker=worker)
            for _, _, delivery in wanted
        ]
        values = {key: lease.text for (_, key, _), lease in zip(wanted, running, strict=True)}
        written = self._store.add_many(values, ttl_s=max(1.0, for_s), side_by_side=side_by_side)
        return [
            LeaseFence(task_id, key, lease, self) if key in written else None
            for (task_id, key, _), lease in zip(wanted, running, strict=True)
        ]

    def end_unheld(self, key: str, delivery: Delivery) -> None:
        """Record that work is done, unless a delivery holds its lease by now."""
        now = self.clock()
        done = write_lease(LeaseState.DONE, delivery, since=now, until=now + self.keep_s)
        self._store.swap(key, None, done.text, ttl_s=self.keep_s)

    def end(self, key: str, held: Lease, state: LeaseState) -> bool:
        """Record how the work ended; ``False`` where the lease has passed to another delivery."""
        now = self.clock()
        ended = self.ended(held, state)
        if now < held.until - _MARGIN_S:
            # No other delivery can have taken it before its end: no condition is needed.
            self._store.put(key, ended.text, ttl_s=self.keep_s)
            return True
        stood = self._store.swap(key, held.text, ended.text, ttl_s=self.keep_s)
        if stood == "":  # it ran out, and nobody took it: the work shall not be done again
            stood = self._store.swap(key, None, ended.text, ttl_s=self.keep_s)
        return stood is None

    def ended(self, held: Lease, state: LeaseState) -> Lease:
        """The lease as it is stored once the work has ended."""
        now = self.clock()
        return write_lease(state, held.delivery, since=now, until=now + self.keep_s)

    def release(self, key: str, held: Lease) -> None:
        """Give the lease back: the work shall run again."""
        self._store.delete(key, expected=held.text)

    def release_many(self, held: Mapping[str, Lease]) -> None:
        """Give leases back, by their keys, in one round trip where ``hold_many`` took them so."""
        self._store.delete_many({key: lease.text for key, lease in held.items()})


@dataclass(eq=False, slots=True)
class LeaseFence:
    """The lease of a task from the start of its run to the end of its message. ``ended``: as it was
    stored with a result; ``passed``: another delivery has the work, and the lease; ``written``: the
    encoded state that was stored last for a task that goes on, which the next write mostly finds.
    """

    task_id: str
    key: str
    held: Lease
    leases: Leases
    ended: Lease | None = None
    passed: bool = False
    written: str | bytes | None = None

    def __repr__(self) -> str:
        return f"<lease of {self.task_id}>"

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        # An application may copy or pickle a task's request; the lease is not part of it.
        return _nothing, ()

    def may_have_run_out(self) -> bool:
        """True if another delivery can have taken the lease by now."""
        return self.leases.clock() >= self.held.until - _MARGIN_S

    def is_mine(self, there: Lease | None) -> bool:
        """True if the stored lease is this delivery's, in whatever state."""
        return there is not None and there.delivery.holder == self.held.delivery.holder

    def has_passed(self, there: Lease | None, state: str, stored: str | None) -> bool:
        """True if another delivery has the work, by the lease ``there`` and ``stored``, a state."""
        if there is None:
            # Nobody holds it, but the other delivery may have been revoked, which needs no lease.
            return self.may_have_run_out() and stored in states.READY_STATES
        if there.text == self.held.text:
            return False
        return state != states.SUCCESS or there.state is not LeaseState.RUNNING

    def drop(self, state: str) -> None:
        """Log that this state is not stored, as another delivery has the work."""
        # A header whose chord is still to count it would be taken for done.
        self.passed = state in states.READY_STATES
        logger.warning(
            "the lease ran out while the task was held up, and its work has passed to another "
            "delivery, which says how it ended; the result for %s is dropped", self.task_id,
        )  # fmt: skip

    def mark(self, headers: MutableMapping[str, Any]) -> None:
        """Write into the headers of a published message when this task was sent."""
        sent = self.held.delivery.sent_s
        if math.isfinite(sent):
            headers.setdefault(ORIGIN, sent)

    def end(self, state: LeaseState | None) -> None:
        """End it; ``None``: the work is to run again. Raises ``StoreUnavailableError``."""
        lease = self.ended or self.held
        if self.passed:
            return  # it is the other delivery's to end
        if state is None:
            self.leases.release(self.key, lease)
        elif state is LeaseState.REJECTED or lease.state is LeaseState.RUNNING:
            self.leases.end(self.key, lease, state)


def _nothing() -> None:
    """Return what a fence is in a copy of its task's request."""


def fence_of(request: Any, task_id: str) -> LeaseFence | None:
    """The fence of a task's request, if it is this task's. An application may store a state without
    a request, or with its own; as Celery does, this then looks at the current task.
    """
    fence: LeaseFence | None = getattr(request, FENCE, None)
    if fence is None and (task := get_current_worker_task()) is not None:
        fence = getattr(task.request, FENCE, None)
    return fence if fence is not None and fence.task_id == task_id else None


#: The state that another one leaves as it is, beside a success: a revoked body of a chord does not
#: fail when its header does, and a revoke that comes as a task fails does not take that back.
_LEAVES = {states.FAILURE: states.REVOKED, states.REVOKED: states.FAILURE}


def stays(stored: str | None, state: str) -> bool:
    """True if the stored state stays when this one is to be stored."""
    return stored in {states.SUCCESS, _LEAVES.get(state, states.SUCCESS)}


#: Each loss means that another process has written: so many in a row are not an accident.
_TRIES = 10

_Mixin: Any = object


class Stored(NamedTuple):
    """A result as it is stored, encoded, and the lease beside it."""

    result: str | bytes | None
    lease: Lease | None


class Change(NamedTuple):
    """One write of a result in the place of the one that was seen, and no other: only while the
    lease of ``fence`` is ``expected``, or gone. ``ended``: write this lease with the result.
    """

    key: Any
    value: str | bytes
    state: str
    seen: str | bytes | None
    fence: LeaseFence | None = None
    expected: Lease | None = None
    ended: Lease | None = None


class FencedResults(_Mixin):  # type: ignore[misc]
    """Stands before one of Celery's backends and writes each state behind the task's fence."""

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
        ends = None if request and request.chord else LeaseState.DONE
        if store_result and not (request and request.ignore_result):
            self.store_result(task_id, result, state, request=request, ends=ends)
        super().mark_as_done(task_id, result, request, False, state)

    def mark_as_retry(  # noqa: PLR0917 - Celery's own order
        self, task_id: str, exc: BaseException, traceback: Any = None, request: Any = None,
        store_result: bool = True, state: str = states.RETRY,  # noqa: ARG002 - as Celery's
    ) -> Any:  # fmt: skip
        # Nothing comes after it: Celery has published the retry before it says so.
        return self.store_result(
            task_id, exc, state, traceback=traceback, request=request, ends=LeaseState.DONE
        )

    def mark_as_failure(  # noqa: PLR0917 - Celery's own order
        self, task_id: str, exc: BaseException, traceback: Any = None, request: Any = None,
        store_result: bool = True, call_errbacks: bool = True, state: str = states.FAILURE,
    ) -> None:  # fmt: skip
        if self._has_passed_on(task_id, state, request):
            return  # nor are errbacks called, nor is a chord counted
        # What comes of a failure comes after it is stored, and must not be lost with a crash.
        # The request of an unknown task is a bunch of a few fields.
        alone = request and not any(
            getattr(request, after, None) for after in ("chord", "chain", "errbacks")
        )
        if alone and store_result:
            # Done if Celery acknowledges the failed message, rejected if it refuses it.
            task = self.app.tasks.get(getattr(request, "task", None))
            rejects = task is not None and task.acks_late and not acks_on_failure(task)
            ends = LeaseState.REJECTED if rejects else LeaseState.DONE
            self.store_result(task_id, exc, state, traceback=traceback, request=request, ends=ends)
            store_result = False
        super().mark_as_failure(
            task_id, exc, traceback, request, store_result, call_errbacks, state
        )

    def _has_passed_on(self, task_id: str, state: str, request: Any) -> bool:
        """True if another delivery has the running task's work; a dropped state is logged."""
        fence = self._open_fence(fence_of(request, task_id))
        if fence is None or not fence.may_have_run_out():
            return False
        there = self._look(self.get_key_for_task(task_id), fence)
        if fence.is_mine(there.lease):
            return False
        passed = fence.has_passed(there.lease, state, self._state_of(there.result))
        if passed:
            fence.drop(state)
        return passed

    def _open_fence(self, fence: LeaseFence | None) -> LeaseFence | None:
        """The fence, if its lease is beside the results and has not ended yet."""
        stands = fence is not None and fence.ended is None and fence.leases.beside_results
        return fence if stands else None

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        *,
        ends: LeaseState | None = None,
        **kwargs: Any,
    ) -> Any:
        meta = self._get_result_meta(
            result=result, state=state, traceback=traceback, request=request
        )
        meta["task_id"] = bytes_to_str(task_id)
        value = self._fitted(self.encode(meta))
        if value is None:  # Celery's backend refuses it, in its own words
            return super()._store_result(task_id, result, state, traceback, request, **kwargs)
        self._store_fenced(task_id, value, state, request, ends)
        return result

    def _fitted(self, value: str | bytes) -> str | bytes | None:
        """The encoded result as it may be stored; ``None``: it is too big."""
        raise NotImplementedError

    def _store_fenced(
        self, task_id: str, value: str | bytes, state: str, request: Any, ends: LeaseState | None
    ) -> None:
        """Write until no other write came in between, or until the stored state forbids it.

        ``ends``: the lease ends with this write, in this state. Raises ``StoreUnavailableError``.
        """
        key = self.get_key_for_task(task_id)
        mine = fence_of(request, task_id)
        fence = self._open_fence(mine)
        there = self._look(key, fence) if fence is not None and fence.may_have_run_out() else None
        seen = mine.written if mine is not None else None
        for _ in range(_TRIES):
            expected = fence.held if fence is not None else None
            if there is not None:
                if self._stands(there, state, fence):
                    return
                seen = there.result
                if fence is not None and there.lease is not None:
                    expected = there.lease
            ended = None
            # A success is stored while another delivery runs; that one's lease is left alone.
            holds = fence is not None and expected is not None and expected.text == fence.held.text
            if fence is not None and holds and ends is not None:
                ended = fence.leases.ended(fence.held, ends)
            there = self._write(Change(key, value, state, seen, fence, expected, ended))
            if there is None:
                if mine is not None:
                    mine.written = None if state in states.READY_STATES else value
                    mine.ended = mine.ended or ended
                return
        raise StoreUnavailableError(
            f"the result of {task_id} changed {_TRIES} times while it was to be stored; the "
            "message will be delivered again"
        )

    def _stands(self, there: Stored, state: str, fence: LeaseFence | None) -> bool:
        """True if the stored result stays."""
        stored = self._state_of(there.result)
        if fence is not None and (
            fence.is_mine(there.lease)
            and getattr(there.lease, "state", None) is not LeaseState.RUNNING
        ):
            fence.ended = there.lease  # it was written before, and the answer was lost
            return True
        if fence is not None and fence.has_passed(there.lease, state, stored):
            fence.drop(state)
            return True
        return stays(stored, state)

    def _state_of(self, result: str | bytes | None) -> str | None:
        """The state in a stored result; ``None`` for a text that this backend cannot decode."""
        try:
            meta = self.decode(result) if result else None
        except KombuError:
            return None
        return meta.get("status") if isinstance(meta, dict) else None

    def _look(self, key: Any, fence: LeaseFence) -> Stored:
        """Read a result and the lease of the fence."""
        raise NotImplementedError

    def _write(self, change: Change) -> Stored | None:
        """Make a change; ``None``, or the stored result and lease if they are not as expected."""
        raise NotImplementedError

    def _fail_chain(self, *args: Any, **options: Any) -> None:
        # Celery takes a failed member of a chord for one that was counted. It may have been killed
        # in between; counting it twice counts it once.
        stock: Any = super()._fail_chain
        stock.__func__(_Uncounted(self), *args, **options)


class _Uncounted:
    """A backend that knows no state, so that Celery counts each failed member of a chord."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def get_state(self, task_id: str) -> str:  # noqa: ARG002 - Celery's signature
        return states.PENDING


def with_marked_body(request: Any) -> Any:
    """A copy of a header task's request that marks its chord's body as such, with when the header
    task was sent. Of a group, a chain or a chord, Celery gives the headers to the tasks that it
    publishes at once; the rest has ids and parents of its own.
    """
    chord = getattr(request, "chord", None)
    if not isinstance(chord, dict):
        return request
    fence: LeaseFence | None = getattr(request, FENCE, None)
    sent_s = fence.held.delivery.sent_s if fence is not None else math.inf
    options = dict(chord.get("options") or {})
    options["headers"] = {
        **(options.get("headers") or {}),
        BODY_OF: sent_s if math.isfinite(sent_s) else True,
        CHORD_ID: request.group,
    }
    marked = copy.copy(request)
    marked.chord = {**chord, "options": options}
    return marked
