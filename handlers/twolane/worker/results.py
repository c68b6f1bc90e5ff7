"""Celery's Redis result backend, with a task's result and the end of its lease in one round trip.

Celery reads what is stored (a success is never overwritten), writes, and publishes: two round
trips, and the end of the lease would be a third. One script does it all, atomically: an environment
that dies in between leaves either no result and a lease that runs out, or both. Result format,
channel, expiry and retries are Celery's.

An environment that stood still for so long that its lease ran out and its work passed to another
delivery must not say how that work ended: what it would store is dropped, but for a success while
the other one still runs.
"""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends import redis
from kombu.utils.encoding import bytes_to_str

from twolane.state.line import run
from twolane.state.redis import key_prefix
from twolane.worker.lease import LeaseState, read_lease, write_lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane.worker.lease import Lease

#: celery-types leaves out what is overridden below.
_CeleryBackend: Any = redis.RedisBackend

# ARGV: the result, its seconds to live (0: for ever), then the lease as held and as ended, its
# milliseconds to live, whether this is a success, and whether results are JSON that can be looked
# into, whether it is a failure; then the lease of the batch's next record and its milliseconds, if
# it is to be taken as well. Returns what is stored already; 1 for a lease that was ended, 2 for one
# that is gone, 3 for the failure of what was revoked; and 1 for a next lease that was taken.
_STORE = """
local live = redis.call('GET', KEYS[1])
local lease = KEYS[2] and redis.call('GET', KEYS[2])
local passed = lease and lease ~= ARGV[3]
if passed and not (ARGV[6] == '1' and string.find(lease, '"state":"running"', 1, true)) then
  return {live, 2, 0}
end
if live and ARGV[8] == '1' and string.find(live, '"status": "REVOKED"', 1, true) then
  return {live, 3, 0}
end
if live and (ARGV[7] ~= '1' or string.find(live, '"status": "SUCCESS"', 1, true)) then
  return {live, 0, 0}
end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1]) end
redis.call('PUBLISH', KEYS[1], ARGV[1])
if KEYS[2] and not passed then
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
  local ahead = KEYS[3] and redis.call('SET', KEYS[3], ARGV[9], 'PX', ARGV[10], 'NX')
  return {false, 1, ahead and 1 or 0}
end
return {false, 0, 0}
"""

logger = logging.getLogger("twolane.worker")


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


#: The running task's, where its lease and its result are in the same database.
ending: ContextVar[Ending | None] = ContextVar("twolane_ending", default=None)


class RedisBackend(_CeleryBackend):  # type: ignore[misc]
    """What ``redis://`` and ``rediss://`` open once a ``WorkerHandler`` was made."""

    _riding: Ending | None = None
    _ends_in = LeaseState.DONE
    #: Why something could not be stored.
    _unstored: BaseException | None = None
    _script: Any = None

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        # A header's work has ended only when its chord has counted it, which comes after.
        self._riding = None if request and request.chord else _of(task_id)
        self._unstored = None
        try:
            super().mark_as_done(task_id, result, request, store_result, state)
        finally:
            self._riding = None

    def mark_as_failure(  # noqa: PLR0917 - Celery's own order
        self, task_id: str, exc: BaseException, traceback: Any = None, request: Any = None,
        store_result: bool = True, call_errbacks: bool = True, state: str = states.FAILURE,
    ) -> None:  # fmt: skip
        unstored, self._unstored = self._unstored, None
        if unstored is not None and _same(unstored, exc):
            # Celery takes it for the task's own failure, and would record that as soon as the store
            # answers; but the task has not failed, it may not even have begun.
            raise unstored
        # What comes of a failure comes after it is stored, and must not be lost with a crash.
        # The request of a task that nobody knows is a bunch of a few fields.
        alone = request and not any(
            getattr(request, after, None) for after in ("chord", "chain", "errbacks")
        )
        self._riding = _of(task_id) if alone else None
        self._ends_in = self._after_failure(request) if alone else LeaseState.DONE
        try:
            super().mark_as_failure(
                task_id, exc, traceback, request, store_result, call_errbacks, state
            )
        finally:
            self._riding, self._ends_in = None, LeaseState.DONE

    def _after_failure(self, request: Any) -> LeaseState:
        """Whether Celery acknowledges the failed message, or rejects it for good."""
        task = self.app.tasks.get(getattr(request, "task", None))
        rejects = task is not None and task.acks_late and not task.acks_on_failure_or_timeout
        return LeaseState.REJECTED if rejects else LeaseState.DONE

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        if self._passed_on(task_id, state):
            return result
        meta = self._get_result_meta(
            result=result, state=state, traceback=traceback, request=request
        )
        meta["task_id"] = bytes_to_str(task_id)
        value = self.encode(meta)
        if len(value) > self._MAX_STR_VALUE_SIZE:  # Celery's backend refuses it, in its own words
            return super()._store_result(task_id, result, state, traceback, request, **kwargs)
        key = self.get_key_for_task(task_id)
        expires = self.failure_expires if state == states.FAILURE else None
        expires = self.expires if expires is None else expires
        try:
            live = self.ensure(self._store_new, (key, value, expires, state))
        except self.connection_errors as error:
            self._unstored = error
            raise
        if live is not None and self.decode_result(live)["status"] != states.SUCCESS:
            self._set_with_state(key, value, state)
        return result

    def _store_new(
        self, key: str, value: str | bytes, expires: int | None, state: str
    ) -> bytes | None:
        """Store the result; else return the one that is there, and stays if it is a success."""
        if self._script is None:
            self._script = self.client.register_script(_STORE)
        keys, args = [key], [value, expires or 0]
        one = self._riding
        ended = ahead = None
        if one is None:
            args += ["", "", 1]
        else:
            ended = one.finish()
            if self._ends_in is not ended.state:
                ended = write_lease(
                    self._ends_in, ended.delivery, since=ended.since, until=ended.until
                )
            keys.append(key_prefix(self.app) + one.key)
            args += [one.held.text, ended.text, max(1, round(one.keep_s * 1000))]
        args += [int(state == states.SUCCESS), int(self.serializer == "json")]
        # A revoked chord's body does not fail as well when its header does.
        args.append(int(state == states.FAILURE))
        if one is not None and (ahead := one.following()) is not None:
            keys.append(key_prefix(self.app) + ahead.key)
            args += [ahead.wanted.text, max(1, round(ahead.ttl_s * 1000))]
        live, way, taken = run(self._script, keys, args)
        if one is not None and way == 1:
            one.ended = ended
            one.taken = ahead if taken else None
        if way == 2:
            _tell_dropped(key)
        if way > 1:
            return None
        return live if live is None else bytes(live)

    def _passed_on(self, task_id: str, state: str) -> bool:
        """Whether another delivery has the running task's work now, and this is not to be said."""
        one = _of(task_id)
        if one is None or one.ended is not None or time.time() < one.held.until - 1:
            return False  # nobody else can have taken it
        text = bytes_to_str(self.client.get(key_prefix(self.app) + one.key))
        lease = read_lease(text)
        if text == one.held.text:
            return False
        if lease is None:
            # Nobody holds it, but the other delivery may have been revoked, which needs no lease.
            live = self.client.get(self.get_key_for_task(task_id))
            ended = live and self.decode_result(live)["status"] in states.READY_STATES
            passed = bool(ended)
        else:
            passed = state != states.SUCCESS or lease.state is not LeaseState.RUNNING
        if passed:
            _tell_dropped(task_id)
        return passed


def _same(error: BaseException, other: BaseException) -> bool:
    """Whether this is the error, or what Celery has made of it to store it."""
    return error is other or (type(error) is type(other) and error.args == other.args)


def _of(task_id: str) -> Ending | None:
    """The running task's, if it is this one."""
    one = ending.get()
    return one if one is not None and one.task_id == task_id else None


def _tell_dropped(what: str) -> None:
    logger.warning(
        "the lease ran out while the task was held up, and its work has passed to another "
        "delivery, which says how it ended; the result for %s is dropped", what,
    )  # fmt: skip
