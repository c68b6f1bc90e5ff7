"""Celery's Redis result backend, with a task's result and the end of its lease in one round trip.

Celery reads what is stored (a success is never overwritten), writes, and publishes: two round
trips, and the end of the lease would be a third. One script does it all, atomically. Result format,
channel, expiry and retries are Celery's.

A claim on a chord in Redis that its own header task finds again.

Whoever sees a chord complete claims it before it publishes the body (celery 5.7), under a name that
is new each time, for some seconds to half a minute. Were it killed there, its message may come back
within that time: it would find the chord claimed, by nobody that lives, and be acknowledged; the
body would never start. Here the claim has its header task's name, and a delivery that comes again
takes it over.
"""

from __future__ import annotations

import hashlib
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery import _state, states
from celery._state import get_current_worker_task
from celery.backends import redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.functional import retry_over_time

from twolane.environment.invocation import LONGEST_S, left_s
from twolane.patches.backends import is_outage
from twolane.patches.clients import impatient_redis, patient_redis
from twolane.state.redis import key_prefix, run
from twolane.worker.lease import (
    LEAVES,
    EndsLeases,
    read_lease,
    running,
    sent_s,
    stays,
    with_marked_body,
)
from twolane.worker.limits import is_late, struck

if TYPE_CHECKING:
    from twolane.worker.lease import Ending, Lease

#: celery-types leaves out what is overridden below.
_Stock: Any = redis
_CeleryBackend: Any = redis.RedisBackend

#: What ``redis_socket_timeout`` is where an application has not set it.
_CELERYS_TIMEOUT_S = 120.0

#: What Celery's retries leave of the invocation's time, in seconds: leases are then given back.
_LEFT_OVER_S = 0.5

# KEYS: of the result, of the running task's lease, of the next record's.
# ARGV: the result, its seconds to live (0: for ever), then the lease as held and as ended (empty:
# the task goes on), its milliseconds to live, whether this is a success, whether results are JSON
# that can be looked into, and the state beside success that this one leaves as it is (empty: none);
# then the lease of the batch's next record and its milliseconds, if it is to be taken as well.
# Returns what is stored already; 1 for a lease that was ended, 2 for one that is gone, 3 for such a
# state; and 1 for a next lease that was taken.
_STORE = """
local live, lease = unpack(redis.call('MGET', KEYS[1], KEYS[2] or KEYS[1]))
lease = KEYS[2] and lease
local passed = lease and lease ~= ARGV[3]
if passed and not (ARGV[6] == '1' and string.find(lease, '"state":"running"', 1, true)) then
  return {live, 2, 0}
end
if live and ARGV[8] ~= '' and string.find(live, '{"status": "' .. ARGV[8] .. '"', 1, true) == 1 then
  return {live, 3, 0}
end
if live and (ARGV[7] ~= '1' or string.find(live, '{"status": "SUCCESS"', 1, true) == 1) then
  return {live, 0, 0}
end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1]) end
redis.call('PUBLISH', KEYS[1], ARGV[1])
if KEYS[2] and not passed and ARGV[4] ~= '' then
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
  local ahead = KEYS[3] and redis.call('SET', KEYS[3], ARGV[9], 'PX', ARGV[10], 'NX')
  return {false, 1, ahead and 1 or 0}
end
return {false, 0, 0}
"""


class RedisBackend(EndsLeases, _CeleryBackend):  # type: ignore[misc]
    """What ``redis://`` and ``rediss://`` open once a ``WorkerHandler`` was made."""

    _script: Any = None
    #: Of the chord at hand: its claim, and whether it is to be completed later.
    claim_name = ""
    _later = False

    @cached_property
    def client(self) -> Any:
        client: Any = super().client
        stock = client.delete

        def delete(*keys: Any) -> Any:
            # Celery drops the size of a chord that it fails.
            return 0 if self._later else stock(*keys)

        client.delete = delete
        return client

    def _create_client(self, **params: Any) -> Any:
        own = params.get("socket_timeout")
        longest = LONGEST_S if own in {None, _CELERYS_TIMEOUT_S} else float(own)
        return patient_redis(super()._create_client(**params), longest=longest)

    def ensure(self, fun: Any, args: Any, **policy: Any) -> Any:
        """Celery's retries, as long as there is time for another one."""
        policy = {**self.retry_policy, **policy}
        most = policy.get("max_retries")

        def wait_s(error: Exception, intervals: Any, retries: int) -> float:
            left = left_s()
            wait: float = self.on_connection_error(most, error, intervals, retries)
            if left is not None and wait + _LEFT_OVER_S >= left:
                raise error
            return wait

        errback: Any = wait_s  # the stubs know another signature
        return retry_over_time(fun, self.connection_errors, args, {}, errback, **policy)

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
        live = self.ensure(self._store_new, (task_id, key, value, expires, state))
        if live is not None and not stays(self.decode_result(live)["status"], state):
            self._set_with_state(key, value, state)
        return result

    def _store_new(
        self, task_id: str, key: str, value: str | bytes, expires: int | None, state: str
    ) -> bytes | None:
        """Store the result; else return the one that is there, and stays if it is a success."""
        if self._script is None:
            self._script = self.client.register_script(_STORE)
        keys, args = [key], [value, expires or 0]
        one, mine = self._riding, running(task_id)
        ended = ahead = None
        if mine is None or mine.ended is not None:
            args += ["", "", 1]
        else:
            ended = one.last(self._ends_in) if one is not None else None
            keys.append(key_prefix(self.app) + mine.key)
            args += [mine.held.text, ended.text if ended else ""]
            args.append(max(1, round(mine.keep_s * 1000)))
        args += [int(state == states.SUCCESS), int(self.serializer == "json")]
        args.append(LEAVES.get(state, ""))
        if one is not None and ended and (ahead := one.following()) is not None:
            keys.append(key_prefix(self.app) + ahead.key)
            args += [ahead.wanted.text, max(1, round(ahead.ttl_s * 1000))]
        live, way, taken = run(self._script, keys, args)
        if one is not None and way == 1:
            one.ended = ended
            one.taken = ahead if taken else None
        if way == 2 and mine is not None:
            mine.drop(state, key)
        if way > 1:
            return None
        return live if live is None else bytes(live)

    @cached_property
    def _chord_part_return_script(self) -> Any:
        return NamedClaim(self, self.client.register_script(_Stock.CHORD_PART_RETURN_LUA), 7)

    @cached_property
    def _chord_cleanup_script(self) -> Any:
        script = NamedClaim(self, self.client.register_script(_Stock.CHORD_CLEANUP_LUA), 0)

        def cleaned(keys: Any, args: Any, client: Any) -> Any:
            # Celery ends the chord whatever came of the publish; one that comes back has not ended.
            error = sys.exc_info()[1]
            if error is not None and is_late(error, self._struck):
                return True
            return script(keys=keys, args=args, client=client)

        return cleaned

    @cached_property
    def _chord_claim_extend_script(self) -> Any:
        return NamedClaim(self, self.client.register_script(_Stock.CHORD_CLAIM_EXTEND_LUA), 0)

    def on_chord_part_return(
        self, request: Any, state: str, result: Any, propagate: Any = None, **kwargs: Any
    ) -> None:
        if not request.group or not request.id:
            return
        # A chord that fails may be a part of another one, which is then counted in here.
        outer = self.claim_name
        self.claim_name, self._struck = claim_name(request), struck()
        try:
            claim = self.get_key_for_group(request.group, ".c")
            release_own(self.client, claim, self.claim_name, request)
            marked = with_marked_body(request, sent_s())
            super().on_chord_part_return(marked, state, result, propagate, **kwargs)
        finally:
            self.claim_name = outer
            self._later = self._later and bool(outer)

    def add_pending_result(self, result: Any, *args: Any, **options: Any) -> Any:
        # Nobody may wait for a result where joining blocks, and Celery subscribes to none that is
        # published there; nor to a group's, whose errback was lost with a store that was down.
        joining: Any = _state
        if joining.task_join_will_block():
            return result
        return super().add_pending_result(result, *args, **options)

    def chord_error_from_stack(self, callback: Any, exc: BaseException | None = None) -> Any:
        # Celery fails a chord whose header's results it cannot read. It can, later.
        handled = sys.exc_info()[1]
        if handled is not None and self._comes_back(handled):
            self._later = True
            raise handled
        return super().chord_error_from_stack(callback, exc)

    def _comes_back(self, error: BaseException) -> bool:
        """Whether the chord is to be completed later, when its header's message comes again."""
        return (_is_clients(error) and is_outage(error, self)) or is_late(error, self._struck)

    def _stored_state(self, task_id: str) -> str | None:
        live = self.client.get(self.get_key_for_task(task_id))
        return str(self.decode_result(live)["status"]) if live else None

    def _stored_lease(self, one: Ending) -> Lease | None:
        return read_lease(bytes_to_str(self.client.get(key_prefix(self.app) + one.key)))


def _is_clients(error: BaseException) -> bool:
    """Whether it was raised in redis-py; a header task may have failed with the same error."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    name = traceback.tb_frame.f_globals.get("__name__", "") if traceback is not None else ""
    return str(name).partition(".")[0] == "redis"


_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class NamedClaim:
    """One of Celery's chord scripts, with the claim's name at ``place`` among its arguments."""

    def __init__(self, backend: Any, script: Any, place: int) -> None:
        self._backend = backend
        self._script = script
        self._place = place

    def __call__(self, keys: Any, args: Any, client: Any) -> Any:
        named = list(args)
        named[self._place] = self._backend.claim_name
        return self._script(keys=keys, args=named, client=client)


def claim_name(request: Any) -> str:
    """Of one member of a group: a frozen signature may be there twice, with one id."""
    member = f"{request.id}:{getattr(request, 'group_index', None)}"
    return hashlib.blake2b(member.encode(errors="replace"), digest_size=16).hexdigest()


def release_own(client: Any, key: str, name: str, request: Any) -> None:
    """Let go of what an earlier delivery of this message has claimed."""
    if _comes_again(request):
        client.eval(_RELEASE, 1, key, name)


def _comes_again(request: Any) -> bool:
    info = getattr(request, "delivery_info", None)
    if not info:  # what a failed task's chain would have been has no delivery of its own
        task: Any = get_current_worker_task()
        info = task.request.delivery_info if task is not None else None
    return bool(info and info.get("redelivered"))


class SentinelBackend(RedisBackend, _Stock.SentinelBackend):  # type: ignore[misc]
    """What ``sentinel://`` opens: the same, at the primary that its sentinels name."""

    def _get_sentinel_instance(self, **params: Any) -> Any:
        found = super()._get_sentinel_instance(**params)
        for sentinel in found.sentinels:
            impatient_redis(sentinel)
        return found
